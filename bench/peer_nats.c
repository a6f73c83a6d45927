/* The client of NATS JetStream: messages published without waiting (libnats' js_PublishMsgAsync) to a stream that three
 * servers keep in files.
 *
 *   1. connect, make the stream when it is not there, ask who leads it, connect with that one: the servers are named by
 *      their ports
 *   2. a request is so many messages; it is answered when all of them are acknowledged: two of three servers have
 *      written them to their files. Whether they were synced before is the server's setting
 *   3. acknowledgements come in a thread of libnats, which begins the next request of the slot
 *
 *     peer_nats --target PORT [--batch N] [--flight N] [--ms N]
 *
 * All messages have one subject: a stream that remembers a state for each of ten thousand would do more. See load.h.
 */
#include "bench/load.h"

#include "schemas/bytes.h"
#include "schemas/check.h"

#include <nats/nats.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STREAM     "bench"
#define REPLICAS   3
#define PATIENCE_S 30 /* until a new stream has a leader */
#define SLOT_AT    4u /* of a record: behind its key */
#define RETRY_MS   100

static struct load load;
static uint32_t open_messages[LOAD_FLIGHT_MAX]; /* of each slot, not acknowledged */
static jsCtx *stream;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all of the above */
static pthread_cond_t over = PTHREAD_COND_INITIALIZER;

static void expect(natsStatus status, const char *what)
{
    if (status != NATS_OK) {
        load_fail("%s: %s", what, natsStatus_GetText(status));
    }
}

static natsConnection *server_connect(const char *port)
{
    natsOptions *options;
    natsConnection *connection;
    char url[64];
    snprintf(url, sizeof url, "nats://127.0.0.1:%s", port);
    expect(natsOptions_Create(&options), "options");
    expect(natsOptions_SetURL(options, url), url);
    /* Otherwise libnats gathers for a millisecond: no row was faster for it, and one request at a time half as fast. */
    expect(natsOptions_SetSendAsap(options, true), url);
    expect(natsConnection_Connect(&connection, options), url);
    natsOptions_Destroy(options);
    return connection;
}

/* Who leads the stream, empty, made when it was not there. The name is the server's, its port. */
static void stream_leader(const char *port, char *out, size_t size)
{
    natsConnection *connection = server_connect(port);
    jsCtx *context;
    expect(natsConnection_JetStream(&context, connection, NULL), "JetStream");
    *out = 0;
    for (int tries = 0; *out == 0; tries++) {
        jsStreamInfo *info = NULL;
        natsStatus status = js_GetStreamInfo(&info, context, STREAM, NULL, NULL);
        if (status == NATS_NOT_FOUND) {
            jsStreamConfig config;
            jsStreamConfig_Init(&config);
            config.Name = STREAM;
            config.Subjects = (const char *[]){STREAM};
            config.SubjectsLen = 1;
            config.Storage = js_FileStorage;
            config.Replicas = REPLICAS;
            status = js_AddStream(&info, context, &config, NULL, NULL);
        }
        if (status == NATS_OK && info->Cluster != NULL && info->Cluster->Leader != NULL) {
            snprintf(out, size, "%s", info->Cluster->Leader);
        } else if (tries * RETRY_MS > PATIENCE_S * 1000) {
            load_fail("the stream has no leader: %s", natsStatus_GetText(status));
        } else {
            nats_Sleep(RETRY_MS); /* the servers find each other */
        }
        jsStreamInfo_Destroy(info);
    }
    expect(js_PurgeStream(context, STREAM, NULL, NULL), "purge");
    jsCtx_Destroy(context);
    natsConnection_Destroy(connection);
}

static void request_publish(uint32_t slot)
{
    open_messages[slot] = load.batch;
    load_begin(&load, slot);
    for (uint32_t i = 0; i < load.batch; i++) {
        uint8_t record[LOAD_RECORD_BYTES];
        natsMsg *message;
        (void)load_record(&load, record);
        put_le32(record + SLOT_AT, slot);
        expect(natsMsg_Create(&message, STREAM, NULL, (const char *)record, sizeof record),
               "message");
        expect(js_PublishMsgAsync(stream, &message, NULL), "publish");
    }
}

static void on_acknowledged(jsCtx *context, natsMsg *message, jsPubAck *acknowledged,
                            jsPubAckErr *error, void *closure)
{
    (void)context, (void)acknowledged, (void)closure;
    if (error != NULL) {
        load_fail("a message was refused: %s", error->ErrText);
    }
    const uint32_t slot = get_le32((const uint8_t *)natsMsg_GetData(message) + SLOT_AT);
    natsMsg_Destroy(message);
    CHECK(slot < load.flight);
    pthread_mutex_lock(&lock);
    CHECK(open_messages[slot] > 0);
    open_messages[slot]--;
    if (open_messages[slot] == 0) {
        if (load_end(&load, slot)) {
            request_publish(slot);
        } else if (load_over(&load)) {
            pthread_cond_signal(&over);
        }
    }
    pthread_mutex_unlock(&lock);
}

int main(int count, char **arguments)
{
    char leader[32];
    load_open(&load, "peer_nats", count, arguments);
    stream_leader(load.target, leader, sizeof leader);
    natsConnection *connection = server_connect(leader);
    jsOptions options;
    jsOptions_Init(&options);
    options.PublishAsync.AckHandler = on_acknowledged;
    /* A bound that is never met: the slots are ours, and the thread that would wait for it is the one that ends the
     * wait. */
    options.PublishAsync.MaxPending = (int64_t)2 * load.batch * load.flight;
    expect(natsConnection_JetStream(&stream, connection, &options), "JetStream");
    pthread_mutex_lock(&lock);
    load_start(&load);
    for (uint32_t slot = 0; slot < load.flight; slot++) {
        request_publish(slot);
    }
    while (!load_over(&load)) {
        pthread_cond_wait(&over, &lock);
    }
    pthread_mutex_unlock(&lock);
    load_print(&load);
    jsCtx_Destroy(stream);
    natsConnection_Destroy(connection);
    nats_Close();
    return 0;
}
