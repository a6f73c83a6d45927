#include "nodes/edge/node.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "schemas/check.h"

#define NODE_TEXT_BYTES  192u
#define NODE_LABELS_MAX  64u
#define NODE_CONDITIONS  4u
#define NODE_RESOURCES   4u
#define NODE_INFO        10u

struct node {
    bool disk_short;
    bool runtime_unready;
    char runtime_why[256];
    struct node_options options;
    char ip[INET6_ADDRSTRLEN];
    int64_t cpu_milli;
    int64_t memory_bytes;
    struct utsname system;
    char machine_id[NODE_TEXT_BYTES];
    char system_uuid[NODE_TEXT_BYTES];
    char boot_id[NODE_TEXT_BYTES];
    char os_image[NODE_TEXT_BYTES];
    char runtime[NODE_TEXT_BYTES];
    const char *architecture;
    struct pair labels[NODE_LABELS_MAX];
    uint32_t label_count;

    /* of the newest look */
    struct node_status status;
    struct condition conditions[NODE_CONDITIONS];
    struct pair addresses[2];
    struct pair resources[NODE_RESOURCES];
    char quantities[NODE_RESOURCES][32];
    struct pair info[NODE_INFO];
};

/* The first line of a file, without its end; "" when it cannot be read. */
static void node_read_line(const char *path, char *out)
{
    out[0] = '\0';
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return;
    }
    if (fgets(out, NODE_TEXT_BYTES, file) == NULL) {
        out[0] = '\0';
    }
    fclose(file);
    out[strcspn(out, "\r\n")] = '\0';
}

/* The value of KEY=value or KEY: value in a file of such lines; quotes are dropped. */
static void node_read_value(const char *path, const char *key, char *out)
{
    char line[512];
    out[0] = '\0';
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, key, strlen(key)) == 0) {
            const char *value = line + strlen(key);
            value += strspn(value, " \t\"");
            snprintf(out, NODE_TEXT_BYTES, "%.*s", (int)strcspn(value, "\"\r\n"), value);
            break;
        }
    }
    fclose(file);
}

/* The address that packets to the world would leave from. Nothing is sent. */
static void node_find_ip(char *out, size_t size)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    struct sockaddr_in from = {0};
    socklen_t from_size = sizeof from;
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    snprintf(out, size, "127.0.0.1");
    if (fd < 0) {
        return;
    }
    inet_pton(AF_INET, "192.0.2.1", &to.sin_addr); /* RFC 5737: nobody's address */
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 &&
        getsockname(fd, (struct sockaddr *)&from, &from_size) == 0) {
        inet_ntop(AF_INET, &from.sin_addr, out, (socklen_t)size);
    }
    close(fd);
}

static const char *node_architecture(const char *machine)
{
    if (strcmp(machine, "x86_64") == 0) {
        return "amd64";
    }
    if (strcmp(machine, "aarch64") == 0) {
        return "arm64";
    }
    return strncmp(machine, "arm", 3) == 0 ? "arm" : machine;
}

static void node_add_label(struct node *node, const char *key, const char *value)
{
    if (node->label_count < NODE_LABELS_MAX) {
        node->labels[node->label_count++] = (struct pair){.key = key, .value = value};
    }
}

struct node *node_open(const struct node_options *options)
{
    struct node *node = calloc(1, sizeof *node);
    CHECK(node != NULL);
    node->options = *options;
    if (options->ip != NULL && options->ip[0] != '\0') {
        snprintf(node->ip, sizeof node->ip, "%s", options->ip);
    } else {
        node_find_ip(node->ip, sizeof node->ip);
    }
    const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    node->cpu_milli = (cpus < 1 ? 1 : (int64_t)cpus) * 1000;
    char text[NODE_TEXT_BYTES];
    node_read_value("/proc/meminfo", "MemTotal:", text);
    node->memory_bytes = strtoll(text, NULL, 10) * 1024;
    uname(&node->system);
    node->architecture = node_architecture(node->system.machine);
    node_read_line("/etc/machine-id", node->machine_id);
    node_read_line("/sys/class/dmi/id/product_uuid", node->system_uuid);
    if (node->system_uuid[0] == '\0') {
        memcpy(node->system_uuid, node->machine_id, sizeof node->system_uuid);
    }
    node_read_line("/proc/sys/kernel/random/boot_id", node->boot_id);
    node_read_value("/etc/os-release", "PRETTY_NAME=", node->os_image);

    node_add_label(node, "kubernetes.io/hostname", options->name);
    node_add_label(node, "kubernetes.io/os", "linux");
    node_add_label(node, "kubernetes.io/arch", node->architecture);
    node_add_label(node, "node-role.kubernetes.io/agent", ""); /* as KubeEdge registers its nodes */
    node_add_label(node, "node-role.kubernetes.io/edge", "");
    for (uint32_t i = 0; i < options->label_count; i++) {
        node_add_label(node, options->labels[i].key, options->labels[i].value);
    }
    return node;
}

void node_close(struct node *node)
{
    free(node);
}

const char *node_ip(const struct node *node)
{
    return node->ip;
}

int64_t node_cpu_milli(const struct node *node)
{
    return node->cpu_milli;
}

int64_t node_memory_bytes(const struct node *node)
{
    return node->memory_bytes;
}

const struct pair *node_labels(const struct node *node)
{
    return node->labels;
}

uint32_t node_label_count(const struct node *node)
{
    return node->label_count;
}

void node_set_runtime(struct node *node, const char *name, const char *version)
{
    snprintf(node->runtime, sizeof node->runtime, "%s://%s", name, version);
}

/* A condition keeps the time at which its status last changed. */
static void node_condition(struct node *node, uint32_t place, const char *type,
                           enum condition_status status, const char *reason, const char *message,
                           int64_t now_ms)
{
    struct condition *condition = &node->conditions[place];
    const bool same = condition->type != NULL && condition->status == status;
    *condition = (struct condition){
        .type = type,
        .status = (uint8_t)status,
        .reason = reason,
        .message = message,
        .transition_ms = same ? condition->transition_ms : now_ms,
    };
}

static void node_look_conditions(struct node *node, const struct pods_report *pods, bool disk_full,
                                 struct pods_time now)
{
    const bool answers = pods->listed && pods->list_status == 0 &&
                         now.mono_ms - pods->listed_mono_ms < NODE_RUNTIME_MS;
    node_condition(node, 0, "MemoryPressure", CONDITION_FALSE, "KubeletHasSufficientMemory",
                   "the node has sufficient memory available", now.wall_ms);
    const bool pressed = disk_full || node->disk_short;
    node_condition(node, 1, "DiskPressure", pressed ? CONDITION_TRUE : CONDITION_FALSE,
                   pressed ? "KubeletHasDiskPressure" : "KubeletHasNoDiskPressure",
                   node->disk_short ? "the file system of edgecore's data is almost full: new containers wait"
                   : disk_full      ? "the file system of the volumes is almost full"
                                    : "the node has no disk pressure",
                   now.wall_ms);
    node_condition(node, 2, "PIDPressure", CONDITION_FALSE, "KubeletHasSufficientPID",
                   "the node has sufficient PID available", now.wall_ms);
    const bool ready = answers && !node->runtime_unready;
    node_condition(node, 3, "Ready", ready ? CONDITION_TRUE : CONDITION_FALSE,
                   ready ? "EdgeReady" : "RuntimeNotReady",
                   ready     ? "edge is posting ready status"
                   : answers ? node->runtime_why
                             : "the container runtime does not answer",
                   now.wall_ms);
}

void node_set_ready(struct node *node, bool ready, const char *why)
{
    node->runtime_unready = !ready;
    snprintf(node->runtime_why, sizeof node->runtime_why, "%s", why);
}

void node_set_disk_short(struct node *node, bool is_short)
{
    node->disk_short = is_short;
}

const struct node_status *node_look(struct node *node, const struct pods_report *pods,
                                    struct pods_time now)
{
    struct statvfs disk;
    const bool disk_known = statvfs(node->options.root, &disk) == 0 && disk.f_blocks > 0;
    const uint64_t disk_kib =
        disk_known ? (uint64_t)disk.f_blocks * (uint64_t)disk.f_frsize / 1024 : 0;
    const bool disk_full =
        disk_known && disk.f_bavail < disk.f_blocks / 100 * NODE_DISK_FREE_MIN;
    node_look_conditions(node, pods, disk_full, now);

    snprintf(node->quantities[0], sizeof node->quantities[0], "%lld",
             (long long)(node->cpu_milli / 1000));
    snprintf(node->quantities[1], sizeof node->quantities[1], "%lldKi",
             (long long)(node->memory_bytes / 1024));
    snprintf(node->quantities[2], sizeof node->quantities[2], "%u", node->options.max_pods);
    snprintf(node->quantities[3], sizeof node->quantities[3], "%lluKi",
             (unsigned long long)disk_kib);
    static const char *const names[NODE_RESOURCES] = {"cpu", "memory", "pods", "ephemeral-storage"};
    for (uint32_t i = 0; i < NODE_RESOURCES; i++) {
        node->resources[i] = (struct pair){.key = names[i], .value = node->quantities[i]};
    }
    node->addresses[0] = (struct pair){.key = "InternalIP", .value = node->ip};
    node->addresses[1] = (struct pair){.key = "Hostname", .value = node->options.name};
    const struct pair info[NODE_INFO] = {
        {"machineID", node->machine_id},
        {"systemUUID", node->system_uuid},
        {"bootID", node->boot_id},
        {"kernelVersion", node->system.release},
        {"osImage", node->os_image},
        {"containerRuntimeVersion", node->runtime},
        {"kubeletVersion", NODE_VERSION_TEXT},
        {"kubeProxyVersion", ""},
        {"operatingSystem", "linux"},
        {"architecture", node->architecture},
    };
    memcpy(node->info, info, sizeof info);

    node->status = (struct node_status){
        .conditions = node->conditions,
        .condition_count = NODE_CONDITIONS,
        .addresses = node->addresses,
        .address_count = 2,
        .capacity = node->resources,
        .capacity_count = disk_known ? NODE_RESOURCES : NODE_RESOURCES - 1,
        .allocatable = node->resources,
        .allocatable_count = disk_known ? NODE_RESOURCES : NODE_RESOURCES - 1,
        .info = node->info,
        .info_count = NODE_INFO,
        .labels = node->labels,
        .label_count = node->label_count,
    };
    return &node->status;
}
