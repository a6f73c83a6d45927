#!/usr/bin/env bash
# Real kubectl against the API door, over the state machine in memory: the commands of
# the test plan (kubernetes-api section 16) that concern the kinds we serve.
#
#   api_kubectl_test.sh API_SERVER [KUBECTL]
#
# Exit 77 (skipped) where there is no kubectl. HOME is fresh, so no cache of another cluster helps.
set -u
server=$1
kubectl=${2:-kubectl}
command -v "$kubectl" > /dev/null || { echo "skipped: no kubectl on PATH"; exit 77; }
dir=$(mktemp -d)
export HOME=$dir/home
mkdir -p "$HOME" "$dir/pki"
mkfifo "$dir/in"
"$server" "$dir/pki" < "$dir/in" > "$dir/port" 2> "$dir/err" &
pid=$!
exec 7> "$dir/in"
trap 'exec 7>&-; wait $pid; rm -rf "$dir"' EXIT
until [ -s "$dir/port" ]; do
    kill -0 $pid 2> /dev/null || { cat "$dir/err"; exit 1; }
    read -r -t 0.05 < /dev/zero
done
port=$(head -1 "$dir/port")

config() { # user
    cat > "$dir/$1.conf" << YAML
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:$port", certificate-authority: $dir/pki/ca.crt}}]
users: [{name: u, user: {client-certificate: $dir/pki/$1.crt, client-key: $dir/pki/$1.key}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
YAML
}
config admin
config viewer
export KUBECONFIG=$dir/admin.conf
cd "$dir" || exit 1

# The words of kubectl changed with its versions; ours must hold from 1.20 (Debian's) to 1.33.
minor=$("$kubectl" version --client 2> /dev/null | grep -oE 'v1\.[0-9]+' | head -1 | cut -d. -f2)
since() { [ "${minor:-99}" -ge "$1" ]; }

passed=0
failed=0
# check ID EXIT PATTERN ARGUMENTS...: exit status, and an extended regular expression in the output;
# a pattern that starts with ! must not be found.
check() {
    local id=$1 want=$2 pattern=$3 out status
    shift 3
    out=$(timeout 60 "$kubectl" "$@" 2>&1 < /dev/null)
    status=$?
    local fine=1
    [ "$want" = any ] || [ "$status" = "$want" ] || fine=0
    case $pattern in
    !*) grep -Eq -- "${pattern#!}" <<< "$out" && fine=0 ;;
    *) grep -Eq -- "$pattern" <<< "$out" || fine=0 ;;
    esac
    if [ $fine = 1 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED %s: kubectl %s\n  exit %s instead of %s, wanted /%s/\n%s\n' "$id" "$*" \
            "$status" "$want" "$pattern" "$(sed 's/^/  | /' <<< "$out" | head -20)"
    fi
}

cat > cm.yaml << 'YAML'
{apiVersion: v1, kind: ConfigMap, metadata: {name: cm1}, data: {a: "1", b: "2"}}
YAML
cat > cm2.yaml << 'YAML'
{apiVersion: v1, kind: ConfigMap, metadata: {name: cm1, labels: {x: foo}}, data: {a: "9"}}
YAML
sed 's/name: cm1/name: cm1, resourceVersion: "1"/' cm.yaml > cmold.yaml
pod() { # labels, containers
    echo "{apiVersion: v1, kind: Pod, metadata: {name: p1$1}, spec: {nodeName: edge-1, containers: [$2]}}"
}
side='{name: side, image: "busybox:1"}'
pod '' "{name: main, image: \"nginx:1\", ports: [{containerPort: 80}], env: [{name: A, value: \"1\"}, {name: B, value: \"2\"}]}, $side" > pod.yaml
main2='{name: main, image: "nginx:2", ports: [{containerPort: 80}], env: [{name: A, value: "7"}]}'
pod ', labels: {tier: edge}' "$main2, $side" > pod2.yaml
pod ', labels: {tier: edge}' "{name: first, image: \"busybox:1\"}, $main2, $side" > pod3.yaml
echo '{apiVersion: v1, kind: ConfigMap, metadata: {generateName: gen-}}' > gen.yaml
echo '{apiVersion: v1, kind: Pod, metadata: {name: bad1}, spec: {bogusField: 1, containers: [{name: c, image: i}]}}' > bad1.yaml
echo '{apiVersion: v1, kind: Pod, metadata: {name: bad2}, spec: {containers: [{name: c}]}}' > bad2.yaml
echo '{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: ConfigMap, metadata: {name: l1}}, {apiVersion: v1, kind: Secret, metadata: {name: l2}}]}' > list.yaml
device() { # name, properties
    echo "{apiVersion: devices.kubeedge.io/v1beta1, kind: Device, metadata: {name: $1}, spec: {deviceModelRef: {name: m1}, nodeName: edge-1, properties: [$2]}}"
}
{
    echo '{apiVersion: devices.kubeedge.io/v1beta1, kind: DeviceModel, metadata: {name: m1}, spec: {properties: [{name: t, type: INT, accessMode: ReadWrite}]}}'
    echo ---
    device d1 '{name: t, desired: {value: "20"}}'
} > model.yaml
sed 's/"20"/"25"/' model.yaml > model2.yaml
device bad3 '{name: t}, {name: t}' > bad3.yaml
echo '{apiVersion: devices.kubeedge.io/v1alpha2, kind: Device, metadata: {name: alpha}, spec: {deviceModelRef: {name: m1}, protocol: {modbus: {slaveID: 1}}}, status: {twins: [{propertyName: led, desired: {value: "on"}}]}}' > alpha.yaml
sed 's/"on"/"off"/' alpha.yaml > alpha2.yaml
echo '{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: devices.devices.kubeedge.io}, spec: {group: devices.kubeedge.io, scope: Namespaced, names: {plural: devices, kind: Device}, versions: [{name: v1beta1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]}}' > crd.yaml
sed -i '1i ---' ./*.yaml # kubectl takes a file that begins with a brace for JSON
echo '{"apiVersion":"v1","kind":"ConfigMap"}' > wrong.json
printf '#!/bin/sh\nsed -i "s/a: x/a: edited/" "$1"\n' > editor
chmod +x editor
names='jsonpath={.spec.containers[*].name}'
images='jsonpath={.spec.containers[*].image}'

check A01 0 'Server Version: .*v1\.32' version
check A03 0 '^v1$' api-versions
check A04 0 'nodes +no +v1 +false +Node' api-resources
check A04b 0 'devices +dev +devices\.kubeedge\.io/v1beta1 +true +Device' api-resources
since 27 && check A07 0 'The node whose edge has the device' explain device.spec.nodeName
check A05 0 '^ok' get --raw /healthz
check A06 1 "the server doesn't have a resource type \"nothing\"" get nothing
check B01 0 'edge-1 +Ready +edge' get nodes
check B01b 0 'edge-2 +NotReady' get nodes
check B02 0 'INTERNAL-IP.*CONTAINER-RUNTIME' get nodes -o wide
check B03 0 'default +web +1/1 +Running +0' get pods -A
check B04 0 '!two' get pods -l app=web
check B05 0 '!web' get pods -A --field-selector spec.nodeName=edge-2
check B06 0 'pod/two' get pods --sort-by=.metadata.name -o name
check B06b 0 'two +2/2' get pods --sort-by=.metadata.name
check B07 0 'IP +NODE +NOMINATED NODE +READINESS GATES' get pods -o wide
check B08 0 'thermo +thermo-model +edge-1 +[^ ]+ +[0-9]+s' get dev
check B19 0 'Node Name: +edge-1' describe dev thermo
check B11 1 'Error from server \(NotFound\): pods "nope" not found' get pod nope
check B12 0 'web' get pods --chunk-size=1
check B12b 0 'two' get pods --chunk-size=1
check B13 0 'pod/web' get pods,nodes
check B14 0 'No resources found in edge namespace' get cm -n edge
check B15 0 '^edge-1$' get pod web -o 'jsonpath={.spec.nodeName}'
check B16 0 'web' get pods -o custom-columns=N:.metadata.name --no-headers
check B17 0 'HolderIdentity: +edge-1' describe node edge-1
check B17b 0 'Non-terminated Pods: +\(2 in total\)' describe node edge-1
check B18 0 'Node: +edge-1/' describe pod web
check B18b 0 'Started container app' describe pod web
check B20 0 'LAST SEEN +TYPE +REASON +OBJECT +MESSAGE' get events
check B21 1 'BadRequest.*field label not supported: bogus' get pods -A --field-selector bogus=1
check B22 0 'APP +LABELS' get pods -L app --show-labels
since 23 && check B23 0 'Started container app' events --for pod/web
check B24 0 'edge-1 +edge-1' get lease -n kube-node-lease
check C01 0 'configmap/cm1 created' create -f cm.yaml
check C02 1 'AlreadyExists.*configmaps "cm1" already exists' create -f cm.yaml
check C03 0 'pod/p1 created' apply -f pod.yaml
check C04 0 'pod/p1 unchanged' apply -f pod.yaml
check C05 0 'pod/p1 configured' apply -f pod2.yaml
check C06 0 '^main side$' get pod p1 -o "$names"
check C06b 0 '^A$' get pod p1 -o 'jsonpath={.spec.containers[0].env[*].name}'
check C06c 0 '^edge$' get pod p1 -o 'jsonpath={.metadata.labels.tier}'
check C09 0 'pod/p1 patched' patch pod p1 -p '{"spec":{"containers":[{"name":"side","image":"busybox:2"}]}}'
check C10 0 '^nginx:2 busybox:2$' get pod p1 -o "$images"
check C10n 0 'no change' patch pod p1 -p '{"spec":{"containers":[{"name":"side","image":"busybox:2"}]}}'
check C10a 0 'configured' apply -f pod3.yaml
check C10b 0 '^first main side$' get pod p1 -o "$names"
check C10c 0 'patched' patch pod p1 -p '{"spec":{"containers":[{"name":"zz","image":"busybox:1"}]}}'
check C10d 0 '^zz first main side$' get pod p1 -o "$names"
check C07 0 'device.devices.kubeedge.io/d1 created' apply -f model.yaml
check C07b 0 'definition.apiextensions.k8s.io/devices.devices.kubeedge.io created' apply -f crd.yaml
check C07c 0 'condition met' wait --for=condition=Established --timeout=5s crd/devices.devices.kubeedge.io
check C08 0 'devicemodel.devices.kubeedge.io/m1 unchanged' apply -f model2.yaml
check C08c 0 '^\{"value":"25"\}$' get devices.v1alpha2.devices.kubeedge.io d1 -o 'jsonpath={.status.twins[0].desired}'
check C08d 0 '^24$' get devices.v1alpha2.devices.kubeedge.io thermo -o 'jsonpath={.status.twins[0].reported.value}'
check C08g 0 'alpha created' apply -f alpha.yaml
check C08e 0 'alpha configured' apply -f alpha2.yaml
check C08f 0 '^off$' get dev alpha -o 'jsonpath={.spec.properties[0].desired.value}'
check C11 0 'patched' patch dev d1 --type=merge -p '{"spec":{"nodeName":"edge-2"}}'
check C12 1 'media type|unknown format' patch dev d1 -p '{"spec":{}}'
check C11b 1 'spec.properties\[1\].name: Duplicate value: "t"' create -f bad3.yaml
check C11c 0 'thermo.*deviceModels' get cm device-profile-config-edge-1 -o 'jsonpath={.data}'
check C12b 0 'dev.*"d1" deleted' delete dev d1
check C13 0 'patched' patch cm cm1 --type=json -p '[{"op":"replace","path":"/data/a","value":"x"}]'
check C14 0 'patched' patch cm cm1 --type=merge -p '{"data":{"b":null}}'
check C15 0 '^\{"a":"x"\}$' get cm cm1 -o 'jsonpath={.data}'
check C16 0 'labeled' label node edge-1 zone=a
check C17 1 "already has a value \(a\), and --overwrite is false" label node edge-1 zone=b
check C18 0 '(un)?labeled' label node edge-1 zone-
check C19 0 'annotated' annotate cm cm1 note=hi
KUBE_EDITOR=$dir/editor check C20 0 'configmap/cm1 edited' edit cm cm1
check C20b 0 '^edited$' get cm cm1 -o 'jsonpath={.data.a}'
check C21 1 'Conflict.*the object has been modified' replace -f cmold.yaml
check C22 0 'replaced' replace -f cm.yaml
check C23 1 '^\+  a: "9"' diff -f cm2.yaml
check C24 0 'configured \(server dry run\)' apply --dry-run=server -f cm2.yaml
check C25 0 '^1$' get cm cm1 -o 'jsonpath={.data.a}'
check C26 0 'serverside-applied' apply --server-side --force-conflicts -f cm2.yaml
check C27 0 'configmap/gen-[a-z0-9]{5} created' create -f gen.yaml
if since 25; then
    check C28 1 'unknown field "spec.bogusField"' create -f bad1.yaml
    check C29 0 'Warning: unknown field "spec.bogusField"' create -f bad1.yaml --validate=warn
else # says nothing about validation, so the server warns
    check C28 0 'Warning: unknown field "spec.bogusField"' create -f bad1.yaml
fi
check C30 1 'The Pod "bad2" is invalid: spec.containers\[0\].image: Required value' create -f bad2.yaml
check C31 0 'namespace/n1 created' create ns n1
check C32 0 'secret/s1 created' create secret generic s1 --from-literal=k=v
check C33 0 '^dg==$' get secret s1 -o 'jsonpath={.data.k}'
check C34 0 'configmap/c9 created' create configmap c9 --from-literal=a=b
check C35 0 'serviceaccount/sa1 created' create sa sa1
check C37 0 'No resources found in n1 namespace' get pods -n n1
since 24 && check C38 0 'patched' patch node edge-1 --subresource=status --type=merge -p '{"status":{"phase":"x"}}'
since 24 && check C38b 0 '^x$' get node edge-1 -o 'jsonpath={.status.phase}'
check C39 0 'secret/l2 created' apply -f list.yaml
check C40 1 'namespaces "nowhere" not found' create cm x -n nowhere
check C41 1 'do not match' create -f wrong.json --raw /api/v1/namespaces/default/pods
check C42 0 'pod/run1 created' run run1 --image=busybox:1 --restart=Never
check C43 0 'Pending' get pod run1
check D01 0 'web' get pods -w --request-timeout=2s
check D01b 0 'edge-1' get node edge-1 -w --request-timeout=2s
check D02 0 'condition met' wait --for=condition=Ready pod/web --timeout=5s
check D03 1 'timed out waiting for the condition on pods/web' wait --for=condition=Bogus pod/web --timeout=1s
KUBE_FEATURE_WatchListClient=true check D03b 0 'condition met' wait --for=condition=Ready pod/web --timeout=5s
check D04 0 'configmap "c9" deleted' delete cm c9
check D05 1 'NotFound' delete cm c9
check D06 0 '!.' delete cm c9 --ignore-not-found
check D07 0 'pod "p1" deleted' delete pod p1 --grace-period=1
check D07b 1 'NotFound' get pod p1
check D08 0 'pod "bad1" force deleted' delete pod bad1 --force --grace-period=0
check D09 0 'patched' patch cm cm1 --type=merge -p '{"metadata":{"finalizers":["kelp.io/test"]}}'
check D10 1 'timed out waiting for the condition' delete cm cm1 --timeout=1s
check D11 0 '^20..-' get cm cm1 -o 'jsonpath={.metadata.deletionTimestamp}'
check D12 0 'patched' patch cm cm1 --type=merge -p '{"metadata":{"finalizers":null}}'
check D13 1 'NotFound' get cm cm1
check D14a 0 'created' create cm inside -n n1
check D14b 0 'pod/inside created' run inside -n n1 --image=busybox:1 --overrides '{"spec":{"nodeName":"edge-1"}}'
check D14 0 'namespace "n1" deleted' delete ns n1
check D14c 1 'NotFound' get ns n1
check D14d 1 'may not be deleted' delete ns default
check D15 0 'deleted \(server dry run\)' delete cm l1 --dry-run=server
check D15b 0 'l1' get cm l1
check D16 0 'configmap "l1" deleted' delete cm --all
check E01 0 'cordoned' cordon edge-1
check E02 0 'Ready,SchedulingDisabled' get node edge-1
check E03 0 'uncordoned' uncordon edge-1
check E04 0 'tainted' taint nodes edge-1 k=v:NoSchedule
check E05 0 'untainted' taint nodes edge-1 k-
check F01 1 'NotImplemented.*log of pods is not offered' logs web
check F05 1 'not offered' exec web -- echo hi
check G03 0 'edge-1' get nodes
check G06 0 'node/edge-1 (drained|deleted|evicted)' drain edge-1 --force --ignore-daemonsets --timeout=20s
check G07 0 '!web' get pods -A
check G08 0 'node "edge-2" deleted' delete node edge-2
check G09 1 'NotFound' get pod sensor -n edge
export KUBECONFIG=$dir/viewer.conf
check G02 1 'Forbidden.*secrets is forbidden: User "viewer" cannot list resource "secrets" in API group "" in the namespace "default"' get secrets
check G10 1 'impersonat' get pods --as=admin
export KUBECONFIG=$dir/admin.conf
sed "/^users/s/.*/users: [{name: u, user: {token: wrong}}]/" admin.conf > token.conf
KUBECONFIG=$dir/token.conf check G01 1 'You must be logged in to the server' get nodes

echo "kubectl $("$kubectl" version --client 2> /dev/null | head -1): $passed passed, $failed failed"
cat "$dir/err" | grep -v namespace_removed
[ $failed = 0 ]
