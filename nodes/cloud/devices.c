#include "nodes/cloud/devices.h"

#include "nodes/cloud/api_device.h"
#include "nodes/cloud/api_object.h"
#include "nodes/cloud/device_profile.h"
#include "nodes/logger.h"
#include "schemas/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define RUN_STEPS    16u   /* in one run; each reads a row or two */
#define FIND_STEPS   4096u /* entries of the index passed over in one step */
#define RETRY_MS     1000u /* after a write that could not be */
#define DEVICE_LEVEL 3u    /* see MACHINE_LEVEL in statemachine/machine.h */

#define DEVICE_PREFIX  "devices.kubeedge.io/devices/"
#define MODEL_PREFIX   "devices.kubeedge.io/devicemodels/"
#define CONFIG_PREFIX  "/configmaps/"
#define PROFILE_PREFIX "device-profile-config-"
#define PROFILE_FILE   "deviceProfile.json"
#define MANAGED_BY     "app.kubernetes.io/managed-by"
#define LEFT_OUT       "kelp.io/devices-left-out"

/* -- sets of names ------------------------------------------------------------------------------------ */

/* Texts, each once, sorted. */
struct names {
    char **items;
    uint32_t count;
    uint32_t capacity;
};

static uint32_t names_place(const struct names *names, const char *name, bool *out_there)
{
    uint32_t low = 0;
    uint32_t high = names->count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (strcmp(names->items[middle], name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *out_there = low < names->count && strcmp(names->items[low], name) == 0;
    return low;
}

static void names_add(struct names *names, const char *name)
{
    bool there;
    const uint32_t place = names_place(names, name, &there);
    if (there) {
        return;
    }
    if (names->count == names->capacity) {
        names->capacity = names->capacity == 0 ? 16 : 2 * names->capacity;
        names->items = realloc(names->items, names->capacity * sizeof *names->items);
        CHECK(names->items != NULL);
    }
    memmove(&names->items[place + 1], &names->items[place],
            (names->count - place) * sizeof *names->items);
    names->items[place] = strdup(name);
    CHECK(names->items[place] != NULL);
    names->count++;
}

/* Take one out; the caller frees it. */
static char *names_take(struct names *names, uint32_t place)
{
    CHECK(place < names->count);
    char *name = names->items[place];
    names->count--;
    memmove(&names->items[place], &names->items[place + 1],
            (names->count - place) * sizeof *names->items);
    return name;
}

static void names_clear(struct names *names)
{
    while (names->count > 0) {
        free(names_take(names, names->count - 1));
    }
    free(names->items);
    *names = (struct names){0};
}

/* -- the index ---------------------------------------------------------------------------------------- */

struct device_entry {
    char *node;  /* "" while it has none */
    char *model; /* "" while it names none */
    char name[]; /* "namespace/name" */
};

/* A profile being put together. */
struct building {
    char *name;                  /* "namespace/node"; NULL: none is */
    const char *node;            /* inside of name */
    char after[LIMIT_KEY_BYTES]; /* the last device that was looked at */
    struct device_profile profile;
};

struct devices {
    const struct backend *backend;
    struct backend_listener listener;
    bool lost;     /* all is to be read anew */
    bool sweeping; /* and is being read: behind `swept` */
    bool swept_devices;
    char swept[LIMIT_KEY_BYTES];
    struct device_entry **entries; /* sorted by name */
    uint32_t count;
    uint32_t capacity;

    struct names pending;              /* devices whose wish changed: "namespace/name" */
    struct names models;               /* models that changed: likewise */
    struct names profiles;             /* "namespace/node" that may have to be written anew */
    char model_after[LIMIT_KEY_BYTES]; /* of the first of `models`: devices up to there were told */
    struct building building;

    bool busy;          /* a write is under way, */
    char *busy_profile; /* of this profile, */
    char *busy_device;  /* or of this device */
    int64_t retry_ms;   /* wall clock: no write before */
    int64_t profile_ms; /* no profile before */
    struct codec *codec;
};

static uint32_t entry_place(const struct devices *devices, const char *name, bool *out_there)
{
    uint32_t low = 0;
    uint32_t high = devices->count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (strcmp(devices->entries[middle]->name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *out_there = low < devices->count && strcmp(devices->entries[low]->name, name) == 0;
    return low;
}

static void entry_free(struct device_entry *entry)
{
    free(entry->node);
    free(entry->model);
    free(entry);
}

static struct device_entry *entry_enter(struct devices *devices, const char *name)
{
    bool there;
    const uint32_t place = entry_place(devices, name, &there);
    if (there) {
        return devices->entries[place];
    }
    if (devices->count == devices->capacity) {
        devices->capacity = devices->capacity == 0 ? 64 : 2 * devices->capacity;
        devices->entries =
            realloc(devices->entries, devices->capacity * sizeof(struct device_entry *));
        CHECK(devices->entries != NULL);
    }
    const size_t size = strlen(name) + 1;
    struct device_entry *entry = calloc(1, sizeof *entry + size);
    CHECK(entry != NULL);
    memcpy(entry->name, name, size);
    entry->node = strdup("");
    entry->model = strdup("");
    memmove(&devices->entries[place + 1], &devices->entries[place],
            (devices->count - place) * sizeof(struct device_entry *));
    devices->entries[place] = entry;
    devices->count++;
    return entry;
}

static void entry_remove(struct devices *devices, const char *name)
{
    bool there;
    const uint32_t place = entry_place(devices, name, &there);
    if (there) {
        entry_free(devices->entries[place]);
        devices->count--;
        memmove(&devices->entries[place], &devices->entries[place + 1],
                (devices->count - place) * sizeof(struct device_entry *));
    }
}

static void text_replace(char **text, const char *with)
{
    if (strcmp(*text, with) != 0) {
        free(*text);
        *text = strdup(with);
        CHECK(*text != NULL);
    }
}

/* The profile of a node in the namespace of this device may be another. */
static void profile_mark(struct devices *devices, const char *device, const char *node)
{
    if (node[0] != '\0') {
        char name[LIMIT_KEY_BYTES + 1];
        (void)snprintf(name, sizeof name, "%.*s/%s", (int)strcspn(device, "/"), device, node);
        names_add(&devices->profiles, name);
    }
}

static void building_end(struct devices *devices)
{
    free(devices->building.name);
    device_profile_release(&devices->building.profile);
    devices->building = (struct building){0};
}

static void devices_forget(struct devices *devices)
{
    for (uint32_t i = 0; i < devices->count; i++) {
        entry_free(devices->entries[i]);
    }
    devices->count = 0;
    names_clear(&devices->pending);
    names_clear(&devices->models);
    names_clear(&devices->profiles);
    devices->model_after[0] = '\0';
    building_end(devices);
}

/* -- listening ---------------------------------------------------------------------------------------- */

/* "namespace/name" of a key under a prefix; false: it is not, or has none. */
static bool name_of_key(struct bytes key, const char *prefix, char name[LIMIT_KEY_BYTES + 1])
{
    const size_t size = strlen(prefix);
    if (!bytes_start_with(key, bytes_text(prefix)) || key.size > LIMIT_KEY_BYTES) {
        return false;
    }
    (void)snprintf(name, LIMIT_KEY_BYTES + 1, "%.*s", (int)(key.size - size),
                   (const char *)key.data + size);
    return strchr(name, '/') != NULL;
}

/* The profile that a config map of this key would be. */
static void config_mark(struct devices *devices, struct bytes key)
{
    char name[LIMIT_KEY_BYTES + 1];
    if (name_of_key(key, CONFIG_PREFIX, name)) {
        const char *own = strchr(name, '/') + 1;
        if (strncmp(own, PROFILE_PREFIX, strlen(PROFILE_PREFIX)) == 0) {
            profile_mark(devices, name, own + strlen(PROFILE_PREFIX));
        }
    }
}

static void devices_on_wish(void *context, struct bytes key)
{
    struct devices *devices = context;
    char name[LIMIT_KEY_BYTES + 1];
    if (devices->lost) {
        return; /* it will be read */
    }
    if (name_of_key(key, DEVICE_PREFIX, name)) {
        names_add(&devices->pending, name);
    } else if (name_of_key(key, MODEL_PREFIX, name)) {
        names_add(&devices->models, name);
        devices->model_after[0] = '\0'; /* if it is the first now, or was it before */
    } else {
        config_mark(devices, key);
    }
    if (devices->pending.count > LIMIT_DEVICES_PENDING) {
        devices->lost = true;
    }
}

static void devices_on_anew(void *context)
{
    ((struct devices *)context)->lost = true;
}

struct devices *devices_open(const struct backend *backend)
{
    struct devices *devices = calloc(1, sizeof *devices);
    CHECK(devices != NULL);
    devices->backend = backend;
    devices->codec = codec_create();
    devices->lost = true;
    devices->listener = (struct backend_listener){
        .context = devices, .wish = devices_on_wish, .anew = devices_on_anew};
    backend->listen(backend->owner, &devices->listener);
    return devices;
}

void devices_close(struct devices *devices)
{
    CHECK(!devices->busy);
    devices->backend->listen(devices->backend->owner, NULL);
    devices_forget(devices);
    free(devices->entries);
    codec_destroy(devices->codec);
    free(devices);
}

bool devices_busy(const struct devices *devices)
{
    return devices->busy;
}

/* -- writing ------------------------------------------------------------------------------------------ */

static void devices_on_written(void *context, int status, enum backend_outcome outcome,
                               uint64_t value)
{
    struct devices *devices = context;
    (void)value;
    devices->busy = false;
    const bool again = status != 0 || outcome == BACKEND_REFUSED_EXISTS ||
                       outcome == BACKEND_REFUSED_MISSING || outcome == BACKEND_REFUSED_VERSION ||
                       outcome == BACKEND_REFUSED_UID;
    if (again) { /* somebody was faster, or there is no leader now */
        devices->retry_ms = devices->backend->now_ms(devices->backend->owner) + RETRY_MS;
        if (devices->busy_profile != NULL) {
            names_add(&devices->profiles, devices->busy_profile);
        } else {
            names_add(&devices->pending, devices->busy_device);
        }
    } else if (outcome != BACKEND_ACCEPTED) {
        logger_warn_limited("device_follow_refused", "profile=%s device=%s outcome=%d",
                            devices->busy_profile != NULL ? devices->busy_profile : "",
                            devices->busy_device != NULL ? devices->busy_device : "", (int)outcome);
    }
    free(devices->busy_profile);
    free(devices->busy_device);
    devices->busy_profile = NULL;
    devices->busy_device = NULL;
}

/* Propose. profile or device: what to look at again when it could not be; copied. */
static void devices_write(struct devices *devices, int built, struct bytes record,
                          const char *profile, const char *device)
{
    const struct backend *backend = devices->backend;
    devices->busy_profile = profile == NULL ? NULL : strdup(profile);
    devices->busy_device = device == NULL ? NULL : strdup(device);
    devices->busy = true;
    int status = built;
    if (status == 0) {
        status = backend->write(backend->owner, record, devices_on_written, devices);
    }
    if (built != 0) {
        devices_on_written(devices, 0, BACKEND_REFUSED_OTHER, 0);
    } else if (status != 0) {
        devices_on_written(devices, status, BACKEND_REFUSED_OTHER, 0);
    }
}

/* -- devices and their types -------------------------------------------------------------------------- */

static bool wish_same_types(const struct device_wish *a, const struct device_wish *b)
{
    if (b == NULL || a->property_count != b->property_count) {
        return false;
    }
    for (uint32_t i = 0; i < a->property_count; i++) {
        if (strcmp(a->properties[i].type, b->properties[i].type) != 0) {
            return false;
        }
    }
    return true;
}

/* Note where a device is, and write it anew if its types are not those of its model. */
static void device_look(struct devices *devices, const char *name, const struct backend_row *row)
{
    const struct backend *backend = devices->backend;
    struct codec *codec = devices->codec;
    struct object_put put;
    json_t *wish = api_object_wish(codec, row);
    if (wish == NULL || codec_object_put_read(codec, row->wish, &put) != 0) {
        json_decref(wish);
        return;
    }
    struct device_entry *entry = entry_enter(devices, name);
    profile_mark(devices, name, entry->node);
    text_replace(&entry->node, put.object.node_name);
    text_replace(&entry->model, json_text_at(wish, "spec.deviceModelRef.name"));
    profile_mark(devices, name, entry->node);
    const struct device_wish *next = api_device_wish_next(backend, codec, wish, row);
    if (!wish_same_types(next, put.object.device)) {
        struct bytes record = {0};
        const int built =
            api_object_put(backend, codec, NULL, api_resource_get(API_DEVICE), wish, row,
                           PUT_UPDATE, row->wish_version, put.object.uid, &record);
        devices_write(devices, built, record, NULL, name);
    }
    json_decref(wish);
}

static void device_step(struct devices *devices)
{
    const struct backend *backend = devices->backend;
    char *name = names_take(&devices->pending, devices->pending.count - 1);
    char key[2 * LIMIT_KEY_BYTES];
    struct backend_view *view;
    uint64_t version;
    (void)snprintf(key, sizeof key, DEVICE_PREFIX "%s", name);
    if (backend->view_open(backend->owner, &view, &version) != 0) {
        devices->lost = true;
        free(name);
        return;
    }
    struct backend_row row;
    if (backend->view_get(backend->owner, view, bytes_text(key), &row) == 0) {
        device_look(devices, name, &row);
    } else {
        bool there;
        const uint32_t place = entry_place(devices, name, &there);
        if (there) {
            profile_mark(devices, name, devices->entries[place]->node);
            entry_remove(devices, name);
        }
    }
    backend->view_close(backend->owner, view);
    free(name);
}

/* Have some devices of the first changed model looked at. */
static void model_step(struct devices *devices)
{
    const char *model = devices->models.items[0];
    const size_t space =
        strcspn(model, "/") + 1; /* with the slash: devices of the same namespace */
    char from[LIMIT_KEY_BYTES + 1];
    bool there;
    if (devices->model_after[0] != '\0') {
        (void)snprintf(from, sizeof from, "%s", devices->model_after);
    } else {
        (void)snprintf(from, sizeof from, "%.*s", (int)space, model);
    }
    uint32_t place = entry_place(devices, from, &there);
    place += there ? 1 : 0;
    for (uint32_t i = 0; i < FIND_STEPS; i++, place++) {
        if (place == devices->count || strncmp(devices->entries[place]->name, model, space) != 0) {
            free(names_take(&devices->models, 0));
            devices->model_after[0] = '\0';
            return;
        }
        const struct device_entry *entry = devices->entries[place];
        if (strcmp(entry->model, model + space) == 0) {
            names_add(&devices->pending, entry->name);
        }
        (void)snprintf(devices->model_after, sizeof devices->model_after, "%s", entry->name);
    }
}

/* -- profiles ----------------------------------------------------------------------------------------- */

/* An object by kind and "namespace", name, as clients of v1alpha2 see it; a new value, NULL: there is none. */
static json_t *object_read(struct devices *devices, struct backend_view *view, enum api_kind kind,
                           const char *space, const char *name)
{
    const struct backend *backend = devices->backend;
    const struct api_resource *resource = api_resource_get(kind);
    char key[LIMIT_KEY_BYTES];
    struct backend_row row;
    if (!api_object_key(resource, space, name, key) ||
        backend->view_get(backend->owner, view, bytes_text(key), &row) != 0) {
        return NULL;
    }
    json_t *object = api_object_wish(devices->codec, &row);
    if (object != NULL) {
        api_device_show(resource, object);
    }
    return object;
}

static void profile_add(struct devices *devices, const struct device_entry *entry)
{
    const struct backend *backend = devices->backend;
    const size_t space_size = strcspn(entry->name, "/");
    char space[LIMIT_NAME_BYTES + 1];
    struct backend_view *view;
    uint64_t version;
    if (devices->building.profile.left_out > 0) {
        devices->building.profile.left_out++; /* it is full */
        return;
    }
    if (space_size >= sizeof space || backend->view_open(backend->owner, &view, &version) != 0) {
        return;
    }
    (void)snprintf(space, sizeof space, "%.*s", (int)space_size, entry->name);
    json_t *device =
        object_read(devices, view, API_DEVICE_ALPHA, space, entry->name + space_size + 1);
    json_t *model = object_read(devices, view, API_DEVICE_MODEL_ALPHA, space, entry->model);
    if (device != NULL) {
        device_profile_add(&devices->building.profile, device, model);
    }
    json_decref(device);
    json_decref(model);
    backend->view_close(backend->owner, view);
}

/* The next version of the config map.
 *   present  the stored one; NULL: there is none */
static json_t *config_of(const struct building *building, const json_t *present)
{
    json_t *config = present == NULL ? json_object() : json_deep_copy(present);
    json_t *metadata = json_child(config, "metadata");
    struct text text = {0};
    device_profile_write(&building->profile, &text);
    json_put_text(json_child(config, "data"), PROFILE_FILE, text.data);
    text_release(&text);
    json_put_text(json_child(metadata, "labels"), MANAGED_BY, "kelp");
    if (building->profile.left_out > 0) {
        char number[16];
        (void)snprintf(number, sizeof number, "%u", building->profile.left_out);
        json_put_text(json_child(metadata, "annotations"), LEFT_OUT, number);
        logger_warn_limited("device_profile_full", "profile=%s devices=%u left_out=%u",
                            building->name, building->profile.device_count,
                            building->profile.left_out);
    } else {
        (void)json_object_del(json_object_get(metadata, "annotations"), LEFT_OUT);
    }
    return config;
}

static bool config_is_ours(const json_t *config)
{
    const json_t *labels = json_at(config, "metadata.labels");
    const char *who = json_string_value(json_object_get(labels, MANAGED_BY));
    return who != NULL && strcmp(who, "kelp") == 0;
}

/* Propose what the config map has to become. row: NULL: there is none */
static void config_write(struct devices *devices, const char *space, const char *key,
                         const struct backend_row *row)
{
    const struct backend *backend = devices->backend;
    struct building *building = &devices->building;
    const struct api_resource *resource = api_resource_get(API_CONFIGMAP);
    struct codec *codec = devices->codec;
    struct bytes record = {0};
    const bool empty = building->profile.device_count == 0;
    json_t *present = row == NULL ? NULL : api_object_wish(codec, row);
    if ((present == NULL && (empty || row != NULL)) ||
        (present != NULL && !config_is_ours(present))) {
        json_decref(present); /* nothing to say, or somebody else's */
        return;
    }
    if (empty) {
        const int built = api_object_remove(backend, codec, NULL, key, row->wish_version,
                                            json_text_at(present, "metadata.uid"), &record);
        devices_write(devices, built, record, building->name, NULL);
        json_decref(present);
        return;
    }
    json_t *config = config_of(building, present);
    int built = 0;
    bool same = false;
    if (present == NULL) {
        struct api_error error = {0};
        json_put_text(json_child(config, "metadata"), "name", strrchr(key, '/') + 1);
        built = api_object_create(backend, resource, space, config, &error)
                    ? api_object_put(backend, codec, NULL, resource, config, NULL, PUT_CREATE, 0,
                                     "", &record)
                    : STATUS_MALFORMED;
        api_error_release(&error);
    } else {
        same = json_equal(config, present);
        built = same ? 0
                     : api_object_put(backend, codec, NULL, resource, config, row, PUT_UPDATE,
                                      row->wish_version, json_text_at(present, "metadata.uid"),
                                      &record);
    }
    if (!same) {
        const int64_t now = backend->now_ms(backend->owner);
        devices->profile_ms = now + (int64_t)(record.size * 1000 / LIMIT_DEVICE_PROFILE_RATE);
        devices_write(devices, built, record, building->name, NULL);
    }
    json_decref(config);
    json_decref(present);
}

static void profile_finish(struct devices *devices)
{
    const struct backend *backend = devices->backend;
    struct building *building = &devices->building;
    char space[LIMIT_NAME_BYTES + 1];
    char name[2 * LIMIT_NAME_BYTES];
    char key[LIMIT_KEY_BYTES];
    struct backend_view *view;
    uint64_t version;
    const size_t space_size = (size_t)(building->node - building->name) - 1;
    (void)snprintf(space, sizeof space, "%.*s", (int)space_size, building->name);
    (void)snprintf(name, sizeof name, PROFILE_PREFIX "%.253s", building->node);
    if (space_size >= sizeof space || strlen(name) > LIMIT_NAME_BYTES ||
        !api_object_key(api_resource_get(API_CONFIGMAP), space, name, key)) {
        logger_warn_limited("device_profile_unnamed", "profile=%s", building->name);
    } else if (backend->view_open(backend->owner, &view, &version) == 0) {
        struct backend_row row;
        const int status = backend->view_get(backend->owner, view, bytes_text(key), &row);
        if (status == 0 || status == BACKEND_NONE) {
            config_write(devices, space, key, status == 0 ? &row : NULL);
        }
        backend->view_close(backend->owner, view);
    }
    building_end(devices);
}

/* Add the next device of the profile that is put together, or finish it. */
static void profile_step(struct devices *devices)
{
    struct building *building = &devices->building;
    if (building->name == NULL) {
        building->name = names_take(&devices->profiles, 0);
        building->node = strchr(building->name, '/') + 1;
        (void)snprintf(building->after, sizeof building->after, "%.*s",
                       (int)(building->node - building->name), building->name);
    }
    const size_t space = (size_t)(building->node - building->name);
    bool there;
    uint32_t place = entry_place(devices, building->after, &there);
    place += there ? 1 : 0;
    for (uint32_t i = 0; i < FIND_STEPS; i++, place++) {
        if (place == devices->count ||
            strncmp(devices->entries[place]->name, building->name, space) != 0) {
            profile_finish(devices);
            return;
        }
        const struct device_entry *entry = devices->entries[place];
        (void)snprintf(building->after, sizeof building->after, "%s", entry->name);
        if (strcmp(entry->node, building->node) == 0) {
            profile_add(devices, entry);
            return;
        }
    }
}

/* -- reading everything ------------------------------------------------------------------------------- */

/* The next row of all devices, then of all config maps. */
static void sweep_step(struct devices *devices)
{
    const struct backend *backend = devices->backend;
    struct backend_view *view;
    struct backend_row row;
    uint64_t version;
    const char *prefix = devices->swept_devices ? CONFIG_PREFIX : DEVICE_PREFIX;
    if (backend->view_open(backend->owner, &view, &version) != 0) {
        devices->lost = true;
        devices->sweeping = false;
        return;
    }
    const int status = backend->view_next(backend->owner, view, bytes_text(prefix),
                                          bytes_text(devices->swept), &row);
    char name[LIMIT_KEY_BYTES + 1];
    if (status != 0) {
        devices->sweeping = !devices->swept_devices;
        devices->swept_devices = true;
        devices->swept[0] = '\0';
        devices->lost = devices->lost || status < 0;
    } else {
        (void)snprintf(devices->swept, sizeof devices->swept, "%.*s", (int)row.key.size,
                       (const char *)row.key.data);
        if (devices->swept_devices) {
            config_mark(devices, row.key);
        } else if (name_of_key(row.key, DEVICE_PREFIX, name)) {
            device_look(devices, name, &row);
        }
    }
    backend->view_close(backend->owner, view);
}

/* -- running ------------------------------------------------------------------------------------------ */

bool devices_run(struct devices *devices)
{
    const struct backend *backend = devices->backend;
    for (uint32_t i = 0; i < RUN_STEPS; i++) {
        const int64_t now = backend->now_ms(backend->owner);
        if (devices->busy || !backend->leads(backend->owner) ||
            backend->level(backend->owner) < DEVICE_LEVEL || now < devices->retry_ms) {
            return false;
        }
        if (devices->lost) {
            devices_forget(devices);
            devices->lost = false;
            devices->sweeping = true;
            devices->swept_devices = false;
            devices->swept[0] = '\0';
        }
        if (devices->sweeping) {
            sweep_step(devices);
        } else if (devices->pending.count > 0) {
            device_step(devices);
        } else if (devices->models.count > 0) {
            model_step(devices);
        } else if (devices->building.name != NULL ||
                   (devices->profiles.count > 0 && now >= devices->profile_ms)) {
            profile_step(devices);
        } else {
            return false;
        }
        codec_reset(devices->codec);
    }
    return true;
}
