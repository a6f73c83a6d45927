"""Cloudcores and edgecores on this machine, for the benches that need real processes, and how they are measured.

A bench makes a Group, or derives from it, and adds its load: Client writes config maps over one connection of one
replica and says how it went; Api does what a person does, and retries; the loads that Python is too slow for are
programs (report_load.c, write_load.c) run by `load`. Light edges are those of tests/fleet: Fleet(group, ...).
"""
import argparse
import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tests", "fleet"))
from cluster import Fleet, process_cpu, process_memory  # noqa: E402,F401

BASE = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
MODELS = "/apis/devices.kubeedge.io/v1beta1/namespaces/default/devicemodels"
DEVICES = "/apis/devices.kubeedge.io/v1beta1/namespaces/default/devices"
PLACES = ["leader", "follower"]  # where an edge has its session
WRITERS = 8
POD_REFERENCES = 250  # of the 256 that a cloud takes by itself (references_max)


def port_free():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def control_ask(path):
    """What a program of ours says of itself to whoever sits beside it; {}: nothing, as nobody is there."""
    try:
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(10)
            asked.connect(path)
            said = b""
            while piece := asked.recv(65536):
                said += piece
        return json.loads(said)
    except (OSError, ValueError):
        return {}


def metrics_ask(port):
    """The numbers of /metrics that have no labels, or those of each label text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode()
    connection.close()
    return {name: float(value) for name, value in re.findall(r"^(kelp_\S+) (\S+)$", page, re.M)}


class Replica:
    def __init__(self, group, number):
        self.group, self.number = group, number
        self.api, self.peer, self.hub = port_free(), port_free(), port_free()
        self.directory = f"{group.home}/{number}"
        self.log = f"{group.home}/{number}.log"
        self.process = None

    def configure(self):
        os.mkdir(self.directory)
        lines = [
            f"replica: {self.number}",
            f"data: {self.directory}",
            "group: [" + ", ".join(f'"{r.number}=127.0.0.1:{r.peer}"' for r in self.group.replicas) + "]",
            f'api: {{ listen: "127.0.0.1:{self.api}" }}',
            f'hub: {{ listen: "127.0.0.1:{self.hub}" }}',
            f'peer: {{ listen: "127.0.0.1:{self.peer}" }}',
            f"tls: {{ authority: {self.group.home}/pki/ca.crt, certificate: {self.group.home}/pki/cloudcore-{self.number}.crt,"
            f" key: {self.group.home}/pki/cloudcore-{self.number}.key }}",
        ]
        rooms = {}
        for name, value in self.group.options.settings:
            room, key = name.split(".", 1)
            rooms.setdefault(room, []).append(f"{key}: {value}")
        lines += [f"{room}: {{ {', '.join(values)} }}" for room, values in rooms.items()]
        with open(f"{self.directory}.yaml", "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")

    def start(self):
        with open(self.log, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [f"{self.group.build}/nodes/cloudcore", "--config", f"{self.directory}.yaml"], stdout=log, stderr=log
            )

    def status(self):
        return control_ask(f"{self.directory}/control")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def terms_led(self):
        """The terms in which this replica led, in any of its lives."""
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return {int(m[1]) for m in re.finditer(r"event=leadership_moved leader=\d+ term=(\d+) leads=1", log.read())}


class Client:
    """One kept connection to one replica."""

    def __init__(self, replica):
        self.replica = replica
        self.connection = None

    def write(self, name, text, again=False):
        """Create the config map, or write it over. The status, or None when the connection broke."""
        group = self.replica.group
        try:
            if self.connection is None:
                self.connection = http.client.HTTPSConnection("127.0.0.1", self.replica.api, context=group.tls, timeout=20)
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": text}}
            verb, path = ("PUT", f"{BASE}/{name}") if again else ("POST", BASE)
            self.connection.request(verb, path, body=json.dumps(body), headers={"Content-Type": "application/json"})
            response = self.connection.getresponse()
            response.read()
            return response.status
        except (OSError, http.client.HTTPException):
            self.connection.close()
            self.connection = None
            return None

    def ready(self):
        """Connect and be answered, so that a write costs no handshake."""
        try:
            if self.connection is None:
                self.connection = http.client.HTTPSConnection(
                    "127.0.0.1", self.replica.api, context=self.replica.group.tls, timeout=5
                )
            self.connection.request("GET", "/readyz")
            return self.connection.getresponse().read() == b"ok"
        except (OSError, http.client.HTTPException):
            self.connection.close()
            self.connection = None
            return False


class Api:
    """What a person does with kubectl: one kept connection to one replica; what is refused for now is tried again."""

    def __init__(self, group, replica):
        self.group, self.replica, self.connection = group, replica, None

    def ask(self, method, path, body=None, kind="application/json", fine=()):
        """The JSON of the answer. A status above 400 that is not among `fine` ends the bench."""
        kept = self.connection is not None
        while True:
            if self.connection is None:
                self.connection = http.client.HTTPSConnection(
                    "127.0.0.1", self.replica.api, context=self.group.tls, timeout=60
                )
            try:
                self.connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": kind})
                answer = self.connection.getresponse()
                data = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.connection = None
                if kept:  # the other side ends one that was idle for two minutes
                    kept = False
                    continue
                self.group.end(f"{method} {path} was not answered: {error}")
            if answer.status in (429, 503):
                time.sleep(float(answer.headers.get("Retry-After", "0.1")))
                continue
            if answer.status >= 400 and answer.status not in fine:
                self.group.end(f"{method} {path}: {answer.status} {data[:300]}")
            return json.loads(data or b"null")

    def other(self):
        """The same on a connection of its own."""
        return Api(self.group, self.replica)

    def make_all(self, path, objects):
        """Create them, over a few connections; those that are there already are fine."""
        failures = []

        def make(first):
            api = self.other()
            try:
                for made in objects[first::WRITERS]:
                    api.ask("POST", path, made, fine=(409,))
            except SystemExit as failure:
                failures.append(failure)

        threads = [threading.Thread(target=make, args=(first,)) for first in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]


class Group:
    """`name` is the bench's; options has `directory`, and `settings`: pairs of a key of the configuration and its value."""

    def __init__(self, name, options, build):
        self.bench, self.options, self.build = name, options, os.path.abspath(build)
        self.home = os.path.abspath(tempfile.mkdtemp(prefix=name + ".", dir=options.directory))
        self.pki = f"{self.home}/pki"
        self.edges = f"{self.home}/lights"  # certificates of light edges
        self.replicas = []
        self.nodes = []  # Edges, which end with the group
        self.stopping = False

    def kelp(self, *words):
        subprocess.run([f"{self.build}/nodes/kelp", *words], check=True, stdout=subprocess.DEVNULL)

    def start(self):
        pki = self.pki
        os.mkdir(self.edges)
        self.kelp("pki", "ca", "--out", pki)
        for n in (1, 2, 3):
            self.kelp("pki", "server", "--ca", pki, "--name", f"cloudcore-{n}", "--san", "127.0.0.1", "--out", pki)
        self.kelp("pki", "client", "--ca", pki, "--user", "admin", "--group", "system:masters", "--out", pki)
        self.tls = ssl.create_default_context(cafile=f"{pki}/ca.crt")
        self.tls.load_cert_chain(f"{pki}/admin.crt", f"{pki}/admin.key")
        self.replicas = [Replica(self, n) for n in (1, 2, 3)]
        for replica in self.replicas:
            replica.configure()
            replica.start()
        self.wait(60, "a leader", lambda: self.leader() is not None)
        for replica in self.replicas:
            self.wait(60, f"replica {replica.number}", Client(replica).ready)

    def wait(self, seconds, what, condition, pause=0.05):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                self.end(f"waited {seconds} s for {what}")
            time.sleep(pause)

    def end(self, why):
        """It cannot go on. Where KELP_KEEP is set, what there is can be looked at afterwards."""
        kept = f"; the logs are in {self.home}" if os.environ.get("KELP_KEEP") else ""
        raise SystemExit(f"bench/run {self.bench}: {why}{kept}")

    @property
    def hub_ports(self):
        return {replica.number: replica.hub for replica in self.replicas}

    def api(self):
        """A person at the replica that leads, so that an answer comes as soon as there is one."""
        return Api(self, self.leader() or self.replicas[0])

    def load(self, program, *words):
        """Run a program of bench/ that prints one JSON object."""
        done = subprocess.run(
            [f"{self.build}/bench/{program}", *map(str, words)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            self.end(done.stderr.strip() or f"{program} ended with {done.returncode}")
        return json.loads(done.stdout)

    def writes(self, apis, *words):
        """Run write_load against these replicas."""
        files = ["--authority", f"{self.pki}/ca.crt", "--certificate", f"{self.pki}/admin.crt", "--key", f"{self.pki}/admin.key"]
        return self.load("write_load", *files, *sum((["--api", f"127.0.0.1:{port}"] for port in apis), []), *words)

    def leader(self):
        for replica in self.replicas:
            if replica.process.poll() is None and replica.status().get("leads"):
                return replica
        return None

    def replica_at(self, place):
        """The replica that leads, or the first that does not."""
        leader = self.leader() or self.end("no cloudcore leads")
        return next(replica for replica in self.replicas if (replica is leader) == (place == "leader"))

    def stop(self, keep):
        self.stopping = True
        for node in self.nodes:
            node.close()
        for replica in self.replicas:
            if replica.process is not None and replica.process.poll() is None:
                replica.process.kill()
                replica.process.wait()
        if not keep:
            shutil.rmtree(self.home)

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, *_):
        self.stop(keep=kind is not None and bool(os.environ.get("KELP_KEEP")))


class Edge:
    """A real edgecore with a runtime that runs nothing, and a link that can be cut.

    settings: YAML, more of its configuration. The MQTT broker is its own, when `mqtt` says so. It knows these
    `replicas` alone: one that is at a follower waits longer for what it said, as that has to ask the leader.
    """

    def __init__(self, group, name, mqtt=False, settings="", replicas=None):
        self.group, self.name, self.settings = group, name, settings
        self.replicas = replicas or group.replicas
        self.broker = port_free() if mqtt else None
        self.metrics = port_free()
        self.links = [port_free() for _ in self.replicas]
        self.data = f"{group.home}/{name}/data"
        self.control = f"{self.data}/control"
        self.log = f"{group.home}/{name}.log"
        self.socket = f"{group.home}/{name}.sock"
        self.process = self.runtime = self.relay = None
        group.kelp("pki", "node", "--ca", group.pki, "--node", name, "--out", group.pki)
        os.makedirs(f"{group.home}/{name}")
        group.nodes.append(self)

    def configure(self):
        mode = f'{{ mode: internal, internal: "tcp://127.0.0.1:{self.broker}" }}' if self.broker else "{ mode: none }"
        bus = "" if "eventBus:" in self.settings else f"eventBus: {mode}\n"
        with open(f"{self.group.home}/{self.name}.yaml", "w", encoding="utf-8") as file:
            file.write(
                f"data: {self.data}\n"
                f"cloud: [{', '.join(f'127.0.0.1:{port}' for port in self.links)}]\n"
                f"tls: {{ authority: {self.group.pki}/ca.crt, certificate: {self.group.pki}/{self.name}.crt,"
                f" key: {self.group.pki}/{self.name}.key }}\n"
                f'runtime: {{ endpoint: "unix://{self.socket}", root: {self.group.home}/{self.name}/pods, cgroup: "" }}\n'
                f'metrics: {{ listen: "127.0.0.1:{self.metrics}" }}\n'
                f"link: {{ backoff: 500ms }}\n{bus}{self.settings}"
            )

    def launch(self, *words):
        with open(self.log, "a", encoding="utf-8") as log:
            return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def start_runtime(self):
        self.runtime = self.launch(
            f"{self.group.build}/nodes/edge/kelp-fake-cri", "--socket", self.socket, "--state", f"{self.socket}.state"
        )
        self.group.wait(10, f"the runtime of {self.name}", lambda: os.path.exists(self.socket), 0.01)

    def start_relay(self):
        pairs = [f"{link}={replica.hub}" for link, replica in zip(self.links, self.replicas)]
        self.relay = self.launch(sys.executable, f"{TOP}/nodes/runtime/relay", *pairs)

        def listens():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.links[-1])) == 0

        self.group.wait(10, f"the link of {self.name}", listens, 0.01)

    def start_core(self):
        self.process = self.launch(
            f"{self.group.build}/nodes/edgecore", "--config", f"{self.group.home}/{self.name}.yaml"
        )

    def start(self):
        """All of it, until the cloud has welcomed it and it has recorded and told what it says of itself."""
        self.configure()
        self.start_runtime()
        self.start_relay()
        self.start_core()
        self.group.wait(60, f"{self.name} to be welcomed", lambda: self.status().get("linkUp"))
        if self.broker:
            self.group.wait(30, f"the broker of {self.name}", lambda: self.status().get("brokersConnected") == 1)
        self.settle()

    def settle(self, seconds=60):
        """The cloud has all that it said."""

        def settled():
            said = self.status()
            return said.get("upLast") == said.get("upAcked", -1) and said.get("mqttWaiting") == 0 == said.get("mqttOutbox")

        self.group.wait(seconds, f"{self.name} to have told all it has to", settled)

    def cut(self):
        """As when a cable is pulled: whoever has a connection hears nothing of it."""
        self.relay.send_signal(signal.SIGUSR1)

    def restore(self):
        """The old connections are reset, and it dials anew."""
        self.relay.send_signal(signal.SIGUSR2)

    def status(self):
        return control_ask(self.control)

    @property
    def pid(self):
        return self.process.pid

    def broker_pid(self):
        with open(f"/proc/{self.pid}/task/{self.pid}/children", encoding="ascii") as children:
            return int(children.read().split()[0])

    def runtime_starts(self):
        """How many containers its runtime was told to start, since its state was new."""
        try:
            with open(f"{self.socket}.state.starts", "rb") as starts:
                return starts.read().count(b"\n")
        except FileNotFoundError:
            return 0

    def end_core(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(60)

    def close(self):
        for process in (self.process, self.relay, self.runtime):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()

    def equal(self, api):
        """It holds what the cloud wishes it to, and the cloud has all that it said: positions and digests agree."""
        here, there = self.status(), api.ask("GET", f"/kelp/v1/nodes/{self.name}")
        pairs = [("downStream", "downStream"), ("downPosition", "downTip"), ("digest", "digest"), ("upStream", "upStream"),
                 ("upLast", "upPosition")]
        return all(here.get(ours) == there[theirs] for ours, theirs in pairs)

    def reports(self, *words):
        """Run report_load against it."""
        return self.group.load("report_load", "--broker", f"127.0.0.1:{self.broker}", "--control", self.control, *words)


def device_model():
    return {"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceModel", "metadata": {"name": "thermometer"},
            "spec": {"properties": [{"name": "temperature", "type": "INT", "accessMode": "ReadOnly"},
                                    {"name": "target", "type": "INT", "accessMode": "ReadWrite"}]}}


def devices_of(node, name, count):
    """Devices NAME-0, NAME-1 ... of a node."""
    return [{"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device", "metadata": {"name": f"{name}-{number}"},
             "spec": {"deviceModelRef": {"name": "thermometer"}, "nodeName": node,
                      "protocol": {"protocolName": "sample"}, "properties": [{"name": "temperature"}]}}
            for number in range(count)]


def pods_use(api, nodes, name, count):
    """Pods on each of these nodes that use the config maps NAME-0 .. NAME-(count - 1). How many pods that is."""
    pods = []
    for at in range(0, count, POD_REFERENCES):
        maps = [{"configMapRef": {"name": f"{name}-{number}"}} for number in range(at, min(count, at + POD_REFERENCES))]
        pods += [pod_of(node, f"{name}-{at // POD_REFERENCES}-{node}", {"envFrom": maps}) for node in nodes]
    api.make_all(PODS, pods)
    return len(pods)


def pod_of(node, name, container):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"nodeName": node, "containers": [{"name": "main", "image": "kelp.local/none:1", **container}]}}


class Replier:
    """The other side of write_load without a cloudcore: it answers at once, so the client itself is the bound."""

    def __init__(self, group):
        self.port = port_free()
        self.process = subprocess.Popen(
            [f"{group.build}/bench/write_load", "--serve", f"127.0.0.1:{self.port}", "--authority", f"{group.pki}/ca.crt",
             "--certificate", f"{group.pki}/cloudcore-1.crt", "--key", f"{group.pki}/cloudcore-1.key"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if not self.process.stdout.readline():
            group.end("write_load --serve did not start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class Broker:
    """mosquitto alone, which keeps what its one subscriber has not taken yet, as ours may not drop either."""

    def __init__(self, directory):
        self.directory, self.port = tempfile.mkdtemp(prefix="broker.", dir=directory), port_free()
        with open(f"{self.directory}/mosquitto.conf", "w", encoding="utf-8") as config:
            config.write(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
                         "max_queued_messages 0\nmax_inflight_messages 0\nset_tcp_nodelay true\nlog_type error\n")

    def __enter__(self):
        self.process = subprocess.Popen(["mosquitto", "-c", f"{self.directory}/mosquitto.conf"])
        deadline = time.monotonic() + 10
        while socket.socket().connect_ex(("127.0.0.1", self.port)) != 0:
            if time.monotonic() > deadline:
                self.__exit__()
                raise SystemExit("bench/run: waited 10 s for mosquitto")
            time.sleep(0.02)
        return self

    def __exit__(self, *what):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory)


def disk_syncs(directory, seconds=1.0):
    """How often a second the disk makes 4 KiB durable when that is all it does: pwrite and fdatasync, one after the
    other, into a file that was written before."""
    blocks, block = 1024, b"x" * 4096
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        for _ in range(blocks):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        count, began = 0, time.monotonic()
        while time.monotonic() < began + seconds:
            os.pwrite(file.fileno(), block, count % blocks * 4096)
            os.fdatasync(file.fileno())
            count += 1
        return count / (time.monotonic() - began)


class Traced:
    """fdatasync and fsync of processes, counted by strace, which slows them: for counts, not for times.

    with Traced({"edge": pid}) as traced: ...; then traced.calls: {"edge": how many}. Where it is not allowed to trace,
    `calls` stays empty."""

    def __init__(self, pids):
        self.pids, self.calls = pids, {}

    def __enter__(self):
        self.files = {name: tempfile.NamedTemporaryFile("r") for name in self.pids}
        self.traces = {}
        if shutil.which("strace"):
            self.traces = {
                name: subprocess.Popen(["strace", "-f", "-qq", "-c", "-e", "trace=fdatasync,fsync", "-o", self.files[name].name,
                                        "-p", str(pid)], stderr=subprocess.DEVNULL)
                for name, pid in self.pids.items()
            }
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not all(self.attached(name) for name in self.traces):
            time.sleep(0.02)
        return self

    def attached(self, name):
        """All threads of it; or strace has given up."""
        if self.traces[name].poll() is not None:
            return True
        pid = self.pids[name]
        return all(re.search(r"TracerPid:\s+[1-9]", open(f"/proc/{pid}/task/{task}/status", encoding="ascii").read())
                   for task in os.listdir(f"/proc/{pid}/task"))

    def __exit__(self, *what):
        for name, trace in self.traces.items():
            with contextlib.suppress(ProcessLookupError):
                trace.send_signal(signal.SIGINT)
            trace.wait(30)
            lines = [line.split() for line in self.files[name].read().splitlines()]
            counts = [int(line[3]) for line in lines if len(line) > 4 and line[-1] in ("fdatasync", "fsync")]
            if counts:
                self.calls[name] = sum(counts)
        for file in self.files.values():
            file.close()


def options_parser(name, about):
    """What the options of benches with a Group have in common."""
    parser = argparse.ArgumentParser(prog=f"bench/run {name}", description=about,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help=argparse.SUPPRESS)
    parser.add_argument("--repeat", type=int, default=3, help="repetitions, taking turns [3]")
    parser.add_argument("--directory", default=".", help="where the data directories are made: the disk that is measured [.]")
    parser.add_argument("--set", dest="settings", action="append", default=[], type=lambda text: tuple(text.split("=", 1)),
                        metavar="KEY=VALUE", help="a key of cloudcore's configuration; repeatable")
    parser.add_argument("-o", dest="output", choices=("table", "csv", "json"), default="table")
    return parser


def choice_of(known):
    """For an option: some of these words, with commas between."""
    def read(text):
        words = text.split(",")
        if not set(known) >= set(words):
            raise ValueError
        return words

    return read


def numbers_of(most):
    """For an option: numbers from 1 on, with commas between."""
    def read(text):
        numbers = [int(word) for word in text.split(",")]
        if not all(1 <= number <= most for number in numbers):
            raise ValueError
        return numbers

    return read


def interruptible():
    """SIGTERM leaves as SIGINT does, by an exception, so that nothing stays behind."""
    def leave(number, _):
        raise SystemExit(f"interrupted by {signal.Signals(number).name}: nothing was printed, nothing is left")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)


def table_print(rows, output):
    """Rows are dicts with the same keys; `output` is table or csv (json is rows.py's)."""
    keys = list(rows[0])
    lines = [keys] + [[str(row[key]) for key in keys] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(keys))]
    for line in lines:
        if output == "csv":
            print(",".join(line))
        else:
            print("  ".join(word.rjust(width) for word, width in zip(line, widths)))
