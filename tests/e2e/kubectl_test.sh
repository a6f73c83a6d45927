#!/usr/bin/env bash
# Claim: kubectl works against any of the three cloudcores, for the kinds and commands the README names.
#   kubectl_test.sh PORT      with the kubectl that comes first on PATH (1.20 to 1.33)
. "$(dirname "$0")/lib.sh"
begin fake "$1"
quick --runtime fake start >/dev/null || exit 1
y=$home/yaml
mkdir -p "$y"

check "get nodes is a table" says "Ready" kube get nodes
for n in 1 2 3; do check "cloudcore-$n answers" says edge-1 on $n get nodes -o name; done
check "wide columns" says "CONTAINER-RUNTIME" kube get nodes -o wide
check "describe node" says "edge-1" kube describe node edge-1

check "create namespace (protobuf body)" says "namespace/shop created" on 2 create namespace shop
check "twice is AlreadyExists" says 'namespaces "shop" already exists' on 3 create namespace shop
check "create configmap" says "configmap/c created" on 3 create configmap c -n shop --from-literal=a=1
check "create secret" says "secret/s created" kube create secret generic s -n shop --from-literal=k=v
check "secret data is base64" says "dg==" kube get secret s -n shop -o jsonpath='{.data.k}'
check "in a missing namespace" says 'namespaces "nowhere" not found' kube create configmap c -n nowhere --from-literal=a=1

cat >"$y/pod.yaml" <<Y
apiVersion: v1
kind: Pod
metadata: { name: web, namespace: shop, labels: { app: web } }
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - { name: main, image: "kelp.local/busybox:1", command: [sleep, "1000"], env: [ { name: A, value: "1" } ], ports: [ { containerPort: 80 } ] }
    - { name: side, image: "kelp.local/busybox:1", command: [sleep, "1000"] }
Y
check "apply creates" says "pod/web created" kube apply -f "$y/pod.yaml"
check "apply again is unchanged" says "pod/web unchanged" kube apply -f "$y/pod.yaml"
sed -i 's/app: web/app: web, tier: edge/' "$y/pod.yaml"
check "apply of a change (strategic merge)" says "pod/web configured" kube apply -f "$y/pod.yaml"
check "the label is there" says edge kube get pod web -n shop -o jsonpath='{.metadata.labels.tier}'
running() { [ "$(kube get pod web -n shop -o jsonpath='{.status.phase}')" = Running ]; }
check "the pod runs" within 30 running
check "table" says "2/2" kube get pods -n shop
check "wide has the node" says edge-1 kube get pods -n shop -o wide
check "yaml" says "containerStatuses:" kube get pod web -n shop -o yaml
check "json" says '"restartCount": 0' kube get pod web -n shop -o json
check "describe pod" says "Status:" kube describe pod web -n shop
check "selector" says pod/web kube get pods -A -l app=web -o name
check "field selector" says pod/web kube get pods -A --field-selector spec.nodeName=edge-1 -o name
check "events are listed" kube get events -n shop
told() { # pod, words...: describe shows an event with each
    local pod=$1 text word
    shift
    text=$(kube describe pod "$pod" -n shop | sed -n '/^Events:/,$p')
    for word in "$@"; do grep -qF "$word" <<<"$text" || return 1; done
}
check "describe tells the life of each container" within 10 told web Scheduled Pulled \
    "Created container main" "Created container side" "Started container main" "Started container side"
heard() { [ -n "$(on "$1" get lease edge-1 -n kube-node-lease -o jsonpath='{.spec.renewTime}')" ]; }
for n in 1 2 3; do check "cloudcore-$n knows when the node was last heard" within 15 heard $n; done
check "ids name the runtime" says :// kube get pod web -n shop -o jsonpath='{.status.containerStatuses[0].containerID}'
cat >"$y/odd.yaml" <<Y
apiVersion: v1
kind: Pod
metadata: { name: huge, namespace: shop }
spec: { containers: [ { name: main, image: "kelp.local/busybox:1", resources: { requests: { cpu: "1000" } } } ] }
---
apiVersion: v1
kind: Pod
metadata: { name: waits, namespace: shop }
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - { name: main, image: "kelp.local/busybox:1", command: [sleep, "1000"], envFrom: [ { configMapRef: { name: late } } ] }
    - { name: side, image: "kelp.local/busybox:1", command: [sleep, "1000"] }
Y
kube apply -f "$y/odd.yaml" >/dev/null
check "an unschedulable pod says why" within 10 told huge FailedScheduling "Insufficient cpu"
check "a missing environment is visible" within 20 says CreateContainerConfigError kube get pod waits -n shop
check "and says what is missing" within 10 told waits 'configmap "late" not found' "Started container side"
kube create configmap late -n shop --from-literal=a=1 >/dev/null
check "it starts when the config map comes" kube wait --for=condition=Ready pod/waits -n shop --timeout=20s
kube delete pod huge waits -n shop >/dev/null
kube delete configmap late -n shop >/dev/null
watch_sees() {
    kube get configmaps -n shop -w --request-timeout=6s -o name >"$y/watch" 2>&1 &
    local pid=$!
    within 5 grep -q configmap/c "$y/watch"
    on 2 create configmap seen -n shop --from-literal=a=1 >/dev/null
    within 5 grep -q configmap/seen "$y/watch"
    local found=$?
    kill $pid 2>/dev/null
    wait $pid 2>/dev/null
    return $found
}
cat >"$y/device.yaml" <<Y
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: { name: thermo, namespace: shop }
spec: { deviceModelRef: { name: none }, nodeName: edge-1, properties: [ { name: t, desired: { value: "20" } } ] }
Y
check "a device is created" says "thermo created" kube apply -f "$y/device.yaml"
observed() { [ "$(on 2 get device thermo -n shop -o jsonpath='{.status.twins[0].observedDesired.value}')" = "$1" ]; }
check "its edge knows what is wished" within 10 observed 20
kube patch device thermo -n shop --type=merge -p '{"spec":{"properties":[{"name":"t","desired":{"value":"25"}}]}}' >/dev/null
check "and hears of another wish" within 10 observed 25
check "a watch on one replica sees a write through another" watch_sees
check "wait for a condition" kube wait --for=condition=Ready pod/web -n shop --timeout=20s

conflict() {
    kube get configmap c -n shop -o json | sed 's/"resourceVersion": "[0-9]*"/"resourceVersion": "1"/' >"$y/old.json"
    says "the object has been modified" kube replace -f "$y/old.json"
}
check "an old resourceVersion is a conflict" conflict
printf '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"bad"},"spec":{"containers":[{"name":"a"}]}}' >"$y/bad.json"
check "an invalid object names the field" says "spec.containers[0].image: Required value" kube create -f "$y/bad.json"
printf '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"odd"},"data":{},"bogus":1}' >"$y/odd.json"
if kube create --help | holds "validate='strict'"; then
    check "an unknown field is refused" exits 1 kube create -f "$y/odd.json"
    check "by its name" says 'strict decoding error: unknown field "bogus"' kube create -f "$y/odd.json"
    check "or warned of" says 'unknown field "bogus"' kube create -f "$y/odd.json" --validate=warn
else # kubectl before 1.25 leaves it to the server, which then warns
    check "an unknown field is warned of" says 'Warning: unknown field "bogus"' kube create -f "$y/odd.json"
fi
check "invalid JSON" says "400" curl -sk --cert "$home/k/pki/admin.crt" --key "$home/k/pki/admin.key" -X POST -H 'Content-Type: application/json' -d '{"kind":' "https://127.0.0.1:$((port + 11))/api/v1/namespaces/shop/configmaps"
check "no certificate is 401" says '"code":401' curl -sk "https://127.0.0.1:$((port + 11))/api/v1/nodes"
check "an edge's certificate may not write" says "403" curl -sk --cert "$home/k/pki/edge-1.crt" --key "$home/k/pki/edge-1.key" "https://127.0.0.1:$((port + 11))/api/v1/secrets"
check "logs answer with a sentence" says "not offered by Kelp yet" kube get --raw "/api/v1/namespaces/shop/pods/web/log"
check "and with 501" says '"code":501' curl -sk --cert "$home/k/pki/admin.crt" --key "$home/k/pki/admin.key" "https://127.0.0.1:$((port + 11))/api/v1/namespaces/shop/pods/web/log"
check "exec fails with a sentence" exits 1 kube exec web -n shop -- true

cat >"$y/lost.yaml" <<Y
apiVersion: v1
kind: Pod
metadata: { name: lost, namespace: shop }
spec: { containers: [ { name: main, image: "example.invalid/none:1" } ], terminationGracePeriodSeconds: 1 }
Y
kube apply -f "$y/lost.yaml" >/dev/null 2>&1
pulling() { kube get pod lost -n shop | holds -E 'ErrImagePull|ImagePullBackOff'; }
check "a missing image is visible" within 30 pulling
check "force delete" says "force deleted" kube delete pod lost -n shop --force --grace-period=0
check "graceful delete waits for the edge" says 'pod "web" deleted' kube delete pod web -n shop --timeout=30s
check "and it is gone" says "NotFound" kube get pod web -n shop
check "delete namespace removes its content" says 'namespace "shop" deleted' kube delete namespace shop --timeout=30s
check "all gone" says "NotFound" kube get configmap c -n shop
finish
