#!/usr/bin/env python3
"""How many edges a cluster of three holds, what each costs, and how soon they are elsewhere when one dies.

    fleet_bench.py BUILD [--edges N,N...] [--repeat N] [--idle S] [-o table|csv|json]

  1. three real cloudcores; light edges (tests/fleet), up to 15,000 in a process; each joins once, which
     registers its node, and leaves
  2. the cloudcores are started again, and a few edges come and go, so that what is made once is made: what
     they hold now is no session (base)
  3. all edges join at once; then they are idle for S seconds, and say that they live every ten
  4. a follower is killed with SIGKILL; its edges go to the other two

Everything is on this machine, edges too, so joins per second are bounded by both: the processor time that a
join took is told apart. Bytes are those of the loopback device, headers and acknowledgements included, less
what the cloudcores say among themselves (measured in 2); they need a network namespace, without which the
column is empty. Memory is what no file backs, grown since 2, over all three cloudcores.
"""
import argparse
import csv
import os
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "fleet"))
from cluster import Cluster, Failed, Fleet, process_cpu, process_memory, until  # noqa: E402
from rows import Figures, document_print  # noqa: E402

FLEET_EDGES = 15000  # of one process: it may not open more than 20,000 files on many machines
WARM_EDGES = 60
PATIENCE_S = 900
SETTLE_S = 2

GOAL_STORM_S = 5  # of 10,000 edges, until those of the cloudcore that died are elsewhere
FIGURES = [  # key, figure, better
    ("join_rate", "joins/s", "more"),
    ("join_cloud_ms", "CPU ms/join", "less"),
    ("join_edge_ms", "CPU ms/join, edge", "less"),
    ("session_kb", "KiB/session", "less"),
    ("edge_kb", "KiB/session, edge", "less"),
    ("idle_bytes", "idle B/node/s", "less"),
    ("idle_cpu", "idle CPU %", "less"),
    ("storm_s", "storm, all back s", "less"),
    ("storm_p50_s", "storm p50 s", "less"),
    ("storm_p99_s", "storm p99 s", "less"),
    ("disturbed", "others lost", "less"),
]
COLUMNS = [  # key, heading, digits
    ("edges", "edges", 0),
    ("join_rate", "joins/s", 0),
    ("join_cloud_ms", "CPU ms/join cloud", 2),
    ("join_edge_ms", "edge", 2),
    ("session_kb", "KiB/session cloud", 1),
    ("edge_kb", "edge", 1),
    ("idle_bytes", "idle B/node/s", 1),
    ("idle_cpu", "idle CPU % cloud", 1),
    ("idle_machine", "machine idle %", 0),
    ("moved", "storm: moved", 0),
    ("storm_s", "all back s", 2),
    ("storm_p50_s", "p50 s", 2),
    ("storm_p99_s", "p99 s", 2),
    ("storm_vain", "in vain", 0),
    ("disturbed", "others lost", 0),
]


class Fleets:
    """All edges of a row, in as many processes as it takes."""

    def __init__(self, cluster, count):
        self.count = count
        self.fleets = [Fleet(cluster, min(FLEET_EDGES, count - first), first + 1)
                       for first in range(0, count, FLEET_EDGES)]
        for fleet in self.fleets:
            fleet.prepared()

    def __enter__(self):
        return self

    def __exit__(self, *what):
        for fleet in self.fleets:
            fleet.__exit__(*what)

    def ask(self, command):
        for fleet in self.fleets:
            fleet.say(command)
        return [fleet.hear() for fleet in self.fleets]

    def sum(self, key):
        return sum(report[key] for report in self.ask("report"))

    def pids(self):
        return [fleet.process.pid for fleet in self.fleets]

    def wait_active(self, count):
        until(PATIENCE_S, f"{count} edges are active", lambda: self.sum("active") == count)


def memory(pids):
    return sum(process_memory(pid)[0] for pid in pids)


def cpu(pids):
    return sum(process_cpu(pid) for pid in pids)


def machine_times():
    with open("/proc/stat") as stat:
        words = [int(word) for word in stat.readline().split()[1:]]
    return words[3], sum(words[:8])


def loopback_bytes():
    """Bytes sent over lo, None when others use it too."""
    if not os.environ.get("KELP_BENCH_NAMESPACE"):
        return None
    with open("/proc/net/dev") as devices:
        for line in devices:
            if line.strip().startswith("lo:"):
                return int(line.split()[9])
    return None


def bytes_per_second(seconds):
    before = loopback_bytes()
    time.sleep(seconds)
    return None if before is None else (loopback_bytes() - before) / seconds


def warm_up(cluster):
    with Fleet(cluster, WARM_EDGES, prefix="warm") as fleet:
        fleet.prepared()
        fleet.ask("join 0")
        until(PATIENCE_S, "the first edges join", lambda: fleet.report()["active"] == WARM_EDGES)
        fleet.ask("stop")
        until(PATIENCE_S, "they leave", lambda: fleet.report()["active"] == 0)


def measure_join(cluster, fleets, row, edges_base):
    clouds = [cluster.pid(n) for n in cluster.processes]
    base = memory(clouds), edges_base
    spent = cpu(clouds), cpu(fleets.pids())
    begun = time.monotonic()
    fleets.ask("join 0")
    fleets.wait_active(fleets.count)
    row["join_rate"] = fleets.count / (time.monotonic() - begun)
    row["join_cloud_ms"] = (cpu(clouds) - spent[0]) / fleets.count * 1e3
    row["join_edge_ms"] = (cpu(fleets.pids()) - spent[1]) / fleets.count * 1e3
    time.sleep(SETTLE_S)
    row["session_kb"] = (memory(clouds) - base[0]) / fleets.count / 1024
    row["edge_kb"] = (memory(fleets.pids()) - base[1]) / fleets.count / 1024


def measure_idle(cluster, fleets, row, seconds, among):
    clouds = [cluster.pid(n) for n in cluster.processes]
    spent, (idle, total) = cpu(clouds), machine_times()
    rate = bytes_per_second(seconds)
    row["idle_cpu"] = (cpu(clouds) - spent) / seconds * 100
    now_idle, now_total = machine_times()
    row["idle_machine"] = (now_idle - idle) / max(1, now_total - total) * 100
    row["idle_bytes"] = None if rate is None else (rate - among) / fleets.count


def measure_storm(cluster, fleets, row):
    victim = next(n for n in sorted(cluster.processes) if n != cluster.leader())
    row["moved"] = cluster.status(victim)["sessions"]
    vain, losses = fleets.sum("dialsFailed") + fleets.sum("byes"), fleets.sum("losses")
    fleets.ask("mark")
    begun = time.monotonic()
    cluster.kill(victim)
    until(PATIENCE_S, "the edges notice", lambda: fleets.sum("losses") - losses >= row["moved"])
    fleets.wait_active(fleets.count)
    row["storm_s"] = time.monotonic() - begun
    reports = fleets.ask("report")
    row["storm_p50_s"] = max(report["waitP50"] for report in reports) / 1e3
    row["storm_p99_s"] = max(report["waitP99"] for report in reports) / 1e3
    row["storm_vain"] = fleets.sum("dialsFailed") + fleets.sum("byes") - vain
    row["disturbed"] = fleets.sum("losses") - losses - row["moved"]


def measure(build, count, idle_s):
    row = {"edges": count}
    with Cluster(build, "logging: { level: warn }") as cluster:
        cluster.start_all()
        with Fleets(cluster, count) as fleets:
            edges_base = memory(fleets.pids())
            fleets.ask("join 0")
            fleets.wait_active(count)
            fleets.ask("stop")
            fleets.wait_active(0)
            cluster.end_all()
            cluster.start_all()
            warm_up(cluster)
            time.sleep(SETTLE_S)
            among = bytes_per_second(SETTLE_S * 2)
            measure_join(cluster, fleets, row, edges_base)
            measure_idle(cluster, fleets, row, idle_s, among)
            if count <= 2 * 32768:  # LIMIT_SESSIONS of each that is left
                measure_storm(cluster, fleets, row)
            row["wrong"] = fleets.sum("wrong")
            if row["wrong"]:
                raise Failed(fleets.ask("report")[0]["firstWrong"])
    return row


def merge(rows):
    """Medians over repetitions, and for each figure how far they lay apart."""
    merged = {}
    for key, _, _ in COLUMNS:
        values = [row[key] for row in rows if row.get(key) is not None]
        merged[key] = statistics.median(values) if values else None
        merged[key + "_spread"] = max(values) - min(values) if values else None
    return merged


def document(found):
    """All repetitions of each size in the shape of all benches."""
    figures = Figures("fleet")
    for size, rows in found.items():
        for row in rows:
            for key, figure, better in FIGURES:
                goal = {"disturbed": 0, "storm_s": GOAL_STORM_S if size == 10000 else None}.get(key)
                note = "needs a network namespace (root)" if key == "idle_bytes" and row.get(key) is None else None
                figures.add(f"{size} edges", figure, row.get(key), better, goal=goal, note=note)
    return figures.document()


def show(rows, form):
    if form == "csv":
        writer = csv.DictWriter(sys.stdout, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        return
    for key, heading, digits in COLUMNS:  # one row per figure: there are more of them than sizes of fleets
        cells = []
        for row in rows:
            value, spread = row[key], row[key + "_spread"]
            cells.append("-" if value is None else
                         f"{value:,.{digits}f}" + (f" ±{spread / 2:,.{digits}f}" if spread else ""))
        print(f"{heading:20}" + "".join(f"{cell:>18}" for cell in cells))


def main():
    words = argparse.ArgumentParser(prog="bench/run fleet", description=__doc__.split("\n")[0])
    words.add_argument("build")
    words.add_argument("--edges", default="1000,10000", help="sizes of fleets [1000,10000]")
    words.add_argument("--repeat", type=int, default=1, help="repetitions, taking turns [1]")
    words.add_argument("--idle", type=int, default=20, help="seconds of idleness [20]")
    words.add_argument("-o", dest="form", choices=("table", "csv", "json"), default="table")
    asked = words.parse_args()
    sizes = [int(size) for size in asked.edges.split(",")]
    if not os.environ.get("KELP_BENCH_NAMESPACE") and \
            subprocess.run(["unshare", "-n", "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0:
        os.environ["KELP_BENCH_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$0" "$@"', sys.executable,
                              *sys.argv])
    if asked.form == "table":
        print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before; three cloudcores and all edges "
              f"on them; {asked.repeat} repetition(s)", flush=True)
    found = {size: [] for size in sizes}
    for _ in range(asked.repeat):
        for size in sizes:
            found[size].append(measure(asked.build, size, asked.idle))
    if asked.form == "json":
        document_print(document(found), asked.form)
    else:
        show([merge(found[size]) for size in sizes], asked.form)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"fleet_bench: {failure}")
