#!/usr/bin/env bash
# Claim: whoever watches a cluster reads it: /metrics of each program is what Prometheus takes, moves with what
# happens and is only for whom it may be; /readyz says no, and why, when a majority is gone, and yes again when
# it is back, while /livez says yes throughout. Method: three real cloudcores and an edge; kubectl writes
# between two scrapes; two of the three are killed.
#   watch_test.sh PORT
. "$(dirname "$0")/lib.sh"
begin fake "$1"
quick --runtime fake start >/dev/null || exit 1
dir=$home/k

page() { curl -sf --max-time 3 "http://127.0.0.1:$((port + 60 + $1))/metrics"; } # 0: the edge
# The API's port: which replica, whose certificate, path.
api() { curl -s --max-time 5 --cacert "$dir/pki/ca.crt" --cert "$dir/pki/$2.crt" --key "$dir/pki/$2.key" "https://127.0.0.1:$((port + 10 + $1))$3"; }
number() { page "$1" | awk -v series="$2" 'index($0, series " ") == 1 { print int($NF) }'; } # target, series
tells() { [ -n "$(number "$1" "$2")" ] || { echo "no series $2"; return 1; }; }
is() { [ "$(number "$1" "$2")" = "$3" ] || { echo "$2 is $(number "$1" "$2")"; return 1; }; }
leader() { local n; for n in 1 2 3; do is $n 'kelp_raft_role{role="leader"}' 1 >/dev/null && echo $n && return; done; return 1; }
sound() { page "$1" >"$home/page" && promtool check metrics <"$home/page"; }
code() { curl -s -o /dev/null -w '%{http_code}' --max-time 3 "http://127.0.0.1:$((port + 60 + $1))$2"; }
answers() { [ "$(code "$1" "$2")" = "$3" ] || { echo "$2: $(code "$1" "$2")"; return 1; }; }

kelp pki client --ca "$dir/pki" --user scraper --group system:monitoring --out "$dir/pki" >/dev/null
for n in 0 1 2 3; do
    ! command -v promtool >/dev/null || check "promtool takes the page of $n" sound $n
    check "$n is ready" within 15 answers $n /readyz 200
done
for series in kelp_raft_term kelp_applied_index kelp_raft_commit_index 'kelp_sessions{state="active"}' \
    kelp_log_bytes kelp_store_memory_bytes kelp_checkpoint_last_time_seconds kelp_down_lag_records \
    'kelp_peer_link_up{replica="1"}' 'kelp_raft_voters{state="all"}' 'kelp_space{level="plenty"}' 'kelp_queue_items{queue="records"}' \
    'kelp_raft_guard_total{measure="barriers"}' kelp_loop_turn_duration_seconds_count \
    process_resident_memory_bytes process_open_fds; do
    check "a cloudcore tells $series" tells 1 "$series"
done
for series in kelp_edge_down_lag_records kelp_edge_up_lag_records 'kelp_edge_pods{phase="Running"}' \
    kelp_edge_runtime_calls_total kelp_log_bytes kelp_log_flush_duration_seconds_count \
    kelp_process_anonymous_memory_bytes; do
    check "the edge tells $series" tells 0 "$series"
done
check "the edge has its link" within 10 is 0 kelp_edge_link_up 1
check "one session is active" is "$(for n in 1 2 3; do is $n 'kelp_sessions{state="active"}' 1 >/dev/null && echo $n; done)" 'kelp_sessions{state="active"}' 1

lead=$(leader)
follower=$((lead % 3 + 1))
third=$((6 - lead - follower))
scrape() { for s in kelp_applied_entries_total kelp_apply_duration_seconds_count kelp_log_flush_duration_seconds_count; do number "$1" $s; done; }
before=$(scrape $follower) created=$(number $lead 'kelp_api_requests_total{verb="create",code="201"}')
proposed=$(number $lead kelp_propose_duration_seconds_count)
for i in 1 2 3; do on $lead create configmap "c$i" --from-literal=a=$i >/dev/null; done
moved() {
    local then=($before) now i
    now=($(scrape $follower))
    for i in 0 1 2; do [ "${now[i]}" -ge $((then[i] + 3)) ] || { echo "$i: ${then[i]}, then ${now[i]}"; return 1; }; done
}
check "what is applied and flushed at a follower moved" within 5 moved
check "requests are counted" is $lead 'kelp_api_requests_total{verb="create",code="201"}' $((${created:-0} + 3))
check "and measured" [ "$(number $lead 'kelp_api_request_duration_seconds_count{verb="create"}')" -ge 3 ]
check "and what was proposed" [ "$(number $lead kelp_propose_duration_seconds_count)" -ge $((proposed + 3)) ]

check "a scraper's certificate reads the page" says 'kelp_raft_term ' api 1 scraper /metrics
check "an admin's, too" says 'kelp_raft_term ' api 1 admin /metrics
check "an edge's does not" says 'system:monitoring' api 1 edge-1 /metrics
check "a scraper's reads nothing else" says '"code":403' api 1 scraper /api/v1/secrets
check "without one there are probes" says ok curl -sk --max-time 3 "https://127.0.0.1:$((port + 11))/readyz"
check "and no page" says 'system:monitoring' curl -sk --max-time 3 "https://127.0.0.1:$((port + 11))/metrics"
check "each check has its name" says '[+]leader ok' on 1 get --raw '/readyz?verbose'

is_away() { page $lead | holds '^kelp_node_away_seconds{node="edge-1"} '; }
check "no node is away" is $lead 'kelp_nodes{state="away"}' 0
quick kill edge-1 >/dev/null
check "one that was killed is" within 10 is $lead 'kelp_nodes{state="away"}' 1
check "and is named" is_away
check "a follower tells of none" is $follower 'kelp_nodes{state="away"}' 0
export KUBECONFIG=$dir/kubeconfig
kelp cluster add 9 "127.0.0.1:$((port + 39))" >/dev/null
check "a member that no configuration lists is told of, too" within 5 is $follower 'kelp_peer_link_up{replica="9"}' 0
kelp cluster remove 9 >/dev/null
check "and no more when it is none" within 5 not tells $follower 'kelp_peer_link_up{replica="9"}'
quick kill cloudcore-$third >/dev/null
check "two of three are ready" answers $lead /readyz 200
quick kill cloudcore-$follower >/dev/null
check "the last one is not" within 10 answers $lead /readyz 503
reason() { curl -s --max-time 3 "http://127.0.0.1:$((port + 60 + lead))/readyz"; }
check "it says why" says '[-]leader failed: there is no leader among the cloudcores' reason
check "it lives" answers $lead /livez 200
check "what it has is read by who asks for no more" says '"name":"c3"' on $lead get --raw '/api/v1/configmaps?resourceVersion=0'
check "and backed up" kelp cluster backup --stale "$home/stale" --context cloudcore-$lead
check "it leads nobody" is $lead 'kelp_raft_role{role="leader"}' 0
check "the link to a dead one is down" is $lead "kelp_peer_link_up{replica=\"$follower\"}" 0
quick revive cloudcore-$follower >/dev/null
check "with a majority it is ready again" within 15 answers $lead /readyz 200
check "so is the other" within 15 answers $follower /readyz 200
check "of three voters two are well" within 5 is $lead 'kelp_raft_voters{state="well"}' 2
finish
