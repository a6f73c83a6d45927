/* scheduler.h, liveness.h and forward.h alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "nodes/cloud/forward.h"
#include "nodes/cloud/liveness.h"
#include "nodes/cloud/scheduler.h"
#include "schemas/check.h"

/* -- scheduler --------------------------------------------------------------------------------- */

struct yard {
    struct scheduler *scheduler;
    char bound_pod[64];
    char bound_node[64];
    uint32_t bound_count;
    char reason[512];
    uint32_t verdicts;
    uint32_t scheduled_verdicts;
    const char *refuses; /* node that selector or taints do not allow */
};

static bool yard_fits(void *context, const char *pod_key, const char *node, const char **out_why)
{
    const struct yard *yard = context;
    (void)pod_key;
    *out_why = "node(s) didn't match Pod's node affinity/selector";
    return yard->refuses == NULL || strcmp(yard->refuses, node) != 0;
}

static int yard_bind(void *context, const char *pod_key, const char *node)
{
    struct yard *yard = context;
    snprintf(yard->bound_pod, sizeof yard->bound_pod, "%s", pod_key);
    snprintf(yard->bound_node, sizeof yard->bound_node, "%s", node);
    yard->bound_count++;
    return 0;
}

static int yard_verdict(void *context, const char *pod_key, const char *uid, bool scheduled,
                        const char *reason)
{
    struct yard *yard = context;
    (void)pod_key;
    (void)uid;
    yard->verdicts += !scheduled;
    yard->scheduled_verdicts += scheduled;
    snprintf(yard->reason, sizeof yard->reason, "%s", reason);
    return 0;
}

static void yard_node(struct yard *yard, const char *name, bool ready, int64_t cpu_milli)
{
    scheduler_set_node(yard->scheduler, name,
                       &(struct scheduler_node_facts){.ready = ready,
                                                      .cpu_milli = cpu_milli,
                                                      .memory_bytes = 1 << 30,
                                                      .pods = 10});
}

static void yard_pod(struct yard *yard, const char *key, const char *node, bool ended,
                     int64_t cpu_milli)
{
    scheduler_set_pod(yard->scheduler, key,
                      &(struct scheduler_pod_facts){
                          .uid = "u", .node = node, .ended = ended, .cpu_milli = cpu_milli});
}

/* Claim: the least requested ready node that fits is chosen; a binding under way counts; a pod that fits
 * nowhere says why, once, and is bound when room appears. */
static void test_scheduler_binds_where_there_is_room(void **state)
{
    (void)state;
    struct yard yard = {0};
    const struct scheduler_door door = {
        .context = &yard, .fits = yard_fits, .bind = yard_bind, .verdict = yard_verdict};
    yard.scheduler = scheduler_create(&door);
    yard_node(&yard, "edge-1", true, 1000);
    yard_node(&yard, "edge-2", true, 1000);
    yard_node(&yard, "edge-3", false, 9000);
    yard_pod(&yard, "/pods/a/one", "edge-1", false, 500);
    yard_pod(&yard, "/pods/a/two", "", false, 600);
    assert_false(scheduler_run(yard.scheduler));
    assert_string_equal(yard.bound_pod, "/pods/a/two");
    assert_string_equal(yard.bound_node, "edge-2");
    assert_false(scheduler_run(yard.scheduler));
    assert_int_equal(yard.bound_count, 1);

    yard_pod(&yard, "/pods/a/three", "", false, 600); /* edge-1 has 500 left, edge-2 400 */
    (void)scheduler_run(yard.scheduler);
    assert_int_equal(yard.bound_count, 1);
    assert_int_equal(yard.verdicts, 1);
    assert_string_equal(yard.reason,
                        "0/3 nodes are available: 2 Insufficient cpu, 1 node(s) were not ready.");
    yard_node(&yard, "edge-3", false, 9000); /* nothing new to say */
    (void)scheduler_run(yard.scheduler);
    assert_int_equal(yard.verdicts, 1);

    yard_pod(&yard, "/pods/a/one", "edge-1", true, 500); /* it ended: its room is free */
    (void)scheduler_run(yard.scheduler);
    assert_int_equal(yard.bound_count, 2);
    assert_string_equal(yard.bound_node, "edge-1");
    scheduler_on_bound(yard.scheduler, "/pods/a/three", false); /* a conflict: again */
    yard.refuses = "edge-1";
    (void)scheduler_run(yard.scheduler);
    assert_int_equal(yard.bound_count, 2);
    yard.refuses = NULL;
    yard_node(&yard, "edge-3", true, 9000);
    (void)scheduler_run(yard.scheduler);
    assert_string_equal(yard.bound_node, "edge-3");
    yard_pod(&yard, "/pods/a/three", "edge-3", false, 600);
    assert_int_equal(yard.scheduled_verdicts, 1);
    scheduler_destroy(yard.scheduler);
}

/* Claim: quantities are read as Kubernetes writes them. */
static void test_quantities(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t milli;
        int64_t bytes;
    } good[] = {
        {"2", 2000, 2},          {"500m", 500, 1},           {"0.5", 500, 1},
        {"1Ki", 1024000, 1024},  {"1.5Gi", 1610612736000, 1610612736}, {"1e3", 1000000, 1000},
        {"100k", 100000000, 100000},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        int64_t value = 0;
        assert_true(scheduler_parse_cpu(good[i].text, &value));
        assert_int_equal(value, good[i].milli);
        assert_true(scheduler_parse_bytes(good[i].text, &value));
        assert_int_equal(value, good[i].bytes);
    }
    static const char *const bad[] = {"", "x", "1 Gi", "1gi", "nan", "1KiB"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int64_t value = 0;
        assert_false(scheduler_parse_cpu(bad[i], &value));
    }
}

/* -- liveness ---------------------------------------------------------------------------------- */

struct watch {
    uint32_t proposed;
    bool reachable;
    int status;
};

static int watch_propose(void *context, const char *node, const char *uid, bool reachable)
{
    struct watch *watch = context;
    assert_string_equal(node, "edge-1");
    assert_string_equal(uid, "uid-1");
    watch->proposed += watch->status == 0;
    watch->reachable = reachable;
    return watch->status;
}

static void watch_report(struct liveness *liveness, uint64_t replica, bool full, bool opened,
                         uint64_t epoch, uint64_t now_ms)
{
    const char *name = "edge-1";
    const struct sessions report = {
        .replica = replica,
        .full = full,
        .opened = &name,
        .epochs = &epoch,
        .opened_count = opened ? 1 : 0,
        .closed = &name,
        .closed_count = !opened && !full ? 1 : 0,
    };
    liveness_on_report(liveness, &report, now_ms, (int64_t)now_ms);
}

/* Claim: a new leader waits a grace period; a verdict is proposed only on change; a session that moved
 * to another replica is not closed by the old one; a replica that falls silent takes its sessions along. */
static void test_liveness_judges_slowly_and_once(void **state)
{
    (void)state;
    struct watch watch = {0};
    const struct liveness_door door = {.context = &watch, .propose = watch_propose};
    struct liveness liveness;
    liveness_init(&liveness, &door, 1, 5000);
    assert_int_equal(liveness_run(&liveness, 0), UINT64_MAX);
    watch_report(&liveness, 2, true, true, 6, 500); /* who does not lead shows it, and judges nobody */
    assert_int_equal(liveness_seen_ms(&liveness, "edge-1"), 500);
    assert_int_equal(liveness_run(&liveness, 900), UINT64_MAX);
    assert_int_equal(watch.proposed, 0);
    liveness_lead(&liveness, 1000);
    assert_int_equal(liveness_seen_ms(&liveness, "edge-1"), 0);
    liveness_set_node(&liveness, "edge-1", "uid-1", LIVENESS_REACHABLE, 1000);
    liveness_run(&liveness, 5999);
    assert_int_equal(watch.proposed, 0); /* no false verdict by a new leader */
    watch_report(&liveness, 2, true, true, 7, 5999);
    liveness_run(&liveness, 9000);
    assert_int_equal(watch.proposed, 0);

    watch_report(&liveness, 3, false, true, 8, 9000); /* the node moved */
    watch_report(&liveness, 2, false, false, 0, 9001);
    liveness_run(&liveness, 16000);
    assert_int_equal(watch.proposed, 0);

    assert_int_equal(liveness_seen_ms(&liveness, "edge-1"), 9000);
    watch_report(&liveness, 3, true, false, 0, 16000); /* gone, by a full report */
    assert_int_equal(liveness_seen_ms(&liveness, "edge-1"), 16000);
    liveness_run(&liveness, 20999);
    assert_int_equal(watch.proposed, 0);
    liveness_run(&liveness, 21000);
    liveness_run(&liveness, 21500);
    assert_int_equal(watch.proposed, 1); /* once, while it is pending */
    assert_false(watch.reachable);
    liveness_on_verdict(&liveness, "edge-1", false, false);
    liveness_run(&liveness, 22000);
    assert_int_equal(watch.proposed, 2); /* it was not taken: again */
    liveness_on_verdict(&liveness, "edge-1", false, true);
    liveness_run(&liveness, 23000);
    assert_int_equal(watch.proposed, 2);

    watch_report(&liveness, 3, false, true, 9, 23000);
    liveness_run(&liveness, 23000);
    assert_int_equal(watch.proposed, 3);
    assert_true(watch.reachable);
    liveness_on_verdict(&liveness, "edge-1", true, true);
    liveness_run(&liveness, 23000 + 3 * LIVENESS_FULL_MS + 4000);
    assert_int_equal(watch.proposed, 3);
    liveness_run(&liveness, 23000 + 3 * LIVENESS_FULL_MS + 5001); /* replica 3 said nothing since */
    assert_int_equal(watch.proposed, 4);
    assert_false(watch.reachable);
    liveness_deinit(&liveness);
}

/* Claim: what a report changes is judged in the next run, however soon; what could not be proposed, and what time alone
 * changes, at the next look at all nodes; and a node that was deleted meanwhile is not judged any more. */
static void test_liveness_looks_at_what_changed(void **state)
{
    (void)state;
    struct watch watch = {.status = -1};
    const struct liveness_door door = {.context = &watch, .propose = watch_propose};
    struct liveness liveness;
    liveness_init(&liveness, &door, 1, 5000);
    liveness_lead(&liveness, 1000);
    liveness_set_node(&liveness, "edge-0", "uid-0", LIVENESS_REACHABLE, 1000);
    liveness_set_node(&liveness, "edge-1", "uid-1", LIVENESS_UNREACHABLE, 1000);
    liveness_set_node(&liveness, "edge-2", "uid-2", LIVENESS_REACHABLE, 1000);
    const uint64_t look_ms = liveness_run(&liveness, 1000);
    assert_true(look_ms > 1100);
    watch_report(&liveness, 2, false, true, 7, 1001);
    watch.status = 0;
    liveness_run(&liveness, 1001);
    assert_int_equal(watch.proposed, 1);
    assert_true(watch.reachable);

    liveness_on_verdict(&liveness, "edge-1", true, false);
    watch.status = -1;
    liveness_run(&liveness, 1002); /* cannot be proposed now */
    watch.status = 0;
    assert_int_equal(liveness_run(&liveness, 1003), look_ms);
    assert_int_equal(watch.proposed, 1);
    liveness_run(&liveness, look_ms);
    assert_int_equal(watch.proposed, 2);

    liveness_on_verdict(&liveness, "edge-1", true, false);
    liveness_set_node(&liveness, "edge-0", "uid-0", LIVENESS_REACHABLE, look_ms);
    liveness_remove_node(&liveness, "edge-1"); /* neither the first nor the last of those that changed */
    liveness_set_node(&liveness, "edge-2", "uid-2", LIVENESS_REACHABLE, look_ms);
    liveness_remove_node(&liveness, "edge-2");
    liveness_run(&liveness, look_ms + 1);
    assert_int_equal(watch.proposed, 2);
    liveness_deinit(&liveness);
}

/* Claim: those that are away for longest are listed first, no more than asked for; whoever has a session, or is only
 * heard of, is not among them; and who does not lead lists nobody. Method: thirty nodes, lost one after the other,
 * in an order that is not that of their names. */
static void test_liveness_lists_who_is_away(void **state)
{
    (void)state;
    struct watch watch = {0};
    const struct liveness_door door = {.context = &watch, .propose = watch_propose};
    struct liveness liveness;
    struct liveness_away away[5];
    uint32_t known;
    uint32_t gone;
    liveness_init(&liveness, &door, 1, 5000);
    assert_int_equal(liveness_list_away(&liveness, 1, away, 5, &known, &gone), 0);
    liveness_lead(&liveness, 1000);
    for (uint32_t i = 0; i < 30; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "n-%02u", i * 7 % 30);
        liveness_set_node(&liveness, name, "uid", LIVENESS_REACHABLE, 1000 + (uint64_t)i * 100);
    }
    watch_report(&liveness, 2, true, true, 7, 2000); /* edge-1: not a node of the state */
    assert_int_equal(liveness_list_away(&liveness, 10000, away, 5, &known, &gone), 5);
    assert_int_equal(known, 30);
    assert_int_equal(gone, 30);
    static const char *const oldest[] = {"n-00", "n-07", "n-14", "n-21", "n-28"};
    for (uint32_t i = 0; i < 5; i++) {
        assert_string_equal(away[i].node, oldest[i]);
        assert_int_equal(away[i].away_ms, 9000 - i * 100);
    }
    liveness_set_node(&liveness, "edge-1", "uid", LIVENESS_REACHABLE, 3000);
    assert_int_equal(liveness_list_away(&liveness, 10000, away, 5, &known, &gone), 5);
    assert_int_equal(known, 31);
    assert_int_equal(gone, 30);
    watch_report(&liveness, 2, false, false, 0, 4000);
    assert_int_equal(liveness_list_away(&liveness, 10000, away, 5, &known, &gone), 5);
    assert_int_equal(gone, 31);
    liveness_unlead(&liveness);
    assert_int_equal(liveness_list_away(&liveness, 10000, away, 5, &known, &gone), 0);
    assert_int_equal(known, 0);
    liveness_deinit(&liveness);
}

/* -- forward ----------------------------------------------------------------------------------- */

struct post {
    struct forwarder *forward;
    struct codec *codec;
    uint64_t leader;
    int propose_status;
    uint32_t proposed;       /* into our own replica */
    uint64_t sequence;       /* of the newest command, proposed or sent */
    uint32_t record_count;   /* in it */
    int64_t time_ms;
    uint32_t sent;           /* frames to peers */
    uint16_t kind;
    uint64_t to;
    int32_t refused_status;
    uint64_t request;
    uint64_t applied;
    void (*read_callback)(void *context, int status, uint64_t index);
    void *read_context;
    uint32_t done_count;
    int status;
    int outcome;
    uint64_t value;
    uint64_t tag;
    uint32_t fresh_count;
    int fresh_status;
};

static uint64_t post_leader(void *context)
{
    return ((struct post *)context)->leader;
}

static void post_look(struct post *post, struct bytes bytes)
{
    struct command command;
    codec_reset(post->codec);
    assert_int_equal(codec_command_read(post->codec, codec_copy(post->codec, bytes), &command), 0);
    post->sequence = command.sequence;
    post->record_count = command.record_count;
    post->time_ms = command.time_ms;
}

static int post_propose(void *context, struct bytes command)
{
    struct post *post = context;
    if (post->propose_status == 0) {
        post->proposed++;
        post_look(post, command);
    }
    return post->propose_status;
}

static int post_read(void *context, void (*callback)(void *context, int status, uint64_t index),
                     void *callback_context)
{
    struct post *post = context;
    if (post->leader != 1) {
        return STATUS_NOT_LEADER;
    }
    post->read_callback = callback;
    post->read_context = callback_context;
    return 0;
}

static uint64_t post_applied(void *context)
{
    return ((struct post *)context)->applied;
}

static int64_t post_wall_ms(void *context)
{
    (void)context;
    return 4242;
}

static void post_send(void *context, uint64_t replica, struct bytes frame)
{
    struct post *post = context;
    struct bytes body;
    struct codec *codec = codec_create();
    assert_int_equal(codec_frame_read(codec, codec_copy(codec, frame), &post->kind, &body), 0);
    post->sent++;
    post->to = replica;
    if (post->kind == WIRE_FORWARD) {
        struct forward forward;
        assert_int_equal(codec_forward_read(codec, body, &forward), 0);
        post_look(post, forward.command);
    } else if (post->kind == WIRE_FORWARD_REFUSED) {
        struct forward forward;
        assert_int_equal(codec_forward_read(codec, body, &forward), 0);
        post->refused_status = forward.status;
    } else {
        struct read_index read;
        assert_int_equal(codec_read_index_read(codec, body, &read), 0);
        post->request = read.request;
    }
    codec_destroy(codec);
}

static void post_on_done(void *context, uint64_t tag, int status, int outcome, uint64_t value)
{
    struct post *post = context;
    post->done_count++;
    post->tag = tag;
    post->status = status;
    post->outcome = outcome;
    post->value = value;
}

static void post_on_fresh(void *context, int status)
{
    struct post *post = context;
    post->fresh_count++;
    post->fresh_status = status;
}

static const uint64_t post_origin = UINT64_C(1) << 32 | 5;

static struct forward_door post_door(struct post *post)
{
    return (struct forward_door){
        .context = post,
        .leader = post_leader,
        .propose = post_propose,
        .read = post_read,
        .applied = post_applied,
        .wall_ms = post_wall_ms,
        .send_peer = post_send,
    };
}

static void post_submit(struct post *post, uint64_t tag, uint64_t now_ms)
{
    struct bytes record;
    codec_reset(post->codec);
    assert_int_equal(
        codec_record_build(post->codec, &(struct record){.kind = RECORD_VERDICT, .key = "k"}, &record),
        0);
    assert_int_equal(
        forward_submit(post->forward, FORWARD_LANE_CORE, record, post_on_done, post, tag, now_ms),
        0);
}

static void post_answer(struct post *post, uint16_t kind, struct bytes body, uint64_t now_ms)
{
    assert_int_equal(forward_on_peer(post->forward, 2, kind, body, now_ms), 0);
}

/* Claim: the same sequence goes to every leader in turn until it is seen applied, and is answered once;
 * records of a turn share a command. */
static void test_proposals_follow_the_leader(void **state)
{
    (void)state;
    struct post post = {.codec = codec_create(), .leader = 0};
    const struct forward_door door = post_door(&post);
    post.forward = forward_create(&door, 1, post_origin, 10000);
    post_submit(&post, 11, 0);
    post_submit(&post, 12, 0);
    forward_run(post.forward, 0);
    assert_int_equal(post.proposed + post.sent, 0); /* nobody leads */
    post.leader = 2;
    forward_leadership(post.forward);
    forward_run(post.forward, 10);
    assert_int_equal(post.kind, WIRE_FORWARD);
    assert_int_equal(post.to, 2);
    assert_int_equal(post.sequence, 1);
    assert_int_equal(post.record_count, 2);
    forward_run(post.forward, 500);
    assert_int_equal(post.sent, 1);
    forward_run(post.forward, 10 + FORWARD_RETRY_MS);
    assert_int_equal(post.sent, 2); /* the frame may have been lost */
    post.leader = 3;
    forward_leadership(post.forward);
    forward_run(post.forward, 1500);
    assert_int_equal(post.to, 3);
    assert_int_equal(post.sequence, 1);

    /* The leader refuses, then we lead ourselves. */
    struct bytes body;
    codec_reset(post.codec);
    const struct forward refused = {
        .origin = post_origin, .sequence = 1, .status = STATUS_NOT_LEADER, .leader = 1};
    assert_int_equal(codec_forward_build(post.codec, &refused, &body), 0);
    post_answer(&post, WIRE_FORWARD_REFUSED, body, 1510);
    post.leader = 1;
    forward_run(post.forward, 1510 + FORWARD_REFUSED_MS);
    assert_int_equal(post.proposed, 1);
    assert_int_equal(post.sequence, 1);

    const struct forward_result results[] = {{.outcome = 0, .value = 7}, {.outcome = 3, .value = 8}};
    assert_false(forward_applied(post.forward, post_origin + 1, 1, results, 2)); /* another life */
    assert_int_equal(post.done_count, 0);
    assert_true(forward_applied(post.forward, post_origin, 1, results, 2));
    assert_false(forward_applied(post.forward, post_origin, 1, results, 2)); /* proposed twice */
    assert_int_equal(post.done_count, 2);
    assert_int_equal(post.tag, 12);
    assert_int_equal(post.outcome, 3);
    assert_int_equal(post.value, 8);
    assert_int_equal(forward_count(post.forward), 0);
    forward_destroy(post.forward);
    codec_destroy(post.codec);
}

/* Claim: what was never sent did not happen, what was sent is unknown when its time is up; the queue is
 * bounded. */
static void test_fate_is_never_guessed(void **state)
{
    (void)state;
    struct post post = {.codec = codec_create(), .leader = 0};
    const struct forward_door door = post_door(&post);
    post.forward = forward_create(&door, 1, post_origin, 1000);
    post_submit(&post, 1, 0);
    forward_run(post.forward, 0);
    forward_run(post.forward, 1000);
    assert_int_equal(post.done_count, 1);
    assert_int_equal(post.status, STATUS_NOT_LEADER);
    post.leader = 2;
    post_submit(&post, 2, 2000);
    forward_run(post.forward, 2000);
    forward_run(post.forward, 3000);
    assert_int_equal(post.done_count, 2);
    assert_int_equal(post.status, STATUS_UNKNOWN);
    post_submit(&post, 3, 4000);
    forward_run(post.forward, 4000);
    assert_true(forward_applied(post.forward, post_origin, 3, NULL, 0)); /* out of its window */
    assert_int_equal(post.status, STATUS_UNKNOWN);

    /* A full disk of the leader is told at once, by whichever way it is met. */
    struct bytes body;
    post_submit(&post, 4, 4100);
    forward_run(post.forward, 4100);
    codec_reset(post.codec);
    const struct forward refused = {
        .origin = post_origin, .sequence = 4, .status = -ENOSPC, .leader = 2};
    assert_int_equal(codec_forward_build(post.codec, &refused, &body), 0);
    post_answer(&post, WIRE_FORWARD_REFUSED, body, 4101);
    forward_run(post.forward, 4101);
    assert_int_equal(post.done_count, 4);
    assert_int_equal(post.status, -ENOSPC);
    post.leader = 1;
    post.propose_status = -ENOSPC;
    post_submit(&post, 5, 4200);
    forward_run(post.forward, 4200);
    forward_run(post.forward, 4201);
    assert_int_equal(post.done_count, 5);
    assert_int_equal(post.status, -ENOSPC);

    struct bytes record;
    codec_reset(post.codec);
    assert_int_equal(
        codec_record_build(post.codec, &(struct record){.kind = RECORD_VERDICT, .key = "k"}, &record),
        0);
    uint32_t taken = 0;
    int status;
    while ((status = forward_submit(post.forward, FORWARD_LANE_CORE, record, NULL, NULL, 0,
                                    5000)) == 0) {
        taken++;
    }
    assert_int_equal(status, STATUS_FULL);
    assert_int_equal(taken, LIMIT_FORWARD_RECORDS);
    forward_stop(post.forward);
    assert_int_equal(forward_count(post.forward), 0);
    assert_int_equal(forward_submit(post.forward, FORWARD_LANE_CORE, record, NULL, NULL, 0, 5000),
                     STATUS_CLOSING);
    forward_destroy(post.forward);
    codec_destroy(post.codec);
}

/* Claim: a leader proposes a follower's command with its own clock, refuses with the leader's name when it
 * does not lead, and takes none that names another origin than the sender. */
static void test_leader_serves_followers(void **state)
{
    (void)state;
    struct post post = {.codec = codec_create(), .leader = 1};
    const struct forward_door door = post_door(&post);
    post.forward = forward_create(&door, 1, post_origin, 1000);
    struct codec *codec = codec_create();
    struct bytes command;
    struct bytes body;
    struct bytes record;
    assert_int_equal(
        codec_record_build(codec, &(struct record){.kind = RECORD_VERDICT, .key = "k"}, &record), 0);
    const uint64_t origin = UINT64_C(2) << 32 | 9;
    const struct command build = {
        .time_ms = 1, .origin = origin, .sequence = 6, .records = &record, .record_count = 1};
    assert_int_equal(codec_command_build(codec, &build, &command), 0);
    const struct forward asked = {.origin = origin, .sequence = 6, .command = command};
    assert_int_equal(codec_forward_build(codec, &asked, &body), 0);
    assert_int_equal(forward_on_peer(post.forward, 2, WIRE_FORWARD, body, 0), 0);
    assert_int_equal(post.proposed, 1);
    assert_int_equal(post.sequence, 6);
    assert_int_equal(post.time_ms, 4242);
    assert_int_equal(forward_on_peer(post.forward, 3, WIRE_FORWARD, body, 0), STATUS_MALFORMED);
    post.leader = 3;
    assert_int_equal(forward_on_peer(post.forward, 2, WIRE_FORWARD, body, 0), 0);
    assert_int_equal(post.proposed, 1);
    assert_int_equal(post.kind, WIRE_FORWARD_REFUSED);
    assert_int_equal(post.refused_status, STATUS_NOT_LEADER);
    codec_destroy(codec);
    forward_destroy(post.forward);
    codec_destroy(post.codec);
}

/* Claim: readers that wait together share a question; one that came later does not use an older answer;
 * all wait for the local copy. */
static void test_reads_wait_for_the_local_copy(void **state)
{
    (void)state;
    struct post post = {.codec = codec_create(), .leader = 2, .applied = 10};
    const struct forward_door door = post_door(&post);
    post.forward = forward_create(&door, 1, post_origin, 5000);
    assert_int_equal(forward_read(post.forward, post_on_fresh, &post, 0), 0);
    assert_int_equal(forward_read(post.forward, post_on_fresh, &post, 0), 0);
    forward_run(post.forward, 0);
    assert_int_equal(post.sent, 1);
    assert_int_equal(post.kind, WIRE_READ_ASK);
    const uint64_t first = post.request;
    assert_int_equal(forward_read(post.forward, post_on_fresh, &post, 1), 0);
    forward_run(post.forward, 1);
    assert_int_equal(post.sent, 1);

    struct bytes body;
    codec_reset(post.codec);
    struct read_index answer = {.request = first, .index = 12};
    assert_int_equal(codec_read_index_build(post.codec, &answer, &body), 0);
    post_answer(&post, WIRE_READ_ANSWER, body, 2);
    forward_run(post.forward, 2);
    assert_int_equal(post.fresh_count, 0); /* applied is 10 */
    assert_int_equal(post.sent, 2);        /* and the third one is asked for */
    assert_true(post.request > first);
    post.applied = 12;
    forward_run(post.forward, 3);
    assert_int_equal(post.fresh_count, 2);
    assert_int_equal(post.fresh_status, 0);

    /* The question is lost with its leader; we lead now, and ask at once. */
    post.leader = 1;
    forward_leadership(post.forward);
    forward_run(post.forward, 4);
    assert_non_null(post.read_callback);
    post.read_callback(post.read_context, 0, 12);
    forward_run(post.forward, 5);
    assert_int_equal(post.fresh_count, 3);
    assert_int_equal(post.fresh_status, 0);

    post.leader = 0;
    assert_int_equal(forward_read(post.forward, post_on_fresh, &post, 3000), 0);
    forward_run(post.forward, 3000);
    forward_run(post.forward, 8000);
    assert_int_equal(post.fresh_count, 4);
    assert_int_equal(post.fresh_status, STATUS_NOT_LEADER);
    forward_destroy(post.forward);
    codec_destroy(post.codec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scheduler_binds_where_there_is_room),
        cmocka_unit_test(test_quantities),
        cmocka_unit_test(test_liveness_judges_slowly_and_once),
        cmocka_unit_test(test_liveness_looks_at_what_changed),
        cmocka_unit_test(test_liveness_lists_who_is_away),
        cmocka_unit_test(test_proposals_follow_the_leader),
        cmocka_unit_test(test_fate_is_never_guessed),
        cmocka_unit_test(test_leader_serves_followers),
        cmocka_unit_test(test_reads_wait_for_the_local_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
