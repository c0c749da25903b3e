// SPDX-License-Identifier: Apache-2.0
//! A set of verbs, written down once: the subcommands of the parser, who runs them, and the headings
//! that help lists them under.
//!
//! clap has no headings for subcommands, and an enum of its own for each set would have to be matched
//! again to run it.

/// Headings, and the modules of the verbs below each.
pub(super) type Groups = &'static [(&'static str, &'static [&'static str])];

/// Makes `enum Verb`, `Verb::run` and `GROUPS` of `"Heading" { Variant: module, … }`. Each module has
/// `Args` and `run(&Context, &Args)`; a verb is called as its module, with '-' for '_'.
macro_rules! verbs {
    ($($heading:literal { $($variant:ident: $module:ident,)* })*) => {
        #[derive(Debug, clap::Subcommand)]
        enum Verb {
            $($($variant($module::Args),)*)*
        }

        impl Verb {
            fn run(
                &self,
                context: &$crate::cli::Context,
            ) -> anyhow::Result<$crate::cli::exit::ExitStatus> {
                match self {
                    $($(Self::$variant(args) => $module::run(context, args),)*)*
                }
            }
        }

        /// The modules of the verbs under their headings.
        pub(super) const GROUPS: $crate::cli::verb::Groups = &[
            $(($heading, &[$(stringify!($module)),*]),)*
        ];
    };
}

pub(super) use verbs;
