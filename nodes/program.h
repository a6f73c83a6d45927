/* How a long-running program of ours begins: arguments, configuration, log lines, two clocks. */
#ifndef KELP_NODES_PROGRAM_H
#define KELP_NODES_PROGRAM_H

#include "nodes/config.h"
#include "nodes/logger.h"

#define PROGRAM_EXIT_FATAL 71 /* a failure while running that nobody can mend from inside */

struct program {
    const char *name;  /* "cloudcore"; borrowed for life, as the rest */
    const char *about; /* for --help */
    const struct config_table *table;
};

#define PROGRAM_RUN (-1)

/* Read the arguments (--config FILE, --set KEY=VALUE, --print-config, --help, --version) and from them
 * the settings. Nothing this process writes is for others from here on (umask 077).
 *
 *   settings  the struct that the table speaks of; its texts are lent for the life of the process
 *   answers   PROGRAM_RUN; otherwise the exit code, everything is said already
 */
int program_begin(const struct program *program, int argc, char **argv, void *settings);

/* Say why the program cannot start, to standard error and after its name.
 *   answers   1, the exit code */
__attribute__((format(printf, 2, 3))) int program_refuse(const struct program *program,
                                                         const char *format, ...);

/* The disk failed while the program started: leave the note that makes the next start read-only
 * (fault.h). Nothing is noted for a status that is no failure of the disk, nor for STATUS_CORRUPT: damage
 * that a start finds is found by each start, and told with its place.
 *
 *   data       the data directory
 *   operation  what could not be done
 *   path       to what */
void program_note(const struct program *program, const char *data, const char *operation,
                  const char *path, int status);
/* End the process: something failed while running that nobody can mend from inside. One line says what,
 * where and what to do; a failure of the disk is noted, STATUS_CORRUPT too. Parameters as above. */
__attribute__((noreturn)) void program_fail(const struct program *program, const char *data,
                                            const char *operation, const char *path, int status);

/* Give back what only the beginning needed. Of a program with libraries like ours a third of what is
 * resident is code and tables that the linker, the opening of a database and a first handshake went through
 * once; whatever of it is called again comes back from the page cache, 64 KiB at a time. Only parts of
 * loaded objects that nobody may write go, so nothing is lost by it but what a debugger had put into them.
 *
 *   answers   bytes of address space that were let go of; what of it was resident is not known */
size_t program_settle(void);

/* Milliseconds: of a clock that never goes back, and since 1970. */
uint64_t program_mono_ms(void);
int64_t program_wall_ms(void);

#endif
