#!/usr/bin/env python3
"""Claim: the loss of a cloudcore moves only its own sessions, soon, and nothing is lost or repeated by that in
either direction; so too when it was the leader.

Method: a thousand light edges (light_edge.h) over three real cloudcores. Pods bound to them, a config map that
all of those pods use, and events of the edges are written all the time, also while a replica is killed with
SIGKILL: first a follower, then, when that is back, the leader. Each edge checks what it is sent; afterwards
every edge must hold its pod, delivered once, and the newest config map, and the cloud must have each event of
each edge once, with the same digests and positions on both replicas that live.

    fleet_test.py BUILD [EDGES]
"""
import sys
import threading
import time

from cluster import Caller, Cluster, Failed, Fleet, until

build = sys.argv[1]
edges = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
TELL = 2
CREATORS = 6
# What is waited for. The goal of five seconds is for a machine that does nothing else: the time is printed.
PATIENCE_S = 90


def expect(claim, what):
    if not claim:
        raise Failed(what)


class Writer(threading.Thread):
    """Works off a list of writes, or counts in the config map until told to stop."""

    def __init__(self, caller, pods=None):
        super().__init__(daemon=True)
        self.caller = caller
        self.pods = pods
        self.serial = 0
        self.stopping = False
        self.failure = None
        self.start()

    def run(self):
        try:
            while self.pods if self.pods is not None else not self.stopping:
                self.pod(self.pods.pop()) if self.pods is not None else self.count()
        except Exception as failure:  # told by whoever waits for it
            self.failure = failure

    def count(self):
        self.serial += 1
        shared = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared", "namespace": "default"},
                  "data": {"serial": str(self.serial)}}
        path = "/api/v1/namespaces/default/configmaps"
        self.caller.write("POST" if self.serial == 1 else "PUT", path + ("" if self.serial == 1 else "/shared"), shared)

    def pod(self, node):
        self.caller.write("POST", "/api/v1/namespaces/default/pods", {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": node, "namespace": "default"},
            "spec": {"nodeName": node, "containers": [{"name": "main", "image": "kelp.local/none:1", "envFrom": [
                {"configMapRef": {"name": "shared"}}]}]}})

    def finish(self):
        self.stopping = True
        self.join(2 * PATIENCE_S)
        expect(not self.is_alive(), "a writer does not end")
        if self.failure:
            raise self.failure


def all_active(fleet):
    report = fleet.report()
    return report if report["active"] == edges else None


def all_applied(fleet):
    report = fleet.report()
    return report["told"] == report["applied"]


def lose(cluster, fleet, victim, what):
    """Kill a replica under load; its edges go elsewhere, the others stay where they are."""
    before = {edge["node"]: edge for edge in fleet.dump()}
    at_victim = [node for node, edge in before.items() if edge["address"] == victim - 1]
    expect(len(at_victim) > edges / 10, f"only {len(at_victim)} edges were at cloudcore-{victim}")
    losses = fleet.ask("report")["losses"]
    fleet.ask("mark")
    fleet.ask(f"tell {TELL}")
    begun = time.monotonic()
    cluster.kill(victim)
    fleet.ask(f"tell {TELL}")
    until(PATIENCE_S, "its edges notice", lambda: fleet.report()["losses"] - losses >= len(at_victim))
    report = until(PATIENCE_S, "all edges are back", lambda: all_active(fleet))
    print(f"{what} cloudcore-{victim} was killed: {len(at_victim)} edges were elsewhere after "
          f"{time.monotonic() - begun:.2f} s (p50 {report['waitP50']} ms, p99 {report['waitP99']} ms)", flush=True)
    for edge in fleet.dump():
        moved = edge["losses"] - before[edge["node"]]["losses"]
        if edge["node"] in at_victim:
            expect(moved > 0 and edge["address"] != victim - 1, f"{edge['node']} is at a replica that is dead")
        else:
            expect(moved == 0, f"{edge['node']} lost its session, which was with another replica")


def check_edges(cluster, fleet, serial):
    """What the edges say they hold is what the replicas that live say."""
    until(PATIENCE_S, f"all edges have config map {serial}", lambda: fleet.report()["serialLow"] == serial)
    until(PATIENCE_S, "all events are in the cloud", lambda: all_applied(fleet))
    caller = Caller(cluster)
    dump = fleet.dump()
    for edge in dump:
        rows = edge["rows"]
        expect(len(rows) == 2, f"{edge['node']} holds {list(rows)}")
        expect(rows[f"/pods/default/{edge['node']}"][1] == 1, f"{edge['node']}: its pod came {rows} times")
        for n in cluster.processes:
            def same():
                _, said = caller.ask(n, "GET", f"/kelp/v1/nodes/{edge['node']}")
                wanted = [("downStream", "downStream"), ("downTip", "downPosition"), ("downAcked", "downPosition"),
                          ("digest", "digest"), ("upStream", "upStream"), ("upPosition", "upLast"), ("epoch", "epoch")]
                return all(said[theirs] == edge[ours] for theirs, ours in wanted)
            until(20, f"cloudcore-{n} says of {edge['node']} what it says itself", same)


def check_events(cluster, told):
    caller = Caller(cluster)
    found = {}
    go_on = ""
    while True:
        code, answer = caller.ask(next(iter(cluster.processes)), "GET", f"/api/v1/events?limit=5000{go_on}")
        expect(code == 200, f"events: {code}")
        for event in answer["items"]:
            if event["reason"] == "Told":
                found.setdefault(event["involvedObject"]["name"], []).append(event["message"])
        if not answer["metadata"].get("continue"):
            break
        go_on = "&continue=" + answer["metadata"]["continue"]
    wanted = sorted(f"told {i + 1}" for i in range(told))
    expect(len(found) == edges, f"events of {len(found)} nodes")
    for node, messages in found.items():
        expect(sorted(messages) == wanted, f"{node}: the cloud has {sorted(messages)}")


def main():
    begun = time.monotonic()
    with Cluster(build, "logging: { level: warn }") as cluster, Fleet(cluster, edges) as fleet:
        cluster.start_all()
        fleet.prepared()
        print(f"{edges} certificates and three cloudcores after {time.monotonic() - begun:.1f} s", flush=True)
        begun = time.monotonic()
        fleet.ask("join 0")
        report = until(2 * PATIENCE_S, "all edges are welcomed", lambda: all_active(fleet))
        print(f"welcomed after {time.monotonic() - begun:.1f} s, {report['dialsFailed']} attempts in vain", flush=True)

        counter = Writer(Caller(cluster))
        pods = [f"light-{i + 1}" for i in range(edges)]
        creators = [Writer(Caller(cluster, i), pods[i::CREATORS]) for i in range(CREATORS)]
        fleet.ask(f"tell {TELL}")
        until(PATIENCE_S, "records flow down", lambda: fleet.report()["downRecords"] > edges / 10)
        follower = next(n for n in (1, 2, 3) if n != cluster.leader())
        lose(cluster, fleet, follower, "the follower")
        cluster.start(follower)
        until(PATIENCE_S, f"cloudcore-{follower} is back",
              lambda: cluster.status(follower).get("leader", 0) > 0)
        lose(cluster, fleet, until(PATIENCE_S, "somebody leads", cluster.leader), "the leader")
        for writer in [*creators, counter]:
            writer.finish()

        check_edges(cluster, fleet, counter.serial)
        check_events(cluster, 5 * TELL)
        report = fleet.report()
        expect(report["wrong"] == 0, report["firstWrong"])
        print(f"down: {report['downRecords']} records, {report['downAgain']} that came again and were skipped; "
              f"up: {report['applied']} events; config map {counter.serial}; nothing lost, nothing repeated")


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"fleet_test: {failure}")
