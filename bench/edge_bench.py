#!/usr/bin/env python3
"""What a real edgecore takes of its machine: memory idle, with pods and with twins; how soon it acts after a cold
start; how fast it reads its own log back.

Three cloudcores and an edgecore on this machine, with a container runtime that runs nothing (kelp-fake-cri), so that
what is measured is edgecore alone. For each, in an edgecore of its own:

  idle      welcomed, without pods, devices or a broker; after --settle seconds
  pods      --pods pods of one container run. Then the machine "reboots" without a link: edgecore ends, the runtime
            forgets everything, and edgecore is started again. Until it answers, and until the runtime has started the
            last container (the page cache stays, which a reboot would empty)
  twins     --twins devices with one twin each have reported. Its broker is a process of its own, and named apart
  replay    --records updates of twins are recorded without a link, all of them in the log; then the state is taken
            away, and edgecore makes it anew from the log. Until it answers

Anonymous is memory that no file backs; resident holds the pages of the program and its libraries, which processes
share, too. 1 MB is 1,000,000 bytes.
"""
import os
import re
import shutil
import time

from group import (DEVICES, MODELS, PODS, Edge, Group, choice_of, device_model, devices_of, interruptible, options_parser,
                   pod_of, process_cpu, process_memory)
from rows import Figures, document_print

MB = 1e6
GOAL_ANONYMOUS_MB, GOAL_RESIDENT_MB = 5, 16
REPLAY_DEVICES = 1000
PATIENCE_S = 120
REPLAY_PATIENCE_S = 1800


CASES = ["idle", "pods", "twins", "replay"]


def options_read():
    parser = options_parser("edge", __doc__)
    parser.add_argument("--cases", type=choice_of(CASES), default=",".join(CASES), metavar="CASE,...", help="[idle,pods,twins,replay]")
    parser.add_argument("--pods", type=int, default=110, help="[110]")
    parser.add_argument("--twins", type=int, default=1000, help="[1000]")
    parser.add_argument("--records", type=int, default=1000000, help="in the log that is replayed [1000000]")
    parser.add_argument("--settle", type=float, default=60,
                        help="seconds of idleness before memory is looked at; an edgecore gives back what only its start "
                        "needed after 15 [60]")
    return parser.parse_args()


class Bench:
    def __init__(self, options, group, figures):
        self.options, self.group, self.figures = options, group, figures
        self.turn = 0
        self.api = group.api()
        self.api.ask("POST", MODELS, device_model())

    def edge(self, what, **given):
        edge = Edge(self.group, f"{what}-{self.turn}", **given)
        edge.start()
        return edge

    def memory(self, edge, row, goals=(None, None)):
        time.sleep(self.options.settle)
        anonymous, resident = process_memory(edge.pid)
        self.figures.add(row, "anonymous MB", anonymous / MB, "less", goal=goals[0])
        self.figures.add(row, "resident MB", resident / MB, "less", goal=goals[1])

    def idle(self):
        edge = self.edge("idle")
        self.memory(edge, "idle", (GOAL_ANONYMOUS_MB, GOAL_RESIDENT_MB))
        spent, began = process_cpu(edge.pid), time.monotonic()
        time.sleep(self.options.settle)
        self.figures.add("idle", "CPU %", (process_cpu(edge.pid) - spent) / (time.monotonic() - began) * 100, "less")
        edge.close()

    def answers(self, edge, seconds=PATIENCE_S):
        """Seconds until an edgecore that is started now has replayed its log and answers."""
        began = time.monotonic()
        edge.start_core()
        self.group.wait(seconds, f"{edge.name} to answer after its start",
                        lambda: edge.status() or edge.process.poll() is not None, 0.002)
        if edge.process.poll() is not None:
            self.group.end(f"{edge.name} ended at its start: {open(edge.log, encoding='utf-8').readlines()[-1]}")
        return time.monotonic() - began

    def pods(self):
        row, count = f"{self.options.pods} pods", self.options.pods
        edge = self.edge("pods")
        pods = [pod_of(edge.name, f"{edge.name}-{number}", {}) for number in range(count)]
        self.api.make_all(PODS, pods)
        self.group.wait(PATIENCE_S, f"{count} pods to run", lambda: edge.status().get("podsRunning") == count)
        edge.settle()
        self.memory(edge, row)

        edge.end_core()
        edge.cut()
        edge.runtime.terminate()
        edge.runtime.wait()
        for left in (edge.socket, f"{edge.socket}.state", f"{edge.socket}.state.starts"):
            if os.path.exists(left):
                os.unlink(left)
        edge.start_runtime()
        began = time.monotonic()
        self.figures.add(row, "cold start: answers, ms", self.answers(edge) * 1000, "less")
        self.group.wait(PATIENCE_S, f"{count} pods to run again", lambda: edge.runtime_starts() == count, 0.002)
        took = time.monotonic() - began
        self.figures.add(row, "cold start: last container, ms", took * 1000, "less",
                         beside="runtime's CPU ms", beside_value=process_cpu(edge.runtime.pid) * 1000)
        self.figures.add(row, "cold start: CPU ms", process_cpu(edge.pid) * 1000, "less")
        edge.close()
        for pod in pods:
            self.api.ask("DELETE", f"{PODS}/{pod['metadata']['name']}?gracePeriodSeconds=0", fine=(404,))

    def with_devices(self, edge, count):
        self.api.make_all(DEVICES, devices_of(edge.name, edge.name, count))
        self.group.wait(PATIENCE_S, f"{edge.name} to hear of {count} devices",
                        lambda: edge.status().get("downPosition", 0) >= count)
        edge.reports("--name", edge.name, "--devices", count, "--count", count, "--flight", min(count, 64))
        edge.settle()

    def twins(self):
        row = f"{self.options.twins} twins"
        edge = self.edge("twins", mqtt=True)
        self.with_devices(edge, self.options.twins)
        self.memory(edge, row)
        self.figures.add(row, "anonymous MB of its broker", process_memory(edge.broker_pid())[0] / MB, "less")
        edge.close()

    def replay(self):
        count = self.options.records
        row = f"replay of {count:,} records"
        edge = self.edge("replay", mqtt=True, settings="log: { history: 64GiB, limit: 128GiB }\n")
        devices = min(REPLAY_DEVICES, count)
        self.with_devices(edge, devices)
        edge.cut()
        made = edge.reports("--name", edge.name, "--devices", devices, "--count", count, "--flight", 2000, "--until", "recorded",
                            "--pause", 5000, "--within", REPLAY_PATIENCE_S)
        self.figures.add(row, "recorded/s", made["rate"])
        said = edge.status()
        if said["logFirst"] != 1:
            self.group.end("the log does not begin with its first record any more: it cannot be replayed whole")
        edge.end_core()
        shutil.rmtree(f"{edge.data}/state")
        took = self.answers(edge, REPLAY_PATIENCE_S)
        replayed = int(re.findall(r"log_replayed.*?records=(\d+)", open(edge.log, encoding="utf-8").read())[-1])
        if replayed < count:
            self.group.end(f"{replayed} records were replayed, of {count} and more")
        self.figures.add(row, "s", took, "less")
        self.figures.add(row, "records/s", replayed / took)
        self.figures.add(row, "CPU us/record", process_cpu(edge.pid) / replayed * 1e6, "less")
        edge.close()


def main():
    options = options_read()
    interruptible()
    figures = Figures("edge")
    with Group("edge", options, options.build) as group:
        bench = Bench(options, group, figures)
        for bench.turn in range(options.repeat):
            for what in options.cases:
                getattr(bench, what)()
    document_print(figures.document(), options.output)


main()
