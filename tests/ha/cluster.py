"""Real cloudcores and edgecores, each on a host of its own: a network namespace behind the wire.

Everything lives below one directory and in one pid, mount and network namespace that the campaign made for
itself, so that whatever happens to the campaign, nothing of this is left.
"""
import hashlib
import http.client
import json
import os
import signal
import ssl
import struct
import subprocess
import threading
import time

CLOUDS = ("cloudcore-1", "cloudcore-2", "cloudcore-3")
EDGES = ("edge-1", "edge-2")
CLIENTS = "clients"
HOSTS = CLOUDS + EDGES + (CLIENTS,)
API_PORT = 6443
DISK_BYTES = 320 << 20  # of a small disk: the log, the state and their reserve, and little more


class Failed(Exception):
    """The campaign cannot go on: not a verdict about the product, unless it says so."""


def now():
    """Nanoseconds of the one clock of all records; it is not stepped."""
    return time.monotonic_ns()


def await_that(what, seconds, condition):
    """Wait for a condition, never just for time. Answers what the condition did."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise Failed("gave up after %d s: %s" % (seconds, what))
        time.sleep(0.1)


class Wire:
    """The switch between the hosts (wire.c)."""

    def __init__(self, program, seed, directory):
        os.makedirs(directory, exist_ok=True)
        self.directory = directory
        self.lock = threading.Lock()
        self.process = subprocess.Popen([program, str(seed), directory, *HOSTS], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise Failed("the wire could not be made: it needs root and /dev/net/tun")

    def order(self, lines):
        with self.lock:
            for line in lines:
                self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            answers = [self.process.stdout.readline().split() for _ in lines]
        if any(not answer or answer[0] != "ok" for answer in answers):
            raise Failed("the wire did not take an order: %s" % lines)
        return answers

    def stats(self):
        """Frames that passed and that were lost."""
        answer = self.order(["stats"])[0]
        return int(answer[1]), int(answer[2])

    def namespace(self, host):
        return os.path.join(self.directory, host)


class Process:
    """One program on one host. Whoever kills it says so; an end that nobody asked for is kept as a finding."""

    def __init__(self, cluster, host, name, command, clock=None):
        self.cluster, self.host, self.name, self.command, self.clock = cluster, host, name, command, clock
        self.popen = None
        self.wanted = False
        self.lock = threading.Lock()

    def start(self):
        with self.lock:
            if self.popen is not None and self.popen.poll() is None:
                return
            environment = dict(os.environ)
            if self.clock is not None:
                environment["KELP_CLOCK"] = self.clock
                environment["LD_PRELOAD"] = self.cluster.clock_library
            with open(os.path.join(self.cluster.directory, "logs", self.name + ".log"), "ab") as log:
                self.popen = subprocess.Popen(
                    ["nsenter", "--net=" + self.cluster.wire.namespace(self.host), "--", *self.command],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
            self.wanted = True

    def signal(self, number):
        """Answers whether it was there to receive it. A kill is waited for."""
        with self.lock:
            if self.popen is None or self.popen.poll() is not None:
                return False
            if number in (signal.SIGKILL, signal.SIGTERM):
                self.wanted = False
            self.popen.send_signal(number)
            if number == signal.SIGKILL:
                self.popen.wait()
            return True

    def died(self):
        """The exit code, if it ended and nobody wanted that; told once."""
        with self.lock:
            if self.wanted and self.popen is not None and self.popen.poll() is not None:
                self.wanted = False
                return self.popen.returncode
        return None

    def stop(self, seconds):
        """End in order. Answers whether it did."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self.popen is None or self.popen.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            self.popen.kill()
            return False


class Cluster:
    def __init__(self, build, directory, seed, small_disks):
        self.build = build
        self.directory = directory
        self.kelp_program = os.path.join(build, "nodes/kelp")
        self.clock_library = os.path.join(build, "tests/ha/ha-clock.so")
        os.makedirs(os.path.join(directory, "logs"), exist_ok=True)
        self.small_disks = small_disks
        self.pki = os.path.join(directory, "pki")
        self.make_certificates()
        self.wire = Wire(os.path.join(build, "tests/ha/ha-wire"), seed, os.path.join(directory, "net"))
        self.processes = {}
        self.clocks = {}
        for number, name in enumerate(CLOUDS, 1):
            self.make_cloud(number, name)
        for name in EDGES:
            self.make_edge(name)
        self.tls = ssl.create_default_context(cafile=os.path.join(self.pki, "ca.crt"))
        self.tls.load_cert_chain(os.path.join(self.pki, "admin.crt"), os.path.join(self.pki, "admin.key"))

    # -- making ------------------------------------------------------------------------------------------

    def path(self, *parts):
        return os.path.join(self.directory, *parts)

    def kelp(self, *words):
        done = subprocess.run([self.kelp_program, *words], capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise Failed("kelp %s: %s" % (" ".join(words), done.stderr.strip()))
        return done.stdout

    def address(self, host):
        return "10.99.0.%d" % (HOSTS.index(host) + 1)

    def url(self, replica):
        return "https://%s:%d" % (self.address(CLOUDS[replica - 1]), API_PORT)

    def make_certificates(self):
        self.kelp("pki", "ca", "--out", self.pki)
        for name in CLOUDS:
            self.kelp("pki", "server", "--ca", self.pki, "--name", name, "--san", self.address(name), "--out", self.pki)
        for name in EDGES:
            self.kelp("pki", "node", "--ca", self.pki, "--node", name, "--out", self.pki)
        self.kelp("pki", "client", "--ca", self.pki, "--user", "admin", "--group", "system:masters", "--out", self.pki)
        self.kelp("pki", "kubeconfig", "--pki", self.pki, "--user", "admin", "--server", self.url(1), "--out",
                  self.path("kubeconfig"))

    def make_data(self, name):
        """The data directory; a small disk when the campaign fills disks, on a file or in memory."""
        data = self.path(name, "data")
        os.makedirs(data)
        if not self.small_disks:
            return data
        image = self.path(name, "disk")
        with open(image, "wb") as file:
            file.truncate(DISK_BYTES)
        made = subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], capture_output=True).returncode == 0 and \
            subprocess.run(["mount", "-o", "loop", image, data], capture_output=True).returncode == 0
        if not made:
            os.unlink(image)
            mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%d,mode=700" % DISK_BYTES, "tmpfs", data],
                                     capture_output=True, text=True)
            if mounted.returncode != 0:
                raise Failed("no small disk can be mounted: " + mounted.stderr.strip())
        os.chmod(data, 0o700)
        return data

    def make_clock(self, name):
        path = self.path(name, "clock")
        with open(path, "wb") as file:
            file.write(struct.pack("=q", 0))
        self.clocks[name] = path
        return path

    def make_cloud(self, number, name):
        data = self.make_data(name)
        config = self.path(name, "cloudcore.yaml")
        group = "".join("  - %d=%s:10010\n" % (i, self.address(c)) for i, c in enumerate(CLOUDS, 1))
        with open(config, "w") as file:
            file.write(f"""replica: {number}
data: {data}
group:
{group}api: {{ listen: "{self.address(name)}:{API_PORT}" }}
hub: {{ listen: "{self.address(name)}:10000" }}
peer: {{ listen: "{self.address(name)}:10010" }}
tls: {{ authority: {self.pki}/ca.crt, certificate: {self.pki}/{name}.crt, key: {self.pki}/{name}.key }}
session: {{ heartbeat: 2s, unreachable: 10s }}
propose: {{ deadline: 5s }}
log: {{ snapshot: 1MiB, history: 2MiB }}
disk: {{ reserve: 24MiB }}
""")
        self.processes[name] = Process(self, name, name, [os.path.join(self.build, "nodes/cloudcore"), "--config",
                                                          config], self.make_clock(name))

    def make_edge(self, name):
        data = self.make_data(name)
        config = self.path(name, "edgecore.yaml")
        socket, state = self.path(name, "cri.sock"), self.path(name, "cri.state")
        cloud = "".join("  - %s:10000\n" % self.address(c) for c in CLOUDS)
        with open(config, "w") as file:
            file.write(f"""data: {data}
cloud:
{cloud}tls: {{ authority: {self.pki}/ca.crt, certificate: {self.pki}/{name}.crt, key: {self.pki}/{name}.key }}
runtime: {{ endpoint: "unix://{socket}", root: {self.path(name, "pods")}, cgroup: "" }}
link: {{ backoff: 2s }}
eventBus: {{ mode: none }}
disk: {{ reserve: 16MiB }}
""")
        self.processes[name + "-runtime"] = Process(
            self, name, name + "-runtime",
            [os.path.join(self.build, "nodes/edge/kelp-fake-cri"), "--socket", socket, "--state", state])
        self.processes[name] = Process(self, name, name, [os.path.join(self.build, "nodes/edgecore"), "--config",
                                                          config], self.make_clock(name))

    # -- the life of it ----------------------------------------------------------------------------------

    def start(self):
        for name in EDGES:
            self.processes[name + "-runtime"].start()
        for name in EDGES:
            await_that("the fake runtime of %s to listen" % name, 20,
                       lambda: os.path.exists(self.path(name, "cri.sock")))
        for name in CLOUDS + EDGES:
            self.processes[name].start()

    def stop(self):
        """End everything in order. Answers the names of those that did not."""
        names = list(EDGES) + list(CLOUDS) + [name + "-runtime" for name in EDGES]
        return [name for name in names if not self.processes[name].stop(20) and not name.endswith("-runtime")]

    def set_clock(self, name, shift_ms):
        with open(self.clocks[name], "r+b") as file:
            file.write(struct.pack("=q", shift_ms))

    # -- asking ------------------------------------------------------------------------------------------

    def status(self, name):
        """What the program says of itself by its control socket; None: it does not answer."""
        done = subprocess.run([self.kelp_program, "status", self.path(name, "data"), "-o", "json"],
                              capture_output=True, text=True)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def leader(self):
        """Name of the replica that leads, as far as one of them knows; None: none."""
        said = [self.status(name) for name in CLOUDS]
        for name, status in zip(CLOUDS, said):
            if status is not None and status["leads"]:
                return name
        return None

    def logs(self, last):
        """Digests of what the logs of all replicas, which have stopped, have in common, up to an offset."""
        info = {name: json.loads(self.kelp("log", "info", self.path(name, "data"), "-o", "json")) for name in CLOUDS}
        first = max(entry["first"] for entry in info.values())
        digests = []
        for replica, name in enumerate(CLOUDS, 1):
            done = subprocess.run([self.kelp_program, "log", "cat", self.path(name, "data"), "-o", "raw",
                                   "--show-secrets", "--from", str(first), "--to", str(last)], capture_output=True)
            if done.returncode != 0:
                raise Failed("the log of %s cannot be read: %s" % (name, done.stderr.decode().strip()))
            digests.append({"replica": replica, "from": first, "to": last, "bytes": len(done.stdout),
                            "digest": hashlib.sha256(done.stdout).hexdigest()[:16]})
        return digests

    def starts(self, edge, uid):
        """How often the runtime of the edge started containers of the pod."""
        done = subprocess.run([os.path.join(self.build, "nodes/edge/kelp-fake-cri"), "--state",
                               self.path(edge, "cri.state"), "--starts", uid], capture_output=True, text=True)
        return int(done.stdout) if done.returncode == 0 else None

    def connect(self, replica, seconds):
        """An open connection to the API of a replica (1, 2, 3), from the clients' host's thread."""
        connection = http.client.HTTPSConnection(self.address(CLOUDS[replica - 1]), API_PORT, timeout=seconds,
                                                 context=self.tls)
        connection.connect()
        return connection
