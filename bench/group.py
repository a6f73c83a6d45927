"""Three cloudcores on this machine, for the benches that need real processes.

Each bench derives from Group and adds its load.
"""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time

BASE = "/api/v1/namespaces/default/configmaps"


def port_free():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


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
        found = subprocess.run(
            [f"{self.group.build}/nodes/kelp", "status", self.directory, "-o", "json"], capture_output=True, check=False
        )
        return json.loads(found.stdout) if found.returncode == 0 and found.stdout else {}

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


class Group:
    """`name` is the bench's; options has `directory`, and `settings`: pairs of a key of the configuration and its value."""

    def __init__(self, name, options, build):
        self.bench, self.options, self.build = name, options, build
        self.home = os.path.abspath(tempfile.mkdtemp(prefix=name + ".", dir=options.directory))
        self.replicas = []
        self.stopping = False

    def kelp(self, *words):
        subprocess.run([f"{self.build}/nodes/kelp", *words], check=True, stdout=subprocess.DEVNULL)

    def start(self):
        pki = f"{self.home}/pki"
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

    def wait(self, seconds, what, condition):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise SystemExit(f"bench/run {self.bench}: waited {seconds} s for {what}; the logs are in {self.home}")
            time.sleep(0.05)

    def leader(self):
        for replica in self.replicas:
            if replica.process.poll() is None and replica.status().get("leads"):
                return replica
        return None

    def stop(self, keep):
        self.stopping = True
        for replica in self.replicas:
            if replica.process is not None and replica.process.poll() is None:
                replica.process.kill()
                replica.process.wait()
        if not keep:
            shutil.rmtree(self.home)


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
