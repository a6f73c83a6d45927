/* Kelp's words into protobuf's. Everything lives in the arena of the call, or is borrowed from it. */
#include "nodes/edge/driver_words_cri.h"

static cri_pair *cri_pair_new(struct arena *arena, const char *key, const char *value)
{
    cri_pair *pair = CRI_NEW(arena, cri_pair, RUNTIME__V1__PAIR__INIT);
    pair->key = cri_text(key);
    pair->value = cri_text(value);
    return pair;
}

static cri_pair **cri_pairs(struct arena *arena, const struct driver_pair *pairs, size_t count)
{
    cri_pair **list = arena_claim(arena, count, sizeof *list);
    for (size_t i = 0; i < count; i++) {
        list[i] = cri_pair_new(arena, pairs[i].name, pairs[i].value);
    }
    return list;
}

static Runtime__V1__Int64Value *cri_number(struct arena *arena, struct driver_number number)
{
    if (!number.set) {
        return NULL;
    }
    Runtime__V1__Int64Value *value =
        CRI_NEW(arena, Runtime__V1__Int64Value, RUNTIME__V1__INT64_VALUE__INIT);
    value->value = number.value;
    return value;
}

static Runtime__V1__NamespaceOption *cri_namespaces(struct arena *arena,
                                                    const struct driver_sandbox *sandbox)
{
    Runtime__V1__NamespaceOption *option =
        CRI_NEW(arena, Runtime__V1__NamespaceOption, RUNTIME__V1__NAMESPACE_OPTION__INIT);
    option->network = sandbox->host_network ? RUNTIME__V1__NAMESPACE_MODE__NODE
                                            : RUNTIME__V1__NAMESPACE_MODE__POD;
    option->ipc =
        sandbox->host_ipc ? RUNTIME__V1__NAMESPACE_MODE__NODE : RUNTIME__V1__NAMESPACE_MODE__POD;
    option->pid = sandbox->host_pid    ? RUNTIME__V1__NAMESPACE_MODE__NODE
                  : sandbox->share_pid ? RUNTIME__V1__NAMESPACE_MODE__POD
                                       : RUNTIME__V1__NAMESPACE_MODE__CONTAINER;
    return option;
}

static Runtime__V1__SecurityProfile *cri_seccomp(struct arena *arena,
                                                 const struct driver_security *security)
{
    if (security->seccomp == 0) {
        return NULL;
    }
    Runtime__V1__SecurityProfile *profile =
        CRI_NEW(arena, Runtime__V1__SecurityProfile, RUNTIME__V1__SECURITY_PROFILE__INIT);
    profile->profile_type =
        security->seccomp == 'R'   ? RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__RuntimeDefault
        : security->seccomp == 'L' ? RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Localhost
                                   : RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Unconfined;
    profile->localhost_ref = cri_text(security->seccomp_path);
    return profile;
}

static Runtime__V1__DNSConfig *cri_dns(struct arena *arena, const struct driver_sandbox *sandbox)
{
    Runtime__V1__DNSConfig *dns =
        CRI_NEW(arena, Runtime__V1__DNSConfig, RUNTIME__V1__DNSCONFIG__INIT);
    dns->n_servers = sandbox->dns_server_count;
    dns->servers = cri_texts(sandbox->dns_servers);
    dns->n_searches = sandbox->dns_search_count;
    dns->searches = cri_texts(sandbox->dns_searches);
    dns->n_options = sandbox->dns_option_count;
    dns->options = cri_texts(sandbox->dns_options);
    return dns;
}

static Runtime__V1__LinuxPodSandboxConfig *cri_sandbox_linux(struct arena *arena,
                                                             const struct driver_sandbox *sandbox)
{
    Runtime__V1__LinuxPodSandboxConfig *config = CRI_NEW(
        arena, Runtime__V1__LinuxPodSandboxConfig, RUNTIME__V1__LINUX_POD_SANDBOX_CONFIG__INIT);
    Runtime__V1__LinuxSandboxSecurityContext *security =
        CRI_NEW(arena, Runtime__V1__LinuxSandboxSecurityContext,
                RUNTIME__V1__LINUX_SANDBOX_SECURITY_CONTEXT__INIT);
    security->namespace_options = cri_namespaces(arena, sandbox);
    security->run_as_user = cri_number(arena, sandbox->security.run_as_user);
    security->run_as_group = cri_number(arena, sandbox->security.run_as_group);
    security->privileged = sandbox->security.privileged;
    security->n_supplemental_groups = sandbox->security.group_count;
    security->supplemental_groups = (int64_t *)(uintptr_t)sandbox->security.groups;
    security->seccomp = cri_seccomp(arena, &sandbox->security);
    config->security_context = security;
    config->cgroup_parent = cri_text(sandbox->cgroup_parent);
    config->n_sysctls = sandbox->sysctl_count;
    config->sysctls = cri_pairs(arena, sandbox->sysctls, sandbox->sysctl_count);
    return config;
}

Runtime__V1__PodSandboxConfig *cri_sandbox(struct arena *arena, const char *node_name,
                                           const struct driver_sandbox *sandbox)
{
    Runtime__V1__PodSandboxMetadata *metadata =
        CRI_NEW(arena, Runtime__V1__PodSandboxMetadata, RUNTIME__V1__POD_SANDBOX_METADATA__INIT);
    metadata->name = cri_text(sandbox->pod_name);
    metadata->namespace_ = cri_text(sandbox->pod_namespace);
    metadata->uid = cri_text(sandbox->pod_uid);
    metadata->attempt = sandbox->attempt;

    const struct driver_pair labels[] = {
        {DRIVER_LABEL_POD_NAME, sandbox->pod_name},
        {DRIVER_LABEL_POD_NAMESPACE, sandbox->pod_namespace},
        {DRIVER_LABEL_POD_UID, sandbox->pod_uid},
        {DRIVER_LABEL_NODE, node_name},
        {DRIVER_LABEL_ATTEMPT, arena_print(arena, "%u", sandbox->attempt)},
    };
    Runtime__V1__PortMapping **ports = arena_claim(arena, sandbox->port_count, sizeof *ports);
    for (size_t i = 0; i < sandbox->port_count; i++) {
        const struct driver_port *port = &sandbox->ports[i];
        ports[i] = CRI_NEW(arena, Runtime__V1__PortMapping, RUNTIME__V1__PORT_MAPPING__INIT);
        ports[i]->protocol = port->protocol == 'U'   ? RUNTIME__V1__PROTOCOL__UDP
                             : port->protocol == 'S' ? RUNTIME__V1__PROTOCOL__SCTP
                                                     : RUNTIME__V1__PROTOCOL__TCP;
        ports[i]->container_port = port->container_port;
        ports[i]->host_port = port->host_port;
        ports[i]->host_ip = cri_text(port->host_ip);
    }

    Runtime__V1__PodSandboxConfig *config =
        CRI_NEW(arena, Runtime__V1__PodSandboxConfig, RUNTIME__V1__POD_SANDBOX_CONFIG__INIT);
    config->metadata = metadata;
    config->hostname = cri_text(sandbox->hostname);
    config->log_directory = cri_text(sandbox->log_directory);
    config->dns_config = cri_dns(arena, sandbox);
    config->n_port_mappings = sandbox->port_count;
    config->port_mappings = ports;
    config->n_labels = sizeof labels / sizeof *labels;
    config->labels = cri_pairs(arena, labels, config->n_labels);
    config->linux_config = cri_sandbox_linux(arena, sandbox);
    return config;
}

/* What of /proc and /sys a container does not see or change, unless it is privileged: containerd
 * hides only what it is told to. source: Kubernetes pkg/securitycontext, default proc mount. */
static const char *const cri_masked[] = {
    "/proc/asound",        "/proc/acpi",       "/proc/kcore",       "/proc/keys",
    "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
    "/proc/scsi",          "/sys/firmware",
};
static const char *const cri_read_only[] = {
    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

static Runtime__V1__LinuxContainerConfig *
cri_container_linux(struct arena *arena, const struct driver_sandbox *sandbox,
                    const struct driver_container *container)
{
    const struct driver_security *from = &container->security;
    Runtime__V1__Capability *capabilities =
        CRI_NEW(arena, Runtime__V1__Capability, RUNTIME__V1__CAPABILITY__INIT);
    capabilities->n_add_capabilities = from->capability_add_count;
    capabilities->add_capabilities = cri_texts(from->capabilities_add);
    capabilities->n_drop_capabilities = from->capability_drop_count;
    capabilities->drop_capabilities = cri_texts(from->capabilities_drop);

    Runtime__V1__LinuxContainerSecurityContext *security =
        CRI_NEW(arena, Runtime__V1__LinuxContainerSecurityContext,
                RUNTIME__V1__LINUX_CONTAINER_SECURITY_CONTEXT__INIT);
    security->capabilities = capabilities;
    security->privileged = from->privileged;
    security->namespace_options =
        cri_namespaces(arena, sandbox); /* the container's own default is POD */
    security->run_as_user = cri_number(arena, from->run_as_user);
    security->run_as_group = cri_number(arena, from->run_as_group);
    security->readonly_rootfs = from->read_only_root;
    security->n_supplemental_groups = from->group_count;
    security->supplemental_groups = (int64_t *)(uintptr_t)from->groups;
    security->no_new_privs = from->no_new_privileges;
    security->seccomp = cri_seccomp(arena, from);
    if (!from->privileged) {
        security->n_masked_paths = sizeof cri_masked / sizeof *cri_masked;
        security->masked_paths = cri_texts(cri_masked);
        security->n_readonly_paths = sizeof cri_read_only / sizeof *cri_read_only;
        security->readonly_paths = cri_texts(cri_read_only);
    }

    Runtime__V1__LinuxContainerResources *resources = CRI_NEW(
        arena, Runtime__V1__LinuxContainerResources, RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT);
    resources->cpu_shares = container->cpu_shares;
    resources->cpu_period = container->cpu_period_us;
    resources->cpu_quota = container->cpu_quota_us;
    resources->memory_limit_in_bytes = container->memory_limit_bytes;
    resources->oom_score_adj = container->oom_score_adj;

    Runtime__V1__LinuxContainerConfig *config = CRI_NEW(arena, Runtime__V1__LinuxContainerConfig,
                                                        RUNTIME__V1__LINUX_CONTAINER_CONFIG__INIT);
    config->security_context = security;
    config->resources = resources;
    return config;
}

static Runtime__V1__Mount **cri_mounts(struct arena *arena,
                                       const struct driver_container *container)
{
    Runtime__V1__Mount **mounts = arena_claim(arena, container->mount_count, sizeof *mounts);
    for (size_t i = 0; i < container->mount_count; i++) {
        const struct driver_mount *from = &container->mounts[i];
        mounts[i] = CRI_NEW(arena, Runtime__V1__Mount, RUNTIME__V1__MOUNT__INIT);
        mounts[i]->container_path = cri_text(from->container_path);
        mounts[i]->host_path = cri_text(from->host_path);
        mounts[i]->readonly = from->read_only;
        mounts[i]->propagation = from->propagation == 'B'
                                     ? RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL
                                 : from->propagation == 'H'
                                     ? RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_HOST_TO_CONTAINER
                                     : RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_PRIVATE;
    }
    return mounts;
}

Runtime__V1__ContainerConfig *cri_container(struct arena *arena, const char *node_name,
                                            const struct driver_sandbox *sandbox,
                                            const struct driver_container *container)
{
    const struct driver_pair labels[] = {
        {DRIVER_LABEL_POD_NAME, sandbox->pod_name},
        {DRIVER_LABEL_POD_NAMESPACE, sandbox->pod_namespace},
        {DRIVER_LABEL_POD_UID, sandbox->pod_uid},
        {DRIVER_LABEL_CONTAINER_NAME, container->name},
        {DRIVER_LABEL_NODE, node_name},
        {DRIVER_LABEL_ATTEMPT, arena_print(arena, "%u", container->attempt)},
        {DRIVER_LABEL_HASH, container->hash},
    };
    Runtime__V1__ContainerConfig *config =
        CRI_NEW(arena, Runtime__V1__ContainerConfig, RUNTIME__V1__CONTAINER_CONFIG__INIT);
    config->metadata =
        CRI_NEW(arena, Runtime__V1__ContainerMetadata, RUNTIME__V1__CONTAINER_METADATA__INIT);
    config->metadata->name = cri_text(container->name);
    config->metadata->attempt = container->attempt;
    config->image = CRI_NEW(arena, Runtime__V1__ImageSpec, RUNTIME__V1__IMAGE_SPEC__INIT);
    config->image->image = cri_text(container->image);
    config->n_command = container->command_count;
    config->command = cri_texts(container->command);
    config->n_args = container->arg_count;
    config->args = cri_texts(container->args);
    config->working_dir = cri_text(container->working_dir);
    config->n_envs = container->env_count;
    config->envs = cri_pairs(arena, container->env, container->env_count);
    config->n_mounts = container->mount_count;
    config->mounts = cri_mounts(arena, container);
    config->n_labels = sizeof labels / sizeof *labels;
    config->labels = cri_pairs(arena, labels, config->n_labels);
    config->log_path = cri_text(container->log_path);
    config->stdin_open = container->stdin_open;
    config->stdin_once = container->stdin_once;
    config->tty = container->tty;
    config->linux_config = cri_container_linux(arena, sandbox, container);
    return config;
}
