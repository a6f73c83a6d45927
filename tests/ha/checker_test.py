#!/usr/bin/env python3
"""Claim: the checker accepts what may happen, and refuses every kind of wrong by its rule's name.

Method: one small good history, in which each kind of line is; each case changes the one thing that makes it
bad. Then the histories that campaigns left (histories/: the name begins with the rule that it must be refused by,
or with good).
"""
import copy
import glob
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import history as histories  # noqa: E402
from checker import Checker  # noqa: E402

MS = 1000000


class Book:
    """A history being written: operations one after the other, each 10 ms long, unless said otherwise."""

    def __init__(self):
        self.lines = []
        self.at = 0

    def op(self, op, key, outcome="ok", code=200, value=None, version=0, client="c1", conn="c1.1", replica=1, **more):
        begin = more.pop("begin", self.at)
        end = more.pop("end", begin + 10)
        self.at = max(self.at, end + 1)
        line = {"t": "op", "client": client, "conn": conn, "replica": replica, "op": op, "key": key,
                "begin": begin * MS, "end": end * MS, "outcome": outcome, "code": code, "value": value,
                "version": version, **more}
        self.lines.append(line)
        return line

    def put(self, t, **fields):
        line = {"t": t, "at": self.at * MS, **fields}
        self.lines.append(line)
        return line

    def list(self, version, items, gen="a", **more):
        return self.put("list", client="c1", conn="c1.1", replica=1, begin=self.at * MS, end=(self.at + 5) * MS, gen=gen,
                        version=version, items=items, **more)

    def event(self, watcher, type_, key, version, value):
        return self.put("event", watcher=watcher, type=type_, key=key, version=version, value=value)


def good():
    """Every kind of line, and each kind of doubt that must be borne."""
    b = Book()
    b.list(9, {}, gen="", watcher="w1")
    b.list(9, {}, gen="", watcher="w2")
    b.op("create", "a-1", value="v1", version=10, code=201)
    b.op("create", "a-1", outcome="fail", code=409, value="v2")
    b.op("cas", "a-1", value="v3", version=11, expect=10)
    b.op("cas", "a-1", outcome="fail", code=409, value="v4", expect=10)
    b.op("stale", "a-1", value="v1", version=10, conn="c2.1", client="c2", replica=2)
    b.op("patch", "a-1", outcome="unknown", code=504, value="v5")       # happened: somebody saw it
    b.op("patch", "a-1", outcome="unknown", code=0, value="v6")         # did not
    b.op("patch", "a-1", outcome="fail", code=503, value="v7")
    b.op("get", "a-1", value="v5", version=12)
    b.list(12, {"a-1": [12, "v5"]})
    b.op("delete", "a-1")
    b.op("get", "a-1", code=404)
    b.op("cas", "a-1", outcome="fail", code=404, value="v8", expect=12)
    b.op("stale", "a-1", code=404, conn="c2.1", client="c2", replica=2)
    b.op("create", "a-1", value="v9", version=14, code=201)
    # Two at once: either may be first, the versions say which.
    b.op("patch", "a-1", value="v10", version=16, begin=1000, end=1100, client="c3", conn="c3.1")
    b.op("patch", "a-1", value="v11", version=15, begin=1005, end=1095, client="c4", conn="c4.1")
    b.op("create", "counter-0", value="n1", version=17, count=1, code=201)
    b.op("cas", "counter-0", value="n2", version=18, expect=17, count=2)
    changes = [("ADDED", "a-1", 10, "v1"), ("MODIFIED", "a-1", 11, "v3"), ("MODIFIED", "a-1", 12, "v5"),
               ("DELETED", "a-1", 13, "v5"), ("ADDED", "a-1", 14, "v9"), ("MODIFIED", "a-1", 15, "v11"),
               ("MODIFIED", "a-1", 16, "v10"), ("ADDED", "counter-0", 17, "n1"), ("MODIFIED", "counter-0", 18, "n2")]
    for change in changes:
        b.event("w1", *change)
    for change in changes[:2]:
        b.event("w2", *change)
    b.list(16, {"a-1": [16, "v10"]}, gen="", watcher="w2")  # it was away for longer than changes are held
    # (it is of then: at the end of the book there is a counter, which that version had not)
    for change in changes[7:]:
        b.event("w2", *change)
    b.op("pod-create", "p-1", value="p-1", version=19, code=201)
    b.op("pod-create", "p-2", value="p-2", version=20, code=201)
    b.op("pod-delete", "p-2", code=200)
    b.op("get", "a-1", value="v10", version=16, client="final", conn="final.1")
    b.op("get", "counter-0", value="n2", version=18, client="final", conn="final.1", replica=2)
    b.put("up", edge="edge-1", replica=2, stream=2, acked=7, now=2, position=7)
    b.put("up", edge="edge-1", replica=3, stream=1, acked=90, now=2, position=7)  # of a life before this one
    b.put("end", version=18)
    for replica in (1, 2, 3):
        b.put("log", replica=replica, **{"from": 1, "to": 30}, bytes=900, digest="l")
    report = {"digest": "d", "downStream": 1, "downTip": 5, "upStream": 2, "upPosition": 7}
    for replica in (1, 2, 3):
        b.put("final", replica=replica, version=21, lists={"pods": "x"}, nodes={"edge-1": dict(report)})
    b.put("final-edge", edge="edge-1", volume={"a-1": "v10"},
          report={"digest": "d", "downStream": 1, "downPosition": 5, "upStream": 2, "upLast": 7, "digestAlarms": 0})
    b.put("final-pod", name="p-1", uid="u", edge="edge-1", phase="Running", restarts=2, starts=3, given_up=0,
          policy="Always", code=0)
    # A list that began before the counter was acknowledged may lack it.
    for line in b.lines:
        if line["t"] == "list" and line["version"] == 16:
            line["begin"] = 1001 * MS
    return b.lines


def find(lines, **fields):
    found = [line for line in lines if all(line.get(k) == v for k, v in fields.items())]
    assert found, fields
    return found[0]


def change(field, to, **fields):
    def apply(lines):
        find(lines, **fields)[field] = to
    return apply


def drop(**fields):
    def apply(lines):
        lines.remove(find(lines, **fields))
    return apply


def twice(**fields):
    def apply(lines):
        line = find(lines, **fields)
        lines.insert(lines.index(line), copy.deepcopy(line))
    return apply


def swap(a, b):
    def apply(lines):
        i, k = lines.index(find(lines, **a)), lines.index(find(lines, **b))
        lines[i], lines[k] = lines[k], lines[i]
    return apply


def both(*changes):
    def apply(lines):
        for one in changes:
            one(lines)
    return apply


def add(line):
    def apply(lines):
        book = Book()
        book.at = max(l.get("end", 0) for l in lines if l["t"] == "op") // MS + 1
        line(book)
        lines.extend(book.lines)
    return apply


def replica(number):
    return {"t": "final", "replica": number}


BAD = (
    ("register", "a fresh read of what was replaced", add(lambda b: b.op("get", "a-1", value="v9", version=14))),
    ("register", "a read that finds nothing before the removal", change("code", 404, op="get", version=12),
     both(change("value", None, op="get", version=12), change("version", 0, op="get", version=12))),
    ("register", "a read that finds what was removed", both(change("version", 12, op="get", code=404),
                                                           change("value", "v5", op="get", code=404))),
    ("register", "a refusal for a version that was right", change("expect", 11, value="v4")),
    ("register", "a success for a version that was wrong", change("expect", 9, value="v3")),
    ("register", "an object that is made although it is there", drop(op="delete")),
    ("register", "a refusal to make what is not there", change("op", "create", value="v8"),
     change("code", 409, value="v8")),
    ("lost", "what was acknowledged is not there", change("version", 15, client="final", key="a-1"),
     change("value", "v11", client="final", key="a-1")),
    ("lost", "a pod that was acknowledged is not there", drop(t="final-pod")),
    ("update", "two of the same version", change("expect", 10, key="counter-0", value="n2"),
     add(lambda b: b.op("cas", "counter-0", value="n3", version=30, expect=10, count=3))),
    ("update", "a counter that forgot one", change("count", 1, value="n2")),
    ("version", "one version for two writes", change("version", 17, value="n2")),
    ("version", "a write that happened twice", change("version", 40, t="event", watcher="w1", value="n2")),
    ("version", "a later write below an earlier one", change("version", 9, value="n1", t="op")),
    ("version", "a value that nobody wrote", drop(t="op", value="v5", op="patch")),
    ("refused", "a refused write that is read", change("value", "v7", op="get", version=12)),
    ("refused", "a refused pod that is there", change("outcome", "fail", op="pod-create", key="p-1")),
    ("stale", "going back on a connection", add(lambda b: b.op("stale", "a-1", value="v1", version=10, conn="c2.1"))),
    ("stale", "a read of what has not begun", change("begin", 9000 * MS, value="v1", t="op", op="create")),
    ("stale", "gone without a removal", add(lambda b: b.op("stale", "counter-0", code=404, conn="final.1"))),
    ("list", "an object too few", change("items", {}, t="list", version=12)),
    ("list", "an object of another version", change("items", {"a-1": [11, "v3"]}, t="list", version=12)),
    ("list", "an old one as fresh", both(change("version", 11, t="list", version=12),
                                        change("items", {"a-1": [11, "v3"]}, t="list", version=11),
                                        change("outcome", "ok", value="v5"), change("version", 12, value="v5"))),
    ("watch", "a change left out", drop(t="event", watcher="w1", version=15)),
    ("watch", "a change told twice", twice(t="event", watcher="w1", version=15)),
    ("watch", "changes out of order", swap({"t": "event", "watcher": "w1", "version": 15},
                                          {"t": "event", "watcher": "w1", "version": 16})),
    ("watch", "a removal told as a change", change("type", "MODIFIED", t="event", version=14, watcher="w1")),
    ("watch", "it stops before the end", drop(t="event", watcher="w1", version=18)),
    ("up", "a record that was taken is not there", change("position", 6, t="up", stream=2)),
    ("watch", "a gap after a list", drop(t="event", watcher="w2", version=17)),
    ("final", "replicas at two versions", change("version", 22, **replica(3))),
    ("final", "replicas with two states", change("lists", {"pods": "y"}, **replica(2))),
    ("final", "replicas with two logs of a node", change("nodes", {"edge-1": {
        "digest": "d", "downStream": 1, "downTip": 6, "upStream": 2, "upPosition": 7}}, **replica(2))),
    ("final", "replicas with two logs", change("digest", "m", t="log", replica=3)),
    ("final", "an edge with another digest", lambda lines: find(lines, t="final-edge")["report"].update(digest="e")),
    ("final", "an edge with another place", lambda lines: find(lines, t="final-edge")["report"].update(upLast=8)),
    ("final", "an edge that raised an alarm",
     lambda lines: find(lines, t="final-edge")["report"].update(digestAlarms=1)),
    ("final", "an old config map at an edge", change("volume", {"a-1": "v11"}, t="final-edge")),
    ("pods", "a start too many", change("starts", 4, t="final-pod")),
    ("pods", "a start that was not made", change("starts", 2, t="final-pod")),
    ("pods", "a pod that does not run", change("phase", "Failed", t="final-pod")),
    ("process", "a program that died", add(lambda b: b.put("died", process="cloudcore-1", code=-6))),
    ("process", "no rest", add(lambda b: b.put("failed", what="gave up after 90 s: a leader"))),
)


def main():
    wrong = 0
    problems = Checker(good()).check()
    if problems:
        wrong += 1
        print("FAILED the good history is refused: %s" % problems)
    for rule, what, *changes in BAD:
        lines = copy.deepcopy(good())
        for one in changes:
            one(lines)
        problems = Checker(lines).check()
        if not any(problem.startswith(rule + ":") for problem in problems):
            wrong += 1
            print("FAILED %s: %s is not refused: %s" % (rule, what, problems))
    for path in sorted(glob.glob(os.path.join(HERE, "histories", "*.gz"))):
        rule = os.path.basename(path).split("-")[0]
        problems = Checker(histories.read(path)).check()
        if (rule == "good" and problems) or (rule != "good" and
                                             not any(problem.startswith(rule + ":") for problem in problems)):
            wrong += 1
            print("FAILED %s: %s" % (path, problems[:5]))
    print("%d bad histories by hand, %d wrong" % (len(BAD), wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
