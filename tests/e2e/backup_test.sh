#!/usr/bin/env bash
# Claim: a cluster that lost every data directory is what its backup says once it is restored: a group of one that
# grows again, whose edge comes back, is given what the cloud wishes now, and tells again what was lost of its
# facts; resource versions only grow. A damaged backup makes nothing. And one survivor of three goes on alone,
# loudly, while data directories of before are refused. Method: real processes, a backup while it is written to,
# and more writes that the backup cannot know.
#   backup_test.sh PORT
. "$(dirname "$0")/lib.sh"
begin fake "$1"
writer=
stop_all() {
    local code=$?
    [ -z "$writer" ] || kill "$writer" 2>/dev/null
    (exit $code)
    leave
}
trap stop_all EXIT
quick --runtime fake start >/dev/null || exit 1
dir=$home/k
file=$home/cloud.backup
export KUBECONFIG=$dir/kubeconfig
api() { echo "https://127.0.0.1:$((port + 10 + $1))"; }
peer() { echo "127.0.0.1:$((port + 30 + $1))"; }
cluster() { kelp cluster "$@"; }
log_says() { grep -q "$2" "$dir/logs/$1.log"; }
map() { printf '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"%s"}}' "$1"; }
curl_api() { curl -s --max-time 5 --cacert "$dir/pki/ca.crt" --cert "$dir/pki/admin.crt" --key "$dir/pki/admin.key" "$@"; }
pod() { # name
    cat <<YAML
apiVersion: v1
kind: Pod
metadata: { name: $1 }
spec:
  terminationGracePeriodSeconds: 1
  containers: [ { name: main, image: "kelp.local/busybox:1", command: [sh, -c, "sleep 1000"] } ]
YAML
}
phase() { [ "$(kube get pod "$1" -o 'jsonpath={.status.phase}')" = "$2" ]; }
absent() { ! kube get "$1" "$2" >/dev/null 2>&1; }
digests_agree() { # the cloud's number of the node and the edge's
    local cloud edge
    cloud=$(curl_api "$(api 1)/kelp/v1/nodes/edge-1" | grep -o '"digest":"[0-9a-f]*"')
    edge=$(kelp status "$dir/edge-1/data" -o json | tr -d ' ' | grep -o '"digest":"[0-9a-f]*"')
    [ -n "$cloud" ] && [ "$cloud" = "$edge" ]
}
version() { kube get configmap "$1" -o 'jsonpath={.metadata.resourceVersion}'; }
write() { # config maps, as fast as they come, until it is killed
    local i=0
    while :; do
        i=$((i + 1))
        curl_api -o /dev/null -X POST -H 'Content-Type: application/json' -d "$(map "w-$i")" \
            "$(api 2)/api/v1/namespaces/default/configmaps"
    done
}
kill_clouds() { for n in 1 2 3; do quick kill "cloudcore-$n" >/dev/null 2>&1 || true; done; }

pod kept | kube apply -f - >/dev/null
kube create configmap before >/dev/null
check "a pod runs" within 20 phase kept Running
write &
writer=$!
check "a backup is made while the cluster is written to" cluster backup "$file" --server "$(api 3)"
kill $writer
wait $writer 2>/dev/null
writer=
check "it is whole" says "resource version" cluster backup --verify "$file"
check "nobody has no time at all" exits 2 cluster backup "$file" --timeout 0 --server "$(api 3)"
check "it is for its owner only" test "$(stat -c %a "$file")" = 600
check "an edge's certificate gets none" says '"refused"' curl -s --cacert "$dir/pki/ca.crt" --cert "$dir/pki/edge-1.crt" --key "$dir/pki/edge-1.key" "$(api 1)/kelp/v1/cluster/backup"

# What the backup cannot know.
pod late | kube apply -f - >/dev/null
kube delete pod kept --wait=true >/dev/null
kube create configmap after >/dev/null
check "a pod that is not in the backup runs" within 20 phase late Running
lost=$(version after)

# Damage is seen before anything is made.
size=$(stat -c %s "$file")
cp "$file" "$home/flipped"
printf '\x55' | dd of="$home/flipped" bs=1 seek=$((size / 2)) conv=notrunc status=none
head -c $((size - 7)) "$file" >"$home/short"
for bad in flipped short; do
    check "a backup that is $bad is refused" exits 4 cluster restore "$home/$bad" "$home/none" --replica 1 --address "$(peer 1)"
    check "and nothing is made" test ! -e "$home/none" -a ! -e "$home/none.restoring"
done
check "and a directory in use" exits 5 cluster restore "$file" "$dir/cloudcore-1/data" --replica 1 --address "$(peer 1)"

# Everything is lost; one is restored.
kill_clouds
mv "$dir/cloudcore-2/data" "$home/old-2"
rm -rf "$dir/cloudcore-1/data" "$dir/cloudcore-3/data"
check "it is restored, and what that means is said" says "IS LOST" cluster restore "$file" "$dir/cloudcore-1/data" --replica 1 --address "$(peer 1)"
quick revive cloudcore-1 >/dev/null
check "the restored one serves" within 20 kube get configmap before
check "what came after the backup is not there" absent configmap after
check "the edge is back, and its old pod with it" within 25 phase kept Running
check "the pod of after the backup is gone from it" within 10 absent pod late
check "cloud and edge show the same digest" within 10 digests_agree
kube create configmap again >/dev/null
check "resource versions go on above those that were lost" test "$(version again)" -gt "$lost"
watch_of_before() { curl_api "$(api 1)/api/v1/configmaps?watch=1&timeoutSeconds=1&resourceVersion=$lost"; }
check "a watch of before is told to list anew" says '"code":410' watch_of_before

aligned() { # offsets have jumped: the heads of kelp log stand above them still
    kelp log tail -n 5 "$dir/cloudcore-1/data" | awk 'NR == 1 { offset = index($0, "OFFSET") + 5; term = index($0, "TERM") + 3 }
        NR > 1 { match($0, /^ *[0-9]+/); if (RLENGTH != offset) exit 1; match($0, /^ *[0-9]+ +[0-9]+/); if (RLENGTH != term) exit 1 }
        END { if (NR != 6) exit 1 }'
}
check "tables of the log are aligned, though offsets have jumped" aligned

# The group grows again.
mv "$home/old-2" "$dir/cloudcore-2/data"
check "an old data directory leaves" exits 5 timeout 20 "$bin/nodes/cloudcore" --config "$dir/cloudcore-2/cloudcore.yaml"
check "and the restored one says why it does not hear it" within 5 log_says cloudcore-1 peer_of_lost_timeline
rm -rf "$dir/cloudcore-2/data"
for n in 2 3; do
    sed -i "s/^replica: $n/&\njoin: true/" "$dir/cloudcore-$n/cloudcore.yaml"
    quick revive "cloudcore-$n" >/dev/null 2>&1 &
    check "cloudcore-$n is added" cluster add "$n" "$(peer "$n")" --wait --server "$(api 1)" --timeout 30
    check "and gets a vote" cluster promote "$n" --wait --server "$(api 1)" --timeout 30
done
wait
check "three are well" within 10 cluster status --server "$(api 1)"
check "another one shows the restored state" within 5 on 3 get configmap again

# Somebody recovers one of three by mistake: what the other two work on is not given up for that.
quick kill cloudcore-3 >/dev/null
cp -a "$dir/cloudcore-3/data" "$home/mistaken"
check "one of three is recovered, though two work" says "whole group" cluster recover "$home/mistaken" --keep 3 --yes
sed "s|^data: .*|data: $home/mistaken|" "$dir/cloudcore-3/cloudcore.yaml" >"$home/mistaken.yaml"
"$bin/nodes/cloudcore" --config "$home/mistaken.yaml" >"$dir/logs/mistaken.log" 2>&1 &
mistaken=$!
check "the two say that there are two groups now" within 10 log_says cloudcore-1 timeline_contested
check "and so does it" within 5 log_says mistaken timeline_contested
check "kelp cluster status shows it" within 5 says "TWO GROUPS" cluster status --server "$(api 2)"
check "the two go on" on 1 create configmap not-given-up
check "it is not ready" within 5 says "timeline" curl_api "$(api 3)/readyz"
kill -9 $mistaken
wait $mistaken 2>/dev/null
quick revive cloudcore-3 >/dev/null
check "three are well again" within 10 cluster status --server "$(api 1)"
check "the third has what the two agreed on" within 10 on 3 get configmap not-given-up

# Two of three are lost for good; the third goes on.
kube create configmap last >/dev/null
check "all have it" within 5 on 3 get configmap last
kill_clouds
mv "$dir/cloudcore-1/data" "$home/old-1"
rm -rf "$dir/cloudcore-2/data"
check "recovery is not done without --yes" exits 5 cluster recover "$dir/cloudcore-3/data" --keep 3
check "nor of another number" exits 5 cluster recover "$dir/cloudcore-3/data" --keep 2 --yes
cp -a "$dir/cloudcore-3/data" "$home/half"
check "with it, it is" says "whole group" cluster recover "$dir/cloudcore-3/data" --keep 3 --yes
check "the log of before is kept" says object_put kelp log stat "$dir"/cloudcore-3/data/log.*
# The same, interrupted behind the point of no return: the log is put aside, the state is not rewritten yet.
history=$(basename "$dir"/cloudcore-3/data/log.*)
mv "$home/half/log" "$home/half/$history"
cp -a "$dir/cloudcore-3/data/log" "$home/half/log.next"
sed "s|^data: .*|data: $home/half|" "$dir/cloudcore-3/cloudcore.yaml" >"$home/half.yaml"
check "no cloudcore starts on a recovery that was interrupted" says "kelp cluster recover $home/half --keep 3 --yes" \
    timeout 20 "$bin/nodes/cloudcore" --config "$home/half.yaml"
check "the same command finishes it" says "whole group" cluster recover "$home/half" --keep 3 --yes
holds() { cluster backup --data "$1" "$home/holds" | grep -o 'digest .*'; }
check "and once more there is nothing to recover" says "already alone" cluster recover "$home/half" --keep 3 --yes
check "with the same rows" test -n "$(holds "$home/half")" -a "$(holds "$home/half")" = "$(holds "$dir/cloudcore-3/data")"
quick revive cloudcore-3 >/dev/null
check "the survivor goes on alone" within 20 on 3 get configmap last
check "one that runs is not read beside it, but asked" exits 5 cluster backup --data "$dir/cloudcore-3/data" "$home/beside"
check "and what to do instead is said" says "kelp cluster backup FILE --server" cluster backup --data "$dir/cloudcore-3/data" "$home/beside"
check "and is written to" within 10 on 3 create configmap alone
mv "$home/old-1" "$dir/cloudcore-1/data"
check "one of before leaves" exits 5 timeout 20 "$bin/nodes/cloudcore" --config "$dir/cloudcore-1/cloudcore.yaml"
check "the edge is with the survivor" within 25 on 3 wait --for=condition=Ready node/edge-1 --timeout=1s
finish
