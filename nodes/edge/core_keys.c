/* Which cloudcores are not believed though their certificate is good: those that the group has removed.
 *
 * The cloud tells the sha256 of their public keys, all of them, with each Welcome and with the Pong after they have
 * changed (nodes/cloud/core_keys.c). A session is served only by who has applied what the group agreed on after our
 * Hello, so what is told last holds. The edge keeps it in the log's file `shut-out`, and so knows it after a restart
 * without any cloudcore. An older cloudcore tells nothing, and then what was known stays.
 *
 * What can fail: no room to keep it (it is told again with the next session); a damaged file (nothing is known until
 * then, and that is logged).
 */
#include "nodes/edge/core_inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schemas/check.h"

#define KEYS_FILE "shut-out"

int edge_core_keys_open(struct edge_core *core, char *reason)
{
    uint8_t *data = NULL;
    size_t size = 0;
    const int status = log_file_get(core->log, KEYS_FILE, &data, &size);
    if (status == -ENOENT) {
        return 0;
    }
    if (status == STATUS_CORRUPT || (status == 0 && size % CODEC_KEY_BYTES != 0)) {
        edge_core_log(core, LOGGER_WARN, "shut_out_damaged",
                      "file=" KEYS_FILE " reason=which cloudcores were removed is not known until "
                      "one of the others is reached");
        free(data);
        return 0;
    }
    if (status != 0) {
        snprintf(reason, 256, "the log's file " KEYS_FILE " cannot be read: %s",
                 status_text(status));
        return status;
    }
    core->shut_out = data;
    core->shut_out_size = size;
    return 0;
}

void edge_core_keys_take(void *context, struct bytes keys)
{
    struct edge_core *core = context;
    if (keys.size == core->shut_out_size &&
        (keys.size == 0 || memcmp(keys.data, core->shut_out, keys.size) == 0)) {
        return;
    }
    free(core->shut_out);
    core->shut_out = NULL;
    core->shut_out_size = keys.size;
    if (keys.size > 0) {
        core->shut_out = malloc(keys.size);
        CHECK(core->shut_out != NULL);
        memcpy(core->shut_out, keys.data, keys.size);
    }
    const int status = log_file_put(core->log, KEYS_FILE, &keys, 1);
    edge_core_log(core, status == 0 ? LOGGER_INFO : LOGGER_WARN, "shut_out_told",
                  "keys=%zu status=%d", keys.size / CODEC_KEY_BYTES, status);
}

bool edge_core_hears_key(const struct edge_core *core, const char *key)
{
    char text[2 * CODEC_KEY_BYTES + 1];
    for (size_t at = 0; at < core->shut_out_size; at += CODEC_KEY_BYTES) {
        for (size_t i = 0; i < CODEC_KEY_BYTES; i++) {
            snprintf(text + 2 * i, 3, "%02x", core->shut_out[at + i]);
        }
        if (strcmp(text, key) == 0) {
            return false;
        }
    }
    return true;
}
