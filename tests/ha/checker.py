#!/usr/bin/env python3
"""Judge a history (history.py) by itself.

    tests/ha/checker.py FILE...        print what is wrong with each, and a summary; exit 1 if something is

Rules, each with its name as it is printed:

    register  each object behaves as one register with compare-and-set: there is an order of all operations on it
              that agrees with their answers and with the time they took (Wing and Gong's search, with Lowe's memo;
              the version that every write is given makes it nearly linear)
    lost      what was acknowledged is there at the end, unless somebody changed or removed it later
    update    of two writes that were conditional on one version, one succeeded; counters count
    version   a version belongs to one write; a write that was answered before another one began has the lower one
    refused   what was refused has not happened
    stale     a read of what a replica has (resourceVersion=0) saw something that had been begun, and never goes back
              on one connection
    list      a list is exactly the state at its version, and a fresh one is not older than what was acknowledged
    watch     each change once, in order, as the kind of change it is, across reconnects and replicas; all of them
    up        what an edge was told is taken is in the state of the group
    final     at rest all replicas show the same, node by node too, and hold the same log; and each edge has what the
              cloud means it to have
    pods      a pod is where it was put, ended as it must, and was started as often as its restart count says
    process   no program ends by itself, and the group comes to rest in time when everything is healed

An operation whose outcome is unknown may have happened at any moment after it began, or never.
"""
import bisect
import collections
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import history as histories  # noqa: E402

STEPS_MAX = 3000000  # of the search for one key; a good history needs about as many as it has operations
WRITES = ("create", "cas", "patch", "delete")
FOREVER = float("inf")


class Change(collections.namedtuple("Change", "version key value")):
    """What is known to have happened: an object got a value, or (None) was removed."""


class Checker:
    def __init__(self, lines):
        self.problems = []
        self.lines = lines
        by = collections.defaultdict(list)
        for line in lines:
            by[line["t"]].append(line)
        self.by = by
        self.writes = [op for op in by["op"] if op["op"] in WRITES]
        self.reads = [op for op in by["op"] if op["op"] == "get"]
        self.stales = [op for op in by["op"] if op["op"] == "stale"]

    def problem(self, rule, text, *arguments):
        self.problems.append("%s: %s" % (rule, text % arguments))

    def check(self):
        self.discover()
        for rule in (self.check_refused, self.check_versions, self.check_updates, self.check_registers,
                     self.check_stales, self.check_lists, self.check_watches, self.check_up, self.check_lost, self.check_final,
                     self.check_pods, self.check_processes):
            rule()
        return self.problems

    def check_rest(self):
        """Only whether everything is at rest and the same everywhere."""
        self.discover()
        self.problems = []
        self.check_final()
        self.check_pods()
        return self.problems

    # -- what happened, as far as anybody saw it ---------------------------------------------------------------

    def discover(self):
        """All observations of (key, value) at a version; each write gets its version where somebody saw it."""
        self.version_of = {}  # (key, value) -> version
        self.changes = {}     # version -> Change

        def saw(version, key, value, who):
            change = Change(version, key, value)
            if self.changes.setdefault(version, change) != change:
                self.problem("version", "%d is %s to %s, and %s to others", version, change[1:], who,
                             self.changes[version][1:])
            if value is not None and self.version_of.setdefault((key, value), version) != version:
                self.problem("version", "%s of %s has the version %d to %s, and %d to others: it happened twice",
                             value, key, version, who, self.version_of[(key, value)])

        for op in self.writes:
            if op["outcome"] == "ok" and op["op"] != "delete":
                saw(op["version"], op["key"], op["value"], op["client"])
        for op in self.reads + self.stales:
            if op["version"] > 0:
                saw(op["version"], op["key"], op["value"], op["client"])
        for event in self.by["event"]:
            saw(event["version"], event["key"], None if event["type"] == "DELETED" else event["value"],
                event["watcher"])
        for listed in self.by["list"]:
            for key, (version, value) in listed["items"].items():
                saw(version, key, value, listed["client"])

        self.write_of = {(op["key"], op["value"]): op for op in self.writes if op["op"] != "delete"}
        ours = {op["key"] for op in self.writes}
        self.foreign = {key for key, _ in self.version_of if key not in ours}
        self.ordered = [self.changes[version] for version in sorted(self.changes)
                        if self.changes[version].key not in self.foreign]
        self.ordered_versions = [change.version for change in self.ordered]
        self.by_key = collections.defaultdict(list)
        for change in self.ordered:
            self.by_key[change.key].append(change)
        # Removals that nobody watched: then no list can be held to have it.
        removals = collections.Counter(op["key"] for op in self.writes
                                       if op["op"] == "delete" and op["outcome"] != "fail")
        for change in self.ordered:
            if change.value is None:
                removals[change.key] -= 1
        self.maybe_removed = {key for key, count in removals.items() if count > 0}
        for change in self.ordered:
            if change.value is not None and (change.key, change.value) not in self.write_of:  # of our keys
                self.problem("version", "%s has the value %s at version %d, which nobody wrote", change.key,
                             change.value, change.version)

    def known_version(self, op):
        return self.version_of.get((op["key"], op["value"])) if op["op"] != "delete" else None

    def check_refused(self):
        for op in self.writes:
            if op["outcome"] == "fail" and self.known_version(op) is not None:
                self.problem("refused", "%s %s of %s was refused (%d), and has the version %d", op["op"], op["value"],
                             op["key"], op["code"], self.known_version(op))

    # -- versions ------------------------------------------------------------------------------------------------

    def check_versions(self):
        """Real time: what ended before another thing began has the lower version."""
        known = [(op["begin"], self.known_version(op), op) for op in self.writes
                 if op["outcome"] != "fail" and self.known_version(op)]
        ended = sorted(((op["end"], op["version"], op["value"]) for op in self.writes
                        if op["outcome"] == "ok" and op["op"] != "delete"), key=lambda e: e[0])
        place, highest = 0, (0, 0, "")
        for begin, version, op in sorted(known, key=lambda k: k[0]):
            while place < len(ended) and ended[place][0] < begin:
                highest = max(highest, ended[place], key=lambda e: e[1])
                place += 1
            if version <= highest[1]:
                self.problem("version", "%s of %s began after %s was acknowledged at version %d, and has %d",
                             op["value"], op["key"], highest[2], highest[1], version)
        self.acknowledged = ended

    def check_updates(self):
        taken = {}
        for op in self.writes:
            if op["op"] == "cas" and self.known_version(op) is not None:
                other = taken.setdefault((op["key"], op["expect"]), op)
                if other is not op:
                    self.problem("update", "%s and %s of %s both replaced version %d", other["value"], op["value"],
                                 op["key"], op["expect"])
        counts = {}
        for op in self.writes:
            if "count" in op and self.known_version(op) is not None:
                counts.setdefault(op["key"], []).append((self.known_version(op), op["count"]))
        for key, seen in counts.items():
            for place, (version, count) in enumerate(sorted(seen), 1):
                if count != place:
                    self.problem("update", "%s is %d at version %d after %d increments", key, count, version, place)
                    break

    # -- registers -------------------------------------------------------------------------------------------------

    def check_registers(self):
        ops = collections.defaultdict(list)
        for op in self.writes + self.reads:
            if op["outcome"] == "fail" and op["code"] not in (404, 409):
                continue  # refused for want of a leader or of space: says nothing of the object
            if op["op"] == "delete" and op["code"] == 409:
                continue  # lost against others too often
            ops[op["key"]].append(op)
        for key in sorted(ops):
            text = Register(key, ops[key], self).search()
            if text is not None:
                self.problem("register", "%s", text)

    # -- reads of what a replica has ---------------------------------------------------------------------------------

    def check_stales(self):
        begun = {}
        for op in self.writes:
            if op["op"] == "delete":
                begun.setdefault(op["key"], []).append(op["begin"])
        last = {}  # (connection, key) -> (version, gone): the newest seen
        for op in sorted(self.stales + self.reads, key=lambda o: o["end"]):
            if op["outcome"] != "ok" or not op["conn"]:
                continue
            write = self.write_of.get((op["key"], op["value"]))
            if op["version"] > 0 and write is not None and write["begin"] > op["end"]:
                self.problem("stale", "%s read %s of %s before it was written", op["client"], op["value"], op["key"])
            version, gone = last.get((op["conn"], op["key"]), (0, False))
            if op["version"] == 0:
                if version > 0 and not any(at < op["end"] for at in begun.get(op["key"], [])):
                    self.problem("stale", "%s on %s: %s is gone after version %d, and nobody removed it", op["client"],
                                 op["conn"], op["key"], version)
                last[(op["conn"], op["key"])] = (version, True)
                continue
            if op["version"] < version or (gone and version > 0 and op["version"] == version):
                self.problem("stale", "%s on %s: %s went back from version %d%s to %d", op["client"], op["conn"],
                             op["key"], version, " and gone" if gone else "", op["version"])
            last[(op["conn"], op["key"])] = (op["version"], False)

    # -- lists -------------------------------------------------------------------------------------------------------

    def state_at(self, key, version):
        """The change of the key that holds at a version; None: nothing was there yet."""
        changes = self.by_key[key]
        place = bisect.bisect_right(changes, version, key=lambda change: change.version)
        return changes[place - 1] if place > 0 else None

    def check_lists(self):
        ends = [entry[0] for entry in self.acknowledged]
        highest, best = [], 0
        for entry in self.acknowledged:
            best = max(best, entry[1])
            highest.append(best)
        for listed in self.by["list"]:
            place = bisect.bisect_left(ends, listed["begin"])
            if place > 0 and listed["version"] < highest[place - 1]:
                self.problem("list", "%s got the version %d from replica %d when %d was acknowledged before",
                             listed["client"], listed["version"], listed["replica"], highest[place - 1])
            for key in self.by_key:
                if listed["gen"] not in ("", key.rpartition("-")[0]):
                    continue
                change = self.state_at(key, listed["version"])
                there = listed["items"].get(key)
                meant = None if change is None or change.value is None else [change.version, change.value]
                if there is None and key in self.maybe_removed:
                    continue
                if there != meant:
                    self.problem("list", "%s at version %d from replica %d: %s is %s and should be %s",
                                 listed["client"], listed["version"], listed["replica"], key, there, meant)

    # -- facts of the edges ------------------------------------------------------------------------------------------

    def check_up(self):
        """A stream of the edge that the group has left for another one says nothing."""
        for line in self.by["up"]:
            if line["stream"] == line["now"] and line["position"] < line["acked"]:
                self.problem("up", "%s was told that %d of its records are taken, and replica %d has %d", line["edge"],
                             line["acked"], line["replica"], line["position"])

    # -- watches -----------------------------------------------------------------------------------------------------

    def check_watches(self):
        before = {}  # version -> was the object there before
        state = {}
        for change in self.ordered:
            before[change.version] = state.get(change.key) is not None
            state[change.key] = change.value
        told = collections.defaultdict(list)  # watcher -> [(first version, [events])]
        for line in self.lines:
            if line["t"] == "list" and "watcher" in line:
                told[line["watcher"]].append((line["version"], []))
            elif line["t"] == "event":
                if not told[line["watcher"]]:
                    told[line["watcher"]].append((0, []))
                told[line["watcher"]][-1][1].append(line)
        end = self.by["end"][-1]["version"] if self.by["end"] else None
        for watcher, parts in sorted(told.items()):
            for first, events in parts:
                self.check_part(watcher, first, events, before)
            first, events = parts[-1]
            reached = events[-1]["version"] if events else first
            if end is not None and reached < end:
                self.problem("watch", "%s stands at version %d; the last write has %d", watcher, reached, end)

    def check_part(self, watcher, first, events, before):
        """Events between two lists."""
        last = first
        for event in events:
            version = event["version"]
            if version <= last:
                self.problem("watch", "%s was told version %d (%s %s) after %d", watcher, version, event["type"],
                             event["key"], last)
            low = bisect.bisect_right(self.ordered_versions, last)
            high = bisect.bisect_left(self.ordered_versions, version)
            for change in self.ordered[low:high]:
                self.problem("watch", "%s was not told version %d (%s of %s), between %d and %d", watcher,
                             change.version, change.value, change.key, last, version)
            meant = ("DELETED" if event["type"] == "DELETED" else
                     "MODIFIED" if before.get(version) else "ADDED")
            if event["key"] not in self.maybe_removed and event["key"] not in self.foreign and (
                    event["type"] != meant or (meant == "DELETED" and not before.get(version))):
                self.problem("watch", "%s was told %s of %s at version %d, which is %s", watcher, event["type"],
                             event["key"], version, meant if before.get(version) or meant == "ADDED" else "not there")
            last = max(last, version)

    # -- the end -----------------------------------------------------------------------------------------------------

    def check_lost(self):
        """The last reads of each key, by the client "final", against the newest change known."""
        for op in self.by["op"]:
            if op["client"] != "final" or op["op"] != "get" or op["outcome"] != "ok":
                continue
            changes = self.by_key.get(op["key"])
            newest = changes[-1] if changes else None
            if newest is None or newest.value is None or op["version"] >= newest.version:
                continue
            if op["version"] == 0 and op["key"] in self.maybe_removed:
                continue
            write = self.write_of.get((op["key"], newest.value), {"outcome": "unknown"})
            self.problem("lost", "%s of %s at version %d (%s) is not on replica %d, which has %s", newest.value,
                         op["key"], newest.version, "acknowledged" if write["outcome"] == "ok" else "seen",
                         op["replica"], op["value"])

    def check_final(self):
        finals = self.by["final"]
        for final in finals[1:]:
            for what in ("version", "lists", "nodes"):
                if final[what] != finals[0][what]:
                    self.problem("final", "replicas %d and %d differ in %s: %s and %s", finals[0]["replica"],
                                 final["replica"], what, finals[0][what], final[what])
        for log in self.by["log"][1:]:
            if (log["bytes"], log["digest"]) != (self.by["log"][0]["bytes"], self.by["log"][0]["digest"]):
                self.problem("final", "the logs of replicas %d and %d differ between offsets %d and %d",
                             self.by["log"][0]["replica"], log["replica"], log["from"], log["to"])
        for edge in self.by["final-edge"]:
            for final in finals:
                report = final["nodes"].get(edge["edge"])
                if report is None:
                    self.problem("final", "replica %d knows no %s", final["replica"], edge["edge"])
                    continue
                for theirs, ours in (("digest", "digest"), ("downStream", "downStream"), ("downTip", "downPosition"),
                                     ("upStream", "upStream"), ("upPosition", "upLast")):
                    if report[theirs] != edge["report"][ours]:
                        self.problem("final", "%s: %s is %s at replica %d, %s is %s at the edge", edge["edge"], theirs,
                                     report[theirs], final["replica"], ours, edge["report"][ours])
                if edge["report"]["digestAlarms"] != 0:
                    self.problem("final", "%s: %d digest alarms", edge["edge"], edge["report"]["digestAlarms"])
            for key, value in edge["volume"].items():
                change = self.by_key[key][-1] if self.by_key.get(key) else None
                if change is None or change.value != value:
                    self.problem("final", "%s: the volume of %s holds %s and should hold %s", edge["edge"], key, value,
                                 None if change is None else change.value)

    def check_pods(self):
        there = {pod["name"]: pod for pod in self.by["final-pod"]}
        removed = {op["key"] for op in self.by["op"] if op["op"] == "pod-delete" and op["outcome"] != "fail"}
        created = {op["key"]: op["outcome"] for op in self.by["op"] if op["op"] == "pod-create"}
        if self.by["final"]:
            for name, outcome in sorted(created.items()):
                if outcome == "ok" and name not in there and name not in removed:
                    self.problem("lost", "pod %s was acknowledged and is not there", name)
        for name, pod in sorted(there.items()):
            if created.get(name, "fail") == "fail":
                self.problem("refused", "pod %s is there and was refused", name)
            ends = pod["policy"] == "Never" or (pod["policy"] == "OnFailure" and pod["code"] == 0)
            meant = (("Succeeded" if pod["code"] == 0 else "Failed"),) if ends else ("Running",)
            if name in removed:
                continue  # it may be on its way out
            if pod["phase"] not in meant:
                self.problem("pods", "%s at %s is %s, and should be %s", name, pod["edge"], pod["phase"], meant[0])
            if not pod["restarts"] + 1 - pod["given_up"] <= pod["starts"] <= pod["restarts"] + 1:
                self.problem("pods", "%s at %s was started %d times and says that it was restarted %d times", name,
                             pod["edge"], pod["starts"], pod["restarts"])

    def check_processes(self):
        for died in self.by["died"]:
            self.problem("process", "%s ended by itself with %d", died["process"], died["code"])
        for failed in self.by["failed"]:
            self.problem("process", "%s", failed["what"])


class Register:
    """Search for an order of the operations on one key.

    A state is (version or None, value, highest version so far): None as the value says that nothing is there. A
    write of which nobody saw the version has none: nothing that was read can be it.
    """

    def __init__(self, key, ops, checker):
        self.key = key
        self.ops = sorted(ops, key=lambda op: op["begin"])
        self.known = [checker.known_version(op) if op["op"] in WRITES and op["outcome"] != "fail" else None
                      for op in self.ops]
        # What nobody knows the outcome of has no end, and need not happen unless somebody saw it.
        self.needed = [op["outcome"] != "unknown" or known is not None for op, known in zip(self.ops, self.known)]
        self.end = [op["end"] if op["outcome"] != "unknown" else FOREVER for op in self.ops]
        self.sequence = sorted(version for version in self.known if version is not None)
        self.changes = [op["op"] in WRITES and op["outcome"] != "fail" for op in self.ops]

    def step(self, place, state):
        """The state after this operation; None: it cannot have happened here as it was answered."""
        op, (version, value, high) = self.ops[place], state
        kind, outcome, known = op["op"], op["outcome"], self.known[place]
        if kind == "get":
            fits = value is None if op["version"] == 0 else (version == op["version"] and value == op["value"])
            return state if fits else None
        if outcome == "fail":
            if kind == "create":
                fits = value is not None
            elif op["code"] == 404:
                fits = value is None
            else:
                fits = kind == "patch" or version != op["expect"] or value is None
            return state if fits else None
        if kind == "delete":
            return (None, None, high) if value is not None else None
        if (kind == "create") != (value is None) or (kind == "cas" and version != op["expect"]):
            return None
        if known is not None:
            return (known, op["value"], known) if known > high else None
        return ("?", op["value"], high)

    def candidates(self, done, low, state):
        """Operations that may be next: begun before the first end of those that must still come."""
        limit = FOREVER
        found = []
        place = low
        while place < len(self.ops) and self.ops[place]["begin"] < limit:
            if not done >> place & 1:
                found.append(place)
                if self.end[place] < limit:
                    limit = self.end[place]
            place += 1
        found = [p for p in found if self.ops[p]["begin"] < limit]
        for p in found:
            # What changes nothing and fits may as well be next: wherever it is later, it could be here.
            if not self.changes[p] and self.step(p, state) is not None:
                return [p]
        next_known = bisect.bisect_right(self.sequence, state[2])
        next_version = self.sequence[next_known] if next_known < len(self.sequence) else None
        # What is known first, last what may never have been.
        return sorted((p for p in found if self.changes[p] and self.known[p] in (None, next_version)),
                      key=lambda p: (not self.needed[p], self.end[p]))

    def search(self):
        """None, or what is wrong."""
        needed = 0
        for place, must in enumerate(self.needed):
            needed |= must << place
        start = (None, None, 0)
        seen = {(0, start)}
        stack = [(0, 0, start, iter(self.candidates(0, 0, start)))]
        steps, best = 0, (0, 0, start)
        while stack:
            done, low, state, places = stack[-1]
            if done & needed == needed:
                return None
            steps += 1
            if steps > STEPS_MAX:
                return "%s: no order was found in %d steps; stuck after %s" % (self.key, STEPS_MAX, self.where(best))
            place = next(places, None)
            if place is None:
                stack.pop()
                continue
            after = self.step(place, state)
            if after is None:
                continue
            done |= 1 << place
            if (done, after) in seen:
                continue
            seen.add((done, after))
            while done >> low & 1:
                low += 1
            if bin(done & needed).count("1") > best[0]:
                best = (bin(done & needed).count("1"), done, after)
            stack.append((done, low, after, iter(self.candidates(done, low, after))))
        return "%s: no order explains the answers; stuck after %s" % (self.key, self.where(best))

    def where(self, best):
        """How far the search came, and which operation waits the longest."""
        count, done, (version, value, _) = best
        left = [p for p in range(len(self.ops)) if self.needed[p] and not done >> p & 1]
        first = self.ops[min(left, key=lambda p: self.end[p])]
        return "%d of %d, with %s at %s; next would be %s by %s at replica %d: %s %s %s" % (
            count, sum(self.needed), value, version, first["op"], first["client"], first["replica"],
            first["outcome"], first.get("value"), "expecting %s" % first["expect"] if "expect" in first else
            "version %s" % first["version"])


def summary(lines):
    """What a history is of: a line for the table."""
    ops = [line for line in lines if line["t"] == "op"]
    count = collections.Counter((line["op"] in ("get", "stale"), line["outcome"]) for line in ops)
    faults = collections.Counter(line["fault"]["kind"] for line in lines if line["t"] == "fault" and
                                 line["do"] == "begin")
    healed = min((line["at"] for line in lines if line["t"] == "healed"), default=FOREVER)
    commits = sorted(op["end"] for op in ops if op["outcome"] == "ok" and op["op"] not in ("get", "stale") and
                     op["begin"] < healed)
    gap = max((b - a for a, b in zip(commits, commits[1:])), default=0)
    return {
        "writes": [count[(False, outcome)] for outcome in ("ok", "fail", "unknown")],
        "reads": [count[(True, outcome)] for outcome in ("ok", "fail")],
        "events": sum(line["t"] == "event" for line in lines),
        "faults": dict(sorted(faults.items())),
        "stall_s": round(gap / 1e9, 2),
    }


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        return 0 if sys.argv[1:] == ["--help"] else 2
    wrong = 0
    for path in sys.argv[1:]:
        lines = histories.read(path)
        problems = Checker(lines).check()
        wrong += bool(problems)
        for problem in problems[:40]:
            print("%s: %s" % (path, problem))
        if len(problems) > 40:
            print("%s: and %d more" % (path, len(problems) - 40))
        print("%s: %s, %s" % (path, "%d problems" % len(problems) if problems else "good", summary(lines)))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
