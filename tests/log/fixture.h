/* One log on one simulated disk, for tests of log/. */
#ifndef KELP_TESTS_LOG_FIXTURE_H
#define KELP_TESTS_LOG_FIXTURE_H

#include "log/log.h"
#include "tests/sim/disk_sim.h"

#define DIRECTORY "/log"

struct fixture {
    struct sim sim;
    struct disk_sim disk;
    struct log log;
    struct log_options options;
    struct log_recovery recovery;
    uint32_t called; /* callbacks so far, and how the last one ended */
    int status;
    bool closed;
};

/* One append of one frame with a text. */
struct note {
    struct log_request request;
    struct log_entry entry;
    struct bytes piece;
    struct fixture *fixture;
    uint32_t order; /* of the callback, from 1; 0: not yet */
};

/* An empty disk and the least options; nothing is open yet. */
void fixture_init(struct fixture *f);
void fixture_deinit(struct fixture *f);
/* log_open with f->options into f->recovery. */
int fixture_open(struct fixture *f);
/* log_close, to its end. */
void fixture_close(struct fixture *f);
/* The machine dies and the log is forgotten. */
void fixture_crash(struct fixture *f, enum disk_sim_crash how);
/* Until nothing is under way. */
void fixture_run(struct fixture *f);
/* Append one frame without waiting. */
int note_append(struct fixture *f, struct note *note, uint64_t term, const void *data, size_t size);
/* Append one frame and wait until it is durable. */
int fixture_append(struct fixture *f, uint64_t term, const void *data, size_t size);
/* The file of a segment. */
void fixture_segment_path(uint64_t sequence, char out_path[64]);

#endif
