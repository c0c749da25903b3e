// SPDX-License-Identifier: Apache-2.0
//! Where our own log lines go: to the journal under systemd, to standard error for a person.
//!
//! [`install`] is called once, by a front end. Events that users may filter on are journal entries
//! with a `MESSAGE_ID` and fields; [`event()`] writes one. The relay, which must neither wait nor
//! allocate, has a sender of its own.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd;

use anyhow::Context as _;
use libsystemd::logging::Priority;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::event;
use crate::name::ContainerName;

/// Variable that chooses what is logged, such as `debug` or `wharf::engine=trace`.
pub const FILTER_VARIABLE: &str = "WHARF_LOG";

/// `SYSLOG_IDENTIFIER=` of our own entries.
pub const IDENTIFIER: &str = "wharf";

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Structured entries in the journal.
    Journal,
    /// Lines `wharf: …` on standard error.
    StandardError,
}

impl Target {
    /// The journal, if systemd connected our standard error to it (`$JOURNAL_STREAM`); a person's
    /// redirection in between is seen, because the variable names device and inode.
    pub fn detect() -> Self {
        let ours = std::env::var("JOURNAL_STREAM").ok();
        match ours.is_some_and(|named| is_stream(io::stderr().as_fd(), &named)) {
            true => Self::Journal,
            false => Self::StandardError,
        }
    }
}

fn is_stream(fd: impl AsFd, named: &str) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| format!("{}:{}", stat.st_dev, stat.st_ino) == named)
}

/// Sends what the process logs from now on to `target`, from `WHARF_LOG`'s level up, or else from
/// `level`.
pub fn install(target: Target, level: LevelFilter) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .with_default_directive(level.into())
        .with_env_var(FILTER_VARIABLE)
        .from_env()
        .with_context(|| format!("reading '${FILTER_VARIABLE}'"))?;
    let registry = tracing_subscriber::registry().with(filter);
    let installed = match target {
        Target::Journal => registry.with(journal_layer()?).try_init(),
        Target::StandardError => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_writer(io::stderr)
                    .with_ansi(false)
                    .event_format(Plain {
                        coloured: io::stderr().is_terminal(),
                    }),
            )
            .try_init(),
    };
    installed.context("installing the logger")
}

/// The defaults would prefix our fields with `F_`, and record info as notice and debug as info.
fn journal_layer() -> anyhow::Result<tracing_journald::Layer> {
    let layer = tracing_journald::layer().context("opening the journal's socket")?;
    let mappings = tracing_journald::PriorityMappings {
        error: tracing_journald::Priority::Error,
        warn: tracing_journald::Priority::Warning,
        info: tracing_journald::Priority::Informational,
        debug: tracing_journald::Priority::Debug,
        trace: tracing_journald::Priority::Debug,
    };
    Ok(layer
        .with_field_prefix(None)
        .with_priority_mappings(mappings)
        .with_syslog_identifier(IDENTIFIER.to_owned()))
}

/// `wharf: message`, with the level only where it is not information.
///
/// The subscriber's own colours stay off: they would come with control characters in field names.
struct Plain {
    coloured: bool,
}

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str("wharf: ")?;
        let (label, colour) = match *event.metadata().level() {
            Level::ERROR => ("error: ", "\x1b[31m"),
            Level::WARN => ("warning: ", "\x1b[33m"),
            Level::INFO => ("", ""),
            Level::DEBUG => ("debug: ", "\x1b[2m"),
            Level::TRACE => ("trace: ", "\x1b[2m"),
        };
        if self.coloured && !label.is_empty() {
            write!(writer, "{colour}{label}\x1b[0m")?;
        } else {
            writer.write_str(label)?;
        }
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Writes an event about a container: one entry with a `MESSAGE_ID` and the container's fields.
///
/// A value may hold anything, newlines too: it is sent with its length, so that it cannot begin a
/// field of its own (threats L2). An event that cannot be written is traced and dropped:
/// what it tells about has happened.
pub fn event(event: event::Event, name: &ContainerName, message: &str, fields: &[(&str, String)]) {
    use event::Event as Kind;
    let unit = name.unit();
    let own = [
        (event::MESSAGE_ID, event.message_id()),
        (event::CONTAINER_NAME, name.as_str()),
        (event::UNIT, unit.as_str()),
        (event::OBJECT_UNIT, unit.as_str()),
    ];
    let priority = match event {
        Kind::Started | Kind::Exited => Priority::Info,
        Kind::StopSignalIgnored | Kind::NotificationRefused => Priority::Warning,
        Kind::EngineFailed | Kind::RelayDied | Kind::OutputLost => Priority::Error,
    };
    let given = fields.iter().map(|(key, value)| (*key, value.as_str()));
    send(priority, message, own.into_iter().chain(given).collect());
}

/// Tells people something about the unit that this process belongs to, at *notice*.
pub fn note(message: &str) {
    send(Priority::Notice, message, Vec::new());
}

/// As [`note`], at *warning*.
pub fn warn(message: &str) {
    send(Priority::Warning, message, Vec::new());
}

fn send(priority: Priority, message: &str, mut fields: Vec<(&str, &str)>) {
    fields.push(("SYSLOG_IDENTIFIER", IDENTIFIER));
    if let Err(err) = libsystemd::logging::journal_send(priority, message, fields.into_iter()) {
        tracing::debug!("writing '{message}' to the journal, ignoring: {err}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Plain) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .event_format(format);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("started");
            tracing::warn!("no such file, ignoring");
        });
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_for_people() {
        let plain = "wharf: started\nwharf: warning: no such file, ignoring\n";
        assert_eq!(logged(Plain { coloured: false }), plain);
        let coloured = "wharf: started\nwharf: \x1b[33mwarning: \x1b[0mno such file, ignoring\n";
        assert_eq!(logged(Plain { coloured: true }), coloured);
    }

    #[test]
    fn a_stream_is_known_by_device_and_inode() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let stat = rustix::fs::fstat(&reader).unwrap();
        let named = format!("{}:{}", stat.st_dev, stat.st_ino);
        assert!(is_stream(&reader, &named));
        for other in ["", "1:2", "garbage"] {
            assert!(!is_stream(&reader, other), "{other:?}");
        }
    }
}
