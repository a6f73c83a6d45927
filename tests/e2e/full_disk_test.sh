#!/usr/bin/env bash
# Claim: a full disk stops new writes with a clear answer and nothing else; reads and running pods go on, and
# writes go on when there is room again. Method: data directories on small file systems that are filled.
#   full_disk_test.sh PORT
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || skip "mounting a small file system needs root"
begin fake "$1"
mkdir -p "$home/k/cloudcore-1/data" "$home/k/cloudcore-2/data" "$home/k/cloudcore-3/data" "$home/k/edge-1/data"
small() { mount -t tmpfs -o "size=$2,mode=700" tmpfs "$home/k/$1/data" || skip "this machine does not allow mounts"; }
unmount() { quick stop >/dev/null 2>&1; for d in cloudcore-1 cloudcore-2 cloudcore-3 edge-1; do umount -l "$home/k/$d/data" 2>/dev/null; done; leave; }
for d in cloudcore-1 cloudcore-2 cloudcore-3 edge-1; do small $d 160m; done
trap unmount EXIT
quick --runtime fake start >/dev/null || exit 1
fill() { dd if=/dev/zero of="$home/k/$1/data/filler" bs=64k status=none 2>/dev/null; true; }
room() { rm -f "$home/k/$1/data/filler"; }
head -c 400000 /dev/zero | tr '\0' x >"$home/large"
large() { kube create configmap "$1" --from-file=large="$home/large" --request-timeout=8s; }

check "a write before" large before
for n in 1 2 3; do fill cloudcore-$n; done
refused() { local i; for i in $(seq 400); do large "fill-$RANDOM-$i" >"$home/out" 2>&1 || { cat "$home/out"; return 0; }; done; return 1; }
check "writes are refused when the disks are full" refused
check "with a sentence about the disk" grep -qiE 'disk|space' "$home/out"
check "reads go on" says "before" kube get configmap before
check "the node stays Ready" says " Ready" kube get nodes
for n in 1 2 3; do room cloudcore-$n; done
check "writes go on when there is room" within 30 kube create configmap after --from-literal=a=b --request-timeout=8s

fill edge-1
kube create configmap while-full --from-literal=a=b >/dev/null
check "the cloud goes on while the edge is full" says "while-full" kube get configmap while-full
room edge-1
check "the edge is Ready when there is room" within 30 says " Ready" kube get nodes
finish
