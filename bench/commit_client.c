/* Our client of `commit`: a request is a batch of records for the door of commit_group.c.
 *
 *     commit_client --target PORT [--batch N] [--flight N] [--ms N]
 *
 * See load.h; the door's words are in commit_group.c.
 */
#include "bench/load.h"

#include "schemas/bytes.h"
#include "schemas/check.h"
#include "schemas/status.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEADER_BYTES 8u
#define ANSWER_BYTES 8u

static struct load load;
static uint8_t *request;

static void request_send(int handle, uint32_t slot)
{
    put_le32(request, slot);
    put_le32(request + 4, load.batch);
    for (uint32_t i = 0; i < load.batch; i++) {
        (void)load_record(&load, request + HEADER_BYTES + (size_t)i * LOAD_RECORD_BYTES);
    }
    load_begin(&load, slot);
    const size_t size = HEADER_BYTES + (size_t)load.batch * LOAD_RECORD_BYTES;
    load_send(handle, request, size);
}

/* One read, and what whole answers are in it. */
static void answers_take(int handle)
{
    static uint8_t buffer[LOAD_FLIGHT_MAX * ANSWER_BYTES];
    static size_t size;
    size += load_receive(handle, buffer + size, sizeof buffer - size);
    size_t at = 0;
    for (; size - at >= ANSWER_BYTES; at += ANSWER_BYTES) {
        const uint32_t slot = get_le32(buffer + at);
        const int status = (int)get_le32(buffer + at + 4);
        if (slot >= load.flight || status != 0) {
            load_fail("slot %u was answered: %s", slot, status_text(status));
        }
        if (load_end(&load, slot)) {
            request_send(handle, slot);
        }
    }
    memmove(buffer, buffer + at, size - at);
    size -= at;
}

int main(int count, char **arguments)
{
    load_open(&load, "commit_client", count, arguments);
    request = malloc(HEADER_BYTES + (size_t)load.batch * LOAD_RECORD_BYTES);
    CHECK(request != NULL);
    const int handle = load_connect(&load);
    load_start(&load);
    for (uint32_t slot = 0; slot < load.flight; slot++) {
        request_send(handle, slot);
    }
    while (!load_over(&load)) {
        answers_take(handle);
    }
    close(handle);
    load_print(&load);
    free(request);
    return 0;
}
