#!/usr/bin/env python3
"""How many reports of devices a second get from an MQTT client into the cloud, beside the broker alone.

    bench/run twin [--devices N,N...] [--updates N] [--repeat N] [--wishes N] [-o table|csv|json]

Three cloudcores and an edge with a broker of its own, all on this machine (nodes/quickstart). For each number of
devices of one model, taking turns:

  broker  the sample mapper publishes its reports, QoS 1, to a mosquitto with nothing else to do, and one
          mosquitto_sub takes them, QoS 1: until it has all of them
  kelp    the same mapper publishes the same reports to the edge's broker: until kubectl's API shows the newest
          value of every device

Then somebody wishes another target of one device with a PATCH, again and again: until the mapper has it.

Reports that come faster than the edge records them are made one per property (eventBus.window), which is what a
twin is; the broker alone moves each. So `reports/s` of kelp says how fast devices may talk without anything piling
up, not how many records were agreed upon: that is `records`, twins written to the cloud's log.
"""
import argparse
import csv
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from rows import Figures, document_print

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DEVICES = "/apis/devices.kubeedge.io/v1beta1/namespaces/default/devices"
MODELS = "/apis/devices.kubeedge.io/v1beta1/namespaces/default/devicemodels"
PATIENCE_S = 600
WRITERS = 8

COLUMNS = [  # key, heading, digits
    ("devices", "devices", 0),
    ("updates", "reports", 0),
    ("broker_rate", "broker reports/s", 0),
    ("kelp_rate", "kelp reports/s", 0),
    ("ratio", "broker/kelp", 2),
    ("spread", "spread", 2),
    ("records", "records", 0),
    ("cpu_us", "edge CPU us/report", 1),
    ("edge_twin_bytes", "B/twin edge", 0),
    ("cloud_twin_bytes", "cloud", 0),
    ("wish_p50_ms", "wish p50 ms", 1),
    ("wish_max_ms", "max", 1),
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, condition, seconds=PATIENCE_S):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"bench/run twin: waited {seconds} s for {what}")
        time.sleep(0.02)


def anonymous_bytes(pid):
    with open(f"/proc/{pid}/status") as status:
        return 1024 * sum(int(line.split()[1]) for line in status if line.startswith("RssAnon:"))


def processor_s(pid):
    with open(f"/proc/{pid}/stat") as stat:
        words = stat.read().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


class Api:
    """kubectl's side: one connection, opened again when it is lost."""

    def __init__(self, kubeconfig):
        words = open(kubeconfig).read()
        self.address = re.search(r'server:\s*"?https://([^\s"]+)', words).group(1)
        self.tls = ssl.create_default_context(cadata=self.secret(words, "certificate-authority").decode())
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(self.secret(words, "client-certificate") + b"\n" + self.secret(words, "client-key"))
            pair.flush()
            self.tls.load_cert_chain(pair.name)
        self.connection = None

    @staticmethod
    def secret(words, key):
        import base64
        return base64.b64decode(re.search(key + r'-data:\s*"?([A-Za-z0-9+/=]+)', words).group(1))

    def ask(self, method, path, body=None, kind="application/json"):
        while True:
            if self.connection is None:
                self.connection = http.client.HTTPSConnection(self.address, context=self.tls, timeout=60)
            self.connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": kind})
            answer = self.connection.getresponse()
            data = answer.read()
            if answer.status in (429, 503):
                time.sleep(float(answer.headers.get("Retry-After", "0.1")))
                continue
            if answer.status >= 400:
                raise SystemExit(f"bench/run twin: {method} {path}: {answer.status} {data[:300]}")
            return json.loads(data)

    def other(self):
        api = Api.__new__(Api)
        api.address, api.tls, api.connection = self.address, self.tls, None
        return api


class Site:
    """Three cloudcores, an edge and its broker, by nodes/quickstart."""

    def __init__(self, build):
        self.build = os.path.abspath(build)
        self.home = tempfile.mkdtemp(prefix="twin.")
        self.port = 18500
        self.environment = dict(os.environ, KELP_HOME=f"{self.home}/site", KELP_PORT=str(self.port),
                                KELP_BUILD=self.build)

    def run(self, *words):
        done = subprocess.run([f"{TOP}/nodes/quickstart", "--runtime", "fake", "--mqtt", "--no-install", *words],
                              env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"bench/run twin: nodes/quickstart {' '.join(words)}: {done.stdout[-800:]}{done.stderr[-800:]}")

    def __enter__(self):
        self.run("start")
        self.api = Api(f"{self.home}/site/kubeconfig")
        return self

    def __exit__(self, *what):
        self.run("stop")
        shutil.rmtree(self.home, ignore_errors=True)

    def pids(self, name):
        found = subprocess.run(["pgrep", "-f", f"{self.build}/nodes/{name} --config {self.home}/"],
                               capture_output=True, text=True)
        return [int(word) for word in found.stdout.split()]

    def edge_pid(self):
        return self.pids("edgecore")[0]

    def status(self, where):
        done = subprocess.run([f"{self.build}/nodes/kelp", "status", "-o", "json", f"{self.home}/site/{where}/data"],
                              capture_output=True, text=True)
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def settled(self):
        """The edge has all that it should hear of, and the cloud all it said."""
        return lambda: self.status("edge-1").get("upLast") == self.status("edge-1").get("upAcked", -1)

    def devices_make(self, name, count):
        def make(first):
            api = self.api.other()
            for i in range(first, count, WRITERS):
                api.ask("POST", DEVICES, {
                    "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device",
                    "metadata": {"name": name if count == 1 else f"{name}-{i}"},
                    "spec": {"deviceModelRef": {"name": "thermometer"}, "nodeName": "edge-1",
                             "protocol": {"protocolName": "sample"},
                             "properties": [{"name": "temperature"},
                                            {"name": "target", "desired": {"value": "20", "metadata": {"type": "int"}}}]}})
        threads = [threading.Thread(target=make, args=(i,)) for i in range(min(WRITERS, count))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def reported(self, device):
        for twin in device.get("status", {}).get("twins", []):
            if twin["propertyName"] == "temperature":
                return twin.get("reported", {}).get("value")
        return None

    def all_reported(self, name, count, value):
        """Whether every device says this; asks for one until that does, then for all."""
        last = name if count == 1 else f"{name}-{count - 1}"
        until(f"device {last} to say {value}",
              lambda: self.reported(self.api.ask("GET", f"{DEVICES}/{last}")) == value)
        while True:
            at, right, token = time.monotonic(), 0, ""
            while True:
                page = self.api.ask("GET", f"{DEVICES}?limit=2000&continue={token}")
                right += sum(self.reported(device) == value for device in page["items"]
                             if device["metadata"]["name"].startswith(name))
                token = page["metadata"].get("continue", "")
                if not token:
                    break
            if right == count:
                return at

    def committed(self):
        return max(self.status(f"cloudcore-{n}").get("applied", 0) for n in (1, 2, 3))


class Broker:
    """mosquitto alone, which keeps what its one subscriber has not taken yet, as ours may not drop either."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="twin.")
        self.port = free_port()
        with open(f"{self.directory}/mosquitto.conf", "w") as config:
            config.write(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
                         "max_queued_messages 0\nmax_inflight_messages 0\nlog_type error\n")

    def __enter__(self):
        self.process = subprocess.Popen(["mosquitto", "-c", f"{self.directory}/mosquitto.conf"])
        until("mosquitto", lambda: socket.socket().connect_ex(("127.0.0.1", self.port)) == 0, 10)
        return self

    def __exit__(self, *what):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory)

    def seconds(self, site, name, count, updates):
        take = subprocess.Popen(["mosquitto_sub", "-p", str(self.port), "-q", "1", "-C", str(updates), "-t",
                                 "$hw/events/device/+/+/twin/update"], stdout=subprocess.DEVNULL)
        time.sleep(0.3)  # it subscribes; nobody tells when that is done
        began = time.monotonic()
        mapper_burst(site, self.port, name, count, updates)
        take.wait(PATIENCE_S)
        return time.monotonic() - began


def mapper_burst(site, port, name, count, updates):
    subprocess.run([f"{site.build}/nodes/mapper", "-q", "-b", f"127.0.0.1:{port}", "--name", name, "-d", str(count),
                    "-u", str(updates)], check=True, stdout=subprocess.DEVNULL)


def wishes_measure(site, name, count, wishes):
    """Milliseconds from a PATCH until the mapper has what was wished."""
    device = name if count == 1 else f"{name}-0"
    mapper = subprocess.Popen([f"{site.build}/nodes/mapper", "-b", f"127.0.0.1:{site.port + 50}", "--name", name,
                               "-d", str(count), "-e", "60000"], stdout=subprocess.PIPE, text=True)
    try:
        line = ""
        while "mapper_connected" not in line:
            line = mapper.stdout.readline()
        took = []
        for i in range(wishes):
            value = str(30 + i)
            began = time.monotonic()
            site.api.ask("PATCH", f"{DEVICES}/{device}",
                         {"spec": {"properties": [{"name": "temperature"},
                                                  {"name": "target", "desired": {"value": value, "metadata": {"type": "int"}}}]}},
                         "application/merge-patch+json")
            while f"device={device} property=target value={value}" not in line:
                line = mapper.stdout.readline()
                if not line:
                    raise SystemExit("bench/run twin: the mapper ended")
            took.append((time.monotonic() - began) * 1000)
        return took
    finally:
        mapper.send_signal(signal.SIGTERM)
        mapper.stdout.read()
        mapper.wait()


def row_measure(site, broker, count, options):
    name = f"t{count}"
    updates = max(options.updates // count, 2) * count
    edge, clouds = site.edge_pid(), site.pids("cloudcore")
    before = anonymous_bytes(edge), sum(anonymous_bytes(pid) for pid in clouds)
    site.devices_make(name, count)
    mapper_burst(site, site.port + 50, name, count, count)  # the first report makes the twin
    site.all_reported(name, count, "1")
    after = anonymous_bytes(edge), sum(anonymous_bytes(pid) for pid in clouds)
    rates, alone, records, cpu = [], [], [], []
    for _ in range(options.repeat):
        alone.append(updates / broker.seconds(site, name, count, updates))
        mapper_burst(site, site.port + 50, name, count, count)  # back to 1, to see the last one come
        site.all_reported(name, count, "1")
        used, applied, began = processor_s(edge), site.committed(), time.monotonic()
        mapper_burst(site, site.port + 50, name, count, updates)
        ended = site.all_reported(name, count, str((updates // count - 1) % 10000 + 1))
        rates.append(updates / (ended - began))
        records.append(site.committed() - applied)
        cpu.append((processor_s(edge) - used) / updates * 1e6)
    took = wishes_measure(site, name, count, options.wishes)
    ratios = [a / k for a, k in zip(alone, rates)]
    return {"devices": count, "updates": updates, "broker_rate": statistics.median(alone),
            "kelp_rate": statistics.median(rates), "ratio": statistics.median(ratios),
            "spread": max(ratios) - min(ratios), "records": statistics.median(records),
            "cpu_us": statistics.median(cpu), "edge_twin_bytes": (after[0] - before[0]) / (2 * count),
            "cloud_twin_bytes": (after[1] - before[1]) / (2 * count) / len(clouds),
            "wish_p50_ms": statistics.median(took), "wish_max_ms": max(took),
            "turns": list(zip(rates, alone, records, cpu))}


def document(rows):
    """Every turn in the shape of all benches."""
    figures = Figures("twin")
    for row in rows:
        case = "1 device" if row["devices"] == 1 else f"{row['devices']} devices"
        for rate, alone, records, cpu in row["turns"]:
            figures.add(case, "reports/s", rate, beside="mosquitto", beside_value=alone)
            figures.add(case, "records", records, "less")
            figures.add(case, "edge CPU us/report", cpu, "less")
        figures.add(case, "B/twin, edge", row["edge_twin_bytes"], "less")
        figures.add(case, "B/twin, cloud", row["cloud_twin_bytes"], "less")
        figures.add(case, "wish p50 ms", row["wish_p50_ms"], "less")
        figures.add(case, "wish max ms", row["wish_max_ms"], "less")
    return figures.document()


def rows_print(rows, form):
    if form == "json":
        document_print(document(rows), form)
        return
    lines = [[heading for _, heading, _ in COLUMNS]]
    lines += [[f"{row[key]:.{digits}f}" for key, _, digits in COLUMNS] for row in rows]
    if form == "csv":
        csv.writer(sys.stdout).writerows(lines)
        return
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    for line in lines:
        print("  ".join(word.rjust(width) for word, width in zip(line, widths)))


def main():
    parser = argparse.ArgumentParser(prog="bench/run twin", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--devices", default="1,100,10000")
    parser.add_argument("--updates", type=int, default=100000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--wishes", type=int, default=20)
    parser.add_argument("-o", "--output", choices=("table", "csv", "json"), default="table")
    options = parser.parse_args()
    rows = []
    with Site(options.build) as site, Broker() as broker:
        site.api.ask("POST", MODELS, {
            "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceModel", "metadata": {"name": "thermometer"},
            "spec": {"properties": [{"name": "temperature", "type": "INT", "accessMode": "ReadOnly"},
                                    {"name": "target", "type": "INT", "accessMode": "ReadWrite"}]}})
        for count in (int(word) for word in options.devices.split(",")):
            sys.stderr.write(f"{count} devices ...\n")
            rows.append(row_measure(site, broker, count, options))
    rows_print(rows, options.output)


main()
