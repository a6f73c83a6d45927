#!/usr/bin/env python3
"""Our patches against kubectl's own (kubectl patch --local), vectors and chance.

    api_patch_oracle.py TOOL [COUNT] [SEED]

Claim: for every patch that kubectl accepts, our result is the same document, the order of elements
included. Exit 77 without kubectl.
"""
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor


def pod(spec=None, meta=None, status=None):
    value = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", **(meta or {})},
             "spec": {"containers": [{"name": n, "image": "i"} for n in "abc"], **(spec or {})}}
    if status is not None:
        value["status"] = status
    return value


def node(status=None, spec=None):
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "spec": spec or {},
            "status": status or {}}


def vectors():
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    volumes = [{"name": "v", "emptyDir": {"medium": "Memory"}}, {"name": "w", "hostPath": {"path": "/x"}}]
    yield pod(), {"spec": {"containers": [{"name": "z", "image": "j"}]}}
    yield pod(), {"spec": {"containers": [{"name": "b", "image": "j"}]}}
    yield pod(), {"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
                           "containers": [{"name": "c", "image": "j"}]}}
    yield pod(), {"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}]}}
    yield pod(), {"spec": {"containers": [{"name": "b", "$patch": "delete"}]}}
    yield pod(), {"spec": {"containers": [{"$patch": "replace"}, {"name": "q", "image": "k"}]}}
    yield pod(), {"spec": {"containers": [{"name": "b", "$patch": "delete"}, {"name": "d", "image": "k"}]}}
    yield pod(), {"spec": {"$setElementOrder/containers": [{"name": "a"}, {"name": "d"}, {"name": "c"}],
                           "containers": [{"name": "b", "$patch": "delete"}, {"name": "d", "image": "k"}]}}
    yield pod({"volumes": volumes}), {"spec": {"volumes": [
        {"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "c"}}]}}
    yield pod({"volumes": volumes}), {"spec": {"volumes": [{"name": "v", "emptyDir": None, "secret": {"secretName": "s"}}]}}
    yield pod({"volumes": volumes}), {"spec": {"volumes": None}}
    yield pod({"nodeSelector": {"a": "b"}}), {"spec": {"nodeSelector": {"$patch": "replace", "c": "d"}}}
    yield pod({"nodeSelector": {"a": "b"}}), {"spec": {"nodeSelector": {"$patch": "delete"}}}
    yield pod({"nodeSelector": {"a": "b"}}), {"spec": {"nodeSelector": {"a": None, "c": "d"}}}
    yield pod(), {"spec": {"nodeSelector": {"a": None, "c": "d"}}}
    yield pod({"tolerations": [{"key": "a"}]}), {"spec": {"tolerations": [{"key": "b"}]}}
    yield pod(), {"spec": {"containers": [{"name": "a", "env": env}]}}
    yield pod({"containers": [{"name": "a", "image": "i", "env": env}]}), {"spec": {"containers": [
        {"name": "a", "env": [{"name": "C", "value": "3"}, {"name": "A", "value": "9"}]}]}}
    yield pod({"containers": [{"name": "a", "image": "i", "args": ["x", "y"]}]}), {"spec": {"containers": [
        {"name": "a", "args": ["z"]}]}}
    yield pod({"containers": [{"name": "a", "image": "i", "ports": [{"containerPort": 80}]}]}), {"spec": {
        "containers": [{"name": "a", "ports": [{"containerPort": 81, "name": "x"}, {"containerPort": 80, "protocol": "UDP"}]}]}}
    yield pod(meta={"finalizers": ["f/1", "f/2"]}), {"metadata": {"finalizers": ["f/3", "f/1"]}}
    yield pod(meta={"finalizers": ["f/1", "f/2", "f/3"]}), {"metadata": {"$deleteFromPrimitiveList/finalizers": ["f/2"]}}
    yield pod(meta={"finalizers": ["f/1", "f/2", "f/3"]}), {"metadata": {
        "$deleteFromPrimitiveList/finalizers": ["f/2"], "$setElementOrder/finalizers": ["f/3", "f/4", "f/1"],
        "finalizers": ["f/4"]}}
    yield pod(meta={"labels": {"a": "b"}}), {"metadata": {"labels": {"c": "d"}, "annotations": {"x": None, "y": "z"}}}
    yield pod(meta={"labels": {"a": "b"}}), {"metadata": {"labels": None}}
    yield pod({"imagePullSecrets": [{"name": "a"}]}), {"spec": {"imagePullSecrets": [{"name": "b"}]}}
    yield pod({"hostAliases": [{"ip": "1.1.1.1", "hostnames": ["a"]}]}), {"spec": {"hostAliases": [
        {"ip": "1.1.1.1", "hostnames": ["b"]}, {"ip": "2.2.2.2", "hostnames": ["c"]}]}}
    yield node({"conditions": [{"type": "Ready", "status": "True"}, {"type": "Disk", "status": "False"}]}), {
        "status": {"conditions": [{"type": "Ready", "status": "Unknown"}, {"type": "New", "status": "True"}]}}
    yield node({"addresses": [{"type": "Hostname", "address": "a"}]}), {
        "status": {"addresses": [{"type": "InternalIP", "address": "1.2.3.4"}]}}
    yield node(spec={"taints": [{"key": "a", "effect": "NoSchedule"}]}), {"spec": {"taints": [{"key": "b", "effect": "NoExecute"}]}}
    yield node(spec={"podCIDRs": ["10.0.0.0/24"]}), {"spec": {"podCIDRs": ["10.1.0.0/24"]}}
    yield node(), {"spec": {"unschedulable": True}}
    yield node(spec={"unschedulable": True}), {"spec": {"unschedulable": None}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "eA=="}}
    yield secret, {"data": {"a": None, "b": "eQ=="}}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "s"}, "secrets": [{"name": "a"}],
               "imagePullSecrets": [{"name": "x"}]}
    yield account, {"secrets": [{"name": "b"}], "imagePullSecrets": [{"name": "y"}]}
    yield pod(), {"spec": {"securityContext": {"runAsUser": 1, "sysctls": [{"name": "a", "value": "b"}]}}}
    yield pod(), {"spec": {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}}}


def merge_vectors():
    cm = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1", "b": "2"}}
    yield "merge", cm, {"data": {"a": None, "c": "3"}}
    yield "merge", cm, {"data": None}
    yield "merge", cm, {"metadata": {"labels": {"x": None, "y": "z"}}}
    yield "merge", pod(), {"spec": {"containers": [{"name": "z", "image": "i"}]}}
    yield "json", cm, [{"op": "add", "path": "/data/x~1y", "value": "1"}, {"op": "remove", "path": "/data/a"}]
    yield "json", cm, [{"op": "replace", "path": "/data/new", "value": "1"}]
    yield "json", cm, [{"op": "test", "path": "/data/a", "value": "1"}, {"op": "move", "from": "/data/a", "path": "/data/z"}]
    yield "json", cm, [{"op": "copy", "from": "/data/a", "path": "/data/q"}]
    yield "json", pod(), [{"op": "add", "path": "/spec/containers/-", "value": {"name": "z", "image": "i"}}]
    yield "json", pod(), [{"op": "add", "path": "/spec/containers/0", "value": {"name": "z", "image": "i"}}]
    yield "json", pod(), [{"op": "remove", "path": "/spec/containers/1"}]
    yield "json", cm, [{"op": "remove", "path": "/data/nope"}]
    yield "json", cm, [{"op": "test", "path": "/data/a", "value": "2"}]
    yield "json", pod(), [{"op": "add", "path": "/spec/containers/9", "value": {}}]


NAMES = list("abcdef")


def some(rng, items, low=0):
    chosen = rng.sample(items, rng.randint(low, len(items)))
    return chosen


def random_container(rng, name):
    c = {"name": name, "image": "i" + str(rng.randint(1, 3))}
    if rng.random() < 0.5:
        c["env"] = [{"name": n, "value": str(rng.randint(1, 3))} for n in some(rng, list("ABCD"), 1)]
    if rng.random() < 0.3:
        c["args"] = [str(rng.randint(1, 3)) for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.3:
        c["ports"] = [{"containerPort": p} for p in some(rng, [80, 81, 82], 1)]
    if rng.random() < 0.3:
        c["volumeMounts"] = [{"name": "v" + p[1:], "mountPath": p} for p in some(rng, ["/a", "/b", "/c"], 1)]
    if rng.random() < 0.2:
        c["resources"] = {"requests": {"cpu": "1"}}
    return c


def random_pod(rng):
    spec = {"containers": [random_container(rng, n) for n in some(rng, NAMES, 1)]}
    if rng.random() < 0.5:
        spec["volumes"] = [{"name": n, "emptyDir": {}} for n in some(rng, NAMES, 1)]
    if rng.random() < 0.3:
        spec["nodeSelector"] = {n: "1" for n in some(rng, NAMES, 1)}
    if rng.random() < 0.3:
        spec["tolerations"] = [{"key": n} for n in some(rng, NAMES, 1)]
    if rng.random() < 0.3:
        spec["imagePullSecrets"] = [{"name": n} for n in some(rng, NAMES, 1)]
    meta = {"name": "p"}
    if rng.random() < 0.4:
        meta["finalizers"] = ["f/" + n for n in some(rng, NAMES, 1)]
    if rng.random() < 0.4:
        meta["labels"] = {n: "1" for n in some(rng, NAMES, 1)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def patch_list(rng, holder, name, key, make, delete=True):
    """A patch of a list merged by key, with an order list and deletions sometimes."""
    used = some(rng, NAMES if key == "name" else ["/a", "/b", "/c"], 1)
    live = [make(n) for n in used]
    gone = []
    if delete and rng.random() < 0.4:
        rest = [n for n in (NAMES if key == "name" else ["/a", "/b", "/c"]) if n not in used]
        gone = [{key: n, "$patch": "delete"} for n in some(rng, rest)]
    if rng.random() < 0.5:
        order = used + [n for n in some(rng, NAMES if key == "name" else ["/a", "/b", "/c"])
                        if n not in used and n not in [g[key] for g in gone]]
        if rng.random() < 0.5:
            positions = {n: rng.random() for n in order}
            order.sort(key=positions.get)
            live.sort(key=lambda e: order.index(e[key]))
        holder["$setElementOrder/" + name] = [{key: n} for n in order]
    mixed = live + gone
    if not any(k.startswith("$setElementOrder/" + name) for k in holder):
        rng.shuffle(mixed)
    holder[name] = mixed


def random_patch(rng):
    spec, meta, patch = {}, {}, {}
    if rng.random() < 0.8:
        patch_list(rng, spec, "containers", "name", lambda n: random_container(rng, n))
    if rng.random() < 0.5:
        patch_list(rng, spec, "volumes", "name", lambda n: {"name": n, "configMap": {"name": "x"},
                                                           "$retainKeys": ["name", "configMap"]}
                   if rng.random() < 0.5 else {"name": n, "hostPath": {"path": "/x", "type": None}})
    if rng.random() < 0.3:
        spec["nodeSelector"] = rng.choice([None, {"a": None, "q": "2"}, {"$patch": "replace", "z": "1"}, {"$patch": "delete"}])
    if rng.random() < 0.3:
        spec["tolerations"] = rng.choice([None, [{"key": "t"}], []])
    if rng.random() < 0.3:
        patch_list(rng, spec, "imagePullSecrets", "name", lambda n: {"name": n})
    if rng.random() < 0.4:
        meta["finalizers"] = ["f/" + n for n in some(rng, NAMES, 1)]
        if rng.random() < 0.4:
            meta["$setElementOrder/finalizers"] = meta["finalizers"] + []
            rest = ["f/" + n for n in NAMES if "f/" + n not in meta["finalizers"]]
            if rest:
                meta["$deleteFromPrimitiveList/finalizers"] = some(rng, rest, 1)
    if rng.random() < 0.3:
        meta["labels"] = rng.choice([None, {"a": None, "n": "2"}])
    if rng.random() < 0.2:
        spec["securityContext"] = {"runAsUser": 1, "fsGroup": None}
    if spec:
        patch["spec"] = spec
    if meta:
        patch["metadata"] = meta
    return patch


def typed(value):
    """What an API server makes of a result when it decodes it: kubectl --local leaves $retainKeys and
    nulls in elements that were added to a list, a server has no such members."""
    if isinstance(value, dict):
        return {k: typed(v) for k, v in value.items() if v is not None and k != "$retainKeys"}
    return [typed(v) for v in value] if isinstance(value, list) else value


def directives(value):
    """Whether a directive was taken over into the result: an old kubectl (1.20) does that to what a patch adds,
    so there it says nothing about our answer."""
    if isinstance(value, dict):
        return any(k.startswith("$") or directives(v) for k, v in value.items())
    return isinstance(value, list) and any(directives(v) for v in value)


def kubectl_minor():
    said = subprocess.run(["kubectl", "version", "--client"], capture_output=True, text=True).stdout
    found = re.search(r"v1\.(\d+)", said)
    return int(found.group(1)) if found else 99


def ask_kubectl(case):
    kind, base, patch = case
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(base, file)
        file.flush()
        done = subprocess.run(["kubectl", "patch", "--local", "-f", file.name, "--type=" + kind, "-p",
                               json.dumps(patch), "-o", "json"], capture_output=True, text=True)
    return (typed(json.loads(done.stdout)), "") if done.returncode == 0 else (None, done.stderr.strip())


def main():
    tool = sys.argv[1]
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 250
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else int(os.environ.get("SEED", "1"))
    if shutil.which("kubectl") is None:
        print("skipped: no kubectl on PATH")
        return 77
    home = tempfile.TemporaryDirectory()
    os.environ["HOME"] = home.name
    old = kubectl_minor() < 27
    rng = random.Random(seed)
    cases = [("strategic", b, p) for b, p in vectors()] + list(merge_vectors())
    cases += [("strategic", random_pod(rng), random_patch(rng)) for _ in range(count)]
    lines = "".join(json.dumps({"kind": b["kind"], "type": k, "base": b, "patch": p}) + "\n" for k, b, p in cases)
    ours = subprocess.run([tool], input=lines, capture_output=True, text=True)
    if ours.returncode != 0:
        print(ours.stderr)
        return 1
    results = [json.loads(line) for line in ours.stdout.splitlines()]
    with ThreadPoolExecutor(2) as pool:
        wanted = list(pool.map(ask_kubectl, cases))
    failed = lenient = refused = mute = 0
    for (kind, base, patch), (want, why), have in zip(cases, wanted, results):
        if want is None:
            refused += 1
            lenient += have is not None
            if kind != "strategic" and have is not None:
                failed += 1
                print("ACCEPTED what kubectl refuses: %s\n  %s" % (json.dumps(patch), why))
        elif old and directives(want):
            mute += 1
        elif typed(have) != want:
            failed += 1
            if failed <= 5:
                print("DIFFERS (%s)\n base  %s\n patch %s\n want  %s\n have  %s" % tuple(
                    [kind] + [json.dumps(x, sort_keys=True) for x in (base, patch, want, have)]))
    print("%d cases, seed %d: %d differ; kubectl refused %d, of which we accepted %d%s"
          % (len(cases), seed, failed, refused, lenient,
             "; %d are wrong in a kubectl this old" % mute if old else ""))
    return 1 if failed or mute > len(cases) // 3 else 0


if __name__ == "__main__":
    sys.exit(main())
