/* The client of etcd: KV.Put, and for a batch one KV.Txn of so many puts, over gRPC as etcd's own client speaks it.
 *
 *   1. one HTTP/2 connection, a stream for each request under way; headers that repeat are sent as indices (HPACK)
 *   2. a request is answered when its stream ends with grpc-status 0: etcd has it in the logs of two of three, synced,
 *      and applied at the member that was asked
 *
 *     peer_etcd --target PORT [--batch N] [--flight N] [--ms N]
 *
 * Why not etcd's benchmark tool: Debian has none. `etcdctl check perf` bounds its own rate, and the JSON gateway would make
 * etcd unpack base64 in JSON for us. See load.h.
 */
#include "bench/load.h"

#include "schemas/check.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PREFIX_BYTES 5u /* of a gRPC message: no compression, its size */
#define KEY_BYTES    8u
/* Put: two fields with tags and lengths. In a Txn: a RequestOp around each, in a field of its own. */
#define PUT_BYTES     (2u + KEY_BYTES + 3u + LOAD_RECORD_BYTES)
#define OPERATION_MAX (2u * 4u + PUT_BYTES)
#define REQUEST_MAX   (PREFIX_BYTES + LOAD_BATCH_MAX * OPERATION_MAX)
#define WINDOW_BYTES  (1 << 20) /* for answers */

struct slot {
    uint8_t *request;
    size_t size, sent;
    bool accepted; /* grpc-status 0 */
};

static struct load load;
static struct slot slots[LOAD_FLIGHT_MAX];
static nghttp2_session *session;
static nghttp2_nv headers[] = {
#define HEADER(name, value)                                                                        \
    {                                                                                              \
        (uint8_t *)(name), (uint8_t *)(value), sizeof(name) - 1, sizeof(value) - 1,                \
            NGHTTP2_NV_FLAG_NONE                                                                   \
    }
    HEADER(":method", "POST"),
    HEADER(":scheme", "http"),
    HEADER(":path", ""), /* of the method, from main */
    HEADER(":authority", "127.0.0.1"),
    HEADER("content-type", "application/grpc"),
    HEADER("te", "trailers"),
};

/* -- protobuf, what little of it there is -------------------------------------------------------- */

enum { FIELD_KEY = 1, FIELD_VALUE = 2, FIELD_SUCCESS = 2, FIELD_REQUEST_PUT = 2 };

static uint8_t *field_begin(uint8_t *at, uint32_t number, size_t size)
{
    *at++ = (uint8_t)(number << 3 | 2); /* of a length and as many bytes */
    for (; size >= 0x80; size >>= 7) {
        *at++ = (uint8_t)(size | 0x80);
    }
    *at++ = (uint8_t)size;
    return at;
}

/* PutRequest {key, value} */
static uint8_t *put_write(uint8_t *at)
{
    uint8_t record[LOAD_RECORD_BYTES];
    char key[KEY_BYTES + 1];
    snprintf(key, sizeof key, "/b/%05u", load_record(&load, record));
    at = field_begin(at, FIELD_KEY, KEY_BYTES);
    memcpy(at, key, KEY_BYTES);
    at = field_begin(at + KEY_BYTES, FIELD_VALUE, LOAD_RECORD_BYTES);
    memcpy(at, record, LOAD_RECORD_BYTES);
    return at + LOAD_RECORD_BYTES;
}

/* TxnRequest {success: [RequestOp {request_put: PutRequest}]} */
static uint8_t *transaction_write(uint8_t *at)
{
    uint8_t put[2 * OPERATION_MAX];
    for (uint32_t i = 0; i < load.batch; i++) {
        uint8_t *body = field_begin(put, FIELD_REQUEST_PUT, PUT_BYTES);
        body = put_write(body);
        const size_t size = (size_t)(body - put);
        at = field_begin(at, FIELD_SUCCESS, size);
        memcpy(at, put, size);
        at += size;
    }
    return at;
}

/* -- streams ------------------------------------------------------------------------------------- */

static ssize_t slot_on_read(nghttp2_session *of, int32_t stream, uint8_t *out, size_t room,
                            uint32_t *flags, nghttp2_data_source *source, void *context)
{
    (void)of, (void)stream, (void)context;
    struct slot *slot = source->ptr;
    const size_t left = slot->size - slot->sent;
    const size_t take = left < room ? left : room;
    memcpy(out, slot->request + slot->sent, take);
    slot->sent += take;
    if (slot->sent == slot->size) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)take;
}

static void slot_request(struct slot *slot)
{
    uint8_t *body = slot->request + PREFIX_BYTES;
    const uint8_t *end = load.batch == 1 ? put_write(body) : transaction_write(body);
    const uint32_t size = (uint32_t)(end - body);
    const uint8_t prefix[PREFIX_BYTES] = {0, (uint8_t)(size >> 24), (uint8_t)(size >> 16),
                                          (uint8_t)(size >> 8), (uint8_t)size};
    memcpy(slot->request, prefix, sizeof prefix);
    slot->size = PREFIX_BYTES + size;
    slot->sent = 0;
    slot->accepted = false;
    load_begin(&load, (uint32_t)(slot - slots));
    const nghttp2_data_provider data = {.source = {.ptr = slot}, .read_callback = slot_on_read};
    const int32_t stream = nghttp2_submit_request(session, NULL, headers,
                                                  sizeof headers / sizeof *headers, &data, slot);
    if (stream < 0) {
        load_fail("no stream: %s", nghttp2_strerror(stream));
    }
}

static int on_header(nghttp2_session *of, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *context)
{
    (void)flags, (void)context;
    static const char status[] = "grpc-status";
    static const char message[] = "grpc-message";
    struct slot *slot = nghttp2_session_get_stream_user_data(of, frame->hd.stream_id);
    if (slot != NULL && name_size == sizeof status - 1 && memcmp(name, status, name_size) == 0) {
        slot->accepted = value_size == 1 && *value == '0';
    } else if (name_size == sizeof message - 1 && memcmp(name, message, name_size) == 0 &&
               value_size > 0) {
        load_fail("etcd refused: %.*s", (int)value_size, (const char *)value);
    }
    return 0;
}

static int on_stream_close(nghttp2_session *of, int32_t stream, uint32_t error, void *context)
{
    (void)context;
    struct slot *slot = nghttp2_session_get_stream_user_data(of, stream);
    if (slot == NULL || !slot->accepted) {
        load_fail("a request ended without success (HTTP/2 error %u)", error);
    }
    if (load_end(&load, (uint32_t)(slot - slots))) {
        slot_request(slot);
    }
    return 0;
}

static void session_open(void)
{
    nghttp2_session_callbacks *callbacks;
    CHECK(nghttp2_session_callbacks_new(&callbacks) == 0);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    CHECK(nghttp2_session_client_new(&session, callbacks, NULL) == 0);
    nghttp2_session_callbacks_del(callbacks);
    static const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0}};
    CHECK(nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, 1) == 0);
    CHECK(nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, WINDOW_BYTES) == 0);
}

/* All that the windows let out, in as few writes as it takes. */
static void session_send(int handle)
{
    static uint8_t buffer[1 << 20];
    size_t size = 0;
    const uint8_t *data;
    ssize_t more;
    while ((more = nghttp2_session_mem_send(session, &data)) > 0) {
        if (size + (size_t)more > sizeof buffer) {
            load_send(handle, buffer, size);
            size = 0;
        }
        memcpy(buffer + size, data, (size_t)more);
        size += (size_t)more;
    }
    CHECK(more == 0);
    load_send(handle, buffer, size);
}

int main(int count, char **arguments)
{
    load_open(&load, "peer_etcd", count, arguments);
    const char *method = load.batch == 1 ? "/etcdserverpb.KV/Put" : "/etcdserverpb.KV/Txn";
    headers[2].value = (uint8_t *)(uintptr_t)method; /* nghttp2 writes to none of them */
    headers[2].valuelen = strlen(method);
    const int handle = load_connect(&load);
    session_open();
    load_start(&load);
    for (uint32_t i = 0; i < load.flight; i++) {
        slots[i].request = malloc(PREFIX_BYTES + (size_t)load.batch * OPERATION_MAX);
        CHECK(slots[i].request != NULL);
        slot_request(&slots[i]);
    }
    while (!load_over(&load)) {
        static uint8_t buffer[1 << 16];
        session_send(handle);
        const size_t got = load_receive(handle, buffer, sizeof buffer);
        const ssize_t taken = nghttp2_session_mem_recv(session, buffer, got);
        if (taken < 0) {
            load_fail("HTTP/2: %s", nghttp2_strerror((int)taken));
        }
    }
    nghttp2_session_del(session);
    close(handle);
    for (uint32_t i = 0; i < load.flight; i++) {
        free(slots[i].request);
    }
    load_print(&load);
    return 0;
}
