// SPDX-License-Identifier: Apache-2.0
//! `wharf start --foreground` in a person's shell: it stays, passes streams, signals and a terminal
//! through, and ends as the container does.

use crate::support::container::{IMAGE, define, json, leftovers, prepare, shell, use_runtime};
use crate::support::lab::{Lab, Suite, text};

/// Starts `name` and returns its exit code, standard output and standard error.
fn run(lab: &Lab, name: &str) -> (Option<i32>, String, String) {
    let output = lab.exec(&["wharf", "start", "--foreground", name]);
    (output.status.code(), text(&output.stdout), output.stderr)
}

fn exit_codes(lab: &Lab) {
    define(lab, "code@", &shell("exit $(hostname | cut -d- -f2)", ""));
    for code in [0, 1, 2, 42, 125, 126, 127, 128, 137, 143, 254, 255] {
        let name = format!("code@{code}");
        assert_eq!(
            run(lab, &name),
            (Some(code), String::new(), String::new()),
            "{name}"
        );
        let history = json(lab, &format!("wharf history --json {name}"));
        assert_eq!(history["runs"][0]["reason"], "exited", "{history}");
        assert_eq!(history["runs"][0]["code"], code, "{history}");
    }
    // By signal, as a shell says it: 128 and its number.
    define(
        lab,
        "fault",
        &format!(
            "image = \"{IMAGE}\"\ncommand = [\"awk\", \"function f(x) {{ return f(x) + 1 }} BEGIN {{ f(1) }}\"]\nulimits = {{ core = 0 }}"
        ),
    );
    assert_eq!(run(lab, "fault").0, Some(139));
    let history = json(lab, "wharf history --json fault");
    assert_eq!(history["runs"][0]["signal"], "SEGV", "{history}");
}

fn failures(lab: &Lab) {
    let command = |program: &str| format!("image = \"{IMAGE}\"\ncommand = [\"{program}\"]\n");
    define(lab, "broken", "imge = 1\n");
    define(
        lab,
        "no-image",
        "image = \"localhost/absent:1\"\npull_policy = \"never\"\n",
    );
    define(lab, "no-program", &command("/nowhere/program"));
    define(lab, "no-name", &command("no-such-program"));
    define(lab, "no-mode", &command("/etc/passwd"));
    define(lab, "directory", &command("/etc"));
    let table = [
        (
            "broken",
            125,
            "/etc/wharf/containers/broken.toml:1:1: unknown key 'imge', did you mean 'image'?",
        ),
        ("nowhere", 125, "nowhere.toml"),
        ("no-image", 125, "localhost/absent:1"),
        ("no-program", 127, "/nowhere/program"),
        ("no-name", 127, "no-such-program"),
        ("no-mode", 126, "/etc/passwd"),
        ("directory", 126, "/etc"),
    ];
    for (name, expected, says) in table {
        let (code, stdout, stderr) = run(lab, name);
        assert_eq!(
            (code, stdout.as_str()),
            (Some(expected), ""),
            "{name}: {stderr}"
        );
        assert!(
            stderr.starts_with("wharf: ") && stderr.contains(says),
            "{name}: {stderr}"
        );
        assert_eq!(stderr.lines().count(), 1, "{name}: {stderr}");
    }
}

fn streams(lab: &Lab) {
    define(
        lab,
        "out",
        &shell("echo out; echo err >&2; echo more >/dev/stdout", ""),
    );
    assert_eq!(
        run(lab, "out"),
        (Some(0), "out\nmore\n".to_owned(), "err\n".to_owned())
    );
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    define(lab, "in", &shell("cat", "stdin = true"));
    let foreground = |name| ["exec", "--", "wharf", "start", "--foreground", name];
    let echoed = lab
        .verb(&foreground("in"))
        .stdin_bytes(bytes.clone())
        .run()
        .unwrap();
    assert_eq!(echoed.stdout, bytes);
    define(lab, "closed", &shell("cat; echo end", ""));
    let closed = lab
        .verb(&foreground("closed"))
        .stdin_bytes(bytes)
        .run()
        .unwrap();
    assert_eq!(text(&closed.stdout), "end\n");
}

fn signals(lab: &Lab) {
    let traps = "for s in HUP INT QUIT TERM USR1 USR2; do trap \"echo $s; test $s != TERM || exit 9\" $s; done
        touch /ready/$(hostname); while :; do sleep 1000 & wait; done";
    define(
        lab,
        "signals",
        &shell(traps, "volumes = [\"/var/tmp/ready:/ready\"]"),
    );
    let printed = lab.ok("mkdir -p /var/tmp/ready
         wharf start --foreground signals >/var/tmp/printed & pid=$!
         until test -e /var/tmp/ready/signals; do sleep 0.05; done
         for s in HUP INT QUIT USR1 USR2 TERM; do kill -$s $pid; sleep 0.2; done
         status=0; wait $pid || status=$?; cat /var/tmp/printed; echo $status");
    assert_eq!(printed, "HUP\nINT\nQUIT\nUSR1\nUSR2\nTERM\n9");
    // The payload is killed; and wharf itself is, which the next start makes good.
    let printed = lab.ok(
        "rm /var/tmp/ready/signals; wharf start --foreground signals >/dev/null & pid=$!
         until test -e /var/tmp/ready/signals; do sleep 0.05; done
         wharf start --foreground signals 2>&1 || echo $?
         pkill -KILL -P $pid; status=0; wait $pid || status=$?; echo $status",
    );
    let (refusal, statuses) = printed.split_once('\n').unwrap();
    assert!(
        refusal.contains("container 'signals' is running"),
        "{printed}"
    );
    assert_eq!(statuses, "125\n137");
    let printed = lab.ok(
        "rm /var/tmp/ready/signals; wharf start --foreground signals >/dev/null & pid=$!
         until test -e /var/tmp/ready/signals; do sleep 0.05; done
         kill -KILL $pid; wait $pid || true; rm /var/tmp/ready/signals
         wharf start --foreground signals & pid=$!
         until test -e /var/tmp/ready/signals; do sleep 0.05; done
         kill -TERM $pid; wait $pid || echo $?",
    );
    assert_eq!(printed, "TERM\n9");
}

fn terminal(lab: &Lab) {
    let script = "tty; stty size; read -r line; echo \"read $line\"; exit 5";
    define(lab, "tty", &shell(script, "tty = true\nstdin = true"));
    // A terminal of python's making, with a size, whose other side types a line.
    let output = lab.exec(&[
        "python3",
        "-c",
        "
import fcntl, os, struct, sys
master, slave = os.openpty()
pid = os.fork()
if pid == 0:
    os.close(master)
    os.login_tty(slave)
    fcntl.ioctl(0, 0x5414, struct.pack('HHHH', 33, 77, 0, 0))
    os.execvp('wharf', ['wharf', 'start', '--foreground', 'tty'])
os.close(slave)
seen = b''
while True:
    try:
        data = os.read(master, 4096)
    except OSError:
        break
    if not data:
        break
    if seen.count(b'\\n') < 2 <= (seen + data).count(b'\\n'):
        os.write(master, b'typed\\n')
    seen += data
sys.stdout.write(seen.decode().replace('\\r\\n', '\\n'))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
",
    ]);
    assert_eq!(
        (output.status.code(), text(&output.stdout).as_str()),
        (Some(5), "/dev/pts/0\n33 77\ntyped\nread typed\n"),
        "{}",
        output.stderr
    );
}

fn person(lab: &Lab) {
    exit_codes(lab);
    failures(lab);
    streams(lab);
    signals(lab);
    terminal(lab);
    assert_eq!(leftovers(lab), "");
}

#[test]
fn trixie_runs_containers_in_a_shell() {
    let lab = prepare(Suite::Trixie);
    person(&lab);
    use_runtime(&lab, "runc");
    lab.ok("rm -rf /var/tmp/ready /var/lib/wharf/containers");
    person(&lab);
}

#[test]
fn bookworm_runs_containers_in_a_shell() {
    person(&prepare(Suite::Bookworm));
}
