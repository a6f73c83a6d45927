#!/usr/bin/env bash
# Claim: each of three cloudcores in turn is stopped and started again as the next release, the leader last,
# and nobody misses anything: no kubectl write or read fails, none is lost or doubled, watches see each change
# once and in order, the node stays Ready, and its session moves. The mixed group works at the old feature
# level, which rises when the last one is upgraded; from then on the old release refuses to start.
# Method: one name with three addresses, as README.md recommends it (a hosts file of this test's own); kubectl
# and clients that follow client-go's rules (rolling_client) use it the whole time.
#   rolling_test.sh PORT NEXT     NEXT: a cloudcore that understands feature level 5
[ "$(id -u)" = 0 ] || { echo "a hosts file of its own needs root"; exit 77; }
[ -n "${ROLLING_INSIDE:-}" ] || ROLLING_INSIDE=1 exec unshare -m "$0" "$@"
. "$(dirname "$0")/lib.sh"
begin fake "$1"
next=$2
dir=$home/k
printf '127.0.0.1 kelp.test\n127.0.0.2 kelp.test\n127.0.0.3 kelp.test\n' | cat - /etc/hosts >"$home/hosts"
mount --bind "$home/hosts" /etc/hosts || skip "this machine does not allow mounts"
quick --runtime fake start >/dev/null || exit 1
status() { kelp status "$dir/cloudcore-$1/data" -o json 2>/dev/null; }
field() { status "$1" | sed -n "s/.*\"$2\":\([^,}]*\).*/\1/p"; }
leader() { local n; for n in 1 2 3; do [ "$(field $n leads)" = true ] && echo $n && return 0; done; return 1; }
serves() { curl -sk --max-time 2 "https://127.0.0.$1:$((port + 11))/readyz" | holds -x ok; }
named() { kube --server "https://kelp.test:$((port + 11))" "$@"; }

# One port on three addresses, and certificates with the name, of the other kind of key.
for n in 1 2 3; do
    rm "$dir/pki/cloudcore-$n."*
    kelp pki server --ca "$dir/pki" --name "cloudcore-$n" --san 127.0.0.1 --san "127.0.0.$n" --san kelp.test --out "$dir/pki" --key ecdsa >/dev/null
    sed -i "s/^api: .*/api: { listen: \"127.0.0.$n:$((port + 11))\" }/" "$dir/cloudcore-$n/cloudcore.yaml"
    quick restart "cloudcore-$n"
    within 20 serves $n || { echo "cloudcore-$n does not serve"; exit 1; }
done
ready() { [ "$(named get node edge-1 -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}')" = True ]; }
check "the node is Ready" within 20 ready

"$top/tests/e2e/rolling_client" kelp.test $((port + 11)) "$dir/pki" "$home" >"$home/seen" 2>&1 &
clients=$!
typed() { # a person with kubectl: each command is a process and a connection of its own
    local i=0 output
    while [ ! -e "$home/stop" ]; do
        i=$((i + 1))
        output=$(named create configmap "typed-$i" --from-literal=i=$i 2>&1) || echo "create typed-$i: $output" >>"$home/typed-failed"
        output=$(named get configmap "typed-$i" -o name 2>&1) || echo "get typed-$i: $output" >>"$home/typed-failed"
        echo $i >"$home/typed"
    done
}
typed &
typist=$!
level() { [ "$(field "$1" level)" = "$2" ]; }
last=$(leader)
moved=0
for n in $(seq 3 | grep -vx "$last") "$last"; do
    held=$(field $n sessionsActive)
    began=$(date +%s%3N)
    check "the level is that of the oldest" within 5 level $n 4
    quick restart "cloudcore-$n" "$next"
    check "cloudcore-$n (leader: $last) serves again" within 20 serves $n
    echo "restarted cloudcore-$n in $(($(date +%s%3N) - began)) ms, it had ${held:-0} sessions"
    moved=$((moved + ${held:-0}))
    check "it left in order" grep -q 'event=cloudcore_left in=order' "$dir/logs/cloudcore-$n.log"
    check "the node has a session" within 10 test "$(($(field 1 sessionsActive) + $(field 2 sessionsActive) + $(field 3 sessionsActive)))" = 1
    check "the node is Ready" ready
done
for n in 1 2 3; do check "cloudcore-$n works at the new level" within 10 level $n 5; done
check "a session moved" test $moved -ge 1
check "another one leads" test "$(leader)" != "$last"
touch "$home/stop"
wait $clients
verdict=$?
check "no write failed, none was lost or doubled, watches saw each change once: $(head -1 "$home/seen")" test $verdict = 0
wait $typist
check "$(cat "$home/typed") writes and reads by kubectl, none failed" test ! -e "$home/typed-failed"
cat "$home/seen" "$home/typed-failed" 2>/dev/null | grep -E 'failure|create|get' | head -20
quick restart cloudcore-2
refused() { grep -q 'feature level 5, this release knows levels up to 4' "$dir/logs/cloudcore-2.log" && ! kill -0 "$(cat "$dir/run/cloudcore-2.pid")" 2>/dev/null; }
check "the old release refuses the new level, and says so" within 10 refused
quick restart cloudcore-2 "$next"
check "the new one starts on what it left" within 20 serves 2
check "the node was never NotReady" bash -c "! grep -h 'event=node_unreachable' $dir/logs/cloudcore-*.log"
finish
