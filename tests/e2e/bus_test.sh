#!/usr/bin/env bash
# Claim: mappers of KubeEdge work at a Kelp edge as they are, on both generations of topics and on two brokers at
# once; what became durable is answered and its newest value reaches the cloud, whoever of edgecore, the brokers and
# the cloud is killed with -9 in between; each of the two brokers does alone, too. Method: a real cloudcore, edgecore
# and two mosquittos (one of edgecore's own; one with TLS and passwords); mosquitto_pub, mosquitto_sub and
# mosquitto_rr as mappers, kubectl as the user.
#   bus_test.sh PORT
. "$(dirname "$0")/lib.sh"
begin fake "$1"
command -v mosquitto_pub >/dev/null || skip "no mosquitto-clients"
[ -x /usr/sbin/mosquitto ] || skip "no mosquitto"
own=$((port + 50)) tls=$((port + 51)) open=$((port + 52))
cd "$home" || exit 1
declare -A pids=()
end() {
    local code=$?
    kill -9 "${pids[@]}" 2>/dev/null
    if [ $code -ne 0 ]; then tail -n 15 "$home"/*.log; fi
    leave
}
trap end EXIT
run() { # name, command...
    local name=$1
    shift
    "$@" >>"$name.log" 2>&1 &
    pids[$name]=$!
    disown $!
}
killed() { kill -9 "${pids[$1]}"; while kill -0 "${pids[$1]}" 2>/dev/null; do sleep 0.02; done; }
json() { python3 -c 'import json, sys; print(eval(sys.argv[1], {"o": json.load(sys.stdin)}))' "$1"; }

# -- one of each -----------------------------------------------------------------------------------------------
kelp pki ca --out pki >/dev/null
kelp pki server --ca pki --name cloudcore-1 --san 127.0.0.1 --out pki >/dev/null
kelp pki server --ca pki --name broker --san 127.0.0.1 --out pki >/dev/null
kelp pki node --ca pki --node edge-1 --out pki >/dev/null
kelp pki client --ca pki --user admin --group system:masters --out pki >/dev/null
kelp pki kubeconfig --pki pki --user admin --server "https://127.0.0.1:$((port + 11))" --out kubeconfig >/dev/null
kube() { KUBECONFIG=$home/kubeconfig kubectl --cache-dir "$home/cache" "$@"; }
cat >cloud.yaml <<YAML
replica: 1
data: $home/cloud
group: [ "1=127.0.0.1:$((port + 31))" ]
api: { listen: "127.0.0.1:$((port + 11))" }
hub: { listen: "127.0.0.1:$((port + 21))" }
peer: { listen: "127.0.0.1:$((port + 31))" }
tls: { authority: pki/ca.crt, certificate: pki/cloudcore-1.crt, key: pki/cloudcore-1.key }
session: { heartbeat: 2s, unreachable: 10s }
YAML
cat >edge.yaml <<YAML
data: $home/edge
cloud: [ "127.0.0.1:$((port + 21))" ]
tls: { authority: pki/ca.crt, certificate: pki/edge-1.crt, key: pki/edge-1.key }
runtime: { endpoint: "unix://$home/none.sock", root: $home/pods, cgroup: "" }
link: { backoff: 500ms }
metrics: { listen: "127.0.0.1:$((port + 60))" }
eventBus:
  mode: both
  internal: tcp://127.0.0.1:$own
  external: tcp://127.0.0.1:$tls
  user: kelp
  passwordFile: $home/password
  tls: { authority: pki/ca.crt }
  upload: [ "plant/#" ]
YAML
(umask 077 && echo 'known only here' >password)
mosquitto_passwd -b -c passwords kelp "$(cat password)"
cat >broker.conf <<CONF
per_listener_settings true
listener $tls 127.0.0.1
cafile $home/pki/ca.crt
certfile $home/pki/broker.crt
keyfile $home/pki/broker.key
password_file $home/passwords
allow_anonymous false
listener $open 127.0.0.1
allow_anonymous true
max_queued_messages 0
log_type error
user root
CONF
broker() { run broker /usr/sbin/mosquitto -c broker.conf; }
cloud() { run cloud "$bin/nodes/cloudcore" --config cloud.yaml; }
edge() { run edge "$bin/nodes/edgecore" --config edge.yaml "$@"; }
broker
cloud
edge
status() { kelp status -o json edge | json "o['$1']"; }
is() { [ "$("${@:2}")" = "$1" ] || { echo "wanted $1, got $("${@:2}")"; return 1; }; }
check "both brokers are connected" within 10 is 2 status brokersConnected
check "the link is up" within 10 is True status linkUp

# -- a mapper, at each broker ------------------------------------------------------------------------------------
run heard-own mosquitto_sub -h 127.0.0.1 -p $own -q 1 -t '$hw/#' -F '%t %p'
run heard-open mosquitto_sub -h 127.0.0.1 -p $open -q 1 -t '$hw/#' -F '%t %p'
say() { mosquitto_pub -h 127.0.0.1 -p "$1" -q 1 -t "$2" -m "$3"; } # port, topic, payload
heard() { # which, topic, pattern; all is read, as who writes into a closed pipe fails
    grep -F -- "$2" "heard-$1.log" | grep -cE -- "$3" >count || { tail -3 "heard-$1.log"; return 1; }
}
listening() { say $1 '$hw/test' "$3" && heard "$2" '$hw/test' "$3"; } # port, which, a word
check "mappers listen at the one" within 5 listening $own own now
check "and at the other" within 5 listening $open open now

kube apply -f - >/dev/null <<YAML
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: { name: thermo, namespace: default }
spec: { properties: [ { name: temperature, type: INT, accessMode: ReadWrite }, { name: count, type: INT, accessMode: ReadOnly } ] }
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: { name: dht11, namespace: default }
spec: { deviceModelRef: { name: thermo }, nodeName: edge-1, properties: [ { name: temperature, desired: { value: "25" } }, { name: count } ] }
YAML
plain='$hw/events/device/dht11' spaced='$hw/events/device/default/dht11'
for which in own open; do
    check "a new device is told at $which" within 5 heard $which '$hw/events/node/edge-1/membership/updated' '"added_devices":\[\{"id":"default/dht11"'
    check "what it should be is told on plain topics at $which" within 5 heard $which "$plain/twin/update/delta" '"delta":\{"temperature":"25"\}'
    check "and on those of today" within 5 heard $which "$spaced/twin/update/delta" '"delta":\{"temperature":"25"\}'
done
say $own "$plain/twin/update" '{"event_id":"u-1","timestamp":1,"twin":{"temperature":{"actual":{"value":"25"},"metadata":{"type":"Updated"}}}}'
check "an update is answered" within 5 heard own "$plain/twin/update/result" '"event_id":"u-1","timestamp":[0-9]+,"twin":\{"temperature":\{"actual":\{"value":"25"'
check "at the other broker, too" within 5 heard open "$spaced/twin/update/document" '"event_id":"u-1"'
say $open "$spaced/state/update" '{"state":"online"}'
check "a state is answered" within 5 heard open "$spaced/state/update/result" '"device":\{"name":"dht11","state":"online","lastOnlineTime":"20'
say $open "$spaced/twin/get" '{"event_id":"g-1"}'
check "a question is answered" within 5 heard open "$spaced/twin/get/result" '"event_id":"g-1".*"actual":\{"value":"25"'
say $open "$spaced/twin/update" '{"event_id":"bad","twin":{"temperature":{"actual":{"value":"warm"}}}}'
check "a value that is none is told, with its device and property" within 5 grep -qE 'record_refused kind=twin_update outcome=refused_value others=[0-9]+ key=[^ ]*default/dht11 part=temperature reason="the value is not int or integer"$' edge.log
say $open "$spaced/twin/update" '{"event_id":'
check "so is what cannot be read, with its topic" within 5 grep -qE 'message_refused.*dht11/twin/update' edge.log
check "and counted" within 5 is 1 status mqttRefused
reported() { kube get device dht11 -o "jsonpath={.status.twins[?(@.propertyName=='$1')].reported.value}"; }
check "the user sees it" within 5 is 25 reported temperature
kube patch device dht11 --type merge -p '{"spec":{"properties":[{"name":"temperature","desired":{"value":"30"}},{"name":"count"}]}}' >/dev/null
check "a wish reaches the mapper" within 5 heard own "$plain/twin/update/delta" '"delta":\{"temperature":"30"\}'

# exactly as much as is read in a turn (READS_AT_ONCE): that there is no more is found at once
kill -STOP "${pids[edge]}"
seq 1 1024 | sed 's/.*/{"twin":{"count":{"actual":{"value":"&"}}}}/' | mosquitto_pub -h 127.0.0.1 -p $own -q 1 -l -t "$spaced/twin/update"
kill -CONT "${pids[edge]}"
check "telemetry waits for its window alone" within 3 heard own "$spaced/twin/update/result" '"count":\{"actual":\{"value":"1024"'

# what a broker keeps of a topic, and what was said there since
mosquitto_pub -h 127.0.0.1 -p $open -q 1 -r -t "$spaced/twin/update" -m '{"event_id":"kept","twin":{"temperature":{"actual":{"value":"7"}}}}'
say $open "$spaced/twin/update" '{"event_id":"since","twin":{"temperature":{"actual":{"value":"8"}}}}'
check "a message that the broker keeps is heard when it is said" within 5 heard open "$spaced/twin/update/result" '"event_id":"since"'

# -- whoever is asked to leave ---------------------------------------------------------------------------------
all_of() { # first, last: every event id between is in the log
    kelp log cat -o jsonl --kind twin_update edge | grep -o '"eventId":"o-[0-9]*"' | grep -o '[0-9]*' | sort -un >ordered
    seq "$1" "$2" | sort >wanted
    [ -z "$(sort ordered | comm -13 - wanted | head -c 1)" ] || { sort ordered | comm -13 - wanted | wc -l; return 1; }
}
seq 1 6000 | sed 's/.*/{"event_id":"o-&","twin":{"count":{"actual":{"value":"&"}}}}/' |
    mosquitto_pub -h 127.0.0.1 -p $open -q 1 -l -t "$spaced/twin/update" &
publisher=$!
for at in 1000 3000; do
    within 10 heard open "$spaced/twin/update/result" "\"event_id\":\"o-$at\"" >/dev/null
    kill "${pids[edge]}"
    while kill -0 "${pids[edge]}" 2>/dev/null; do sleep 0.02; done
    edge
done
wait $publisher
check "edgecore leaves in a stream, and loses nothing it acknowledged" within 20 all_of 1 6000
check "it is back" within 10 is 2 status brokersConnected
check "nor throws away what a kept session brings" is 0 status mqttIgnored
page() { curl -sf "http://127.0.0.1:$((port + 60))/metrics"; }
told_again() { page | holds '^kelp_bus_messages_retained_total [1-9]'; }
check "what the broker keeps it tells again" within 5 told_again
say $open "$plain/twin/get" '{"event_id":"g-kept"}'
check "and it is older than what was said since" within 10 heard open "$plain/twin/get/result" '"event_id":"g-kept".*"temperature":\{[^}]*\}\},"actual":\{"value":"8"'

# -- nobody is safe ---------------------------------------------------------------------------------------------
killed cloud
stream() { # first, last: telemetry, each fifth a question, as one client
    awk -v a="$1" -v b="$2" 'BEGIN { for (i = a; i <= b; i++)
        printf "{\"event_id\":\"%s\",\"twin\":{\"count\":{\"actual\":{\"value\":\"%d\"}}}}\n", i % 5 ? "" : "s-" i, i }' |
        mosquitto_pub -h 127.0.0.1 -p $open -q 1 -l -t "$spaced/twin/update"
}
said() { heard open "$spaced/twin/update/result" "\"event_id\":\"s-$1\""; }
stream 1 1500
check "telemetry goes on without the cloud" within 10 said 1500
stream 1501 2999 &
publisher=$!
within 5 said 1800 >/dev/null
killed edge
edge
wait $publisher
stream 3000 3000 # what was acknowledged in the last moment before may be lost
check "edgecore is killed, and goes on" within 10 said 3000
check "with both brokers" within 10 is 2 status brokersConnected
kill -9 "$(pgrep -P "${pids[edge]}" -x mosquitto)"
check "its own broker is killed, and comes again" within 10 is 2 status brokersConnected
killed broker
say $own "$spaced/twin/update" '{"event_id":"alone","twin":{"count":{"actual":{"value":"4000"}}}}'
broker
check "the other broker is killed, and comes again" within 10 is 2 status brokersConnected
check "mappers listen again" within 5 listening $open open again
say $open "$plain/twin/get" '{"event_id":"g-2"}'
check "the last value is there" within 5 heard open "$plain/twin/get/result" '"event_id":"g-2".*"count":\{"actual":\{"value":"4000"'
answered() { # every question that is in the log was answered
    kelp log cat -o jsonl --kind twin_update edge | grep -o '"eventId":"s-[0-9]*"' | grep -o 's-[0-9]*' | sort -u >recorded
    grep -F "$spaced/twin/update/result" heard-open.log | grep -o '"event_id":"s-[0-9]*"' | grep -o 's-[0-9]*' | sort -u >told
    [ "$(comm -23 recorded told | wc -l)" = 0 ] && [ "$(wc -l <recorded)" -gt 300 ] || { comm -23 recorded told | head; wc -l recorded told; return 1; }
}
check "what is durable was answered" within 5 answered
say $own plant/alarm fire
check "a message for the cloud is recorded" within 5 says mqtt_message kelp log cat --kind mqtt_message edge
cloud
check "the newest value reaches the cloud when it is back" within 10 is 4000 reported count
check "it is counted" says 'kelp_bus_broker_up{broker="external"} 1' page

# -- each broker alone: KubeEdge's modes 2 and 0; all before was 1 ------------------------------------------------
ask() { mosquitto_rr -h 127.0.0.1 -p "$1" -q 1 -W 5 -t "$plain/twin/get" -e "$plain/twin/get/result" -m '{"event_id":"rr"}'; }
for mode in external:$open internal:$own; do
    killed edge
    edge --set "eventBus.mode=${mode%:*}"
    check "the ${mode%:*} broker alone is connected" within 10 is 1 status brokersConnected
    check "and a question there is answered" says '"count":{"actual":{"value":"4000"' ask "${mode#*:}"
done

# -- what cannot be -----------------------------------------------------------------------------------------------
sure() { timeout 5 "$bin/nodes/edgecore" --config edge.yaml --set "data=$home/other" "$@"; }
check "a broker that is not installed" says 'apt-get install' sure --set eventBus.program=/none
check "a broker for everybody without a password" says 'on this machine alone' sure --set eventBus.internal=0.0.0.0:$own
check "nor one whose name only looks like this machine" says 'on this machine alone' sure --set eventBus.internal=127.evil.example:$own
check "an address that is none" says 'eventBus.external' sure --set eventBus.external=ssl://here
check "a topic that is none" says 'eventBus.upload' sure --set 'eventBus.upload=a/#/b'
cp password open-to-all && chmod 644 open-to-all
check "a password that everybody may read" says 'chmod 600' sure --set eventBus.passwordFile=open-to-all
kill "${pids[edge]}"
check "edgecore leaves, and its broker with it" within 5 not pgrep -P "${pids[edge]}" -x mosquitto
finish
