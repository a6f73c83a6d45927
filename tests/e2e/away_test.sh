#!/usr/bin/env bash
# Claim: a cloudcore that was away until the others had trimmed their logs catches up by itself: it is given
# the state of another one, goes on at a third when that one dies in the middle, and then shows what all
# show. Its memory does not grow with what it missed. Method: three real processes with small snapshots; one
# is killed, config maps of 250 KB are written, it is started again with a bounded rate, and the leader is
# killed with -9 while the copy is under way, after the one that copies was itself.
#   away_test.sh PORT [OBJECTS]
. "$(dirname "$0")/lib.sh"
begin fake "$1"
objects=${2:-100}
quick --runtime fake start >/dev/null || exit 1
dir=$home/k
data() { echo "$dir/cloudcore-$1/data"; }
status() { kelp status "$(data "$1")" -o json 2>/dev/null; }
field() { status "$1" | sed -n "s/.*\"$2\":\([^,}]*\).*/\1/p"; }
leader() { local n; for n in 1 2 3; do [ "$(field $n leads)" = true ] && echo $n && return 0; done; return 1; }
answers() { [ -n "$(field "$1" applied)" ]; }
is() { [ "$(field "$1" "$2")" = "$3" ]; }
log_says() { grep -q "$2" "$dir/logs/cloudcore-$1.log"; }
peak() { awk '/VmHWM/ { print int($2 / 1024) }' "/proc/$(cat "$dir/run/cloudcore-$1.pid")/status"; }

# Snapshots often, history short: what is written here is more than the 16 MiB in which a log lets go.
for n in 1 2 3; do
    printf 'log: { snapshot: 1MiB, history: 1MiB }\ntransfer: { rate: 4MiB }\n' >>"$dir/cloudcore-$n/cloudcore.yaml"
    quick kill cloudcore-$n
    quick revive cloudcore-$n
    check "cloudcore-$n answers with small snapshots" within 20 answers $n
done
check "there is a leader" within 20 leader

away=$(($(leader) % 3 + 1))
writer=$(leader)
third=$((6 - away - writer))
check "all have the same before" within 20 is $away resourceVersion "$(field $writer resourceVersion)"
quick kill cloudcore-$away

# kubectl once for many objects, which do not compress.
write() {
    local i
    for i in $(seq $objects); do
        printf -- '---\napiVersion: v1\nkind: ConfigMap\nmetadata: { name: big-%s }\ndata: { blob: "%s" }\n' \
            "$i" "$(head -c 187500 /dev/urandom | base64 -w 0)"
    done
}
write >"$home/one.yaml"
check "$((objects / 4)) MB are written while it is away" on $writer create -f "$home/one.yaml"
write >"$home/again.yaml"
check "and written over, so that the logs begin behind it" on $writer replace -f "$home/again.yaml"

quick revive cloudcore-$away
check "it sees that it is behind" within 10 is $away behind true
check "the copy is under way" within 10 log_says $away transfer_started
raw() { # kubectl would wait and ask again
    curl -s --cacert "$dir/pki/ca.crt" --cert "$dir/pki/admin.crt" --key "$dir/pki/admin.key" \
        "https://127.0.0.1:$((port + 10 + $1))/api/v1/namespaces/default/configmaps"
}
check "and it says so to clients" says "brought up to date" raw $away
percent() { [ "$(field $away behindPercent)" -ge 12 ]; }
check "some of it is there" within 15 percent
check "the group goes on meanwhile" on $writer label configmap big-1 changed=meanwhile
quick kill cloudcore-$away
quick revive cloudcore-$away
check "killed itself, it is behind again" within 10 is $away behind true
check "and goes on with what it has" within 10 log_says $away transfer_resumed
source=$(field $away behindSource)
begun=$(date +%s%3N)
quick kill cloudcore-$source
another() { [ "$(field $away behindSource)" = $third ]; }
check "killed cloudcore-$source in the middle: it goes on at another" within 15 another
check "and has caught up" within 25 is $away behind false
check "with what it had before" log_says $away 'transfer_done.* ranges_same=[1-9]'
echo "caught up $(($(date +%s%3N) - begun)) ms after the source was killed"
quick revive cloudcore-$source
check "the killed one is back" within 20 answers $source
same() { [ -n "$(field $away resourceVersion)" ] && [ "$(field $away resourceVersion)" = "$(field $third resourceVersion)" ]; }
check "the same version as the others" within 20 same
# The whole list, byte for byte, but for when it was read.
list() { raw "$1" | sed 's/"resourceVersion":"[0-9]*"//' | sha256sum; }
there() { [ "$(raw "$away" | grep -o '"name":"big-[0-9]*"' | wc -l)" = "$objects" ] && [ "$(list "$away")" = "$(list "$third")" ]; }
check "the same config maps as on the others" within 20 there
check "it takes writes" within 10 on $away create configmap after --from-literal=a=b
grep -h "transfer_\|state_exchanged\|state_behind" "$dir/logs/cloudcore-$away.log" | sed 's/^/    /' | head -20
hwm=$(peak $away)
echo "peak memory: the one that was away ${hwm} MB, the others $(peak $third) MB"
check "its memory is bounded" test "$hwm" -lt 400
check "one place is the state, the other is empty" within 10 sh -c "[ \$(ls -d '$(data $away)'/state '$(data $away)'/state.2 2>/dev/null | wc -l) = 1 ]"
quick kill cloudcore-$away
quick revive cloudcore-$away
check "after a restart it has it still" within 20 same
finish
