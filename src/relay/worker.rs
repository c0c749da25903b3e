// SPDX-License-Identifier: Apache-2.0
//! The process that moves the bytes: one poll(2), a few flows, perhaps a notify proxy.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::sys;

use super::flow::{Flow, Found};
use super::proxy::Proxy;

/// Most flows of one container: standard output and standard error.
const FLOWS_MAX: usize = 2;

/// The container's init, two ends per flow, two of the proxy.
const POLLED_MAX: usize = 1 + 2 * FLOWS_MAX + 2;

/// Everything there is to do for one container.
#[derive(Debug)]
pub struct Worker<'a> {
    /// Pidfd of the container's init.
    pub main: OwnedFd,
    /// Whether it has ended.
    pub main_ended: bool,
    /// Standard output and standard error, or the console.
    pub flows: [Option<Flow<'a>>; FLOWS_MAX],
    /// The container's way to the service manager.
    pub proxy: Option<Proxy<'a>>,
}

/// What a polled descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Main,
    Source(usize),
    Sink(usize),
    Proxy,
}

/// What one round of waiting brought.
#[derive(Default)]
struct Round {
    main_ended: bool,
    found: [Found; FLOWS_MAX],
}

impl Worker<'_> {
    /// Works until the container's init has ended and nobody can write any more.
    pub fn run(&mut self) -> sys::Result<()> {
        for flow in self.flows.iter_mut().flatten() {
            flow.begin()?;
        }
        loop {
            let round = self.wait()?;
            let now = Instant::now();
            if round.main_ended {
                self.main_ended = true;
                self.flows.iter_mut().flatten().for_each(Flow::release);
            }
            for (flow, found) in self.flows.iter_mut().zip(round.found) {
                if let Some(flow) = flow {
                    flow.advance(found, now);
                }
            }
            if let Some(proxy) = &mut self.proxy {
                proxy.advance(now);
            }
            if self.main_ended && self.flows.iter().flatten().all(Flow::is_ended) {
                return Ok(());
            }
        }
    }

    fn wait(&self) -> sys::Result<Round> {
        let now = Instant::now();
        let mut set = PollSet::new(self.main.as_fd());
        // A pidfd whose process was reaped hangs up for ever.
        if !self.main_ended {
            set.add(Role::Main, Some(self.main.as_fd()), PollFlags::IN);
        }
        for (index, flow) in self.flows.iter().enumerate() {
            let Some(flow) = flow else { continue };
            let interest = flow.interest(now);
            set.add(Role::Source(index), interest.source, PollFlags::IN);
            if let Some((sink, events)) = interest.sink {
                set.add(Role::Sink(index), Some(sink), events);
            }
            set.wake_at(interest.at);
        }
        if let Some(proxy) = &self.proxy {
            let interest = proxy.interest();
            set.add(Role::Proxy, interest.container, PollFlags::IN);
            set.add(Role::Proxy, interest.manager, PollFlags::OUT);
            set.wake_at(interest.at);
        }
        set.poll(now)
    }
}

/// The descriptors of one poll(2), on the stack.
struct PollSet<'a> {
    fds: [PollFd<'a>; POLLED_MAX],
    roles: [Role; POLLED_MAX],
    used: usize,
    at: Option<Instant>,
}

impl<'a> PollSet<'a> {
    fn new(filler: BorrowedFd<'a>) -> Self {
        Self {
            fds: std::array::from_fn(|_| PollFd::from_borrowed_fd(filler, PollFlags::empty())),
            roles: [Role::Main; POLLED_MAX],
            used: 0,
            at: None,
        }
    }

    fn add(&mut self, role: Role, fd: Option<BorrowedFd<'a>>, events: PollFlags) {
        let slots = (self.fds.get_mut(self.used), self.roles.get_mut(self.used));
        if let (Some(fd), (Some(slot), Some(role_slot))) = (fd, slots) {
            *slot = PollFd::from_borrowed_fd(fd, events);
            *role_slot = role;
            self.used += 1;
        }
    }

    fn wake_at(&mut self, at: Option<Instant>) {
        self.at = match (self.at, at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    fn poll(&mut self, now: Instant) -> sys::Result<Round> {
        let timeout = self
            .at
            .map(|at| at.saturating_duration_since(now))
            .and_then(|left| Timespec::try_from(left).ok());
        let fds = self.fds.get_mut(..self.used).unwrap_or_default();
        rustix::io::retry_on_intr(|| rustix::event::poll(fds, timeout.as_ref()))
            .map_err(|errno| sys::Error::new("poll()", errno))?;
        let mut round = Round::default();
        for (fd, role) in fds.iter().zip(self.roles) {
            let events = fd.revents();
            if events.is_empty() {
                continue;
            }
            match role {
                Role::Main => round.main_ended = true,
                Role::Source(index) => {
                    if let Some(found) = round.found.get_mut(index) {
                        found.source = true;
                    }
                }
                Role::Sink(index) => {
                    if let Some(found) = round.found.get_mut(index) {
                        found.sink = events;
                    }
                }
                // It looks for itself.
                Role::Proxy => {}
            }
        }
        Ok(round)
    }
}
