#!/usr/bin/env bash
# Claim: a failed fdatasync ends the process with a line and a note, nothing acknowledged is lost, and the next
# start writes nothing and says why until `kelp resolve` has looked. Method: the real programs over a preloaded
# disk whose syncs fail on demand, one replica and the edge, under the log and under the state.
#   broken_disk_test.sh PORT
. "$(dirname "$0")/lib.sh"
begin fake "$1"
shim=$bin/tests/e2e/broken_disk.so
quick --runtime fake start >/dev/null || exit 1
k=$home/k

run() { # NAME, program, path that will break: in the background, its number in $pid
    KELP_QUICKSTART=$k/$1 LD_PRELOAD=$shim KELP_BROKEN_WHEN=$home/broken KELP_BROKEN_PATH=$3 \
        "$bin/nodes/$2" --config "$k/$1/$2.yaml" >>"$k/logs/$1.log" 2>&1 &
    pid=$!
}
end() { # wait for the program that was started last, 20 s at most; its exit code in $code
    timeout 20 tail --pid=$pid -f /dev/null || kill -9 $pid
    wait $pid
    code=$?
}
content() { (cd "$1" && find . -path ./control -prune -o -type f -printf '%p %s %T@ ' -exec sha256sum {} \;); }
status() { kelp status "$k/$1/data"; }
resolve() { kelp resolve "$@"; }
broken_resolve() { LD_PRELOAD=$shim KELP_BROKEN_WHEN=$home/k KELP_BROKEN_PATH=resolve.tmp kelp resolve "$@"; }
mode() { [ "$(stat -c %a "$1")" = 600 ] || stat "$1"; }
ready() { says ok on "$1" get --raw /readyz; }
connected() { ss -Htnp | holds "pid=$pid,"; }

# -- a cloudcore: the log
quick kill cloudcore-3
run cloudcore-3 cloudcore /cloudcore-3/data/log/
check "the replica is up over that disk" within 20 ready 3
touch "$home/broken"
check "a write while its disk breaks is acknowledged by the others" within 20 kube create configmap kept --from-literal=a=b
end
check "the replica ends with 71" [ $code = 71 ]
rm "$home/broken"
data=$k/cloudcore-3/data
check "its last line names the log" grep -q "cloudcore_failed.*path=$data/log.*kelp resolve --yes $data" "$k/logs/cloudcore-3.log"
check "a note is left" grep -q "^path *$data/log" "$data/failed"
check "for its owner only" mode "$data/failed"
check "what was acknowledged is there" says kept on 1 get configmap kept
before=$(content "$data")
quick revive cloudcore-3 >/dev/null
check "a start is read-only" within 20 says "read-only since an I/O error" status cloudcore-3
check "and says what to do" says "kelp resolve --yes $data" status cloudcore-3
check "kubectl is told why" says "read-only since an I/O error" on 3 get configmaps
check "it is not ready" says "ServiceUnavailable" on 3 get --raw /readyz
check "it lives" says ok on 3 get --raw /livez
check "one error line" grep -q "level=error event=started_readonly" "$k/logs/cloudcore-3.log"
check "the cluster goes on" kube create configmap meanwhile --from-literal=a=b
check "nothing was written" [ "$before" = "$(content "$data")" ]
check "resolve is refused while syncs fail" exits 5 broken_resolve --yes "$data"
segment=$(ls "$data"/log/*.seg | head -1)
cp "$segment" "$home/segment"
printf '\377\377\377\377' | dd of="$segment" bs=1 seek=8300 conv=notrunc status=none
check "and when the log is damaged" exits 5 resolve --yes "$data"
check "naming the file" says "$segment" resolve "$data"
cp "$home/segment" "$segment"
check "without --yes it only reports" exits 0 resolve "$data"
check "and the note stays" [ -e "$data/failed" ]
check "with --yes it is resolved" exits 0 resolve --yes "$data"
check "there is nothing more to resolve" exits 1 resolve --yes "$data"
quick kill cloudcore-3
quick revive cloudcore-3 >/dev/null
check "a start is a start again" within 30 ready 3
check "with all that was written meanwhile" says meanwhile on 3 get configmap meanwhile

# -- an edge: the log, then the state
data=$k/edge-1/data
large() { # letter: new content for the config map of the pod, more than the state keeps in memory
    head -c 400000 /dev/zero | tr '\0' "${1:0:1}" >"$home/large"
    kube create configmap large --from-file=a="$home/large" --from-file=b="$home/large" --dry-run=client -o yaml >"$home/large.yaml"
    kube replace --force -f "$home/large.yaml" >/dev/null 2>&1
}
large a
kube create -f - >/dev/null <<'Y'
apiVersion: v1
kind: Pod
metadata: { name: stays }
spec:
  volumes: [ { name: large, configMap: { name: large } } ]
  containers: [ { name: main, image: "kelp.local/busybox:1", command: [sleep, "9999"], volumeMounts: [ { name: large, mountPath: /large } ] } ]
Y
check "a pod runs" within 30 says Running kube get pod stays
uid=$(kube get pod stays -o 'jsonpath={.metadata.uid}')
starts() { "$bin/nodes/edge/kelp-fake-cri" --state "$k/fake-cri.state" --starts "$uid"; }
for part in log state; do
    quick kill edge-1
    run edge-1 edgecore "/edge-1/data/$part/"
    check "the edge is up over that disk" within 20 says true kelp status "$data"
    touch "$home/broken"
    large "$part"
    large again # what fills the memory of the state is written out with the next change
    end
    check "it ends with 71 when its $part breaks" [ $code = 71 ]
    rm "$home/broken"
    check "a note names the $part" grep -q "^path *$data/$part" "$data/failed"
    before=$(content "$data")
    run edge-1 edgecore /nowhere
    check "a start is read-only" within 20 says "read-only since an I/O error" status edge-1
    check "it connects to nobody" not connected
    check "nothing was written" [ "$before" = "$(content "$data")" ]
    check "the container was left alone" [ "$(starts)" = 1 ]
    kill $pid
    end
    check "a read-only edge leaves in order" [ $code = 0 ]
    check "resolve finds all sound" exits 0 resolve --yes "$data"
    quick revive edge-1 >/dev/null
    check "the pod is as it was" within 30 says Running kube get pod stays
    check "and was started once" [ "$(starts)" = 1 ]
done
finish
