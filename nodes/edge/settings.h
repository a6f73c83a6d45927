/* What an edgecore can be told by its configuration, and by --set. */
#ifndef KELP_NODES_EDGE_SETTINGS_H
#define KELP_NODES_EDGE_SETTINGS_H

#include "nodes/config.h"
#include "nodes/edge/bus_hands.h"
#include "nodes/logger.h"

struct edge_settings {
    const char *node;
    const char *data;
    struct config_addresses cloud;
    const char *control;
    const char *metrics_listen;
    const char *authority;
    const char *certificate;
    const char *key;
    const char *runtime;
    const char *root;
    const char *cgroup_root;
    const char *node_ip;
    struct config_map labels;
    int64_t max_pods;
    uint64_t backoff_ms;
    uint64_t history_bytes;
    uint64_t history_ms;
    uint64_t limit_bytes;
    uint64_t reserve_bytes;
    struct config_list dns_servers;
    enum bus_mode bus_mode;
    const char *bus_external;
    const char *bus_internal;
    const char *bus_program;
    const char *bus_client;
    const char *bus_user;
    const char *bus_password_file;
    const char *bus_authority;
    const char *bus_certificate;
    const char *bus_key;
    enum device_topics bus_topics;
    int64_t bus_qos;
    bool bus_retain;
    int64_t bus_queue;
    uint64_t bus_window_ms;
    struct config_list bus_upload;
    enum logger_level log_level;
    enum logger_format log_format;
};

/* Its keys, with presets, ranges and help. */
extern const struct config_table edge_settings_table;

#endif
