#!/usr/bin/env python3
"""Claim: the sample mapper says online when it comes and when its device does, and offline however it ends; it says no
more at once than its window; what it published is acknowledged before it ends.

Method: a real mosquitto between the mapper and a listener that sees every message in order.

    mapper_test.py MAPPER
"""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

mapper = sys.argv[1]
broker = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
ONLINE, OFFLINE = '"state":"online"', '"state":"offline"'


def expect(claim, what):
    if not claim:
        sys.exit(f"mapper_test: {what}")


def await_(what, claim):
    """Wait for it, ten seconds at most."""
    until = time.monotonic() + 10
    while not claim():
        expect(time.monotonic() < until, f"it did not come: {what}")
        time.sleep(0.01)


class Heard:
    """All that the broker brings, as it comes."""

    def __init__(self, port):
        self.lines = []
        self.client = subprocess.Popen(["mosquitto_sub", "-p", str(port), "-q", "1", "-t", "$hw/#", "-F", "%t %p"],
                                       stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.client.stdout:
            self.lines.append(line)

    def count(self, *words):
        return sum(all(word in line for word in words) for line in self.lines)


def say(port, topic, message):
    subprocess.run(["mosquitto_pub", "-p", str(port), "-q", "1", "-t", topic, "-m", message], check=True, timeout=10)


def start(port, *arguments):
    return subprocess.Popen([mapper, "--broker", f"127.0.0.1:{port}", "--every", "20", *arguments],
                            stdout=subprocess.PIPE, text=True)


def test_one_device(port, heard):
    topic = "$hw/events/device/default/one/state/update"
    one = start(port, "--name", "one")
    await_("online", lambda: heard.count(topic, ONLINE) == 1)
    say(port, "$hw/events/node/edge-1/membership/updated",
        json.dumps({"added_devices": [{"id": "default/one"}, {"id": "other/one"}, {"id": "default/two"}]}))
    await_("online when the device comes", lambda: heard.count(topic, ONLINE) == 2)
    await_("asked again", lambda: heard.count("default/one/twin/get") == 2)
    one.send_signal(signal.SIGTERM)
    out = one.communicate(timeout=10)[0]
    expect(one.returncode == 0 and "unacknowledged=0" in out, f"it ends in good order: {out}")
    reports = int(re.search(r"reports=(\d+)", out).group(1))
    await_("offline at the end", lambda: heard.count(topic, OFFLINE) == 1)
    expect(heard.count("default/one/twin/update ") == reports, f"{reports} reports")
    expect(heard.count(topic, ONLINE) == 2, "one device of its name and namespace")

    one = start(port, "--name", "one")
    await_("online again", lambda: heard.count(topic, ONLINE) == 3)
    one.kill()
    one.communicate(timeout=10)
    await_("the last will", lambda: heard.count(topic, OFFLINE) == 2)


def test_many_devices(port, heard):
    """With a window of three: of twenty devices each says that it comes and goes."""
    many = start(port, "--name", "many", "--devices", "20", "--window", "3")
    await_("all online", lambda: heard.count("/many-", ONLINE) == 20)
    await_("all asked", lambda: heard.count("/many-", "/twin/get") == 20)
    many.send_signal(signal.SIGTERM)
    out = many.communicate(timeout=10)[0]
    expect(many.returncode == 0 and "unacknowledged=0" in out, f"it ends in good order: {out}")
    await_("all offline", lambda: heard.count("/many-", OFFLINE) == 20)


def main():
    if broker is None or shutil.which("mosquitto_sub") is None:
        print("no mosquitto")
        sys.exit(77)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as top:
        conf = os.path.join(top, "conf")
        with open(conf, "w", encoding="utf-8") as file:
            file.write(f"listener {port} 127.0.0.1\nallow_anonymous true\nlog_type none\n")
        runs = subprocess.Popen([broker, "-c", conf])
        heard = None
        try:
            await_("the broker", lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
            heard = Heard(port)
            until = time.monotonic() + 10
            while heard.count("$hw/hello") == 0 and time.monotonic() < until:  # until it listens
                say(port, "$hw/hello", "hello")
            test_one_device(port, heard)
            test_many_devices(port, heard)
        finally:
            if heard is not None:
                heard.client.kill()
            runs.kill()
            runs.wait()


main()
