#!/usr/bin/env python3
"""An edge is away while records gather for it, or at it; the link returns: how long until both sides agree, and what
other nodes notice.

Three cloudcores, a real edgecore whose link is cut as a cable is, and --others light edges (tests/fleet) that stay
connected, all on this machine. "Agree" is: the positions of both logs of the node and the digests of what it holds
are equal, and all is durable at the edge. The clock starts when the link is whole again, so dialing is in it.

  down, keys     N writes to --objects config maps that the node uses, by PUT. A newer value takes the place of one that
                 was not delivered: above --objects writes what is delivered stays the same
  up, facts      N reports of --objects devices. The same holds for facts
  up, events     N messages for the cloud, each an event. The edge keeps the newest 4,096 that were not acknowledged
                 (LIMIT_EDGE_EVENTS), and one record tells the cloud which are missing
  fleet          --away light edges are away at once while each of --objects config maps that all of them use is
                 overwritten: --away times as many deliveries wait

Others: the longest silence that one of them heard (each asks for a sign of life every heartbeat, which is 500 ms here),
and how many were found unreachable or lost their session. They are looked at for two seconds at least.
"""
import sys
import threading
import time

from group import DEVICES, MODELS, Edge, Fleet, Group, choice_of, device_model, devices_of, interruptible, numbers_of, options_parser, pods_use
from rows import Figures, document_print

PATIENCE_S = 600
HEARTBEAT = [("session.heartbeat", "500ms"), ("session.unreachable", "5s")]
GOAL_S, GOAL_RECORDS = 10, 1000000
KEPT_EVENTS = 4096
LOOK_S = 2
FLIGHT = 64
CASES = ["down", "facts", "events", "fleet"]


def options_read():
    parser = options_parser("outage", __doc__)
    parser.add_argument("--cases", type=choice_of(CASES), default=",".join(CASES), metavar="CASE,...", help="[down,facts,events,fleet]")
    parser.add_argument("--down", type=numbers_of(10000000), default="10000,100000", metavar="N,...", help="writes [10000,100000]")
    parser.add_argument("--up", type=numbers_of(10000000), default="10000,100000,1000000", metavar="N,...", help="facts, and events [10000,100000,1000000]")
    parser.add_argument("--objects", type=int, default=10000, help="config maps, and devices: an edge holds 16384 objects [10000]")
    parser.add_argument("--away", type=int, default=100, help="light edges that are away at once [100]")
    parser.add_argument("--others", type=int, default=50, help="light edges that stay [50]")
    return parser.parse_args()


class Others:
    """Nodes that have nothing to do with it, watched while it happens."""

    def __init__(self, group, api, count):
        self.group, self.api, self.fleet = group, api.other(), Fleet(group, count, prefix="other")
        self.watching = False
        self.fleet.prepared()
        self.fleet.ask("join 0")
        group.wait(PATIENCE_S, f"{count} other edges to join", lambda: self.fleet.report()["active"] == count)

    def close(self):
        self.watching = False
        self.fleet.__exit__()

    def __enter__(self):
        self.losses = self.fleet.report()["losses"]
        self.fleet.ask("mark")
        self.watching, self.unready, self.began = True, set(), time.monotonic()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def watch(self):
        """Light edges say nothing of themselves, so they are Unknown at best; one that was lost is so for another reason."""
        while self.watching:
            for node in self.api.ask("GET", "/api/v1/nodes?resourceVersion=0")["items"]:
                if any(condition["reason"] == "NodeStatusUnknown" for condition in node["status"]["conditions"]):
                    self.unready.add(node["metadata"]["name"])
            time.sleep(0.1)

    def __exit__(self, *_):
        time.sleep(max(0, self.began + LOOK_S - time.monotonic()))  # a few heartbeats at least
        self.watching = False
        self.thread.join()
        report = self.fleet.report()
        self.silence_ms, self.lost = report["silenceMax"], report["losses"] - self.losses
        self.unready = {name for name in self.unready if name.startswith("other-")}


class Bench:
    def __init__(self, options, group, figures):
        self.options, self.group, self.figures = options, group, figures
        self.api = group.api()
        self.others = Others(group, self.api, options.others)
        self.edges = {}

    def edge(self, name):
        """One for each direction: the objects of both are more than an edge holds."""
        if name not in self.edges:
            self.edges[name] = Edge(self.group, f"edge-{name}", mqtt=name == "up")
            self.edges[name].start()
        return self.edges[name]

    def maps_make(self, name):
        self.group.writes([self.api.replica.api], "--create", *self.words(name, self.options.objects))

    def words(self, name, count):
        return ["--name", name, "--keys", self.options.objects, "--count", count, "--flight", min(FLIGHT, self.options.objects),
                "--within", PATIENCE_S * 2]

    def wait_equal(self, edge):
        self.group.wait(PATIENCE_S, f"{edge.name} and the cloud to agree", lambda: edge.equal(self.api), 0.01)

    def returned(self, row, count, delivered, took, note=None):
        add = self.figures.add
        sys.stderr.write(f"{row}: {took:.3f} s until both agree\n")  # gathering takes minutes: a sign of life
        add(row, "s until both agree", took, "less", goal=GOAL_S if count >= GOAL_RECORDS else None, note=note)
        add(row, "gathered records/s", count / took)
        add(row, "delivered records/s", delivered / took)

    def others_tell(self, row, others):
        add = self.figures.add
        sys.stderr.write(f"{row}: longest silence of others {others.silence_ms} ms\n")
        add(row, "longest silence of others, ms", others.silence_ms, "less")
        add(row, "others not Ready, or lost", len(others.unready) + others.lost, "less", goal=0)

    def away(self, edge, row, count, delivered, gather, note=None):
        """A real edge is away, `gather` happens, and it returns."""
        self.wait_equal(edge)
        edge.cut()
        gather()
        with self.others as others:
            began = time.monotonic()
            edge.restore()
            self.wait_equal(edge)
            self.returned(row, count, delivered, time.monotonic() - began, note)
        self.others_tell(row, others)

    def down(self):
        for count in self.options.down:
            self.away(self.edge("down"), f"down, {count:,} keys", count, min(count, self.options.objects),
                      lambda: self.group.writes([self.api.replica.api], *self.words("map", count)),
                      "an edge holds 16,384 objects at most: more writes are newer values of the same ones")

    def reports(self, kind, count):
        devices = self.options.objects
        self.edge("up").reports("--kind", kind, "--devices", devices, "--count", count, "--flight", 2000, "--until", "recorded",
                          "--pause", 5000, "--within", PATIENCE_S * 2)

    def facts(self):
        for count in self.options.up:
            self.away(self.edge("up"), f"up, {count:,} facts", count, min(count, self.options.objects), lambda: self.reports("twin", count),
                      "a newer fact takes the place of one that was not shipped")

    def events(self):
        for count in self.options.up:
            self.away(self.edge("up"), f"up, {count:,} events", count, min(count, KEPT_EVENTS), lambda: self.reports("message", count),
                      "the newest 4,096 events are kept, and a record tells which are not")

    def fleet(self):
        away, objects = self.options.away, self.options.objects
        row = f"{away} edges, {away * objects:,} deliveries"
        self.lights.ask("stop")
        self.group.wait(PATIENCE_S, "the light edges to leave", lambda: self.lights.report()["active"] == 0)
        self.group.writes([self.api.replica.api], *self.words("fleet", objects))
        self.lights.ask("mark")
        with self.others as others:
            began = time.monotonic()
            self.lights.ask("join 0")
            self.group.wait(PATIENCE_S, "the light edges to have all", lambda: self.lights.ask("lags")["lags"] >= away * objects, 0.1)
            self.returned(row, away * objects, away * objects, self.lights.ask("lags")["newest"] - began)
        self.others_tell(row, others)
        report = self.lights.report()
        if report["wrong"]:
            self.group.end(f"a light edge found a fault: {report['firstWrong']}")

    def prepare(self):
        asked, objects = self.options.cases, self.options.objects
        if "down" in asked:
            edge = self.edge("down")
            self.maps_make("map")
            pods_use(self.api, [edge.name], "map", objects)
            self.wait_equal(edge)
        if "facts" in asked:
            edge = self.edge("up")
            self.api.ask("POST", MODELS, device_model())
            self.api.make_all(DEVICES, devices_of(edge.name, "device", objects))
            self.wait_equal(edge)
            self.reports("twin", objects)  # the first report makes the twin
        if "fleet" in asked:
            self.lights_prepare()

    def lights_prepare(self):
        away, objects = self.options.away, self.options.objects
        self.maps_make("fleet")
        self.lights = Fleet(self.group, away, timed=True)
        self.lights.prepared()
        self.lights.ask("join 0")
        self.group.wait(PATIENCE_S, "the light edges to join", lambda: self.lights.report()["active"] == away)
        pods = pods_use(self.api, [f"light-{number + 1}" for number in range(away)], "fleet", objects)
        self.group.wait(PATIENCE_S, "the light edges to hold what they should",
                        lambda: self.lights.report()["rows"] == away * objects + pods, 0.5)

    def close(self):
        self.others.close()
        if hasattr(self, "lights"):
            self.lights.__exit__()


def main():
    options = options_read()
    interruptible()
    options.settings = [pair for pair in HEARTBEAT if pair[0] not in dict(options.settings)] + options.settings
    figures = Figures("outage")
    with Group("outage", options, options.build) as group:
        bench = Bench(options, group, figures)
        try:
            bench.prepare()
            for _ in range(options.repeat):
                for case in options.cases:
                    getattr(bench, case)()
        finally:
            bench.close()
    document_print(figures.document(), options.output)


main()
