"""Clients of the API, and watchers, that write down everything they do and hear.

Registers are config maps that live for some hundreds of operations; counters live as long as the run; pods and
the config maps that they mount go to the edges. Every value is unique, so a value says which write it is of.
"""
import ctypes
import http.client
import json
import os
import random
import socket
import ssl
import threading
import time

from cluster import CLIENTS, EDGES, now

CLONE_NEWNET = 0x40000000
MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
CONNECT_SECONDS = 3
ANSWER_SECONDS = 9     # above the deadline of a proposal, so that a replica can say what it knows
SILENCE_SECONDS = 6    # after which a watch is opened anew
REGISTERS = 5
GENERATION = 500       # operations on one set of registers
COUNTERS = 2
PODS_ALIVE = 60        # of both edges; each takes 110
BROKEN = (OSError, http.client.HTTPException, ssl.SSLError, ValueError)


def enter(namespace):
    """The calling thread is on that host from now on."""
    fd = os.open(namespace, os.O_RDONLY)
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns " + namespace)
    os.close(fd)


class Numbers:
    """Numbers that all threads share."""

    def __init__(self):
        self.lock = threading.Lock()
        self.last = {}

    def next(self, name):
        with self.lock:
            self.last[name] = self.last.get(name, 0) + 1
            return self.last[name]

    def get(self, name):
        return self.last.get(name, 0)

    def set(self, name, number):
        self.last[name] = number


class Caller(threading.Thread):
    """One client with a connection to each replica, opened when needed."""

    def __init__(self, cluster, history, numbers, name, seed):
        super().__init__(name=name, daemon=True)
        self.cluster, self.history, self.numbers = cluster, history, numbers
        self.chance = random.Random(seed)
        self.connections = {}
        self.leaving = threading.Event()
        self.broken = None

    def run(self):
        try:
            enter(self.cluster.wire.namespace(CLIENTS))
            while not self.leaving.is_set():
                self.step()
        except Exception as error:  # a fault of the campaign itself: it must not look like a quiet client
            self.broken = "%s: %r" % (self.name, error)
        for connection, _ in self.connections.values():
            connection.close()

    def connection(self, replica):
        if replica not in self.connections:
            connection = self.cluster.connect(replica, CONNECT_SECONDS)
            connection.sock.settimeout(ANSWER_SECONDS)
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections[replica] = (connection, "%s.%d" % (self.name, self.numbers.next("conn")))
        return self.connections[replica]

    def drop(self, replica):
        connection = self.connections.pop(replica, None)
        if connection is not None:
            connection[0].close()

    def call(self, replica, method, path, body=None, kind="application/json"):
        """Answers (conn, begin, end, code, parsed body); code 0: no answer; -1: it was never sent."""
        begin = now()
        try:
            connection, conn = self.connection(replica)
        except BROKEN:
            self.drop(replica)
            self.leaving.wait(0.2)  # pacing: a dead replica is not asked a thousand times a second
            return "", begin, now(), -1, None
        try:
            connection.request(method, path, body=None if body is None else json.dumps(body),
                               headers={"Content-Type": kind} if body is not None else {})
            answer = connection.getresponse()
            parsed = json.loads(answer.read())
            if answer.will_close:
                self.drop(replica)
            return conn, begin, now(), answer.status, parsed
        except BROKEN:
            self.drop(replica)
            return conn, begin, now(), 0, None

    def write(self, op, replica, method, path, body=None, kind="application/json", **fields):
        """Do and record one write. Answers the record."""
        conn, begin, end, code, parsed = self.call(replica, method, path, body, kind)
        version = 0
        if 200 <= code < 300:
            outcome = "ok"
            if op != "delete":
                version = int((parsed.get("metadata") or {}).get("resourceVersion") or 0)
        elif code in (0, 500, 504):
            outcome = "unknown"
        else:
            outcome = "fail"
        record = dict(client=self.name, conn=conn, replica=replica, op=op, begin=begin, end=end, outcome=outcome,
                      code=max(code, 0), version=version, **fields)
        if outcome != "ok" and parsed is not None:
            record["message"] = str(parsed.get("message", ""))[:160]
        self.history.put("op", **record)
        self.count(record)
        return record

    def read(self, op, replica, key):
        """Do and record one read. Answers the record; its "object" is not part of it."""
        path = "%s/%s%s" % (MAPS, key, "?resourceVersion=0" if op == "stale" else "")
        conn, begin, end, code, parsed = self.call(replica, "GET", path)
        record = dict(client=self.name, conn=conn, replica=replica, op=op, key=key, begin=begin, end=end,
                      outcome="ok" if code in (200, 404) else "fail", code=max(code, 0), version=0, value=None)
        data = {}
        if code == 200:
            data = parsed.get("data", {})
            record.update(version=int(parsed["metadata"]["resourceVersion"]), value=data.get("v"))
        elif parsed is not None and code != 404:
            record["message"] = str(parsed.get("message", ""))[:160]
        self.history.put("op", **record)
        self.count(record)
        return record, data

    def list(self, replica, gen, watcher=None):
        """Do and record one list of config maps, whole. Answers its version; None: it failed."""
        path = MAPS + ("?labelSelector=gen%3D" + gen if gen else "")
        conn, begin, end, code, parsed = self.call(replica, "GET", path)
        if code != 200:
            return None
        version = int(parsed["metadata"]["resourceVersion"])
        items = {o["metadata"]["name"]: [int(o["metadata"]["resourceVersion"]), o.get("data", {}).get("v")]
                 for o in parsed["items"]}
        more = {} if watcher is None else {"watcher": watcher}
        self.history.put("list", client=self.name, conn=conn, replica=replica, begin=begin, end=end, gen=gen,
                         version=version, items=items, **more)
        return version

    def count(self, record):
        self.numbers.next("%s %s" % ("reads" if record["op"] in ("get", "stale") else "writes", record["outcome"]))

    def map_body(self, key, value, labels, version=None, **data):
        metadata = {"name": key, "labels": labels}
        if version is not None:
            metadata["resourceVersion"] = str(version)
        if self.chance.random() < 0.15:  # so that logs and snapshots have something to do
            data["pad"] = "".join(self.chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=8000))
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"v": value, **data}}

    def value(self):
        return "%s-%d" % (self.name, self.numbers.next(self.name))


class Registers(Caller):
    """Reads and writes of registers and counters, at one replica, or at any. A request to one that is cut off
    waits for seconds, so there are clients of each who do not meet it."""

    def __init__(self, cluster, history, numbers, name, seed, replica):
        super().__init__(cluster, history, numbers, name, seed)
        self.replica = replica  # 0: another one each time
        self.seen = {}          # key -> version this client saw last

    def step(self):
        replica = self.replica or self.chance.randint(1, 3)
        what = self.chance.random()
        if what < 0.12:
            self.count_up(replica)
            return
        gen = "g%d" % (self.numbers.next("register") // GENERATION)
        key = "%s-%d" % (gen, self.chance.randrange(REGISTERS))
        path = "%s/%s" % (MAPS, key)
        labels = {"gen": gen}
        if what < 0.16:
            self.list(replica, gen)
        elif what < 0.28:
            value = self.value()
            self.note(self.write("create", replica, "POST", MAPS, self.map_body(key, value, labels), key=key,
                                 value=value))
        elif what < 0.33:
            self.write("delete", replica, "DELETE", path, key=key)
        elif what < 0.50:
            value = self.value()
            self.note(self.write("patch", replica, "PATCH", path, {"data": {"v": value}},
                                 "application/merge-patch+json", key=key, value=value))
        elif what < 0.72 and key in self.seen:
            value, expect = self.value(), self.seen[key]
            self.note(self.write("cas", replica, "PUT", path, self.map_body(key, value, labels, expect), key=key,
                                 value=value, expect=expect))
        elif what < 0.90:
            self.note(self.read("get", replica, key)[0])
        else:
            self.note(self.read("stale", replica, key)[0])

    def note(self, record):
        if record["outcome"] == "ok" and record["version"] > 0:
            self.seen[record["key"]] = record["version"]

    def count_up(self, replica):
        key = "counter-%d" % self.chance.randrange(COUNTERS)
        labels = {"counter": "yes"}
        record, data = self.read(self.chance.choice(("get", "stale")), replica, key)
        value = self.value()
        if record["outcome"] == "ok" and record["version"] == 0:
            self.write("create", replica, "POST", MAPS, self.map_body(key, value, labels, n="1"), key=key, value=value,
                       count=1)
        elif record["outcome"] == "ok":
            count, expect = int(data["n"]) + 1, record["version"]
            self.write("cas", self.replica or self.chance.randint(1, 3), "PUT", "%s/%s" % (MAPS, key),
                       self.map_body(key, value, labels, expect, n=str(count)), key=key, value=value, expect=expect,
                       count=count)


class Edges(Caller):
    """Pods that end, fail and are started again at the edges, and the config maps that they mount."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.alive = []

    def step(self):
        if self.numbers.get("keepers") == 0:
            self.begin()
            return
        replica = self.chance.randint(1, 3)
        what = self.chance.random()
        if what < 0.4:
            self.change_map(replica)
        elif what < 0.85 and len(self.alive) < PODS_ALIVE:
            self.create(replica, "p-%d" % self.numbers.next("pod"), *self.chance.choice(
                (("Never", 0, 100), ("Never", 0, 700), ("Never", 3, 1500), ("OnFailure", 0, 2500),
                 ("OnFailure", 1, 3000), ("Always", 0, 4000), ("Always", 2, 1000))))
        elif self.alive:
            name = self.alive.pop(self.chance.randrange(len(self.alive)))
            self.write("pod-delete", replica, "DELETE", "%s/%s?gracePeriodSeconds=1" % (PODS, name), key=name)
        self.leaving.wait(self.chance.uniform(0.05, 0.35))  # pacing: an edge starts a few pods a second

    def begin(self):
        """A pod at each edge that stays, with a config map that changes."""
        for edge in EDGES:
            while not self.leaving.is_set():
                value = self.value()
                record = self.write("create", self.chance.randint(1, 3), "POST", MAPS,
                                    self.map_body("map-" + edge, value, {"gen": "edge"}), key="map-" + edge,
                                    value=value)
                if record["outcome"] == "ok" or record["code"] == 409:
                    break
            while not self.leaving.is_set():
                record = self.create(self.chance.randint(1, 3), "keeper-" + edge, "Always", 0, None, edge)
                if record["outcome"] == "ok" or record["code"] == 409:
                    break
        self.numbers.next("keepers")

    def create(self, replica, name, policy, code, ms, edge=None):
        command = ["sleep", "99999"] if ms is None else ["kelp-fake-exit", str(code), str(ms)]
        edge = edge or self.chance.choice(EDGES + (None,))
        spec = {"restartPolicy": policy, "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "main", "image": "kelp.local/busybox:1", "command": command}]}
        if edge is not None:
            spec["nodeName"] = edge
        if ms is None:
            spec["volumes"] = [{"name": "map", "configMap": {"name": "map-" + edge}}]
            spec["containers"][0]["volumeMounts"] = [{"name": "map", "mountPath": "/map"}]
        record = self.write("pod-create", replica, "POST", PODS,
                            {"apiVersion": "v1", "kind": "Pod", "spec": spec,
                             "metadata": {"name": name, "annotations": {"policy": policy, "code": str(code)}}},
                            key=name, value=name)
        if record["outcome"] == "ok" and ms is not None:
            self.alive.append(name)
        return record

    def change_map(self, replica):
        key, value = "map-" + self.chance.choice(EDGES), self.value()
        self.write("patch", replica, "PATCH", "%s/%s" % (MAPS, key), {"data": {"v": value}},
                   "application/merge-patch+json", key=key, value=value)


class Upward(Caller):
    """What an edge was told is taken, and what one replica shows of it. The edge is asked first; then a fresh read has
    the replica apply all that was acknowledged by then; then it is asked, in the same life of it. One of these for each
    replica: an edge that is on the side of one that is cut off must hear nothing that the others do not know."""

    def __init__(self, cluster, history, numbers, name, seed, replica):
        super().__init__(cluster, history, numbers, name, seed)
        self.replica = replica

    def step(self):
        edge, replica = self.chance.choice(EDGES), self.replica
        report = self.cluster.status(edge)
        if report is not None and report["upStream"] != 0:
            conn, _, _, code, _ = self.call(replica, "GET", MAPS + "/nothing")
            if code == 404:
                again, _, end, code, node = self.call(replica, "GET", "/kelp/v1/nodes/" + edge)
                if code == 200 and again == conn:
                    self.numbers.set("serves " + edge, node["replica"])
                    self.history.put("up", at=end, edge=edge, replica=replica, stream=report["upStream"],
                                     acked=report["upAcked"], now=node["upStream"], position=node["upPosition"])
        self.leaving.wait(self.chance.uniform(0.2, 0.5))  # pacing: each look is a process


class Watcher(Caller):
    """One watch of all config maps, for the whole run. It goes on where it was; at one replica, or at any."""

    def __init__(self, cluster, history, numbers, name, seed, replica):
        super().__init__(cluster, history, numbers, name, seed)
        self.replica = replica  # 0: another one each time
        self.version = None     # everything up to it was told
        self.seen_version = 0   # for whoever waits for it to reach one

    def step(self):
        replica = self.replica or self.chance.randint(1, 3)
        if self.version is None:
            self.version = self.list(replica, "", self.name)
            if self.version is None:
                self.leaving.wait(0.3)  # pacing
                return
            self.seen_version = self.version
        reason = self.stream(replica)
        self.history.put("watch-end", at=now(), watcher=self.name, reason=reason)
        self.drop(replica)

    def stream(self, replica):
        """Read one stream to its end. Answers why it ended."""
        try:
            connection, _ = self.connection(replica)
            connection.sock.settimeout(SILENCE_SECONDS)
            self.history.put("watch", at=now(), watcher=self.name, replica=replica, **{"from": self.version})
            connection.request("GET", "%s?watch=1&resourceVersion=%d" % (MAPS, self.version))
            answer = connection.getresponse()
            if answer.status == 410:
                self.version = None
                return "expired"
            if answer.status != 200:
                self.leaving.wait(0.3)  # pacing
                return "code %d" % answer.status
            while not self.leaving.is_set():
                line = answer.readline()
                if not line.endswith(b"\n"):
                    return "closed"
                if not self.take(json.loads(line)):
                    return "expired"
            return "leaving"
        except BROKEN as error:
            self.leaving.wait(0.2)  # pacing
            return type(error).__name__

    def take(self, event):
        """One event. Answers whether the stream goes on."""
        if event["type"] == "ERROR":
            if event["object"].get("code") == 410:
                self.version = None
            return False
        metadata = event["object"]["metadata"]
        version = int(metadata["resourceVersion"])
        if event["type"] != "BOOKMARK":
            self.history.put("event", at=now(), watcher=self.name, type=event["type"], key=metadata["name"],
                             version=version, value=event["object"].get("data", {}).get("v"))
            self.numbers.next("events")
        self.version = self.seen_version = version
        return True


class Workload:
    def __init__(self, cluster, history, seed):
        self.numbers = Numbers()
        self.callers = [Registers(cluster, history, self.numbers, "c%d" % i, seed * 100 + i, i % 4)
                        for i in range(8)]
        self.callers.append(Edges(cluster, history, self.numbers, "edges", seed * 100 + 50))
        self.callers += [Upward(cluster, history, self.numbers, "up%d" % i, seed * 100 + 50 + i, i) for i in (1, 2, 3)]
        self.watchers = [Watcher(cluster, history, self.numbers, "w%d" % i, seed * 100 + 60 + i, i) for i in (1, 2, 3)]
        self.watchers.append(Watcher(cluster, history, self.numbers, "roaming", seed * 100 + 70, 0))

    def start(self):
        for thread in self.watchers + self.callers:
            thread.start()

    def stop(self, threads, seconds=30):
        """Answers the words of threads that broke or do not end."""
        for thread in threads:
            thread.leaving.set()
        deadline = time.monotonic() + seconds
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0.1))
        return [t.broken or "%s does not end" % t.name for t in threads if t.broken or t.is_alive()]
