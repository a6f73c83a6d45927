#include "nodes/program.h"

#include <elf.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/mman.h>
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

/* Text that the linker wrote into (DT_TEXTREL) exists only in memory. */
static bool text_is_written(const struct dl_phdr_info *object)
{
    for (size_t i = 0; i < object->dlpi_phnum; i++) {
        if (object->dlpi_phdr[i].p_type != PT_DYNAMIC) {
            continue;
        }
        const ElfW(Dyn) *entry =
            (const ElfW(Dyn) *)(object->dlpi_addr + object->dlpi_phdr[i].p_vaddr);
        for (; entry->d_tag != DT_NULL; entry++) {
            if (entry->d_tag == DT_TEXTREL ||
                (entry->d_tag == DT_FLAGS && (entry->d_un.d_val & DF_TEXTREL) != 0)) {
                return true;
            }
        }
    }
    return false;
}

/* Called with the linker's lock held: no object goes away meanwhile. */
static int settle_object(struct dl_phdr_info *object, size_t size, void *context)
{
    (void)size;
    size_t *given = context;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t kernels = getauxval(AT_SYSINFO_EHDR); /* no file is behind it */
    if ((kernels != 0 && object->dlpi_addr == kernels) || text_is_written(object)) {
        return 0;
    }
    for (size_t i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || (part->p_flags & PF_W) != 0) {
            continue;
        }
        /* Whole pages only: the linker may have put a part that is written beside it. */
        const uintptr_t start = (object->dlpi_addr + part->p_vaddr + page - 1) / page * page;
        const uintptr_t end = (object->dlpi_addr + part->p_vaddr + part->p_memsz) / page * page;
        if (start < end && madvise((void *)start, end - start, MADV_DONTNEED) == 0) {
            *given += end - start;
        }
    }
    return 0;
}

size_t program_settle(void)
{
    size_t given = 0;
    (void)dl_iterate_phdr(settle_object, &given);
    return given;
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
