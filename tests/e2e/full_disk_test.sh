#!/usr/bin/env bash
# Claim: a disk that fills up costs nothing that was acknowledged. A leader hands over to a replica that has room;
# when none has, larger writes, and in the end all, are refused with a sentence, and reads and running pods go
# on; an edge takes nothing new and says DiskPressure. When there is room again
# everything goes on by itself. Method: data directories on small file systems that are filled to a given rest.
#   full_disk_test.sh PORT
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || skip "mounting a small file system needs root"
begin fake "$1"
k=$home/k
mkdir -p "$k"/cloudcore-{1,2,3}/data "$k/edge-1/data"
small() { mount -t tmpfs -o "size=$2,mode=700" tmpfs "$k/$1/data" || skip "this machine does not allow mounts"; }
unmount() { quick stop >/dev/null 2>&1; for d in cloudcore-1 cloudcore-2 cloudcore-3 edge-1; do umount -l "$k/$d/data" 2>/dev/null; done; leave; }
trap unmount EXIT
for n in 1 2 3; do small cloudcore-$n 288m; done
small edge-1 160m
quick --runtime fake start >/dev/null || exit 1

fill() { # NAME, MiB that stay free
    local free
    free=$(df --output=avail -m "$k/$1/data" | tail -1)
    fallocate -l "$((free - $2))m" "$k/$1/data/filler"
}
room() { rm -f "$k/$1/data/filler"; }
status() { kelp status "$k/$1/data"; }
field() { status "$1" | awk -v f="$2" '$1 == f { print $2 }'; }
is() { local got; got=$(field "$1" "$2"); [ "$got" = "$3" ] || { echo "$1: $2 is $got, not $3"; return 1; }; }
leads() { field cloudcore-1 leader; }
another_leads() { local now; now=$(leads); [ "$now" != 0 ] && [ "$now" != "$1" ]; }
reserve() { [ "$(stat -c %s "$k/$1/data/reserve" 2>/dev/null || echo 0)" = "$2" ] || ls -l "$k/$1/data"; }
head -c 400000 /dev/zero | tr '\0' x >"$home/large"
: >"$home/kept"
large() { kube create configmap "$1" --from-file=large="$home/large" --request-timeout=8s && echo "$1" >>"$home/kept"; }
all_kept() { # replica: every write that was acknowledged is there
    on "$1" get configmaps -o name | sort >"$home/there"
    ! sed 's,^,configmap/,' "$home/kept" | sort | comm -23 - "$home/there" | grep .
}
pod() {
    kube create -f - <<Y
apiVersion: v1
kind: Pod
metadata: { name: $1 }
spec: { containers: [ { name: main, image: "kelp.local/busybox:1", command: [sleep, "9999"] } ] }
Y
}
starts() { "$bin/nodes/edge/kelp-fake-cri" --state "$k/fake-cri.state" --starts "$(kube get pod "$1" -o 'jsonpath={.metadata.uid}')"; }
pressure() { kube get node edge-1 -o 'jsonpath={.status.conditions[?(@.type=="DiskPressure")].status}'; }

check "a reserve is held in the cloud" reserve cloudcore-1 67108864
check "and at the edge" reserve edge-1 33554432
check "a write before" large before

# -- the leader's disk alone
old=$(leads)
fill cloudcore-$old 40
check "the leader is short of space" within 10 is cloudcore-$old space low
check "and hands over" within 10 another_leads $old
check "saying so" grep -q "leadership_handed_over" "$k/logs/cloudcore-$old.log"
handovers() { cat "$k"/logs/cloudcore-?.log | grep -c leadership_handed_over; }
check "larger writes go on" large led-by-another
fill_up() { room "$1"; fill "$1" 2; }
fill_up cloudcore-$old
check "it runs out of space, and gives the reserve back" within 10 is cloudcore-$old space none
check "which is gone" reserve cloudcore-$old 0
check "larger writes go on still" large while-one-is-full
# Not one byte is left, and it is made to take more than its log and its memory hold.
pid=$(cat "$k/run/cloudcore-$old.pid")
fill_to_the_last() { dd if=/dev/zero of="$k/$1/data/filler-2" bs=64k status=none 2>/dev/null; true; }
fill_to_the_last cloudcore-$old
head -c 950000 /dev/zero | tr '\0' x >"$home/huge"
new=$(leads) # whoever asks the full one waits for it to have applied the write
most() { for i in $(seq 45); do on "$new" create configmap "huge-$i" --from-file=huge="$home/huge" --request-timeout=8s >/dev/null || return 1; echo "huge-$i" >>"$home/kept"; done; }
check "the others take 45 MB" most
check "it lives" kill -0 "$pid"
rm "$k/cloudcore-$old/data/filler-2"
check "leadership was handed over once" [ "$(handovers)" = 1 ]
room cloudcore-$old
check "it recovers" within 10 is cloudcore-$old space plenty
check "and has its reserve again" reserve cloudcore-$old 67108864
check "and all that was written" within 30 all_kept "$old"
check "in the same process" kill -0 "$pid"

# -- all of them
for n in 1 2 3; do fill cloudcore-$n 40; done
for n in 1 2 3; do check "cloudcore-$n is short of space" within 10 is cloudcore-$n space low; done
refused() { ! large "fill-$RANDOM" >"$home/out" 2>&1; }
check "a larger write is refused" refused
check "with a sentence about the disk" grep -q "short of disk space" "$home/out"
check "a small one is not" kube create configmap small --from-literal=a=b --request-timeout=8s
check "a deletion is not" kube delete configmap small --request-timeout=8s
for n in 1 2 3; do fill_up cloudcore-$n; done
for n in 1 2 3; do check "cloudcore-$n is out of space" within 10 is cloudcore-$n space none; done
nothing() { says "short of disk space" kube create configmap none --from-literal=a=b --request-timeout=8s; }
check "nothing is taken" nothing
check "reads go on" says "before" kube get configmap before
check "the node stays Ready" says " Ready" kube get nodes
for n in 1 2 3; do room cloudcore-$n; done
check "writes go on when there is room" within 30 large after
for n in 1 2 3; do check "cloudcore-$n has all that was acknowledged" within 20 all_kept $n; done

# -- the edge
check "a pod" pod stays
check "that runs" within 30 says Running kube get pod stays
fill edge-1 20
check "the edge is short of space" within 10 is edge-1 space low
shows() { [ "$(pressure)" = "$1" ]; }
check "its node says DiskPressure" within 10 shows True
check "and is Ready" says " Ready" kube get nodes
check "a new pod" pod waits
check "the cloud goes on" large while-the-edge-is-short
held() { [ "$(starts waits)" = 0 ]; }
check "the new pod is not started" held
check "the old one runs" says Running kube get pod stays
fill_up edge-1
check "the edge is out of space" within 10 is edge-1 space none
check "and still linked" is edge-1 linkUp true
check "its reserve is given back" reserve edge-1 0
check "the node is Ready" says " Ready" kube get nodes
room edge-1
check "it recovers" within 10 is edge-1 space plenty
check "its node says so" within 20 shows False
check "the new pod runs" within 30 says Running kube get pod waits
check "started once" [ "$(starts waits)" = 1 ]
check "as was the old one" [ "$(starts stays)" = 1 ]
same() { kube get --raw /kelp/v1/nodes/edge-1 | holds -F "$(field edge-1 digest)"; }
check "cloud and edge agree" within 10 same
finish
