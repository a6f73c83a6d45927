#!/usr/bin/env python3
"""Claim: `kelp log why`, `replay` and `diff` tell what really happened, from either end of the link.

Method: the directories of a small story (log_world.c) are looked at in every way and compared with
kelp_look.golden beside this file, those of a story of devices with kelp_look_devices.golden (--update writes both
anew; a human reads the difference). Then with less to go by: without a state, with a state that may not be read, with the front of the log dropped, with records
of one end taken away.

    kelp_look_test.py KELP LOG_WORLD SAMPLE [--update]
"""
import fcntl
import json
import os
import re
import shutil
import subprocess
import socket
import sys
import tempfile
import threading

kelp, world, sample = sys.argv[1:4]
golden = os.path.join(os.path.dirname(os.path.abspath(__file__)), "kelp_look.golden")
CLI = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "nodes", "cli")


def run(*arguments, user=None):
    done = subprocess.run([kelp, "log", *arguments], capture_output=True, text=True, timeout=60, user=user)
    return done.returncode, done.stdout, done.stderr


def expect(claim, what):
    if not claim:
        sys.exit(f"kelp_look_test: {what}")


def listing(directory):
    found = {}
    for where, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(where, name)
            about = os.stat(path)
            found[path] = (about.st_ino, about.st_size, about.st_mtime_ns)
    return found


def test_output_is_golden(top):
    told = ""
    for side in ("cloud", "edge"):
        for command in (("ls", side), ("info", side), ("cat", side), ("why", "pods/default/web", side),
                        ("why", "/pods/default/web", side, "-o", "json"), ("why", "pods/default/late", side),
                        ("why", "pods/default/loose", side), ("why", "pods/default/gone", side),
                        ("why", "configmaps/default/settings", side),
                        ("why", "nodes//edge-1", side), ("why", "pods/default/nobody", side),
                        ("replay", side, "--show", "pods/default/web"),
                        ("replay", side, "--to", "5", "--show", "pods/default/web", "-o", "json"),
                        ("replay", side, "--until", "2025-11-20T12:00:11Z", "--show", "pods/default/web",
                         "-o", "json"),
                        ("replay", side, "--show", "secrets/default/password", "-o", "json"),
                        ("replay", side, "--show", "pods/default/nobody")):
            arguments = [os.path.join(top, word) if word == side else word for word in command]
            code, out, err = run(*arguments)
            told += f"$ kelp log {' '.join(command)}\n{out}{err}=> {code}\n".replace(top + "/", "")
            if "json" in command:
                json.loads(out)
    for command in (("diff", "cloud", "edge"), ("diff", "cloud", "edge", "-o", "json"),
                    ("diff", "edge", "cloud"), ("why", "--help"), ("replay", "--help"), ("diff", "--help"),
                    ("salvage", "--help")):
        arguments = [os.path.join(top, word) if word in ("cloud", "edge") else word for word in command]
        code, out, err = run(*arguments)
        told += f"$ kelp log {' '.join(command)}\n{out}{err}=> {code}\n".replace(top + "/", "")
    # digests of stream ids and owners are of this world alone, the rest is the same every time
    if sys.argv[4:] == ["--update"]:
        with open(golden, "w", encoding="utf-8") as file:
            file.write(told)
    with open(golden, encoding="utf-8") as file:
        expect(told == file.read(), f"kelp log says something new:\n{told}")


def test_devices_are_golden(top):
    """Records of devices are told, and the journey of a wish ends where the device says that it has come."""
    told = ""
    devices = os.path.join(top, "devices")
    subprocess.run([world, devices, "--devices"], check=True, timeout=60)
    for side in ("cloud", "edge"):
        for command in (("why", "devices/default/thermo", side), ("why", "devices/default/idle", side),
                        ("why", "devices/default/heater", side),
                        ("find", "devices/default/thermo", side, "-o", "jsonl"),
                        ("cat", side, "--op", "say", "-o", "jsonl"), ("cat", side, "--kind", "outbox_done", "-o", "jsonl"),
                        ("replay", side, "--show", "devices/default/thermo", "-o", "json")):
            arguments = [os.path.join(devices, word) if word == side else word for word in command]
            code, out, err = run(*arguments)
            told += f"$ kelp log {' '.join(command)}\n{out}{err}=> {code}\n".replace(devices + "/", "")
    golden_devices = golden.replace("kelp_look", "kelp_look_devices")
    if sys.argv[4:] == ["--update"]:
        with open(golden_devices, "w", encoding="utf-8") as file:
            file.write(told)
    with open(golden_devices, encoding="utf-8") as file:
        expect(told == file.read(), f"kelp log says something new of devices:\n{told}")


def test_an_old_state_is_brought_up_to_date(top):
    """What is told of an edge is of the end of its log, however old the state on its disk is."""
    edge = os.path.join(top, "devices", "edge")
    keys = ("devices/default/thermo", "devices/default/heater", "pods/default/web")
    told = [run("why", key, edge) for key in keys]
    for state in ("state.half", None):
        copy = os.path.join(top, "old")
        shutil.copytree(edge, copy)
        shutil.rmtree(copy + "/state")
        if state is not None:
            shutil.copytree(f"{edge}/{state}", copy + "/state")
        before = listing(copy)
        for key, new in zip(keys, told):
            old = run("why", key, copy)
            expect(old == new, f"{state}, {key}: {old} and not {new}")
        expect(listing(copy) == before, "looking at an old state changed something")
        shutil.rmtree(copy)


def open_step(key, directory):
    code, out, err = run("why", key, directory, "-o", "json")
    expect(code == 0, f"why {key}: {code} {err}")
    return json.loads(out)["open"]


def test_nothing_is_touched(top):
    """Looking writes nothing but indexes: the state is the same, file by file, and no lock is left."""
    before = listing(top)
    for side in ("cloud", "edge"):
        directory = os.path.join(top, side)
        for command in (("ls", directory), ("info", directory), ("why", "pods/default/web", directory),
                        ("replay", directory, "--show", "pods/default/web")):
            expect(run(*command)[0] == 0, f"{command}")
    expect(listing(top) == before, "looking changed something")


def test_with_less(top):
    copy = os.path.join(top, "copy")
    for side, open_with, open_without in (("cloud", "", "committed"), ("edge", "reported", "reported")):
        shutil.copytree(os.path.join(top, side), copy)
        expect(open_step("pods/default/web", copy) == open_with, f"{side}: with its state")
        shutil.rmtree(copy + "/state")
        expect(open_step("pods/default/web", copy) == open_without, f"{side}: without a state")
        for broken in ("", "nonsense", "kelp-store 1 toaster 1", "kelp-store 99 cloud 1"):
            os.makedirs(copy + "/state", exist_ok=True)
            with open(copy + "/state/FORMAT", "w", encoding="utf-8") as file:
                file.write(broken)
            expect(open_step("pods/default/web", copy) == open_without, f"{side}: a broken state")
            code, out, err = run("ls", copy)
            expect(code == 0 and "not known" in err, f"{side}: ls with a broken state: {code} {err}")
        shutil.rmtree(copy)


def test_a_running_owner_is_asked(top):
    """What is not on disk yet the running owner knows; one that hangs or talks nonsense costs a second."""
    copy = os.path.join(top, "running")
    for side in ("cloud", "edge"):
        shutil.copytree(os.path.join(top, side), copy)
        shutil.rmtree(copy + "/state")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(copy + "/control")
        listener.listen()

        def serve(text):
            visitor = listener.accept()[0]
            with visitor:
                visitor.sendall(text)

        def ask(key, text):
            server = threading.Thread(target=serve, args=(text,))
            server.start()
            steps = json.loads(run("why", key, copy, "-o", "json")[1])["steps"]
            server.join()
            return {step["step"]: step["answer"] for step in steps}

        known = ask("pods/default/web", b'{"applied":99,"upLast":2,"upAcked":2}')
        if side == "cloud":
            expect(known["committed"] == "done" and known["reported"] == "done", f"cloud: {known}")
            known = ask("pods/default/late", b'{"applied":99}')
            expect(known["committed"] == "done" and known["numbered"] == "done" and
                   known["durable"] == "missing", f"cloud: folded up to what it has applied: {known}")
            known = ask("pods/default/late", b'{"applied":3}')
            expect(known["committed"] == "missing", f"cloud: {known}")
        else:
            expect(known["reported"] == "done", f"edge: {known}")
            known = ask("pods/default/web", b'{"applied":99,"upLast":2,"upAcked":1}')
            expect(known["reported"] == "missing", f"edge: {known}")
            known = ask("configmaps/default/settings", b'{"applied":99}')
            expect(known["applied"] == "done", f"edge: {known}")
            known = ask("configmaps/default/settings", b'{"applied":3}')
            expect(known["applied"] == "unknown", f"edge: {known}")
        for nonsense in (b"", b"[]", b'{"applied":"much"}', b"\xff" * 10000):
            ask("pods/default/web", nonsense)
        code, out, err = run("why", "pods/default/web", copy)  # nobody accepts
        expect(code == 0, f"a hanging owner: {code} {err}")
        listener.close()
        shutil.rmtree(copy)


def test_front_is_gone(top):
    log = os.path.join(top, "sample")
    subprocess.run([sample, log], check=True, timeout=60)
    os.unlink(log + "/0000000000000001.seg")
    code, out, err = run("replay", log, "--show", "configmaps/default/a", "-o", "json")
    row = json.loads(out)
    expect(code == 0 and not row["folded"] and row["wish"]["offset"] == 6 and
           "offsets 1 to 4 are not kept" in err, f"{code} {out} {err}")
    code, out, err = run("replay", log, "--until", "5", "--show", "configmaps/default/a")
    expect(code == 1 and "no row" in err, f"{code} {out} {err}")


def test_difference(top):
    """What is taken from one end is missing, what was never sent is different."""
    cloud, edge = os.path.join(top, "cloud"), os.path.join(top, "edge")
    other = os.path.join(top, "other")
    subprocess.run([world, other], check=True, timeout=60)
    code, out, err = run("diff", cloud, os.path.join(other, "edge"), "-o", "json")
    same = json.loads(out)
    expect(same["down"]["different"] == 0 and same["up"]["different"] == 0, f"the same story: {out}")
    # an edge that has more than the cloud: its log goes on, the cloud's is of another moment
    short = os.path.join(top, "short")
    shutil.copytree(cloud, short)
    segment = short + "/log/0000000000000001.seg"
    with open(segment, "r+b") as file:  # the cloud as it was before the config map: everything behind is zeros
        data = file.read()
        at = 4096
        while int.from_bytes(data[at + 8:at + 16], "little") < 8:
            at += (32 + int.from_bytes(data[at + 4:at + 8], "little") + 7) & ~7
        file.seek(at)
        file.write(b"\0" * (len(data) - at))
    code, out, err = run("diff", short, edge, "-o", "json")
    lost = json.loads(out)
    expect(code == 1 and lost["down"]["different"] == 4 and lost["up"]["missing"] == 2, f"{code} {out}")
    sequences = [record["sequence"] for record in lost["records"] if record["direction"] == "down"]
    expect(sequences == [1, 2, 3, 4], f"each with its place in the stream: {out}")
    # an edge that got nothing lacks what its pods refer to as well, though it was put before them
    early = os.path.join(top, "early")
    shutil.copytree(edge, early)
    segment = early + "/log/0000000000000001.seg"
    with open(segment, "r+b") as file:
        data = file.read()
        at = 4096 + ((32 + int.from_bytes(data[4100:4104], "little") + 7) & ~7)
        file.seek(at)
        file.write(b"\0" * (len(data) - at))
    code, out, err = run("diff", cloud, early, "-o", "json")
    lacking = [record["key"] for record in json.loads(out)["records"] if record["direction"] == "down"]
    expect(code == 1 and "/configmaps/default/settings" in lacking and "/pods/default/web" in lacking and
           len(lacking) == len(set(lacking)), f"by reference, once: {code} {out} {err}")


def test_more(top):
    """What needs no doing is not missing; what a cut-off node must still hear is; a deleted pod is gone."""
    more = os.path.join(top, "more")
    subprocess.run([world, more, "--more"], check=True, timeout=60)
    for side in ("cloud", "edge"):
        code, out, err = run("why", "pods/default/web", os.path.join(more, side), "-o", "json")
        told = json.loads(out)
        steps = {step["step"]: step["answer"] for step in told["steps"]}
        expect(steps["acted"] == "none" and steps["reported"] == ("done" if side == "cloud" else "missing"),
               f"a label is no reason to act: {out}")
    cloud = os.path.join(more, "cloud")
    expect(open_step("configmaps/default/settings", cloud) == "durable", "the node has not heard of the end")
    expect(open_step("pods/default/gone", cloud) != "durable", "the node has heard of this end")
    for key in ("namespaces/shop", "configmaps/shop/prices"):
        told = json.loads(run("why", key, cloud, "-o", "json")[1])
        expect(told["open"] == "" and "deleted at offset 22 by cloudcore-1 for berta" in
               " ".join(step["what"] for step in told["steps"]), f"a namespace is gone in good order: {told}")
    told = json.loads(run("why", "configmaps/default/again", cloud, "-o", "json")[1])
    expect(told["steps"][0]["what"] == "create by cloudcore-1; another one of this name was deleted at offset 26 by "
           "cloudcore-1 for anna", f"who ended the one before is named: {told}")
    segment = more + "/edge/log/0000000000000001.seg"
    with open(segment, "r+b") as file:  # the last frame but three
        data = file.read()
        frames = [4096]
        while int.from_bytes(data[frames[-1] + 4:frames[-1] + 8], "little") != 0:
            frames.append(frames[-1] + ((32 + int.from_bytes(data[frames[-1] + 4:frames[-1] + 8], "little") + 7) & ~7))
        file.seek(frames[-4] + 40)
        file.write(b"damage")
    for command in (("why", "pods/default/web"), ("find", "pods/default/web"), ("why", "pods/default/late")):
        code, out, err = run(*command, os.path.join(more, "edge"))
        expect(code == 4 and err.count("at byte") == 1 and "Nothing is missing" not in out,
               f"{command} of a damaged log: {code} {out} {err}")


def test_bad_input(top):
    edge = os.path.join(top, "edge")
    for arguments, wanted in (
            (("why", "", edge), 2), (("why", "x" * 1500, edge), 2), (("why", "pods/default/web"), 2),
            (("why", "\x1b[31m/\n", edge), 1), (("why", "pods/default/web", top + "/nothing"), 1),
            (("replay", edge), 2), (("replay", edge, "--show", ""), 2),
            (("replay", edge, "--show", "a/b/c", "--until", "soon"), 2),
            (("replay", edge, "--show", "pods/default/web", "--until", "9" * 40), 0),
            (("replay", edge, "--show", "pods/default/web", "--until", "-100"), 1),
            (("cat", edge, "--op", "nonsense"), 2),
            (("why", edge, "pods/default/web"), 0), (("get", "1", edge), 0),
            (("find", "pods/*", edge), 0), (("why", "pod/default/web", edge), 0), (("why", "po/default/web", edge), 0),
            (("why", "no/edge-1", os.path.join(top, "cloud")), 0), (("why", "ns/default", os.path.join(top, "cloud")), 0),
            (("why", "deviceModel/default/x", edge), 1), (("why", "Device/default/thermo", top + "/devices/edge"), 0),
            (("find", "cm/*", edge), 0), (("why", "pods/web", edge), 1),
            (("diff", edge), 2), (("diff", edge, edge), 2), (("diff", top + "/nothing", edge), 1),
            (("salvage",), 2), (("salvage", top + "/nothing"), 1), (("salvage", "--nes", edge), 2)):
        code, out, err = run(*arguments)
        expect(code == wanted, f"{arguments}: exit code {code}, not {wanted}: {out}{err}")
        expect(wanted == 0 or err != "", f"{arguments}: says nothing")
        expect("\x1b" not in out + err, f"{arguments}: control characters reach the terminal")


def test_owner_is_named(top):
    """info says who has the log open and what a restart replays; asking takes no lock."""
    cloud = os.path.join(top, "cloud")
    code, out, err = run("info", cloud)
    expect(code == 0 and "nobody: no process" in out and "a restart replays nothing" in out, f"{code} {out} {err}")
    with open(cloud + "/log/lock", "a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, out, err = run("info", cloud)
        expect(code == 0 and f"process {os.getpid()}, running: " in out, f"{code} {out} {err}")
        told = json.loads(run("info", cloud, "-o", "json")[1])
        expect(told["running"] is True and told["pid"] == os.getpid() and told["state"]["replay"] == 0, f"{told}")
    expect(json.loads(run("info", cloud, "-o", "json")[1])["running"] is False, "it has gone")


def test_unknown_row_has_no_offset(top):
    code, out, err = run("replay", os.path.join(top, "cloud"), "--show", "pods/default/nobody", "-o", "json")
    told = json.loads(out)
    expect(code == 1 and told["offset"] is None and told["wish"] is None and "no row" in err, f"{code} {out} {err}")


def completed(*words):
    """What the completion of bash offers behind these words."""
    script = (f"source {CLI}/completion.bash; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
              "_kelp; printf '%s\\n' \"${COMPREPLY[@]}\"")
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "PATH": os.path.dirname(kelp) + ":" + os.environ["PATH"]})
    expect(done.stderr == "", f"the completion says {done.stderr}")
    return set(done.stdout.split())


def held_to_help(page, group, end, count):
    """The commands of a group have a page of help each; manual page and completion know their flags."""
    with open(os.path.join(CLI, page), encoding="utf-8") as file:
        manual = file.read().replace("\\-", "-")
    out = subprocess.run([kelp, group, "--help"], capture_output=True, text=True, timeout=60).stdout
    commands = re.findall(r"^  (\w+) ", out[:out.index(end)], re.M)
    expect(len(commands) == count, f"commands of {group}: {commands}")
    for command in commands:
        told = subprocess.run([kelp, group, command, "--help"], capture_output=True, text=True, timeout=60)
        expect(told.returncode == 0, f"{group} {command} --help: {told.returncode}")
        expect(f".SS {command}" in manual or f".B {command}" in manual or f".SS kelp {group} {command}" in manual,
               f"the manual lacks {group} {command}")
        flags = set(re.findall(r"--[a-z-]+", told.stdout))
        for flag in flags - {"--help", "--version"}:
            expect(flag in manual, f"the manual lacks {flag} of {group} {command}")
        own = set(re.findall(r"^  (?:-\w, )? *(--[a-z-]+)", told.stdout, re.M))
        missing = own - completed("kelp", group, command, "--")
        expect(not missing, f"the completion of {group} {command} lacks {missing}")
    expect(set(commands) <= completed("kelp", group, "''"), f"the completion of {group} lacks commands")
    rendered = subprocess.run(["man", "--warnings", "-l", os.path.join(CLI, page)],
                              capture_output=True, text=True, timeout=60) if shutil.which("man") else None
    expect(rendered is None or rendered.stderr == "", f"{page} is not well-formed: {rendered}")


def test_help_is_complete():
    """Every command in the help has a page, and the man pages and the completion know all of its flags."""
    held_to_help("kelp-log.1", "log", "'kelp log", 12)
    held_to_help("kelp-cluster.1", "cluster", "Any cloudcore", 11)
    held_to_help("kelp-cluster.1", "token", "'kelp token", 1)


def main():
    with tempfile.TemporaryDirectory() as top:
        subprocess.run([world, top], check=True, timeout=60)
        test_output_is_golden(top)
        test_devices_are_golden(top)
        test_an_old_state_is_brought_up_to_date(top)
        test_nothing_is_touched(top)
        test_with_less(top)
        test_a_running_owner_is_asked(top)
        test_front_is_gone(top)
        test_difference(top)
        test_more(top)
        test_bad_input(top)
        test_owner_is_named(top)
        test_unknown_row_has_no_offset(top)
        test_help_is_complete()


main()
