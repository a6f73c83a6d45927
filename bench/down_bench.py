#!/usr/bin/env python3
"""A write at the API until it is applied at the edge: how many a second, and how long one takes.

Three cloudcores on this machine. A client in C overwrites config maps with PUT, so many on their way at once, at the
replica that leads; pods of the node use every one of them, so each write goes down.

  1 node      a real edgecore on a real disk, with a runtime that runs nothing: there means durable in its log and
              applied to its state, as its control socket says. Its session is at the replica that leads, or at
              another, which hears a little later of what was agreed upon
  N nodes     one real edgecore, and N - 1 light ones (tests/fleet) in one process, which have the link and the feeds
              of a real one but no disk: there means received and compared. All use the same --objects config maps,
              each of which is overwritten once: N times as many deliveries as writes

Beside: the same writes to config maps that nobody uses (the API alone: TLS, JSON, agreement, applying), and, once
for each number on their way, the same client against a server that answers at once (what client and TLS bound).
"""
from group import (PLACES, Edge, Fleet, Group, Replier, choice_of, interruptible, numbers_of, options_parser, pods_use,
                   process_cpu)
from rows import Figures, document_print

PATIENCE_S = 900
LOOK_OFTEN_US, LOOK_SELDOM_US = 200, 2000


def options_read():
    parser = options_parser("down", __doc__)
    parser.add_argument("--flights", type=numbers_of(512), default="1,16,128", metavar="N,...",
                        help="writes on their way at once, to 1 node [1,16,128]")
    parser.add_argument("--at", type=choice_of(PLACES), default=",".join(PLACES), metavar="PLACE,...",
                        help="[leader,follower]")
    parser.add_argument("--count", type=int, default=10000,
                        help="writes of a repetition; with few on their way fewer [10000]")
    parser.add_argument("--objects", type=int, default=2000, help="config maps that each node uses [2000]")
    parser.add_argument("--nodes", type=int, default=200,
                        help="of the second case, the real one included; 0: without it [200]")
    parser.add_argument("--fan-flight", type=int, default=64, help="writes on their way at once, to N nodes [64]")
    parser.add_argument("--body", type=int, default=256, help="bytes of text in a config map [256]")
    return parser.parse_args()


class Bench:
    def __init__(self, options, group, figures):
        self.options, self.group, self.figures = options, group, figures
        self.api = group.api()
        self.maps_make("idle")
        self.edges = {}
        for place in options.at:
            self.maps_make(place)
            self.edges[place] = Edge(group, f"edge-{place}", replicas=[group.replica_at(place)])
            self.edges[place].start()
            pods_use(self.api, [self.edges[place].name], place, options.objects)

    def maps_make(self, name):
        objects = self.options.objects
        self.group.writes([self.api.replica.api], "--create", *self.words(name, objects, min(64, objects)))

    def words(self, name, count, flight, *more):
        return ["--name", name, "--keys", self.options.objects, "--count", count, "--flight", flight,
                "--body", self.options.body, *more]

    def wait_equal(self, edge):
        self.group.wait(PATIENCE_S, f"{edge.name} to hold what it should", lambda: edge.equal(self.api))

    def cpu(self, edge):
        return process_cpu(edge.pid), sum(process_cpu(replica.process.pid) for replica in self.group.replicas)

    def one(self, replier, place, flight):
        row, edge = f"1 node at the {place} x {flight}", self.edges[place]
        count = max(20, min(self.options.count, 300 * flight))
        bound = self.group.writes([replier.port], *self.words(place, count, flight))
        alone = self.group.writes([self.api.replica.api], *self.words("idle", count, flight))
        self.wait_equal(edge)
        look = LOOK_OFTEN_US if flight == 1 else LOOK_SELDOM_US
        before = self.cpu(edge)
        found = self.group.writes([self.api.replica.api],
                                  *self.words(place, count, flight, "--control", edge.control, "--pause", look))
        after = self.cpu(edge)
        add = self.figures.add
        add(row, "records/s at the edge", found["there_rate"], beside="API alone", beside_value=alone["rate"])
        add(row, "records/s at the edge", found["there_rate"], beside="client against nothing",
            beside_value=bound["rate"])
        for part in ("p50", "p99"):
            add(row, f"{part} ms at the edge", found[f"there_{part}_ms"], "less", beside="API alone",
                beside_value=alone[f"answered_{part}_ms"])
        if flight > 1:
            add(row, "CPU us/record edge", (after[0] - before[0]) / count * 1e6, "less")
            add(row, "CPU us/record three cloudcores", (after[1] - before[1]) / count * 1e6, "less")

    def lights_join(self):
        """Every light edge holds what it should, and how many rows that is."""
        count, objects = self.options.nodes - 1, self.options.objects
        fleet = Fleet(self.group, count, timed=True)
        try:
            fleet.prepared()
            fleet.ask("join 0")
            self.group.wait(PATIENCE_S, f"{count} light edges to join", lambda: fleet.report()["active"] == count)
            pods = pods_use(self.api, [f"light-{number + 1}" for number in range(count)], self.options.at[-1], objects)
            self.group.wait(PATIENCE_S, "the light edges to hold what they should",
                            lambda: fleet.report()["rows"] == count * objects + pods, 0.5)
        except BaseException:
            fleet.__exit__()
            raise
        return fleet

    def fan(self, fleet):
        nodes, objects = self.options.nodes, self.options.objects
        lights, place = nodes - 1, self.options.at[-1]
        row, edge, flight = f"{nodes} nodes x {objects:,} objects", self.edges[place], min(self.options.fan_flight, objects)
        alone = self.group.writes([self.api.replica.api], *self.words("idle", objects, flight))
        self.wait_equal(edge)
        fleet.ask("mark")
        clouds = [replica.process.pid for replica in self.group.replicas]
        spent = sum(map(process_cpu, clouds)), process_cpu(fleet.process.pid)
        found = self.group.writes([self.api.replica.api], *self.words(
            place, objects, flight, "--control", edge.control, "--pause", LOOK_SELDOM_US, "--within", PATIENCE_S))
        self.group.wait(PATIENCE_S, "the light edges to have all", lambda: fleet.ask("lags")["lags"] >= lights * objects, 0.1)
        cpu = sum(map(process_cpu, clouds)) - spent[0], process_cpu(fleet.process.pid) - spent[1]
        lags, report = fleet.ask("lags"), fleet.report()
        if report["wrong"]:
            self.group.end(f"a light edge found a fault: {report['firstWrong']}")
        took = max(lags["newest"] - found["began"], found["there_seconds"])
        add = self.figures.add
        add(row, "deliveries/s", nodes * objects / took)
        add(row, "writes/s", objects / took, beside="API alone", beside_value=alone["rate"])
        add(row, "p50 ms at a light edge", lags["lagP50us"] / 1000, "less")
        add(row, "p99 ms at a light edge", lags["lagP99us"] / 1000, "less")
        add(row, "p50 ms at the real edge", found["there_p50_ms"], "less")
        add(row, "p99 ms at the real edge", found["there_p99_ms"], "less")
        add(row, "CPU us/delivery three cloudcores", cpu[0] / nodes / objects * 1e6, "less")
        add(row, "CPU us/delivery light edges", cpu[1] / lights / objects * 1e6, "less")


def main():
    options = options_read()
    interruptible()
    figures = Figures("down")
    with Group("down", options, options.build) as group:
        bench = Bench(options, group, figures)
        with Replier(group) as replier:
            for _ in range(options.repeat):
                for place in options.at:
                    for flight in options.flights:
                        bench.one(replier, place, flight)
        if options.nodes > 1:
            with bench.lights_join() as fleet:
                for _ in range(options.repeat):
                    bench.fan(fleet)
    document_print(figures.document(), options.output)


main()
