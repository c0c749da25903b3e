// SPDX-License-Identifier: Apache-2.0
//! Platforms: for which machines something is, in the words of OCI, which are Go's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// For which machines an image is, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// GOOS.
    #[serde(default)]
    pub os: String,
    /// GOARCH.
    #[serde(default)]
    pub architecture: String,
    /// Such as `v7` of `arm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl FromStr for Platform {
    type Err = String;

    /// `OS/ARCH[/VARIANT]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let is_word = |word: &&str| {
            !word.is_empty()
                && word.len() <= 32
                && word
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.')
        };
        let words: Vec<&str> = text.split('/').filter(is_word).collect();
        match (words.as_slice(), text.matches('/').count()) {
            (&[os, architecture], 1) => Ok(Self {
                os: os.to_owned(),
                architecture: architecture.to_owned(),
                variant: None,
            }),
            (&[os, architecture, variant], 2) => Ok(Self {
                os: os.to_owned(),
                architecture: architecture.to_owned(),
                variant: Some(variant.to_owned()),
            }),
            (_, _) => Err("it must be OS/ARCH or OS/ARCH/VARIANT, such as linux/arm64".to_owned()),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            os,
            architecture,
            variant,
        } = self;
        write!(f, "{}/{}", os.escape_debug(), architecture.escape_debug())?;
        match variant {
            Some(variant) => write!(f, "/{}", variant.escape_debug()),
            None => Ok(()),
        }
    }
}

impl Platform {
    /// The machine this program was built for, in Go's words.
    pub fn local() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// The variant, where none means one.
    fn level(&self) -> &str {
        match (self.variant.as_deref(), self.architecture.as_str()) {
            (Some(variant), _) => variant,
            (None, "amd64") => "v1",
            (None, "arm64") => "v8",
            (None, "arm") => "v7",
            (None, _) => "",
        }
    }

    /// Whether and how well a machine of this platform runs what is made for `offered`: 0 is best.
    pub fn distance(&self, offered: &Self) -> Option<u32> {
        if offered.os != self.os || offered.architecture != self.architecture {
            return None;
        }
        if offered.variant == self.variant {
            return Some(0);
        }
        let number = |level: &str| level.strip_prefix('v')?.parse::<u32>().ok();
        let (own, other) = (self.level(), offered.level());
        if own == other {
            return Some(1);
        }
        // A machine runs what was made for its predecessors: v7 of arm runs v6.
        let behind = number(own)?.checked_sub(number(other)?)?;
        behind.checked_add(1)
    }

    /// Whether a machine of this platform runs what is made for `offered`.
    pub fn runs(&self, offered: &Self) -> bool {
        self.distance(offered).is_some()
    }
}
