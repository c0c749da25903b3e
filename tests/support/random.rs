// SPDX-License-Identifier: Apache-2.0
//! Random definitions, each with the unit properties that it means.
//!
//! What is meant is said here from the words of wharf-container(5), not by the generator's code, so
//! that the two can disagree. The same seed gives the same definitions.

use std::fmt::Write as _;

/// Pieces that mean something to systemd, to a shell or to a terminal.
const HOSTILE: &[&str] = &[
    "%",
    "%h",
    "%%",
    "%Q",
    "%i",
    "$HOME",
    "${X}",
    "$$",
    "\\",
    "\\\\",
    "\\n",
    "\\x0a",
    "\\s",
    "\"",
    "'",
    "\" ",
    " ;",
    "; /bin/evil",
    "#",
    " #",
    "=",
    "[Service]",
    "ExecStartPre=/bin/evil",
    " ",
    "  ",
    "-@:+!",
    "ä",
    "漢字",
    "\u{2028}",
    "\u{a0}",
    "\u{202e}",
    "`id`",
    "<3>",
    "|&>",
];

/// Pieces that no unit may hold: each makes the definition broken.
const REFUSED: &[&str] = &[
    "\n",
    "\r",
    "\r\n",
    "\0",
    "\nExecStartPre=/bin/evil",
    "\u{b}",
    "\u{1b}]0;x\u{7}",
    "\u{85}",
    "\u{fffe}",
];

/// What `systemctl show` is to say of one property.
#[derive(Debug)]
pub(crate) enum Meant {
    /// Exactly this.
    Text(String),
    /// A time span of so many microseconds.
    Micros(u64),
    /// A list that has this in it.
    Holds(String),
    /// Commands, of which one has these arguments.
    Runs(String),
}

/// One definition and its meaning.
#[derive(Debug)]
pub(crate) struct Random {
    pub(crate) name: String,
    pub(crate) toml: String,
    /// Whether the definition must not be accepted.
    pub(crate) broken: bool,
    pub(crate) meant: Vec<(&'static str, Meant)>,
}

/// SplitMix64: small, and the same everywhere.
#[derive(Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[usize::try_from(self.below(list.len() as u64)).unwrap()]
    }

    /// A hostile text that holds at least one letter.
    fn text(&mut self) -> String {
        let pieces = self.between(1, 5);
        let letter = self.below(pieces);
        let mut text = String::new();
        for piece in 0..pieces {
            text.push_str(self.pick::<&str>(HOSTILE));
            if piece == letter {
                text.push('x');
            }
        }
        text
    }

    /// A hostile absolute path, normalised, without what separates the parts of a volume.
    fn path(&mut self) -> String {
        let mut path = String::new();
        for _ in 0..self.between(1, 3) {
            let part = self.text().replace(['/', ':', ','], "_");
            write!(path, "/{part}").unwrap();
        }
        path
    }
}

/// A basic string of TOML.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => write!(quoted, "\\u{:04X}", u32::from(c)).unwrap(),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A definition under construction.
struct Builder<'a> {
    rng: &'a mut Rng,
    random: Random,
    top: String,
    tables: [(&'static str, String); 4],
}

const RESOURCES: usize = 0;
const LOG: usize = 1;
const UNIT: usize = 2;
const SERVICE: usize = 3;

impl Builder<'_> {
    fn top(&mut self, key: &str, value: impl std::fmt::Display) {
        writeln!(self.top, "{key} = {value}").unwrap();
    }

    fn entry(&mut self, table: usize, key: &str, value: impl std::fmt::Display) {
        writeln!(self.tables[table].1, "{key} = {value}").unwrap();
    }

    fn means(&mut self, property: &'static str, text: impl std::fmt::Display) {
        self.random
            .meant
            .push((property, Meant::Text(text.to_string())));
    }

    fn holds(&mut self, property: &'static str, text: impl std::fmt::Display) {
        self.random
            .meant
            .push((property, Meant::Holds(text.to_string())));
    }

    fn lasts(&mut self, property: &'static str, micros: u64) {
        self.random.meant.push((property, Meant::Micros(micros)));
    }

    /// A hostile text, now and then one that must be refused.
    fn line(&mut self) -> String {
        let mut text = self.rng.text();
        if self.rng.one_in(40) {
            text.push_str(self.rng.pick::<&str>(REFUSED));
            text.push('y');
            self.random.broken = true;
        }
        // wharf-container(5): such a line would swallow the next one.
        self.random.broken |= text.ends_with('\\');
        text
    }

    fn host_path(&mut self) -> String {
        let path = self.rng.path();
        self.holds("RequiresMountsFor", &path);
        path
    }

    fn root_and_names(&mut self) {
        if self.rng.one_in(4) {
            let path = self.host_path();
            self.top("rootfs", quote(&path));
        } else {
            self.top("image", quote("localhost:5000/x@y:1.2-3"));
        }
        let text = self.line();
        self.top("description", quote(&text));
        self.means("Description", text.trim_matches(' '));
        if self.rng.one_in(2) {
            let text = self.line();
            self.entry(LOG, "identifier", quote(&text));
            self.means("SyslogIdentifier", text.trim_matches(' '));
        } else {
            let name = self.random.name.clone();
            self.means("SyslogIdentifier", name);
        }
        // For the engine only: whatever it says must not reach the unit.
        let (key, value) = (self.rng.text(), self.rng.text());
        self.top("command", format!("[{}, {}]", quote(&key), quote(&value)));
        self.top("labels", format!("{{ x = {} }}", quote(&value)));
        self.top("environment", format!("{{ X = {} }}", quote(&value)));
    }

    fn mounts_and_dependencies(&mut self) {
        let mut volumes = Vec::new();
        for target in 0..self.rng.below(3) {
            let path = self.host_path();
            volumes.push(quote(&format!("{path}:/v{target}:ro")));
        }
        self.top("volumes", format!("[{}]", volumes.join(", ")));
        if self.rng.one_in(3) {
            let path = self.host_path();
            self.top("env_file", format!("[{}]", quote(&path)));
        }
        if self.rng.one_in(3) {
            let path = self.host_path();
            self.top("seccomp", quote(&path));
        }
        // Names that no random definition has, so that there are no cycles.
        let mut names = Vec::new();
        for _ in 0..self.rng.below(3) {
            let name = format!(
                "{}{}",
                self.rng.pick(&["dep-", "dep.x@i_"]),
                self.rng.below(50)
            );
            for property in ["Requires", "After"] {
                self.holds(property, format!("ctr@{name}.service"));
            }
            names.push(quote(&name));
        }
        self.top("depends_on", format!("[{}]", names.join(", ")));
    }

    fn lifecycle(&mut self) {
        let oneshot = self.rng.one_in(5);
        self.means("Type", if oneshot { "oneshot" } else { "notify" });
        self.top("type", quote(if oneshot { "oneshot" } else { "service" }));
        let restarts = [
            "no",
            "on-failure",
            "on-abnormal",
            "on-watchdog",
            "on-abort",
            "always",
        ];
        // systemd refuses a oneshot that is always restarted.
        let count = if oneshot { 5 } else { 6 };
        let restart = *self.rng.pick(&restarts[..count]);
        self.top("restart", quote(restart));
        self.means("Restart", restart);
        let delay = self.rng.between(1, 100_000);
        self.top("restart_delay", quote(&format!("{delay}ms")));
        self.lasts("RestartUSec", delay * 1_000);
        let (attempts, window) = (self.rng.between(1, 1000), self.rng.between(1, 100_000));
        self.top("restart_max_attempts", attempts);
        self.top("restart_window", window);
        self.means("StartLimitBurst", attempts);
        self.lasts("StartLimitIntervalUSec", window * 1_000_000);
        let stop = self.rng.between(2, 1_000_000);
        self.top("stop_timeout", quote(&format!("{stop}ms")));
        self.lasts("TimeoutStopUSec", stop * 1_000);
        let start = self.rng.between(1, 1_000_000);
        self.top("start_timeout", start);
        self.lasts("TimeoutStartUSec", start * 1_000_000);
        let signals = [
            ("SIGTERM", 15),
            ("SIGQUIT", 3),
            ("SIGINT", 2),
            ("SIGRTMIN+3", 37),
        ];
        let (signal, number) = *self.rng.pick(&signals);
        self.top("stop_signal", quote(signal));
        self.means("KillSignal", number);
        let (reload, arguments) = if self.rng.one_in(2) {
            let text = self.rng.text();
            let name = &self.random.name;
            let arguments = format!("/usr/bin/wharf reload --foreground {name}");
            (format!("[\"x\", {}]", quote(&text)), arguments)
        } else {
            (quote("SIGHUP"), "/bin/kill -HUP $MAINPID".to_owned())
        };
        self.top("reload", reload);
        self.random
            .meant
            .push(("ExecReload", Meant::Runs(arguments)));
    }

    fn resources(&mut self) {
        // No limit above a wider one: wharf-container(5) has that refused.
        let high = (1 << 30) + self.rng.below(1 << 20) * 4096;
        for (key, property, bytes) in [
            ("memory", "MemoryMax", high + self.rng.below(1 << 20) * 4096),
            ("memory_high", "MemoryHigh", high),
            (
                "memory_swap",
                "MemorySwapMax",
                self.rng.below(1 << 20) * 4096,
            ),
        ] {
            if self.rng.one_in(2) {
                self.entry(RESOURCES, key, bytes);
                self.means(property, bytes);
            } else {
                self.means(property, "infinity");
            }
        }
        let milli = self.rng.between(10, 99_999);
        self.entry(
            RESOURCES,
            "cpus",
            format!("\"{}.{:03}\"", milli / 1000, milli % 1000),
        );
        self.lasts("CPUQuotaPerSecUSec", milli * 1_000);
        for (key, property) in [("cpu_weight", "CPUWeight"), ("io_weight", "IOWeight")] {
            let weight = self.rng.between(1, 10_000);
            self.entry(RESOURCES, key, weight);
            self.means(property, weight);
        }
        let tasks = self.rng.between(1, 100_000);
        self.entry(RESOURCES, "pids", tasks);
        self.means("TasksMax", tasks);
        self.entry(RESOURCES, "cpuset", quote("0-3,7"));
        self.means("AllowedCPUs", "0-3 7");
        let limit = self.rng.between(1, 1 << 40);
        self.entry(
            RESOURCES,
            "io_read_bps",
            format!("[{}]", quote(&format!("/dev/vda:{limit}"))),
        );
        self.means("IOReadBandwidthMax", format!("/dev/vda {limit}"));
        let policy = *self.rng.pick(&["stop", "continue", "kill"]);
        self.entry(RESOURCES, "oom_policy", quote(policy));
        self.means("OOMPolicy", policy);
        let adjust = self.rng.between(0, 2000);
        let adjust = i64::try_from(adjust).unwrap() - 1000;
        self.entry(RESOURCES, "oom_score_adj", adjust);
        self.means("OOMScoreAdjust", adjust);
        let (lines, interval) = (self.rng.between(1, 1_000_000), self.rng.between(1, 100_000));
        self.entry(LOG, "rate_limit", quote(&format!("{lines}/{interval}ms")));
        self.means("LogRateLimitBurst", lines);
        self.lasts("LogRateLimitIntervalUSec", interval * 1_000);
    }

    fn own_directives(&mut self) {
        let text = self.line();
        // The administrator's own words: specifiers are theirs, so a '%' that is one is doubled.
        self.entry(SERVICE, "UtmpIdentifier", quote(&text.replace('%', "%%")));
        self.means("UtmpIdentifier", text.trim_matches(' '));
        self.entry(UNIT, "PartOf", quote("own.target"));
        self.means("PartOf", "own.target");
    }
}

/// The definition number `number`.
pub(crate) fn definition(rng: &mut Rng, number: usize) -> Random {
    let stem = *rng.pick(&["c", "a-b.", "X_y-", "0"]);
    let mut builder = Builder {
        random: Random {
            name: format!("{stem}{number}"),
            toml: String::new(),
            broken: false,
            meant: Vec::new(),
        },
        rng,
        top: String::new(),
        tables: ["resources", "log", "unit", "service"].map(|name| (name, String::new())),
    };
    builder.root_and_names();
    builder.mounts_and_dependencies();
    builder.lifecycle();
    builder.resources();
    builder.own_directives();
    let Builder {
        mut random,
        top,
        tables,
        ..
    } = builder;
    random.toml = top;
    for (name, entries) in tables {
        write!(random.toml, "[{name}]\n{entries}").unwrap();
    }
    if random.broken {
        // Nothing of it reaches the unit: it is the template's, but for SourcePath=.
        random.meant = vec![
            (
                "Description",
                Meant::Text(format!("Container {}", random.name)),
            ),
            ("SyslogIdentifier", Meant::Text(random.name.clone())),
            ("Type", Meant::Text("notify".to_owned())),
            ("Restart", Meant::Text("no".to_owned())),
            ("MemoryMax", Meant::Text("infinity".to_owned())),
            ("TasksMax", Meant::Text("4096".to_owned())),
        ];
    }
    random
}
