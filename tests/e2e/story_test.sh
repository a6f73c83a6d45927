#!/usr/bin/env bash
# Claim: the story of the README holds, with real processes, a link that is really cut, and kill -9; and
# stop leaves nothing behind. Method: the quickstart's own demo, which fails when a step does not hold.
#   story_test.sh fake|containerd PORT
. "$(dirname "$0")/lib.sh"
begin "$1" "$2"
quick --runtime "$runtime" --demo || exit 1
check "status names what runs" says "running" quick status
start=$SECONDS
check "a second start changes nothing" quick start
check "and takes seconds" test $((SECONDS - start)) -le 15

# The node loses its data directory, and its container runs on.
edge=$home/k/edge-1
cat <<YAML | kube apply -f - >/dev/null
apiVersion: v1
kind: Pod
metadata: { name: outlives }
spec:
  nodeName: edge-1
  terminationGracePeriodSeconds: 1
  containers: [ { name: main, image: "kelp.local/busybox:1", command: [sh, -c, "sleep 1000"] } ]
YAML
told() { kube get pod outlives -o 'jsonpath={.status.phase} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].state.running.startedAt}'; }
since() { kube get pod outlives -o 'jsonpath={.status.startTime}'; }
runs() { [[ $(told) == Running\ * ]]; }
check "a pod runs" within 20 runs
before=$(told) first=$(since)
quick kill edge-1 >/dev/null
rm -rf "${edge:?}/data"
another_second() { [[ $(date -u +%FT%TZ) > $first ]]; }
within 5 another_second
quick revive edge-1 >/dev/null
told_anew() { [ "$(since)" != "$first" ]; }
check "the node is back, and tells of the pod anew" within 20 told_anew
check "with the same container, that was not started again" [ "$(told)" = "$before" ]
check "stop" quick stop
check "nothing is left behind" nothing_left
finish
