// SPDX-License-Identifier: Apache-2.0
//! Values that are one of a few words. Each word stands once, here: keys, schema, generator and the
//! command line read it.

/// A closed set of values, each with the word that people write for it.
pub trait Words: Copy + PartialEq + 'static {
    /// Every word and what it means, in the order they are listed in. A value with several words is
    /// shown by its first.
    const WORDS: &'static [(&'static str, Self)];

    /// The words alone.
    fn words() -> Vec<&'static str> {
        Self::WORDS.iter().map(|(word, _)| *word).collect()
    }

    /// The value of a word.
    fn of_word(word: &str) -> Option<Self> {
        let found = Self::WORDS.iter().find(|(known, _)| *known == word);
        found.map(|(_, value)| *value)
    }

    /// The word of the value.
    fn word(self) -> &'static str {
        let found = Self::WORDS.iter().find(|(_, value)| *value == self);
        found.map_or("", |(word, _)| word)
    }
}

/// `pull_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Pull at every start.
    Always,
    /// Pull when the image is not in the store.
    #[default]
    Missing,
    /// Never pull; an absent image is an error.
    Never,
    /// Pull when the registry has another digest for the tag.
    Newer,
}

impl Words for PullPolicy {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("always", Self::Always),
        ("missing", Self::Missing),
        ("never", Self::Never),
        ("newer", Self::Newer),
    ];
}

/// `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServiceType {
    /// Runs until stopped.
    #[default]
    Service,
    /// Runs to its end; units ordered after it wait for that.
    Oneshot,
}

impl Words for ServiceType {
    const WORDS: &'static [(&'static str, Self)] =
        &[("service", Self::Service), ("oneshot", Self::Oneshot)];
}

/// `notify`: when the unit counts as started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Notify {
    /// When the process runs.
    #[default]
    Started,
    /// When the container sends READY=1 (sd_notify(3)).
    Container,
}

impl Words for Notify {
    const WORDS: &'static [(&'static str, Self)] =
        &[("started", Self::Started), ("container", Self::Container)];
}

/// `restart` (systemd.service(5), `Restart=`; Compose's `unless-stopped` is *always*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// `no`
    #[default]
    No,
    /// `on-success`
    OnSuccess,
    /// `on-failure`
    OnFailure,
    /// `on-abnormal`
    OnAbnormal,
    /// `on-watchdog`
    OnWatchdog,
    /// `on-abort`
    OnAbort,
    /// `always`
    Always,
}

impl Words for Restart {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("no", Self::No),
        ("on-success", Self::OnSuccess),
        ("on-failure", Self::OnFailure),
        ("on-abnormal", Self::OnAbnormal),
        ("on-watchdog", Self::OnWatchdog),
        ("on-abort", Self::OnAbort),
        ("always", Self::Always),
        ("unless-stopped", Self::Always),
    ];
}

/// `oom_policy` (systemd.service(5), `OOMPolicy=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OomPolicy {
    /// The unit goes on without the killed process.
    Continue,
    /// The unit is stopped and fails with `oom-kill`.
    #[default]
    Stop,
    /// The kernel kills the whole container.
    Kill,
}

impl Words for OomPolicy {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("continue", Self::Continue),
        ("stop", Self::Stop),
        ("kill", Self::Kill),
    ];
}

/// `log.driver`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogDriver {
    /// The relay moves bytes to the journal.
    #[default]
    Journal,
    /// The process writes to the journal's socket itself and no process of ours stays.
    Direct,
}

impl Words for LogDriver {
    const WORDS: &'static [(&'static str, Self)] =
        &[("journal", Self::Journal), ("direct", Self::Direct)];
}

/// `network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// The host's network namespace.
    Host,
    /// An own namespace with nothing but its loopback, and no name servers.
    None,
    /// An own namespace with loopback.
    #[default]
    Private,
}

impl Words for Network {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("host", Self::Host),
        ("none", Self::None),
        ("private", Self::Private),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_word_of_its_own() {
        assert_eq!(Restart::of_word("unless-stopped"), Some(Restart::Always));
        assert_eq!(Restart::Always.word(), "always");
        assert_eq!(PullPolicy::of_word("sometimes"), None);
        assert_eq!(OomPolicy::words(), ["continue", "stop", "kill"]);
        assert_eq!(Network::None.word(), "none");
    }
}
