#!/usr/bin/env python3
"""Claim: `kelp log salvage` destroys nothing, keeps all that is sound, and never lets an owner go on as if
nothing had happened where acknowledged records are lost.

Method: every frame of the log of a cloudcore and of an edge (log_world.c) is damaged in turn, with the
state beside it and without. What salvage says is held to what it does: frames by their bytes, and an edge
is started on the result as edgecore starts.

    kelp_salvage_test.py KELP LOG_WORLD
"""
import fcntl
import glob
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile

kelp, world = sys.argv[1:3]
root = os.geteuid() == 0


def run(*arguments):
    done = subprocess.run([kelp, "log", *arguments], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def expect(claim, what):
    if not claim:
        sys.exit(f"kelp_salvage_test: {what}")


def frames_of(path):
    """(byte, type, index) of each frame, as log/segment.h has them."""
    with open(path, "rb") as file:
        data = file.read()
    frames, at = [], 4096
    while data[at + 24] != 0:
        size, = struct.unpack_from("<I", data, at + 4)
        frames.append((at, data[at + 24], struct.unpack_from("<Q", data, at + 8)[0]))
        at += (32 + size + 7) & ~7
    return frames


def records(directory):
    code, out, err = run("cat", "-o", "jsonl", directory)
    expect(code in (0, 1), f"cat: {code} {err}")
    found = {}
    for line in out.splitlines():
        record = json.loads(line)
        found.setdefault(record["offset"], []).append(line)
    return found


def listing(directory):
    return {name: open(os.path.join(directory, name), "rb").read() for name in sorted(os.listdir(directory))
            if name.endswith(".seg") or name == "meta"}


def salvage(case, side, whole, copy, lost, with_state=True):
    """Salvage a damaged copy. `lost`: the offset whose frame was damaged; None: a mark."""
    log = copy + "/log"
    before = listing(log)
    code, said, err = run("salvage", copy)
    expect(code == 5 and "keep" in said and "lose" in said, f"{case}: {code} {said}{err}")
    expect(listing(log) == before, f"{case}: without --yes something was changed")
    loses = "acknowledged" in said
    refused = "refused" in err
    # a cloudcore's log may begin behind its snapshot, which is of offset 10: up to there it is history
    if side == "cloud" and with_state and lost is not None:
        expect(loses == (lost > 10), f"{case}: {said}")
    expect(not (side == "cloud" and loses and not refused), f"{case}: a cloudcore loses what it acknowledged")
    code, out, err = run("salvage", "--yes", copy)
    if refused:
        expect(code == 5 and listing(log) == before, f"{case}: refused, and yet: {code} {out}{err}")
        expect(side == "edge" or "others" in said + err, f"{case}: the cure is not named: {said}{err}")
        if "term and vote" in err:
            return
        code, out, err = run("salvage", "--yes", "--lose-acknowledged", copy)
        if side == "edge":
            expect(code == 5, f"{case}: {code} {out}{err}")
            return
    expect(code == 0 and "done" in out, f"{case}: {code} {out}{err}")

    aside = glob.glob(copy + "/log.damaged-*")
    for name in glob.glob(aside[0] + "/*.file"):
        with open(name, "rb") as one, open(log + "/" + os.path.basename(name), "rb") as other:
            expect(one.read() == other.read(), f"{case}: {name} is not kept")
    expect(len(aside) == 1 and listing(aside[0]) == before, f"{case}: the damaged log is not as it was")
    expect(not os.path.exists(log + ".salvage"), f"{case}: something was left over")
    code, out, err = run("verify", copy)
    expect(code == 0, f"{case}: the new log is not sound: {err}")
    kept = records(copy)
    for offset, lines in kept.items():
        if offset in whole and offset != lost:
            expect(lines == whole[offset], f"{case}: offset {offset} is not what it was")
        else:
            expect(side == "edge" and loses and "stream_init" in lines[0], f"{case}: {lines} was made up")
    missing = sorted(set(whole) - set(kept) - {lost})
    if not loses:
        expect(not missing or "history" in said, f"{case}: {missing} are missing, and nobody said so: {said}")
    if side == "edge":
        done = subprocess.run([world, "--start", copy], capture_output=True, text=True, timeout=60)
        expect(done.returncode == 0, f"{case}: edgecore would not start: {done.stdout}\n{said}")
        fresh = "up_stream=new down_stream=none" in done.stdout
        expect(fresh == loses, f"{case}: {done.stdout}{said}")
        expect("offset" not in done.stdout, f"{case}: a record was refused: {done.stdout}")
    again, out, err = run("salvage", copy)
    expect(again == 1 and "nothing is damaged" in out, f"{case}: {again} {out}{err}")


def many_segments(top):
    """A log of several segments: frames, headers and whole files are damaged, with a state that has all
    of it, half of it, none of it."""
    long, copy = os.path.join(top, "long"), os.path.join(top, "copy")
    subprocess.run([world, long, "200"], check=True, timeout=60)
    whole = records(long + "/edge")
    segments = [path for path in sorted(glob.glob(long + "/edge/log/*.seg")) if frames_of(path)]
    expect(len(segments) > 4, f"segments: {segments}")
    rng = random.Random(11)
    for case in range(36):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(long + "/edge", copy)
        state = ("all", "half", "none")[case % 3]
        if state != "all":
            shutil.rmtree(copy + "/state")
        if state == "half":
            os.rename(copy + "/state.half", copy + "/state")
        shutil.rmtree(copy + "/state.half", ignore_errors=True)
        segment = rng.choice(segments)
        damaged = copy + "/log/" + os.path.basename(segment)
        lost = None
        what = case // 3 % 4
        if what == 0:
            os.unlink(damaged)
        elif what == 1:
            with open(damaged, "r+b") as file:
                file.write(b"\xee" * 64)
        else:
            at, kind, index = rng.choice(frames_of(segment))
            lost = index if kind >= 16 else None
            with open(damaged, "r+b") as file:
                file.seek(at + 8)
                file.write(b"\xee")
        name = f"case {case}: {('file', 'header', 'frame', 'frame')[what]} of {damaged}, state {state}"
        code, out, err = run("verify", copy)
        if code == 0:
            continue  # the last mark, or the oldest segment as if it had been dropped
        missing = {index for _, kind, index in frames_of(segment) if kind >= 16}
        kept = {offset: lines for offset, lines in whole.items() if what > 1 or offset not in missing}
        salvage(name, "edge", kept, copy, lost, state != "none")


def main():
    with tempfile.TemporaryDirectory() as top:
        subprocess.run([world, top], check=True, timeout=60)
        copy = os.path.join(top, "copy")
        cases = 0
        for side in ("edge", "cloud"):
            source = os.path.join(top, side)
            segment = sorted(glob.glob(source + "/log/*.seg"))[0]
            whole = records(source)
            for state in (True, False):
                for at, kind, index in frames_of(segment):
                    shutil.rmtree(copy, ignore_errors=True)
                    shutil.copytree(source, copy)
                    if not state:
                        shutil.rmtree(copy + "/state")
                    with open(copy + "/log/" + os.path.basename(segment), "r+b") as file:
                        file.seek(at + 8)
                        file.write(b"\xee")
                    case = f"{side}, frame at {at} (type {kind}, index {index}), state {state}"
                    code, out, err = run("verify", copy)
                    if code == 0:
                        expect(kind == 4, f"{case}: not seen")  # the last mark: as if torn
                        continue
                    salvage(case, side, whole, copy, index if kind >= 16 else None, state)
                    cases += 1
            # meta: an edge can do without, a cloudcore would forget its vote
            shutil.rmtree(copy)
            shutil.copytree(source, copy)
            with open(copy + "/log/meta", "r+b") as file:
                file.write(b"\0" * 8192)
            salvage(f"{side}, meta", side, whole, copy, None)
            cases += 1
        expect(cases > 40, f"only {cases} cases")

        many_segments(top)
        code, out, err = run("salvage", os.path.join(top, "edge"))
        expect(code == 1 and "nothing is damaged" in out, f"a sound log: {code} {out}{err}")
        shutil.rmtree(copy)
        shutil.copytree(os.path.join(top, "edge"), copy)
        at = frames_of(sorted(glob.glob(copy + "/log/*.seg"))[0])[0][0]
        with open(sorted(glob.glob(copy + "/log/*.seg"))[0], "r+b") as file:
            file.seek(at + 8)
            file.write(b"\xee")
        with open(copy + "/log/lock", "r+b") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            code, out, err = run("salvage", "--yes", copy)
            expect(code == 5 and "running" in err, f"a live owner: {code} {out}{err}")
            expect(not glob.glob(copy + "/log.*"), "a live owner's directory was touched")


main()
