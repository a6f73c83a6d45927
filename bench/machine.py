"""The machine that a table was taken on, by its facts: what a reader needs to doubt it or to take it again.

The disk is measured, not named: write + fdatasync of 4 KiB in place, so that nothing is allocated, as often as
fits a second.
"""
import os
import platform
import re
import subprocess
import tempfile
import time

PROBE_BYTES = 4096
PROBE_S = 1.0
PROBES_MAX = 2000
PACKAGES = {  # what the figures depend on: name in the table, Debian's package
    "libraft": "libraft2", "RocksDB": "librocksdb7.8", "wolfSSL": "libwolfssl35", "etcd": "etcd-server",
    "nats-server": "nats-server", "mosquitto": "mosquitto",
}


def disk_measure(directory):
    """p50 and p99, in microseconds, of write + fdatasync of 4 KiB in place."""
    block, took = os.urandom(PROBE_BYTES), []
    with tempfile.NamedTemporaryFile(dir=directory, buffering=0) as file:
        os.pwrite(file.fileno(), block, 0)
        os.fsync(file.fileno())
        until = time.monotonic() + PROBE_S
        while len(took) < PROBES_MAX and time.monotonic() < until:
            began = time.perf_counter()
            os.pwrite(file.fileno(), block, 0)
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - began) * 1e6)
    took.sort()
    return round(took[len(took) // 2]), round(took[len(took) * 99 // 100])


def field(path, key):
    """The first `key: value` of a file such as /proc/cpuinfo; None when it has none."""
    with open(path, encoding="utf-8") as file:
        found = re.search(rf"^{key}\s*:\s*(.*)$", file.read(), re.MULTILINE)
    return found and found[1]


def words(*command):
    """What a command prints, "" when it is not there or says no."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def versions():
    """Of Debian's packages, None for one that is not installed."""
    found = {}
    for name, package in PACKAGES.items():
        state, _, version = words("dpkg-query", "-W", "-f=${db:Status-Abbrev}|${Version}", package).partition("|")
        found[name] = version if state.strip() == "ii" else None
    return found


def load():
    return round(os.getloadavg()[0], 2)


def facts(directory):
    """Before a run; the disk is measured in `directory`."""
    p50, p99 = disk_measure(directory)
    changed = " and changes" if words("git", "status", "--porcelain", "--untracked-files=no") else ""
    return {
        "kelp": (words("git", "describe", "--always", "--abbrev=12") or "unknown") + changed,
        "cores": os.cpu_count(),
        "processor": field("/proc/cpuinfo", "model name") or platform.machine(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "file_system": words("findmnt", "-n", "-o", "FSTYPE", "-T", directory) or "unknown file system",
        "fdatasync_p50_us": p50,
        "fdatasync_p99_us": p99,
        "load_before": load(),
        "versions": versions(),
    }


def ended(machine, directory):
    """The facts of a run that is over: its disk again, and its load."""
    p50, p99 = disk_measure(directory)
    return {**machine, "fdatasync_after_p50_us": p50, "fdatasync_after_p99_us": p99, "load_after": load()}


def text(machine):
    """The facts in three lines."""
    versions_text = ", ".join(f"{name} {version or 'not installed'}" for name, version in machine["versions"].items())
    return "\n".join([
        f"{machine['cores']} cores of {machine['processor']}, {machine['memory_bytes'] / 2**30:.1f} GiB, "
        f"Linux {machine['kernel']}, {machine['file_system']}; load {machine['load_before']} before, "
        f"{machine['load_after']} after",
        f"write + fdatasync of 4 KiB: p50 {machine['fdatasync_p50_us']} us, p99 {machine['fdatasync_p99_us']} us before; "
        f"{machine['fdatasync_after_p50_us']} and {machine['fdatasync_after_p99_us']} after",
        f"Kelp {machine['kelp']}; {versions_text}",
    ])
