// SPDX-License-Identifier: Apache-2.0
//! What `images/NAME.toml` adds to the template `ctr-image@.service`: a name for people, and links.

use std::path::Path;

use super::container::HEADER;
use crate::definition::image::ImageDefinition;
use crate::unitfile::{Section, Unit, Value, ValueError};

/// The drop-in of a definition.
///
/// # Errors
///
/// A value that no unit file can hold.
pub(super) fn render(definition: &ImageDefinition) -> Result<Unit, ValueError> {
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
pub(super) fn template(dir: &str) -> String {
    let path = Path::new("/usr/lib/systemd").join(dir);
    path.join("ctr-image@.service").display().to_string()
}
