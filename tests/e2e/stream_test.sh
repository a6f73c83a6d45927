#!/usr/bin/env bash
# Claim: of reports that stream in while edgecore, its broker and the leading cloudcore are killed with -9 the cloud
# ends with the newest value of every device; of devices that keep all values it has each that became durable at the
# edge exactly once and in order.
# Method: the sample mapper against the edge's own broker, 3,600 reports a second through all kills, BETWEEN of them
# from one to the next, and REPORTS more without a pause; both logs are compared record by record.
#   stream_test.sh PORT [REPORTS [BETWEEN]]
. "$(dirname "$0")/lib.sh"
begin fake "$1"
reports=${2:-30000} between=${3:-2000} kept=500
patience=$((30 + between / 50)) # seconds
[ -x /usr/sbin/mosquitto ] || skip "no mosquitto"
quick --runtime fake --mqtt >/dev/null || exit 1
api=https://127.0.0.1:$((port + 11))/apis/devices.kubeedge.io/v1beta1/namespaces/default
pki=$home/k/pki

device() { # name, annotations
    printf '{"kind":"Device","apiVersion":"devices.kubeedge.io/v1beta1","metadata":{"name":"%s","annotations":{%s}},"spec":{"deviceModelRef":{"name":"thermometer"},"nodeName":"edge-1","properties":[{"name":"temperature"}]}}\n' "$1" "$2"
}
kube apply -f "$top/nodes/runtime/thermometer.yaml" >/dev/null
{
    for i in 0 1 2 3 4 5 6 7 8 9; do device "many-$i" ''; done
    for i in 0 1 2 3 4; do device "kept-$i" '"kelp.io/keep-values":"true"'; done
} | kube create -f - >/dev/null
edge_says() { kelp status "$home/k/edge-1/data" -o json 2>/dev/null | python3 -c "import json, sys; print(json.load(sys.stdin).get('$1', 0))"; }
received() { [ "$(edge_says mqttReceived)" -ge "$1" ]; }
all_down() { [ "$(edge_says downPosition)" -ge 15 ]; }
check "the edge has heard of its devices" within 20 all_down

mapper() { exec "$bin/nodes/mapper" -q -b "127.0.0.1:$((port + 50))" "$@" >>"$home/mapper.log" 2>&1; }
mapper --name many -d 10 --every 3 &
many=$!
mapper --name kept -d 5 --every 20 &
keeps=$!

check "reports come" within $patience received $between
quick kill edge-1 >/dev/null
quick revive edge-1
check "edgecore was killed, and more come" within $patience received $between
kill -9 "$(pgrep -P "$(cat "$home/k/run/edge-1.pid")" -x mosquitto)"
more=$(($(edge_says mqttReceived) + between))
check "its broker was killed, and more come" within $patience received $more
leader=$(quick status | sed -n 's/^leader: //p')
quick kill leader >/dev/null
more=$(($(edge_says mqttReceived) + between))
check "the leading cloudcore was killed, and more come" within $patience received $more
quick revive "$leader"
kill $many $keeps
wait
(mapper --name many -d 10 --updates "$reports") && (mapper --name kept -d 5 --updates $kept --window 20)
check "the last ones are sent" [ $? = 0 ]

# The cloud shows them.
last() { # name, devices, value: does every one say it?
    curl -sf --cacert "$pki/ca.crt" --cert "$pki/admin.crt" --key "$pki/admin.key" "$api/devices" | python3 -c '
import json, sys
name, count, value = sys.argv[1], int(sys.argv[2]), sys.argv[3]
said = [twin.get("reported", {}).get("value") for device in json.load(sys.stdin)["items"]
        if device["metadata"]["name"].startswith(name) for twin in device.get("status", {}).get("twins", [])
        if twin["propertyName"] == "temperature"]
sys.exit(0 if said == [value] * count else "%s say %s, not %s" % (name, said, value))' "$@"
}
check "the newest value of every device is in the cloud" within 30 last many 10 $(((reports / 10 - 1) % 10000 + 1))
check "that of those that keep all values, too" within 30 last kept 5 $((kept / 5))

# Every value that is durable at the edge, once and in order.
same() {
    [ "$(edge_says upAcked)" = "$(edge_says upLast)" ] &&
        kelp log cat -o jsonl --kind twin_update "$home/k/edge-1/data" >"$home/edge.jsonl" &&
        kelp log cat -o jsonl --kind device_value "$home/k/$leader/data" >"$home/cloud.jsonl" &&
        python3 - "$home/edge.jsonl" "$home/cloud.jsonl" <<'PY'
import json, sys
edge, cloud, seen = {}, {}, set()
for record in map(json.loads, open(sys.argv[1])):
    if "/kept-" in record["key"]:
        edge.setdefault(record["key"], []).extend(change["actual"] for change in record["body"]["changes"])
for record in map(json.loads, open(sys.argv[2])):
    if record["sequence"] not in seen: # a batch may be proposed twice; it is applied once
        seen.add(record["sequence"])
        cloud.setdefault(record["key"], []).append(record["body"]["value"])
kept = sum(map(len, edge.values()))
if edge != cloud or kept < 1000:
    sys.exit("%d values at the edge, %d in the cloud" % (kept, sum(map(len, cloud.values()))))
PY
}
check "each value that was kept is in both logs, once and in order" within 20 same
check "nothing was left out for want of room" not grep -q gap "$home/k/logs/edge-1.log"
finish
