#!/usr/bin/env python3
"""Claim: `kelp log` prints what is in a log, the same every time, and says how it went.

Method: a log with one record of many a shape is written (sample.c), printed in every way, and
compared with kelp_log.golden beside this file. `kelp_log_test.py KELP SAMPLE KILL --update` writes that
file anew; the difference is then read by a human. Selection, damage, refusals, bad input, a reader
that goes away and an owner that rolls, drops and dies are checked by what must hold for each.
"""
import glob
import json
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import tempfile

kelp, sample, killer = sys.argv[1:4]
golden = os.path.join(os.path.dirname(os.path.abspath(__file__)), "kelp_log.golden")
root = os.geteuid() == 0


def run(*arguments, user=None):
    done = subprocess.run([kelp, *arguments], capture_output=True, timeout=120, user=user)
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode()


def expect(claim, what):
    if not claim:
        sys.exit(f"kelp_log_test: {what}")


def records(*arguments, code=0):
    """The records that a command prints, as JSON."""
    got, out, err = run("log", *arguments, "-o", "jsonl")
    expect(got == code, f"{arguments}: exit code {got}, not {code}: {err}")
    return [json.loads(line) for line in out.splitlines()]


def offsets(*arguments, code=0):
    return [record["offset"] for record in records(*arguments, code=code)]


def test_output_is_golden(directory):
    told = ""
    for command in ("ls", "ls -o json", "ls -o jsonl", "info", "info -o json", "cat", "cat -o wide",
                    "cat -o json", "cat -o jsonl", "cat --from 5", "cat --kind object_put -o hex --from 6",
                    "tail -n 2", "stat", "stat -o json", "verify", "verify -o json"):
        code, out, err = run("log", *command.split(), directory)
        expect(code == 0, f"{command}: exit code {code}: {err}")
        told += f"$ kelp log {command} DIR\n{out}{err}".replace(directory, "DIR")
        if " json" in command and " -o jsonl" not in command:
            json.loads(out)
        if "jsonl" in command:
            for line in out.splitlines():
                json.loads(line)
    for command in ("get DIR 3", "get DIR end", "get DIR 6 -o json", "find /configmaps/default/a DIR",
                    "find configmaps/default/settings DIR -o jsonl", "cat -o help", "--help", "cat --help",
                    "tail --help", "find --help", "get --help", "ls --help", "stat --help"):
        code, out, err = run("log", *command.replace("DIR", directory).split())
        expect(code == 0, f"{command}: exit code {code}: {err}")
        told += f"$ kelp log {command}\n{out}{err}".replace(directory, "DIR")
    if sys.argv[4:] == ["--update"]:
        with open(golden, "w", encoding="utf-8") as file:
            file.write(told)
    with open(golden, encoding="utf-8") as file:
        wanted = file.read()
    expect(told == wanted, f"kelp log says something new:\n{told}")
    expect("\x1b" not in told, "what a user named reaches the terminal as it is")


def test_selection(directory):
    everything = [1, 2, 3, 3, 4, 5, 6, 6, 6, 7]
    for arguments, wanted in (
            ((), everything), (("--from", "start", "--to", "end"), everything),
            (("--from", "end"), [7]), (("--from", "-2"), [6, 6, 6, 7]), (("--to", "-6"), [1, 2]),
            (("--from", "3", "--to", "4"), [3, 3, 4]), (("--from", "3", "--until", "4"), [3, 3, 4]),
            (("--from", "2025-11-20T12:00:03Z"), [6, 6, 7]),
            (("--from", "2025-11-20T13:00:03.000+01:00", "--to", "2025-11-20T12:00:04Z"), [6, 6]),
            (("--to", "2025-11-20T12:00"), [3, 3]),
            (("--kind", "object_put"), [3, 3, 6, 6, 7]),
            (("--kind", "down_batch/object_put"), [6, 6]),
            (("--kind", "barrier", "--kind", "frame_99"), [2, 5]),
            (("--not-kind", "object_put"), [1, 2, 4, 5, 6]),
            (("--kind", "object_put", "--not-kind", "down_batch/object_put"), [3, 3, 7]),
            (("--not-kind", "change", "--not-kind", "barrier", "--to", "4"), [3, 3, 4]),
            (("--to", "now"), [3, 3, 6, 6, 6, 7]), (("--to", "today"), [3, 3, 6, 6, 6, 7]),
            (("--from", "2025-11-20T12:00", "--to", "yesterday"), [3, 3, 6, 6, 6, 7]),
            (("--from", "2025-11-20T12:00:03Z", "--to", "00:00:30"), [6, 6, 7]),
            (("--to", "00:00"), [3, 3, 6, 6, 6, 7]), (("--to", "2025-11-20T13:00+01:00"), [3, 3]),
            (("--to", "24:00"), None), (("--to", "18:5"), None), (("--from", "tomorrow"), None),
            (("--not-kind", "object_putt"), None),
            (("--key", "configmaps/default/a"), [6]), (("--key", "/configmaps/*"), [3, 6, 6]),
            (("--ns", "default", "--name", "b"), [6]), (("--node", "edge-1"), [6, 6, 6]),
            (("--op", "ship"), [6]), (("-g", '"kind":"ConfigM[a-b]p"', "--from", "6"), [6, 6, 7]),
            (("--from", "-999999999999999999999"), everything), (("--from", "-36000d"), None)):
        if wanted is None:
            expect(run("log", "cat", *arguments, directory)[0] == 2, f"{arguments}: too long ago")
        else:
            got = offsets("cat", *arguments, directory)
            expect(got == wanted, f"{arguments}: {got}, not {wanted}")
    for arguments, wanted in (
            (("cat", "--name", "nobody"), "10 records were looked at, of offsets 1 to 7"),
            (("cat", "--from", "3", "--to", "4", "--name", "nobody"), "3 records were looked at, of offsets 3 to 4"),
            (("cat", "--from", "100"), "holds offsets 1 to 7"),
            (("tail", "--name", "nobody"), "10 records were looked at, of offsets 1 to 7"),
            (("find", "configmaps/default/a", "--op", "delete"), "that matches; 3 were looked at, of offsets 6 to 6"),
            (("find", "configmaps/default/none"), "no record of /configmaps/default/none in ")):
        code, out, err = run("log", *arguments, directory)
        expect(code == 1 and out == "" and wanted in err and err.count("\n") == 1, f"{arguments}: {code} {out} {err}")
    code, out, err = run("log", "tail", "-n", "0", directory)
    expect(code == 1 and err == "", f"who wants none is told nothing: {err}")
    expect(offsets("cat", "--from", "-10m", directory, code=1) == [], "nothing in the last ten minutes")
    expect(offsets("cat", "--to", "2025-11-20", directory, code=1) == [], "nothing before that midnight")
    expect(offsets("cat", "--from", "100", directory, code=1) == [], "beyond the end")
    expect(offsets("cat", "--from", "99999999999999999999999", directory, code=1) == [], "a huge number")
    expect(offsets("tail", "-n", "1", "--kind", "down_batch", directory) == [6], "the last that is meant")
    expect(offsets("tail", "-n", "0", directory, code=1) == [], "none")


def test_directories(directory, top):
    for command in ("ls", "info", "cat", "verify", "stat"):
        expect(run("log", command, directory)[:2] == run("log", command, top)[:2],
               f"{command}: the data directory and the log directory are the same")


def test_secrets(directory):
    masked = [record for record in records("cat", directory) if record["masked"]]
    expect(len(masked) == 1 and masked[0]["body"]["json"]["data"] == {"password": "<masked>"} and
           masked[0]["body"]["json"]["metadata"]["annotations"] ==
           {"kubectl.kubernetes.io/last-applied-configuration": "<masked>"}, f"masked: {masked}")
    for command in (("cat", "-o", "raw"), ("cat", "-o", "hex"), ("get", "3", "-o", "raw")):
        arguments = (command[0], directory, *command[1:])
        code, out, err = run("log", *arguments)
        expect(code == 5 and "c2VjcmV0" not in out and "offset 3" in err, f"{command}: {code} {err}")
    expect(offsets("cat", "-g", "c2VjcmV0", directory, code=1) == [], "what is masked is not searched")
    if root:
        code, out, err = run("log", "cat", "--show-secrets", "-o", "jsonl", directory)
        expect(code == 0 and "c2VjcmV0" in out, "root may see it")
        for form in ("raw", "hex"):
            done = subprocess.run([kelp, "log", "get", directory, "3", "--show-secrets", "-o", form],
                                  capture_output=True, timeout=60)
            expect(done.returncode == 0 and done.stdout and not done.stderr, f"root may see it as {form}: {done}")
        os.chmod(os.path.dirname(directory), 0o755)
        code, out, err = run("log", "cat", "--show-secrets", directory, user=65534)
        expect(code == 5 and out == "" and "root" in err, f"only root may: {code} {err}")


def test_bad_input(directory, top):
    for arguments, wanted_code in (
            (["log", "cat", top + "/nothing"], 1), (["log", "info", top + "/nothing"], 1),
            (["log", "get", directory, "77"], 1), (["log", "find", "pods/a/b", directory], 1),
            (["log", "find", "\x1b[31m", directory], 1), (["log", "find", "x" * 2000, directory], 2),
            (["log", "find", "", directory], 2), (["log", "cat", "--key", "", directory], 2),
            (["log", "get", directory, "x"], 2), (["log", "get", directory, "2025-11-20"], 2),
            (["log", "cat"], 2), (["log"], 2), ([], 2), (["lgo"], 2), (["log", "cut", directory], 2),
            (["log", "cat", "-o", "xml", directory], 2), (["log", "ls", "-o", "raw", directory], 2),
            (["log", "cat", "--form", "1", directory], 2), (["log", "cat", "-g", "(", directory], 2),
            (["log", "cat", "--kind", "object_putt", directory], 2),
            (["log", "cat", "--kind", "pods/object_put", directory], 2),
            (["log", "cat", "--from", "2025-13-01", directory], 2),
            (["log", "cat", "--from", "2025-02-30", directory], 2),
            (["log", "cat", "--from", "2025-11-20T25:00", directory], 2),
            (["log", "cat", "--from", "10m", directory], 2), (["log", "cat", "--to", "--", directory], 2),
            (["log", "tail", "-n", "-1", directory], 2), (["log", "tail", "-n", "x", directory], 2),
            (["log", "tail", "-f", "--to", "7", directory], 2),
            (["log", "tail", "--timeout", "1s", directory], 2),
            (["log", "tail", "-f", "--timeout", "soon", directory], 2),
            (["log", "cat", "/" * 5000], 1),
            (["--help"], 0), (["--version"], 0), (["log", "--help"], 0), (["log", "verify", "--help"], 0)):
        code, out, err = run(*arguments)
        expect(code == wanted_code, f"{arguments}: exit code {code}, not {wanted_code}: {out}{err}")
        expect((out if wanted_code == 0 else err) != "", f"{arguments}: says nothing")
        expect("\x1b" not in err, f"{arguments}: control characters reach the terminal")
    if root:
        closed = os.path.join(top, "closed")
        os.mkdir(closed, 0o700)
        code, out, err = run("log", "cat", closed, user=65534)
        expect(code == 5 and "may not be read" in err, f"no permission: {code} {err}")


def test_pipe_and_terminal(directory):
    ended = subprocess.run(f"'{kelp}' log cat '{directory}' | head -1", shell=True,
                           capture_output=True, text=True, timeout=60)
    expect(ended.stderr == "", f"a closed pipe is no error: {ended.stderr}")
    ignored = subprocess.run(f"trap '' PIPE; ('{kelp}' log cat '{directory}'; echo $? >&2) | true",
                             shell=True, capture_output=True, text=True, timeout=60)
    expect(ignored.stderr in ("0\n",), f"nor is it where the signal is ignored: {ignored.stderr}")
    full = subprocess.run(f"'{kelp}' log cat '{directory}' >/dev/full", shell=True,
                          capture_output=True, text=True, timeout=60)
    expect(full.returncode == 1 and "cannot be written" in full.stderr, f"a full disk is: {full}")

    def on_terminal(*arguments, **environment):
        ours, theirs = pty.openpty()
        subprocess.run([kelp, "log", "cat", *arguments, directory], stdout=theirs, timeout=60,
                       env={**os.environ, **environment}, check=True)
        os.close(theirs)
        told = b""
        try:
            while piece := os.read(ours, 65536):
                told += piece
        except OSError:
            pass
        os.close(ours)
        return told

    plain = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    os.environ.clear()
    os.environ.update(plain)
    expect(b"\x1b[" in on_terminal(), "a terminal sees colours")
    expect(b"\x1b" not in on_terminal("--no-color"), "not when it does not want them")
    expect(b"\x1b" not in on_terminal(NO_COLOR="1"), "nor when nobody wants them")
    expect("\x1b" not in run("log", "cat", directory)[1], "a file sees none")
    local = subprocess.run([kelp, "log", "cat", "--local", "--from", "7", directory], capture_output=True,
                           text=True, env={**os.environ, "TZ": "XXX-2"}, timeout=60, check=True)
    expect("2025-11-20T14:00:05.000+0200" in local.stdout, f"--local: {local.stdout}")


def test_index(directory, top):
    """The key index answers as reading does, whatever befell it."""
    copy = os.path.join(top, "copy")
    shutil.copytree(directory, copy)
    wanted = run("log", "find", "/configmaps/default/a", copy)[:2]
    files = sorted(glob.glob(copy + "/*.keys"))
    expect(len(files) == 2, f"one index beside each sealed segment: {files}")
    for name in files:
        with open(name, "rb") as file:
            whole = file.read()
        for broken in (b"", whole[:50], whole[:-1], whole + b"\0", whole[:8] + b"\xff" + whole[9:],
                       whole[:20] + bytes([whole[20] ^ 1]) + whole[21:],
                       whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:]):
            with open(name, "wb") as file:
                file.write(broken)
            expect(run("log", "find", "/configmaps/default/a", copy)[:2] == wanted, "a broken index")
            with open(name, "rb") as file:
                expect(file.read() == whole, "it is made again, the same")
    shutil.copy(files[0], files[1])
    expect(run("log", "find", "/configmaps/default/a", copy)[:2] == wanted, "an index of another segment")
    victim = os.path.join(top, "victim")
    for name in (files[0], files[0] + ".tmp"):
        for plant in (lambda place: os.link(victim, place), lambda place: os.symlink(victim, place), os.mkfifo):
            with open(victim, "wb") as file:
                file.write(whole)
            if os.path.exists(files[0]):
                os.unlink(files[0])
            plant(name)
            expect(run("log", "find", "/configmaps/default/a", copy)[:2] == wanted, f"planted: {name}")
            with open(victim, "rb") as file:
                expect(file.read() == whole, f"what a companion points to is not touched: {name}")
            for left in (files[0], files[0] + ".tmp"):
                if os.path.lexists(left):
                    os.unlink(left)
    run("log", "find", "/configmaps/default/a", copy)
    os.truncate(files[0], 1 << 40)
    expect(run("log", "find", "/configmaps/default/a", copy)[:2] == wanted, "one of a terabyte is not read")
    if root:
        os.chown(files[0], 65534, 65534)
        run("log", "find", "/configmaps/default/a", copy)
        expect(os.stat(files[0]).st_uid == 0, "one of somebody else is made anew")
    orphan = copy + "/0000000000000000.keys"
    shutil.copy(files[0], orphan)
    os.unlink(files[0])
    run("log", "find", "/configmaps/default/a", copy)
    expect(not os.path.exists(orphan), "an index without its segment goes")
    last = os.path.join(top, "last")
    shutil.copytree(directory, last, ignore=shutil.ignore_patterns("*.keys"))
    segments = sorted(glob.glob(last + "/*.seg"))
    for path, rest in ((segments[1], None), (segments[2], 4096)):
        with open(path, "r+b") as file: # its seal was written when the power went, what is behind was not
            head = file.read(4096)
            file.seek(rest or -int.from_bytes(head[48:52], "little"), 0 if rest else 2)
            file.write(bytes(os.path.getsize(path) - file.tell()))
    run("log", "find", "/configmaps/default/a", last)
    expect([os.path.basename(name) for name in glob.glob(last + "/*.keys")] == ["0000000000000001.keys"],
           f"an index of what may still change: {os.listdir(last)}")
    if root:
        for name in glob.glob(copy + "/*.keys"):
            os.unlink(name)
        os.chmod(top, 0o755)
        os.chmod(copy, 0o555)
        for name in os.listdir(copy):
            os.chmod(os.path.join(copy, name), 0o444)
        done = subprocess.run([kelp, "log", "find", "/configmaps/default/a", copy], capture_output=True,
                              text=True, user=65534, timeout=60)
        expect((done.returncode, done.stdout) == wanted and "cannot be kept" in done.stderr,
               f"a directory that cannot be written: {done}")


def test_damage(directory, top):
    """Every byte flipped, one at a time, of a part of the log: answered, never a crash."""
    copy = os.path.join(top, "damaged")
    shutil.copytree(directory, copy)
    path = sorted(glob.glob(copy + "/*.seg"))[0]
    with open(path, "rb") as file:
        whole = file.read()
    rng = random.Random(7)
    for at in [0, 8, 16, 4096, 4100] + [rng.randrange(4096, 5040) for _ in range(25)]:
        with open(path, "r+b") as file:
            file.seek(at)
            file.write(bytes([whole[at] ^ 0x55]))
        code, out, err = run("log", "verify", copy)
        expect(code == 4 and path in err, f"byte {at}: {code} {err}")
        for command in ("cat", "info", "ls", "stat", "tail"):
            code, out, err = run("log", command, copy)
            expect(code in (0, 1, 4), f"byte {at}, {command}: exit code {code} {err}")
        with open(path, "wb") as file:
            file.write(whole)
    shutil.rmtree(copy)
    shutil.copytree(directory, copy)
    os.unlink(sorted(glob.glob(copy + "/*.seg"))[1])
    code, out, err = run("log", "verify", copy)
    expect(code == 4 and "missing" in err, f"a missing segment: {code} {err}")
    foreign = os.path.join(top, "foreign")
    os.mkdir(foreign)
    with open(foreign + "/notes.txt", "w", encoding="utf-8") as file:
        file.write("no log")
    code, out, err = run("log", "cat", foreign)
    expect(code == 1 and "no log" in err, f"another directory: {code} {err}")


def test_live(top):
    """A log under load, whose owner rolls, drops, dies and recovers, is read without a word of damage."""
    live = os.path.join(top, "live")
    os.mkdir(live)
    looks = 0
    seen = False  # until the first frame is durable there is nothing to show
    with subprocess.Popen([killer, "--rounds", "25", "--directory", live],
                          stdout=subprocess.DEVNULL) as owner:
        while owner.poll() is None:
            for what in ("verify", "info", "ls", "stat", "cat"):
                code, out, err = run("log", what, live)
                expect(code == 0 or (code == 1 and not seen), f"{what} of a live log: {code}: {err}")
                expect("at byte" not in err, f"{what} of a live log: {err}")
                seen = seen or (what == "cat" and code == 0)
                looks += 1
        expect(owner.returncode == 0, "the owner found nothing lost")
    expect(looks >= 5, "the live log was looked at")


def test_follow(top):
    """-f shows every frame of a log that rolls every few milliseconds, once, in order."""
    rolling = os.path.join(top, "rolling")
    with subprocess.Popen([sample, rolling, "--rolling", "20000"], stdout=subprocess.PIPE,
                          text=True) as owner:
        owner.stdout.readline()  # the first frame is durable
        with subprocess.Popen([kelp, "log", "tail", "-n", "1000000", "-f", "--timeout", "60s", "-o",
                               "jsonl", "--kind", "object_put", rolling], stdout=subprocess.PIPE, text=True) as reader:
            wanted = 1
            for line in reader.stdout:
                record = json.loads(line)
                expect(record["offset"] == wanted, f"{record['offset']} came, not {wanted}")
                if wanted == 20000:
                    break
                wanted += 1
            reader.send_signal(signal.SIGINT)
        expect(wanted == 20000, f"it ended at {wanted}")
        expect(owner.wait() == 0, "the owner")
    expect(len(glob.glob(rolling + "/*.seg")) > 100, "it rolled")
    code, out, err = run("log", "tail", "-f", "-n", "1", "--timeout", "1s", rolling)
    expect(code == 124 and out.count("\n") == 2, f"the time is over: {code} {out} {err}")


def main():
    with tempfile.TemporaryDirectory() as top:
        directory = os.path.join(top, "log")
        subprocess.run([sample, directory], check=True, timeout=60)
        test_output_is_golden(directory)
        test_selection(directory)
        test_directories(directory, top)
        test_secrets(directory)
        test_bad_input(directory, top)
        test_pipe_and_terminal(directory)
        test_index(directory, top)
        test_damage(directory, top)
        test_follow(top)
        test_live(top)


main()
