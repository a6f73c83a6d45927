#include "nodes/edge/bus_broker.h"

#include "nodes/logger.h"
#include "schemas/check.h"
#include "schemas/status.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKOFF_MS 100u
#define LINE_BYTES 512u

/* The configuration is its descriptor 3: the data directory is closed to whom it runs as. */
#define CONFIG_DESCRIPTOR 3
#define CONFIG_PATH       "/dev/fd/3"

struct bus_broker {
    struct bus_broker_options options;
    uv_loop_t *loop;
    char path[1024]; /* of its configuration */
    bool other_user;
    uv_uid_t uid;
    uv_gid_t gid;
    uv_process_t process;
    uv_pipe_t output;
    uint32_t open; /* handles of a child that are not closed */
    uv_timer_t again;
    uint64_t started_ms;
    uint64_t backoff_ms;
    uint64_t starts;
    bool leaving;
    char line[LINE_BYTES];
    size_t line_size;
};

static int broker_write_config(const struct bus_broker *broker)
{
    const struct bus_broker_options *o = &broker->options;
    const int fd = open(broker->path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        return -errno;
    }
    FILE *file = fdopen(fd, "w");
    CHECK(file != NULL);
    fprintf(file,
            "# Written by edgecore whenever it starts: changes are lost.\n"
            "listener %u %s\n"
            "allow_anonymous true\n"
            "persistence false\n"
            "max_queued_messages %u\n"
            "max_queued_bytes %u\n"
            "max_inflight_messages %u\n"
            "max_packet_size %u\n"
            "max_connections %u\n"
            "memory_limit %u\n"
            "persistent_client_expiration %uh\n"
            "set_tcp_nodelay true\n"
            "log_dest stderr\n"
            "log_type error\n"
            "log_type warning\n"
            "log_type notice\n" /* that messages of a client are dropped, its queue being full */
            "log_timestamp false\n"
            "connection_messages false\n",
            o->port, o->host, o->queue_count, LIMIT_BUS_QUEUE_BYTES, LIMIT_BUS_INFLIGHT,
            LIMIT_BUS_PACKET_BYTES, LIMIT_BUS_CLIENTS, LIMIT_BUS_BROKER_BYTES,
            LIMIT_BUS_SESSION_HOURS);
    /* no secret is in it, and whoever it runs as opens it by its descriptor */
    const bool failed = ferror(file) != 0 || fchmod(fd, 0644) != 0;
    return fclose(file) != 0 || failed ? -EIO : 0;
}

/* -- a child --------------------------------------------------------------------------------------------- */

static void broker_start(struct bus_broker *broker);

static void broker_on_again(uv_timer_t *timer)
{
    broker_start(CONTAINER_OF(timer, struct bus_broker, again));
}

/* When the last handle of a child is closed: the next one, after a while. */
static void broker_on_closed(uv_handle_t *handle)
{
    struct bus_broker *broker = handle->data;
    CHECK(broker->open > 0);
    broker->open--;
    if (broker->open > 0 || broker->leaving) {
        return;
    }
    if (uv_now(broker->loop) - broker->started_ms >= LIMIT_BUS_BACKOFF_MS) {
        broker->backoff_ms = BACKOFF_MS;
    }
    uv_timer_start(&broker->again, broker_on_again, broker->backoff_ms, 0);
    broker->backoff_ms = broker->backoff_ms * 2 < LIMIT_BUS_BACKOFF_MS ? broker->backoff_ms * 2
                                                                       : LIMIT_BUS_BACKOFF_MS;
}

static void broker_say(struct bus_broker *broker)
{
    broker->line[broker->line_size] = '\0';
    if (broker->line_size > 0) {
        logger_warn_limited("broker_said", "reason=%s", broker->line);
    }
    broker->line_size = 0;
}

static void broker_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    static char buffer[4096]; /* handed over before the next one is asked for */
    (void)handle;
    (void)suggested;
    *out = uv_buf_init(buffer, sizeof buffer);
}

static void broker_on_output(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct bus_broker *broker = stream->data;
    for (ssize_t i = 0; i < size; i++) {
        if (buffer->base[i] == '\n' || broker->line_size == LINE_BYTES - 1) {
            broker_say(broker);
        }
        if (buffer->base[i] != '\n') {
            broker->line[broker->line_size] = buffer->base[i];
            broker->line_size++;
        }
    }
    if (size < 0) {
        broker_say(broker);
        uv_close((uv_handle_t *)stream, broker_on_closed);
    }
}

static void broker_on_exit(uv_process_t *process, int64_t code, int number)
{
    struct bus_broker *broker = process->data;
    if (!broker->leaving) {
        logger_warn("broker_ended", "pid=%d code=%lld signal=%d retry_ms=%llu", process->pid,
                    (long long)code, number, (unsigned long long)broker->backoff_ms);
    }
    uv_close((uv_handle_t *)process, broker_on_closed);
}

/* Whoever starts it is to hear what is wrong with it in log lines, like everything else. */
static void broker_start(struct bus_broker *broker)
{
    char *arguments[] = {
        "setpriv", "--pdeathsig", "TERM", (char *)(uintptr_t)broker->options.program,
        "-c",      CONFIG_PATH,   NULL};
    const int config = open(broker->path, O_RDONLY | O_CLOEXEC);
    CHECK(uv_pipe_init(broker->loop, &broker->output, 0) == 0);
    broker->output.data = broker;
    broker->process.data = broker;
    broker->open = 2;
    uv_stdio_container_t stdio[CONFIG_DESCRIPTOR + 1] = {
        {.flags = UV_IGNORE},
        {.flags = UV_IGNORE},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&broker->output},
        {.flags = UV_INHERIT_FD, .data.fd = config},
    };
    const uv_process_options_t options = {
        .exit_cb = broker_on_exit,
        .file = arguments[0],
        .args = arguments,
        .flags = broker->other_user ? UV_PROCESS_SETUID | UV_PROCESS_SETGID : 0,
        .uid = broker->uid,
        .gid = broker->gid,
        .stdio_count = CONFIG_DESCRIPTOR + 1,
        .stdio = stdio,
    };
    const int error = config < 0 ? -errno : 0;
    /* A socket that libmosquitto just opened in a pool thread is not marked yet, and a child would hold it open. */
    (void)close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);
    const int status = error != 0 ? error : uv_spawn(broker->loop, &broker->process, &options);
    broker->started_ms = uv_now(broker->loop);
    broker->starts++;
    if (config >= 0) {
        close(config);
    }
    if (status != 0) {
        logger_warn_limited("broker_not_started", "program=%s by=%s reason=%s",
                            broker->options.program, arguments[0], status_text(status));
        uv_close((uv_handle_t *)&broker->output, broker_on_closed);
        if (config < 0) {
            broker->open--; /* the process handle was never begun */
        } else {
            uv_close((uv_handle_t *)&broker->process, broker_on_closed);
        }
        return;
    }
    logger_info("broker_started", "pid=%d address=%s:%u", broker->process.pid, broker->options.host,
                broker->options.port);
    uv_read_start((uv_stream_t *)&broker->output, broker_on_alloc, broker_on_output);
}

/* -- life ------------------------------------------------------------------------------------------------- */

/* Root is more than a broker needs. */
static void broker_find_user(struct bus_broker *broker)
{
    if (geteuid() != 0) {
        return;
    }
    const struct passwd *user = getpwnam("mosquitto");
    user = user != NULL ? user : getpwnam("nobody");
    if (user != NULL) {
        broker->other_user = true;
        broker->uid = user->pw_uid;
        broker->gid = user->pw_gid;
    }
}

/* An address, not a name that begins like one. */
static bool broker_host_is_ours(const char *host)
{
    struct sockaddr_in v4;
    return strcmp(host, "::1") == 0 ||
           (uv_ip4_addr(host, 0, &v4) == 0 && ntohl(v4.sin_addr.s_addr) >> 24 == 127);
}

struct bus_broker *bus_broker_open(uv_loop_t *loop, const struct bus_broker_options *options,
                                   char *reason)
{
    if (!broker_host_is_ours(options->host)) {
        snprintf(reason, 512,
                 "the broker of edgecore asks nobody for a password, so it listens on this machine "
                 "alone: "
                 "use 127.0.0.1, not %s, or run a mosquitto of your own and name it in "
                 "eventBus.external",
                 options->host);
        return NULL;
    }
    if (access(options->program, X_OK) != 0) {
        snprintf(reason, 512,
                 "the broker %s cannot be run: %s\n  install it (Debian: apt-get install "
                 "--no-install-recommends "
                 "mosquitto), or name another one in eventBus.program",
                 options->program, strerror(errno));
        return NULL;
    }
    struct bus_broker *broker = calloc(1, sizeof *broker);
    CHECK(broker != NULL);
    broker->options = *options;
    broker->loop = loop;
    broker->backoff_ms = BACKOFF_MS;
    snprintf(broker->path, sizeof broker->path, "%s/mosquitto.conf", options->data);
    broker_find_user(broker);
    const int status = broker_write_config(broker);
    if (status != 0) {
        snprintf(reason, 512, "cannot write %.256s: %s", broker->path, status_text(status));
        free(broker);
        return NULL;
    }
    CHECK(uv_timer_init(loop, &broker->again) == 0);
    broker_start(broker);
    return broker;
}

void bus_broker_leave(struct bus_broker *broker)
{
    broker->leaving = true;
    uv_timer_stop(&broker->again);
    if (broker->open > 0 && uv_is_active((const uv_handle_t *)&broker->process)) {
        (void)uv_process_kill(&broker->process, SIGTERM);
    }
}

uint64_t bus_broker_starts(const struct bus_broker *broker)
{
    return broker->starts;
}
