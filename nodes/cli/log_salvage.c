/* salvage: what can be kept of a damaged log.
 *
 *   1. the directory is inspected; with no damage there is nothing to do
 *   2. every segment is read again, over what is damaged: frames before it, and the last unbroken run
 *      of frames behind it
 *   3. the plan: nothing is lost when both meet and nothing in between can have replaced what lies before,
 *      or when the state holds for good what lies between; else everything from the damage on is, and
 *      whose log it is decides what that means
 *   4. --yes, and nobody has the lock: a new log is written beside, the damaged directory is renamed,
 *      the new one takes its name. Nothing is ever destroyed
 *
 * A crash on the way leaves the damaged log under one of its two names, and `log.salvage`, which the next
 * attempt removes.
 *
 * A cloudcore has acknowledged what it wrote to the other cloudcores: one that forgets some of it can
 * make all of them lose it. So that is refused unless asked for twice, and the others are named as the
 * cure. An edge may have shipped records that it then forgets, and would give their numbers to others: it
 * gets a new up stream (a STREAM_INIT behind what is kept), and with it a snapshot of its wishes.
 */
#include "nodes/cli/log_command.h"
#include "nodes/cli/log_decode.h"
#include "nodes/cli/log_state.h"
#include "nodes/options.h"
#include "replication/feed.h"
#include "replication/replica.h"
#include "schemas/check.h"
#include "schemas/status.h"
#include "statemachine/edge.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#define SALVAGE_GROUP_BYTES (4u * 1024u * 1024u) /* appended at once */
#define SALVAGE_GROUP       1024u

struct salvage {
    struct ask *ask;
    struct view view;
    struct state state;
    bool edge;
    char node[LIMIT_NAME_BYTES + 1]; /* of an edge; "" when nothing tells it */
    uint8_t owner[SEGMENT_OWNER_BYTES];
    bool owner_known;
    bool meta_lost; /* both copies are damaged, or the file is missing */
    uint64_t segment_bytes;

    uint64_t *sequences; /* of all segment files */
    uint32_t sequence_count;
    struct extents behind; /* the last unbroken run of frames, to the end of the log */
    uint64_t term;         /* of its newest frame */
    bool gap;              /* something could not be read since, and it may have held frames */
    bool replaced; /* what could not be read before the run may stand for frames before it */
    bool ended;    /* the log ends there */

    /* The plan. */
    bool joined;           /* what lies before the damage and what lies behind it meet */
    uint64_t before_first; /* [before_first, before_next) of what lies before the damage is kept */
    uint64_t before_next;
    uint64_t behind_first; /* and [behind_first, behind_next) of what lies behind it */
    uint64_t behind_next;
    uint64_t index_first; /* of the new log, also when it keeps nothing */
    uint64_t
        fill_next;   /* behind what is kept, up to here, frames that mean nothing stand; 0: none */
    bool loses;      /* acknowledged records */
    bool stream_new; /* the edge needs a new up stream */
};

/* -- what is there ----------------------------------------------------------------------------- */

static void segments_on_name(void *context, const char *name)
{
    struct salvage *salvage = context;
    uint64_t sequence;
    if (segment_name_parse(name, &sequence)) {
        salvage->sequences =
            realloc(salvage->sequences, (salvage->sequence_count + 1) * sizeof *salvage->sequences);
        CHECK(salvage->sequences != NULL);
        salvage->sequences[salvage->sequence_count] = sequence;
        salvage->sequence_count++;
    }
}

static int sequence_order(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void segment_path(const struct salvage *salvage, uint64_t sequence,
                         char path[LIMIT_LOG_PATH_BYTES])
{
    snprintf(path, LIMIT_LOG_PATH_BYTES, "%.*s/%016" PRIx64 ".seg", (int)LIMIT_LOG_PATH_BYTES - 64,
             salvage->view.log, sequence);
}

/* Open a segment of this log; its owner is learnt from the first whose header is sound. */
static int salvage_reader_open(struct salvage *salvage, struct segment_reader *reader,
                               uint64_t sequence)
{
    char path[LIMIT_LOG_PATH_BYTES];
    segment_path(salvage, sequence, path);
    const int status =
        segment_reader_open(reader, path, salvage->owner_known ? salvage->owner : NULL, sequence);
    if (status == 0 && !salvage->owner_known) {
        memcpy(salvage->owner, reader->header.owner, sizeof salvage->owner);
        salvage->owner_known = true;
    }
    if (status == 0 && reader->header.size_bytes > salvage->segment_bytes) {
        salvage->segment_bytes = reader->header.size_bytes;
    }
    return status;
}

/* Begin a run behind what could not be read. */
static void behind_begin(struct salvage *salvage, uint64_t index)
{
    extents_reset(&salvage->behind, index);
    salvage->replaced = salvage->replaced || salvage->gap;
    salvage->gap = false;
}

/* Take a frame into the run. Each says which index must come: one that does not follow means that
 * something between is missing, and begins a new run, which may be empty.
 *
 * That one follows is not enough behind a gap: a truncation may be lost in it, and with it the frames that
 * came in place of those it took. The same term excludes that, for its frames are one leader's. An edge
 * has no terms, and truncates nothing. */
static void behind_take(struct salvage *salvage, const struct segment_frame *frame,
                        uint64_t sequence)
{
    struct extents *behind = &salvage->behind;
    const bool owner = frame->type >= LOG_TYPE_OWNER;
    const bool cuts = frame->type == LOG_TYPE_TRUNCATE && frame->index <= behind->index_next;
    const bool follows = frame->index == behind->index_next;
    if (frame->index == 0) {
        return; /* no frame of ours */
    }
    if (frame->type == LOG_TYPE_RESET ||
        (follows && (salvage->term == 0 || (owner && frame->term == salvage->term)))) {
        salvage->gap = false;
    }
    if (frame->type == LOG_TYPE_RESET) {
        salvage->replaced = false;
    }
    if (cuts && !salvage->gap) {
        extents_truncate(behind, frame->index);
    } else if (frame->type == LOG_TYPE_RESET || !follows || (salvage->gap && (owner || cuts))) {
        behind_begin(salvage, frame->index);
    }
    if (owner) {
        CHECK(extents_add(behind, frame->index, sequence, frame->offset, frame->disk_bytes) == 0);
        salvage->term = frame->term;
    }
}

/* Read one segment over its damage. `last`: none behind it has frames, so what is dead there may be torn. */
static int behind_read_segment(struct salvage *salvage, struct segment_reader *reader,
                               uint64_t sequence, bool last)
{
    struct segment_frame frame;
    int status = salvage_reader_open(salvage, reader, sequence);
    if (status == STATUS_CORRUPT || status == STATUS_FOREIGN || status == -ENOENT) {
        salvage->gap = !salvage->ended;
        return 0; /* nothing of it can be told from anything else */
    }
    uint32_t dead = 0; /* from here on; 0: the last frame was alive */
    bool searched = false;
    while (status == 0) {
        status = segment_reader_next(reader, UINT32_MAX, &frame);
        if (status == SEGMENT_FRAME) {
            /* One bare frame says nothing but its index, which the next one says as well. */
            salvage->gap =
                salvage->gap || (dead != 0 && frame.offset - dead != SEGMENT_FRAME_HEADER_BYTES);
            dead = 0;
            behind_take(salvage, &frame, sequence);
            if (frame.type == LOG_TYPE_SEAL) {
                return 0;
            }
            continue;
        }
        if (status < 0) {
            return status;
        }
        dead = dead != 0 ? dead : reader->offset;
        struct segment_tail tail = {.rotten = true};
        if (last && !searched) {
            status = segment_reader_examine(reader, &tail);
        }
        searched = true;
        if (status < 0) {
            return status;
        }
        if (!tail.rotten ||
            reader->offset + 8 + SEGMENT_FRAME_HEADER_BYTES > reader->header.size_bytes) {
            break;
        }
        segment_reader_seek(reader, reader->offset + 8);
        status = 0;
    }
    if (last) {
        salvage->ended = true; /* what is behind is a torn write: it was never acknowledged */
    } else {
        salvage->gap = true; /* its seal, and what was before that */
    }
    return 0;
}

static int behind_read(struct salvage *salvage)
{
    struct segment_reader reader;
    struct segment_frame frame;
    uint32_t last = 0;
    int status =
        disk_list(salvage->view.inspect.disk, salvage->view.log, segments_on_name, salvage);
    if (status != 0 || salvage->sequence_count == 0) {
        return status;
    }
    qsort(salvage->sequences, salvage->sequence_count, sizeof *salvage->sequences, sequence_order);
    segment_reader_init(&reader, salvage->view.inspect.disk);
    for (uint32_t i = 0; i < salvage->sequence_count; i++) {
        if (salvage_reader_open(salvage, &reader, salvage->sequences[i]) == 0 &&
            segment_reader_next(&reader, UINT32_MAX, &frame) == SEGMENT_FRAME) {
            last = i;
        }
    }
    for (uint32_t i = 0; i < salvage->sequence_count && status == 0; i++) {
        if (i > 0 && salvage->sequences[i] != salvage->sequences[i - 1] + 1) {
            salvage->gap = !salvage->ended;
        }
        status = behind_read_segment(salvage, &reader, salvage->sequences[i], i >= last);
    }
    /* A seal is written once there is a segment to go on in. */
    salvage->gap = salvage->gap || !salvage->ended;
    segment_reader_deinit(&reader);
    return status;
}

/* -- whose it is ------------------------------------------------------------------------------- */

static int node_on_item(void *context, const struct item *item)
{
    struct salvage *salvage = context;
    if (item->decoded && item->record.kind == RECORD_STREAM_INIT) {
        snprintf(salvage->node, sizeof salvage->node, "%s", item->node);
        return 1;
    }
    return 0;
}

static int node_on_frame(void *context, const struct log_frame *frame)
{
    struct salvage *salvage = context;
    int64_t last_ms = 0;
    salvage->edge = frame->type >= LOG_TYPE_DOWN;
    return items_walk(salvage->view.codec, frame, &last_ms, node_on_item, salvage);
}

/* A view of the frames [first, next) that lie in these runs: those behind the damage are not in the
 * inspection's. Given: segment_reader_deinit its reader. */
static struct inspect part_of(const struct inspect *inspect, const struct extents *extents,
                              uint64_t first, uint64_t next)
{
    struct inspect part = *inspect;
    part.extents = *extents;
    part.index_first = first;
    part.index_next = next;
    segment_reader_init(&part.reader, inspect->disk);
    inspect_seek(&part, first);
    return part;
}

/* Edge or cloudcore, and the node's name: by the state, else by the frames. */
static void salvage_identify(struct salvage *salvage)
{
    const struct inspect *inspect = &salvage->view.inspect;
    const struct extents *runs[2] = {&inspect->extents, &salvage->behind};
    struct edge_machine *machine;
    struct log_frame frame;
    if (salvage->state.machine == STATE_EDGE &&
        edge_machine_open(salvage->state.store, NULL, &machine) == STATUS_OK) {
        snprintf(salvage->node, sizeof salvage->node, "%s", edge_machine_meta(machine)->node);
        edge_machine_close(machine);
    }
    for (size_t i = 0; i < 2 && salvage->node[0] == '\0'; i++) {
        struct inspect part =
            part_of(inspect, runs[i], extents_index_first(runs[i]), runs[i]->index_next);
        while (salvage->node[0] == '\0' && inspect_next(&part, &frame) == INSPECT_FRAME) {
            (void)node_on_frame(salvage, &frame);
            if (!salvage->edge) {
                break;
            }
        }
        segment_reader_deinit(&part.reader);
    }
    if (salvage->state.machine != STATE_NONE) {
        salvage->edge = salvage->state.machine == STATE_EDGE;
    }
}

/* -- the plan ---------------------------------------------------------------------------------- */

/* Up to which index raft has a snapshot: a cloudcore's log may begin behind it. 0: none. */
static uint64_t snapshot_index(struct salvage *salvage)
{
    uint8_t *data = NULL;
    size_t size = 0;
    uint64_t index = 0;
    const bool there = inspect_file_get(&salvage->view.inspect, "snapshot", &data, &size) == 0 &&
                       replica_snapshot_index(bytes_of(data, size), &index) == 0;
    free(data);
    return there ? index : 0;
}

static void salvage_plan(struct salvage *salvage)
{
    const struct inspect *inspect = &salvage->view.inspect;
    const uint64_t position = salvage->state.machine == STATE_NONE ? 0 : salvage->state.position;
    const uint64_t held = salvage->edge                        ? position
                          : position < snapshot_index(salvage) ? position
                                                               : snapshot_index(salvage);
    const uint64_t behind_first = extents_index_first(&salvage->behind);
    const uint64_t behind_next = salvage->behind.index_next;
    const bool known = behind_next > 0 && !salvage->gap; /* some frame says where the log goes on */
    salvage->before_first = inspect->index_first;
    salvage->before_next = inspect->index_next;
    salvage->index_first = inspect->index_first;
    salvage->behind_first = behind_first;
    salvage->behind_next = behind_first; /* nothing, until it is said */
    if (known && !salvage->replaced && behind_first <= inspect->index_next &&
        behind_next >= inspect->index_next) {
        salvage->joined = true; /* what is damaged told nothing that is missing */
        salvage->before_first =
            inspect->index_first < behind_first ? inspect->index_first : behind_first;
        salvage->before_next = behind_first;
        salvage->index_first = salvage->before_first;
        salvage->behind_next = behind_next;
        return;
    }
    if (known && held + 1 >= behind_first && position < behind_next) {
        salvage->before_next = salvage->before_first;
        salvage->index_first = behind_first;
        salvage->behind_next = behind_next;
        return;
    }
    salvage->loses = true;
    salvage->stream_new = salvage->edge;
    if (salvage->replaced && behind_first < inspect->index_next) { /* from there on it is void */
        salvage->before_next = behind_first;
        salvage->before_first =
            behind_first < salvage->before_first ? behind_first : salvage->before_first;
        salvage->index_first = salvage->before_first;
    }
    if (!salvage->edge && position >= salvage->before_next) {
        /* The state holds that already, and would take what is recorded in its place for it. */
        salvage->fill_next = position + 1;
    }
    if (salvage->edge && position + 1 > inspect->index_next) {
        /* The state is ahead of what can be kept: it holds that already, the log goes on behind it. */
        salvage->before_next = salvage->before_first;
        salvage->index_first = position + 1;
    }
}

static uint64_t kept_count(const struct salvage *salvage)
{
    return salvage->before_next - salvage->before_first + salvage->behind_next -
           salvage->behind_first;
}

static void range_print(uint64_t first, uint64_t next, const char *what)
{
    if (next > first) {
        printf("keep    offsets %" PRIu64 " to %" PRIu64 ", %s\n", first, next - 1, what);
    }
}

static void salvage_tell(const struct salvage *salvage)
{
    const struct inspect *inspect = &salvage->view.inspect;
    printf("damage  %s at byte %" PRIu64 ": %s\n", inspect->damage_path, inspect->damage_offset,
           inspect->damage_message);
    if (salvage->state.machine == STATE_NONE) {
        printf("state   none: %s\n", salvage->state.why);
    } else {
        printf("state   %s, holds what was recorded up to offset %" PRIu64 " for good\n",
               state_machine_text(salvage->state.machine), salvage->state.position);
    }
    range_print(salvage->before_first, salvage->before_next, "before the damage");
    range_print(salvage->behind_first, salvage->behind_next, "behind the damage");
    if (kept_count(salvage) == 0) {
        printf("keep    no offsets; the log goes on at %" PRIu64 "\n", salvage->index_first);
    }
    if (!salvage->loses) {
        printf(salvage->joined
                   ? "lose    nothing: what is damaged held no record\n"
                   : "lose    nothing but history: the state holds what was recorded before\n");
        return;
    }
    const uint64_t last = salvage->behind.index_next > inspect->index_next
                              ? salvage->behind.index_next - 1
                              : inspect->index_next;
    const uint64_t from = salvage->edge && salvage->state.position + 1 > inspect->index_next
                              ? salvage->state.position + 1
                          : salvage->edge ? inspect->index_next
                                          : salvage->before_next;
    if (last > from) {
        printf("lose    offsets %" PRIu64 " to %" PRIu64 ", which were acknowledged\n", from, last);
    } else {
        printf("lose    offset %" PRIu64
               " and what may have been behind it, which were acknowledged\n",
               from);
    }
    if (salvage->edge) {
        printf("then    edgecore starts with a new up stream: what the cloud has of this node "
               "stays there,\n"
               "        facts that were lost and not shipped are gone (the next report of each pod "
               "replaces\n"
               "        them), and the cloud sends all wishes of this node again. Pods keep "
               "running.\n");
    } else {
        if (salvage->fill_next > 0) {
            printf("state   is ahead of what is kept: empty entries stand for offsets %" PRIu64
                   " to %" PRIu64 ", which it holds\n",
                   salvage->before_next, salvage->fill_next - 1);
        }
        printf("then    better: do not salvage. Acknowledged records may exist nowhere else than "
               "here and on one\n"
               "        other cloudcore. While the others are up, stop this one, move its data "
               "directory away\n"
               "        and start it: they rebuild it. --lose-acknowledged salvages all the same, "
               "for a cluster\n"
               "        that has nothing else left.\n");
    }
}

/* Why it must not be done; NULL: it may. */
static const char *salvage_obstacle(const struct salvage *salvage)
{
    if (salvage->view.inspect.damage_status == STATUS_FOREIGN) {
        return "it was written by a newer release, or belongs to another node: nothing is damaged";
    }
    if (!salvage->owner_known) {
        return "no segment says whose log it is; move the data directory away and start over";
    }
    if (salvage->meta_lost && !salvage->edge) {
        return "term and vote are lost: this cloudcore could vote twice. Rebuild it from the "
               "others: stop it, "
               "move its data directory away, and start it while all others are up";
    }
    if (salvage->stream_new && salvage->node[0] == '\0') {
        return "nothing tells which node it is; move the data directory away: the cloud sends "
               "everything again";
    }
    if (salvage->edge && salvage->state.machine == STATE_NONE && salvage->index_first > 1) {
        return "the state cannot be read, and the log does not begin at its first record; move the "
               "data "
               "directory away: the cloud sends everything again";
    }
    if (salvage->loses && !salvage->edge && !salvage->ask->lose_acknowledged) {
        return "a cloudcore's acknowledged records would be lost";
    }
    return NULL;
}

/* -- writing ------------------------------------------------------------------------------------ */

struct writer {
    uv_loop_t loop;
    struct disk_uv *uv;
    struct log log;
    struct log_request request; /* the one under way */
    struct log_entry entries[SALVAGE_GROUP];
    struct bytes pieces[SALVAGE_GROUP];
    uint32_t count;
    size_t bytes;
    bool done;
    int status;
    bool closed;
};

static void writer_on_durable(struct log_request *request, int status)
{
    struct writer *writer = request->context;
    writer->done = true;
    writer->status = status;
}

/* Wait for the request under way.
 *   answers   its status; -ENOSPC: it waits for room on the disk, and stays under way until the close */
static int writer_wait(struct writer *writer)
{
    while (!writer->done) {
        if (uv_run(&writer->loop, UV_RUN_ONCE) == 0 && !writer->done) {
            return -ENOSPC;
        }
    }
    return writer->status;
}

/* Forget what was gathered. */
static void writer_drop(struct writer *writer)
{
    for (uint32_t i = 0; i < writer->count; i++) {
        free((void *)(uintptr_t)writer->pieces[i].data);
    }
    writer->count = 0;
    writer->bytes = 0;
}

static int writer_flush(struct writer *writer)
{
    if (writer->count == 0) {
        return 0;
    }
    writer->request = (struct log_request){.callback = writer_on_durable, .context = writer};
    writer->done = false;
    int status = log_append(&writer->log, &writer->request, writer->entries, writer->count);
    status = status == 0 ? writer_wait(writer) : status;
    if (status == 0) {
        writer_drop(writer);
    }
    return status;
}

static int writer_add(struct writer *writer, const struct log_frame *frame)
{
    int status = 0;
    if (writer->count == SALVAGE_GROUP ||
        writer->bytes + frame->payload.size > SALVAGE_GROUP_BYTES) {
        status = writer_flush(writer);
    }
    if (status != 0) {
        return status;
    }
    uint8_t *copy = malloc(frame->payload.size + 1);
    CHECK(copy != NULL);
    if (frame->payload.size > 0) {
        memcpy(copy, frame->payload.data, frame->payload.size);
    }
    struct bytes *piece = &writer->pieces[writer->count];
    *piece = bytes_of(copy, frame->payload.size);
    writer->entries[writer->count] = (struct log_entry){
        .term = frame->term, .type = frame->type, .piece_count = 1, .pieces = piece};
    writer->count++;
    writer->bytes += frame->payload.size;
    return 0;
}

/* Copy frames [first, next) out of a view of the damaged log. */
static int writer_copy(struct writer *writer, const struct inspect *inspect,
                       const struct extents *extents, uint64_t first, uint64_t next)
{
    struct inspect part = part_of(inspect, extents, first, next);
    struct log_frame frame;
    int status = 0;
    while (status == 0 && part.cursor_index < next) {
        status = inspect_next(&part, &frame);
        status = status == INSPECT_FRAME ? writer_add(writer, &frame)
                 : status < 0            ? status
                                         : STATUS_CORRUPT;
    }
    segment_reader_deinit(&part.reader);
    return status != 0 ? status : writer_flush(writer);
}

/* What raft records when it has nothing to say, as the log lends it, so often. */
static int writer_fill(struct writer *writer, uint64_t count, uint64_t term)
{
    static const uint8_t nothing[8];
    const struct log_frame frame = {
        .term = term, .type = LOG_TYPE_BARRIER, .payload = bytes_of(nothing, sizeof nothing)};
    int status = 0;
    for (uint64_t i = 0; i < count && status == 0; i++) {
        status = writer_add(writer, &frame);
    }
    return status != 0 ? status : writer_flush(writer);
}

/* An up stream of this node that was never used. */
static int writer_stream(struct writer *writer, const struct salvage *salvage)
{
    struct codec *codec = codec_create();
    struct timespec now;
    uint64_t stream = 0;
    struct bytes body, record;
    while (stream == 0) {
        CHECK(getrandom(&stream, sizeof stream, 0) == sizeof stream);
        stream &= ~FEED_SNAPSHOT_BIT;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    const struct stream_init init = {.node = salvage->node, .up_stream = stream};
    CHECK(codec_stream_init_build(codec, &init, &body) == 0);
    const struct record whole = {.kind = RECORD_STREAM_INIT,
                                 .origin = salvage->node,
                                 .time_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000,
                                 .body = body};
    CHECK(codec_record_build(codec, &whole, &record) == 0);
    const struct log_frame frame = {.type = LOG_TYPE_UP, .payload = record};
    int status = writer_add(writer, &frame);
    if (status == 0) {
        status = writer_flush(writer);
    }
    codec_destroy(codec);
    return status;
}

/* Whether a file of the directory is kept as it is: what log_file_put put there. */
static bool file_is_kept(const char *name)
{
    uint64_t number;
    int end = 0;
    const bool of_segment = sscanf(name, "%16" SCNx64 "%n", &number, &end) == 1 && end == 16;
    const char *dot = strrchr(name, '.');
    return name[0] != '.' && strcmp(name, "meta") != 0 && strcmp(name, "lock") != 0 &&
           strncmp(name, "spare", 5) != 0 && !of_segment &&
           (dot == NULL || strcmp(dot, ".tmp") != 0);
}

static int file_copy(const char *from, const char *to)
{
    char buffer[65536];
    FILE *in = fopen(from, "re");
    FILE *out = in == NULL ? NULL : fopen(to, "we");
    int status = out == NULL ? -errno : 0;
    size_t got;
    while (status == 0 && (got = fread(buffer, 1, sizeof buffer, in)) > 0) {
        status = fwrite(buffer, 1, got, out) == got ? 0 : -EIO;
    }
    if (status == 0 && (ferror(in) != 0 || fflush(out) != 0 || fsync(fileno(out)) != 0)) {
        status = -EIO;
    }
    if (in != NULL) {
        (void)fclose(in);
    }
    if (out != NULL) {
        (void)fclose(out);
    }
    return status;
}

/* Also gives the new directory and its files the owner of the damaged one: who ran us was root. */
static int files_finish(const char *old, const char *new)
{
    char from[LIMIT_LOG_PATH_BYTES + 300];
    char to[LIMIT_LOG_PATH_BYTES + 300];
    struct stat about;
    int status = 0;
    DIR *listing = opendir(old);
    if (listing == NULL) {
        return -errno;
    }
    for (struct dirent *entry = readdir(listing); entry != NULL && status == 0;
         entry = readdir(listing)) {
        if (file_is_kept(entry->d_name)) {
            snprintf(from, sizeof from, "%s/%s", old, entry->d_name);
            snprintf(to, sizeof to, "%s/%s", new, entry->d_name);
            status = file_copy(from, to);
        }
    }
    (void)closedir(listing);
    listing = status == 0 && stat(old, &about) == 0 ? opendir(new) : NULL;
    for (struct dirent *entry = NULL;
         status == 0 && listing != NULL && (entry = readdir(listing)) != NULL;) {
        if (strcmp(entry->d_name, "..") != 0 && geteuid() == 0 &&
            fchownat(dirfd(listing), entry->d_name, about.st_uid, about.st_gid, 0) != 0) {
            status = -errno;
        }
    }
    if (listing != NULL) {
        (void)fchmod(dirfd(listing), about.st_mode & 07777);
        (void)closedir(listing);
    }
    return status;
}

/* What an attempt that did not come to its end left. */
static int leftover_remove(const char *directory)
{
    DIR *listing = opendir(directory);
    if (listing == NULL) {
        return errno == ENOENT ? 0 : -errno;
    }
    int status = 0;
    for (struct dirent *entry = readdir(listing); entry != NULL; entry = readdir(listing)) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            unlinkat(dirfd(listing), entry->d_name, 0) != 0) {
            status = -errno;
        }
    }
    (void)closedir(listing);
    return status == 0 && rmdir(directory) != 0 ? -errno : status;
}

static void writer_on_closed(void *context)
{
    ((struct writer *)context)->closed = true;
}

/* Fill the new log.
 *   answers   0, or the failure of the disk */
static int writer_run(struct writer *writer, struct salvage *salvage, const char *directory)
{
    const struct inspect *inspect = &salvage->view.inspect;
    struct log_recovery recovery;
    struct log_options options = {.directory = directory,
                                  .segment_bytes = (uint32_t)salvage->segment_bytes,
                                  .history_bytes = UINT64_MAX};
    memcpy(options.owner, salvage->owner, sizeof options.owner);
    CHECK(uv_loop_init(&writer->loop) == 0);
    writer->uv = disk_uv_new(&writer->loop);
    CHECK(writer->uv != NULL);
    int status = log_open(&writer->log, disk_uv_disk(writer->uv), &options, &recovery);
    if (status == 0) {
        if (!salvage->meta_lost && inspect->meta.size > 0) {
            status = log_meta_put(&writer->log, inspect->meta);
        }
        writer->request = (struct log_request){.callback = writer_on_durable, .context = writer};
        if (status == 0) {
            status = log_reset(&writer->log, &writer->request, salvage->index_first);
        }
        if (status == 0) {
            status = writer_wait(writer);
        }
        if (status == 0) {
            status = writer_copy(writer, inspect, &inspect->extents, salvage->before_first,
                                 salvage->before_next);
        }
        if (status == 0) {
            status = writer_copy(writer, inspect, &salvage->behind, salvage->behind_first,
                                 salvage->behind_next);
        }
        if (status == 0 && salvage->fill_next > 0) {
            status = writer_fill(writer, salvage->fill_next - salvage->before_next, salvage->term);
        }
        if (status == 0 && salvage->stream_new) {
            status = writer_stream(writer, salvage);
        }
        log_close(&writer->log, writer_on_closed, writer);
        while (!writer->closed) {
            uv_run(&writer->loop, UV_RUN_ONCE);
        }
        writer_drop(writer);
    }
    disk_uv_free(writer->uv);
    while (uv_loop_close(&writer->loop) == UV_EBUSY) {
        uv_run(&writer->loop, UV_RUN_DEFAULT);
    }
    return status;
}

static int salvage_failure(const struct salvage *salvage, const char *doing, int status)
{
    fprintf(stderr, "%s: %s: %s; the damaged log is as it was\n", salvage->ask->command, doing,
            status_text(status));
    return OPTIONS_EXIT_NOTHING;
}

/* The damaged directory gets the name `aside`, the new one takes its own.
 *
 * Where the file system can, in one step, so that there is a log at every moment: the new one is named `aside`
 * first and then changes places with the damaged one. Elsewhere a crash between two renames leaves both, and
 * an empty place between them. */
static int salvage_rename(const char *log, const char *new, const char *aside)
{
    if (rename(new, aside) != 0) {
        return -errno;
    }
    if (renameat2(AT_FDCWD, aside, AT_FDCWD, log, RENAME_EXCHANGE) == 0) {
        return 0;
    }
    int status = -errno;
    if (rename(aside, new) != 0) {
        return -errno;
    }
    if (status != -EINVAL && status != -ENOSYS) { /* it knows of no exchange */
        return status;
    }
    if (rename(log, aside) != 0) {
        return -errno;
    }
    if (rename(new, log) != 0) {
        status = -errno;
        (void)rename(aside, log);
        return status;
    }
    return 0;
}

static int salvage_swap(const struct salvage *salvage, const char *new)
{
    char aside[LIMIT_LOG_PATH_BYTES + 64];
    char stamp[32];
    struct tm parts;
    const time_t now = time(NULL);
    CHECK(gmtime_r(&now, &parts) != NULL);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H%M%SZ", &parts);
    snprintf(aside, sizeof aside, "%s.damaged-%s", salvage->view.log, stamp);
    if (access(aside, F_OK) == 0) {
        return salvage_failure(salvage, "a damaged log of this second is there already", -EEXIST);
    }
    const int status = salvage_rename(salvage->view.log, new, aside);
    if (status != 0) {
        return salvage_failure(salvage, "rename", status);
    }
    char parent[LIMIT_LOG_PATH_BYTES];
    snprintf(parent, sizeof parent, "%.*s/..", (int)sizeof parent - 8, salvage->view.log);
    (void)disk_sync_directory(disk_uv_disk(salvage->view.uv), parent);
    printf("done    the damaged log is %s, the new one %s\n", aside, salvage->view.log);
    return OPTIONS_EXIT_OK;
}

static int salvage_do(struct salvage *salvage)
{
    char new[LIMIT_LOG_PATH_BYTES + 16];
    struct disk_file *lock;
    struct disk *disk = disk_uv_disk(salvage->view.uv);
    int status = disk_lock_directory(disk, salvage->view.log, &lock);
    if (status == STATUS_LOCKED) {
        fprintf(stderr, "%s: its owner is running; stop it first\n", salvage->ask->command);
        return VIEW_EXIT_REFUSED;
    }
    if (status != 0) {
        return salvage_failure(salvage, "cannot lock the directory", status);
    }
    snprintf(new, sizeof new, "%s.salvage", salvage->view.log);
    status = leftover_remove(new);
    struct writer *writer = calloc(1, sizeof *writer);
    CHECK(writer != NULL);
    if (status == 0) {
        status = writer_run(writer, salvage, new);
    }
    if (status == 0) {
        status = files_finish(salvage->view.log, new);
    }
    if (status == 0) {
        status = disk_sync_directory(disk, new);
    }
    free(writer);
    if (status != 0) {
        (void)leftover_remove(new); /* on a full disk its room is wanted */
    }
    const int code = status == 0 ? salvage_swap(salvage, new)
                                 : salvage_failure(salvage, "cannot write the new log", status);
    disk_close(disk, lock);
    return code;
}

static int salvage_run(struct salvage *salvage)
{
    const struct ask *ask = salvage->ask;
    const struct inspect *inspect = &salvage->view.inspect;
    if (inspect->damage_status == 0) {
        printf("nothing is damaged: %" PRIu64 " frames in %u segments\n", inspect->frames,
               inspect->segment_count);
        return OPTIONS_EXIT_NOTHING;
    }
    const char *name = strrchr(inspect->damage_path, '/');
    salvage->meta_lost = name != NULL && strcmp(name, "/meta") == 0;
    static const uint8_t nobody[SEGMENT_OWNER_BYTES];
    salvage->owner_known = memcmp(inspect->owner, nobody, sizeof nobody) != 0;
    memcpy(salvage->owner, inspect->owner, sizeof salvage->owner);
    const int status = behind_read(salvage);
    if (status != 0) {
        return view_failure(&salvage->view, salvage->view.log, status);
    }
    salvage_identify(salvage);
    salvage_plan(salvage);
    salvage_tell(salvage);
    const char *obstacle = salvage_obstacle(salvage);
    fflush(stdout);
    if (obstacle != NULL) {
        fprintf(stderr, "%s: refused: %s\n", ask->command, obstacle);
        return VIEW_EXIT_REFUSED;
    }
    if (!ask->yes) {
        fprintf(stderr, "%s: nothing was done; --yes does it, while the owner is stopped\n",
                ask->command);
        return VIEW_EXIT_REFUSED;
    }
    return salvage_do(salvage);
}

int log_salvage(struct ask *ask)
{
    struct salvage salvage = {.ask = ask};
    extents_init(&salvage.behind);
    int code =
        view_open(&salvage.view, ask->command, ask->words.items[0], INSPECT_VERIFY, ask->out);
    if (code == OPTIONS_EXIT_OK) {
        state_open(&salvage.state, &salvage.view);
        code = salvage_run(&salvage);
        state_close(&salvage.state);
    }
    if (fflush(stdout) != 0 && code == OPTIONS_EXIT_OK) {
        code = OPTIONS_EXIT_NOTHING;
    }
    extents_deinit(&salvage.behind);
    free(salvage.sequences);
    view_close(&salvage.view);
    return code;
}
