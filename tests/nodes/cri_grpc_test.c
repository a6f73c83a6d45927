/* The gRPC client against kelp-fake-cri, a process of its own, with every fault it can commit. */
#include "nodes/edge/grpc_cri.h"
#include "schemas/check.h"
#include "schemas/limits.h"
#include "schemas/status.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char directory[64];
static char socket_path[96];

struct rig {
    uv_loop_t loop;
    struct grpc_client *client;
    pid_t server;
};

struct outcome {
    int count;
    int code;
    bool sent;
    int error;
    size_t body_bytes;
    char message[256];
};

/* Start the fake with one fault per made-up method; its first line of output says that it listens. */
static pid_t server_start(void)
{
    static const char *const faults[] = {
        "Slow=delay:100",
        "Hang=hang",
        "Rst=rst",
        "Refuse=refuse",
        "Version=goawayx1",
        "Drop=drop",
        "Trailers=trailers-only",
        "Http=http-503",
        "ImageStatus=no-statusx1",
        "Status=oversizedx1",
        "PullImage=compressed",
        "ListContainers=garbage",
    };
    char state[128];
    const char *argv[6 + 2 * sizeof faults / sizeof *faults] = {KELP_FAKE_CRI, "--socket",
                                                                socket_path, "--state", state};
    size_t count = 5;
    snprintf(state, sizeof state, "%s/state", directory);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        argv[count++] = "--fault";
        argv[count++] = faults[i];
    }
    argv[count] = NULL;
    int out[2];
    assert_int_equal(pipe(out), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        dup2(out[1], 1);
        execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    close(out[1]);
    char line[8];
    assert_true(read(out[0], line, sizeof line) > 0);
    close(out[0]);
    return pid;
}

static void server_kill(struct rig *rig)
{
    kill(rig->server, SIGKILL);
    waitpid(rig->server, NULL, 0);
    rig->server = 0;
}

static int rig_setup(void **state)
{
    static struct rig rig;
    snprintf(directory, sizeof directory, "/tmp/kelp-grpc-XXXXXX");
    assert_non_null(mkdtemp(directory));
    snprintf(socket_path, sizeof socket_path, "%s/s", directory);
    uv_loop_init(&rig.loop);
    rig.client = grpc_open(&rig.loop, socket_path);
    assert_non_null(rig.client);
    rig.server = server_start();
    *state = &rig;
    return 0;
}

static void on_closed(void *context)
{
    *(bool *)context = true;
}

static int rig_teardown(void **state)
{
    struct rig *rig = *state;
    bool closed = false;
    if (rig->client != NULL) {
        grpc_close(rig->client, on_closed, &closed);
        uv_run(&rig->loop, UV_RUN_DEFAULT);
        assert_true(closed);
    }
    assert_int_equal(uv_loop_close(&rig->loop), 0); /* nothing of the client is left */
    if (rig->server != 0) {
        server_kill(rig);
    }
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command);
}

static void on_answer(void *context, const struct grpc_answer *answer)
{
    struct outcome *outcome = context;
    outcome->count++;
    outcome->code = (int)answer->code;
    outcome->sent = answer->sent;
    outcome->error = answer->error;
    outcome->body_bytes = answer->body.size;
    snprintf(outcome->message, sizeof outcome->message, "%s", answer->message);
}

#define METHOD(name) "/runtime.v1.RuntimeService/" name

static struct outcome ask(struct rig *rig, const char *method, uint64_t deadline_ms)
{
    struct outcome outcome = {0};
    assert_int_equal(
        grpc_call(rig->client, method, bytes_of(NULL, 0), deadline_ms, NULL, on_answer, &outcome),
        0);
    assert_int_equal(outcome.count, 0); /* never from inside */
    while (outcome.count == 0) {
        uv_run(&rig->loop, UV_RUN_ONCE);
    }
    assert_int_equal(outcome.count, 1);
    return outcome;
}

/* Claim: each way in which a reply can go wrong becomes its own clear answer, and after each one
 * the client serves the next call. Method: one fault after the other, a good call after each. */
static void test_every_fault_is_told_and_survived(void **state)
{
    struct rig *rig = *state;
    static const struct {
        const char *method;
        uint64_t deadline_ms;
        int code;
        const char *words;
    } cases[] = {
        {METHOD("Nope"), 2000, GRPC_UNIMPLEMENTED, "unknown method Nope"},
        {METHOD("Hang"), 50, GRPC_DEADLINE_EXCEEDED, "deadline"},
        {METHOD("Rst"), 2000, GRPC_CANCELLED, "reset"},
        {METHOD("Refuse"), 2000, GRPC_UNAVAILABLE, "refused"},
        {METHOD("Trailers"), 2000, GRPC_INTERNAL, "caf\xc3\xa9 is 50% closed"},
        {METHOD("Http"), 2000, GRPC_UNAVAILABLE, "503"},
        {METHOD("ImageStatus"), 2000, GRPC_INTERNAL, "without grpc-status"},
        {METHOD("Status"), 5000, GRPC_RESOURCE_EXHAUSTED, "larger than 16 MiB"},
        {METHOD("Drop"), 2000, GRPC_UNAVAILABLE, "closed the connection"},
    };
    assert_int_equal(ask(rig, METHOD("Version"), 2000).code, GRPC_OK); /* with a GOAWAY */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct outcome outcome = ask(rig, cases[i].method, cases[i].deadline_ms);
        assert_int_equal(outcome.code, cases[i].code);
        assert_non_null(strstr(outcome.message, cases[i].words));
        const struct outcome after = ask(rig, METHOD("Version"), 2000);
        assert_int_equal(after.code, GRPC_OK);
        assert_true(after.body_bytes > 0);
    }
    assert_int_equal(ask(rig, METHOD("Slow"), 2000).code,
                     GRPC_UNIMPLEMENTED); /* late, and still told */
}

/* Claim: a compressed reply is refused, a reply that is no protobuf is passed on as it is. */
static void test_flags_and_garbage(void **state)
{
    struct rig *rig = *state;
    /* PullImage without an image is refused by the fake before the fault can show: ask with one. */
    static const uint8_t image[] = "\x0a\x0e\x0a\x0ckelp.local/x";
    struct outcome outcome = {0};
    assert_int_equal(grpc_call(rig->client, METHOD("PullImage"), bytes_of(image, sizeof image - 1),
                               2000, NULL, on_answer, &outcome),
                     0);
    while (outcome.count == 0) {
        uv_run(&rig->loop, UV_RUN_ONCE);
    }
    assert_int_equal(outcome.code, GRPC_INTERNAL);
    assert_non_null(strstr(outcome.message, "compressed"));
    outcome = ask(rig, METHOD("ListContainers"), 2000);
    assert_int_equal(outcome.code, GRPC_OK);
    assert_int_equal(outcome.body_bytes, 64);
}

/* Claim: GOAWAY lets the call under way finish and moves later ones to a new connection. */
static void test_goaway_drains_and_redials(void **state)
{
    struct rig *rig = *state;
    assert_int_equal(ask(rig, METHOD("Version"), 2000).code, GRPC_OK);
    assert_int_equal(grpc_connections(rig->client), 1);
    assert_int_equal(ask(rig, METHOD("Version"), 2000).code, GRPC_OK);
    assert_int_equal(grpc_connections(rig->client), 2);
    assert_int_equal(ask(rig, METHOD("Version"), 2000).code, GRPC_OK);
    assert_int_equal(grpc_connections(rig->client), 2);
}

/* Claim: a dead runtime is told at once, as not sent; a runtime that came back is found by the
 * next call without waiting for a back-off; a kill -9 under a call is told as sent. */
static void test_runtime_dies_and_returns(void **state)
{
    struct rig *rig = *state;
    struct outcome hanging = {0};
    assert_int_equal(ask(rig, METHOD("Status"), 2000).code, GRPC_RESOURCE_EXHAUSTED);
    assert_int_equal(
        grpc_call(rig->client, METHOD("Hang"), bytes_of(NULL, 0), 60000, NULL, on_answer, &hanging),
        0);
    assert_int_equal(ask(rig, METHOD("Status"), 2000).code,
                     GRPC_OK); /* the one before is on its way */
    server_kill(rig);
    while (hanging.count == 0) {
        uv_run(&rig->loop, UV_RUN_ONCE);
    }
    assert_int_equal(hanging.code, GRPC_UNAVAILABLE);
    assert_true(hanging.sent);
    for (int i = 0; i < 3; i++) {
        const struct outcome dead = ask(rig, METHOD("Version"), 2000);
        assert_int_equal(dead.code, GRPC_UNAVAILABLE);
        assert_false(dead.sent);
        assert_int_equal(dead.error, -ECONNREFUSED);
    }
    rig->server = server_start();
    assert_int_equal(ask(rig, METHOD("Version"), 2000).code, GRPC_OK);
}

/* Claim: an answer that arrived before the runtime closed is told, also when the close is noticed by
 * a write; the call that was written into nothing ends as unavailable.
 * Method: a peer in this process says all of its answer and closes before the client's loop turns
 * again, and the next call makes the client write first. */
static void test_an_answer_before_the_end_counts(void **state)
{
    static const uint8_t said[] = "\0\0\0\x04\0\0\0\0\0"             /* SETTINGS */
                                  "\0\0\x01\x01\x04\0\0\0\x01\x88"   /* :status 200 */
                                  "\0\0\x05\0\0\0\0\0\x01\0\0\0\0\0" /* no bytes */
                                  "\0\0\x0f\x01\x05\0\0\0\x01\0\x0bgrpc-status\x01"
                                  "0"; /* the end */
    struct rig *rig = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/peer", directory);
    const int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 1), 0);
    struct grpc_client *client = grpc_open(&rig->loop, address.sun_path);
    struct outcome first = {0};
    struct outcome second = {0};
    assert_int_equal(
        grpc_call(client, METHOD("Any"), bytes_of(NULL, 0), 60000, NULL, on_answer, &first), 0);
    while (grpc_connections(client) == 0) {
        uv_run(&rig->loop, UV_RUN_ONCE);
    }
    uv_run(&rig->loop, UV_RUN_NOWAIT); /* the call leaves */
    const int peer = accept(listener, NULL, NULL);
    assert_int_equal(write(peer, said, sizeof said - 1), sizeof said - 1);
    close(peer);
    close(listener);
    assert_int_equal(
        grpc_call(client, METHOD("Any"), bytes_of(NULL, 0), 60000, NULL, on_answer, &second), 0);
    while (first.count == 0 || second.count == 0) {
        uv_run(&rig->loop, UV_RUN_ONCE);
    }
    assert_int_equal(first.code, GRPC_OK);
    assert_int_equal(second.code, GRPC_UNAVAILABLE);
    bool closed = false;
    grpc_close(client, on_closed, &closed);
    while (!closed) {
        uv_run(&rig->loop, UV_RUN_ONCE);
    }
}

/* Claim: more calls than the peer takes at once are all answered, once, and one more than the
 * bound is refused without being answered. */
static void test_calls_are_bounded_and_answered_once(void **state)
{
    struct rig *rig = *state;
    static struct outcome outcomes[LIMIT_GRPC_CALLS];
    memset(outcomes, 0, sizeof outcomes);
    for (size_t i = 0; i < LIMIT_GRPC_CALLS; i++) {
        assert_int_equal(grpc_call(rig->client, METHOD("Slow"), bytes_of(NULL, 0), 60000, NULL,
                                   on_answer, &outcomes[i]),
                         0);
    }
    struct outcome extra = {0};
    assert_int_equal(
        grpc_call(rig->client, METHOD("Slow"), bytes_of(NULL, 0), 60000, NULL, on_answer, &extra),
        STATUS_FULL);
    static uint8_t large[LIMIT_GRPC_MESSAGE_BYTES + 1];
    assert_int_equal(grpc_call(rig->client, METHOD("Slow"), bytes_of(large, sizeof large), 60000,
                               NULL, on_answer, &extra),
                     STATUS_TOO_LARGE);
    while (uv_loop_alive(&rig->loop) && outcomes[LIMIT_GRPC_CALLS - 1].count == 0) {
        uv_run(&rig->loop, UV_RUN_ONCE);
    }
    uv_run(&rig->loop, UV_RUN_NOWAIT);
    for (size_t i = 0; i < LIMIT_GRPC_CALLS; i++) {
        assert_int_equal(outcomes[i].count, 1);
        assert_int_equal(outcomes[i].code, GRPC_UNIMPLEMENTED);
    }
    assert_int_equal(extra.count, 0);
}

/* Claim: a large request and a large reply pass, both beyond the HTTP/2 windows. */
static void test_large_messages_pass(void **state)
{
    struct rig *rig = *state;
    static uint8_t large[8u << 20];
    struct outcome outcome = {0};
    memset(large, 0x08,
           sizeof large); /* field 1, varint 8, again and again: a valid StatusRequest */
    assert_int_equal(ask(rig, METHOD("Status"), 5000).code, GRPC_RESOURCE_EXHAUSTED);
    assert_int_equal(grpc_call(rig->client, METHOD("Status"), bytes_of(large, sizeof large), 20000,
                               NULL, on_answer, &outcome),
                     0);
    while (outcome.count == 0) {
        uv_run(&rig->loop, UV_RUN_ONCE);
    }
    assert_int_equal(outcome.code, GRPC_OK);
}

/* Claim: cancelling and closing answer what is under way, once, from the loop. */
static void test_cancel_and_close_answer_everything(void **state)
{
    struct rig *rig = *state;
    struct outcome cancelled = {0}, closed = {0}, never_dialed = {0};
    struct grpc_call *call = NULL;
    assert_int_equal(grpc_call(rig->client, METHOD("Hang"), bytes_of(NULL, 0), 60000, &call,
                               on_answer, &cancelled),
                     0);
    assert_int_equal(
        grpc_call(rig->client, METHOD("Hang"), bytes_of(NULL, 0), 60000, NULL, on_answer, &closed),
        0);
    (void)ask(rig, METHOD("Nope"), 2000);
    grpc_cancel(call);
    assert_int_equal(cancelled.count, 0);
    while (cancelled.count == 0) {
        uv_run(&rig->loop, UV_RUN_ONCE);
    }
    assert_int_equal(cancelled.code, GRPC_CANCELLED);
    struct grpc_client *other = grpc_open(&rig->loop, socket_path);
    assert_int_equal(
        grpc_call(other, METHOD("Hang"), bytes_of(NULL, 0), 60000, NULL, on_answer, &never_dialed),
        0);
    bool gone[2] = {false, false};
    grpc_close(other, on_closed, &gone[0]);
    grpc_close(rig->client, on_closed, &gone[1]);
    rig->client = NULL;
    assert_int_equal(closed.count, 0);
    assert_int_equal(
        grpc_call(other, METHOD("Hang"), bytes_of(NULL, 0), 60000, NULL, on_answer, &closed),
        STATUS_CLOSING);
    uv_run(&rig->loop, UV_RUN_DEFAULT);
    assert_true(gone[0]);
    assert_true(gone[1]);
    assert_int_equal(closed.count, 1);
    assert_int_equal(closed.code, GRPC_CANCELLED);
    assert_int_equal(never_dialed.count, 1);
    assert_int_equal(never_dialed.code, GRPC_CANCELLED);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_every_fault_is_told_and_survived),
        TEST(test_flags_and_garbage),
        TEST(test_goaway_drains_and_redials),
        TEST(test_runtime_dies_and_returns),
        TEST(test_an_answer_before_the_end_counts),
        TEST(test_calls_are_bounded_and_answered_once),
        TEST(test_large_messages_pass),
        TEST(test_cancel_and_close_answer_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
