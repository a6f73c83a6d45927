#!/usr/bin/env python3
"""How fast three replicas agree on records of 256 bytes, beside etcd and NATS JetStream doing the same work.

    bench/run commit [options]                three of our replicas, three members of etcd, three NATS servers
    bench/run commit --alone|--tls|--reads    ours alone, within one program: commit_bench.c

Each side is three processes on this machine, linked over TCP on the loopback, that keep their data below the same
directory, and one client process (load.h) with one connection to the one that leads. For each row and repetition the
sides take turns: W requests of B records under way at any time, for a while. All sides stay up for the whole run, so
each has a past when it is measured.

  kelp          the state machine of a cloudcore: each record a config map, applied to RocksDB   (commit_state.h)
  kelp, counts  the same agreement and log below a state that only counts                        (commit_count.h)
  etcd          KV.Put; for B > 1 one KV.Txn of B puts; over gRPC                                (peer_etcd.c)
  nats          B messages published to a stream of three replicas in files, acknowledged        (peer_nats.c)
  nats, syncs   the same with sync_interval: always, where that version has it

What is told of a side is of its three servers, the client left out: processor time from /proc/PID/stat, calls of fsync
and fdatasync counted by the kernel's tracepoints (perf, as root). Bytes written are those that the disk of the directory
took during a turn, with a sync of its file system at the end, journal and all: so nobody else may write to it.

options:
  --rows BxW,...     batch times requests under way [1x1,1x8,1x64,1x1000,10x1,...,1000x64]
  --sides NAME,...   only these: kelp, counts, etcd, nats, syncs
  --ms N             length of a turn [1000]
  --repeat N         turns of each side for each row [1]
  --directory DIR    where the data is written, so which disk is measured [.]
  -o table|csv|json  [table]
"""
import argparse
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from rows import Figures, document_print, documents_merged, number_text, table_print

ROWS = ["1x1", "1x8", "1x64", "1x1000", "10x1", "10x8", "10x64", "100x1", "100x8", "100x64", "1000x1", "1000x8", "1000x64"]
INSIDE = ("--alone", "--tls", "--reads")  # of commit_bench
WARM = (10, 8, 500)
PATIENCE_S = 60
SERVERS = 3
QUOTA_BYTES = 16 << 30  # of etcd's database: it may not be full before the run is over
TICKS = os.sysconf("SC_CLK_TCK")
SECTOR_BYTES = 512  # of the kernel's counters, whatever the disk's are
SYNCS = "syscalls:sys_enter_fdatasync,syscalls:sys_enter_fsync"
FIGURES = [  # key, figure, better
    ("records_s", "records/s", "more"), ("p50_ms", "p50 ms", "less"), ("p99_ms", "p99 ms", "less"),
    ("cpu_us", "CPU us/record", "less"), ("bytes", "bytes written/record", "less"), ("syncs", "fdatasyncs/record", "less"),
]


class Missing(Exception):
    """Why a side takes no part."""


def ports_free(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


# -- the sides -------------------------------------------------------------------------------------------------


class Side:
    """Three servers. `durable` says what is on the disk when a record is acknowledged."""

    name = durable = client = None

    def __init__(self, build, directory):
        self.build, self.directory = build, os.path.join(directory, self.name.replace(", ", "-"))
        self.processes, self.pids = [], []

    def open(self):
        """Start the servers; Missing when that cannot be."""
        os.mkdir(self.directory)

    def start(self, *command, **more):
        with open(os.path.join(self.directory, "log"), "ab") as log:
            process = subprocess.Popen(command, stderr=log, **{"stdout": log, **more})
        self.processes.append(process)
        self.pids.append(process.pid)
        return process

    def until(self, what, condition):
        """What the condition answers once it is true."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            found = condition()
            if found:
                return found
            if any(process.poll() is not None for process in self.processes):
                raise Missing(f"{self.name}: a server has ended: {self.last_words()}")
            if time.monotonic() > deadline:
                raise Missing(f"{self.name}: no {what} within {PATIENCE_S} s: {self.last_words()}")
            time.sleep(0.05)

    def last_words(self):
        with open(os.path.join(self.directory, "log"), encoding="utf-8", errors="replace") as log:
            return (log.read().strip() or "it said nothing").splitlines()[-1]

    def target(self):
        """The port to send a client to."""
        raise NotImplementedError

    def stop(self):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def ask(self, *words):
        try:
            return subprocess.run([os.path.join(self.build, "bench", self.client), *words], capture_output=True, text=True,
                                  check=False, timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise Missing(f"{self.name}: not answered within {PATIENCE_S} s") from None

    def turn(self, batch, flight, milliseconds):
        """One turn of the client: its figures, and what the servers spent on each record."""
        target, disk = str(self.target()), Disk(self.directory)
        cpu_s = sum(processor_s(pid) for pid in self.pids)
        with Syncs(self.pids) as syncs:
            done = self.ask("--target", target, "--batch", str(batch), "--flight", str(flight), "--ms", str(milliseconds))
        if done.returncode != 0:
            raise Missing(f"{self.name}: {done.stderr.strip() or f'exit code {done.returncode}'}")
        found = json.loads(done.stdout)
        cpu_s = sum(processor_s(pid) for pid in self.pids) - cpu_s
        written = disk.written()
        found["cpu_us"] = cpu_s * 1e6 / found["records"]
        found["bytes"] = None if written is None else written / found["records"]
        found["syncs"] = None if syncs.count is None else syncs.count / found["records"]
        return found


class Kelp(Side):
    name, client, machine = "kelp", "commit_client", "state"
    durable = "the record in the logs of two of three, fdatasync; applied at the leader"
    lines = b""

    def open(self):
        super().open()
        self.group = self.start(os.path.join(self.build, "bench", "commit_group"), "--machine", self.machine,
                                "--directory", self.directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        os.set_blocking(self.group.stdout.fileno(), False)
        about = self.until("replicas", lambda: self.line("pids"))
        self.pids, self.ports = about["pids"], about["ports"]

    def line(self, key):
        """The newest line that has this key."""
        self.lines += self.group.stdout.read() or b""
        found = [json.loads(line) for line in self.lines.splitlines(True) if line.endswith(b"\n")]
        return next((line for line in reversed(found) if key in line), None)

    def target(self):
        return self.ports[self.until("leader", lambda: self.line("leader"))["leader"] - 1]

    def stop(self):
        for group in self.processes:
            group.stdin.close()  # it ends the replicas, and then itself
            group.wait()
        super().stop()


class KelpCounts(Kelp):
    name, machine = "kelp, counts", "count"


class Etcd(Side):
    name, client = "etcd", "peer_etcd"
    durable = "the request in the write-ahead logs of two of three, fdatasync; applied at the leader"

    def open(self):
        if shutil.which("etcd") is None:
            raise Missing("etcd is not installed: left out; `nodes/packages --bench` installs it")
        super().open()
        ports = ports_free(2 * SERVERS)
        self.ports, peers = ports[:SERVERS], [f"http://127.0.0.1:{port}" for port in ports[SERVERS:]]
        cluster = ",".join(f"m{i}={peer}" for i, peer in enumerate(peers))
        for i, (port, peer) in enumerate(zip(self.ports, peers)):
            url = f"http://127.0.0.1:{port}"
            self.start("etcd", "--name", f"m{i}", "--data-dir", os.path.join(self.directory, f"m{i}"),
                       "--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", peer,
                       "--initial-advertise-peer-urls", peer, "--initial-cluster", cluster, "--max-txn-ops", "1000",
                       "--quota-backend-bytes", str(QUOTA_BYTES), "--logger", "zap", "--log-level", "error")

    def status(self, port):
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/v3/maintenance/status", b"{}")
            with urllib.request.urlopen(request, timeout=5) as answer:
                return json.load(answer)
        except OSError:
            return {}

    def leader(self):
        for port in self.ports:
            status = self.status(port)
            if status.get("leader", "0") == status.get("header", {}).get("member_id", ""):
                return port
        return None

    def target(self):
        return self.until("leader", self.leader)


class Nats(Side):
    name, client, sync = "nats", "peer_nats", ""
    durable = "the message in files of two of three, in their page cache: synced every minute or two"

    def open(self):
        if shutil.which("nats-server") is None:
            raise Missing("nats-server is not installed: left out; `nodes/packages --bench` installs it")
        if not os.path.exists(os.path.join(self.build, "bench", self.client)):
            raise Missing("libnats was not there when this was built: nats is left out; `nodes/packages --bench` installs "
                          f"it, `meson setup --reconfigure {self.build}` finds it")
        super().open()
        ports = ports_free(2 * SERVERS)
        self.ports, routes = ports[:SERVERS], ports[SERVERS:]
        configs = [self.config(port, route, routes) for port, route in zip(self.ports, routes)]
        if subprocess.run(["nats-server", "-t", "-c", configs[0]], capture_output=True, check=False).returncode != 0:
            version = subprocess.run(["nats-server", "--version"], capture_output=True, text=True, check=False).stdout
            raise Missing(f"{self.name}: {version.strip()} does not know {self.sync}, and cannot sync each message: left out")
        for config in configs:
            self.start("nats-server", "-c", config)
        for port in self.ports:
            self.until(f"server at port {port}", lambda at=port: socket.socket().connect_ex(("127.0.0.1", at)) == 0)

    def config(self, port, route, routes):
        """The name is the port, by which the client finds who leads."""
        path = os.path.join(self.directory, f"{port}.conf")
        others = ", ".join(f'"nats://127.0.0.1:{other}"' for other in routes)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'server_name: "{port}"\nlisten: "127.0.0.1:{port}"\n'
                       f'jetstream {{ store_dir: "{self.directory}/{port}" {self.sync} }}\n'
                       f'cluster {{ name: bench, listen: "127.0.0.1:{route}", routes: [{others}] }}\n')
        return path

    def target(self):
        return self.ports[0]


class NatsSyncs(Nats):
    name, sync = "nats, syncs", "sync_interval: always"
    durable = "the message in files of two of three, synced"


SIDES = {"kelp": Kelp, "counts": KelpCounts, "etcd": Etcd, "nats": Nats, "syncs": NatsSyncs}


# -- what servers spend ----------------------------------------------------------------------------------------


def processor_s(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        words = stat.read().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / TICKS


class Disk:
    """What the disk below a directory takes, from when this is made.

    Not /proc/PID/io: it counts the folios that were made dirty, and one of a file that was written at once has
    megabytes, so that 300 bytes count as 2 MiB.
    """

    def __init__(self, directory):
        device = os.stat(directory).st_dev
        self.directory, self.path = directory, f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat"
        self.begun = self.total()

    def total(self):
        """Everything that was written to its file system by now has reached it; None for one without a disk of its own."""
        if not os.path.exists(self.path):
            return None
        subprocess.run(["sync", "-f", self.directory], check=True)
        with open(self.path, encoding="utf-8") as stat:
            return int(stat.read().split()[6]) * SECTOR_BYTES

    def written(self):
        return None if self.begun is None else self.total() - self.begun


class Syncs:
    """Counts the calls of fsync and fdatasync of some processes while it is entered: None where perf may not."""

    allowed = None

    def __init__(self, pids):
        self.pids, self.count = pids, None
        if Syncs.allowed is None:
            Syncs.allowed = shutil.which("perf") is not None and subprocess.run(
                ["perf", "stat", "-e", SYNCS, "true"], capture_output=True, check=False).returncode == 0

    def __enter__(self):
        self.process = None
        if Syncs.allowed:
            # Told to count on one pipe, it says on another when it does: nothing is missed.
            heard, told = os.pipe()
            answered, answers = os.pipe()
            self.process = subprocess.Popen(
                ["perf", "stat", "-x", ",", "-D", "-1", "--control", f"fd:{heard},{answers}", "-e", SYNCS, "-p",
                 ",".join(str(pid) for pid in self.pids)], stderr=subprocess.PIPE, text=True, pass_fds=(heard, answers))
            os.write(told, b"enable\n")
            select.select([answered], [], [], PATIENCE_S)
            for descriptor in (heard, told, answered, answers):
                os.close(descriptor)
        return self

    def __exit__(self, *what):
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            counts = [line.split(",")[0] for line in self.process.communicate()[1].splitlines() if "sys_enter" in line]
            if counts and all(count.isdigit() for count in counts):
                self.count = sum(int(count) for count in counts)


# -- the run ---------------------------------------------------------------------------------------------------


def goal(side, beside, figure, batch, flight):
    """The ratio that the project wants of the state machine of a cloudcore; None where it named none."""
    if side != "kelp" or figure != "records/s":
        return None
    if beside is None:
        return None
    if beside == "etcd":
        return 10 if batch * flight >= 1000 else 2 if batch * flight == 1 else None
    return 5 if batch * flight >= 1000 else None


def tell(text):
    sys.stderr.write(text)
    sys.stderr.flush()


def row_measure(sides, batch, flight, options, notes):
    """A list of turns of each side: dicts of figures, None for one that failed."""
    turns = {side.name: [] for side in sides}
    for _ in range(options.repeat):
        for side in sides:
            try:
                turns[side.name].append(side.turn(batch, flight, options.ms))
            except Missing as missing:
                turns[side.name].append(None)
                notes.setdefault((side.name, batch, flight), str(missing))
    return turns


def note_of(key, mine, pair, row, notes):
    """Why there is no figure; beside the count of syncs, what was durable."""
    failed = [notes[side.name, *row] for side in pair if (side.name, *row) in notes]
    if failed:
        return failed[0]
    if key == "syncs":
        durable = "; ".join(f"{side.name}: {side.durable}" for side in pair)
        return durable if Syncs.allowed else f"not counted: that takes perf, as root. {durable}"
    if key == "bytes" and mine[key] is None:
        return "not counted: this file system has no disk of its own"
    return None


def figures_collect(figures, row, turns, sides, notes):
    """A row of the document for each figure of ours and each peer."""
    batch, flight = row
    peers = [side for side in sides if not isinstance(side, Kelp)]
    for ours in (side for side in sides if isinstance(side, Kelp)):
        for pair in [[ours, peer] for peer in peers] or [[ours]]:
            beside = pair[1].name if len(pair) == 2 else None
            for key, figure, better in FIGURES:
                for mine, theirs in zip(turns[ours.name], turns[pair[-1].name]):
                    figures.add(f"{ours.name}: {batch} x {flight}", figure, mine and mine[key], better, beside,
                                theirs and theirs[key] if beside else None, goal(ours.name, beside, figure, batch, flight),
                                "ratio", note_of(key, mine, pair, row, notes))


def middle(turns, key):
    values = sorted(turn[key] for turn in turns if turn is not None and turn[key] is not None)
    return values[len(values) // 2] if values else None


def table_show(measured, sides, missing):
    """One line for each side of each row."""
    lines = [["batch x W", "side"] + [figure for _, figure, _ in FIGURES]]
    for (batch, flight), turns in measured.items():
        for number, (name, made) in enumerate(turns.items()):
            cells = [number_text(middle(made, key)) for key, _, _ in FIGURES]
            lines.append([f"{batch} x {flight}" if number == 0 else "", name, *cells])
    table_print(lines, 2)
    print("\non the disk when a record is acknowledged:")
    for side in sides:
        print(f"  {side.name:13} {side.durable}")
    for why in missing:
        print(f"  {why}")


def options_read():
    parser = argparse.ArgumentParser(prog="bench/run commit", usage=argparse.SUPPRESS, description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter, add_help=False)
    parser.add_argument("build")
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--ms", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--directory", default=".")
    parser.add_argument("-o", "--output", choices=("table", "csv", "json"), default="table")
    parser.add_argument("-h", "--help", action="store_true")
    options = parser.parse_args()
    if options.help:
        print(__doc__)
        sys.exit(0)
    try:
        options.rows = [tuple(int(number) for number in row.split("x")) for row in options.rows.split(",")]
        options.sides = [SIDES[name] for name in options.sides.split(",")]
        if any(len(row) != 2 for row in options.rows):
            raise ValueError("a row is BxW")
    except (KeyError, ValueError) as error:
        parser.error(f"--rows or --sides: {error}")
    return options


def inside(build, words):
    """Ours alone, within one program, which knows no repetitions."""
    repeat = 1
    if "--repeat" in words:
        at = words.index("--repeat")
        repeat, words = int(words[at + 1]), words[:at] + words[at + 2:]
    command = [os.path.join(build, "bench", "commit_bench"), *(word for word in words if word != "--alone")]
    if repeat == 1:
        os.execv(command[0], command)
    if "json" not in words:
        raise SystemExit("bench/run commit: with --repeat only medians are told: add -o json, or -o csv")
    runs = []
    for _ in range(repeat):
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        if done.returncode != 0:
            raise SystemExit(done.returncode)  # it has said why
        runs.append(json.loads(done.stdout))
    document_print(documents_merged(runs), "json")


def main():
    if set(INSIDE) & set(sys.argv):
        inside(sys.argv[1], sys.argv[2:])
        return
    options = options_read()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory = tempfile.mkdtemp(prefix="kelp-commit.", dir=options.directory)
    sides, missing, measured, notes = [], {}, {}, {}
    try:
        for side in [make(options.build, directory) for make in options.sides]:
            sides.append(side)
            try:
                side.open()
                side.turn(*WARM)  # it has a leader, and made what is made once: files, connections
            except Missing as why:
                sides.pop().stop()
                missing[side.name] = str(why)
                tell(f"bench/run commit: {why}\n")
        for number, (batch, flight) in enumerate(options.rows, 1):
            tell(f"[{number}/{len(options.rows)}] {batch} x {flight} ... ")
            measured[batch, flight] = row_measure(sides, batch, flight, options, notes)
            rates = [f"{name} {number_text(middle(made, 'records_s'))}" for name, made in measured[batch, flight].items()]
            tell(", ".join(rates) + " records/s\n")
    finally:
        for side in sides:
            side.stop()
        shutil.rmtree(directory, ignore_errors=True)
    if options.output == "table":
        table_show(measured, sides, [*missing.values(), *notes.values()])
        return
    figures = Figures("commit")
    for row, turns in measured.items():
        figures_collect(figures, row, turns, sides, notes)
    for name, why in missing.items():
        figures.add(name, "left out", None, note=why)
    document_print(figures.document(), options.output)


main()
