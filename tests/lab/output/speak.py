# SPDX-License-Identifier: Apache-2.0
"""A payload that tells systemd all it should not be told, and a few things it may."""
import os
import socket
import time

sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sock.connect(os.environ["NOTIFY_SOCKET"])


def say(message, *fds):
    socket.send_fds(sock, [message], list(fds))


say(b"MAINPID=1")
say(b"STATUS=a\nMAINPID=1\nX=")
say(b"FDSTORE=1\nFDNAME=mine", os.open("/dev/null", os.O_RDONLY))
say(b"FDSTOREREMOVE=1\nFDNAME=stdout")
say(b"x" * 100000)
say(b"STATUS=\xff\xfe")
say(b"\0\0\n\n=\n")
say(b"STATUS=hello \x1b[2J world\nREADY=1")
hang_up, barrier = os.pipe()
say(b"BARRIER=1", barrier)
os.close(barrier)
assert os.read(hang_up, 1) == b""
print("barrier answered", flush=True)
time.sleep(100)
