#!/usr/bin/env bash
# Claim: the group of cloudcores changes while it is written to, and no acknowledged write is lost: a fourth one
# joins with a token and gets a vote, a dead one is removed and finds out when it is back, one that lost its data directory
# neither votes nor founds and is taken back, a leader hands over and is removed; `kelp cluster status` tells
# each time. What would end agreement is refused. Method: real processes, a client that goes on writing.
#   member_test.sh PORT
. "$(dirname "$0")/lib.sh"
begin fake "$1"
four= writer=
stop_all() {
    local code=$?
    [ -z "$writer" ] || kill "$writer" 2>/dev/null
    [ -z "$four" ] || kill -9 "$four" 2>/dev/null
    (exit $code)
    leave
}
trap stop_all EXIT
quick --runtime fake start >/dev/null || exit 1
dir=$home/k
export KUBECONFIG=$dir/kubeconfig
api() { echo "https://127.0.0.1:$((port + 10 + $1))"; }
status() { kelp cluster status "$@"; }
show() { # replica, the rest of its line: the table says so
    { status --server "$(api "${asked:-1}")" 2>/dev/null || true; } | holds -E "^$1 +$2"
}
json() { status --server "$(api "${asked:-1}")" -o json 2>/dev/null; }
term() { json | sed -n 's/^  "term": \([0-9]*\),.*/\1/p'; }
leader() { json | sed -n 's/^  "leader": \([0-9]*\),.*/\1/p'; }
log_says() { grep -q "$2" "$dir/logs/cloudcore-$1.log"; }
curl_api() { curl -s --max-time 5 --cacert "$dir/pki/ca.crt" --cert "$dir/pki/admin.crt" --key "$dir/pki/admin.key" "$@"; }

# Config maps, one after the other, at whichever replica answers; what was acknowledged is in a file.
write() {
    local i=0 n=1 code
    while :; do
        i=$((i + 1))
        code=$(curl_api -o /dev/null -w '%{http_code}' -X POST -H 'Content-Type: application/json' \
            -d "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"w-$i\"}}" \
            "$(api $n)/api/v1/namespaces/default/configmaps")
        case $code in
        201) echo "w-$i" >>"$home/acknowledged" ;;
        409) ;; # it had happened, nobody said so
        *) n=$((n % 4 + 1)) ;;
        esac
    done
}
all_there() { # replica: it shows all that was acknowledged
    curl_api "$(api "$1")/api/v1/namespaces/default/configmaps" | grep -o '"name":"w-[0-9]*"' |
        cut -d'"' -f4 | sort >"$home/there"
    sort "$home/acknowledged" >"$home/wanted"
    [ -z "$(comm -23 "$home/wanted" "$home/there")" ]
}

check "three are well" within 10 status
check "the leader is marked" show '[1-3]' 'leader .* ok$'
check "and how many may fail" says "3 voters, all well: 1 may fail" status
check "json says so, too" says '"healthy": true' json
check "so does the control socket" says leader status "$dir/cloudcore-2/data"
check "an edge's certificate may not ask" says '"refused"' curl -s --cacert "$dir/pki/ca.crt" --cert "$dir/pki/edge-1.crt" --key "$dir/pki/edge-1.key" "$(api 1)/kelp/v1/cluster"
check "nobody there is exit code 3" exits 3 status --server https://127.0.0.1:1
check "and who else may be asked is said" says "ask another: --context kelp or cloudcore-2 or cloudcore-3" status --server https://127.0.0.1:1
check "another one is asked by its context" says '"asked": 2' status --context cloudcore-2 -o json
check "a context that is none is exit code 2" exits 2 status --context cloudcore-9
check "a word too many is exit code 2" exits 2 kelp cluster promote 1 2
check "a number that is none is exit code 2" exits 2 kelp cluster remove x
write &
writer=$!

# A fourth one, by a token.
join() { # token, replica, flags
    kelp cluster join --token "$1" --server "127.0.0.1:$((port + 11))" --replica "$2" --address "127.0.0.1:$((port + 34))" \
        --config "$dir/cloudcore-4/cloudcore.yaml" --pki "$dir/cloudcore-4/pki" --api-listen "127.0.0.1:$((port + 14))" \
        --hub-listen "127.0.0.1:$((port + 24))" "${@:3}" "$dir/cloudcore-4/data"
}
mkdir -p "$dir/cloudcore-4"
short=$(kelp token create --ttl 1s)
short_over=$(($(date +%s) + 3))
token=$(kelp token create --ttl 5m)
check "the cluster keeps no secret of a token" not says "$(printf %s "$token" | cut -d. -f2)" \
    sh -c "kubectl --cache-dir '$home/cache' get secrets -n kube-system -o yaml | grep -v '^ *hash:' | grep -o ': [A-Za-z0-9+/=]*$' | cut -c3- | base64 -di"
check "an unknown token is refused" exits 5 join "kelp-00000000${token:13}" 4
check "a wrong secret is refused" exits 5 join "${token:0:14}00000000000000000000000000000000${token:46}" 4
check "the authority that is there stays" says "is not of the authority" join "${token%??}zz" 4
rm -f "$dir/cloudcore-4/pki/ca.crt"
check "another authority is not talked to" says "somebody is in between" join "${token%??}zz" 4
check "a number that is taken is refused" exits 5 join "$token" 2
check "another machine's name is not given away" says "is not what this token is for" join "$token" 4 --san 10.11.12.13
check "one that is no member is not promoted" exits 5 kelp cluster promote 4
# Without a leader who guesses a token waits for one, and takes no place of whoever has a token.
guess() {
    curl -sk --max-time 30 -o /dev/null -X POST "$(api 1)/kelp/v1/join" -d "{\"token\": \"0123456$1.00000000000000000000000000000000\",
        \"replica\": 5, \"address\": \"10.0.0.5:1\", \"sans\": [\"10.0.0.5\"], \"key\": $public}"
}
"$bin/nodes/kelp" pki server --ca "$dir/pki" --name five --san 10.0.0.5 --out "$home/five" >/dev/null
public=$(openssl pkey -in "$home/five/five.key" -pubout | sed 's/$/\\n/' | tr -d '\n' | sed 's/.*/"&"/')
signal() { kill "-$1" $(cat "$dir/run/cloudcore-2.pid" "$dir/run/cloudcore-3.pid"); }
nobody_leads() { ! curl_api "$(api 1)/readyz" | holds -x ok; }
signal STOP
within 10 nobody_leads
for i in 1 2 3 4 5 6 7 8; do guess $i & guesses="${guesses:-} $!"; done
guessed() { curl_api "$(api 1)/kelp/v1/join" -X POST -d '{}' >/dev/null && ss -Htn state established "sport = :$((port + 11))" | wc -l | holds -v '^[0-2]$'; }
within 5 guessed
check "time that is over is exit code 124" exits 124 kelp cluster backup "$home/none" --timeout 1
check "without a majority it is said what is needed" within 5 says "3 voters, 1 well, and 2 are needed" status
check "and what to do" says "kelp cluster recover" status
signal CONT
check "a fourth joins with a token" says "is a standby" join "$token" 4
wait $guesses
check "its key is its own" test "$(stat -c %a "$dir/cloudcore-4/pki/cloudcore-4.key")" = 600
check "nothing is overwritten" exits 2 join "$token" 4
mv "$dir/cloudcore-4/cloudcore.yaml" "$home/four.yaml"
check "a token is good once" says "used up" join "$token" 4
while [ "$(date +%s)" -lt "$short_over" ]; do sleep 0.1; done
check "and not for longer than it was made for" says "over" join "$short" 4
mv "$home/four.yaml" "$dir/cloudcore-4/cloudcore.yaml"
start_four() {
    "$bin/nodes/cloudcore" --config "$dir/cloudcore-4/cloudcore.yaml" >>"$dir/logs/cloudcore-4.log" 2>&1 &
    four=$!
}
start_four
check "adding it again changes nothing" kelp cluster add 4 "127.0.0.1:$((port + 34))" --wait
check "its address is nobody else's" exits 5 kelp cluster add 5 "127.0.0.1:$((port + 34))"
check "it gets a vote" says "is a voter" kelp cluster promote 4 --wait
check "the table has four" show 4 'voter .* ok$'
check "four are well" within 5 status

# A dead one goes, and finds out.
dead=$(($(leader) % 3 + 1))
asked=$(leader)
quick kill cloudcore-$dead
check "a dead one is unreachable" within 8 show $dead 'voter .* unreachable since 20'
check "and not all are well" exits 1 status --server "$(api "$asked")"
check "it is removed" kelp cluster remove $dead --server "$(api "$asked")"
check "again is the same, and says when it was" says "was removed at 20" kelp cluster remove $dead --server "$(api "$asked")"
check "one that never was is not removed" exits 5 kelp cluster remove 9 --server "$(api "$asked")"
check "and those that are, are named" says "no replica 9: the members are " kelp cluster remove 9 --server "$(api "$asked")"
check "a certificate that no link was made with is shut out by name" says "its key is shut out" kelp cluster remove 9 --key "$home/five/five.crt" --server "$(api "$asked")"
check "the key of the dead one is shut out" says "a key of replica $dead, sha256 $(openssl x509 -in "$dir/pki/cloudcore-$dead.crt" -pubkey -noout |
    openssl pkey -pubin -outform der | sha256sum | cut -c1-16)" status --server "$(api "$asked")"
check "three are well again" within 5 status --server "$(api "$asked")"
left() { ! kill -0 "$1" 2>/dev/null; }
before=$(term)
check "back with its old data, it leaves with exit code 5" exits 5 timeout 20 "$bin/nodes/cloudcore" --config "$dir/cloudcore-$dead/cloudcore.yaml"
check "and nobody took a link of it" log_says "$asked" "peer_shut_out replica=$dead"
check "and disturbed nobody" test "$(term)" = "$before"
check "the edge was told, and does not believe it" grep -q "shut_out_told.*keys=[12] status=0" "$dir/logs/edge-1.log"

# One that lost its data.
lost=
for n in 1 2 3; do [ "$n" = $dead ] || [ $n = "$asked" ] || lost=$n; done
quick kill cloudcore-$lost
check "no voter goes while another is dead" exits 5 kelp cluster remove 4 --server "$(api "$asked")"
rm -rf "$dir/cloudcore-$lost/data"
quick revive cloudcore-$lost
check "without its data it is seen as lost" within 10 show $lost 'voter .* lost its data: kelp cluster replace'
check "it says so itself, and what to do" within 5 log_says $lost "replica_lost_its_data.*kelp cluster replace $lost"
check "the others do not hear it" within 5 log_says "$asked" "peer_lost_its_data replica=$lost"
check "it is taken back" says "is a voter" kelp cluster replace $lost --server "$(api "$asked")" --timeout 30
check "all are well" within 5 status --server "$(api "$asked")"

# The leader goes.
check "another leads when it is asked to" says "replica 4 leads" kelp cluster transfer 4 --wait --server "$(api "$asked")"
check "the table says so" within 5 show 4 'leader'
check "a leader hands over and is removed" kelp cluster remove 4 --server "$(api "$asked")"
check "it leaves" within 15 left $four
check "and says why" log_says 4 cloudcore_removed
wait $four
check "with exit code 5" test $? = 5
four=
check "two are left and are well" within 10 status --server "$(api "$asked")"
kill $writer
wait $writer 2>/dev/null
writer=
count=$(wc -l <"$home/acknowledged")
echo "$count writes were acknowledged meanwhile"
check "writing went on" test "$count" -gt 50
check "every acknowledged write is on cloudcore-$asked" within 5 all_there "$asked"
check "and on the one that was taken back" within 5 all_there "$lost"
finish
