// SPDX-License-Identifier: Apache-2.0
//! The demo's promise: Debian's nginx, defined in a file, run by systemd, and everything that an
//! administrator types on a working day.

use crate::support::container::{
    IMAGE, NGINX, define, json, leftovers, load_nginx, prepare, use_runtime,
};
use crate::support::lab::{Lab, Suite, text};
use serde_json::Value;

/// Programs of ours that run.
const OURS: &str = "readlink /proc/[0-9]*/exe | grep -E '/(bin|libexec)/.*wharf' | sort -u || true";

/// Fetches the page.
const FETCH: &str =
    "curl -sS --max-time 5 --retry 20 --retry-delay 0 --retry-connrefused http://localhost:8080/";

fn web_toml(more: &str) -> String {
    format!("image = \"{NGINX}\"\nnetwork = \"host\"\nreload = \"SIGHUP\"\n{more}\n")
}

/// What `wharf ps -a`, `inspect` and `status` say, after checking that they agree with systemd.
fn state(lab: &Lab, name: &str) -> String {
    let unit = format!("ctr@{name}.service");
    let listed = json(lab, "wharf ps -a --json");
    let listed = listed["containers"].as_array().unwrap();
    let listed = listed.iter().find(|c| c["name"] == name).unwrap();
    let inspected = json(lab, &format!("wharf inspect {name}"));
    let inspected = &inspected["containers"][0];
    assert_eq!(listed["state"], inspected["state"], "{listed} {inspected}");
    let properties = [
        ("ActiveState", "active_state"),
        ("SubState", "sub_state"),
        ("UnitFileState", "unit_file_state"),
        ("Result", "result"),
        ("FragmentPath", "fragment"),
        ("InvocationID", "invocation_id"),
    ];
    for (property, key) in properties {
        let expected = lab.property(&unit, property);
        let said = inspected["unit"][key].as_str().unwrap_or_default();
        assert_eq!(said, expected, "{key} in {inspected}");
    }
    let main_pid = lab.property(&unit, "MainPID");
    let main_pid: u64 = main_pid.parse().unwrap();
    let state = inspected["state"].as_str().unwrap();
    let runs = matches!(state, "running" | "paused");
    if runs {
        for pid in [
            &listed["pid"],
            &inspected["run"]["pid"],
            &inspected["unit"]["main_pid"],
        ] {
            assert_eq!(*pid, main_pid, "{listed} {inspected}");
        }
    } else {
        assert_eq!(
            (main_pid, &listed["pid"], &inspected["run"]),
            (0, &Value::Null, &Value::Null)
        );
    }
    let status = lab.sh(&format!("wharf status {name}"));
    assert_eq!(
        status.status.code(),
        Some(if runs { 0 } else { 3 }),
        "{}",
        status.stderr
    );
    assert!(
        text(&status.stdout).contains(&format!("State: {state}")),
        "{}",
        text(&status.stdout)
    );
    let live = lab.ok("wharf ps -q");
    assert_eq!(live.lines().any(|line| line == name), runs, "{live}");
    state.to_owned()
}

fn enable_and_start(lab: &Lab) {
    define(
        lab,
        "web",
        &web_toml("description = \"A web server\"\nrestart = \"on-failure\""),
    );
    lab.ok("systemctl daemon-reload");
    assert_eq!(state(lab, "web"), "configured");
    lab.ok("systemctl enable --now ctr@web");
    assert_eq!(lab.ok("systemctl is-enabled ctr@web"), "enabled");
    assert_eq!(lab.ok(FETCH), "<h1>works</h1>");
    assert_eq!(state(lab, "web"), "running");
    let status = lab.ok("systemctl status --no-pager ctr@web");
    let main = lab.property("ctr@web", "MainPID");
    assert!(
        status.contains("ctr@web.service - A web server"),
        "{status}"
    );
    assert!(
        status.contains(&format!("Main PID: {main} (nginx)")),
        "{status}"
    );
    assert_eq!(lab.ok(OURS), "/usr/libexec/wharf/wharf-relay");
    let groups = lab.ok(&format!(
        "grep -h ^0: /proc/{main}/cgroup /proc/$(pgrep -n wharf-relay)/cgroup"
    ));
    let unit = "0::/ctr.slice/ctr@web.service";
    assert_eq!(groups, format!("{unit}/payload\n{unit}/engine"));
}

fn logs(lab: &Lab) {
    lab.ok("journalctl --sync");
    let entry = lab.ok("journalctl -u ctr@web -o json CONTAINER_NAME=web | grep -m 1 'GET / '");
    let entry: Value = serde_json::from_str(&entry).unwrap();
    for (field, value) in [
        ("SYSLOG_IDENTIFIER", "web"),
        ("PRIORITY", "6"),
        ("_SYSTEMD_UNIT", "ctr@web.service"),
    ] {
        assert_eq!(entry[field], value, "{entry}");
    }
    let from_systemd = lab.ok("journalctl -u ctr@web -o cat");
    assert!(
        from_systemd.contains("GET / HTTP/1.1\" 200"),
        "{from_systemd}"
    );
    // What nginx says about itself goes to /dev/stderr.
    assert!(
        from_systemd.contains("start worker process"),
        "{from_systemd}"
    );
    let from_wharf = lab.ok("wharf logs web");
    assert!(from_wharf.contains("GET / HTTP/1.1\" 200"), "{from_wharf}");
    // The relay is part of the unit, not the container: nobody but the payload writes in between.
    lab.ok("wharf events --since -1h --json >/dev/null || wharf events --json >/dev/null");
}

fn reload_pause_restart(lab: &Lab) {
    let main = lab.property("ctr@web", "MainPID");
    let workers = format!("pgrep -P {main}");
    let before = lab.ok(&workers);
    lab.ok("systemctl reload ctr@web");
    lab.wait_for(&format!(
        "test $({workers} | wc -l) = 1 -a \"$({workers})\" != {before}"
    ));
    lab.ok("wharf reload web");
    assert_eq!(lab.property("ctr@web", "MainPID"), main);
    assert_eq!(lab.ok(FETCH), "<h1>works</h1>");

    lab.ok("wharf pause web");
    assert_eq!(lab.property("ctr@web", "FreezerState"), "frozen");
    assert_eq!(state(lab, "web"), "paused");
    assert_eq!(
        lab.sh("curl -sS --max-time 1 http://localhost:8080/")
            .status
            .code(),
        Some(28)
    );
    let again = lab.sh("wharf pause web");
    assert!(
        !again.status.success() && again.stderr.contains("paused"),
        "{}",
        again.stderr
    );
    let stop = lab.sh("wharf stop web");
    assert!(
        !stop.status.success() && stop.stderr.contains("paused"),
        "{}",
        stop.stderr
    );
    lab.ok("wharf unpause web");
    assert_eq!(state(lab, "web"), "running");
    assert_eq!(lab.ok(FETCH), "<h1>works</h1>");
    assert!(!lab.sh("wharf unpause web").status.success());

    lab.ok("systemctl restart ctr@web");
    lab.ok("wharf restart web");
    assert_ne!(lab.property("ctr@web", "MainPID"), main);
    assert_eq!(lab.ok(FETCH), "<h1>works</h1>");
    let history = json(lab, "wharf history --json web");
    let runs = history["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2, "{history}");
    for run in runs {
        let facts = [
            &run["reason"],
            &run["code"],
            &run["service_result"],
            &run["image"]["reference"],
        ];
        assert_eq!(
            facts.map(Value::to_string),
            ["\"exited\"", "0", "\"success\"", &format!("\"{NGINX}\"")]
        );
        assert!(
            run["image"]["digest"]
                .as_str()
                .unwrap()
                .starts_with("sha256:"),
            "{run}"
        );
    }
}

fn stop_and_switch_off(lab: &Lab) {
    lab.ok("systemctl stop ctr@web");
    assert_eq!(lab.sh("systemctl is-active ctr@web").stdout, b"inactive\n");
    assert_eq!(state(lab, "web"), "exited");
    assert_eq!(
        lab.sh("curl -sS http://localhost:8080/").status.code(),
        Some(7)
    );
    assert_eq!(leftovers(lab), "");
    lab.ok("systemctl disable ctr@web");
    assert_eq!(lab.sh("systemctl is-enabled ctr@web").stdout, b"disabled\n");
    assert_eq!(state(lab, "web"), "exited");
    lab.ok("systemctl mask ctr@web");
    assert_eq!(lab.sh("systemctl is-enabled ctr@web").stdout, b"masked\n");
    let start = lab.sh("wharf start web");
    assert!(
        !start.status.success() && start.stderr.contains("masked"),
        "{}",
        start.stderr
    );
    lab.ok("systemctl unmask ctr@web");
    // Enabled by the definition instead of by systemctl.
    define(lab, "web", &web_toml("enabled = true"));
    lab.ok("systemctl daemon-reload; systemctl show -p Wants --value multi-user.target | grep -qF ctr@web.service");
    // A signal that comes before nginx has a handler for it is lost on PID 1.
    lab.ok(&format!("wharf start web; {FETCH}; wharf stop web"));
    let events = lab.ok("journalctl --sync; wharf events --json | tail -n 2");
    let events: Vec<Value> = events
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&events[0]["event"], &events[1]["event"]),
        (&"started".into(), &"exited".into())
    );
    assert_eq!(
        (&events[1]["name"], &events[1]["code"]),
        (&"web".into(), &0.into())
    );
    lab.ok(
        "wharf rm web 2>&1 || true; rm -f /etc/wharf/containers/web.toml; systemctl daemon-reload",
    );
}

/// With `log.driver = "direct"` no process of ours runs.
fn without_a_relay(lab: &Lab) {
    define(
        lab,
        "direct",
        &format!(
            "image = \"{IMAGE}\"\ncommand = [\"httpd\", \"-f\", \"-vv\", \"-p\", \"8081\", \"-h\", \"/etc\"]\n\
             network = \"host\"\ninit = true\n[log]\ndriver = \"direct\"\n"
        ),
    );
    lab.ok("systemctl daemon-reload; systemctl start ctr@direct");
    lab.wait_for("curl -sS http://localhost:8081/passwd | grep -q ^app");
    assert_eq!(lab.ok(OURS), "");
    assert_eq!(state(lab, "direct"), "running");
    lab.ok("journalctl --sync; journalctl -u ctr@direct CONTAINER_NAME=direct -o cat | grep -q 'url:/passwd'");
    lab.ok("wharf stop direct");
    assert_eq!(lab.property("ctr@direct", "ActiveState"), "inactive");
    assert_eq!(leftovers(lab), "");
}

fn working_day(lab: &Lab) {
    enable_and_start(lab);
    logs(lab);
    reload_pause_restart(lab);
    stop_and_switch_off(lab);
    without_a_relay(lab);
}

#[test]
fn trixie_serves_the_web() {
    let lab = prepare(Suite::Trixie);
    load_nginx(&lab);
    working_day(&lab);
    lab.ok("rm -rf /var/lib/wharf/containers /etc/wharf/containers; systemctl daemon-reload");
    use_runtime(&lab, "runc");
    working_day(&lab);
}

#[test]
fn bookworm_serves_the_web() {
    let lab = prepare(Suite::Bookworm);
    load_nginx(&lab);
    working_day(&lab);
}
