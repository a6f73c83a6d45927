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
check "stop" quick stop
check "nothing is left behind" nothing_left
finish
