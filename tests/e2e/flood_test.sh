#!/usr/bin/env bash
# Claim: hundreds of connections that list and write without end cost a cloudcore a bounded memory and the others
# little: what is too much is answered 429, small reads go on, and afterwards all is as before; no replica is lost.
# Method: flood.py against one of three real cloudcores.
#   flood_test.sh PORT [CONNECTIONS]
. "$(dirname "$0")/lib.sh"
ulimit -n 8192 2>/dev/null || skip "so many connections need as many files"
begin fake "$1"
quick --runtime fake start >/dev/null || exit 1
flood() {
    python3 "$top/tests/e2e/flood.py" --port $((port + 11)) --watch $((port + 61)) --pki "$home/k/pki" --connections "$1"
}
flood "${2:-360}" | tee "$home/flood"
check "the flood's claims hold" [ "${PIPESTATUS[0]}" = 0 ]
for n in 1 2 3; do check "cloudcore-$n is ready" within 20 curl -sf "http://127.0.0.1:$((port + 60 + n))/readyz"; done
check "one line tells of a window of what was sent away" [ "$(grep -c api_load_shed "$home/k/logs/cloudcore-1.log")" -le 10 ]
check "the edge is served" within 20 says Ready kube get nodes
finish
