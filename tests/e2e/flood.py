#!/usr/bin/env python3
"""Flood the API of one cloudcore with connections that list and write, and see what it does.

    flood.py --port API --watch METRICS --pki DIR [--connections 360] [--seconds 3] [--grown-mib 768]

Half of the connections list config maps of 6 MB altogether, and every second of those does not read the answer;
the other half creates config maps of 100 KB in another namespace. In the end all leave in the middle of what they
do. Beside them somebody reads one small object, five times a second.

Claims, each printed as `ok` or `FAILED`: memory stays bounded; what is too much is answered 429 with Retry-After;
the small reads go on; afterwards all is as before. 503 and 504 are for a machine that is too slow for elections,
they are told and are no failure; 409 is for a name that was made up twice. Exit code 1 when a claim did not hold.
"""
import argparse
import asyncio
import json
import ssl
import sys
import time
import urllib.error
import urllib.request

MAPS = "/api/v1/namespaces/default/configmaps"
FLOODED = "/api/v1/namespaces/flooded"  # so that what is listed stays as large as it is


def arguments():
    parser = argparse.ArgumentParser()
    for name in ("--port", "--watch"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--pki", required=True)
    parser.add_argument("--connections", type=int, default=360)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--grown-mib", type=int, default=768)
    return parser.parse_args()


class Flood:
    def __init__(self, options):
        self.options = options
        self.context = ssl.create_default_context(cafile=options.pki + "/ca.crt")
        self.context.load_cert_chain(options.pki + "/admin.crt", options.pki + "/admin.key")
        self.counts = {}
        self.without_retry = 0
        self.connected = 0
        self.latencies = []
        self.failed_reads = 0
        self.peak = 0
        self.ending = False
        self.held = 0
        self.streams = []
        self.doors = asyncio.Semaphore(16)  # a handshake has a deadline, and they share the processors with us

    async def connect(self):
        async with self.doors:
            return await asyncio.open_connection("127.0.0.1", self.options.port, ssl=self.context)

    async def ask(self, stream, method, path, body=b"", read=True):
        """The status of one request; the answer is read to its end, or left lying."""
        reader, writer = stream
        writer.write(("%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                      % (method, path, len(body))).encode() + body)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        status = int(head.split()[1])
        size = int(head.split("content-length:")[1].split()[0])
        if status == 429 and "retry-after:" not in head:
            self.without_retry += 1
        if read or status != 200:
            while size > 0:
                size -= len(await reader.read(min(size, 1 << 20)) or b"x" * size)
        return status

    async def one(self, number):
        body = json.dumps({"metadata": {"generateName": "flood-"}, "data": {"blob": "x" * 100000}}).encode()
        lists = number % 2 == 0
        stream = None
        while not self.ending:
            try:
                if stream is None:
                    stream = await self.connect()
                    self.connected += 1
                    self.streams.append(stream)
                if lists:
                    status = await self.ask(stream, "GET", MAPS, read=number % 4 == 0)
                else:
                    status = await self.ask(stream, "POST", FLOODED + "/configmaps", body)
                self.counts[status] = self.counts.get(status, 0) + 1
                if lists and number % 4 == 2 and status == 200:
                    self.held += 1
                    while not self.ending:
                        await asyncio.sleep(0.2)
                if status == 429:
                    await asyncio.sleep(1)
            except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
                self.counts["cut"] = self.counts.get("cut", 0) + (not self.ending)
                stream = None
                await asyncio.sleep(0.5)

    def series(self, name):
        with urllib.request.urlopen("http://127.0.0.1:%d/metrics" % self.options.watch, timeout=20) as page:
            for line in page.read().decode().splitlines():
                if line.startswith(name + " "):
                    return float(line.rsplit(" ", 1)[1])
        return 0.0

    async def probe(self, stream):
        while not self.ending:
            began = time.monotonic()
            status = await self.ask(stream, "GET", MAPS + "/small?resourceVersion=0")
            if status == 200:
                self.latencies.append(time.monotonic() - began)
            else:
                self.failed_reads += 1
            await asyncio.sleep(0.2)

    async def memory(self):
        while not self.ending:
            resident = await asyncio.to_thread(self.series, "process_resident_memory_bytes")
            self.peak = max(self.peak, resident)
            await asyncio.sleep(0.3)

    def ready(self):
        try:
            with urllib.request.urlopen("http://127.0.0.1:%d/readyz" % self.options.watch, timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    async def until(self, seconds, condition):
        """Whether it came true in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.1)
        return True

    async def hoard(self):
        """Bodies that never end: how many connections were sent away while theirs arrived."""
        size, count, answers, writers = 2900000, 30, [], []

        async def one():
            reader, writer = await self.connect()
            writers.append(writer)
            writer.write(("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 3000000\r\n\r\n"
                          % MAPS).encode() + b"x" * size)
            try:
                answers.append(await reader.read(12))
            except OSError:
                answers.append(b"")
        visits = [asyncio.create_task(one()) for _ in range(count)]
        # All are there: some were answered, what the others have sent is held.
        await self.until(15, lambda: len(answers) + self.series("kelp_api_arriving_bytes") // size >= count)
        most = self.series("kelp_api_arriving_bytes") / 1048576
        away = sum(b" 429" in answer for answer in answers)
        for writer in writers:
            writer.transport.abort()
        await asyncio.wait(visits, timeout=5)
        gone = await self.until(10, lambda: self.series("kelp_api_arriving_bytes") == 0)
        print("bodies that never end: %d of %d sent away, %.0f MiB held" % (away, count, most))
        return 0 < away < count and most <= 64 and gone

    async def run(self):
        stream = await self.connect()
        small = json.dumps({"metadata": {"name": "small"}, "data": {"a": "1"}}).encode()
        await self.ask(stream, "POST", MAPS, small)
        await self.ask(stream, "POST", "/api/v1/namespaces", json.dumps({"metadata": {"name": FLOODED.rpartition("/")[2]}}).encode())
        hoarded = await self.hoard()
        blob = "y" * 100000
        for number in range(60):
            await self.ask(stream, "POST", MAPS, json.dumps({"metadata": {"name": "big-%d" % number}, "data": {"blob": blob}}).encode())
        before = self.series("process_resident_memory_bytes")
        tasks = [asyncio.create_task(self.probe(await self.connect())), asyncio.create_task(self.memory())]
        tasks += [asyncio.create_task(self.one(number)) for number in range(self.options.connections)]
        began = time.monotonic()
        while self.connected < self.options.connections and time.monotonic() - began < 60:
            await asyncio.sleep(0.1)
        print("connected %d in %.1f s" % (self.connected, time.monotonic() - began))
        await asyncio.sleep(self.options.seconds)
        self.ending = True
        for _, writer in self.streams:
            writer.transport.abort()
        await asyncio.wait(tasks, timeout=30)

        claims = [("bodies that never end are bounded", hoarded)]
        grown = (self.peak - before) / 1048576
        self.latencies = sorted(self.latencies) or [0]
        print("answers %s; %d answers held unread" % (self.counts, self.held))
        print("memory %.0f MiB before, %.0f MiB more at its peak" % (before / 1048576, grown))
        print("small reads %d, p50 %.0f ms, p99 %.0f ms, worst %.0f ms" % (
            len(self.latencies), *[1000 * self.latencies[int(part * (len(self.latencies) - 1))] for part in (0.5, 0.99, 1)]))
        claims.append(("memory stays bounded", grown < self.options.grown_mib))
        claims.append(("what is too much is sent away", self.counts.get(429, 0) > 0))
        claims.append(("with Retry-After", self.without_retry == 0))
        claims.append(("some lists and writes are served meanwhile", self.counts.get(200, 0) > 0 and self.counts.get(201, 0) > 0))
        claims.append(("nothing fails otherwise", not [code for code in self.counts if code not in (200, 201, 409, 429, 503, 504, "cut")]))
        claims.append(("small reads go on", self.failed_reads == 0 and len(self.latencies) >= 3))

        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and (self.series("kelp_api_answer_bytes") > 0 or self.series("kelp_api_connections") > 5
                                               or self.series('kelp_queue_items{queue="records"}') > 0):
            await asyncio.sleep(0.5)
        claims.append(("what was queued is gone afterwards", time.monotonic() < deadline))
        claims.append(("it is ready", self.ready()))
        stream = await self.connect()
        claims.append(("it lists", await self.ask(stream, "GET", MAPS) == 200))
        claims.append(("it writes", await self.ask(stream, "DELETE", MAPS + "/small") == 200))
        for what, holds in claims:
            print("%s %s" % ("ok" if holds else "FAILED", what))
        return 0 if all(holds for _, holds in claims) else 1


sys.exit(asyncio.run(Flood(arguments()).run()))
