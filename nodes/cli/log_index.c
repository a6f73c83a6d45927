#include "nodes/cli/log_index.h"

#include "log/crc32c.h"
#include "nodes/options.h"
#include "schemas/check.h"
#include "schemas/status.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEYS_MAGIC        "KELPKEY\n"
#define KEYS_VERSION      1u
#define KEYS_HEADER_BYTES 96u
#define COUNTER_BYTES     20u /* before the text */

/* -- counters --------------------------------------------------------------------------------- */

void counters_deinit(struct counters *counters)
{
    for (uint32_t i = 0; i < counters->capacity; i++) {
        free(counters->list[i].text);
    }
    free(counters->list);
    *counters = (struct counters){0};
}

static struct counter *counters_place(struct counters *counters, uint8_t type, struct bytes text)
{
    uint32_t at = crc32c(type, text.data, text.size) & (counters->capacity - 1);
    while (counters->list[at].text != NULL &&
           (counters->list[at].type != type || !bytes_equal_text(text, counters->list[at].text))) {
        at = (at + 1) & (counters->capacity - 1);
    }
    return &counters->list[at];
}

static void counters_grow(struct counters *counters)
{
    struct counters larger = {.capacity = counters->capacity == 0 ? 64 : 2 * counters->capacity};
    larger.list = calloc(larger.capacity, sizeof *larger.list);
    CHECK(larger.list != NULL);
    for (uint32_t i = 0; i < counters->capacity; i++) {
        const struct counter *counter = &counters->list[i];
        if (counter->text != NULL) {
            *counters_place(&larger, counter->type, bytes_text(counter->text)) = *counter;
        }
    }
    larger.used = counters->used;
    free(counters->list);
    *counters = larger;
}

void counters_add(struct counters *counters, enum counter_type type, struct bytes text,
                  uint64_t count, uint64_t bytes)
{
    if (2 * (counters->used + 1) > counters->capacity) {
        counters_grow(counters);
    }
    struct counter *counter = counters_place(counters, (uint8_t)type, text);
    if (counter->text == NULL) {
        counter->text = strndup((const char *)text.data, text.size);
        CHECK(counter->text != NULL);
        counter->type = (uint8_t)type;
        counters->used++;
    }
    counter->count += count;
    counter->bytes += bytes;
}

void counters_add_item(struct counters *counters, const struct item *item)
{
    char kind[64];
    size_t size = 0;
    if (item->outer != NULL) {
        size = strlen(item->outer);
        CHECK(size + 1 + strlen(item->kind) < sizeof kind);
        memcpy(kind, item->outer, size);
        kind[size] = '/';
        size++;
    }
    memcpy(kind + size, item->kind, strlen(item->kind));
    size += strlen(item->kind);
    counters_add(counters, COUNTER_KIND, bytes_of(kind, size), 1, item->size);
    if (item->key[0] != '\0') {
        const char *slash = strrchr(item->key, '/');
        const size_t prefix = slash == NULL ? 0 : (size_t)(slash + 1 - item->key);
        counters_add(counters, COUNTER_PREFIX, bytes_of(item->key, prefix), 1, item->size);
    }
}

/* -- reading an index ------------------------------------------------------------------------- */

static void keys_path(const struct view *view, uint64_t sequence, const char *suffix,
                      char path[LIMIT_LOG_PATH_BYTES])
{
    snprintf(path, LIMIT_LOG_PATH_BYTES, "%.*s/%016" PRIx64 ".%s", (int)LIMIT_LOG_PATH_BYTES - 64,
             view->log, sequence, suffix);
}

/* Whether these bytes are the index of this segment. Fills what it says. */
static bool keys_accept(const struct view *view, const struct inspect_segment *segment,
                        const uint8_t *data, size_t size, struct keys_segment *out)
{
    if (size < KEYS_HEADER_BYTES || memcmp(data, KEYS_MAGIC, 8) != 0 ||
        get_le32(data + 8) != KEYS_VERSION ||
        get_le32(data + 12) != crc32c(0, data + 16, size - 16) ||
        memcmp(data + 16, view->inspect.owner, SEGMENT_OWNER_BYTES) != 0 ||
        get_le64(data + 32) != segment->sequence || get_le64(data + 40) != segment->index_first ||
        get_le64(data + 48) != segment->index_last || get_le64(data + 56) != segment->used_bytes) {
        return false;
    }
    out->time_min = (int64_t)get_le64(data + 64);
    out->time_max = (int64_t)get_le64(data + 72);
    out->entry_count = get_le64(data + 80);
    out->counter_count = get_le32(data + 88);
    const uint64_t counter_bytes = get_le32(data + 92);
    if (out->entry_count > size / 8 ||
        KEYS_HEADER_BYTES + 8 * out->entry_count + counter_bytes != size) {
        return false;
    }
    out->data = data;
    out->size = size;
    return true;
}

/* Whether a companion may be believed and written over: a file of its own (a hard link would be somebody
 * else's bytes), of who may write the log anyway (another could cut it while it is mapped). */
static bool keys_is_ours(const struct view *view, int fd, struct stat *out_found)
{
    struct stat directory;
    return fstat(fd, out_found) == 0 && S_ISREG(out_found->st_mode) && out_found->st_nlink == 1 &&
           stat(view->log, &directory) == 0 &&
           (out_found->st_uid == 0 || out_found->st_uid == geteuid() ||
            out_found->st_uid == directory.st_uid);
}

/* The most an index of a segment can have: eight bytes and a counter for each record, of which the smallest
 * takes more than half of that. */
static uint64_t keys_bytes_max(const struct inspect_segment *segment)
{
    return KEYS_HEADER_BYTES + 2 * segment->used_bytes;
}

static bool keys_map(const struct view *view, const struct inspect_segment *segment,
                     struct keys_segment *out)
{
    char path[LIMIT_LOG_PATH_BYTES];
    keys_path(view, segment->sequence, "keys", path);
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat found;
    void *data = MAP_FAILED;
    if (fd < 0) {
        return false;
    }
    if (keys_is_ours(view, fd, &found) && found.st_size >= (off_t)KEYS_HEADER_BYTES &&
        (uint64_t)found.st_size <= keys_bytes_max(segment)) {
        data = mmap(NULL, (size_t)found.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    }
    (void)close(fd);
    if (data == MAP_FAILED) {
        return false;
    }
    if (!keys_accept(view, segment, data, (size_t)found.st_size, out)) {
        (void)munmap(data, (size_t)found.st_size);
        return false;
    }
    out->mapped = true;
    return true;
}

const struct keys_segment *keys_segment_find(const struct keys *keys, uint64_t sequence)
{
    for (uint32_t i = 0; i < keys->count; i++) {
        if (keys->segments[i].sequence == sequence) {
            return keys->segments[i].data == NULL ? NULL : &keys->segments[i];
        }
    }
    return NULL;
}

void keys_count(const struct keys_segment *segment, struct counters *counters)
{
    const uint8_t *p = segment->data + KEYS_HEADER_BYTES + 8 * segment->entry_count;
    const uint8_t *end = segment->data + segment->size;
    for (uint32_t i = 0; i < segment->counter_count && end - p >= (ptrdiff_t)COUNTER_BYTES; i++) {
        const size_t size = (size_t)p[18] | (size_t)p[19] << 8;
        if ((size_t)(end - p) < COUNTER_BYTES + size) {
            return;
        }
        counters_add(counters, (enum counter_type)p[16], bytes_of(p + COUNTER_BYTES, size),
                     get_le64(p), get_le64(p + 8));
        p += (COUNTER_BYTES + size + 7) & ~(size_t)7;
    }
}

/* -- making one ------------------------------------------------------------------------------- */

struct building {
    uint64_t *entries;
    size_t count;
    size_t capacity;
    uint32_t offset; /* of the frame that passes */
    int64_t time_min, time_max;
    struct counters counters;
};

static int building_on_item(void *context, const struct item *item)
{
    struct building *building = context;
    counters_add_item(&building->counters, item);
    if (item->time_ms > 0) {
        if (building->time_min == 0 || item->time_ms < building->time_min) {
            building->time_min = item->time_ms;
        }
        if (item->time_ms > building->time_max) {
            building->time_max = item->time_ms;
        }
    }
    if (item->key[0] == '\0') {
        return 0;
    }
    if (building->count == building->capacity) {
        building->capacity = building->capacity == 0 ? 65536 : 2 * building->capacity;
        building->entries =
            realloc(building->entries, building->capacity * sizeof *building->entries);
        CHECK(building->entries != NULL);
    }
    const uint32_t hash = crc32c(0, item->key, strlen(item->key));
    building->entries[building->count] = (uint64_t)hash << 32 | building->offset;
    building->count++;
    return 0;
}

static int entry_compare(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void entries_finish(struct building *building)
{
    size_t kept = 0;
    if (building->count > 0) {
        qsort(building->entries, building->count, sizeof *building->entries, entry_compare);
    }
    for (size_t i = 0; i < building->count; i++) {
        if (i == 0 || building->entries[i] != building->entries[i - 1]) {
            building->entries[kept] = building->entries[i];
            kept++;
        }
    }
    building->count = kept;
}

/* The file as it will be. Given: free it. */
static uint8_t *building_encode(const struct building *building, const struct view *view,
                                const struct inspect_segment *segment, size_t *out_size)
{
    size_t counter_bytes = 0;
    for (uint32_t i = 0; i < building->counters.capacity; i++) {
        const char *text = building->counters.list[i].text;
        counter_bytes += text == NULL ? 0 : (COUNTER_BYTES + strlen(text) + 7) & ~(size_t)7;
    }
    const size_t size = KEYS_HEADER_BYTES + 8 * building->count + counter_bytes;
    uint8_t *data = calloc(1, size);
    CHECK(data != NULL);
    memcpy(data, KEYS_MAGIC, 8);
    put_le32(data + 8, KEYS_VERSION);
    memcpy(data + 16, view->inspect.owner, SEGMENT_OWNER_BYTES);
    put_le64(data + 32, segment->sequence);
    put_le64(data + 40, segment->index_first);
    put_le64(data + 48, segment->index_last);
    put_le64(data + 56, segment->used_bytes);
    put_le64(data + 64, (uint64_t)building->time_min);
    put_le64(data + 72, (uint64_t)building->time_max);
    put_le64(data + 80, building->count);
    put_le32(data + 88, building->counters.used);
    put_le32(data + 92, (uint32_t)counter_bytes);
    uint8_t *p = data + KEYS_HEADER_BYTES;
    if (building->count > 0) {
        memcpy(p, building->entries, 8 * building->count);
    }
    p += 8 * building->count;
    for (uint32_t i = 0; i < building->counters.capacity; i++) {
        const struct counter *counter = &building->counters.list[i];
        if (counter->text != NULL) {
            const size_t text_size = strlen(counter->text);
            put_le64(p, counter->count);
            put_le64(p + 8, counter->bytes);
            p[16] = counter->type;
            p[18] = (uint8_t)text_size;
            p[19] = (uint8_t)(text_size >> 8);
            memcpy(p + COUNTER_BYTES, counter->text, text_size);
            p += (COUNTER_BYTES + text_size + 7) & ~(size_t)7;
        }
    }
    CHECK(p == data + size);
    put_le32(data + 12, crc32c(0, data + 16, size - 16));
    *out_size = size;
    return data;
}

/* Read the segment from its first frame to its seal.
 *   answers   0; INSPECT_GONE: its owner dropped it; STATUS_CORRUPT; the failure of the disk */
static int building_read(struct building *building, struct keys *keys,
                         const struct inspect_segment *segment)
{
    struct view *view = keys->view;
    char path[LIMIT_LOG_PATH_BYTES];
    struct segment_frame frame;
    int64_t last_ms = 0;
    keys_path(view, segment->sequence, "seg", path);
    int status = segment_reader_open(&keys->reader, path, view->inspect.owner, segment->sequence);
    if (status != 0) {
        return status == -ENOENT ? INSPECT_GONE : status;
    }
    while (keys->reader.offset < segment->used_bytes &&
           (status = segment_reader_next(&keys->reader, UINT32_MAX, &frame)) == SEGMENT_FRAME) {
        if (frame.type < LOG_TYPE_OWNER) {
            continue;
        }
        const struct log_frame whole = {
            .index = frame.index, .term = frame.term, .type = frame.type, .payload = frame.payload};
        building->offset = frame.offset;
        (void)items_glance(view->codec, &whole, &last_ms, building_on_item, building);
    }
    if (status < 0 || keys->reader.offset >= segment->used_bytes) {
        return status < 0 ? status : 0;
    }
    struct stat found; /* dead before its end: dropped and reused under our eyes, or damaged */
    return stat(path, &found) == 0 ? STATUS_CORRUPT : INSPECT_GONE;
}

/* Write beside the segment, whole or not at all. It belongs to whom the directory belongs, so that the
 * owner of the log can drop it. Who else makes the same index at this moment writes the same bytes.
 * false: it cannot be written. */
static bool keys_write(const struct view *view, uint64_t sequence, const uint8_t *data, size_t size)
{
    char path[LIMIT_LOG_PATH_BYTES];
    char making[LIMIT_LOG_PATH_BYTES];
    char segment[LIMIT_LOG_PATH_BYTES];
    struct stat directory;
    keys_path(view, sequence, "keys", path);
    keys_path(view, sequence, "keys.tmp", making);
    keys_path(view, sequence, "seg", segment);
    const int fd = open(making, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    struct stat found;
    if (fd < 0) {
        return false;
    }
    if (!keys_is_ours(view, fd, &found) || ftruncate(fd, 0) != 0) {
        (void)close(fd); /* whatever it is, not one byte of it is touched */
        return false;
    }
    size_t done = 0;
    bool good = stat(view->log, &directory) == 0;
    if (good && geteuid() == 0) {
        good = fchown(fd, directory.st_uid, directory.st_gid) == 0;
    }
    while (good && done < size) {
        const ssize_t wrote = write(fd, data + done, size - done);
        good = wrote > 0 || (wrote < 0 && errno == EINTR);
        done += wrote > 0 ? (size_t)wrote : 0;
    }
    good = close(fd) == 0 && good && rename(making, path) == 0;
    if (!good) {
        (void)unlink(making);
    }
    if (access(segment, F_OK) != 0) {
        (void)unlink(path); /* dropped meanwhile: nobody would drop its index */
    }
    return good;
}

/* What is beside the segments and belongs to none: left by one who was killed, or of a segment that was
 * dropped just then. */
static void keys_sweep(const struct view *view)
{
    DIR *listing = opendir(view->log);
    if (listing == NULL || view->inspect.segment_count == 0) {
        if (listing != NULL) {
            (void)closedir(listing);
        }
        return;
    }
    const uint64_t oldest = view->inspect.segments[0].sequence;
    for (struct dirent *entry = readdir(listing); entry != NULL; entry = readdir(listing)) {
        uint64_t sequence;
        int end = 0;
        if (sscanf(entry->d_name, "%16" SCNx64 ".keys%n", &sequence, &end) == 1 && end == 21 &&
            entry->d_name[end] == '\0' && sequence < oldest) {
            (void)unlinkat(dirfd(listing), entry->d_name, 0);
        }
    }
    (void)closedir(listing);
}

static int keys_make(struct keys *keys, const struct inspect_segment *segment,
                     struct keys_segment *out, bool *memory)
{
    struct building building = {0};
    int status = building_read(&building, keys, segment);
    if (status == 0) {
        size_t size;
        entries_finish(&building);
        uint8_t *data = building_encode(&building, keys->view, segment, &size);
        CHECK(keys_accept(keys->view, segment, data, size, out));
        if (keys_write(keys->view, segment->sequence, data, size) &&
            keys_map(keys->view, segment, out)) {
            free(data);
        } else {
            *memory = true;
        }
    }
    free(building.entries);
    counters_deinit(&building.counters);
    return status;
}

/* Whether a segment is for ever as it is: sealed, and frames behind it say that its end is durable. Before
 * that a crash may give it another end. */
static bool segment_rests(const struct inspect *inspect, uint32_t i)
{
    return inspect->segments[i].sealed && i + 1 < inspect->segment_count &&
           inspect->segments[i + 1].used_bytes > SEGMENT_HEADER_BYTES;
}

int keys_open(struct keys *keys, struct view *view)
{
    const struct inspect *inspect = &view->inspect;
    *keys = (struct keys){.view = view, .count = inspect->segment_count};
    segment_reader_init(&keys->reader, inspect->disk);
    keys->segments = calloc(keys->count + 1, sizeof *keys->segments);
    CHECK(keys->segments != NULL);
    uint64_t missing_bytes = 0;
    for (uint32_t i = 0; i < keys->count; i++) {
        const struct inspect_segment *segment = &inspect->segments[i];
        keys->segments[i].sequence = segment->sequence;
        if (segment_rests(inspect, i) && !keys_map(view, segment, &keys->segments[i])) {
            missing_bytes += segment->used_bytes;
        }
    }
    if (missing_bytes == 0) {
        return OPTIONS_EXIT_OK;
    }
    keys_sweep(view);
    bool memory = false;
    int status = 0;
    progress_begin(&view->progress, view->command, "making the key index", missing_bytes);
    for (uint32_t i = 0; i < keys->count && status >= 0; i++) {
        if (segment_rests(inspect, i) && keys->segments[i].data == NULL) {
            status = keys_make(keys, &inspect->segments[i], &keys->segments[i], &memory);
        }
    }
    progress_end(&view->progress);
    if (memory) {
        fprintf(
            stderr,
            "%s: the key index cannot be kept in %s, so each command makes it anew; run it once as "
            "a user who may write there\n",
            view->command, view->log);
    }
    if (status == STATUS_CORRUPT) {
        fprintf(stderr, "%s: a segment of %s is damaged: 'kelp log verify %s' names the place\n",
                view->command, view->log, view->log);
        return VIEW_EXIT_DAMAGED;
    }
    return status < 0 ? view_failure(view, view->log, status) : OPTIONS_EXIT_OK;
}

void keys_close(struct keys *keys)
{
    for (uint32_t i = 0; i < keys->count && keys->segments != NULL; i++) {
        union {
            const uint8_t *lent;
            void *own;
        } data = {.lent = keys->segments[i].data};
        if (data.own != NULL && keys->segments[i].mapped) {
            (void)munmap(data.own, keys->segments[i].size);
        } else {
            free(data.own);
        }
    }
    free(keys->segments);
    segment_reader_deinit(&keys->reader);
    *keys = (struct keys){0};
}

/* -- finding ---------------------------------------------------------------------------------- */

struct hits {
    struct hit {
        uint64_t sequence;
        uint32_t offset;
    } * list;
    size_t count;
    size_t capacity;
};

static void hits_add(struct hits *hits, uint64_t sequence, uint32_t offset)
{
    if (hits->count == hits->capacity) {
        hits->capacity = hits->capacity == 0 ? 256 : 2 * hits->capacity;
        hits->list = realloc(hits->list, hits->capacity * sizeof *hits->list);
        CHECK(hits->list != NULL);
    }
    hits->list[hits->count] = (struct hit){sequence, offset};
    hits->count++;
}

static void hits_of_index(struct hits *hits, const struct keys_segment *segment, uint32_t hash)
{
    const uint8_t *entries = segment->data + KEYS_HEADER_BYTES;
    uint64_t low = 0;
    uint64_t high = segment->entry_count;
    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        if (get_le64(entries + 8 * middle) < (uint64_t)hash << 32) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (; low < segment->entry_count && get_le64(entries + 8 * low) >> 32 == hash; low++) {
        hits_add(hits, segment->sequence, (uint32_t)get_le64(entries + 8 * low));
    }
}

/* The bytes of a key stand in its record as they are: what does not hold them needs no decoding. */
static int hits_of_segment(struct keys *keys, struct hits *hits,
                           const struct inspect_segment *segment, const char *key)
{
    char path[LIMIT_LOG_PATH_BYTES];
    struct segment_frame frame;
    keys_path(keys->view, segment->sequence, "seg", path);
    int status =
        segment_reader_open(&keys->reader, path, keys->view->inspect.owner, segment->sequence);
    if (status != 0) {
        return status == -ENOENT ? 0 : status;
    }
    while (keys->reader.offset < segment->used_bytes &&
           (status = segment_reader_next(&keys->reader, UINT32_MAX, &frame)) == SEGMENT_FRAME) {
        if (frame.type >= LOG_TYPE_OWNER && frame.payload.size > 0 &&
            memmem(frame.payload.data, frame.payload.size, key, strlen(key)) != NULL) {
            hits_add(hits, segment->sequence, frame.offset);
        }
    }
    return status < 0 ? status : 0;
}

/* Whether this frame is still what the log says at its index. */
static bool frame_stands(const struct inspect *inspect, const struct segment_frame *frame,
                         uint64_t sequence)
{
    const struct extent *extent = extents_find(&inspect->extents, frame->index);
    return extent != NULL && extent->sequence == sequence && frame->offset >= extent->offset &&
           frame->offset < extent->offset_end;
}

int keys_find(struct keys *keys, const char *key, enum keys_order order,
              int (*on_frame)(void *context, const struct log_frame *frame), void *context)
{
    struct view *view = keys->view;
    const uint32_t hash = crc32c(0, key, strlen(key));
    struct hits hits = {0};
    int status = 0;
    for (uint32_t i = 0; i < keys->count && status == 0; i++) {
        const struct inspect_segment *segment = &view->inspect.segments[i];
        if (keys->segments[i].data != NULL) {
            hits_of_index(&hits, &keys->segments[i], hash);
        } else if (segment->frames > 0) {
            status = hits_of_segment(keys, &hits, segment, key);
        }
    }
    uint64_t sequence = 0; /* where the reader is */
    for (size_t i = 0; i < hits.count && status == 0; i++) {
        const struct hit *hit = &hits.list[order == KEYS_OLDEST_FIRST ? i : hits.count - 1 - i];
        if (hit->sequence != sequence) {
            char path[LIMIT_LOG_PATH_BYTES];
            keys_path(view, hit->sequence, "seg", path);
            status = segment_reader_open(&keys->reader, path, view->inspect.owner, hit->sequence);
            sequence = status == 0 ? hit->sequence : 0;
        }
        struct segment_frame frame;
        if (status == 0) {
            segment_reader_seek(&keys->reader, hit->offset);
            status = segment_reader_next(&keys->reader, UINT32_MAX, &frame);
        }
        if (status == -ENOENT || status == SEGMENT_DEAD) {
            status = 0; /* its owner dropped it meanwhile */
            continue;
        }
        if (status == 0 && frame_stands(&view->inspect, &frame, hit->sequence)) {
            const struct log_frame whole = {.index = frame.index,
                                            .term = frame.term,
                                            .type = frame.type,
                                            .payload = frame.payload};
            if (on_frame(context, &whole) != 0) {
                break;
            }
        }
    }
    free(hits.list);
    return status < 0 ? view_failure(view, view->log, status) : OPTIONS_EXIT_OK;
}
