// SPDX-License-Identifier: Apache-2.0
//! What `images/NAME.toml` adds to the template `ctr-image@.service`: a name for people, and links.

use std::path::{Path, PathBuf};

use super::Writer;
use super::container::{HEADER, render_broken};
use crate::definition::kinds::image::{ImageDefinition, unit_of};
use crate::definition::load::scan::Catalogue;
use crate::definition::load::{LoadError, load_catalogue};
use crate::journal::kmsg::Severity;
use crate::name::{ContainerName, UnitName};
use crate::paths::{DROP_IN, Paths, Scope};
use crate::unitfile::{Section, Unit, Value, ValueError};

/// Writes drop-ins and links for every image.
pub(super) fn write(paths: &Paths, writer: &mut Writer<'_>) {
    let catalogue = Catalogue::scan::<ImageDefinition>(paths);
    for (name, loaded) in load_catalogue::<ImageDefinition>(&catalogue) {
        write_one(&name, loaded, writer);
    }
    for problem in catalogue.problems() {
        let text = format!("{problem}, ignoring");
        writer.messages.push((Severity::Warning, text));
    }
}

fn write_one(
    name: &ContainerName,
    loaded: Result<ImageDefinition, LoadError>,
    writer: &mut Writer<'_>,
) {
    let unit = unit_of(name);
    let dir = format!("{unit}.d");
    let (source, problem) = match loaded {
        Ok(definition) => match render(&definition) {
            Ok(drop_in) => {
                writer.file(&dir, DROP_IN, &drop_in.render());
                return write_links(&definition, &unit, writer);
            }
            Err(err) => (definition.sources.first().cloned(), err.to_string()),
        },
        // It is masked, or its file went away meanwhile.
        Err(LoadError::Masked { .. } | LoadError::Undefined { .. }) => return,
        Err(err) => (err.first_file().map(PathBuf::from), err.to_string()),
    };
    let text = format!("image '{name}' cannot be pulled: {problem}");
    writer.messages.push((Severity::Error, text));
    // Without SourcePath= the drop-in would say nothing: the template alone will do.
    if let Ok(drop_in) = render_broken(source.as_deref(), &problem) {
        writer.file(&dir, DROP_IN, &drop_in.render());
    }
}

fn write_links(definition: &ImageDefinition, unit: &str, writer: &mut Writer<'_>) {
    let (dir, default_target) = match writer.scope {
        Scope::System => ("system", "multi-user.target"),
        Scope::User => ("user", "default.target"),
    };
    let template = template(dir);
    let enabled = definition.enabled.then(|| default_target.to_owned());
    let wanted = definition.wanted_by.iter().map(UnitName::to_string);
    for target in enabled.into_iter().chain(wanted) {
        writer.link(unit, &format!("{target}.wants"), &template);
    }
}

/// The drop-in of a definition.
///
/// # Errors
///
/// A value that no unit file can hold.
fn render(definition: &ImageDefinition) -> Result<Unit, ValueError> {
    let mut unit = Unit::new();
    unit.comment(HEADER);
    for drop_in in definition.sources.iter().skip(1) {
        unit.comment(&format!("With {}", drop_in.display()));
    }
    let mut section = Section::new("Unit");
    if let Some(source) = definition.sources.first() {
        section.add("SourcePath", Value::path(source)?);
    }
    section.add(
        "Description",
        Value::text(&format!("Image {}", definition.image))?,
    );
    unit.section(section);
    Ok(unit)
}

/// Where links of the unit lead.
fn template(dir: &str) -> String {
    let path = Path::new("/usr/lib/systemd").join(dir);
    path.join("ctr-image@.service").display().to_string()
}
