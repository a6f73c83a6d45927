/* Can bytes of a peer hurt the WebSocket core? The first byte picks the side and how the rest is cut. */
#include "nodes/net/websocket.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MESSAGE_BYTES_MAX = 2000 };

static void on_message(struct bytes message, void *owner)
{
    struct websocket_core **core = owner;
    if (message.size > MESSAGE_BYTES_MAX) {
        abort();
    }
    if (message.size % 7 == 3) {
        websocket_core_pause(*core);
    }
}
static void on_close(uint16_t code, struct bytes reason, void *owner)
{
    (void)code;
    (void)owner;
    if (reason.size > 123) {
        abort();
    }
}
static void on_mask(uint8_t *bytes, size_t size, void *owner)
{
    (void)owner;
    memset(bytes, 0x11, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct websocket_core_events events = {
        .on_message = on_message, .on_close = on_close, .on_mask = on_mask};
    if (size == 0) {
        return 0;
    }
    struct websocket_core *core = NULL;
    const size_t cut = (size_t)(data[0] >> 1) + 1;
    core = websocket_core_open((data[0] & 1) != 0, MESSAGE_BYTES_MAX, &events, &core);
    for (size_t at = 1; at < size; at += cut) {
        const struct bytes piece = bytes_of(data + at, size - at < cut ? size - at : cut);
        if (websocket_core_feed(core, piece) != 0 || websocket_core_resume(core) != 0) {
            break;
        }
        websocket_core_output_done(core);
    }
    websocket_core_close(core);
    return 0;
}
