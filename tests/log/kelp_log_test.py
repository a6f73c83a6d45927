#!/usr/bin/env python3
"""Claim: `kelp log` prints what is in a log, the same every time, and says how it went.

Method: a log with one record of many a shape is written (sample.c), printed in every way, and
compared with kelp_log.golden beside this file. `kelp_log_test.py KELP SAMPLE KILL --update` writes that
file anew; the difference is then read by a human. Damage and refusals are checked by exit code.
"""
import json
import os
import subprocess
import sys
import tempfile

kelp, sample, killer = sys.argv[1:4]
golden = os.path.join(os.path.dirname(os.path.abspath(__file__)), "kelp_log.golden")


def run(*arguments):
    done = subprocess.run([kelp, *arguments], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def expect(claim, what):
    if not claim:
        sys.exit(f"kelp_log_test: {what}")


with tempfile.TemporaryDirectory() as top:
    directory = os.path.join(top, "log")
    subprocess.run([sample, directory], check=True, timeout=60)
    told = ""
    for arguments in (["log", "cat"], ["log", "cat", "-o", "json"], ["log", "cat", "--from", "5"],
                      ["log", "info"], ["log", "info", "-o", "json"], ["log", "verify"],
                      ["log", "verify", "-o", "json"]):
        code, out, err = run(*arguments, directory)
        expect(code == 0, f"{arguments}: exit code {code}: {err}")
        told += f"$ kelp {' '.join(arguments)} DIR\n{out}".replace(directory, "DIR")
        if "json" in arguments:
            for line in out.splitlines():
                json.loads(line)
    if sys.argv[4:] == ["--update"]:
        with open(golden, "w", encoding="utf-8") as file:
            file.write(told)
    with open(golden, encoding="utf-8") as file:
        wanted = file.read()
    expect(told == wanted, f"kelp log says something new:\n{told}")

    for arguments, wanted_code in ((["log", "cat", "--from", "100", directory], 1),
                                   (["log", "cat", top], 1),
                                   (["log", "info", os.path.join(top, "nothing")], 1),
                                   (["log", "cat"], 2), (["log"], 2), ([], 2), (["lgo"], 2),
                                   (["log", "cat", "-o", "xml", directory], 2),
                                   (["log", "cat", "--form", "1", directory], 2),
                                   (["--help"], 0), (["--version"], 0), (["log", "--help"], 0),
                                   (["log", "verify", "--help"], 0)):
        code, out, err = run(*arguments)
        expect(code == wanted_code, f"{arguments}: exit code {code}, not {wanted_code}: {out}{err}")
        expect(out != "" if wanted_code == 0 else err != "" or "cat" in arguments,
               f"{arguments}: says nothing")

    # a reader that stops early ends it quietly
    ended = subprocess.run(f"'{kelp}' log cat '{directory}' | head -1", shell=True,
                           capture_output=True, text=True, timeout=60)
    expect(ended.stderr == "", f"a closed pipe is no error: {ended.stderr}")

    # a log under load, whose owner rolls, drops, dies and recovers, is read without a word of damage
    live = os.path.join(top, "live")
    os.mkdir(live)
    looks = 0
    seen = False  # until the first frame is durable there is nothing to show
    with subprocess.Popen([killer, "--rounds", "25", "--directory", live],
                          stdout=subprocess.DEVNULL) as owner:
        while owner.poll() is None:
            for what in ("verify", "info", "cat"):
                code, out, err = run("log", what, live)
                expect(code == 0 or (code == 1 and not seen), f"live {what}: {code}: {err}")
                seen = seen or (what == "cat" and code == 0)
                looks += 1
        expect(owner.returncode == 0, "the owner lost something")
    expect(seen and looks > 10, "nobody looked")

    # damage is named with its place
    segment = os.path.join(directory, "0000000000000001.seg")
    with open(segment, "r+b") as file:
        file.seek(4096 + 40)
        byte = file.read(1)
        file.seek(4096 + 40)
        file.write(bytes([byte[0] ^ 1]))
    for what in ("cat", "verify"):  # info believes the footer
        code, out, err = run("log", what, directory)
        expect(code == 4, f"{what} of a damaged log: exit code {code}")
        expect(f"{segment} at byte 4128" in err, f"{what} does not name the place: {err}")
print("kelp log: ok")
