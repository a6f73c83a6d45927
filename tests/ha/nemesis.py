"""What befalls the cluster: a plan made from the seed, and the hand that carries it out.

A plan is a list of faults, each {at, for, kind, ...} in seconds from the beginning; faults may overlap. "leader"
as a victim is whoever leads when the fault begins. An island is an edge with the replica that serves it, cut off from
the rest: all that the edge is told there the others do not know; and it may end with the death of that replica.
"""
import os
import random
import signal
import subprocess
import threading
import time

from cluster import CLIENTS, CLOUDS, EDGES

NETWORK = ("halves", "oneway", "isolate", "isolate-edge", "island", "delay", "loss")
PROCESSES = ("kill", "kill-all", "kill-edge", "stop", "stop-edge", "disk", "clock", "transfer", "demote")
MIXES = {"network": NETWORK, "processes": PROCESSES, "combined": NETWORK + PROCESSES, "none": ()}
LONGEST = 7.0                 # seconds of one fault; the election time-out is one
LEFT_MIB = (0, 1, 4, 12, 20)  # free space that a full disk has left


def plan_fault(chance, kind):
    cloud = chance.choice(CLOUDS + ("leader",) * 3)
    if kind == "halves":
        alone = chance.choice(CLOUDS)
        return {"hosts": [alone] + [edge for edge in EDGES if chance.random() < 0.5]}
    if kind == "island":
        return {"edge": chance.choice(EDGES), "kill": chance.random() < 0.5}
    if kind == "oneway":
        pair = chance.sample(CLOUDS, 2)
        return {"from": pair[0], "to": pair[1]}
    if kind in ("isolate", "kill", "disk", "demote"):
        return {"on": cloud}
    if kind in ("isolate-edge", "kill-edge"):
        return {"on": chance.choice(EDGES)}
    if kind == "delay":
        return {"ms": chance.choice((20, 80, 250)), "jitter": chance.choice((0, 20, 100)),
                "on": chance.choice(("*",) + CLOUDS)}
    if kind == "loss":
        return {"permille": chance.choice((10, 50, 200)), "on": chance.choice(("*",) + CLOUDS)}
    if kind == "stop":
        return {"on": cloud}
    if kind == "stop-edge":
        return {"on": chance.choice(EDGES)}
    if kind == "clock":
        return {"on": chance.choice(CLOUDS + EDGES),
                "ms": chance.choice((-3600000, -60000, -1500, 1500, 60000, 3600000))}
    return {}


def make_plan(seed, seconds, mix):
    """The same for the same arguments, on any machine."""
    chance = random.Random(seed)
    kinds = MIXES[mix]
    plan = []
    at = 2.0
    while kinds:
        kind = chance.choice(kinds)
        lasts = round(chance.uniform(1.5, LONGEST), 1)
        if kind in ("kill", "kill-all", "kill-edge"):
            lasts = round(chance.choice((0.0, 0.3, 1.0, lasts)), 1)
        if at + lasts > seconds:
            break
        fault = {"at": round(at, 1), "for": lasts, "kind": kind, **plan_fault(chance, kind)}
        plan.append(fault)
        if chance.random() < 0.4:  # the next one meets this one
            at += chance.uniform(0.1, lasts + 0.2)
        else:
            at += lasts + chance.uniform(0.3, 2.5)
    return plan


class Nemesis:
    def __init__(self, cluster, history, plan, numbers):
        self.cluster = cluster
        self.numbers = numbers  # of the workload: who serves whom
        self.history = history
        self.plan = plan
        self.active = {}  # place in the plan -> (fault, victims)
        self.asking = None    # a command of the group that is under way
        self.demoted = set()  # replicas that may have no vote
        self.commands = subprocess.run([cluster.kelp_program, "cluster", "--help"], capture_output=True,
                                       text=True).stdout

    # -- the group ------------------------------------------------------------------------------------------

    def ask_group(self, *words):
        """A command of `kelp cluster`, by way of any replica. Answers whether it was done; under attack it may
        well not be, and nobody may know."""
        for replica in random.sample((1, 2, 3), 3):
            try:
                done = subprocess.run([self.cluster.kelp_program, "cluster", *words, "--kubeconfig",
                                       self.cluster.path("kubeconfig"), "--server", self.cluster.url(replica)],
                                      capture_output=True, text=True, timeout=4)
            except subprocess.TimeoutExpired:
                continue
            self.history.put("note", at=time.monotonic_ns(), what="kelp cluster %s: %d %s" % (
                " ".join(words), done.returncode, done.stderr.strip()[:200]))
            if done.returncode == 0:
                return True
        return False

    def ask_group_meanwhile(self, *words):
        """The same, while the plan goes on; one after the other. Answers whether it is being done."""
        if self.asking is not None and self.asking.is_alive():
            return False
        self.asking = threading.Thread(target=self.ask_group, args=words)
        self.asking.start()
        return True

    def restore_votes(self):
        """Give everybody the vote again. Answers whether all have it."""
        if self.asking is not None:
            self.asking.join()
        for name in sorted(self.demoted):
            if self.ask_group("promote", str(CLOUDS.index(name) + 1)):
                self.demoted.discard(name)
        return not self.demoted

    # -- the network: all active faults together make the paths ---------------------------------------------

    def paths(self):
        """(from, to) -> (loss, delay, jitter) of what is not as it should be."""
        paths = {}

        def worse(a, b, loss=0, delay=0, jitter=0):
            if CLIENTS in (a, b):
                return  # clients reach every replica, above all the one that is cut off
            old = paths.get((a, b), (0, 0, 0))
            paths[(a, b)] = (max(old[0], loss), old[1] + delay, old[2] + jitter)

        hosts = CLOUDS + EDGES
        for fault, victims in self.active.values():
            kind = fault["kind"]
            for a in hosts:
                for b in hosts:
                    if a == b:
                        continue
                    if kind == "halves" and (a in victims) != (b in victims):
                        worse(a, b, loss=1000)
                    elif kind == "oneway" and (a, b) == (fault["from"], fault["to"]):
                        worse(a, b, loss=1000)
                    elif kind in ("isolate", "isolate-edge", "island") and (a in victims) != (b in victims):
                        worse(a, b, loss=1000)
                    elif kind == "delay" and (fault["on"] == "*" or fault["on"] in (a, b)):
                        worse(a, b, delay=fault["ms"], jitter=fault["jitter"])
                    elif kind == "loss" and (fault["on"] == "*" or fault["on"] in (a, b)):
                        worse(a, b, loss=fault["permille"])
        return paths

    def shape(self):
        orders = ["set * * 0 0 0"]
        orders += ["set %s %s %d %d %d" % (*pair, *how) for pair, how in sorted(self.paths().items())]
        self.cluster.wire.order(orders)

    # -- disks ------------------------------------------------------------------------------------------------

    def fill(self, name, left_mib):
        path = self.cluster.path(name, "data", "filler")
        about = os.statvfs(os.path.dirname(path))
        size = about.f_bavail * about.f_frsize - (left_mib << 20)
        if size <= 0:
            return
        try:
            with open(path, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError:
            pass  # others took some of it meanwhile: it is as full as it can be

    def room(self, name):
        try:
            os.unlink(self.cluster.path(name, "data", "filler"))
        except FileNotFoundError:
            pass

    # -- faults -----------------------------------------------------------------------------------------------

    def victims(self, fault):
        kind = fault["kind"]
        if kind == "kill-all":
            return list(CLOUDS)
        if kind == "halves":
            return fault["hosts"]
        if kind == "island":
            return [CLOUDS[max(self.numbers.get("serves " + fault["edge"]), 1) - 1], fault["edge"]]
        on = fault.get("on")
        if on == "leader":
            leader = self.cluster.leader()
            return [leader] if leader is not None else [CLOUDS[0]]
        return [on] if on not in (None, "*") else []

    def begin(self, place):
        fault = self.plan[place]
        kind = fault["kind"]
        if kind in ("transfer", "demote") and kind not in self.commands:
            return
        victims = self.victims(fault)
        self.history.put("fault", at=time.monotonic_ns(), do="begin", fault=fault, on=victims)
        self.active[place] = (fault, victims)
        for name in victims:
            if kind.startswith("kill"):
                self.cluster.processes[name].signal(signal.SIGKILL)
            elif kind.startswith("stop"):
                self.cluster.processes[name].signal(signal.SIGSTOP)
            elif kind == "disk":
                self.fill(name, LEFT_MIB[place % len(LEFT_MIB)])
            elif kind == "clock":
                self.cluster.set_clock(name, fault["ms"])
            elif kind == "demote" and not self.demoted - {name}:  # of two voters none can be spared
                if self.ask_group_meanwhile("demote", str(CLOUDS.index(name) + 1)):
                    self.demoted.add(name)
        if kind == "transfer":
            self.ask_group_meanwhile("transfer")
        self.shape()

    def end(self, place):
        if place not in self.active:
            return
        fault, victims = self.active.pop(place)
        kind = fault["kind"]
        for name in victims:
            others = [f["kind"] for f, on in self.active.values() if name in on]
            if kind.startswith("kill") and not any(k.startswith("kill") for k in others):
                self.cluster.processes[name].start()
            elif kind.startswith("stop") and not any(k.startswith("stop") for k in others):
                self.cluster.processes[name].signal(signal.SIGCONT)
            elif kind == "island" and fault["kill"] and name in CLOUDS and not any(
                    k.startswith(("kill", "stop")) for k in others):
                self.cluster.processes[name].signal(signal.SIGKILL)
                self.cluster.processes[name].start()
            elif kind == "disk" and "disk" not in others:
                self.room(name)
            elif kind == "clock":
                self.cluster.set_clock(name, 0)
            elif kind == "demote":  # it stays so until it has been promoted at rest, if this does not do it
                self.ask_group_meanwhile("promote", str(CLOUDS.index(name) + 1))
        self.shape()
        self.history.put("fault", at=time.monotonic_ns(), do="end", fault=fault, on=victims)

    def watch_processes(self):
        for process in self.cluster.processes.values():
            code = process.died()
            if code is not None:
                self.history.put("died", at=time.monotonic_ns(), process=process.name, code=code)

    def run(self, seconds):
        """Carry the plan out; then heal everything."""
        start = time.monotonic()
        deeds = sorted([(f["at"], 1, place) for place, f in enumerate(self.plan)] +
                       [(f["at"] + f["for"], 0, place) for place, f in enumerate(self.plan)],
                       key=lambda deed: (deed[0], deed[2], -deed[1]))
        for at, begins, place in deeds:
            self.wait_until(start + at)
            (self.begin if begins else self.end)(place)
        self.wait_until(start + seconds)
        for place in list(self.active):
            self.end(place)

    def wait_until(self, moment):
        """The moments of faults are the input of a campaign."""
        while True:
            self.watch_processes()
            left = moment - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.2))
