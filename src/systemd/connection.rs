// SPDX-License-Identifier: Apache-2.0
//! A D-Bus connection to a systemd manager, and blocking calls on it.
//!
//! Always through the message bus. systemctl(1) as root uses PID 1's own socket instead; zbus
//! cannot, because it refuses messages whose sender is no unique name, and PID 1 signs those with
//! `org.freedesktop.systemd1`. Every call has a deadline (threats P7).

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::mpsc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::export::futures_core::Stream as _;
use zbus::{DBusError as _, DynamicType, MatchRule, Message, MessageStream, OwnedVariant, Type};

use super::Error;
use crate::paths::Scope;

/// How long systemd may take to answer.
const ANSWER: Duration = Duration::from_secs(9);
/// How long systemd may take to reload all its units, which is minutes on a slow, large machine.
const RELOAD_ANSWER: Duration = Duration::from_secs(120);

const ALREADY_SUBSCRIBED: &str = "org.freedesktop.systemd1.AlreadySubscribed";
const DESTINATION: &str = "org.freedesktop.systemd1";
pub(super) const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
pub(super) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// What a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Anything that systemd answers at once.
    Normal,
    /// A reload of the manager.
    Reload,
}

impl Patience {
    fn limit(self) -> Duration {
        match self {
            Self::Normal => ANSWER,
            Self::Reload => RELOAD_ANSWER,
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    inner: zbus::Connection,
    patience: Patience,
}

/// The bus on which the manager of `scope` is.
fn address(scope: Scope) -> Result<String, Error> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    match scope {
        Scope::System => Ok(variable("DBUS_SYSTEM_BUS_ADDRESS")
            .unwrap_or_else(|| "unix:path=/run/dbus/system_bus_socket".to_owned())),
        Scope::User => variable("DBUS_SESSION_BUS_ADDRESS")
            .or_else(|| variable("XDG_RUNTIME_DIR").map(|dir| format!("unix:path={dir}/bus")))
            .ok_or_else(|| Error::Unreachable {
                address: "the user's bus".to_owned(),
                reason: "neither $DBUS_SESSION_BUS_ADDRESS nor $XDG_RUNTIME_DIR is set".to_owned(),
            }),
    }
}

impl Connection {
    /// Connects to the manager of `scope`.
    pub(super) fn open(scope: Scope, patience: Patience) -> Result<Self, Error> {
        let inner = open_address(&address(scope)?, patience)?;
        Ok(Self { inner, patience })
    }

    /// Calls a method of the manager.
    pub(super) fn call<R>(
        &self,
        method: &str,
        body: &(impl Serialize + DynamicType),
    ) -> Result<R, Error>
    where
        R: DeserializeOwned + Type,
    {
        let reply = self.request((MANAGER_PATH, MANAGER, method), body)?;
        reply
            .body()
            .deserialize()
            .map_err(|err| Error::Protocol(err.to_string()))
    }

    /// Calls a method of the manager whose reply the caller takes apart.
    pub(super) fn call_raw(
        &self,
        method: &str,
        body: &(impl Serialize + DynamicType),
    ) -> Result<Message, Error> {
        self.request((MANAGER_PATH, MANAGER, method), body)
    }

    /// All properties of one interface of an object.
    pub(super) fn properties(
        &self,
        path: &str,
        interface: &str,
    ) -> Result<HashMap<String, OwnedVariant>, Error> {
        let reply = self.request((path, PROPERTIES, "GetAll"), &(interface,))?;
        reply
            .body()
            .deserialize()
            .map_err(|err| Error::Protocol(err.to_string()))
    }

    /// One property of the manager.
    pub(super) fn manager_property(&self, name: &str) -> Result<OwnedVariant, Error> {
        let reply = self.request((MANAGER_PATH, PROPERTIES, "Get"), &(MANAGER, name))?;
        reply
            .body()
            .deserialize()
            .map_err(|err| Error::Protocol(err.to_string()))
    }

    fn request(
        &self,
        (path, interface, method): (&str, &str, &str),
        body: &(impl Serialize + DynamicType),
    ) -> Result<Message, Error> {
        tracing::trace!("D-Bus call {interface}.{method} of {path}");
        let call = self
            .inner
            .call_method(Some(DESTINATION), path, Some(interface), method, body);
        zbus::block_on(call).map_err(|err| translate(err, self.patience))
    }

    /// Signals of the manager from now on that `select` turns into something.
    ///
    /// They are collected by a thread, so that the receiver can wait with a deadline; it ends with
    /// the connection or the receiver. The channel closes when systemd closes the connection.
    pub(super) fn signals<T: Send + 'static>(
        &self,
        (path, interface, member): (&str, &str, &str),
        select: impl Fn(&Message) -> Option<T> + Send + 'static,
    ) -> Result<mpsc::Receiver<T>, Error> {
        let patience = self.patience;
        match self.call::<()>("Subscribe", &()) {
            Err(Error::Refused { name, .. }) if name == ALREADY_SUBSCRIBED => {}
            other => other?,
        }
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender(DESTINATION)
            .path(path)
            .interface(interface)
            .member(member);
        let rule = rule.build().map_err(|err| translate(err, patience))?;
        let subscribing = MessageStream::for_match_rule(rule.into_owned(), &self.inner, None);
        let mut stream = zbus::block_on(subscribing).map_err(|err| translate(err, patience))?;
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            zbus::block_on(async {
                let mut next = async || poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await;
                while let Some(Ok(message)) = next().await {
                    if let Some(item) = select(&message)
                        && sender.send(item).is_err()
                    {
                        break;
                    }
                }
            });
        });
        Ok(receiver)
    }
}

/// Connecting has no deadline of its own, and a hung systemd accepts and then says nothing.
fn open_address(address: &str, patience: Patience) -> Result<zbus::Connection, Error> {
    let unreachable = |reason: String| Error::Unreachable {
        address: address.to_owned(),
        reason,
    };
    let (sender, receiver) = mpsc::channel();
    let owned = address.to_owned();
    std::thread::spawn(move || {
        let builder =
            zbus::connection::Builder::address(owned.as_str()).method_timeout(patience.limit());
        // Nobody listens any more after the deadline.
        drop(sender.send(zbus::block_on(builder.build())));
    });
    match receiver.recv_timeout(ANSWER) {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(zbus::Error::InputOutput(err))) => Err(unreachable(err.to_string())),
        Ok(Err(zbus::Error::Connection(err, _))) => Err(unreachable(err.to_string())),
        Ok(Err(err)) => Err(unreachable(err.to_string())),
        Err(_) => Err(unreachable(format!(
            "no answer within {} s",
            ANSWER.as_secs()
        ))),
    }
}

/// Tells D-Bus errors apart by name; the text is only shown.
fn translate(err: zbus::Error, patience: Patience) -> Error {
    match err {
        zbus::Error::MethodError(name, message, _) => {
            Error::from_reply(name.as_str(), message.as_deref().unwrap_or("no details"))
        }
        zbus::Error::FDO(err) => Error::from_reply(
            err.name().as_str(),
            err.description().unwrap_or("no details"),
        ),
        zbus::Error::InputOutput(err) if err.kind() == std::io::ErrorKind::TimedOut => {
            Error::Silent(patience.limit())
        }
        zbus::Error::InputOutput(err) => match err.kind() {
            std::io::ErrorKind::BrokenPipe
            | std::io::ErrorKind::ConnectionReset
            | std::io::ErrorKind::UnexpectedEof => Error::Closed,
            _ => Error::Protocol(err.to_string()),
        },
        err => Error::Protocol(err.to_string()),
    }
}
