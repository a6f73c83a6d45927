/* Configuration: a YAML file read into a struct, guided by a table.
 *
 * A program describes its struct once; the table gives defaults, ranges, the text of --help and every
 * error message:
 *
 *   struct cloudcore_config { struct config_address api_listen; uint64_t keep_ms; enum logger_level level; };
 *   static const struct config_key keys[] = {
 *       {"api.listen", CONFIG_ADDRESS, offsetof(struct cloudcore_config, api_listen), "0.0.0.0:6443",
 *        .help = "where the Kubernetes API is served"},
 *       {"log.level", CONFIG_CHOICE, offsetof(...), "info", .choices = LOGGER_LEVEL_CHOICES, .help = ...},
 *   };
 *
 * Nested maps become dotted paths. Unknown keys, wrong types and values out of range are errors with
 * file:line and what to do; nothing is ignored. No anchors, no multiple documents.
 */
#ifndef KELP_NODES_CONFIG_H
#define KELP_NODES_CONFIG_H

#include "schemas/limits.h"
#include "schemas/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CONFIG_REASON_BYTES 512u

struct config_address {
    const char *host; /* "10.0.0.1", "::1" (written [::1]:80), "cloud.example" */
    uint16_t port;
};
struct config_list {
    const char *const *items;
    size_t count;
};
struct config_addresses {
    const struct config_address *items;
    size_t count;
};
struct config_pair {
    const char *name;
    const char *value;
};
struct config_map {
    const struct config_pair *items; /* in the order of the file */
    size_t count;
};

enum config_type {               /* field in the struct      written as                          */
    CONFIG_TEXT,                 /* const char *             a string; min..max bound its length */
    CONFIG_INTEGER,              /* int64_t                  42                                  */
    CONFIG_BOOLEAN,              /* bool                     true, false                         */
    CONFIG_DURATION,             /* uint64_t, milliseconds   100ms, 10s, 5m, 2h, 7d, 1h30m       */
    CONFIG_SIZE,                 /* uint64_t, bytes          4096, 64KiB, 64MiB, 1GiB, 10MB      */
    CONFIG_ADDRESS,              /* struct config_address    host:port, [::1]:port, :port        */
    CONFIG_CHOICE,               /* int (or enum)            one of choices, by its place        */
    CONFIG_LIST,                 /* struct config_list       a list of strings                   */
    CONFIG_ADDRESS_LIST,         /* struct config_addresses  a list of host:port                 */
    CONFIG_MAP,                  /* struct config_map        a map of strings, any keys          */
};

struct config_key {
    const char *path;      /* "session.keepalive" */
    enum config_type type;
    size_t offset;         /* of the field */
    const char *preset;    /* as one would write it; "" is empty; lists: "a,b"; NULL: must be given */
    int64_t min, max;      /* integer, duration (ms), size, text length, list count; both 0: any */
    const char *choices;   /* "text|json" for CONFIG_CHOICE */
    const char *help;      /* a sentence without full stop */
};

struct config_table {
    const struct config_key *keys;
    size_t count;
};

/* What the values point into. Zeroed by config_load, given back by config_free. */
struct config_memory {
    struct config_block *first;
};

/* Fill the struct at `out` from presets, then the file, then settings.
 *
 *   file      NULL: presets and settings only
 *   settings  "path=value" each (from --set), stronger than the file; lists as "a,b"
 *   out       the struct that the offsets speak of; its texts are lent until config_free
 *   memory    given to config_free, whatever the answer
 *   reason    CONFIG_REASON_BYTES bytes, receives "file:line: what; what to do" when not 0
 *   answers   0; -errno of the file; STATUS_MALFORMED; STATUS_TOO_LARGE
 */
int config_load(const struct config_table *table, const char *file, const char *const *settings,
                size_t settings_count, void *out, struct config_memory *memory, char *reason);
void config_free(struct config_memory *memory);

/* Print every key with its type, default, range and help; and the same as a YAML file to start from. */
void config_print_help(const struct config_table *table, FILE *stream);
void config_print_example(const struct config_table *table, FILE *stream);

/* Single values, as the file has them; also for command lines. Answers 0 or STATUS_MALFORMED. */
int config_parse_duration(const char *text, uint64_t *out_ms);
int config_parse_size(const char *text, uint64_t *out_bytes);
/* The host is written to out_host (256 bytes), without brackets. */
int config_parse_address(const char *text, char *out_host, uint16_t *out_port);

#endif
