"""The history of a campaign: one JSON object a line, in the order of writing.

`at`, `begin` and `end` are nanoseconds of the monotonic clock of the one machine. Kinds ("t"):

    run       seed, seconds, mix, version: what was asked for; the first line
    plan      fault: what the nemesis will do; one line each, before it begins
    fault     at, do (begin or end), fault, on: what it did, and to whom
    note      at, what: what a command that changes the group said
    died      at, process, code: a program ended and nobody had asked it to
    op        one request of a client:
                  client, conn  who, and on which connection (one replica, one life of it)
                  replica       that was asked
                  op            create cas patch delete get stale (get with resourceVersion=0) pod-create pod-delete
                  key           name of the object
                  begin, end    sent, answered (or given up)
                  outcome       ok; fail: refused, it has not happened; unknown: nobody said
                  code          HTTP status, 0: none came
                  value         that was to be written, unique; or that was read
                  expect        version that the write is conditional on
                  version       that the object got, or has; 0: there is none
                  count         of a counter
    list      client, conn, replica, begin, end, gen, version, items {key: [version, value]}: a whole collection
              (gen: its label, "" for all); watcher: what a watch starts from
    up        at, edge, stream, acked: what the edge was told is taken of its facts; replica, now, position: the stream
              and how far, as a replica shows it that has applied all that was acknowledged when the edge was asked
    watch     at, watcher, replica, from: a stream was opened, after this version
    event     at, watcher, type, key, version, value: what it told
    watch-end at, watcher, reason: why the stream ended
    healed    at: all faults are over; what follows is about coming to rest
    end       version: the write after which everything stood still; each watcher must reach it
    final     replica, applied, version, lists {resource: digest}, nodes {edge: report}: the state, seen at each replica
    final-edge  edge, report, volume {key: value}: the same at the edge
    final-pod   name, uid, edge, phase, restarts, starts, given_up, policy, code: a pod, and what its runtime did
    log         replica, from, to, bytes, digest: of the stretch of the log that all replicas hold and have applied
    failed    what: it did not come to rest in time, and how far it came
"""
import gzip
import json
import threading


class Writer:
    def __init__(self, path):
        self.path = path
        self.file = open(path, "w")
        self.lock = threading.Lock()

    def put(self, t, **fields):
        line = json.dumps({"t": t, **fields}, separators=(",", ":"))
        with self.lock:
            self.file.write(line + "\n")

    def lines(self):
        """All that was put so far."""
        with self.lock:
            self.file.flush()
        return read(self.path)

    def close(self):
        self.file.close()


def read(path):
    """All lines of a history, which may be packed with gzip. One that was cut in its last line ends before it."""
    lines = []
    with (gzip.open(path, "rt") if path.endswith(".gz") else open(path)) as file:
        for line in file:
            if not line.endswith("\n"):
                break
            lines.append(json.loads(line))
    return lines


def pack(path, packed):
    """Copy a history to where failures are kept."""
    with open(path, "rb") as source, gzip.open(packed, "wb") as target:
        while True:
            piece = source.read(1 << 20)
            if not piece:
                break
            target.write(piece)
