/* The pod reconciler over the runtime of the simulator: scenarios, then a random life. */
#include "tests/nodes/pods_rig.h"

#include "schemas/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ONE "\"containers\":[{\"name\":\"a\",\"image\":\"kelp.local/busybox:1\"}]"
#define TWO                                                                                        \
    "\"containers\":[{\"name\":\"a\",\"image\":\"kelp.local/"                                      \
    "busybox:1\"},{\"name\":\"b\",\"image\":\"kelp.local/busybox:1\"}]"
#define EXIT(code, ms)                                                                             \
    "\"containers\":[{\"name\":\"a\",\"image\":\"kelp.local/"                                      \
    "busybox:1\",\"command\":[\"kelp-fake-exit\",\"" code "\",\"" ms "\"]}]"

static struct rig rig;

static int setup(void **state)
{
    (void)state;
    rig_init(&rig, 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(rig.runtime.doubles, 0);
    for (size_t i = 0; i < rig.runtime.start_count; i++) {
        assert_int_equal(rig.runtime.starts[i].count, 1); /* each attempt started once */
        const struct rig_pod *pod = rig_pod(&rig, rig.runtime.starts[i].pod_uid);
        assert_non_null(pod);
        assert_true((int64_t)rig.runtime.starts[i].attempt <=
                    rig_attempt(&rig, pod->uid, rig.runtime.starts[i].container));
    }
    rig_deinit(&rig);
    return 0;
}

static uint8_t condition(const char *uid, const char *type)
{
    const struct pod_status *status = rig_status(&rig, uid);
    for (uint32_t i = 0; i < status->condition_count; i++) {
        if (strcmp(status->conditions[i].type, type) == 0) {
            return status->conditions[i].status;
        }
    }
    return CONDITION_UNKNOWN;
}

/* Claim: a wish becomes a running pod with address, conditions and start times, and an idle pod
 * causes nothing but listings and no further status. */
static void test_a_pod_starts(void **state)
{
    (void)state;
    rig_desire(&rig, "p", rig_json("p", "Always", TWO));
    rig_run(&rig, 3000);
    const struct pod_status *status = rig_status(&rig, "p");
    assert_int_equal(status->phase, POD_RUNNING);
    assert_int_equal(strncmp(status->pod_ip, "10.0.", 5), 0);
    assert_int_equal(strncmp(status->containers[0].container_id, "containerd://", 13), 0);
    assert_string_equal(status->host_ip, "192.0.2.1");
    assert_int_equal(status->container_count, 2);
    assert_int_equal(status->containers[1].state, CONTAINER_RUNNING);
    assert_true(status->containers[1].ready);
    assert_true(status->containers[1].started_ms > 0);
    assert_int_equal(status->containers[1].restart_count, 0);
    assert_int_equal(condition("p", "Ready"), CONDITION_TRUE);
    assert_int_equal(condition("p", "Initialized"), CONDITION_TRUE);
    assert_int_equal(runtime_sim_running(&rig.runtime, "p"), 2);
    const unsigned statuses = rig_pod(&rig, "p")->statuses,
                   creates = rig.runtime.calls[DRIVER_CONTAINER_CREATE];
    rig_run(&rig, 60000);
    assert_int_equal(rig_pod(&rig, "p")->statuses, statuses);
    assert_int_equal(rig.runtime.calls[DRIVER_CONTAINER_CREATE], creates);
}

/* Claim: after kill -9 of the agent its containers are adopted, none is started again, and nothing
 * about them is told twice. */
static void test_restart_of_the_agent_adopts(void **state)
{
    (void)state;
    rig_desire(&rig, "p", rig_json("p", "Always", TWO));
    rig_run(&rig, 3000);
    const unsigned starts = rig.runtime.calls[DRIVER_CONTAINER_START],
                   statuses = rig_pod(&rig, "p")->statuses;
    for (int i = 0; i < 5; i++) {
        rig_crash(&rig);
        rig_run(&rig, 500);
        rig_start(&rig);
        rig_run(&rig, 3000);
    }
    assert_int_equal(rig.runtime.calls[DRIVER_CONTAINER_START], starts);
    assert_int_equal(runtime_sim_running(&rig.runtime, "p"), 2);
    assert_int_equal(rig_pod(&rig, "p")->statuses, statuses);
}

/* Claim: a listing that is older than the wish says nothing about it: a pod that is passed on late,
 * when the runtime was listed already, is adopted all the same. */
static void test_a_late_wish_adopts(void **state)
{
    (void)state;
    rig_desire(&rig, "p", rig_json("p", "Always", TWO));
    rig_run(&rig, 3000);
    rig_crash(&rig);
    rig.late = true;
    rig_start(&rig);
    rig_run(&rig, 500);
    rig_desire(&rig, "p", rig_json("p", "Always", TWO));
    pods_begin(rig.pods);
    rig_run(&rig, 3000);
    assert_int_equal(rig.runtime.calls[DRIVER_SANDBOX_RUN], 1);
    assert_int_equal(rig.runtime.calls[DRIVER_CONTAINER_CREATE], 2);
    assert_int_equal(runtime_sim_running(&rig.runtime, "p"), 2);
    assert_int_equal(rig_container(&rig, "p", "a")->state, CONTAINER_RUNNING);
}

/* Claim: what runs when the state of the agent is lost is adopted by its labels once the wishes are known again, and
 * is neither stopped before nor started a second time; attempts go on from the number that was found; what is not
 * wished any more ends. Method: the records of attempts and statuses are forgotten, after a container was started
 * twice; wishes come late. */
static void test_a_lost_state_adopts(void **state)
{
    (void)state;
    rig_desire(&rig, "p", rig_json("p", "Always", TWO));
    rig_desire(&rig, "q", rig_json("q", "Always", TWO));
    rig_run(&rig, 3000);
    assert_true(runtime_sim_kill(&rig.runtime, "p", "a", 1));
    rig_run(&rig, 3000);
    assert_int_equal(rig_container(&rig, "p", "a")->restart_count, 1);
    const unsigned starts = rig.runtime.calls[DRIVER_CONTAINER_START];
    const unsigned sandboxes = rig.runtime.calls[DRIVER_SANDBOX_RUN];

    rig_crash(&rig);
    rig.lost = true;
    rig_pod(&rig, "p")->attempt_count = 0;
    rig_pod(&rig, "p")->has_status = false;
    rig.late = true;
    rig_start(&rig);
    rig_run(&rig, 5000);
    assert_int_equal(rig.runtime.calls[DRIVER_CONTAINER_STOP], 0);
    assert_int_equal(runtime_sim_running(&rig.runtime, "p"), 2);
    rig_desire(&rig, "p", rig_json("p", "Always", TWO));
    pods_begin(rig.pods);
    rig_run(&rig, 5000);
    assert_int_equal(runtime_sim_running(&rig.runtime, "p"), 2);
    assert_int_equal(runtime_sim_running(&rig.runtime, "q"), 0);
    assert_int_equal(rig.runtime.calls[DRIVER_CONTAINER_START], starts);
    assert_int_equal(rig.runtime.calls[DRIVER_SANDBOX_RUN], sandboxes);
    assert_int_equal(rig_container(&rig, "p", "a")->restart_count, 1);
    assert_int_equal(rig_container(&rig, "p", "b")->restart_count, 0);

    assert_true(runtime_sim_kill(&rig.runtime, "p", "a", 1));
    assert_true(runtime_sim_kill(&rig.runtime, "p", "b", 1));
    rig_run(&rig, 20000);
    assert_int_equal(rig_container(&rig, "p", "a")->restart_count, 2);
    assert_int_equal(rig_container(&rig, "p", "b")->restart_count, 1);
    assert_int_equal(rig.runtime.calls[DRIVER_CONTAINER_START], starts + 2);
}

/* Claim: without room for another container a pod that is new and one whose container has ended wait and say
 * DiskPressure, what runs goes on, few events are told; and all is started once there is room. */
static void test_no_room_is_told_and_waited_out(void **state)
{
    (void)state;
    rig_desire(&rig, "p", rig_json("p", "Always", TWO));
    rig_run(&rig, 3000);
    rig.no_room = true;
    rig_desire(&rig, "new", rig_json("new", "Always", TWO));
    assert_true(runtime_sim_kill(&rig.runtime, "p", "a", 1));
    const unsigned events = rig.events;
    rig_run(&rig, 120000);
    assert_string_equal(rig_container(&rig, "new", "a")->reason, "DiskPressure");
    assert_string_equal(rig_container(&rig, "p", "a")->reason, "DiskPressure");
    assert_int_equal(rig_container(&rig, "p", "b")->state, CONTAINER_RUNNING);
    assert_int_equal(runtime_sim_running(&rig.runtime, "new"), 0);
    assert_int_equal(runtime_sim_running(&rig.runtime, "p"), 1);
    assert_true(rig.events > events);
    assert_true(rig.events < events + 20);

    rig.no_room = false;
    rig_run(&rig, 5000);
    assert_int_equal(runtime_sim_running(&rig.runtime, "new"), 2);
    assert_int_equal(runtime_sim_running(&rig.runtime, "p"), 2);
    assert_int_equal(rig_container(&rig, "new", "a")->state, CONTAINER_RUNNING);
}

/* Claim: wherever the agent dies while a pod starts, each container starts once.
 * Method: a crash after every millisecond of the start, not a sample. */
static void test_a_crash_at_any_moment_of_a_start(void **state)
{
    (void)state;
    for (uint64_t ms = 0; ms < 150; ms++) {
        rig_deinit(&rig);
        rig_init(&rig, 77 + ms);
        rig_desire(&rig, "p", rig_json("p", "Always", TWO));
        rig_run(&rig, ms);
        rig_crash(&rig);
        rig_start(&rig);
        rig_run(&rig, 5000);
        assert_int_equal(runtime_sim_running(&rig.runtime, "p"), 2);
        assert_int_equal(rig.runtime.start_count, 2);
        assert_int_equal(rig.runtime.doubles, 0);
        assert_int_equal(runtime_sim_starts(&rig.runtime, "p", "a", 0), 1);
        assert_int_equal(runtime_sim_starts(&rig.runtime, "p", "b", 0), 1);
        assert_int_equal(rig_attempt(&rig, "p", "a"), 0);
    }
}

/* Claim: a failing container is restarted at once, then after 10 s, 20 s, 40 s ... 300 s; between
 * attempts it waits in CrashLoopBackOff with the exit of the last one. */
static void test_crash_loop_backs_off(void **state)
{
    (void)state;
    rig_desire(&rig, "p", rig_json("p", "Always", EXIT("3", "10")));
    rig_run(&rig, 6000); /* attempts 0 and 1 */
    assert_int_equal(rig_attempt(&rig, "p", "a"), 1);
    const struct container_status *a = rig_container(&rig, "p", "a");
    assert_int_equal(a->state, CONTAINER_WAITING);
    assert_string_equal(a->reason, "CrashLoopBackOff");
    assert_int_equal(a->last_state, CONTAINER_TERMINATED);
    assert_int_equal(a->last_exit_code, 3);
    assert_int_equal(a->restart_count, 1);
    assert_int_equal(rig_status(&rig, "p")->phase, POD_RUNNING);
    assert_int_equal(condition("p", "Ready"), CONDITION_FALSE);
    rig_run(&rig, 8000); /* 10 s after the exit of 1 */
    assert_int_equal(rig_attempt(&rig, "p", "a"), 2);
    rig_run(&rig, 16000);
    assert_int_equal(rig_attempt(&rig, "p", "a"), 2);
    rig_run(&rig, 8000); /* 20 s more */
    assert_int_equal(rig_attempt(&rig, "p", "a"), 3);
    rig_run(&rig, 1000 * (40 + 80 + 160 + 300 + 300 + 20));
    assert_int_equal(rig_attempt(&rig, "p", "a"), 8);
    assert_true(runtime_sim_objects(&rig.runtime, "p") <=
                3); /* sandbox, the last and the one before */
    assert_true(rig.logs_removed >= 6);
}

/* Claim: the back-off outlives the agent: a crash loop is not sped up by restarting the agent. */
static void test_crash_loop_outlives_the_agent(void **state)
{
    (void)state;
    rig_desire(&rig, "p", rig_json("p", "Always", EXIT("3", "10")));
    rig_run(&rig, 1000 * (10 + 20 + 40 + 10));
    const int64_t attempt = rig_attempt(&rig, "p", "a");
    assert_true(attempt >= 4);
    for (int i = 0; i < 10; i++) {
        rig_crash(&rig);
        rig_start(&rig);
        rig_run(&rig, 3000);
    }
    assert_int_equal(rig_attempt(&rig, "p", "a"), attempt);
}

/* Claim: a run of ten minutes was not a crash loop. */
static void test_a_long_run_resets_the_back_off(void **state)
{
    (void)state;
    rig_desire(&rig, "p", rig_json("p", "Always", ONE));
    rig_run(&rig, 3000);
    for (int i = 0; i < 4; i++) {
        rig_run(&rig, 610000);
        assert_true(runtime_sim_kill(&rig.runtime, "p", "a", 1));
        rig_run(&rig, 4000);
        assert_int_equal(rig_attempt(&rig, "p", "a"), i + 1);
        assert_int_equal(rig_container(&rig, "p", "a")->state, CONTAINER_RUNNING);
    }
}

/* Claim: the restart policy decides: OnFailure restarts what failed and lets success end the pod,
 * Never ends it either way; the phase says which, and nothing runs afterwards, even after a crash. */
static void test_restart_policies(void **state)
{
    (void)state;
    static const struct {
        const char *policy, *spec;
        enum pod_phase phase;
        int64_t attempt;
    } cases[] = {
        {"OnFailure", EXIT("0", "10"), POD_SUCCEEDED, 0},
        {"Never", EXIT("0", "10"), POD_SUCCEEDED, 0},
        {"Never", EXIT("5", "10"), POD_FAILED, 0},
        {"OnFailure", EXIT("5", "10"), POD_RUNNING, 1},
        {"Always", EXIT("0", "10"), POD_RUNNING, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rig_deinit(&rig);
        rig_init(&rig, i);
        rig_desire(&rig, "p", rig_json("p", cases[i].policy, cases[i].spec));
        rig_run(&rig, 6000);
        assert_int_equal(rig_status(&rig, "p")->phase, cases[i].phase);
        assert_int_equal(rig_attempt(&rig, "p", "a"), cases[i].attempt);
        rig_crash(&rig);
        rig_start(&rig);
        rig_run(&rig, 3000);
        assert_int_equal(rig_attempt(&rig, "p", "a"), cases[i].attempt);
        assert_int_equal(rig_status(&rig, "p")->phase, cases[i].phase);
    }
}

/* Claim: the life of a pod can be read from its events, as users of the kubelet know them, for each
 * container; the same event again is counted, told ever rarer, and never lost among others. */
static void test_events(void **state)
{
    (void)state;
    rig_desire(&rig, "p", rig_json("p", "Always", TWO));
    rig_run(&rig, 3000);
    static const char *const all[] = {"Pulled/a=1 ", "Created/a=1 ", "Started/a=1 ",
                                      "Pulled/b=1 ", "Created/b=1 ", "Started/b=1 "};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        assert_non_null(strstr(rig.event_log, all[i]));
    }
    assert_true(strstr(rig.event_log, all[1]) < strstr(rig.event_log, all[2]));
    assert_int_equal(rig.events, 6);
    rig_delete(&rig, "p", 1);
    rig_run(&rig, 5000);
    assert_non_null(strstr(rig.event_log, "Killing/a=1 "));
    assert_non_null(strstr(rig.event_log, "Killing/b=1 "));

    rig.event_log[0] = 0;
    rig.events = 0;
    rig_desire(&rig, "q", rig_json("q", "Always", EXIT("3", "10")));
    rig_run(&rig, 1000 * (10 + 20 + 40 + 80 + 10)); /* attempts 0 to 5 */
    assert_int_equal(rig_attempt(&rig, "q", "a"), 5);
    assert_non_null(strstr(rig.event_log, "Started/a=1 "));
    assert_non_null(strstr(rig.event_log, "Started/a=2 "));
    assert_non_null(strstr(rig.event_log, "Started/a=6 "));
    assert_non_null(strstr(rig.event_log, "BackOff/a=4 "));
    assert_true(rig.events <= 6 * 4);

    rig_undesire(&rig, "q");
    rig_run(&rig, 5000);
    rig.event_log[0] = 0;
    rig.events = 0;
    rig_desire(&rig, "r",
               rig_json("r", "Always",
                        "\"containers\":[{\"name\":\"a\",\"image\":\"kelp.local/b:1\","
                        "\"envFrom\":[{\"secretRef\":{\"name\":\"none\"}}]}]"));
    rig_run(&rig, 600000); /* looked for 60 times */
    assert_true(rig.events < 20);
    assert_non_null(strstr(rig.event_log, "Failed/a=5 "));
}

/* Claim: what an environment needs holds up its own container only, says so, and starts it when the
 * object comes; the other container of the pod runs meanwhile. */
static void test_a_missing_environment_holds_up_one_container(void **state)
{
    (void)state;
    rig_desire(&rig, "p",
               rig_json("p", "Always",
                        "\"containers\":[{\"name\":\"a\",\"image\":\"kelp.local/b:1\"},"
                        "{\"name\":\"b\",\"image\":\"kelp.local/b:1\",\"envFrom\":[{"
                        "\"configMapRef\":{\"name\":\"late\"}}]}]"));
    rig_run(&rig, 3000);
    assert_int_equal(rig_container(&rig, "p", "a")->state, CONTAINER_RUNNING);
    assert_string_equal(rig_container(&rig, "p", "b")->reason, "CreateContainerConfigError");
    assert_string_equal(rig_container(&rig, "p", "b")->message, "configmap \"late\" not found");
    assert_non_null(strstr(rig.event_log, "Failed/b=1 "));
    assert_int_equal(rig_attempt(&rig, "p", "b"), -1);
    rig_object(&rig, false, "late", "{\"data\":{\"K\":\"1\"}}");
    rig_run(&rig, 1000);
    assert_int_equal(rig_container(&rig, "p", "b")->state, CONTAINER_RUNNING);
    assert_int_equal(rig_container(&rig, "p", "a")->restart_count, 0);
}

/* Claim: a missing image is told with its reason, first ErrImagePull, then ImagePullBackOff, costs
 * no attempt, and the pod starts once the image is there. */
static void test_missing_image(void **state)
{
    (void)state;
    rig_desire(&rig, "p",
               rig_json("p", "Always",
                        "\"containers\":[{\"name\":\"a\",\"image\":\"nowhere.local/x:1\"}]"));
    rig_run(&rig, 2000);
    assert_string_equal(rig_container(&rig, "p", "a")->reason, "ErrImagePull");
    assert_non_null(strstr(rig_container(&rig, "p", "a")->message, "no such host"));
    assert_int_equal(rig_status(&rig, "p")->phase, POD_PENDING);
    rig_run(&rig, 6000);
    assert_string_equal(rig_container(&rig, "p", "a")->reason, "ImagePullBackOff");
    assert_int_equal(rig_attempt(&rig, "p", "a"), -1);
    rig_run(&rig, 200000);
    assert_true(rig.runtime.calls[DRIVER_IMAGE_PULL] < 8); /* 10, 20, 40, 80 ... */
    runtime_sim_image_add(&rig.runtime, "nowhere.local/x:1");
    rig_run(&rig, 310000);
    assert_int_equal(rig_container(&rig, "p", "a")->state, CONTAINER_RUNNING);
    assert_int_equal(rig_container(&rig, "p", "a")->restart_count, 0);
}

static void test_pull_policies(void **state)
{
    (void)state;
    rig_desire(&rig, "n",
               rig_json("n", "Always",
                        "\"containers\":[{\"name\":\"a\",\"image\":\"registry.local/"
                        "x:1\",\"imagePullPolicy\":\"Never\"}]"));
    rig_run(&rig, 2000);
    assert_string_equal(rig_container(&rig, "n", "a")->reason, "ErrImageNeverPull");
    assert_int_equal(rig.runtime.calls[DRIVER_IMAGE_PULL], 0);
    rig_desire(&rig, "p",
               rig_json("p", "Always",
                        "\"containers\":[{\"name\":\"a\",\"image\":\"registry.local/y:latest\"}]"));
    rig_run(&rig, 2000);
    assert_int_equal(rig_container(&rig, "p", "a")->state, CONTAINER_RUNNING);
    assert_int_equal(rig.runtime.calls[DRIVER_IMAGE_PULL], 1);
}

/* Claim: deletion stops the containers with the grace of the wish, tells how they ended, removes
 * everything, and only then says so, once; after a crash in between too. */
static void test_graceful_deletion(void **state)
{
    (void)state;
    for (int crash = 0; crash < 2; crash++) {
        rig_deinit(&rig);
        rig_init(&rig, 5);
        rig.runtime.stop_us = 4000000;
        rig_desire(&rig, "p", rig_json("p", "Always", TWO));
        rig_run(&rig, 3000);
        rig_delete(&rig, "p", 30);
        rig_run(&rig, 1500);
        if (crash == 1) {
            rig_crash(&rig);
            rig_start(&rig);
        }
        rig_run(&rig, 1500);
        assert_int_equal(rig_pod(&rig, "p")->ends, 0); /* they take 4 s to end */
        assert_int_equal(condition("p", "Ready"), CONDITION_FALSE);
        rig_run(&rig, 4000);
        assert_int_equal(rig_pod(&rig, "p")->ends, 1);
        assert_int_equal(runtime_sim_objects(&rig.runtime, "p"), 0);
        assert_int_equal(rig.files_removed, 1);
        assert_int_equal(rig_container(&rig, "p", "a")->state, CONTAINER_TERMINATED);
        assert_int_equal(rig_container(&rig, "p", "a")->exit_code, 143);
        rig_run(&rig, 5000);
        assert_int_equal(rig_pod(&rig, "p")->ends, 1);
        rig_undesire(&rig, "p");
        rig_run(&rig, 2000);
        assert_int_equal(pods_report(rig.pods).wanted, 0);
        assert_null(pods_status(rig.pods, "p"));
    }
}

/* Claim: a second deletion may shorten the grace. */
static void test_deletion_can_be_hurried(void **state)
{
    (void)state;
    rig.runtime.stop_us = 60000000;
    rig_desire(&rig, "p", rig_json("p", "Always", ONE));
    rig_run(&rig, 3000);
    rig_delete(&rig, "p", 50);
    rig_run(&rig, 5000);
    assert_int_equal(runtime_sim_running(&rig.runtime, "p"), 1);
    rig_delete(&rig, "p", 1);
    rig_run(&rig, 3000);
    assert_int_equal(runtime_sim_running(&rig.runtime, "p"), 0);
}

/* Claim: forced removal: the row is gone at once, and so is all that ran for it, within the grace
 * of an orphan; also when the agent was down at that moment. */
static void test_forced_removal(void **state)
{
    (void)state;
    rig_desire(&rig, "p", rig_json("p", "Always", TWO));
    rig_desire(&rig, "q", rig_json("q", "Always", ONE));
    rig_run(&rig, 3000);
    rig_undesire(&rig, "p");
    rig_run(&rig, 4000);
    assert_int_equal(runtime_sim_objects(&rig.runtime, "p"), 0);
    assert_int_equal(runtime_sim_running(&rig.runtime, "q"), 1);
    rig_crash(&rig);
    rig_undesire(&rig, "q");
    rig_start(&rig);
    rig_run(&rig, 4000);
    assert_int_equal(runtime_sim_objects(&rig.runtime, NULL), 0);
    assert_int_equal(rig_pod(&rig, "p")->ends + rig_pod(&rig, "q")->ends, 0);
    assert_int_equal(rig.files_removed, 2);
}

/* Claim: another image is another container: stopped with its grace and started anew with the next
 * number; a change of anything else restarts nothing. */
static void test_image_change_restarts_one_container(void **state)
{
    (void)state;
    rig_desire(&rig, "p", rig_json("p", "Always", TWO));
    rig_run(&rig, 3000);
    rig_desire(&rig, "p", rig_json("p", "Always", TWO ",\"tolerations\":[]"));
    rig_run(&rig, 3000);
    assert_int_equal(rig.runtime.calls[DRIVER_CONTAINER_STOP], 0);
    rig_desire(&rig, "p",
               rig_json("p", "Always",
                        "\"containers\":[{\"name\":\"a\",\"image\":\"kelp.local/busybox:2\"},"
                        "{\"name\":\"b\",\"image\":\"kelp.local/busybox:1\"}]"));
    rig_run(&rig, 5000);
    assert_int_equal(rig_attempt(&rig, "p", "a"), 1);
    assert_int_equal(rig_attempt(&rig, "p", "b"), 0);
    assert_string_equal(rig_container(&rig, "p", "a")->image, "kelp.local/busybox:2");
    assert_int_equal(rig_container(&rig, "p", "a")->state, CONTAINER_RUNNING);
    assert_int_equal(runtime_sim_running(&rig.runtime, "p"), 2);
}

/* Claim: when the sandbox dies, or the machine, the pod gets the next sandbox and each container
 * its next number; never two at once. */
static void test_sandbox_death_and_reboot(void **state)
{
    (void)state;
    rig_desire(&rig, "p", rig_json("p", "Always", TWO));
    rig_run(&rig, 3000);
    char ip[32];
    snprintf(ip, sizeof ip, "%s", rig_status(&rig, "p")->pod_ip);
    assert_true(runtime_sim_kill_sandbox(&rig.runtime, "p"));
    rig_run(&rig, 5000);
    assert_int_equal(runtime_sim_running(&rig.runtime, "p"), 2);
    assert_int_equal(rig_attempt(&rig, "p", ""), 1);
    assert_int_equal(rig_attempt(&rig, "p", "a"), 1);
    assert_string_not_equal(rig_status(&rig, "p")->pod_ip, ip);
    assert_int_equal(rig_container(&rig, "p", "a")->last_exit_code, 137);
    rig_crash(&rig);
    runtime_sim_reboot(&rig.runtime);
    rig_start(&rig);
    rig_run(&rig, 15000);
    assert_int_equal(runtime_sim_running(&rig.runtime, "p"), 2);
    assert_int_equal(rig_attempt(&rig, "p", ""), 2);
    assert_int_equal(rig_attempt(&rig, "p", "b"), 2);
    assert_int_equal(runtime_sim_objects(&rig.runtime, "p"), 3); /* the remains are cleared */
}

#define INIT                                                                                       \
    "\"initContainers\":[{\"name\":\"i1\",\"image\":\"kelp.local/"                                 \
    "b:1\",\"command\":[\"kelp-fake-exit\",\"0\",\"2000\"]},"                                      \
    "{\"name\":\"i2\",\"image\":\"kelp.local/"                                                     \
    "b:1\",\"command\":[\"kelp-fake-exit\",\"0\",\"2000\"]}]," ONE

/* Claim: init containers run one after the other and before the others; a failing one is retried
 * or, with Never, fails the pod; after a crash of the agent none is repeated. */
static void test_init_containers(void **state)
{
    (void)state;
    rig_desire(&rig, "p", rig_json("p", "Always", INIT));
    rig_run(&rig, 1500);
    assert_int_equal(rig_attempt(&rig, "p", "i1"), 0);
    assert_int_equal(rig_attempt(&rig, "p", "i2"), -1);
    assert_string_equal(rig_container(&rig, "p", "a")->reason, "PodInitializing");
    assert_int_equal(condition("p", "Initialized"), CONDITION_FALSE);
    assert_int_equal(rig_status(&rig, "p")->phase, POD_PENDING);
    rig_run(&rig, 2500);
    assert_int_equal(rig_attempt(&rig, "p", "i2"), 0);
    assert_int_equal(rig_attempt(&rig, "p", "a"), -1);
    rig_crash(&rig);
    rig_start(&rig);
    rig_run(&rig, 4000);
    assert_int_equal(rig_container(&rig, "p", "a")->state, CONTAINER_RUNNING);
    assert_int_equal(rig_status(&rig, "p")->phase, POD_RUNNING);
    rig_run(&rig, 5000);
    assert_int_equal(rig_attempt(&rig, "p", "i1"), 0);
    assert_int_equal(rig_attempt(&rig, "p", "i2"), 0);
    rig_desire(
        &rig, "f",
        rig_json("f", "Never",
                 "\"initContainers\":[{\"name\":\"i\",\"image\":\"kelp.local/b:1\",\"command\":"
                 "[\"kelp-fake-exit\",\"4\",\"10\"]}]," ONE));
    rig_run(&rig, 4000);
    assert_int_equal(rig_status(&rig, "f")->phase, POD_FAILED);
    assert_int_equal(rig_attempt(&rig, "f", "a"), -1);
}

/* Claim: a pod waits for what it refers to, says for what, and starts when it is there. */
static void test_references_are_waited_for(void **state)
{
    (void)state;
    rig_desire(
        &rig, "p",
        rig_json(
            "p", "Always",
            "\"volumes\":[{\"name\":\"v\",\"configMap\":{\"name\":\"conf\"}}],\"containers\":[{"
            "\"name\":\"a\","
            "\"image\":\"kelp.local/b:1\",\"env\":[{\"name\":\"K\",\"valueFrom\":{\"secretKeyRef\":"
            "{\"name\":\"s\",\"key\":\"k\"}}}]}]"));
    rig_run(&rig, 2000);
    assert_string_equal(rig_container(&rig, "p", "a")->reason, "ContainerCreating");
    assert_string_equal(rig_container(&rig, "p", "a")->message, "configmap \"conf\" not found");
    rig_run(&rig, 5000);
    assert_string_equal(rig.event_log, "FailedMount/=1 "); /* once, not with every look */
    rig_object(&rig, true, "s", "{\"data\":{\"other\":\"eA==\"}}");
    rig_object(&rig, false, "conf", "{\"data\":{\"x\":\"1\"}}");
    rig_run(&rig, 2000);
    assert_string_equal(rig_container(&rig, "p", "a")->reason, "CreateContainerConfigError");
    assert_non_null(
        strstr(rig_container(&rig, "p", "a")->message, "couldn't find key k in Secret default/s"));
    assert_int_equal(rig_attempt(&rig, "p", "a"), -1); /* it took no number */
    rig_object(&rig, true, "s", "{\"data\":{\"k\":\"eA==\"}}");
    rig_run(&rig, 2000);
    assert_int_equal(rig_container(&rig, "p", "a")->state, CONTAINER_RUNNING);
    const unsigned written = rig.files_written;
    rig_object(&rig, false, "conf", "{\"data\":{\"x\":\"2\"}}");
    rig_run(&rig, 500);
    assert_int_equal(rig.files_written, written + 1); /* refreshed, without a restart */
    assert_int_equal(rig_attempt(&rig, "p", "a"), 0);
    rig_object(&rig, true, "s", "{\"data\":{\"k\":\"eQ==\"}}");
    rig_run(&rig, 500);
    assert_int_equal(rig.files_written, written + 1); /* env is of the start */
}

/* Claim: what cannot be done is said: a pod with a volume of a kind we do not have stays pending
 * with the reason; a probe is shown as not supported while the pod runs. */
static void test_unsupported_is_told(void **state)
{
    (void)state;
    rig_desire(
        &rig, "p",
        rig_json("p", "Always", "\"volumes\":[{\"name\":\"v\",\"nfs\":{\"server\":\"x\"}}]," ONE));
    rig_desire(&rig, "q",
               rig_json("q", "Always",
                        "\"containers\":[{\"name\":\"a\",\"image\":\"kelp.local/"
                        "b:1\",\"livenessProbe\":{\"exec\":{}}}]"));
    rig_desire(&rig, "r", "{\"metadata\":{}}");
    rig_run(&rig, 3000);
    assert_string_equal(rig_container(&rig, "p", "a")->reason, "CreateContainerConfigError");
    assert_string_equal(rig_container(&rig, "p", "a")->message, "volume v: nfs is not supported");
    assert_int_equal(runtime_sim_objects(&rig.runtime, "p"), 0);
    assert_int_equal(rig_container(&rig, "q", "a")->state, CONTAINER_RUNNING);
    assert_int_equal(condition("q", "kelp.io/Supported"), CONDITION_FALSE);
    assert_string_equal(rig_status(&rig, "r")->reason, "InvalidPod");
}

/* Claim: a deadline ends a pod, with the reason. */
static void test_active_deadline(void **state)
{
    (void)state;
    rig_desire(&rig, "p",
               rig_json("p", "Always",
                        "\"activeDeadlineSeconds\":20,\"terminationGracePeriodSeconds\":1," ONE));
    rig_run(&rig, 10000);
    assert_int_equal(rig_status(&rig, "p")->phase, POD_RUNNING);
    rig_run(&rig, 15000);
    assert_int_equal(rig_status(&rig, "p")->phase, POD_FAILED);
    assert_string_equal(rig_status(&rig, "p")->reason, "DeadlineExceeded");
    assert_int_equal(runtime_sim_running(&rig.runtime, "p"), 0);
}

/* Claim: while the log refuses records nothing is created, and everything goes on when it takes
 * them again; while the runtime is down nothing is told that is not so. */
static void test_refusals_are_waited_out(void **state)
{
    (void)state;
    rig.records_refused = true;
    rig_desire(&rig, "p", rig_json("p", "Always", ONE));
    rig_run(&rig, 5000);
    assert_int_equal(runtime_sim_objects(&rig.runtime, "p"), 0);
    assert_null(rig_status(&rig, "p"));
    rig.records_refused = false;
    rig_run(&rig, 4000);
    assert_int_equal(rig_container(&rig, "p", "a")->state, CONTAINER_RUNNING);
    rig.runtime.down = true;
    const unsigned statuses = rig_pod(&rig, "p")->statuses;
    rig_run(&rig, 10000);
    assert_true(pods_report(rig.pods).list_status < 0);
    assert_true(1000 + rig.sim.now_us / 1000 - pods_report(rig.pods).listed_mono_ms > 9000);
    assert_int_equal(rig_pod(&rig, "p")->statuses, statuses);
    rig.runtime.down = false;
    rig_run(&rig, 3000);
    assert_int_equal(rig_attempt(&rig, "p", "a"), 0);
}

/* Claim: whatever happens, an attempt starts at most once, at most one container of a name runs,
 * and when the trouble ends everything wanted runs and everything else is gone.
 * Method: random lives with lost, refused and unanswered calls, crashes, kills, reboots, changes. */
static void test_random_lives(void **state)
{
    (void)state;
    const char *env = getenv("SEED");
    const uint64_t first = env == NULL ? 1 : strtoull(env, NULL, 10),
                   last = env == NULL ? 60 : first;
    static const char *const uids[] = {"u1", "u2", "u3", "u4", "u5"};
    for (uint64_t seed = first; seed <= last; seed++) {
        rig_deinit(&rig);
        rig_init(&rig, seed);
        rig.runtime.unknown_per_million = 50000;
        rig.runtime.lost_per_million = 50000;
        rig.runtime.refuse_per_million = 30000;
        for (int step = 0; step < 60; step++) {
            const char *uid = uids[sim_below(&rig.sim, 5)];
            struct rig_pod *pod = rig_pod(&rig, uid);
            switch (sim_below(&rig.sim, 9)) {
            case 0:
            case 1:
                if (pod == NULL) {
                    rig_desire(&rig, uid,
                               rig_json(uid, sim_below(&rig.sim, 2) ? "Always" : "OnFailure",
                                        sim_below(&rig.sim, 2) ? TWO : INIT));
                }
                break;
            case 2:
                runtime_sim_kill(&rig.runtime, uid, "a", 9);
                break;
            case 3:
                runtime_sim_kill_sandbox(&rig.runtime, uid);
                break;
            case 4:
                rig_crash(&rig);
                if (sim_below(&rig.sim, 5) == 0) {
                    runtime_sim_reboot(&rig.runtime);
                }
                rig_run(&rig, sim_below(&rig.sim, 3000));
                rig_start(&rig);
                break;
            case 5:
                if (pod != NULL && pod->wanted && strcmp(uid, "u1") != 0) {
                    rig_delete(&rig, uid, (int64_t)sim_below(&rig.sim, 5));
                }
                break;
            case 6:
                if (pod != NULL && pod->wanted && strcmp(uid, "u2") == 0) {
                    rig_undesire(&rig, uid);
                }
                break;
            case 7:
                if (pod != NULL && pod->wanted && strstr(pod->json, "busybox:1") != NULL) {
                    static char json[4096];
                    snprintf(json, sizeof json, "%s", pod->json);
                    *strstr(json, "busybox:1") = 'B';
                    rig_desire(&rig, uid, json);
                }
                break;
            default:
                break;
            }
            rig_run(&rig, sim_below(&rig.sim, 4000));
        }
        rig.runtime.unknown_per_million = rig.runtime.lost_per_million =
            rig.runtime.refuse_per_million = 0;
        rig_run(&rig, 900000); /* longer than any back-off */
        for (size_t i = 0; i < rig.runtime.start_count; i++) {
            if (rig.runtime.starts[i].count != 1) {
                fail_msg("SEED=%llu: %s/%s attempt %u started %u times", (unsigned long long)seed,
                         rig.runtime.starts[i].pod_uid, rig.runtime.starts[i].container,
                         rig.runtime.starts[i].attempt, rig.runtime.starts[i].count);
            }
        }
        if (rig.runtime.doubles != 0) {
            fail_msg("SEED=%llu: two at once", (unsigned long long)seed);
        }
        for (size_t i = 0; i < rig.count; i++) {
            const struct rig_pod *pod = &rig.state[i];
            const bool runs = pod->wanted && pod->deletion_ms == 0 &&
                              rig_status(&rig, pod->uid) != NULL &&
                              rig_status(&rig, pod->uid)->phase != POD_SUCCEEDED &&
                              rig_status(&rig, pod->uid)->phase != POD_FAILED;
            const size_t expect = !runs ? 0 : strstr(pod->json, "\"name\":\"b\"") != NULL ? 2 : 1;
            if (runtime_sim_running(&rig.runtime, pod->uid) != expect) {
                fail_msg("SEED=%llu: %s has %zu running, not %zu", (unsigned long long)seed,
                         pod->uid, runtime_sim_running(&rig.runtime, pod->uid), expect);
            }
            if (pod->wanted && pod->deletion_ms != 0 &&
                (pod->ends != 1 || runtime_sim_objects(&rig.runtime, pod->uid) != 0)) {
                fail_msg("SEED=%llu: %s ended %u times, %zu left", (unsigned long long)seed,
                         pod->uid, pod->ends, runtime_sim_objects(&rig.runtime, pod->uid));
            }
            for (size_t k = 0; runs && k < pod->attempt_count; k++) {
                const char *name = pod->attempts[k].container;
                for (int64_t attempt = 0; name[0] != 0 && attempt <= pod->attempts[k].attempt;
                     attempt++) {
                    if (runtime_sim_starts(&rig.runtime, pod->uid, name, (uint32_t)attempt) != 1) {
                        fail_msg("SEED=%llu: %s/%s attempt %lld was recorded and never started",
                                 (unsigned long long)seed, pod->uid, name, (long long)attempt);
                    }
                }
            }
        }
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_a_pod_starts),
        TEST(test_restart_of_the_agent_adopts),
        TEST(test_a_late_wish_adopts),
        TEST(test_a_lost_state_adopts),
        TEST(test_no_room_is_told_and_waited_out),
        TEST(test_a_crash_at_any_moment_of_a_start),
        TEST(test_crash_loop_backs_off),
        TEST(test_crash_loop_outlives_the_agent),
        TEST(test_a_long_run_resets_the_back_off),
        TEST(test_restart_policies),
        TEST(test_events),
        TEST(test_a_missing_environment_holds_up_one_container),
        TEST(test_missing_image),
        TEST(test_pull_policies),
        TEST(test_graceful_deletion),
        TEST(test_deletion_can_be_hurried),
        TEST(test_forced_removal),
        TEST(test_image_change_restarts_one_container),
        TEST(test_sandbox_death_and_reboot),
        TEST(test_init_containers),
        TEST(test_references_are_waited_for),
        TEST(test_unsupported_is_told),
        TEST(test_active_deadline),
        TEST(test_refusals_are_waited_out),
        TEST(test_random_lives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
