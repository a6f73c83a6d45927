#!/usr/bin/env python3
"""A fact of an edge until the cloud has it: how many a second, how long one takes, what it costs on both sides.

Three cloudcores and two real edgecores with brokers of their own and a runtime that runs nothing, all on this machine:
one has its session at the replica that leads, one at another (as two of three edges do), which has to ask the leader.
A client in C says facts by MQTT, QoS 1, with so many on their way at once:

  twin     the newest value of a device, each report with an event id: one record each (result and document go back)
  message  a message for the cloud: an event, of which each is kept

Each is recorded at the edge (log, fdatasync), shipped, proposed, durable on two of three cloudcores, applied, and
acknowledged to the edge; there the clock is stopped, so the figure holds the way back, too. Latency is from
publishing, so the broker is in it.

Beside: the same messages by the same client through a mosquitto that has nothing else to do and back to the client
(what client and broker bound); 4 KiB made durable on the same disk, one after the other (fdatasync). Syncs are
counted by strace in a repetition of their own, as it slows what it traces.
"""
from group import (DEVICES, MODELS, PLACES, Broker, Edge, Group, Traced, choice_of, device_model, devices_of, disk_syncs,
                   interruptible, numbers_of, options_parser, process_cpu)
from rows import Figures, document_print

DEVICES_COUNT = 1000  # more than are on their way at once, so that no fact replaces one that is not shipped yet
KINDS = ["twin", "message"]
PATIENCE_S = 60
LOOK_OFTEN_US, LOOK_SELDOM_US = 200, 2000


def options_read():
    parser = options_parser("up", __doc__)
    parser.add_argument("--flights", type=numbers_of(DEVICES_COUNT), default="1,64,512", metavar="N,...", help="on their way at once [1,64,512]")
    parser.add_argument("--count", type=int, default=20000, help="facts of a repetition; with few on their way fewer [20000]")
    parser.add_argument("--kinds", type=choice_of(KINDS), default=",".join(KINDS), metavar="KIND,...", help="[twin,message]")
    parser.add_argument("--at", type=choice_of(PLACES), default=",".join(PLACES), metavar="PLACE,...", help="[leader,follower]")
    return parser.parse_args()


def count_of(options, flight):
    """One at a time takes milliseconds each."""
    return max(20, min(options.count, 300 * flight))


def words_of(place, kind, flight, count, pause_us):
    return ["--name", place, "--kind", kind, "--devices", DEVICES_COUNT, "--count", count, "--flight", flight, "--pause", pause_us]


def cpu_of(group, edge):
    leader = group.leader()
    if leader is None:
        group.end("no cloudcore leads any more: what was found is of no use")
    return {"edge": process_cpu(edge.pid), "edge's broker": process_cpu(edge.broker_pid()),
            "leader": process_cpu(leader.process.pid),
            "followers": sum(process_cpu(replica.process.pid) for replica in group.replicas if replica is not leader)}


def measure(group, edge, broker, figures, case, count):
    place, kind, flight = case
    row = f"{kind} x {flight}, at the {place}"
    alone = group.load("report_load", "--broker", f"127.0.0.1:{broker.port}", "--until", "echo",
                       *words_of(place, kind, flight, count, 1000))
    syncs = disk_syncs(group.home)
    edge.settle()
    # Looking costs the edgecore time: often where latency is asked, seldom where the processor is busy.
    before = cpu_of(group, edge)
    found = edge.reports(*words_of(place, kind, flight, count, LOOK_OFTEN_US if flight == 1 else LOOK_SELDOM_US))
    after = cpu_of(group, edge)
    figures.add(row, "records/s", found["rate"], beside="client and broker alone", beside_value=alone["rate"])
    figures.add(row, "p50 ms", found["there_p50_ms"], "less", beside="fdatasync", beside_value=1000 / syncs)
    figures.add(row, "p99 ms", found["there_p99_ms"], "less", beside="client and broker alone",
                beside_value=alone["there_p99_ms"])
    if flight > 1:
        for who in before:
            figures.add(row, f"CPU us/record {who}", (after[who] - before[who]) / count * 1e6, "less")


def count_syncs(group, edge, figures, case, count):
    place, kind, flight = case
    edge.settle()
    pids = {"edge": edge.pid, **{at: group.replica_at(at).process.pid for at in PLACES}}
    with Traced(pids) as traced:
        edge.reports(*words_of(place, kind, flight, count, LOOK_SELDOM_US))
        edge.settle()
    for who in pids:
        calls = traced.calls.get(who)
        figures.add(f"{kind} x {flight}, at the {place}", f"syncs/record {who}", calls and calls / count, "less",
                    note=None if calls else "strace may not trace here")


def edges_start(group, api, places):
    """An edge at each of these places, with devices that have reported once, which makes their twins."""
    edges = {}
    for place in places:
        edge = Edge(group, f"edge-{place}", mqtt=True, replicas=[group.replica_at(place)])
        edge.start()
        api.make_all(DEVICES, devices_of(edge.name, place, DEVICES_COUNT))
        group.wait(PATIENCE_S, f"{edge.name} to hear of its devices", lambda: edge.status().get("downPosition", 0) >= DEVICES_COUNT)
        edge.reports(*words_of(place, "twin", 64, DEVICES_COUNT, LOOK_SELDOM_US))
        edges[place] = edge
    return edges


def main():
    options = options_read()
    interruptible()
    figures = Figures("up")
    cases = [(place, kind, flight) for place in options.at for kind in options.kinds for flight in options.flights]
    with Group("up", options, options.build) as group, Broker(group.home) as broker:
        api = group.api()
        api.ask("POST", MODELS, device_model())
        edges = edges_start(group, api, options.at)
        for _ in range(options.repeat):
            for case in cases:
                measure(group, edges[case[0]], broker, figures, case, count_of(options, case[2]))
        for case in cases:
            if case[0] == options.at[-1]:  # how often they sync does not depend on the place
                count_syncs(group, edges[case[0]], figures, case, count_of(options, case[2]))
    document_print(figures.document(), options.output)


main()
