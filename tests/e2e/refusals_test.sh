#!/usr/bin/env bash
# Claim: what cannot work is refused with a sentence that names it and says what to do; nothing is harmed.
#   refusals_test.sh PORT
. "$(dirname "$0")/lib.sh"
begin fake "$1"
quick --runtime fake start >/dev/null || exit 1
k=$home/k
cloudcore=$bin/nodes/cloudcore
edgecore=$bin/nodes/edgecore
base() { # a fourth replica that is only configured
    echo --set replica=9 --set "group=9=127.0.0.1:$((port + 50))" --set "data=$home/nine" \
        --set "tls.authority=$k/pki/ca.crt" --set "tls.certificate=$k/pki/cloudcore-1.crt" --set "tls.key=$k/pki/cloudcore-1.key" \
        --set "api.listen=127.0.0.1:$((port + 51))" --set "hub.listen=127.0.0.1:$((port + 52))" --set "peer.listen=127.0.0.1:$((port + 53))"
}
try() { timeout 10 "$@"; }

# configuration
check "help" says "raft.election" $cloudcore --help
check "version" says "0.1" $edgecore --version
printf 'replica: 1\nnonsense: 2\n' >"$home/a.yaml"
check "an unknown key, with its line" says "a.yaml:2" try $cloudcore --config "$home/a.yaml"
check "is a usage error" exits 2 try $cloudcore --config "$home/a.yaml"
printf 'replica: one\n' >"$home/b.yaml"
check "a wrong type" says "b.yaml:1" try $cloudcore --config "$home/b.yaml"
check "a file that is not there" says "none.yaml" try $cloudcore --config "$home/none.yaml"
check "a group without this replica" says "is not listed" try $cloudcore $(base) --set group=1=127.0.0.1:1
check "a heartbeat that is too slow" says "below raft.election" try $cloudcore $(base) --set raft.heartbeat=1s
check "an unknown flag" exits 2 try $edgecore --frobnicate

# certificates
check "a missing certificate" says "absent.crt" try $cloudcore $(base) --set tls.certificate=/absent.crt
check "a key of another certificate" says "key" try $cloudcore $(base) --set "tls.key=$k/pki/admin.key"
check "an edge with a certificate that is no node's" says "system:node" try $edgecore --set "cloud=127.0.0.1:1" --set "data=$home/e" --set "tls.authority=$k/pki/ca.crt" --set "tls.certificate=$k/pki/admin.crt" --set "tls.key=$k/pki/admin.key"
check "an edge whose configuration names another node" says "edge-1" try $edgecore --config "$k/edge-1/edgecore.yaml" --set node=edge-2

# ports and directories
check "a port in use" says "api.listen" try $cloudcore $(base) --set "api.listen=127.0.0.1:$((port + 11))"
check "exits 1" exits 1 try $cloudcore $(base) --set "api.listen=127.0.0.1:$((port + 11))"
check "a data directory in use" says "in use" try $cloudcore --config "$k/cloudcore-1/cloudcore.yaml"
kelp pki node --ca "$k/pki" --node edge-2 --out "$k/pki" >/dev/null
quick kill edge-1
check "a data directory of another node" says "does not belong" try $edgecore --config "$k/edge-1/edgecore.yaml" --set "tls.certificate=$k/pki/edge-2.crt" --set "tls.key=$k/pki/edge-2.key"
quick revive edge-1

# the link: who is not ours is not let in
kelp pki ca --out "$home/foreign" >/dev/null
kelp pki node --ca "$home/foreign" --node edge-9 --out "$home/foreign" >/dev/null
mkdir -p "$home/nine-pods"
timeout 6 $edgecore --set "cloud=127.0.0.1:$((port + 21))" --set "data=$home/edge-9" --set "tls.authority=$k/pki/ca.crt" --set "tls.certificate=$home/foreign/edge-9.crt" --set "tls.key=$home/foreign/edge-9.key" --set "runtime.endpoint=unix://$k/fake-cri.sock" --set "runtime.root=$home/nine-pods" >"$home/edge-9.log" 2>&1
check "a foreign certificate does not become a node" says NotFound kube get node edge-9
check "the cloud says so in its log" grep -q edge_refused "$k/logs/cloudcore-1.log"
check "no certificate at the hub" not curl -sk --max-time 3 "https://127.0.0.1:$((port + 21))/v1/kelp"
check "a user's certificate at the hub" says "names no edge node" curl -sk --max-time 3 --cert "$k/pki/admin.crt" --key "$k/pki/admin.key" "https://127.0.0.1:$((port + 21))/v1/kelp"
check "garbage at every port" bash -c "for p in 11 21 31; do head -c 4096 /dev/urandom >/dev/tcp/127.0.0.1/\$(($port + p)); done"
check "all go on" says Ready kube get nodes

# damage of a segment: told, never skipped
quick kill cloudcore-3
check "verify of a whole log" exits 0 kelp log verify "$k/cloudcore-3/data/log"
segment=$(ls "$k"/cloudcore-3/data/log/*.seg | head -1)
cp "$segment" "$home/segment"
printf '\377\377\377\377' | dd of="$segment" bs=1 seek=8300 conv=notrunc status=none
check "verify names the damage" exits 4 kelp log verify "$k/cloudcore-3/data/log"
check "a cloudcore does not start on it" says "kelp log salvage" try $cloudcore --config "$k/cloudcore-3/cloudcore.yaml"
cp "$home/segment" "$segment"
mv "$k/cloudcore-3/data/log" "$home/log-away"
check "a state without its log" says "forgotten whom it voted for" try $cloudcore --config "$k/cloudcore-3/cloudcore.yaml"
check "nor does a second start make one" says "forgotten whom it voted for" try $cloudcore --config "$k/cloudcore-3/cloudcore.yaml"
check "and no log is there" [ ! -e "$k/cloudcore-3/data/log" ]
rm -rf "$k/cloudcore-3/data/log"
mv "$home/log-away" "$k/cloudcore-3/data/log"
quick revive cloudcore-3
comes_back() { says ok on 3 get --raw /readyz; }
check "and does once it is whole again" within 20 comes_back

# stopping: the state is on the disk, whatever little was written
$cloudcore $(base | sed 's/=9/=3/g; s#/nine#/other#') >"$home/nine.log" 2>&1 & # another cluster's replica 3
nine=$!
founded() { kube --server "https://127.0.0.1:$((port + 51))" get namespace kube-system; }
check "a cluster of one" within 20 founded
kill $nine
wait $nine
check "leaves in order" test $? = 0
check "and says so" grep -q 'cloudcore_left.*in=order' "$home/nine.log"
check "with its state flushed" bash -c "ls $home/other/state*/*.sst"

# data directories that are somebody else's
check "a data directory of another cloudcore" says "is not of cloudcore-2" try $cloudcore --config "$k/cloudcore-2/cloudcore.yaml" --set "data=$home/other"
check "could not start" exits 1 try $cloudcore --config "$k/cloudcore-2/cloudcore.yaml" --set "data=$home/other"
quick kill cloudcore-3
check "one of another cluster leaves" exits 5 try $cloudcore --config "$k/cloudcore-3/cloudcore.yaml" --set "data=$home/other" --set "control=$home/nine.control"
check "and says why" says "cluster_foreign" try $cloudcore --config "$k/cloudcore-3/cloudcore.yaml" --set "data=$home/other"
finish
