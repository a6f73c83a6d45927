/* The two ends of an edge's connection, hub.h in the cloud and uplink.h at the edge, over real TLS: sessions
 * that end at awkward moments, and clouds that do not answer. */
#include "tests/nodes/net_support.h"

#include "nodes/cloud/hub.h"
#include "nodes/edge/uplink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum on_open_does { OPEN_NOTHING, OPEN_REFUSE, OPEN_LEAVE };

struct cloud {
    struct hub *hub;
    struct link_context *context;
    enum on_open_does does;
    bool echo, leave_on_frame;
    uint32_t opened, ended, frames;
    uint64_t newest;
    char node[64];
    bool closed;
};

static int cloud_on_open(void *owner, uint64_t session, const char *node)
{
    struct cloud *cloud = owner;
    cloud->opened++;
    assert_true(session > cloud->newest);
    cloud->newest = session;
    snprintf(cloud->node, sizeof cloud->node, "%s", node);
    switch (cloud->does) {
    case OPEN_NOTHING:
        return 0;
    case OPEN_REFUSE:
        assert_int_equal(hub_send(cloud->hub, session, bytes_text("bye")), 0);
        return STATUS_FULL;
    case OPEN_LEAVE:
        hub_leave(cloud->hub, session);
        hub_leave(cloud->hub, session);
        assert_int_equal(hub_send(cloud->hub, session, bytes_text("late")), STATUS_CLOSING);
        assert_false(hub_room(cloud->hub, session));
        return 0;
    }
    return 0;
}
static void cloud_on_frame(void *owner, uint64_t session, struct bytes frame)
{
    struct cloud *cloud = owner;
    assert_int_equal((uintptr_t)frame.data % 8, 0);
    cloud->frames++;
    if (cloud->echo) {
        assert_int_equal(hub_send(cloud->hub, session, frame), 0);
    }
    if (cloud->leave_on_frame) {
        hub_leave(cloud->hub, session);
    }
}
static void cloud_on_writable(void *owner, uint64_t session)
{
    (void)owner;
    (void)session;
}
static void cloud_on_closed(void *owner, uint64_t session)
{
    struct cloud *cloud = owner;
    cloud->ended++;
    assert_int_equal(hub_send(cloud->hub, session, bytes_text("x")), STATUS_CLOSING);
    hub_leave(cloud->hub, session); /* unknown by now: nothing happens */
}
static void cloud_on_close(void *owner)
{
    ((struct cloud *)owner)->closed = true;
}
static const struct hub_events cloud_events = {cloud_on_open, cloud_on_frame, cloud_on_writable,
                                               cloud_on_closed, cloud_on_close};

static void cloud_open(struct cloud *cloud, uv_loop_t *loop)
{
    char reason[LINK_REASON_BYTES];
    cloud->context = support_context(LINK_LISTEN_REQUIRE, "server", "ca");
    assert_int_equal(hub_open(loop, cloud->context, "127.0.0.1", 0, &cloud_events, cloud,
                              &cloud->hub, reason),
                     0);
}
static void cloud_close(struct cloud *cloud, uv_loop_t *loop)
{
    hub_close(cloud->hub);
    support_run(loop, &cloud->closed);
    assert_int_equal(cloud->opened, cloud->ended + (cloud->does == OPEN_REFUSE ? cloud->opened : 0));
    link_context_close(cloud->context);
}

struct edge {
    struct uplink uplink;
    struct link_context *context;
    bool up, down, heard;
    uint32_t downs, frames;
    int status;
    char reason[128];
};

static void edge_on_up(void *owner)
{
    ((struct edge *)owner)->up = true;
}
static void edge_on_frame(void *owner, struct bytes frame)
{
    struct edge *edge = owner;
    assert_true(frame.size > 0);
    edge->frames++;
    edge->heard = true;
}
static void edge_on_writable(void *owner)
{
    (void)owner;
}
static void edge_on_down(void *owner, int status, const char *reason)
{
    struct edge *edge = owner;
    edge->downs++;
    edge->down = true;
    edge->up = false;
    edge->status = status;
    snprintf(edge->reason, sizeof edge->reason, "%s", reason);
    assert_int_equal(uplink_send(&edge->uplink, bytes_text("x")), STATUS_CLOSING);
    assert_false(uplink_room(&edge->uplink));
    uplink_leave(&edge->uplink); /* down already: nothing happens */
}
static const struct uplink_events edge_events = {edge_on_up, edge_on_frame, edge_on_writable,
                                                 edge_on_down};

static void edge_init(struct edge *edge, uv_loop_t *loop, const char *name)
{
    *edge = (struct edge){.context = support_context(LINK_DIAL, name, "ca")};
    uplink_init(&edge->uplink, loop, edge->context, &edge_events, edge);
}
static void edge_dial(struct edge *edge, const char *host, uint16_t port)
{
    edge->down = false;
    uplink_dial(&edge->uplink, host, port);
    assert_false(edge->down); /* never from inside */
    assert_false(uplink_is_down(&edge->uplink));
}
static void edge_deinit(struct edge *edge)
{
    assert_true(uplink_is_down(&edge->uplink));
    uplink_deinit(&edge->uplink);
    link_context_close(edge->context);
}

/* Claim: frames go both ways, the certificate says who it is, and leaving is an orderly end for both. */
static void test_session(void **state)
{
    (void)state;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    struct cloud cloud = {.echo = true};
    struct edge edge;
    cloud_open(&cloud, &loop);
    edge_init(&edge, &loop, "edge");
    edge_dial(&edge, "127.0.0.1", hub_port(cloud.hub));
    support_run(&loop, &edge.up);
    assert_string_equal(cloud.node, "edge-1");
    assert_true(uplink_room(&edge.uplink));
    assert_int_equal(uplink_send(&edge.uplink, bytes_text("frame")), 0);
    support_run(&loop, &edge.heard);
    uplink_leave(&edge.uplink);
    assert_int_equal(uplink_send(&edge.uplink, bytes_text("late")), STATUS_CLOSING);
    support_run(&loop, &edge.down);
    assert_int_equal(edge.status, 0);
    assert_int_equal(edge.downs, 1);
    edge_deinit(&edge);
    cloud_close(&cloud, &loop);
    assert_int_equal(cloud.frames, 1);
    support_finish(&loop);
}

/* Claim: a session that the core refuses, or leaves, while it is told of it ends at the edge; on_closed
 * comes for those that were taken, and only for them. */
static void test_end_inside_open(void **state)
{
    (void)state;
    for (int does = OPEN_REFUSE; does <= OPEN_LEAVE; does++) {
        uv_loop_t loop;
        assert_int_equal(uv_loop_init(&loop), 0);
        struct cloud cloud = {.does = (enum on_open_does)does};
        struct edge edge;
        cloud_open(&cloud, &loop);
        edge_init(&edge, &loop, "edge");
        for (int i = 0; i < 3; i++) {
            edge_dial(&edge, "127.0.0.1", hub_port(cloud.hub));
            support_run(&loop, &edge.down);
            assert_int_equal(edge.status, 0);
        }
        assert_int_equal(edge.frames, does == OPEN_REFUSE ? 3 : 0); /* what was sent arrives */
        while (hub_count(cloud.hub) > 0) {
            uv_run(&loop, UV_RUN_ONCE);
        }
        assert_int_equal(cloud.opened, 3);
        edge_deinit(&edge);
        cloud_close(&cloud, &loop);
        support_finish(&loop);
    }
}

/* Claim: after hub_leave nothing of the peer is told any more, though it was on its way. */
static void test_frames_after_leave(void **state)
{
    (void)state;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    struct cloud cloud = {.leave_on_frame = true};
    struct edge edge;
    cloud_open(&cloud, &loop);
    edge_init(&edge, &loop, "edge");
    edge_dial(&edge, "127.0.0.1", hub_port(cloud.hub));
    support_run(&loop, &edge.up);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(uplink_send(&edge.uplink, bytes_text("frame")), 0);
    }
    support_run(&loop, &edge.down);
    assert_int_equal(cloud.frames, 1);
    edge_deinit(&edge);
    cloud_close(&cloud, &loop);
    support_finish(&loop);
}

/* Claim: a hundred reconnections of one node, half of them cut before the upgrade, leave no session. */
static void test_reconnections(void **state)
{
    (void)state;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    struct cloud cloud = {0};
    struct edge edge;
    cloud_open(&cloud, &loop);
    edge_init(&edge, &loop, "edge");
    for (int i = 0; i < 100; i++) {
        edge_dial(&edge, "127.0.0.1", hub_port(cloud.hub));
        for (int turn = 0; turn < i % 20; turn++) {
            uv_run(&loop, UV_RUN_NOWAIT);
        }
        if (i % 4 == 0 && !edge.down) {
            support_run(&loop, &edge.up);
        }
        uplink_leave(&edge.uplink);
        support_run(&loop, &edge.down);
    }
    assert_int_equal(edge.downs, 100);
    assert_true(cloud.opened >= 25);
    while (hub_count(cloud.hub) > 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    assert_int_equal(cloud.ended, cloud.opened);
    edge_deinit(&edge);
    cloud_close(&cloud, &loop);
    support_finish(&loop);
}

/* Claim: a certificate that names no node gets no session, whatever else it may do. */
static void test_no_node(void **state)
{
    (void)state;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    struct cloud cloud = {0};
    cloud_open(&cloud, &loop);
    static const char *const names[] = {"admin", "server"};
    for (size_t i = 0; i < 2; i++) {
        struct edge edge;
        edge_init(&edge, &loop, names[i]);
        edge_dial(&edge, "127.0.0.1", hub_port(cloud.hub));
        support_run(&loop, &edge.down);
        assert_int_equal(edge.status, STATUS_FOREIGN);
        assert_non_null(strstr(edge.reason, "403"));
        edge_deinit(&edge);
        uv_run(&loop, UV_RUN_NOWAIT); /* its memory ends here */
    }
    assert_int_equal(cloud.opened, 0);
    cloud_close(&cloud, &loop);
    support_finish(&loop);
}

/* Claim: closing the hub with sessions open, opening, and hardly connected ends, and each is told once. */
static void test_close_under_load(void **state)
{
    (void)state;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    struct cloud cloud = {0};
    static struct edge edges[20];
    cloud_open(&cloud, &loop);
    for (size_t i = 0; i < 20; i++) {
        edge_init(&edges[i], &loop, "edge");
        edge_dial(&edges[i], "127.0.0.1", hub_port(cloud.hub));
        if (i % 2 == 0) {
            support_run(&loop, &edges[i].up);
        }
    }
    cloud_close(&cloud, &loop);
    for (size_t i = 0; i < 20; i++) {
        support_run(&loop, &edges[i].down);
        assert_int_equal(edges[i].downs, 1);
        edge_deinit(&edges[i]);
    }
    support_finish(&loop);
}

static void on_silent(uv_stream_t *listener, int status)
{
    assert_int_equal(status, 0);
    assert_int_equal(uv_accept(listener, (uv_stream_t *)listener->data), 0);
}

/* Claim: a cloud that is not there, has no name, cannot even be asked for, or accepts and says nothing: on_down
 * comes once per dial, from the loop, and the next dial may follow. */
static void test_no_cloud(void **state)
{
    (void)state;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    struct edge edge;
    edge_init(&edge, &loop, "edge");
    edge_dial(&edge, "127.0.0.1", support_free_port());
    support_run(&loop, &edge.down);
    assert_int_equal(edge.status, -ECONNREFUSED);
    edge_dial(&edge, "kelp.invalid", 443);
    support_run(&loop, &edge.down);
    assert_true(edge.status < 0);
    assert_non_null(strstr(edge.reason, "kelp.invalid"));
    edge_dial(&edge, "", 443); /* fails inside of uplink_dial */
    support_run(&loop, &edge.down);
    assert_int_equal(edge.status, STATUS_MALFORMED);

    uv_tcp_t listener, accepted;
    struct sockaddr_in address;
    int size = sizeof address;
    uv_tcp_init(&loop, &listener);
    uv_tcp_init(&loop, &accepted);
    listener.data = &accepted;
    uv_ip4_addr("127.0.0.1", 0, &address);
    assert_int_equal(uv_tcp_bind(&listener, (struct sockaddr *)&address, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&listener, 1, on_silent), 0);
    uv_tcp_getsockname(&listener, (struct sockaddr *)&address, &size);
    edge_dial(&edge, "127.0.0.1", (uint16_t)(address.sin_port << 8 | address.sin_port >> 8));
    while (!uv_is_readable((uv_stream_t *)&accepted)) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    uplink_leave(&edge.uplink); /* the handshake's own bound is LIMIT_LINK_HANDSHAKE_MS */
    support_run(&loop, &edge.down);
    assert_int_equal(edge.downs, 4);
    uv_close((uv_handle_t *)&listener, NULL);
    uv_close((uv_handle_t *)&accepted, NULL);
    edge_deinit(&edge);
    support_finish(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_session),       cmocka_unit_test(test_end_inside_open),
        cmocka_unit_test(test_frames_after_leave), cmocka_unit_test(test_reconnections),
        cmocka_unit_test(test_no_node),       cmocka_unit_test(test_close_under_load),
        cmocka_unit_test(test_no_cloud),
    };
    return cmocka_run_group_tests(tests, support_set_up, support_tear_down);
}
