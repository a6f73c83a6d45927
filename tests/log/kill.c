/* Claim: kill -9 of a process under load loses nothing that it was told is durable.
 *
 * Method: a child appends, truncates, releases and puts meta on the real file system as fast as it
 * goes, and writes what was acknowledged into memory it shares with this process. It is killed at a
 * random moment; this process opens the log as the next one would and reads every frame: its
 * content follows from its index and its generation (the term), which rises with each truncation.
 *
 *     kill [--rounds N] [--seed S] [--directory DIR]
 */
#include "log/disk_uv.h"
#include "log/log.h"
#include "schemas/check.h"
#include "schemas/status.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#define IN_FLIGHT 32u
#define SIZE_MAX_ 6000u

/* Shared with the child: what the parent holds it to. */
struct shared {
    _Atomic uint64_t acknowledged_next; /* frames below are durable */
    _Atomic uint64_t meta;
    _Atomic uint64_t released;
};

static struct shared *shared;
static uint64_t random_state;
static const char *directory;

static uint64_t next_random(void)
{
    random_state += 0x9e3779b97f4a7c15u;
    uint64_t z = random_state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint32_t content_fill(uint64_t index, uint64_t term, uint8_t out[SIZE_MAX_])
{
    const uint32_t size = (uint32_t)((index * 2654435761u + term * 40503u) % SIZE_MAX_);
    for (uint32_t i = 0; i < size; i++) {
        out[i] = (uint8_t)(index * 31 + term * 7 + i);
    }
    return size;
}

static int open_log(struct log *log, struct disk_uv *uv, struct log_recovery *recovery)
{
    const struct log_options options = {.directory = directory,
                                        .owner = "killed log test",
                                        .segment_bytes = 1024 * 1024,
                                        .history_bytes = 2 * 1024 * 1024,
                                        .early_bytes = 2048}; /* batches queue up */
    const int status = log_open(log, disk_uv_disk(uv), &options, recovery);
    if (status != 0) {
        fprintf(stderr, "kill: log_open: %s (%s at %llu)\n", recovery->message, recovery->path,
                (unsigned long long)recovery->damage_offset);
    }
    return status;
}

/* -- the child ------------------------------------------------------------------------------- */

struct slot {
    struct log_request request;
    struct log_entry entry;
    struct bytes piece;
    bool busy;
    uint8_t data[SIZE_MAX_];
};

static struct log child_log;
static struct slot slots[IN_FLIGHT];
static struct log_request truncation;
static bool truncating;
static uint64_t term;
static uint64_t calls;

static void child_fill(void);

static void on_durable(struct log_request *request, int status)
{
    CHECK(status == 0);
    struct slot *slot = request->context;
    slot->busy = false;
    if (!truncating) { /* else it is about to go again */
        shared->acknowledged_next = request->index + 1;
    }
    calls++;
    if (calls % 50 == 0) {
        const uint64_t value = shared->meta + 1;
        CHECK(log_meta_put(&child_log, bytes_of(&value, sizeof value)) == 0);
        shared->meta = value;
    }
    if (calls % 400 == 0) {
        shared->released = request->index > 200 ? request->index - 200 : 1;
        log_release(&child_log, shared->released);
    }
    child_fill();
}

static void on_truncated(struct log_request *request, int status)
{
    (void)request;
    CHECK(status == 0);
    truncating = false;
    child_fill();
}

static void child_fill(void)
{
    for (uint32_t i = 0; i < IN_FLIGHT && !truncating; i++) {
        struct slot *slot = &slots[i];
        if (slot->busy) {
            continue;
        }
        if (next_random() % 200 == 0 && log_index_next(&child_log) > shared->released + 150) {
            term++;
            truncating = true;
            truncation.callback = on_truncated;
            const uint64_t index = log_index_next(&child_log) - next_random() % 20;
            if (index < shared->acknowledged_next) {
                shared->acknowledged_next = index;
            }
            CHECK(log_truncate(&child_log, &truncation, index) == 0);
            return;
        }
        slot->piece =
            bytes_of(slot->data, content_fill(log_index_next(&child_log), term, slot->data));
        slot->entry = (struct log_entry){
            .term = term, .type = LOG_TYPE_UP, .piece_count = 1, .pieces = &slot->piece};
        slot->request.callback = on_durable;
        slot->request.context = slot;
        slot->busy = true;
        CHECK(log_append(&child_log, &slot->request, &slot->entry, 1) == 0);
    }
}

static void child(void)
{
    struct disk_uv *uv = disk_uv_new(uv_default_loop());
    struct log_recovery recovery;
    if (open_log(&child_log, uv, &recovery) != 0) {
        _exit(1);
    }
    term = recovery.term_last + 1;
    child_fill();
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    _exit(2);
}

/* -- the parent ------------------------------------------------------------------------------ */

static void on_closed(void *context)
{
    *(bool *)context = true;
}

/* Open as the next process would, and look at everything. */
static uint64_t verify(uint64_t *out_cut)
{
    uv_loop_t loop;
    CHECK(uv_loop_init(&loop) == 0);
    struct disk_uv *uv = disk_uv_new(&loop);
    struct log log;
    struct log_recovery recovery;
    if (open_log(&log, uv, &recovery) != 0) {
        exit(1);
    }
    const uint64_t must = shared->acknowledged_next;
    if (recovery.index_next < must || recovery.index_first > shared->released + 1) {
        fprintf(stderr, "kill: [%llu, %llu) is there, [%llu, %llu) must be\n",
                (unsigned long long)recovery.index_first, (unsigned long long)recovery.index_next,
                (unsigned long long)shared->released, (unsigned long long)must);
        exit(1);
    }
    struct log_cursor cursor;
    log_cursor_open(&cursor, &log, recovery.index_first);
    for (uint64_t index = recovery.index_first; index < recovery.index_next; index++) {
        struct log_frame frame;
        static uint8_t data[SIZE_MAX_];
        CHECK(log_cursor_next(&cursor, &frame) == LOG_CURSOR_FRAME);
        CHECK(frame.index == index);
        const struct bytes wanted = bytes_of(data, content_fill(index, frame.term, data));
        CHECK(bytes_equal(frame.payload, wanted));
    }
    log_cursor_close(&cursor);
    const struct bytes meta = log_meta_get(&log);
    uint64_t value = 0;
    memcpy(&value, meta.data, meta.size);
    CHECK(value == shared->meta || value == shared->meta + 1);
    shared->meta = value;
    shared->acknowledged_next = recovery.index_next; /* seen, so it must stay */
    *out_cut = recovery.cut_bytes;
    bool closed = false;
    log_close(&log, on_closed, &closed);
    while (!closed && uv_run(&loop, UV_RUN_ONCE) != 0) {
    }
    disk_uv_free(uv);
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop) == 0);
    return recovery.index_next;
}

int main(int argc, char **argv)
{
    uint64_t rounds = 10;
    char made[] = "/tmp/kelp-kill-XXXXXX";
    random_state = 1;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--rounds") == 0) {
            rounds = strtoull(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--seed") == 0) {
            random_state = strtoull(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--directory") == 0) {
            directory = argv[i + 1];
        } else {
            fprintf(stderr, "usage: kill [--rounds N] [--seed S] [--directory DIR]\n");
            return 2;
        }
    }
    if (directory == NULL) {
        directory = mkdtemp(made);
        CHECK(directory != NULL);
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    shared->acknowledged_next = 1;
    uint64_t next = 1;
    uint64_t tails = 0;
    uint64_t frames = 0;
    for (uint64_t round = 0; round < rounds; round++) {
        const uint64_t before = next;
        next_random();
        const pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            child();
        }
        /* Not to wait for something: the moment of death is what is tried. */
        const struct timespec life = {.tv_nsec = (long)(1 + next_random() % 120) * 1000000};
        nanosleep(&life, NULL);
        CHECK(kill(pid, SIGKILL) == 0);
        int status;
        CHECK(waitpid(pid, &status, 0) == pid);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
            fprintf(stderr, "kill: the child ended by itself\n");
            return 1;
        }
        uint64_t cut = 0;
        next = verify(&cut);
        tails += cut > 0;
        frames += next > before ? next - before : 0;
    }
    printf("kill: %llu kills, %llu frames, %llu torn tails, 0 lost\n", (unsigned long long)rounds,
           (unsigned long long)frames, (unsigned long long)tails);
    if (directory == made) {
        char command[128];
        snprintf(command, sizeof command, "rm -r '%s'", directory);
        return system(command) == 0 ? 0 : 1;
    }
    return 0;
}
