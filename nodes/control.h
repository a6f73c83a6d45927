/* The state of a running program for whoever sits at the same machine: connect to a unix socket, read
 * one JSON object, end of file. The socket is 0600: only its owner (and root) may ask.
 */
#ifndef KELP_NODES_CONTROL_H
#define KELP_NODES_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#define CONTROL_BYTES 16384u

struct control {
    uv_pipe_t pipe;
    size_t (*report)(void *owner, char *buffer, size_t size);
    void *owner;
    void (*on_close)(void *owner);
    unsigned visitors; /* connections being answered, LIMIT_CONTROL_VISITORS at most: more are closed */
    bool closed;
    char path[108];
};

/* Listen at `path`; a socket that nobody serves any more is replaced.
 *
 *   report   writes one JSON object with a newline, at most `size` bytes; answers how many
 *   answers  0; -ENAMETOOLONG: 107 bytes at most; -EADDRINUSE: somebody serves it; -EEXIST: what is there is
 *            no socket, and stays; -errno. The control is not open then, but its memory is the loop's until
 *            the next turn.
 */
int control_open(struct control *control, uv_loop_t *loop, const char *path,
                 size_t (*report)(void *owner, char *buffer, size_t size), void *owner);
/* Stop and remove the socket; then on_close, from the loop, after the last visitor (may be NULL). */
void control_close(struct control *control, void (*on_close)(void *owner));

#endif
