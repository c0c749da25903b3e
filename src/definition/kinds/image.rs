// SPDX-License-Identifier: Apache-2.0
//! `images/NAME.toml`: an image that is brought in advance, by `ctr-image@NAME.service`.

use std::path::PathBuf;

use crate::definition::Origin;
use crate::definition::checker::Checker;
use crate::definition::keys::{Form, IMAGE, Key, Takes, UNIT_NAME, push, put_word};
use crate::definition::kind::{Kind, KindInfo, Templates};
use crate::definition::value::text;
use crate::definition::value::words::{PullPolicy, Words};
use crate::name::{ContainerName, UnitName};

/// An image that is wanted on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageDefinition {
    /// The file's name.
    pub name: ContainerName,
    /// The files it was merged from: the base file first, then drop-ins in merge order.
    pub sources: Vec<PathBuf>,
    /// Where each key was set, in the order of files and lines.
    pub origins: Vec<Origin>,
    /// `image`: the reference.
    pub image: String,
    /// `pull_policy`: when to ask the registry. Defaults to *missing*.
    pub pull_policy: PullPolicy,
    /// `platform`: OS/ARCH[/VARIANT]. Defaults to this machine's.
    pub platform: Option<String>,
    /// `enabled`: pulled at boot. Defaults to false.
    pub enabled: bool,
    /// `wanted_by`: units that pull it when they are started.
    pub wanted_by: Vec<UnitName>,
}

/// The unit that brings the image.
pub fn unit_of(name: &ContainerName) -> String {
    format!("ctr-image@{name}.service")
}

static KEYS: [&[Key<ImageDefinition>]; 1] = [&[
    Key {
        table: "",
        name: "image",
        takes: Takes::Text(IMAGE, |d, s| {
            d.image = text::parse_reference(s)?;
            Ok(())
        }),
        default: "none; it must be set",
        doc: "The image.",
    },
    Key {
        table: "",
        name: "pull_policy",
        takes: Takes::Choice(PullPolicy::words, |d, s| put_word(&mut d.pull_policy, s)),
        default: "missing",
        doc: "When the registry is asked.",
    },
    Key {
        table: "",
        name: "platform",
        takes: Takes::Text(
            Form {
                words: "OS/ARCH or OS/ARCH/VARIANT, such as linux/arm64",
                pattern: "^[a-z0-9]+/[a-z0-9]+(/[a-z0-9]+)?$",
            },
            |d, s| {
                d.platform = Some(parse_platform(s)?);
                Ok(())
            },
        ),
        default: "this machine's",
        doc: "For which machines the image is.",
    },
    Key {
        table: "",
        name: "enabled",
        takes: Takes::Bool(|d, on| d.enabled = on),
        default: "false",
        doc: "Whether it is pulled when the machine boots.",
    },
    Key {
        table: "",
        name: "wanted_by",
        takes: Takes::Texts(UNIT_NAME, |d, s| push(&mut d.wanted_by, s)),
        default: "none",
        doc: "Units that pull it when they are started.",
    },
]];

impl Kind for ImageDefinition {
    const INFO: &'static KindInfo = &KindInfo {
        word: "image",
        noun: "an image",
        manual: "wharf-image(5)",
        tables: &[],
        templates: Templates::No,
        elsewhere: &[
            ("arch", "platform"),
            ("policy", "pull_policy"),
            ("pull", "pull_policy"),
            ("variant", "platform"),
        ],
        not_yet: &[
            "all_tags",
            "auth_file",
            "cert_dir",
            "creds",
            "decryption_key",
            "image_tag",
            "os",
            "retry",
            "retry_delay",
            "tls_verify",
        ],
    };

    fn keys() -> &'static [&'static [Key<Self>]] {
        &KEYS
    }

    fn blank(name: &ContainerName) -> Self {
        Self {
            name: name.clone(),
            sources: Vec::new(),
            origins: Vec::new(),
            // A placeholder, which the rules make sure is replaced.
            image: String::new(),
            pull_policy: PullPolicy::default(),
            platform: None,
            enabled: false,
            wanted_by: Vec::new(),
        }
    }

    fn set_origins(&mut self, sources: Vec<PathBuf>, origins: Vec<Origin>) {
        (self.sources, self.origins) = (sources, origins);
    }

    fn check(&self, checker: &mut Checker<'_, '_, Self>) {
        if checker.merged.get("", "image").is_none() {
            checker.report_missing("image", "key 'image' is missing");
        }
    }
}

fn parse_platform(text: &str) -> Result<String, String> {
    let is_word = |word: &str| {
        let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        !word.is_empty() && word.bytes().all(valid)
    };
    if (2..=3).contains(&text.split('/').count()) && text.split('/').all(is_word) {
        return Ok(text.to_owned());
    }
    Err("must be OS/ARCH or OS/ARCH/VARIANT, such as linux/arm64".to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::definition::load::scan::Catalogue;
    use crate::definition::load::{LoadError, load};
    use crate::paths::Paths;
    use crate::sys;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        sys::fs::ensure_dir(path.parent().unwrap(), 0o755).unwrap();
        let durability = sys::fs::Durability::Memory;
        sys::fs::write_atomic(&path, text.as_bytes(), 0o644, durability).unwrap();
    }

    #[test]
    fn files_are_merged_and_slips_have_a_place() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::system(dir.path());
        let name: ContainerName = "web".parse().unwrap();
        let load = |name: &ContainerName| load::<ImageDefinition>(&paths, name);
        assert!(matches!(load(&name), Err(LoadError::Undefined { .. })));
        write(dir.path(), "usr/lib/wharf/images/web.toml", "image = 'a'\n");
        write(
            dir.path(),
            "etc/wharf/images/web.toml",
            "image = 'nginx:1'\nenabled = true\n",
        );
        write(
            dir.path(),
            "etc/wharf/images/web.toml.d/10.toml",
            "platform = 'linux/arm/v7'\nwanted_by = ['x.target']\n",
        );
        write(
            dir.path(),
            "run/wharf/images/image.toml.d/all.toml",
            "pull_policy = 'newer'\n",
        );
        let definition = load(&name).unwrap();
        assert_eq!(definition.image, "nginx:1");
        assert_eq!(definition.platform.as_deref(), Some("linux/arm/v7"));
        assert_eq!(definition.pull_policy, PullPolicy::Newer);
        assert!(definition.enabled);
        assert_eq!(definition.wanted_by.len(), 1);
        let names = Catalogue::scan::<ImageDefinition>(&paths).names();
        assert_eq!(names, std::slice::from_ref(&name));
        for (bad, place) in [
            (
                "image = 'a'\nimgae = 'b'\n",
                ":2:1: unknown key 'imgae', did you mean 'image'?",
            ),
            ("\nimage = 'A B'\n", ":2:9: "),
            (
                "image = 'a'\nplatform = 'linux'\n",
                ":2:12: platform: must be OS/ARCH",
            ),
            (
                "image = 'a'\nwanted_by = ['x']\n",
                ":2:14: wanted_by: 'x' is not a unit name",
            ),
            (
                "image = 'a'\npull_policy = 'sometimes'\n",
                ":2:15: pull_policy: 'sometimes' is not one of always, missing, never, newer",
            ),
            ("enabled = true\n", ":1:1: key 'image' is missing"),
        ] {
            write(dir.path(), "etc/wharf/images/bad.toml", bad);
            let err = load(&"bad".parse().unwrap()).unwrap_err().to_string();
            assert!(
                err.contains(&format!("etc/wharf/images/bad.toml{place}")),
                "{err}"
            );
        }
        for stray in ["-x.toml", "web@.toml", "web@x.toml", "image.toml"] {
            write(dir.path(), &format!("etc/wharf/images/{stray}"), "");
            let strays = Catalogue::scan::<ImageDefinition>(&paths);
            let strays: Vec<String> = strays.problems().map(ToString::to_string).collect();
            assert!(strays.iter().any(|said| said.contains(stray)), "{strays:?}");
        }
    }
}
