#include "nodes/cli/log_decode.h"

#include "schemas/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct key_parts key_split(const char *key)
{
    struct bytes parts[4] = {0};
    unsigned count = 0;
    const char *start = key;
    for (const char *p = key;; p++) {
        if ((*p == '/' && count < 3) || *p == '\0') {
            parts[count] = bytes_of(start, (size_t)(p - start));
            count++;
            start = p + 1;
        }
        if (*p == '\0') {
            break;
        }
    }
    if (count < 4) {
        /* facts of the edge's own name their pod without a group when they can */
        return (struct key_parts){.name = bytes_of(key, strlen(key))};
    }
    return (struct key_parts){
        .group = parts[0], .resource = parts[1], .namespace = parts[2], .name = parts[3]};
}

/* The resource that kubectl knows under another name; NULL: it is none. Lent for ever. */
static const char *resource_of(const char *name, size_t size)
{
    static const char *const names[][2] = {
        {"pod", "pods"},
        {"po", "pods"},
        {"configmap", "configmaps"},
        {"cm", "configmaps"},
        {"secret", "secrets"},
        {"event", "events"},
        {"ev", "events"},
        {"node", "nodes"},
        {"no", "nodes"},
        {"namespace", "namespaces"},
        {"ns", "namespaces"},
        {"serviceaccount", "serviceaccounts"},
        {"sa", "serviceaccounts"},
        {"device", "devices"},
        {"devices", "devices"},
        {"devicemodel", "devicemodels"},
        {"devicemodels", "devicemodels"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strlen(names[i][0]) == size && strncasecmp(names[i][0], name, size) == 0) {
            return names[i][1];
        }
    }
    return NULL;
}

bool key_complete(const char *word, char *out)
{
    char whole[LIMIT_KEY_BYTES + 32];
    unsigned slashes = 0;
    const size_t first = strcspn(word, "/");
    const char *resource = word[first] == '/' ? resource_of(word, first) : NULL;
    if (resource != NULL) {
        snprintf(whole, sizeof whole, "%s%.*s", resource, LIMIT_KEY_BYTES + 1, word + first);
        word = whole;
    }
    for (const char *p = word; *p != '\0'; p++) {
        slashes += *p == '/';
    }
    const char *name = strchr(word, '/');
    const bool short_ = word[0] != '/' && word[0] != '*' && slashes == 1;
    const bool bare = short_ && (strncmp(word, "nodes/", 6) == 0 ||
                                 strncmp(word, "namespaces/", 11) == 0); /* in no namespace */
    const bool device = slashes == 2 && (strncmp(word, "devices/", 8) == 0 ||
                                         strncmp(word, "devicemodels/", 13) == 0);
    const bool core = (word[0] != '/' && slashes == 2 && !device) || bare ||
                      (short_ && strpbrk(name, "*?[") != NULL); /* pods/<any>: * matches slashes */
    const int size =
        snprintf(out, LIMIT_KEY_BYTES + 2, "%s%.*s%s%s",
                 core     ? "/"
                 : device ? "devices.kubeedge.io/"
                          : "",
                 bare ? (int)(name - word) : 0, word, bare ? "/" : "", bare ? name : word);
    return size > 0 && size <= (int)LIMIT_KEY_BYTES;
}

void key_hint(const char *key)
{
    static const char *const resources[] = {
        "/pods/",   "/configmaps/",  "/secrets/",           "/events/",
        "/nodes//", "/namespaces//", "devices.kubeedge.io/"};
    bool known = false;
    for (size_t i = 0; i < sizeof resources / sizeof resources[0]; i++) {
        known = known || strncmp(key, resources[i], strlen(resources[i])) == 0;
    }
    if (!known) {
        fprintf(
            stderr,
            "  a key is resource/namespace/name, such as pods/default/web, devices/default/meter, "
            "or nodes/edge-1\n");
    }
}

/* -- items ------------------------------------------------------------------------------------ */

struct walk {
    struct codec *codec;
    const struct log_frame *frame;
    int64_t *last_ms;
    int (*on_item)(void *context, const struct item *item);
    void *context;
    bool glance; /* at objects: item->put stays NULL */
};

static int walk_tell(const struct walk *walk, struct item *item)
{
    item->timed = item->time_ms != 0;
    if (item->timed) {
        *walk->last_ms = item->time_ms;
    } else {
        item->time_ms = *walk->last_ms;
    }
    return walk->on_item(walk->context, item);
}

static struct item item_of_frame(const struct log_frame *frame)
{
    return (struct item){
        .offset = frame->index,
        .term = frame->term,
        .frame_type = frame->type,
        .kind = "undecodable",
        .op = "",
        .key = "",
        .origin = "",
        .user = "",
        .node = "",
        .size = frame->payload.size,
        .bytes = frame->payload,
    };
}

/* The last part of a "/nodes//name" key. */
static const char *node_of_key(const char *key)
{
    static const char prefix[] = "/nodes//";
    return strncmp(key, prefix, sizeof prefix - 1) == 0 ? key + sizeof prefix - 1 : "";
}

static void item_read_put(struct codec *codec, struct item *item, bool glance)
{
    static const char *const modes[] = {
        [PUT_ANY] = "put", [PUT_CREATE] = "create", [PUT_UPDATE] = "update"};
    struct object_glance seen;
    item->secret = strncmp(item->key, "/secrets/", 9) == 0;
    if (codec_object_put_glance(item->record.body, &seen) != 0) {
        return; /* then neither can the whole be read */
    }
    if (!glance) {
        struct object_put *put = codec_array(codec, 1, sizeof *put);
        if (codec_object_put_read(codec, item->record.body, put) != 0) {
            return;
        }
        item->put = put;
    }
    item->op = modes[seen.mode];
    item->secret =
        item->secret || strcmp(seen.kind, "Secret") == 0 || strcmp(seen.resource, "secrets") == 0;
    if (seen.node_name[0] != '\0') {
        item->node = seen.node_name;
    } else if (item->node[0] == '\0') {
        item->node = node_of_key(item->key);
    }
}

static void item_read_batch(struct codec *codec, struct item *item)
{
    struct batch *batch = codec_array(codec, 1, sizeof *batch);
    item->op = "ship";
    if (codec_batch_read(codec, item->record.body, batch) == 0) {
        item->batch = batch;
        item->node = batch->node;
    } else {
        item->secret = true; /* who knows what is in it */
    }
}

static void item_read_snapshot(struct codec *codec, struct item *item)
{
    static const char *const steps[] = {
        [SNAPSHOT_BEGIN] = "begin", [SNAPSHOT_ROWS] = "rows", [SNAPSHOT_END] = "end"};
    struct snapshot *snapshot = codec_array(codec, 1, sizeof *snapshot);
    if (codec_snapshot_read(codec, item->record.body, snapshot) == 0) {
        item->snapshot = snapshot;
        item->op = steps[snapshot->step];
    } else {
        item->secret = true; /* who knows what is in it */
    }
}

/* What its kind says: op, node, whether it is secret. */
static void item_read_kind(struct codec *codec, struct item *item, bool glance)
{
    union {
        struct object_remove remove;
        struct session_open open;
        struct stream_init init;
    } body;
    switch (item->record.kind) {
    case RECORD_OBJECT_PUT:
        item_read_put(codec, item, glance);
        return;
    case RECORD_OBJECT_REMOVE:
        if (codec_object_remove_read(codec, item->record.body, &body.remove) == 0) {
            item->op = body.remove.reason == REMOVE_UNUSED ? "unuse" : "delete";
        }
        return;
    case RECORD_POD_STATUS:
    case RECORD_EDGE_EVENT:
    case RECORD_DEVICE_STATUS:
    case RECORD_DEVICE_VALUE:
        item->op = "report";
        return;
    case RECORD_TWIN_UPDATE:
    case RECORD_DEVICE_STATE:
    case RECORD_MQTT_MESSAGE:
        item->op = "say";
        return;
    case RECORD_OUTBOX_DONE:
        item->op = "done";
        return;
    case RECORD_NODE_STATUS:
        item->op = "report";
        item->node = node_of_key(item->key);
        return;
    case RECORD_POD_ENDED:
        item->op = "end";
        return;
    case RECORD_POD_ATTEMPT:
        item->op = "attempt";
        return;
    case RECORD_VERDICT:
        item->op = "conclude";
        item->node = node_of_key(item->key);
        return;
    case RECORD_SESSION_OPEN:
        item->op = "open";
        item->node = node_of_key(item->key);
        if (codec_session_open_read(codec, item->record.body, &body.open) == 0) {
            item->node = body.open.node;
        }
        return;
    case RECORD_DOWN_ACK:
    case RECORD_UP_ACK:
        item->op = "ack";
        item->node = node_of_key(item->key);
        return;
    case RECORD_UP_BATCH:
    case RECORD_DOWN_BATCH:
        item_read_batch(codec, item);
        return;
    case RECORD_SNAPSHOT:
        item_read_snapshot(codec, item);
        return;
    case RECORD_STREAM_INIT:
        item->op = "init";
        if (codec_stream_init_read(codec, item->record.body, &body.init) == 0) {
            item->node = body.init.node;
        }
        return;
    case RECORD_CLUSTER_INIT:
        item->op = "init";
        return;
    case RECORD_SETTING:
        item->op = "set";
        return;
    case RECORD_GAP:
        item->op = "gap";
        return;
    case RECORD_MEMBER_KEY:
        item->op = "set";
        return;
    default:
        return; /* of a newer release */
    }
}

/* One record. `sequenced` NULL: it stands in the frame itself; else it lies in `outer`. */
static int walk_record(const struct walk *walk, struct bytes bytes, const struct item *outer,
                       const struct sequenced *sequenced, int64_t time_ms)
{
    struct item item = item_of_frame(walk->frame);
    item.size = bytes.size;
    item.bytes = bytes;
    item.time_ms = time_ms;
    if (outer != NULL) {
        item.outer = outer->kind;
        item.node = outer->node;
        item.inside = outer->batch;
    }
    if (codec_record_read(walk->codec, bytes, &item.record) != 0) {
        return walk_tell(walk, &item);
    }
    item.decoded = true;
    item.kind = record_kind_text(item.record.kind, item.kind_memory);
    item.key = item.record.key;
    item.origin = item.record.origin;
    item.user = item.record.user;
    item.sequence = sequenced != NULL ? sequenced->sequence : item.record.sequence;
    item.trace = item.record.trace;
    item.time_ms = item.record.time_ms != 0 ? item.record.time_ms : time_ms;
    item_read_kind(walk->codec, &item, walk->glance);
    int answer = walk_tell(walk, &item);

    const struct sequenced *inner = NULL;
    uint32_t count = 0;
    if (outer != NULL) {
        return answer; /* batches do not nest */
    }
    if (item.batch != NULL) {
        inner = item.batch->records;
        count = item.batch->record_count;
    } else if (item.snapshot != NULL) {
        inner = item.snapshot->records;
        count = item.snapshot->record_count;
    }
    for (uint32_t i = 0; i < count && answer == 0; i++) {
        answer = walk_record(walk, inner[i].record, &item, &inner[i], item.time_ms);
    }
    return answer;
}

static int frame_walk(const struct walk *walk)
{
    struct codec *codec = walk->codec;
    const struct log_frame *frame = walk->frame;
    struct item item = item_of_frame(frame);
    codec_reset(codec);
    if (frame->type == LOG_TYPE_COMMAND) {
        struct command command;
        if (codec_command_read(codec, frame->payload, &command) != 0) {
            return walk_tell(walk, &item);
        }
        if (command.record_count == 0) {
            item.kind = "empty";
            item.time_ms = command.time_ms;
            return walk_tell(walk, &item);
        }
        int answer = 0;
        for (uint32_t i = 0; i < command.record_count && answer == 0; i++) {
            answer = walk_record(walk, command.records[i], NULL, NULL, command.time_ms);
        }
        return answer;
    }
    if (frame->type == LOG_TYPE_DOWN || frame->type == LOG_TYPE_UP) {
        return walk_record(walk, frame->payload, NULL, NULL, 0);
    }
    if (frame->type == LOG_TYPE_BARRIER) {
        item.kind = "barrier";
    } else if (frame->type == LOG_TYPE_CHANGE) {
        item.kind = "change";
    } else {
        snprintf(item.kind_memory, sizeof item.kind_memory, "frame_%u", frame->type);
        item.kind = item.kind_memory;
    }
    return walk_tell(walk, &item);
}

int items_walk(struct codec *codec, const struct log_frame *frame, int64_t *last_ms,
               int (*on_item)(void *context, const struct item *item), void *context)
{
    const struct walk walk = {codec, frame, last_ms, on_item, context, .glance = false};
    return frame_walk(&walk);
}

int items_glance(struct codec *codec, const struct log_frame *frame, int64_t *last_ms,
                 int (*on_item)(void *context, const struct item *item), void *context)
{
    const struct walk walk = {codec, frame, last_ms, on_item, context, .glance = true};
    return frame_walk(&walk);
}

static const char *const plain_kinds[] = {"barrier", "change", "empty", "undecodable"};
static const uint16_t record_kinds[] = {
    RECORD_OBJECT_PUT,    RECORD_OBJECT_REMOVE, RECORD_POD_STATUS,   RECORD_POD_ENDED,
    RECORD_NODE_STATUS,   RECORD_EDGE_EVENT,    RECORD_POD_ATTEMPT,  RECORD_VERDICT,
    RECORD_DEVICE_STATUS, RECORD_DEVICE_VALUE,  RECORD_MQTT_MESSAGE, RECORD_TWIN_UPDATE,
    RECORD_DEVICE_STATE,  RECORD_OUTBOX_DONE,   RECORD_SESSION_OPEN, RECORD_DOWN_ACK,
    RECORD_UP_BATCH,      RECORD_DOWN_BATCH,    RECORD_UP_ACK,       RECORD_SNAPSHOT,
    RECORD_STREAM_INIT,   RECORD_CLUSTER_INIT,  RECORD_SETTING,      RECORD_GAP,
    RECORD_MEMBER_KEY,
};

bool item_kind_known(const char *kind)
{
    const char *slash = strchr(kind, '/');
    if (slash != NULL) {
        static const char *const outers[] = {"down_batch/", "up_batch/", "snapshot/"};
        for (size_t i = 0; i < sizeof outers / sizeof outers[0]; i++) {
            if (strncmp(kind, outers[i], strlen(outers[i])) == 0) {
                return strchr(slash + 1, '/') == NULL && item_kind_known(slash + 1);
            }
        }
        return false;
    }
    for (size_t i = 0; i < sizeof plain_kinds / sizeof plain_kinds[0]; i++) {
        if (strcmp(kind, plain_kinds[i]) == 0) {
            return true;
        }
    }
    unsigned type;
    char end;
    return record_kind_parse(kind) != RECORD_NONE ||
           (sscanf(kind, "frame_%3u%c", &type, &end) == 1 && type <= UINT8_MAX);
}

bool item_op_known(const char *op)
{
    static const char *const ops[] = {
        "create",  "update",   "put",  "delete", "unuse", "report", "end",
        "attempt", "conclude", "open", "ack",    "ship",  "begin",  "rows",
        "init",    "set",      "gap",  "say",    "done",
    };
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (strcmp(op, ops[i]) == 0) {
            return true;
        }
    }
    return false;
}

bool item_kind_is(const struct item *item, const char *kind)
{
    const char *slash = strchr(kind, '/');
    if (slash == NULL) {
        return strcmp(item->kind, kind) == 0;
    }
    return item->outer != NULL && strncmp(item->outer, kind, (size_t)(slash - kind)) == 0 &&
           item->outer[slash - kind] == '\0' && strcmp(item->kind, slash + 1) == 0;
}

void item_help(struct out *out)
{
    out_text(
        out,
        "Columns:\n"
        "  OFFSET  place in this log; every record of one frame has the same\n"
        "  TERM    raft's term (0 in the log of an edge)\n"
        "  TIME    of the record, else of what holds it, else of the record before; '-': not "
        "known\n"
        "  KIND    what it is; OUTER/KIND: it lies in a batch or a snapshot\n"
        "  OP      what it does, in one word; '-': nothing to say\n"
        "  KEY     the row it concerns: group/resource/namespace/name, the core group is empty\n"
        "  SIZE    bytes of the record\n"
        "With -o wide also:\n"
        "  ORIGIN  who made it\n"
        "  USER    who asked for it\n"
        "  SEQ     its place in the stream that shipped it\n"
        "  NODE    the node it concerns\n"
        "  TRACE   follows one request through all logs\n"
        "\n"
        "Fields of -o json and -o jsonl, one object per record; json is one array of them:\n"
        "  offset, term, size, sequence   numbers\n"
        "  time                           text as in the column, or null\n"
        "  kind, op, key, origin, user, node\n"
        "                                 text, \"\" when there is none\n"
        "  trace                          text of 16 hexadecimal digits, \"\" when there is none\n"
        "  body                           an object as its kind has it; null when there is none,\n"
        "                                 or when it cannot be decoded\n"
        "  masked                         true when the body holds a secret that is not shown\n"
        "\n"
        "-o raw writes the bytes of each record as they are in the log, one after the other;\n"
        "-o hex shows the same. Both refuse a record that holds a secret.\n"
        "\nKinds:\n ");
    for (size_t i = 0; i < sizeof plain_kinds / sizeof plain_kinds[0]; i++) {
        out_print(out, " %s", plain_kinds[i]);
    }
    out_text(out, "\n ");
    char memory[16];
    for (size_t i = 0; i < sizeof record_kinds / sizeof record_kinds[0]; i++) {
        out_print(out, " %s%s", record_kind_text(record_kinds[i], memory), i % 8 == 7 ? "\n " : "");
    }
    out_text(out,
             "\n  kind_N (a record of a newer release), frame_N (a frame of a newer release)\n"
             "\nOps:\n"
             "  create update put delete unuse   objects; unuse: this node needs it no more\n"
             "  report end attempt               facts of an edge\n"
             "  say done                         clients of its broker; what the broker has taken\n"
             "  conclude                         verdicts of the cloud\n"
             "  open ack ship                    sessions\n"
             "  begin rows end                   snapshots\n"
             "  init set gap                     of the log itself\n");
}
