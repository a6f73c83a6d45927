# What the end-to-end tests share. Sourced; each test runs against its own quickstart in its own directory
# and ports, and removes it again whatever happens.
#
#   begin RUNTIME PORT    start, at the first free block of 100 ports from PORT on; skips (exit 77) what
#                         this machine cannot do
#   check WHAT COMMAND... one claim; the test fails at its end when one did not hold
#   finish                the verdict
set -uo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
checks=0 failures=0
home=

skip() { echo "$*"; exit 77; }
quick() { "$top/nodes/quickstart" --no-install --dir "$home/k" --port "$port" "$@"; }
kube() { KUBECONFIG=$home/k/kubeconfig kubectl --cache-dir "$home/cache" "$@"; }
on() { local n=$1; shift; kube --server "https://127.0.0.1:$((port + 10 + n))" "$@"; }
bin=${KELP_BUILD:-$top/build}
kelp() { "$bin/nodes/kelp" "$@"; }

leave() {
    local code=$?
    [ -z "$home" ] && return
    if [ $code -ne 0 ] && [ $code -ne 77 ]; then
        for log in "$home"/k/logs/*.log; do
            [ -e "$log" ] && { echo "---- ${log##*/}"; tail -25 "$log"; }
        done
        cat "$home/failed" 2>/dev/null # again, where whoever sees only the end of this finds it
        # KELP_KEEP=1 leaves everything as it was, to look at.
        [ -z "${KELP_KEEP:-}" ] || { echo "kept: $home"; return; }
    fi
    quick stop >/dev/null 2>&1 || true
    rm -rf "$home"
}
begin() { # runtime, port
    runtime=$1 port=$2
    while ss -Hltn | awk '{ sub(/.*:/, "", $4); print $4 }' | holds -x "$((port / 100))[0-9][0-9]"; do
        port=$((port + 1000))
    done
    command -v kubectl >/dev/null || skip "no kubectl on PATH"
    if [ "$runtime" = containerd ]; then
        [ "$(id -u)" = 0 ] || skip "containers need root"
        unshare -m -n true 2>/dev/null || skip "this machine does not allow namespaces"
        command -v containerd >/dev/null || skip "no containerd"
    fi
    export HOME=${HOME:-/root}
    home=$(mktemp -d /tmp/kelp-e2e.XXXXXX)
    trap leave EXIT
    trap 'exit 143' TERM INT
}
check() {
    local what=$1 output
    shift
    checks=$((checks + 1))
    if output=$("$@" 2>&1); then
        echo "ok $what"
    else
        failures=$((failures + 1))
        printf 'FAILED %s: %s\n%s\n' "$what" "$*" "$(printf '%s\n' "$output" | tail -15 | sed 's/^/    /')" | tee -a "$home/failed"
    fi
}
# Whether what comes down a pipe holds a line. `grep -q` would leave at the first, its writer would then fail
# when it has more to say, and with pipefail "yes" would now and then be "no".
holds() { [ -n "$(grep "$@")" ]; }
says() { # text, command...: the output holds the text
    local text=$1 output
    shift
    output=$("$@" 2>&1) || true
    case $output in *"$text"*) return 0 ;; esac
    printf 'wanted: %s\ngot: %s\n' "$text" "$output"
    return 1
}
exits() { # code, command...
    local code=$1 got=0
    shift
    "$@" || got=$?
    [ $got = "$code" ] || { echo "exit code $got, not $code"; return 1; }
}
within() { # seconds, command...
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || { "$@"; return 1; }
        sleep 0.1
    done
}
not() { ! "$@"; }
processes() { grep -alz "^KELP_QUICKSTART=$home/k/" /proc/[0-9]*/environ 2>/dev/null | wc -l; }
nothing_left() { [ "$(processes)" = 0 ] && [ ! -e "$home/k" ] && ! grep -q "$home/k" /proc/mounts; }
finish() {
    echo "$checks claims, $failures did not hold"
    [ $failures = 0 ]
}
