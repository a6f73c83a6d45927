#!/usr/bin/env python3
"""How many reports of devices a second get from an MQTT client into the cloud, beside the broker alone.

    bench/run twin [--devices N,N...] [--updates N] [--repeat N] [--wishes N] [-o table|csv|json]

Three cloudcores and an edge with a broker of its own, all on this machine. For each number of
devices of one model, taking turns:

  broker  the sample mapper publishes its reports, QoS 1, to a mosquitto with nothing else to do, and one
          mosquitto_sub takes them, QoS 1: until it has all of them
  kelp    the same mapper publishes the same reports to the edge's broker: until kubectl's API shows the newest
          value of every device

Then somebody wishes another target of one device with a PATCH, again and again: until the mapper has it.

Reports that come faster than the edge records them are made one per property (eventBus.window), which is what a
twin is; the broker alone moves each. So `reports/s` of kelp says how fast devices may talk without anything piling
up, not how many records were agreed upon: that is `records`, those of the edge's log that go up.
"""
import csv
import os
import signal
import statistics
import subprocess
import sys
import time

from group import (DEVICES, MODELS, Broker, Edge, Group, device_model, devices_of, interruptible, options_parser,
                   process_cpu, process_memory)
from rows import Figures, document_print

PATIENCE_S = 600
HEARTBEAT = [("session.heartbeat", "2s"), ("session.unreachable", "10s")]

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


class Site(Group):
    """Three cloudcores, an edge and its broker."""

    def __init__(self, options):
        super().__init__("twin", options, options.build)

    def start(self):
        super().start()
        self.edge = Edge(self, "edge-1", mqtt=True)
        self.edge.start()
        self.kubectl = self.api()

    def devices_make(self, name, count):
        devices = devices_of(self.edge.name, name, count)
        if count == 1:
            devices[0]["metadata"]["name"] = name
        for device in devices:
            device["spec"]["properties"].append({"name": "target", "desired": {"value": "20", "metadata": {"type": "int"}}})
        self.kubectl.make_all(DEVICES, devices)
        self.wait(PATIENCE_S, "the edge to hear of its devices", lambda: self.edge.equal(self.kubectl))

    def reported(self, device):
        for twin in device.get("status", {}).get("twins", []):
            if twin["propertyName"] == "temperature":
                return twin.get("reported", {}).get("value")
        return None

    def all_reported(self, name, count, value):
        """Whether every device says this; asks for one until that does, then for all."""
        last = name if count == 1 else f"{name}-{count - 1}"
        self.wait(PATIENCE_S, f"device {last} to say {value}",
                  lambda: self.reported(self.kubectl.ask("GET", f"{DEVICES}/{last}")) == value, 0.02)
        while True:
            at, right, token = time.monotonic(), 0, ""
            while True:
                page = self.kubectl.ask("GET", f"{DEVICES}?limit=2000&continue={token}")
                right += sum(self.reported(device) == value for device in page["items"]
                             if device["metadata"]["name"].startswith(name))
                token = page["metadata"].get("continue", "")
                if not token:
                    break
            if right == count:
                return at

    def recorded(self):
        return self.edge.status()["upLast"]


def broker_seconds(broker, site, name, count, updates):
    """mosquitto alone: until its one subscriber has taken them all. A message that is retained tells that it has
    subscribed."""
    taken = f"{broker.directory}/taken"
    subprocess.run(["mosquitto_pub", "-p", str(broker.port), "-r", "-q", "1", "-m", "subscribed", "-t",
                    "$hw/events/device/none/none/twin/update"], check=True)
    with open(taken, "wb") as lines:
        take = subprocess.Popen(["mosquitto_sub", "-p", str(broker.port), "-q", "1", "-C", str(updates + 1), "-F", ".",
                                 "-t", "$hw/events/device/+/+/twin/update"], stdout=lines)
    site.wait(PATIENCE_S, "mosquitto_sub to subscribe", lambda: os.path.getsize(taken) > 0, 0.005)
    began = time.monotonic()
    mapper_burst(site, broker.port, name, count, updates)
    take.wait(PATIENCE_S)
    return time.monotonic() - began


def mapper_burst(site, port, name, count, updates):
    subprocess.run([f"{site.build}/nodes/mapper", "-q", "-b", f"127.0.0.1:{port}", "--name", name, "-d", str(count),
                    "-u", str(updates)], check=True, stdout=subprocess.DEVNULL)


def wishes_measure(site, name, count, wishes):
    """Milliseconds from a PATCH until the mapper has what was wished. A mapper that comes says of each device that it is
    there, and asks for its twins: that is over before."""
    device = name if count == 1 else f"{name}-0"
    said = site.edge.status()["mqttReceived"]
    mapper = subprocess.Popen([f"{site.build}/nodes/mapper", "-b", f"127.0.0.1:{site.edge.broker}", "--name", name,
                               "-d", str(count), "-e", "60000"], stdout=subprocess.PIPE, text=True)
    try:
        line = ""
        while "mapper_connected" not in line:
            line = mapper.stdout.readline()
        site.wait(PATIENCE_S, "the mapper to say that its devices are there",
                  lambda: site.edge.status().get("mqttReceived", 0) >= said + 2 * count)
        site.edge.settle()
        took = []
        for i in range(wishes):
            value = str(30 + i)
            began = time.monotonic()
            site.kubectl.ask("PATCH", f"{DEVICES}/{device}",
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
    edge, clouds = site.edge.pid, [replica.process.pid for replica in site.replicas]
    before = process_memory(edge)[0], sum(process_memory(pid)[0] for pid in clouds)
    site.devices_make(name, count)
    mapper_burst(site, site.edge.broker, name, count, count)  # the first report makes the twin
    site.all_reported(name, count, "1")
    after = process_memory(edge)[0], sum(process_memory(pid)[0] for pid in clouds)
    rates, alone, records, cpu = [], [], [], []
    for _ in range(options.repeat):
        alone.append(updates / broker_seconds(broker, site, name, count, updates))
        mapper_burst(site, site.edge.broker, name, count, count)  # back to 1, to see the last one come
        site.all_reported(name, count, "1")
        used, recorded, began = process_cpu(edge), site.recorded(), time.monotonic()
        mapper_burst(site, site.edge.broker, name, count, updates)
        ended = site.all_reported(name, count, str((updates // count - 1) % 10000 + 1))
        rates.append(updates / (ended - began))
        records.append(site.recorded() - recorded)
        cpu.append((process_cpu(edge) - used) / updates * 1e6)
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
    parser = options_parser("twin", __doc__)
    parser.add_argument("--devices", default="1,100,10000", help="[1,100,10000]")
    parser.add_argument("--updates", type=int, default=100000, help="reports of a repetition [100000]")
    parser.add_argument("--wishes", type=int, default=20, help="[20]")
    options = parser.parse_args()
    options.settings = [pair for pair in HEARTBEAT if pair[0] not in dict(options.settings)] + options.settings
    interruptible()
    rows = []
    with Site(options) as site, Broker(site.home) as broker:
        site.kubectl.ask("POST", MODELS, device_model())
        for count in (int(word) for word in options.devices.split(",")):
            sys.stderr.write(f"{count} devices ...\n")
            rows.append(row_measure(site, broker, count, options))
    rows_print(rows, options.output)


main()
