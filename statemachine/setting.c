/* Limits that apply obeys. They are rows, changed by records, so that all replicas change them at
 * the same entry; the numbers here are what holds until then, and are part of the meaning of the
 * log: changing one needs a new rule version, not an edit. */
#include "statemachine/apply.h"

const struct setting_rule setting_rules[SETTINGS] = {
    [SETTING_CHANGE_HISTORY_BYTES] = {"change_history_bytes", 64 << 20, 0, INT64_C(16) << 30},
    [SETTING_DOWN_ROWS_MAX] = {"down_rows_max", 16384, 16, 1 << 24},
    [SETTING_EVENT_ROWS_MAX] = {"event_rows_max", 512, 1, 1 << 20},
    /* kube-apiserver's --event-ttl */
    [SETTING_EVENT_AGE_MS] = {"event_age_ms", 60 * 60 * 1000, 1000, INT64_C(30) * 24 * 3600 * 1000},
    /* all that a process may have proposed and not seen applied, and what it retries */
    [SETTING_ORIGIN_WINDOW] = {"origin_window", 2 * LIMIT_PROPOSALS, LIMIT_PROPOSALS, 1 << 20},
    [SETTING_NODES_MAX] = {"nodes_max", 20000, 1, 1 << 24},
    [SETTING_NODE_PODS_MAX] = {"node_pods_max", LIMIT_PODS, 1, 4096},
    [SETTING_OBJECTS_MAX] = {"objects_max", 1000000, 1, INT64_C(1) << 32},
    [SETTING_REFERENCES_MAX] = {"references_max", 256, 1, 4096},
    [SETTING_INBOX_ROWS_MAX] = {"inbox_rows_max", 4096, 1, 1 << 24},
    [SETTING_INBOX_BYTES_MAX] = {"inbox_bytes_max", 4 << 20, 1, INT64_C(16) << 30},
    [SETTING_LEVEL] = {"level", 1, 1, UINT16_MAX},
};

static struct row_key setting_key(const char *name)
{
    return row_key_pair(bytes_text("setting"), bytes_text(name));
}

void setting_load(struct machine *machine)
{
    for (unsigned i = 0; i < SETTINGS; i++) {
        const struct row_key key = setting_key(setting_rules[i].name);
        machine->settings[i] = setting_rules[i].value;
        struct bytes value;
        if (!row_get(machine, TABLE_META, row_key_bytes(&key), &value)) {
            continue;
        }
        if (value.size != 8) {
            machine->failed = STATUS_CORRUPT;
            return;
        }
        machine->settings[i] = (int64_t)get_le64(value.data);
    }
}

/* SETTING: one of them changes, from the next record on.
 *   answers   ACCEPTED, ACCEPTED_UNCHANGED; REFUSED_MALFORMED, REFUSED_SETTING */
struct machine_result setting_apply(struct machine *machine, const struct arrival *arrival)
{
    struct setting setting;
    if (codec_setting_read(machine->codec, arrival->record->body, &setting) != STATUS_OK) {
        return result_of(REFUSED_MALFORMED, 0);
    }
    for (unsigned i = 0; i < SETTINGS; i++) {
        const struct setting_rule *rule = &setting_rules[i];
        if (strcmp(rule->name, setting.name) != 0) {
            continue;
        }
        if (setting.value < rule->min || setting.value > rule->max) {
            return result_of(REFUSED_SETTING, 0);
        }
        if (i == SETTING_LEVEL && setting.value < machine->settings[i]) {
            return result_of(REFUSED_SETTING, 0); /* what the log holds by now stays there */
        }
        if (machine->settings[i] == setting.value) {
            return result_of(ACCEPTED_UNCHANGED, 0);
        }
        const struct row_key key = setting_key(rule->name);
        row_put_u64(machine, TABLE_META, row_key_bytes(&key), (uint64_t)setting.value);
        machine->settings[i] = setting.value;
        return result_of(ACCEPTED, 0);
    }
    return result_of(REFUSED_SETTING, 0);
}
