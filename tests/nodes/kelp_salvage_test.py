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


def salvage(case, side, whole, copy, lost, with_state=True, must_lose=False):
    """Salvage a damaged copy. `lost`: the offset whose frame was damaged; None: a mark. `must_lose`: what is
    damaged was acknowledged, and is nowhere else."""
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
    expect(loses or not must_lose, f"{case}: what is lost is not told: {said}")
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
    code, out, err = run("info", "-o", "json", copy)
    info = json.loads(out)
    position = (info["state"] or {"position": 0})["position"]
    expect(side == "edge" or info["last"] >= position, f"{case}: the state is ahead: {out}{said}")
    filled = side == "cloud" and loses
    for offset, lines in kept.items():
        if filled and offset <= position and '"kind":"barrier"' in lines[0]:
            continue
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
        segment = segments[-1] if case < 12 else rng.choice(segments)
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
        code, out, err = run("info", "-o", "json", copy)
        position = (json.loads(out)["state"] or {"position": 0})["position"]
        gone = missing if what < 2 else {lost or 0}
        salvage(name, "edge", kept, copy, lost, state != "none", max(gone) > position)


def crc32c(crc, data):
    crc ^= 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def lost_truncation(top):
    """A leader's frames replaced some of this follower's, and just the truncation and those are damaged: what
    follows has the index that would come next, but what stands before is not what was agreed upon."""
    copy = os.path.join(top, "copy")
    old, new, bare = (17, 1, b"old payload"), (17, 2, b"new payload"), (4, 0, b"")
    # what is written, what of it is damaged, offsets that may be said to be sound
    for name, written, damaged, sound in (
            ("one index", [(i, old) for i in range(1, 10)] + [(9, (1, 0, b"")), (9, new), (10, new)], (9, 11), 8),
            ("behind", [(i, old) for i in range(1, 10)] +
             [(6, (1, 0, b""))] + [(i, new) for i in range(6, 11)], (9, 12), 5),
            ("all", [(i, old) for i in range(1, 10)] +
             [(6, (1, 0, b""))] + [(i, new) for i in range(6, 10)] + [(10, bare)], (9, 14), 5),
            ("the truncation alone", [(i, old) for i in range(1, 10)] +
             [(6, (1, 0, b""))] + [(i, new) for i in range(6, 11)], (9, 10), 10),
            ("a mark alone", [(i, old) for i in range(1, 10)] + [(10, bare), (10, new), (11, new)], (9, 10), 11),
            ("what is void", [(i, old) for i in range(1, 9)] + [(9, bare), (9, old)] +
             [(8, (1, 0, b""))] + [(i, new) for i in range(8, 11)], (8, 10), 7)):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(os.path.join(top, "cloud"), copy)
        shutil.rmtree(copy + "/state")
        for file in glob.glob(copy + "/log/*.file"):
            os.unlink(file)
        segments = sorted(glob.glob(copy + "/log/*.seg"))
        for path in segments[1:]:
            os.unlink(path)
        with open(segments[0], "r+b") as file:
            data = bytearray(file.read())
            salt = crc32c(crc32c(0, data[16:32]), data[32:40])
            data[4096:] = bytes(len(data) - 4096)
            at, places = 4096, []
            for index, (kind, term, payload) in written:
                head = struct.pack("<IQQBBHI", len(payload), index, term, kind, 0, 1, at)
                frame = struct.pack("<I", crc32c(salt, head + payload)) + head + payload
                frame += bytes(-len(frame) % 8)
                data[at:at + len(frame)] = frame
                places.append(at)
                at += len(frame)
            file.seek(0)
            file.write(data)
        code, out, err = run("verify", copy)
        expect(code == 0, f"lost truncation, {name}: {code} {out}{err}")
        whole = records(copy)
        with open(segments[0], "r+b") as file:
            file.seek(places[damaged[0]])
            file.write(b"\xee" * (places[damaged[1]] - places[damaged[0]]))
        code, said, err = run("salvage", "--yes", "--lose-acknowledged", copy)
        expect(code == 0, f"lost truncation, {name}: {code} {said}{err}")
        expect(("lose    nothing" in said) == (sound == max(whole)), f"lost truncation, {name}: {said}")
        for offset, lines in records(copy).items():
            expect(offset > sound or lines == whole[offset], f"lost truncation, {name}: offset {offset}: {said}")


def full_disk(top):
    """Without room for the new log salvage ends, leaves the damaged one as it is, and nothing beside it."""
    small, copy = os.path.join(top, "small"), os.path.join(top, "small", "edge")
    source = os.path.join(top, "edge")
    used = sum(os.stat(path).st_blocks * 512 for path in glob.glob(source + "/**", recursive=True))
    os.mkdir(small)
    if not root or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={used + 4096}", "tmpfs", small],
                                  capture_output=True).returncode != 0:
        return  # this machine does not allow mounts
    try:
        shutil.copytree(source, copy)
        segment = sorted(glob.glob(copy + "/log/*.seg"))[0]
        with open(segment, "r+b") as file:
            file.seek(frames_of(segment)[0][0] + 8)
            file.write(b"\xee")
        before = listing(copy + "/log")
        code, out, err = run("salvage", "--yes", copy)
        expect(code == 1 and "No space left" in err, f"a full disk: {code} {out}{err}")
        expect(listing(copy + "/log") == before and not glob.glob(copy + "/log.*"),
               f"a full disk: {os.listdir(copy)}")
    finally:
        subprocess.run(["umount", "-l", small], check=True)


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
        lost_truncation(top)
        full_disk(top)
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
