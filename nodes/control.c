#include "nodes/control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "schemas/check.h"
#include "schemas/limits.h"

struct visitor {
    uv_pipe_t pipe;
    uv_write_t write;
    struct control *control;
    char text[CONTROL_BYTES];
};

/* The owner hears of the end when nobody is being answered any more: the memory is its own again. */
static void control_end_if_left(struct control *control)
{
    if (control->closed && control->visitors == 0 && control->on_close != NULL) {
        control->on_close(control->owner);
    }
}

static void visitor_on_close(uv_handle_t *handle)
{
    struct visitor *visitor = handle->data;
    struct control *control = visitor->control;
    free(visitor);
    CHECK(control->visitors > 0);
    control->visitors--;
    control_end_if_left(control);
}

static void visitor_on_write(uv_write_t *write, int status)
{
    (void)status; /* whoever asked has gone: nobody is left to tell */
    struct visitor *visitor = CONTAINER_OF(write, struct visitor, write);
    uv_close((uv_handle_t *)&visitor->pipe, visitor_on_close);
}

static void control_on_connection(uv_stream_t *stream, int status)
{
    struct control *control = stream->data;
    if (status != 0) {
        return;
    }
    struct visitor *visitor = calloc(1, sizeof *visitor);
    CHECK(visitor != NULL);
    visitor->control = control;
    CHECK(uv_pipe_init(stream->loop, &visitor->pipe, 0) == 0);
    visitor->pipe.data = visitor;
    control->visitors++;
    if (control->visitors > LIMIT_CONTROL_VISITORS) {
        uv_accept(stream, (uv_stream_t *)&visitor->pipe);
        uv_close((uv_handle_t *)&visitor->pipe, visitor_on_close);
        return;
    }
    if (uv_accept(stream, (uv_stream_t *)&visitor->pipe) != 0) {
        uv_close((uv_handle_t *)&visitor->pipe, visitor_on_close);
        return;
    }
    const size_t size = control->report(control->owner, visitor->text, sizeof visitor->text);
    CHECK(size <= sizeof visitor->text);
    uv_buf_t buffer = uv_buf_init(visitor->text, (unsigned)size);
    if (uv_write(&visitor->write, (uv_stream_t *)&visitor->pipe, &buffer, 1, visitor_on_write) !=
        0) {
        uv_close((uv_handle_t *)&visitor->pipe, visitor_on_close);
    }
}

/* Is somebody accepting connections at this path? One who is too busy to (EAGAIN) is there, too. */
static bool is_served(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path));
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return false;
    }
    const bool served =
        connect(fd, (struct sockaddr *)&address, sizeof address) == 0 || errno == EAGAIN;
    close(fd);
    return served;
}

static void control_on_failed_close(uv_handle_t *handle)
{
    (void)handle;
}

int control_open(struct control *control, uv_loop_t *loop, const char *path,
                 size_t (*report)(void *owner, char *buffer, size_t size), void *owner)
{
    if (strlen(path) >= sizeof control->path) {
        return -ENAMETOOLONG;
    }
    struct stat about;
    if (lstat(path, &about) == 0) {
        if (!S_ISSOCK(about.st_mode)) {
            return -EEXIST; /* somebody's file, by a slip in the configuration */
        }
        if (is_served(path)) {
            return -EADDRINUSE;
        }
        unlink(path);
    }
    memset(control, 0, sizeof *control);
    memcpy(control->path, path, strlen(path) + 1);
    control->report = report;
    control->owner = owner;
    CHECK(uv_pipe_init(loop, &control->pipe, 0) == 0);
    control->pipe.data = control;
    const mode_t before = umask(0177);
    int status = uv_pipe_bind(&control->pipe, path);
    umask(before);
    if (status == 0) {
        status = uv_listen((uv_stream_t *)&control->pipe, 16, control_on_connection);
    }
    if (status != 0) {
        uv_close((uv_handle_t *)&control->pipe, control_on_failed_close);
    }
    return status;
}

static void control_on_closed(uv_handle_t *handle)
{
    struct control *control = handle->data;
    control->closed = true;
    control_end_if_left(control);
}

void control_close(struct control *control, void (*on_close)(void *owner))
{
    control->on_close = on_close;
    unlink(control->path);
    uv_close((uv_handle_t *)&control->pipe, control_on_closed);
}
