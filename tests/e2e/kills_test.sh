#!/usr/bin/env bash
# Claim: kill -9 of the edge, of the leader, or of both at once loses no acknowledged write and starts no
# container twice. Method: each round writes config maps the whole time and counts what was acknowledged,
# creates a pod, kills at a random moment, and then looks for every one of them on every replica and counts
# the starts of every container.
#   kills_test.sh fake|containerd PORT ROUNDS [SEED]
. "$(dirname "$0")/lib.sh"
begin "$1" "$2"
rounds=${3:-3}
RANDOM=${4:-$$}
echo "seed ${4:-$$}"
quick --runtime "$runtime" start >/dev/null || exit 1

starts() { # uid
    if [ "$runtime" = containerd ]; then
        wc -l <"$home/k/edge-1/pods/pods/$1/volumes/empty-dir/data/main" 2>/dev/null || echo 0
    else
        "$bin/nodes/edge/kelp-fake-cri" --state "$home/k/fake-cri.state" --starts "$1"
    fi
}
pod() {
    cat <<Y
apiVersion: v1
kind: Pod
metadata: { name: $1, labels: { kills: yes-please } }
spec:
  terminationGracePeriodSeconds: 1
  volumes: [ { name: data, emptyDir: {} } ]
  containers:
    - name: main
      image: kelp.local/busybox:1
      command: [sh, -c, 'echo started >>/data/main; trap "exit 0" TERM; while :; do sleep 1 & wait; done']
      volumeMounts: [ { name: data, mountPath: /data } ]
Y
}
any() { local n; for n in 1 2 3; do on $n "$@" 2>/dev/null && return 0; done; return 1; }
writer() { # round: write until told to stop; each acknowledged name goes to a file
    local i=0
    while [ ! -e "$home/stop" ]; do
        i=$((i + 1))
        if any create configmap "w-$1-$i" --from-literal=i=$i --request-timeout=5s >/dev/null; then
            echo "w-$1-$i" >>"$home/acknowledged"
        fi
    done
}
all_there() { # replica
    on "$1" get configmaps -o name 2>/dev/null | sed 's,.*/,,' | sort >"$home/there-$1"
    sort -u "$home/acknowledged" | comm -23 - "$home/there-$1" >"$home/missing-$1"
    [ -s "$home/there-$1" ] && [ ! -s "$home/missing-$1" ]
}
runs() { [ "$(any get pod "$1" -o jsonpath='{.status.phase}{.status.containerStatuses[0].ready}')" = Runningtrue ]; }

: >"$home/acknowledged"
for round in $(seq "$rounds"); do
    rm -f "$home/stop"
    writer "$round" &
    writing=$!
    pod "p-$round" | any apply -f - >/dev/null
    sleep "0.$((RANDOM % 10))" # the moment of the kill is the random input of this test, not a wait
    case $((RANDOM % 3)) in
    0) victims=edge-1 ;;
    1) victims=leader ;;
    2) victims="edge-1 leader" ;;
    esac
    revive=
    for victim in $victims; do
        [ $victim != leader ] || victim=$(cd "$top" && for n in 1 2 3; do kelp status "$home/k/cloudcore-$n/data" -o json 2>/dev/null | holds '"leads":true' && echo cloudcore-$n && break; done)
        [ -n "$victim" ] && quick kill "$victim" && revive="$revive $victim"
    done
    sleep "0.$((RANDOM % 10))"
    for victim in $revive; do quick revive "$victim"; done
    check "round $round (killed$revive): the pod runs" within 60 runs "p-$round"
    touch "$home/stop"
    wait $writing
    for n in 1 2 3; do check "round $round: all $(wc -l <"$home/acknowledged") acknowledged writes are on cloudcore-$n" within 30 all_there $n; done
    doubled=0
    for i in $(seq "$round"); do
        uid=$(any get pod "p-$i" -o jsonpath='{.metadata.uid}')
        restarts=$(any get pod "p-$i" -o jsonpath='{.status.containerStatuses[0].restartCount}')
        # A runtime whose client dies in the middle of StartContainer gives the start up and says so
        # (StartError): that attempt has a number and may never have run, so it is not counted as a start.
        given_up=0
        if [ "$restarts" = 1 ] && [ "$(any get pod "p-$i" -o jsonpath='{.status.containerStatuses[0].lastState.terminated.reason}')" = StartError ]; then
            given_up=1
        fi
        count=$(starts "$uid")
        [ "$count" = $((restarts + 1 - given_up)) ] || { doubled=$((doubled + 1)); echo "p-$i: started $count times, restart count $restarts"; }
        [ "$restarts" = $given_up ] || { doubled=$((doubled + 1)); echo "p-$i: restarted $restarts times"; }
    done
    check "round $round: every container was started once" test $doubled = 0
done
echo "rounds $rounds, acknowledged writes $(wc -l <"$home/acknowledged")"
finish
