#!/usr/bin/env python3
"""The house rules that a machine can hold.

    tests/tidy.py          check the tree; print one line per breach; exit 1 if there is one
    tests/tidy.py --table  print the table of rooms

Rules: which room may include which (the diamond), which file may include which foreign library,
what may stand at the top level, a map (README.md) in every room that names only files that exist,
no line of machine paths, no pipe into `grep -q`, headers with guards and a comment that says what the thing is.
"""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# room -> rooms it may include
ROOMS = {
    "schemas": {"schemas"},
    "log": {"log", "schemas"},
    "statemachine": {"statemachine", "schemas"},
    "replication": {"replication", "schemas", "log"},
    "nodes": {"nodes", "schemas", "log", "statemachine", "replication"},
    "bench": {"bench", "tests", "nodes", "schemas", "log", "statemachine", "replication"},
    "tests": {"bench", "tests", "nodes", "schemas", "log", "statemachine", "replication"},
}

# foreign header -> files of the house that may include it (tests/ and bench/ may include any)
DOORS = {
    r"flatbuffers/|.*_generated\.h": r"schemas/codec\w*\.(cc|h)",
    r"rocksdb/": r"statemachine/store_rocks\.c",
    r"raft\.h": r"replication/raft_\w+\.[ch]",
    r"wolfssl/": r"nodes/.*_tls\.[ch]",
    r"mosquitto\.h": r"nodes/.*_mqtt\.[ch]",
    r"nghttp2/|protobuf-c/|.*\.pb-c\.h": r"nodes/.*(_cri|cri_\w+)\.[ch]",
    r"http_parser\.h": r"nodes/net/http\w*\.[ch]",
    r"wslay/": r"nodes/net/websocket\w*\.[ch]",
    r"jansson\.h": r"nodes/.*\.[ch]",
    r"yaml\.h": r"nodes/config\w*\.c",
    r"uv\.h": r"(log/\w+_uv\.[ch]|nodes/.*\.[ch])",
}

TOP = {"meson.build", "meson_options.txt", "README.md", "LICENSE", *ROOMS}
# Leaves at the first line that fits: what writes to it then fails, and pipefail makes a "no" of the "yes".
EARLY = re.compile(r"\|\s*grep\s+(-\w+\s+)*-\w*q")
MACHINE = re.compile(r"/home/\w+/")

breaches = []


def breach(path, line, text):
    breaches.append("%s:%d: %s" % (path, line, text))


def files():
    # Of a clone that belongs to somebody else git speaks only when told that this is meant.
    listed = subprocess.run(["git", "-c", "safe.directory=" + ROOT, "ls-files", "-co", "--exclude-standard"],
                            cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        return [f for f in listed.stdout.split("\n") if f and os.path.exists(os.path.join(ROOT, f))]
    return [os.path.relpath(os.path.join(d, f), ROOT) for d, _, fs in os.walk(ROOT) for f in fs]


def check_includes(path, lines):
    room = path.split("/")[0]
    for number, line in enumerate(lines, 1):
        found = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
        if not found:
            continue
        header = found.group(1)
        first = header.split("/")[0]
        if first in ROOMS and "/" in header and first not in ROOMS[room]:
            breach(path, number, "%s/ may not include %s/" % (room, first))
        if room in ("tests", "bench"):
            continue
        for foreign, door in DOORS.items():
            if re.match(foreign, header) and not re.fullmatch(door, path):
                breach(path, number, "%s may enter only by %s" % (header, door))


def check_header(path, lines):
    text = "".join(lines)
    if not text.lstrip().startswith("/*"):
        breach(path, 1, "a header opens with what the thing is")
    guard = "KELP_" + re.sub(r"[^A-Za-z0-9]", "_", path).upper()
    if "#ifndef %s" % guard not in text:
        breach(path, 1, "the include guard is %s" % guard)


def check_map(room, names):
    path = room + "/README.md"
    if path not in names:
        breach(path, 1, "no map at the door")
        return
    inside = {os.path.basename(n) for n in names if n.startswith(room + "/")} | set(
        os.path.basename(n) for n in names)
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            for name in re.findall(r"`([\w./-]+\.(?:c|h|cc|fbs|py|sh|proto))`", line):
                if os.path.basename(name) not in inside:
                    breach(path, number, "the map names %s, which is not there" % name)


def main():
    if "--table" in sys.argv:
        for room, may in ROOMS.items():
            print("%-14s includes %s" % (room, " ".join(sorted(may))))
        return 0
    names = files()
    for name in names:
        first = name.split("/")[0]
        if first not in TOP and not first.startswith("."):
            breach(name, 1, "the top level holds only %s" % " ".join(sorted(TOP)))
        try:
            with open(os.path.join(ROOT, name), encoding="utf-8") as file:
                lines = file.readlines()
        except UnicodeDecodeError:
            continue
        if name.endswith((".c", ".h", ".cc")):
            check_includes(name, lines)
        if name.endswith(".h") and first in ROOMS:
            check_header(name, lines)
        if name.endswith(".sh") or lines[:1] and re.match(r"#!.*sh$", lines[0].rstrip()):
            for number, line in enumerate(lines, 1):
                if EARLY.search(line):
                    breach(name, number, "grep -q at the end of a pipe")
        if name != "tests/tidy.py":
            for number, line in enumerate(lines, 1):
                if MACHINE.search(line):
                    breach(name, number, "a path of one machine")
    for room in ROOMS:
        check_map(room, set(names))
    for line in sorted(set(breaches)):
        print(line)
    print("tidy: %d files, %d breaches" % (len(names), len(breaches)))
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
