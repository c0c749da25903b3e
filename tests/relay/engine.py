#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Hands a payload over to wharf-relay as `wharf start --foreground` does, without a container.

usage: engine.py [--console] [--notify] NAME COMMAND…

The payload is an orphan adopted by systemd, not a child of the relay, and systemd's main process.
Runs as ExecStart= of a Type=notify unit that is called NAME.service.
"""
import os
import socket
import sys

options = [word for word in sys.argv[1:] if word.startswith("--")]
name, *command = sys.argv[1 + len(options) :]
run = f"/run/relay-test/{name}"
os.makedirs(run, exist_ok=True)
manager = os.environ.pop("NOTIFY_SOCKET")


def notify(message, fds=()):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(manager.replace("@", "\0", 1))
        socket.send_fds(sock, [message.encode()], list(fds))


def make_fifo(stream):
    path = f"{run}/{stream}"
    if not os.path.exists(path):
        os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)


arguments = ["wharf-relay", "--unit", f"{name}.service", "--identifier", name]
handed = {}
if "--console" in options:
    handed["--console"], slave = os.openpty()
    outputs = [slave, slave]
else:
    handed["--stdout"], handed["--stderr"] = make_fifo("stdout"), make_fifo("stderr")
    for stream in ("stdout", "stderr"):
        notify(f"FDSTORE=1\nFDPOLL=0\nFDNAME={stream}\n", [handed[f"--{stream}"]])
    outputs = [os.open(f"{run}/{stream}", os.O_WRONLY) for stream in ("stdout", "stderr")]
if "--notify" in options:
    inside = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if os.path.exists(f"{run}/notify"):
        os.unlink(f"{run}/notify")
    inside.bind(f"{run}/notify")
    handed["--notify"] = inside.fileno()
    arguments += ["--manager", manager]
    os.environ["NOTIFY_SOCKET"] = f"{run}/notify"

told, tell = os.pipe()
started, start = os.pipe()
if os.fork() == 0:
    if (pid := os.fork()) != 0:
        os.write(tell, str(pid).encode())
        os._exit(0)
    os.setsid()
    os.close(start)
    os.read(started, 1)
    os.dup2(outputs[0], 1)
    os.dup2(outputs[1], 2)
    os.execvp(command[0], command)
os.wait()
main = int(os.read(told, 20))
handed["--main"] = os.pidfd_open(main)
notify(f"MAINPID={main}")
if "--notify" not in options:
    notify("READY=1")
for option, fd in handed.items():
    os.set_inheritable(fd, True)
    arguments += [option, str(fd)]
os.write(start, b"x")
os.execve("/usr/libexec/wharf/wharf-relay", arguments, {})
