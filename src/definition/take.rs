// SPDX-License-Identifier: Apache-2.0
//! From a value as written to the definition: type, instance name, setter.
//!
//! The only place where TOML types are looked at. Errors say what the key takes, in the words of
//! the key table, and point at the value, or at the element of a list, that is wrong.

use std::borrow::Cow;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::definition::directive;
use crate::definition::entry::{Entry, Raw};
use crate::definition::keys::{Form, Section, SetText, Takes};
use crate::definition::problem::{Problems, quote};
use crate::definition::value::hook::Hook;
use crate::definition::value::{nearest, quantity, text};

/// Deadline of a hook that names none.
const HOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// A fact about a value, and where in the file.
struct Fault {
    at: usize,
    message: String,
}

type Outcome = Result<(), Fault>;

/// Sets `entry` in `definition`; what is wrong with it goes to `problems`.
pub(crate) fn apply<D: 'static>(
    entry: &Entry<'_, D>,
    instance: Option<&str>,
    definition: &mut D,
    problems: &mut Problems,
) {
    let mut taker = Taker {
        entry,
        instance,
        definition,
        problems,
    };
    if let Err(fault) = taker.take() {
        taker.report(fault);
    }
}

impl<D> Takes<D> {
    /// What the key takes, as a noun phrase for "expected …".
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Bool(_) => "true or false".to_owned(),
            Self::Integer { min, max, .. } => format!("a whole number from {min} to {max}"),
            Self::Choice(words, _) => format!("one of {}", words().join(", ")),
            Self::Text(form, _) | Self::Scalar(form, _) => form.words.to_owned(),
            Self::Texts(form, _) => format!("a list of strings, each {}", form.words),
            Self::Command(_) => "a list of strings, or one string".to_owned(),
            Self::Map(..) => "a table, or a list of KEY=VALUE".to_owned(),
            Self::Ulimits(_) => "a table of limits such as nofile = 1024".to_owned(),
            Self::Reload(..) => "a signal, or a command as a list of strings".to_owned(),
            Self::Hooks(_) => {
                "a list of paths, or of tables with path, args, env, timeout".to_owned()
            }
            Self::Directives(..) => "a table of unit directives".to_owned(),
        }
    }
}

/// Replaces `%i` by the instance's name, and `%%i` by `%i`; every other '%' stays as it is.
pub(crate) fn expand<'t>(text: &'t str, instance: Option<&str>) -> Cow<'t, str> {
    let Some(instance) = instance.filter(|_| text.contains("%i")) else {
        return Cow::Borrowed(text);
    };
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let (before, from) = rest.split_at(at);
        expanded.push_str(before);
        if let Some(after) = from.strip_prefix("%%i") {
            expanded.push_str("%i");
            rest = after;
        } else if let Some(after) = from.strip_prefix("%i") {
            expanded.push_str(instance);
            rest = after;
        } else {
            expanded.push('%');
            rest = from.get(1..).unwrap_or_default();
        }
    }
    expanded.push_str(rest);
    Cow::Owned(expanded)
}

/// A number, boolean or string as text.
pub(crate) fn scalar_text<'v>(value: &'v DeValue<'_>) -> Option<Cow<'v, str>> {
    match value {
        DeValue::String(text) => Some(Cow::Borrowed(text)),
        DeValue::Integer(_) => integer(value).map(|n| Cow::Owned(n.to_string())),
        DeValue::Float(float) => Some(Cow::Borrowed(float.as_str())),
        DeValue::Boolean(on) => Some(Cow::Borrowed(if *on { "true" } else { "false" })),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// A whole number that fits.
pub(crate) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

struct Taker<'t, 'e, D: 'static> {
    entry: &'t Entry<'e, D>,
    instance: Option<&'t str>,
    definition: &'t mut D,
    problems: &'t mut Problems,
}

impl<'e, D: 'static> Taker<'_, 'e, D> {
    fn report(&mut self, fault: Fault) {
        let path = self.entry.path();
        self.problems.push(self.entry.source, fault.at, &path, || {
            format!("{}: {}", quote(&path), fault.message)
        });
    }

    fn fault(&self, message: String) -> Fault {
        Fault {
            at: self.entry.value_at,
            message,
        }
    }

    /// The value is of a type that the key does not take.
    fn mismatch(&self) -> Fault {
        self.fault(format!("expected {}", self.entry.key.takes.words()))
    }

    fn take(&mut self) -> Outcome {
        match self.entry.value {
            Raw::Toml(value) => self.take_toml(value),
            Raw::Text(text) => self.take_pair(text),
        }
    }

    fn take_toml(&mut self, value: &'e DeValue<'e>) -> Outcome {
        match self.entry.key.takes {
            Takes::Bool(set) => {
                set(
                    self.definition,
                    value.as_bool().ok_or_else(|| self.mismatch())?,
                );
                Ok(())
            }
            Takes::Integer { min, max, set } => match integer(value) {
                Some(n) if (min..=max).contains(&n) => {
                    set(self.definition, n);
                    Ok(())
                }
                _ => Err(self.mismatch()),
            },
            Takes::Choice(words, set) => self.take_choice(&words(), value, set),
            Takes::Text(_, set) => match value.as_str() {
                Some(text) => self.set_text(text, self.entry.value_at, set),
                None => Err(self.mismatch()),
            },
            Takes::Scalar(_, set) => match value {
                DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) => {
                    let text = scalar_text(value).ok_or_else(|| self.mismatch())?;
                    self.set_text(&text, self.entry.value_at, set)
                }
                DeValue::Boolean(_)
                | DeValue::Datetime(_)
                | DeValue::Array(_)
                | DeValue::Table(_) => Err(self.mismatch()),
            },
            Takes::Texts(form, set) => self.take_texts(form, value, set),
            Takes::Command(set) => {
                let words = self.command(value)?;
                set(self.definition, words);
                Ok(())
            }
            Takes::Map(form, _) => match scalar_text(value) {
                Some(text) => self.take_pair(&text),
                // "net.core.x = 1" in TOML is a table in a table.
                None if matches!(value, DeValue::Table(_)) => Err(self.fault(format!(
                    "expected {}; a name with dots in it must be quoted",
                    form.words
                ))),
                None => Err(self.fault(format!("expected {}", form.words))),
            },
            Takes::Ulimits(_) => self.take_ulimit(value),
            Takes::Reload(set_signal, set_command) => match value.as_str() {
                Some(text) => self.set_text(text, self.entry.value_at, set_signal),
                None => {
                    let words = self.command(value)?;
                    if words.is_empty() {
                        return Err(self.mismatch());
                    }
                    set_command(self.definition, words);
                    Ok(())
                }
            },
            Takes::Hooks(set) => {
                let hooks = self.hooks(value);
                set(self.definition, hooks);
                Ok(())
            }
            Takes::Directives(section, _) => self.take_directive(section, value),
        }
    }

    fn set_text(&mut self, text: &str, at: usize, set: SetText<D>) -> Outcome {
        let text = expand(text, self.instance);
        set(self.definition, &text).map_err(|message| Fault { at, message })
    }

    fn take_choice(
        &mut self,
        words: &[&'static str],
        value: &DeValue<'_>,
        set: SetText<D>,
    ) -> Outcome {
        let Some(word) = value.as_str() else {
            return Err(self.mismatch());
        };
        let word = expand(word, self.instance);
        if set(self.definition, &word).is_ok() {
            return Ok(());
        }
        let near = nearest(&word, words.iter().copied());
        Err(self.fault(match near {
            Some(near) => format!("unknown value '{}', did you mean '{near}'?", quote(&word)),
            None => format!("'{}' is not one of {}", quote(&word), words.join(", ")),
        }))
    }

    /// Every element that is wrong is reported.
    fn take_texts(&mut self, form: Form, value: &DeValue<'_>, set: SetText<D>) -> Outcome {
        let items = match value {
            DeValue::Array(items) => items,
            DeValue::String(text) => return self.set_text(text, self.entry.value_at, set),
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Table(_) => return Err(self.mismatch()),
        };
        for item in items {
            let at = item.span().start;
            let outcome = match item.get_ref() {
                value @ (DeValue::String(_) | DeValue::Integer(_)) => {
                    let text = scalar_text(value).unwrap_or_default();
                    self.set_text(&text, at, set)
                }
                DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_)
                | DeValue::Array(_)
                | DeValue::Table(_) => Err(Fault {
                    at,
                    message: format!("expected {}", form.words),
                }),
            };
            if let Err(fault) = outcome {
                self.report(fault);
            }
        }
        Ok(())
    }

    fn command(&mut self, value: &DeValue<'_>) -> Result<Vec<String>, Fault> {
        let words = match value {
            DeValue::String(text) => text::split_words(&expand(text, self.instance))
                .map_err(|message| self.fault(message))?,
            DeValue::Array(items) => self.strings(items)?,
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Table(_) => return Err(self.mismatch()),
        };
        for word in &words {
            text::check_argument(word).map_err(|message| self.fault(message))?;
        }
        match words.first() {
            Some(program) if program.is_empty() => {
                Err(self.fault("the first word is empty".to_owned()))
            }
            _ => Ok(words),
        }
    }

    fn strings(&self, items: &[Spanned<DeValue<'_>>]) -> Result<Vec<String>, Fault> {
        let strings = items.iter().map(|item| match item.get_ref().as_str() {
            Some(text) => Ok(expand(text, self.instance).into_owned()),
            None => Err(Fault {
                at: item.span().start,
                message: "expected a string".to_owned(),
            }),
        });
        strings.collect()
    }

    /// Sets one entry of a map.
    fn take_pair(&mut self, text: &str) -> Outcome {
        let (Takes::Map(_, set) | Takes::Ulimits(set)) = self.entry.key.takes else {
            return Err(self.mismatch());
        };
        let text = expand(text, self.instance);
        let part = self.entry.part.unwrap_or_default();
        set(self.definition, part, &text).map_err(|message| self.fault(message))
    }

    fn take_ulimit(&mut self, value: &DeValue<'_>) -> Outcome {
        let DeValue::Table(limits) = value else {
            let text = scalar_text(value).ok_or_else(|| self.mismatch())?;
            return self.take_pair(&text);
        };
        let limit = |name: &str| {
            let value = limits.iter().find(|(key, _)| key.get_ref() == name)?.1;
            scalar_text(value.get_ref())
        };
        match (limits.len(), limit("soft"), limit("hard")) {
            (2, Some(soft), Some(hard)) => self.take_pair(&format!("{soft}:{hard}")),
            _ => Err(self.fault("expected { soft = …, hard = … }".to_owned())),
        }
    }

    fn hooks(&mut self, value: &DeValue<'_>) -> Vec<Hook> {
        let at = self.entry.value_at;
        let outcomes: Vec<_> = match value {
            DeValue::Array(items) => items
                .iter()
                .map(|item| self.hook(item.get_ref(), item.span().start))
                .collect(),
            one => vec![self.hook(one, at)],
        };
        let mut hooks = Vec::new();
        for outcome in outcomes {
            match outcome {
                Ok(hook) => hooks.push(hook),
                Err(fault) => self.report(fault),
            }
        }
        hooks
    }

    fn hook(&self, value: &DeValue<'_>, at: usize) -> Result<Hook, Fault> {
        let fault = |message: String| Fault { at, message };
        let path = |text: &str| text::parse_program(&expand(text, self.instance)).map_err(fault);
        let table: &DeTable<'_> = match value {
            DeValue::String(text) => {
                let path = path(text)?;
                return Ok(Hook {
                    args: vec![path.to_string_lossy().into_owned()],
                    path,
                    env: Vec::new(),
                    timeout: HOOK_TIMEOUT,
                });
            }
            DeValue::Table(table) => table,
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => {
                return Err(fault("expected a path, or a table with a path".to_owned()));
            }
        };
        let mut hook = Hook {
            path: std::path::PathBuf::new(),
            args: Vec::new(),
            env: Vec::new(),
            timeout: HOOK_TIMEOUT,
        };
        for (name, value) in table {
            let at = value.span().start;
            let fault = |message: String| Fault { at, message };
            match (name.get_ref().as_ref(), value.get_ref()) {
                ("path", DeValue::String(text)) => hook.path = path(text)?,
                ("args", DeValue::Array(items)) => hook.args = self.strings(items)?,
                ("env", DeValue::Array(items)) => hook.env = self.strings(items)?,
                ("timeout", value) => {
                    let text = scalar_text(value).unwrap_or_default();
                    hook.timeout = quantity::parse_positive_duration(&text).map_err(fault)?;
                }
                ("path", _) => return Err(fault("path: expected an absolute path".to_owned())),
                ("args" | "env", _) => {
                    return Err(fault(format!(
                        "{}: expected a list of strings",
                        name.get_ref()
                    )));
                }
                (other, _) => {
                    let known = ["path", "args", "env", "timeout"];
                    return Err(Fault {
                        at: name.span().start,
                        message: match nearest(other, known) {
                            Some(near) => {
                                format!("unknown key '{}', did you mean '{near}'?", quote(other))
                            }
                            None => format!("unknown key '{}' of a hook", quote(other)),
                        },
                    });
                }
            }
        }
        check_hook(&mut hook).map_err(fault)?;
        Ok(hook)
    }

    fn take_directive(&mut self, section: Section, value: &DeValue<'_>) -> Outcome {
        let Takes::Directives(_, set) = self.entry.key.takes else {
            return Err(self.mismatch());
        };
        let name = self.entry.part.unwrap_or_default();
        directive::check_name(section, name).map_err(|message| Fault {
            at: self.entry.key_at,
            message,
        })?;
        let one = |value: &DeValue<'_>, at: usize| {
            let text = scalar_text(value).ok_or_else(|| Fault {
                at,
                message: "expected a string, number, boolean, or a list of them".to_owned(),
            })?;
            directive::check_value(section, name, &text)
                .map_err(|message| Fault { at, message })?;
            Ok(text.into_owned())
        };
        let values: Result<Vec<String>, Fault> = match value {
            DeValue::Array(items) => items
                .iter()
                .map(|item| one(item.get_ref(), item.span().start))
                .collect(),
            value => one(value, self.entry.value_at).map(|text| vec![text]),
        };
        set(self.definition, name.to_owned(), values?);
        Ok(())
    }
}

fn check_hook(hook: &mut Hook) -> Result<(), String> {
    if hook.path.as_os_str().is_empty() {
        return Err("a hook needs a path".to_owned());
    }
    if hook.args.is_empty() {
        hook.args.push(hook.path.to_string_lossy().into_owned());
    }
    for text in hook.args.iter().chain(&hook.env) {
        text::check_argument(text)?;
    }
    match hook.env.iter().find(|pair| !pair.contains('=')) {
        Some(pair) => Err(format!("env: '{}' is not KEY=VALUE", quote(pair))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_percent_i_of_instances_expands() {
        for (text, expected) in [
            ("a", "a"),
            ("/srv/%i/x", "/srv/blue/x"),
            ("%%i", "%i"),
            ("%%%i", "%%i"),
            ("100%", "100%"),
            ("%%", "%%"),
            ("%n%i%", "%nblue%"),
            ("é%iü", "éblueü"),
        ] {
            assert_eq!(expand(text, Some("blue")), expected, "{text}");
        }
        assert_eq!(expand("%i %%i", None), "%i %%i");
    }
}
