"""Three real cloudcores and a fleet of light edges, for fleet_test.py and bench/fleet_bench.py.

A Cluster has a directory of its own, ports that were free, and an authority; a Fleet is the program of
fleet.c. Both end with the `with` they were made in, whatever happens.
"""
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time


class Failed(Exception):
    """Something that had to be did not come to be."""


def until(seconds, what, claim):
    """Wait for a condition; returns what `claim` returned."""
    deadline = time.monotonic() + seconds
    while True:
        found = claim()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(0.05)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def process_memory(pid):
    """Bytes of a process that no file backs, and those that are resident."""
    found = {}
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith(("RssAnon", "VmRSS")):
                found[line.split(":")[0]] = int(line.split()[1]) * 1024
    return found["RssAnon"], found["VmRSS"]


def process_cpu(pid):
    """Seconds of processor time that a process has used."""
    with open(f"/proc/{pid}/stat") as stat:
        words = stat.read().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


class Cluster:
    def __init__(self, build, settings=""):
        self.build = os.path.abspath(build)
        self.settings = settings
        self.directory = tempfile.mkdtemp(prefix="kelp-fleet-")
        # Thousands of keys are made durable one by one: not what is tested here, so in memory where that is.
        self.edges = tempfile.mkdtemp(prefix="kelp-fleet-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        self.pki = os.path.join(self.directory, "pki")
        self.processes = {}
        ports = free_ports(9)
        self.api_ports, self.hub_ports, self.peer_ports = (dict(zip((1, 2, 3), ports[i:i + 3]))
                                                           for i in (0, 3, 6))
        self._identities()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for process in self.processes.values():
            process.kill()
            process.wait()
        shutil.rmtree(self.edges, ignore_errors=True)
        if kind is not None and os.environ.get("KELP_KEEP"):
            print(f"kept: {self.directory}", flush=True)
            return
        if kind is not None:
            for n in (1, 2, 3):
                with open(self._log(n), errors="replace") as log:
                    print(f"---- cloudcore-{n}", *log.readlines()[-15:], sep="\n", flush=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _kelp(self, *arguments):
        subprocess.run([os.path.join(self.build, "nodes/kelp"), *arguments], check=True, stdout=subprocess.DEVNULL)

    def _identities(self):
        self._kelp("pki", "ca", "--out", self.pki)
        for n in (1, 2, 3):
            self._kelp("pki", "server", "--ca", self.pki, "--name", f"cloudcore-{n}", "--san", "127.0.0.1",
                       "--out", self.pki)
        self._kelp("pki", "client", "--ca", self.pki, "--user", "admin", "--group", "system:masters", "--out",
                   self.pki)
        self.tls = ssl.create_default_context(cafile=os.path.join(self.pki, "ca.crt"))
        self.tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self.tls.load_cert_chain(os.path.join(self.pki, "admin.crt"), os.path.join(self.pki, "admin.key"))

    def _data(self, n):
        return os.path.join(self.directory, f"cloudcore-{n}")

    def _log(self, n):
        return self._data(n) + ".log"

    # -- processes

    def start(self, n):
        group = "\n".join(f"  - {i}=127.0.0.1:{port}" for i, port in self.peer_ports.items())
        path = self._data(n) + ".yaml"
        with open(path, "w") as config:
            config.write(f"""replica: {n}
data: {self._data(n)}
group:
{group}
api: {{ listen: "127.0.0.1:{self.api_ports[n]}" }}
hub: {{ listen: "127.0.0.1:{self.hub_ports[n]}" }}
peer: {{ listen: "127.0.0.1:{self.peer_ports[n]}" }}
tls:
  authority: {self.pki}/ca.crt
  certificate: {self.pki}/cloudcore-{n}.crt
  key: {self.pki}/cloudcore-{n}.key
{self.settings}
""")
        with open(self._log(n), "a") as log:
            self.processes[n] = subprocess.Popen([os.path.join(self.build, "nodes/cloudcore"), "--config", path],
                                                 stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def start_all(self):
        for n in (1, 2, 3):
            self.start(n)
        until(30, "there is a leader that takes writes", self.ready)

    def ready(self):
        return self.leader() != 0 and all(self.status(n).get("cluster") for n in self.processes)

    def kill(self, n):
        """kill -9. Returns once the process is gone."""
        self.processes[n].send_signal(signal.SIGKILL)
        self.processes.pop(n).wait()

    def end_all(self):
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(30)
        self.processes = {}

    def pid(self, n):
        return self.processes[n].pid

    # -- what they say

    def status(self, n):
        asked = subprocess.run([os.path.join(self.build, "nodes/kelp"), "status", self._data(n), "-o", "json"],
                               capture_output=True, text=True)
        return json.loads(asked.stdout) if asked.returncode == 0 else {}

    def leader(self):
        """The number of the replica that leads; 0: none."""
        for n in self.processes:
            if self.status(n).get("leads"):
                return n
        return 0


class Caller:
    """A client of the API with kept connections. One for each thread."""

    def __init__(self, cluster, first=0):
        self.cluster = cluster
        self.first = first  # which replica is tried first
        self.connections = {}

    def ask(self, n, method, path, body=None, seconds=30):
        """One request at one replica: (HTTP status, JSON)."""
        connection = self.connections.get(n)
        if connection is None:
            connection = http.client.HTTPSConnection("127.0.0.1", self.cluster.api_ports[n], context=self.cluster.tls,
                                                     timeout=seconds)
            self.connections[n] = connection
        try:
            connection.request(method, path, None if body is None else json.dumps(body),
                               {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or "null")
        except (OSError, http.client.HTTPException):
            connection.close()
            self.connections.pop(n, None)
            raise

    def write(self, method, path, body, seconds=60):
        """A write at any replica that lives, again until one says that it is done. Only for writes that may be
        repeated: an object whose creation was answered to nobody is there (409)."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            alive = sorted(self.cluster.processes)
            for i in range(len(alive)):
                n = alive[(self.first + i) % len(alive)]
                try:
                    code, answer = self.ask(n, method, path, body, 5)
                except (OSError, http.client.HTTPException):
                    continue
                if code in (200, 201) or (code == 409 and method == "POST"):
                    return answer
                if code not in (429, 500, 503, 504):
                    raise Failed(f"{method} {path}: {code} {answer}")
        raise Failed(f"{method} {path}: not taken within {seconds} s")


class Fleet:
    def __init__(self, cluster, count, first=1, prefix="light", timed=False):
        arguments = [os.path.join(cluster.build, "tests/fleet/fleet"), "--pki", cluster.pki, "--certs", cluster.edges,
                     "--first", str(first), "--count", str(count), "--prefix", prefix]
        for port in cluster.hub_ports.values():
            arguments += ["--cloud", f"127.0.0.1:{port}"]
        if timed:
            arguments.append("--timed")
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def prepared(self):
        """Wait for the certificates."""
        if "prepared" not in self.process.stdout.readline():
            raise Failed("the fleet did not start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def hear(self):
        """The next line of an answer."""
        line = self.process.stdout.readline()
        if not line:
            raise Failed("the fleet ended")
        return json.loads(line)

    def say(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def ask(self, command):
        self.say(command)
        return self.hear()

    def report(self):
        return self.ask("report")

    def dump(self):
        self.say("dump")
        edges = []
        while True:
            line = self.hear()
            if "done" in line:
                return edges
            edges.append(line)
