/* The loop of a cloudcore: one turn of it, what happens each second, and leaving in order.
 *
 *   1. each turn ends with the core: it does what is due, and says when it wants to run again
 *   2. once a second: room on the disk, the log, links of those that were removed, namespaces
 *   3. a signal, or that the group goes on without us, begins to leave: step by step, each with its time
 */
#include "nodes/cloudcore_inner.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define EXIT_REMOVED 5

/* -- one turn of the loop --------------------------------------------------------------------- */

static void on_core_timer(uv_timer_t *timer)
{
    (void)timer; /* waking the loop is all: on_prepare does the work */
}

static void on_log_closed(void *context)
{
    struct cloudcore *c = context;
    if (status_is_fault(log_status(&c->log))) {
        cloudcore_fatal(c, log_status(&c->log), "the log cannot be closed");
    }
    logger_info("cloudcore_left", "in=order removed=%d", c->removed);
    _exit(
        c->removed
            ? EXIT_REMOVED
            : 0); /* no destructors under the feet of the store's threads; and raft_close may free twice */
}

/* What is applied is in memory tables, and in the log: nothing is lost without this. But the next start need not
 * apply it again, and whoever looks at the state of a stopped cloudcore sees all of it. */
static void flush_on_work(struct replica_work *work)
{
    struct cloudcore *c = CONTAINER_OF(work, struct cloudcore, flush);
    c->flush_status = store_flush(c->store);
}

static void flush_on_done(struct replica_work *work)
{
    struct cloudcore *c = CONTAINER_OF(work, struct cloudcore, flush);
    if (c->flush_status != 0) {
        logger_warn("state_not_flushed", "status=%d reason=%s", c->flush_status,
                    store_error(c->store));
    }
    log_close(&c->log, on_log_closed, c);
}

static void leave_by(struct cloudcore *c, enum leaving step, uint64_t patience_ms)
{
    c->leaving = step;
    c->leave_ms = cloudcore_now().mono_ms + patience_ms;
    logger_debug("cloudcore_leaving", "step=%d", (int)step);
}

/* Another replica leads, as far as that could be had. Who asks from now on hears of others. */
static void leave_drain(struct cloudcore *c)
{
    leave_by(c, LEAVING_DRAINS, LIMIT_STOP_DRAIN_MS);
    api_end_watches(c->api);
    api_server_drain(c->api_server);
    cloud_core_dismiss(c->core, cloudcore_now());
    hub_close(c->hub);
}

static void leave_close(struct cloudcore *c)
{
    leave_by(c, LEAVING_CLOSES, LIMIT_STOP_LINK_MS);
    api_stop(c->api);
    cloud_core_stop(c->core, cloudcore_now());
    api_server_close(c->api_server);
    peers_close(c->peers);
    control_close(&c->control, NULL);
}

static void leave_step(struct cloudcore *c, const struct cloud_core_report *report)
{
    const bool over = cloudcore_now().mono_ms >= c->leave_ms;
    switch (c->leaving) {
    case LEAVING_NOT:
        break;
    case LEAVING_HANDS_OVER:
        if (!report->leads || report->alone || over) {
            leave_drain(c);
        }
        break;
    case LEAVING_DRAINS:
        if ((c->hub == NULL && api_server_drained(c->api_server)) || over) {
            leave_close(c);
        }
        break;
    case LEAVING_CLOSES:
        /* Goodbyes and answers go out first, unless a client does not take them. */
        if (!c->left && ((c->hub == NULL && c->api_server == NULL) || over) &&
            cloud_core_idle(c->core) && c->works == 0) {
            c->left = true;
            cloud_core_rest(c->core);
            c->flush = (struct replica_work){.work = flush_on_work, .done = flush_on_done};
            cloudcore_run(c, &c->flush);
        }
        break;
    }
}

static void on_check(uv_check_t *check)
{
    struct cloudcore *c = check->data;
    c->turn_ns = uv_hrtime();
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct cloudcore *c = prepare->data;
    const struct cloud_core_time at = cloudcore_now();
    const uint64_t next_ms = cloud_core_run(c->core, at);
    const struct cloud_core_report report = cloud_core_report(c->core);
    if (strcmp(c->cluster, report.cluster) != 0) {
        snprintf(c->cluster, sizeof c->cluster, "%s", report.cluster);
    }
    const bool follow = c->devices != NULL && c->leaving == LEAVING_NOT && devices_run(c->devices);
    const bool more = (c->api != NULL && api_changed(c->api)) || follow;
    const uint64_t wait_ms = more || next_ms <= at.mono_ms ? 0 : next_ms - at.mono_ms;
    uv_timer_start(&c->core_timer, on_core_timer, wait_ms, 0);
    if (c->turn_ns != 0) {
        metrics_observe_us(&c->turns, (uv_hrtime() - c->turn_ns) / 1000);
    }
    leave_step(c, &report);
}

/* What is kept for whoever asks why is the first to go. And a log near its limit (the state is flushed too
 * slowly, or not at all) is as bad as a full disk. */
void cloudcore_set_space(struct cloudcore *c)
{
    log_set_history(&c->log, c->space.level == SPACE_PLENTY ? c->settings.history_bytes : 0);
    switch (c->log_limited ? SPACE_NONE : c->space.level) {
    case SPACE_PLENTY:
        cloud_core_set_space(c->core, CLOUD_CORE_SPACE_PLENTY);
        break;
    case SPACE_LOW:
        cloud_core_set_space(c->core, CLOUD_CORE_SPACE_LOW);
        break;
    case SPACE_NONE:
        cloud_core_set_space(c->core, CLOUD_CORE_SPACE_NONE);
        break;
    }
}

static void on_signal(uv_signal_t *handle, int number);

static void on_second(uv_timer_t *timer)
{
    struct cloudcore *c = timer->data;
    if (c->left) {
        return;
    }
    if (c->removed && c->leaving == LEAVING_NOT) {
        logger_error("cloudcore_removed",
                     "replica=%" PRIi64
                     " reason=the group goes on without this data directory, and it leaves; what "
                     "it had is in %s. To bring this number back: an empty data directory, and "
                     "`kelp cluster add`",
                     c->settings.replica, c->settings.data);
        on_signal(&c->signals[0], SIGTERM);
        return;
    }
    const bool limited = log_limited(&c->log);
    if (limited != c->log_limited) {
        c->log_limited = limited;
        logger_warn(limited ? "log_limit_reached" : "log_limit_left",
                    "bytes=%" PRIu64 " limit_bytes=%" PRIu64, log_disk_bytes(&c->log),
                    c->settings.limit_bytes);
        cloudcore_set_space(c);
    }
    if (space_look(&c->space)) {
        cloudcore_set_space(c);
    }
    cloud_core_set_free(c->core, c->space.free_bytes);
    if (log_status(&c->log) !=
        0) { /* of a mark or of a file made ahead: nobody else waits for those */
        cloudcore_fatal(c, log_status(&c->log), "the log cannot be written");
    }
    log_tick(&c->log, program_wall_ms());
    if (c->api != NULL) {
        api_tick(c->api);
    }
    if (c->leaving == LEAVING_NOT) {
        peers_review(c->peers);
        namespaces_step(c->namespaces);
        (void)devices_run(c->devices);
    }
}

static void on_stop_timer(uv_timer_t *timer)
{
    (void)timer;
    logger_warn("cloudcore_left", "reason=not everything ended within %u ms", LIMIT_STOP_MS);
    _exit(0);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct cloudcore *c = handle->data;
    if (c->leaving != LEAVING_NOT) {
        _exit(0); /* asked twice */
    }
    logger_info("cloudcore_stopping", "signal=%d", number);
    leave_by(c, LEAVING_HANDS_OVER, LIMIT_STOP_HANDOVER_MS);
    api_leave(c->api);
    cloud_core_resign(c->core, cloudcore_now());
    uv_timer_start(&c->stop_timer, on_stop_timer, LIMIT_STOP_MS, 0);
}

int cloudcore_loop_start(struct cloudcore *c)
{
    uv_timer_init(&c->loop, &c->core_timer);
    uv_timer_init(&c->loop, &c->second_timer);
    uv_timer_init(&c->loop, &c->stop_timer);
    uv_prepare_init(&c->loop, &c->prepare);
    uv_check_init(&c->loop, &c->check);
    c->second_timer.data = c;
    c->prepare.data = c;
    uv_timer_start(&c->second_timer, on_second, 1000, 1000);
    uv_prepare_start(&c->prepare, on_prepare);
    c->check.data = c;
    uv_check_start(&c->check, on_check);
    static const int numbers[] = {SIGTERM, SIGINT};
    for (size_t i = 0; i < 2; i++) {
        uv_signal_init(&c->loop, &c->signals[i]);
        c->signals[i].data = c;
        const int status = uv_signal_start(&c->signals[i], on_signal, numbers[i]);
        if (status != 0) {
            return program_refuse(&cloudcore_program, "cannot watch signals: %s",
                                  status_text(status));
        }
    }
    return 0;
}
