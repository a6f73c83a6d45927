#include "tests/log/fixture.h"

#include "schemas/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void note_on_done(struct log_request *request, int status)
{
    struct note *note = request->context;
    note->fixture->called++;
    note->fixture->status = status;
    note->order = note->fixture->called;
}

int note_append(struct fixture *f, struct note *note, uint64_t term, const void *data, size_t size)
{
    note->fixture = f;
    note->order = 0;
    note->piece = bytes_of(data, size);
    note->entry = (struct log_entry){
        .term = term, .type = LOG_TYPE_COMMAND, .piece_count = 1, .pieces = &note->piece};
    note->request.callback = note_on_done;
    note->request.context = note;
    return log_append(&f->log, &note->request, &note->entry, 1);
}

void fixture_init(struct fixture *f)
{
    *f = (struct fixture){0};
    sim_init(&f->sim, 1);
    disk_sim_init(&f->disk, &f->sim);
    f->options = (struct log_options){
        .directory = DIRECTORY, .owner = {0xaa, 0xbb}, .segment_bytes = SEGMENT_BYTES_MIN};
}

int fixture_open(struct fixture *f)
{
    return log_open(&f->log, &f->disk.disk, &f->options, &f->recovery);
}

void fixture_run(struct fixture *f)
{
    while (sim_step(&f->sim)) {
    }
}

int fixture_append(struct fixture *f, uint64_t term, const void *data, size_t size)
{
    struct note note;
    const int status = note_append(f, &note, term, data, size);
    if (status != 0) {
        return status;
    }
    while (note.order == 0 && sim_step(&f->sim)) {
    }
    assert_int_not_equal(note.order, 0);
    return f->status;
}

static void on_closed(void *context)
{
    struct fixture *f = context;
    f->closed = true;
}

void fixture_close(struct fixture *f)
{
    f->closed = false;
    log_close(&f->log, on_closed, f);
    while (!f->closed && sim_step(&f->sim)) {
    }
    assert_true(f->closed);
    assert_null(f->disk.files); /* every file was given back */
}

void fixture_crash(struct fixture *f, enum disk_sim_crash how)
{
    disk_sim_crash(&f->disk, how);
    log_forget(&f->log);
}

void fixture_deinit(struct fixture *f)
{
    disk_sim_deinit(&f->disk);
    sim_deinit(&f->sim);
}

void fixture_segment_path(uint64_t sequence, char out_path[64])
{
    char name[SEGMENT_NAME_BYTES];
    segment_name_format(sequence, name);
    snprintf(out_path, 64, "%s/%s", DIRECTORY, name);
}
