/* Seeds of the whole spine, each in a process of its own.
 *
 *      spine_sim seeds=500 jobs=2              seeds 1 .. 500
 *      spine_sim seed=4711 seeds=1 verbose=1   one story, told
 *      spine_sim plan=spine_seeds.txt          every line is a set of arguments: seeds that failed
 *                                              once, and canaries, which must fail
 *      spine_sim canary=boot seeds=50          a rule broken in the test's own seams
 *
 * Also: secs=N of trouble (default 18); profile=all|leader|edge|network|death|away, what goes wrong: by
 * default one of the first five, by the seed. Exit 0: nothing failed.
 */
#include "tests/sim/spine.h"

#include <stdarg.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *const canary_names[CANARIES] = {
    "none",    "sync_cloud", "sync_edge", "row",     "boot",  "runtime", "remove",
    "listing", "stream",     "confirm",   "publish", "older", "again",   "report",
};

static const char *const profile_names[PROFILES] = {
    "all", "leader", "edge", "network", "death", "away",
};

struct options {
    uint64_t seed, seeds, jobs, verbose, secs;
    uint64_t profile; /* 0: by the seed; else 1 + enum profile */
    enum canary canary;
    const char *plan;
};
static const struct options defaults = {.seed = 1, .seeds = 1, .jobs = 1, .secs = 18};
static struct options option;

struct tally {
    uint64_t virtual_us, accepted, unknown, refused, reads, elections, deaths, starts, faults;
    uint64_t versions, fetches, resumes, exchanges, settle_us_max;
    uint64_t messages, promises, events;
};
static struct tally *tally; /* shared by all processes */

static struct world *the_world;

void spine_fail(struct world *world, const char *oracle, const char *format, ...)
{
    va_list arguments;
    char text[512];
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (option.canary == CANARY_NONE || option.verbose != 0) {
        printf("seed=%llu secs=%llu %.3f s: %s: %s\n", (unsigned long long)world->seed,
               (unsigned long long)option.secs, (double)world->sim.now_us / 1e6, oracle, text);
    }
    fflush(stdout);
    _exit(3);
}

void spine_story(struct world *world, const char *who, const char *format, ...)
{
    if (!world->verbose) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    printf("%9.4f %-8s ", (double)world->sim.now_us / 1e6, who);
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
}

/* -- one seed ---------------------------------------------------------------------------------- */

static void tally_add(uint64_t *to, uint64_t value)
{
    __atomic_fetch_add(to, value, __ATOMIC_RELAXED);
}

/* For whoever reads the story of a seed that is stuck. */
static void explain_stuck(struct world *world)
{
    for (uint32_t i = 0; i < EDGES; i++) {
        const struct edge *edge = &world->edges[i];
        const struct edge_core_report report = edge_core_report(edge->core);
        spine_story(world, edge->process.name,
                    "link=%d applied=%llu pods wanted=%zu running=%zu calls=%zu listed_ms=%llu "
                    "list_status=%d",
                    (int)report.link_up, (unsigned long long)report.applied, report.pods.wanted,
                    report.pods.running, report.pods.calls,
                    (unsigned long long)report.pods.listed_mono_ms, report.pods.list_status);
        for (size_t c = 0; c < edge->runtime.container_count; c++) {
            const struct runtime_sim_container *container = &edge->runtime.containers[c];
            spine_story(world, edge->process.name, "has %s %s/%s attempt %u state %d exit %d in %s",
                        container->id, container->pod_uid, container->name, container->attempt,
                        (int)container->state, container->exit_code, container->sandbox_id);
        }
        for (size_t c = 0; c < edge->runtime.sandbox_count; c++) {
            const struct runtime_sim_sandbox *sandbox = &edge->runtime.sandboxes[c];
            spine_story(world, edge->process.name, "has sandbox %s %s attempt %u ready %d",
                        sandbox->id, sandbox->pod_uid, sandbox->attempt, (int)sandbox->ready);
        }
    }
}

static void run_seed(uint64_t seed)
{
    struct world *world = the_world;
    world_init(world, seed, option.canary,
               option.profile != 0 ? (enum profile)(option.profile - 1)
                                   : (enum profile)(seed % PROFILE_AWAY));
    world->verbose = option.verbose != 0;
    clients_begin(world);
    mappers_begin(world);
    faults_begin(world);
    world_run_until(world, option.secs * SECOND);

    spine_story(world, "world", "the last fault is over");
    world->trouble = false;
    world->idle = false;
    world_heal(world);
    world_run_until(world, world->sim.now_us + SECOND);
    world_heal(world); /* whoever was to be started later */
    world->clients_run = false;
    const uint64_t calm_us = world->sim.now_us;
    world_run_until(world, calm_us + 4 * SECOND); /* whoever was leaving is back */
    mappers_tell(world);
    world_run_until(world, calm_us + 6 * SECOND); /* longer than any deadline of a write */
    const char *differs = check_converged(world);
    while (differs != NULL && world->sim.now_us < calm_us + SPINE_SETTLE_US) {
        world_run_until(world, world->sim.now_us + 100 * MS);
        differs = check_converged(world);
    }
    if (differs != NULL) {
        explain_stuck(world);
        spine_fail(world, "stuck", "%s", differs);
    }
    const uint64_t settle_us = world->sim.now_us - calm_us;
    check_end(world);

    uint64_t most = tally->settle_us_max;
    while (settle_us > most &&
           !__atomic_compare_exchange_n(&tally->settle_us_max, &most, settle_us, false,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    tally_add(&tally->virtual_us, world->sim.now_us);
    tally_add(&tally->accepted, world->accepted);
    tally_add(&tally->unknown, world->unknown);
    tally_add(&tally->refused, world->refused);
    tally_add(&tally->reads, world->reads);
    tally_add(&tally->elections, world->elections);
    tally_add(&tally->faults, world->faults);
    tally_add(&tally->versions, world->version_last);
    tally_add(&tally->fetches, world->fetches);
    tally_add(&tally->resumes, world->resumes);
    tally_add(&tally->exchanges, world->exchanges);
    tally_add(&tally->messages, world->messages);
    tally_add(&tally->promises, world->promises);
    tally_add(&tally->events, world->events);
    for (uint32_t i = 0; i < CLOUDS; i++) {
        tally_add(&tally->deaths, world->clouds[i].process.deaths);
    }
    for (uint32_t i = 0; i < EDGES; i++) {
        tally_add(&tally->deaths, world->edges[i].process.deaths);
        tally_add(&tally->starts, world->edges[i].runtime.start_count);
    }
}

/* -- many seeds -------------------------------------------------------------------------------- */

struct campaign {
    uint64_t done, failed;
    uint64_t first; /* failing seed */
    char list[512];
};

static pid_t seed_start(uint64_t seed)
{
    fflush(NULL);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child != 0) {
        return child;
    }
    if (option.canary != CANARY_NONE && option.verbose == 0 &&
        freopen("/dev/null", "w", stderr) == NULL) {
        _exit(1); /* a broken world may also break a CHECK */
    }
    alarm(300);
    run_seed(seed);
    fflush(stdout);
    _exit(0);
}

static struct campaign campaign_run(uint64_t first, uint64_t count, bool until_failure)
{
    struct campaign campaign = {0};
    struct {
        pid_t child;
        uint64_t seed;
    } running[16] = {0};
    const uint64_t jobs = option.jobs < 1 ? 1 : option.jobs > 16 ? 16 : option.jobs;
    uint64_t next = first;
    unsigned active = 0;
    for (;;) {
        for (unsigned i = 0; i < jobs; i++) {
            if (running[i].child == 0 && next < first + count &&
                !(until_failure && campaign.failed > 0)) {
                running[i].seed = next;
                running[i].child = seed_start(next++);
                active++;
            }
        }
        if (active == 0) {
            return campaign;
        }
        int status;
        const pid_t child = wait(&status);
        CHECK(child > 0);
        for (unsigned i = 0; i < jobs; i++) {
            if (running[i].child != child) {
                continue;
            }
            running[i].child = 0;
            active--;
            campaign.done++;
            if (status == 0) {
                continue;
            }
            campaign.failed++;
            if (campaign.first == 0 || running[i].seed < campaign.first) {
                campaign.first = running[i].seed;
            }
            const size_t used = strlen(campaign.list);
            if (used + 32 < sizeof campaign.list) {
                snprintf(campaign.list + used, sizeof campaign.list - used, " %llu%s",
                         (unsigned long long)running[i].seed,
                         WIFSIGNALED(status) ? "(crash)" : "");
            }
        }
    }
}

/* -- arguments --------------------------------------------------------------------------------- */

static bool argument_take(const char *argument)
{
    static const struct {
        const char *name;
        size_t offset;
    } numbers[] = {
        {"seed=", offsetof(struct options, seed)},   {"seeds=", offsetof(struct options, seeds)},
        {"jobs=", offsetof(struct options, jobs)},   {"verbose=", offsetof(struct options, verbose)},
        {"secs=", offsetof(struct options, secs)},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const size_t size = strlen(numbers[i].name);
        if (strncmp(argument, numbers[i].name, size) == 0) {
            const uint64_t value = strtoull(argument + size, NULL, 10);
            memcpy((char *)&option + numbers[i].offset, &value, sizeof value);
            return true;
        }
    }
    if (strncmp(argument, "plan=", 5) == 0) {
        option.plan = argument + 5;
        return true;
    }
    for (uint64_t i = 0; strncmp(argument, "profile=", 8) == 0 && i < PROFILES; i++) {
        if (strcmp(argument + 8, profile_names[i]) == 0) {
            option.profile = i + 1;
            return true;
        }
    }
    for (int i = 0; strncmp(argument, "canary=", 7) == 0 && i < CANARIES; i++) {
        if (strcmp(argument + 7, canary_names[i]) == 0) {
            option.canary = (enum canary)i;
            return true;
        }
    }
    return false;
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* A line without canary: no seed may fail. With one: some seed must, and that seed must not without. */
static bool plan_line(const char *text)
{
    const double start = seconds_now();
    const bool canary = option.canary != CANARY_NONE;
    const struct campaign campaign = campaign_run(option.seed, option.seeds, canary);
    bool ok = canary ? campaign.failed > 0 : campaign.failed == 0;
    if (canary && ok) {
        option.canary = CANARY_NONE;
        ok = campaign_run(campaign.first, 1, true).failed == 0;
    }
    printf("%s %sseeds=%llu wall_s=%.1f:%s%s%s\n", ok ? "ok  " : "FAIL", canary ? "canary " : "",
           (unsigned long long)campaign.done, seconds_now() - start, text,
           campaign.failed > 0 ? " -> fails:" : "", campaign.list);
    fflush(stdout);
    return ok;
}

static int plan_run(const char *path)
{
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        perror(path);
        return 2;
    }
    const uint64_t jobs = option.jobs;
    int lines = 0;
    int bad = 0;
    char line[512];
    while (fgets(line, sizeof line, file) != NULL) {
        char *rest = NULL;
        char text[512] = "";
        line[strcspn(line, "#\n")] = '\0';
        char *word = strtok_r(line, " ", &rest);
        if (word == NULL) {
            continue;
        }
        option = defaults;
        option.jobs = jobs;
        for (; word != NULL; word = strtok_r(NULL, " ", &rest)) {
            if (!argument_take(word)) {
                fprintf(stderr, "%s: what is %s?\n", path, word);
                fclose(file);
                return 2;
            }
            snprintf(text + strlen(text), sizeof text - strlen(text), " %s", word);
        }
        lines++;
        bad += !plan_line(text);
    }
    fclose(file);
    printf("lines=%d failed=%d\n", lines, bad);
    return bad > 0 || lines == 0 ? 1 : 0;
}

int main(int count, char **arguments)
{
    option = defaults;
    tally = mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(tally != MAP_FAILED);
    the_world = mmap(NULL, sizeof *the_world, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                     -1, 0);
    CHECK(the_world != MAP_FAILED);
    for (int i = 1; i < count; i++) {
        if (!argument_take(arguments[i])) {
            fprintf(stderr, "spine_sim: what is %s? See the head of spine.c\n", arguments[i]);
            return 2;
        }
    }
    if (option.plan != NULL) {
        return plan_run(option.plan);
    }
    const double start = seconds_now();
    const struct campaign campaign = campaign_run(option.seed, option.seeds, false);
    const double wall = seconds_now() - start;
    if (campaign.failed > 0) {
        printf("failing seeds:%s\nrepeat: spine_sim seed=%llu seeds=1 verbose=1 secs=%llu "
               "canary=%s%s%s\n",
               campaign.list, (unsigned long long)campaign.first, (unsigned long long)option.secs,
               canary_names[option.canary], option.profile == 0 ? "" : " profile=",
               option.profile == 0 ? "" : profile_names[option.profile - 1]);
    }
    const double virtual_s = (double)tally->virtual_us / 1e6;
    printf("seeds=%llu failed=%llu accepted=%llu unknown=%llu refused=%llu reads=%llu "
           "versions=%llu elections=%llu deaths=%llu faults=%llu starts=%llu fetches=%llu "
           "resumes=%llu exchanges=%llu messages=%llu promises=%llu events=%llu settle_s_max=%.1f "
           "virtual_s=%.0f wall_s=%.1f\n",
           (unsigned long long)campaign.done, (unsigned long long)campaign.failed,
           (unsigned long long)tally->accepted, (unsigned long long)tally->unknown,
           (unsigned long long)tally->refused, (unsigned long long)tally->reads,
           (unsigned long long)tally->versions, (unsigned long long)tally->elections,
           (unsigned long long)tally->deaths, (unsigned long long)tally->faults,
           (unsigned long long)tally->starts, (unsigned long long)tally->fetches,
           (unsigned long long)tally->resumes, (unsigned long long)tally->exchanges,
           (unsigned long long)tally->messages, (unsigned long long)tally->promises,
           (unsigned long long)tally->events, (double)tally->settle_us_max / 1e6, virtual_s, wall);
    return campaign.failed > 0 ? 1 : 0;
}
