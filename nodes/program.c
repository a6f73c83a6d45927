#include "nodes/program.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "nodes/fault.h"
#include "nodes/options.h"
#include "schemas/status.h"

/* print_more of options.h knows no context; a process runs one program. */
static const struct config_table *program_table;

static void program_print_keys(FILE *stream)
{
    fputs("Configuration keys (file given by --config, or --set key=value):\n", stream);
    config_print_help(program_table, stream);
}

int program_refuse(const struct program *program, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", program->name);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return 1;
}

int program_begin(const struct program *program, int argc, char **argv, void *settings)
{
    const char *file = NULL;
    struct options_list set = {0};
    bool example = false;
    const struct options_flag flags[] = {
        {"config", 'c', OPTIONS_TEXT, &file, "FILE", "configuration to read (YAML)"},
        {"set", 's', OPTIONS_TEXTS, &set, "KEY=VALUE", "one key, stronger than the file"},
        {"print-config", 0, OPTIONS_FLAG, &example, NULL, "print a configuration to start from"},
    };
    const struct options_command command = {
        .name = program->name,
        .about = program->about,
        .flags = flags,
        .flags_count = sizeof flags / sizeof flags[0],
        .print_more = program_print_keys,
    };
    program_table = program->table;
    struct options_list words;
    switch (options_parse(&command, argc, argv, &words)) {
    case OPTIONS_DONE:
        return OPTIONS_EXIT_OK;
    case OPTIONS_USAGE:
        return OPTIONS_EXIT_USAGE;
    case OPTIONS_RUN:
        break;
    }
    if (example) {
        config_print_example(program->table, stdout);
        return OPTIONS_EXIT_OK;
    }
    struct config_memory memory; /* never given back: the settings are read as long as we run */
    char reason[CONFIG_REASON_BYTES];
    if (config_load(program->table, file, set.items, set.count, settings, &memory, reason) != 0) {
        program_refuse(program,
                       "%s\n  `%s --help` lists the keys, `%s --print-config` prints a file "
                       "to start from",
                       reason, program->name, program->name);
        return OPTIONS_EXIT_USAGE;
    }
    umask(0077);
    return PROGRAM_RUN;
}

void program_note(const struct program *program, const char *data, const char *operation,
                  const char *path, int status)
{
    if (status_is_fault(status) && status != STATUS_CORRUPT) {
        (void)fault_write(data, program->name, operation, path, status, program_wall_ms());
    }
}

void program_fail(const struct program *program, const char *data, const char *operation,
                  const char *path, int status)
{
    char event[64];
    snprintf(event, sizeof event, "%s_failed", program->name);
    if (!status_is_fault(status)) {
        logger_error(event, "status=%d cause=%s path=%s reason=%s", status, status_text(status),
                     path, operation);
        _exit(PROGRAM_EXIT_FATAL);
    }
    const int noted = fault_write(data, program->name, operation, path, status, program_wall_ms());
    logger_error(
        event,
        "status=%d cause=%s path=%s noted=%s reason=%s; %s, run `kelp resolve --yes %s`, then "
        "restart %s",
        status, status_text(status), path, noted == 0 ? "yes" : "no", operation,
        noted == 0 ? "starts are read-only until it is resolved: mend the disk"
                   : "not even a note of it could be left, so no start will know: mend the disk",
        data, program->name);
    _exit(PROGRAM_EXIT_FATAL); /* no destructors: nothing unsaved is worth more than a clean end */
}

uint64_t program_mono_ms(void)
{
    return uv_hrtime() / 1000000;
}

int64_t program_wall_ms(void)
{
    uv_timeval64_t wall;
    uv_gettimeofday(&wall);
    return wall.tv_sec * 1000 + wall.tv_usec / 1000;
}
