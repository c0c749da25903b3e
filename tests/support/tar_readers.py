#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares what wharf lists of tar archives with what Python's tarfile and GNU tar list.

Standard input holds records: the length of an archive, the length of wharf's list, whether GNU tar
is asked too (4 bytes each, little-endian), the archive, the list as JSON. A member is
[path, type, size, mode, uid, gid, link, time], names in hexadecimal, time as a floating-point
number. Differences are printed.
"""

import calendar
import io
import json
import re
import struct
import subprocess
import sys
import tarfile
import time

SHOWN_MAX = 20

KINDS = {
    tarfile.REGTYPE: "-",
    tarfile.AREGTYPE: "-",
    tarfile.CONTTYPE: "-",
    tarfile.LNKTYPE: "h",
    tarfile.SYMTYPE: "l",
    tarfile.CHRTYPE: "c",
    tarfile.BLKTYPE: "b",
    tarfile.DIRTYPE: "d",
    tarfile.FIFOTYPE: "p",
}


def name(text):
    """A name without slashes at its end, of which Python leaves none."""
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    return raw.rstrip(b"/").hex()


def link(kind, text):
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    # Only links have a target; the field of other members means nothing.
    return raw.hex() if kind in "hl" else ""


def by_python(archive):
    members = []
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:", encoding="utf-8") as tar:
        for m in tar:
            if m.type == b"V":
                continue
            kind = KINDS.get(m.type, "?")
            members.append([name(m.name), kind, m.size, m.mode & 0o7777, m.uid, m.gid,
                            link(kind, m.linkname), m.mtime])
    return members


QUOTED = r'"((?:[^"\\]|\\.)*)"'
LINE = re.compile(
    rf"(\S)(\S{{9}}) (\S+)/(\S+) +(\d+|\d+, *\d+) (\S+ \d\d:\d\d:\d\d)(\.\d+)? +"
    rf"{QUOTED}(?: (?:->|link to) {QUOTED})?(--Volume Header--)?")
ESCAPES = {"n": 10, "t": 9, "r": 13, "a": 7, "b": 8, "f": 12, "v": 11, "\\": 92, '"': 34}


def unquoted(text):
    def byte(match):
        code = match.group(1)
        value = int(code, 8) if code[0].isdigit() else ESCAPES[code]
        return chr(value)
    return re.sub(r"\\([0-7]{3}|.)", byte, text, flags=re.S).encode("latin-1")


def permissions(text):
    mode = 0
    for place, letter in enumerate(text):
        bit = 0o400 >> place
        if letter in "rwxst":
            mode |= bit
        if letter in "sStT":
            mode |= (0o4000, 0o2000, 0o1000)[place // 3]
    return mode


def by_gnu(archive):
    command = ["tar", "--list", "--verbose", "--numeric-owner", "--full-time", "--utc",
               "--quoting-style=c", "--absolute-names", "--file=-"]
    done = subprocess.run(command, input=archive, capture_output=True, check=False,
                          env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"})
    if done.returncode != 0:
        raise ValueError(f"status {done.returncode}: {done.stderr.decode()}")
    members = []
    for line in done.stdout.decode("latin-1").splitlines():
        match = LINE.fullmatch(line)
        if not match:
            raise ValueError(f"cannot read the line {line!r}")
        kind, mode, uid, gid, size, when, fraction, path, target, label = match.groups()
        if label or kind == "V":
            continue
        kind = "-" if kind == "C" else kind
        seconds = calendar.timegm(time.strptime(when, "%Y-%m-%d %H:%M:%S"))
        # Before 1970 the fraction counts backwards.
        seconds += float(fraction or 0) * (-1 if seconds < 0 else 1)
        size = 0 if kind in "cb" else int(size)
        members.append([name(unquoted(path)), kind, size, permissions(mode), int(uid), int(gid),
                        link(kind, unquoted(target or "")), seconds])
    return members


def differing(found, expected):
    """The first members that differ. Times may: Python's are floating-point numbers."""
    for place in range(max(len(found), len(expected))):
        pair = [members[place] if place < len(members) else None for members in (found, expected)]
        if None in pair or pair[0][:-1] != pair[1][:-1] or abs(pair[0][-1] - pair[1][-1]) > 1e-5:
            return place, *pair
    return None


def compared(reader, what, archive, expected, shown):
    try:
        difference = differing(reader(archive), expected)
    except Exception as error:  # whatever a reader says is a difference
        difference = f"refused: {error!r}"
    if not difference:
        return 0
    if shown < SHOWN_MAX:
        text = archive.rstrip(bytes(1)).hex()
        text = re.sub("(00){20,}", lambda zeros: f"({len(zeros.group()) // 2} zeros)", text)
        print(f"{what}: {difference}\n  archive: {text[:6000]}")
    return 1


def main():
    differences = asked = 0
    while header := sys.stdin.buffer.read(12):
        size, listed, ask_gnu = struct.unpack("<III", header)
        archive = sys.stdin.buffer.read(size)
        expected = json.loads(sys.stdin.buffer.read(listed))
        differences += compared(by_python, "python", archive, expected, differences)
        if ask_gnu:
            asked += 1
            differences += compared(by_gnu, "gnu", archive, expected, differences)
    print(f"{differences} differences, gnu asked {asked} times")
    return min(differences, 1)


sys.exit(main())
