#include "nodes/cloud/api_schema.h"

#include "schemas/check.h"

#include <ctype.h>
#include <stdio.h>

/* How the tables below read: S text, I integer, R number, B bool, T time, Q quantity, P port, Y base64, A anything;
 * LIST, MAP of those; O object, LO list of objects that is replaced, LM list merged by key. */
#define S(name)               {name, SHAPE_TEXT, MANY_NONE, NULL, NULL, false}
#define I(name)               {name, SHAPE_NUMBER, MANY_NONE, NULL, NULL, false}
#define R(name)               {name, SHAPE_REAL, MANY_NONE, NULL, NULL, false}
#define B(name)               {name, SHAPE_BOOL, MANY_NONE, NULL, NULL, false}
#define T(name)               {name, SHAPE_TIME, MANY_NONE, NULL, NULL, false}
#define Q(name)               {name, SHAPE_QUANTITY, MANY_NONE, NULL, NULL, false}
#define P(name)               {name, SHAPE_PORT, MANY_NONE, NULL, NULL, false}
#define A(name)               {name, SHAPE_ANY, MANY_NONE, NULL, NULL, false}
#define LIST(name, shape)     {name, SHAPE_##shape, MANY_LIST, NULL, NULL, false}
#define SET(name)             {name, SHAPE_TEXT, MANY_LIST, NULL, "", false}
#define MAP(name, shape)      {name, SHAPE_##shape, MANY_MAP, NULL, NULL, false}
#define O(name, type)         {name, SHAPE_OBJECT, MANY_NONE, &type, NULL, false}
#define LO(name, type)        {name, SHAPE_OBJECT, MANY_LIST, &type, NULL, false}
#define LM(name, type, key)   {name, SHAPE_OBJECT, MANY_LIST, &type, key, false}
#define LMR(name, type, key)  {name, SHAPE_OBJECT, MANY_LIST, &type, key, true}
#define END                   {NULL, SHAPE_ANY, MANY_NONE, NULL, NULL, false}
#define TYPE(name, ...)                                                                            \
    static const struct schema_field name##_fields[] = {__VA_ARGS__, END};                         \
    static const struct schema_type name = {name##_fields}

/* -- metadata -------------------------------------------------------------------------------------- */

TYPE(owner_reference, S("apiVersion"), S("kind"), S("name"), S("uid"), B("controller"),
     B("blockOwnerDeletion"));
TYPE(metadata, S("name"), S("generateName"), S("namespace"), S("selfLink"), S("uid"),
     S("resourceVersion"), I("generation"), T("creationTimestamp"), T("deletionTimestamp"),
     I("deletionGracePeriodSeconds"), MAP("labels", TEXT), MAP("annotations", TEXT),
     LM("ownerReferences", owner_reference, "uid"), SET("finalizers"), A("managedFields"));
TYPE(object_reference, S("kind"), S("namespace"), S("name"), S("uid"), S("apiVersion"),
     S("resourceVersion"), S("fieldPath"));
TYPE(local_reference, S("name"));
TYPE(condition_type, S("type"), S("status"), T("lastProbeTime"), T("lastHeartbeatTime"),
     T("lastTransitionTime"), S("reason"), S("message"), I("observedGeneration"));

/* -- containers ------------------------------------------------------------------------------------ */

TYPE(key_selector, S("name"), S("key"), B("optional"));
TYPE(field_selector, S("apiVersion"), S("fieldPath"));
TYPE(resource_selector, S("containerName"), S("resource"), Q("divisor"));
TYPE(env_source, O("fieldRef", field_selector), O("resourceFieldRef", resource_selector),
     O("configMapKeyRef", key_selector), O("secretKeyRef", key_selector));
TYPE(env_variable, S("name"), S("value"), O("valueFrom", env_source));
TYPE(optional_reference, S("name"), B("optional"));
TYPE(env_from, S("prefix"), O("configMapRef", optional_reference),
     O("secretRef", optional_reference));
TYPE(container_port, S("name"), I("hostPort"), I("containerPort"), S("protocol"), S("hostIP"));
TYPE(claim, S("name"), S("request"));
TYPE(requirements, MAP("limits", QUANTITY), MAP("requests", QUANTITY), LO("claims", claim));
TYPE(resize_policy, S("resourceName"), S("restartPolicy"));
TYPE(volume_mount, S("name"), B("readOnly"), S("recursiveReadOnly"), S("mountPath"), S("subPath"),
     S("mountPropagation"), S("subPathExpr"));
TYPE(volume_device, S("name"), S("devicePath"));
TYPE(exec_action, LIST("command", TEXT));
TYPE(http_header_type, S("name"), S("value"));
TYPE(http_action, S("path"), P("port"), S("host"), S("scheme"),
     LO("httpHeaders", http_header_type));
TYPE(tcp_action, P("port"), S("host"));
TYPE(grpc_action, I("port"), S("service"));
TYPE(sleep_action, I("seconds"));
TYPE(probe, O("exec", exec_action), O("httpGet", http_action), O("tcpSocket", tcp_action),
     O("grpc", grpc_action), I("initialDelaySeconds"), I("timeoutSeconds"), I("periodSeconds"),
     I("successThreshold"), I("failureThreshold"), I("terminationGracePeriodSeconds"));
TYPE(lifecycle_handler, O("exec", exec_action), O("httpGet", http_action),
     O("tcpSocket", tcp_action), O("sleep", sleep_action));
TYPE(lifecycle, O("postStart", lifecycle_handler), O("preStop", lifecycle_handler),
     S("stopSignal"));
TYPE(capabilities, LIST("add", TEXT), LIST("drop", TEXT));
TYPE(selinux, S("user"), S("role"), S("type"), S("level"));
TYPE(profile, S("type"), S("localhostProfile"));
TYPE(container_security, O("capabilities", capabilities), B("privileged"),
     O("seLinuxOptions", selinux), A("windowsOptions"), I("runAsUser"), I("runAsGroup"),
     B("runAsNonRoot"), B("readOnlyRootFilesystem"), B("allowPrivilegeEscalation"), S("procMount"),
     O("seccompProfile", profile), O("appArmorProfile", profile));
TYPE(container, S("name"), S("image"), LIST("command", TEXT), LIST("args", TEXT), S("workingDir"),
     LM("ports", container_port, "containerPort"), LO("envFrom", env_from),
     LM("env", env_variable, "name"), O("resources", requirements),
     LO("resizePolicy", resize_policy), S("restartPolicy"),
     LM("volumeMounts", volume_mount, "mountPath"), LM("volumeDevices", volume_device, "devicePath"),
     O("livenessProbe", probe), O("readinessProbe", probe), O("startupProbe", probe),
     O("lifecycle", lifecycle), S("terminationMessagePath"), S("terminationMessagePolicy"),
     S("imagePullPolicy"), O("securityContext", container_security), B("stdin"), B("stdinOnce"),
     B("tty"), S("targetContainerName"));

/* -- volumes --------------------------------------------------------------------------------------- */

TYPE(key_path, S("key"), S("path"), I("mode"));
TYPE(downward_file, S("path"), O("fieldRef", field_selector),
     O("resourceFieldRef", resource_selector), I("mode"));
TYPE(host_path, S("path"), S("type"));
TYPE(empty_dir, S("medium"), Q("sizeLimit"));
TYPE(secret_volume, S("secretName"), LO("items", key_path), I("defaultMode"), B("optional"));
TYPE(config_map_volume, S("name"), LO("items", key_path), I("defaultMode"), B("optional"));
TYPE(downward_volume, LO("items", downward_file), I("defaultMode"));
TYPE(token_projection, S("audience"), I("expirationSeconds"), S("path"));
TYPE(projection, O("secret", config_map_volume), O("configMap", config_map_volume),
     O("downwardAPI", downward_volume), O("serviceAccountToken", token_projection),
     A("clusterTrustBundle"));
TYPE(projected_volume, LO("sources", projection), I("defaultMode"));
TYPE(claim_volume, S("claimName"), B("readOnly"));
TYPE(nfs_volume, S("server"), S("path"), B("readOnly"));
TYPE(image_volume, S("reference"), S("pullPolicy"));
TYPE(volume, S("name"), O("hostPath", host_path), O("emptyDir", empty_dir),
     O("secret", secret_volume), O("configMap", config_map_volume),
     O("downwardAPI", downward_volume), O("projected", projected_volume),
     O("persistentVolumeClaim", claim_volume), O("nfs", nfs_volume), O("image", image_volume),
     A("gcePersistentDisk"), A("awsElasticBlockStore"), A("gitRepo"), A("iscsi"), A("glusterfs"),
     A("rbd"), A("flexVolume"), A("cinder"), A("cephfs"), A("flocker"), A("fc"), A("azureFile"),
     A("vsphereVolume"), A("quobyte"), A("azureDisk"), A("photonPersistentDisk"),
     A("portworxVolume"), A("scaleIO"), A("storageos"), A("csi"), A("ephemeral"));

/* -- pods ------------------------------------------------------------------------------------------ */

TYPE(toleration, S("key"), S("operator"), S("value"), S("effect"), I("tolerationSeconds"));
TYPE(host_alias, S("ip"), LIST("hostnames", TEXT));
TYPE(dns_option, S("name"), S("value"));
TYPE(dns_config, LIST("nameservers", TEXT), LIST("searches", TEXT), LO("options", dns_option));
TYPE(sysctl, S("name"), S("value"));
TYPE(pod_security, O("seLinuxOptions", selinux), A("windowsOptions"), I("runAsUser"),
     I("runAsGroup"), B("runAsNonRoot"), LIST("supplementalGroups", NUMBER),
     S("supplementalGroupsPolicy"), I("fsGroup"), LO("sysctls", sysctl), S("fsGroupChangePolicy"),
     O("seccompProfile", profile), O("appArmorProfile", profile), S("seLinuxChangePolicy"));
TYPE(readiness_gate, S("conditionType"));
TYPE(spread_constraint, I("maxSkew"), S("topologyKey"), S("whenUnsatisfiable"), A("labelSelector"),
     I("minDomains"), S("nodeAffinityPolicy"), S("nodeTaintsPolicy"),
     LIST("matchLabelKeys", TEXT));
TYPE(pod_os, S("name"));
TYPE(resource_claim, S("name"), S("resourceClaimName"), S("resourceClaimTemplateName"));
TYPE(pod_spec_type, LMR("volumes", volume, "name"), LM("initContainers", container, "name"),
     LM("containers", container, "name"), LM("ephemeralContainers", container, "name"),
     S("restartPolicy"), I("terminationGracePeriodSeconds"), I("activeDeadlineSeconds"),
     S("dnsPolicy"), MAP("nodeSelector", TEXT), S("serviceAccountName"), S("serviceAccount"),
     B("automountServiceAccountToken"), S("nodeName"), B("hostNetwork"), B("hostPID"),
     B("hostIPC"), B("shareProcessNamespace"), O("securityContext", pod_security),
     LM("imagePullSecrets", local_reference, "name"), S("hostname"), S("subdomain"), A("affinity"),
     S("schedulerName"), LO("tolerations", toleration), LM("hostAliases", host_alias, "ip"),
     S("priorityClassName"), I("priority"), O("dnsConfig", dns_config),
     LO("readinessGates", readiness_gate), S("runtimeClassName"), B("enableServiceLinks"),
     S("preemptionPolicy"), MAP("overhead", QUANTITY),
     LM("topologySpreadConstraints", spread_constraint, "topologyKey"), B("setHostnameAsFQDN"),
     O("os", pod_os), B("hostUsers"), LM("schedulingGates", local_reference, "name"),
     LMR("resourceClaims", resource_claim, "name"), O("resources", requirements));

TYPE(state_waiting, S("reason"), S("message"));
TYPE(state_running, T("startedAt"));
TYPE(state_terminated, I("exitCode"), I("signal"), S("reason"), S("message"), T("startedAt"),
     T("finishedAt"), S("containerID"));
TYPE(container_state_type, O("waiting", state_waiting), O("running", state_running),
     O("terminated", state_terminated));
TYPE(mount_status, S("name"), S("mountPath"), B("readOnly"), S("recursiveReadOnly"));
TYPE(allocated_status, S("name"), A("resources"));
TYPE(container_status_type, S("name"), O("state", container_state_type),
     O("lastState", container_state_type), B("ready"), I("restartCount"), S("image"), S("imageID"),
     S("containerID"), B("started"), MAP("allocatedResources", QUANTITY),
     O("resources", requirements), LM("volumeMounts", mount_status, "mountPath"), A("user"),
     LM("allocatedResourcesStatus", allocated_status, "name"), S("stopSignal"));
TYPE(address_ip, S("ip"));
TYPE(claim_status, S("name"), S("resourceClaimName"));
TYPE(pod_status_type, S("phase"), LM("conditions", condition_type, "type"), S("message"),
     S("reason"), S("nominatedNodeName"), S("hostIP"), LM("hostIPs", address_ip, "ip"), S("podIP"),
     LM("podIPs", address_ip, "ip"), T("startTime"),
     LO("initContainerStatuses", container_status_type),
     LO("containerStatuses", container_status_type), S("qosClass"),
     LO("ephemeralContainerStatuses", container_status_type), S("resize"),
     LMR("resourceClaimStatuses", claim_status, "name"), I("observedGeneration"));
TYPE(pod_type, S("apiVersion"), S("kind"), O("metadata", metadata), O("spec", pod_spec_type),
     O("status", pod_status_type));

/* -- the other kinds ------------------------------------------------------------------------------- */

TYPE(taint, S("key"), S("value"), S("effect"), T("timeAdded"));
TYPE(node_spec, S("podCIDR"), SET("podCIDRs"), S("providerID"), B("unschedulable"),
     LO("taints", taint), A("configSource"), S("externalID"));
TYPE(node_address, S("type"), S("address"));
TYPE(node_status_type, MAP("capacity", QUANTITY), MAP("allocatable", QUANTITY), S("phase"),
     LM("conditions", condition_type, "type"), LM("addresses", node_address, "type"),
     A("daemonEndpoints"), A("nodeInfo"), A("images"), A("volumesInUse"), A("volumesAttached"),
     A("config"), A("runtimeHandlers"), A("features"));
TYPE(node_type, S("apiVersion"), S("kind"), O("metadata", metadata), O("spec", node_spec),
     O("status", node_status_type));

TYPE(namespace_spec, LIST("finalizers", TEXT));
TYPE(namespace_status, S("phase"), LM("conditions", condition_type, "type"));
TYPE(namespace_type, S("apiVersion"), S("kind"), O("metadata", metadata), O("spec", namespace_spec),
     O("status", namespace_status));

TYPE(config_map_type, S("apiVersion"), S("kind"), O("metadata", metadata), B("immutable"),
     MAP("data", TEXT), MAP("binaryData", BASE64));
TYPE(secret_type, S("apiVersion"), S("kind"), O("metadata", metadata), B("immutable"),
     MAP("data", BASE64), MAP("stringData", TEXT), S("type"));
TYPE(service_account_type, S("apiVersion"), S("kind"), O("metadata", metadata),
     LM("secrets", object_reference, "name"), LO("imagePullSecrets", local_reference),
     B("automountServiceAccountToken"));

TYPE(event_source, S("component"), S("host"));
TYPE(event_series, I("count"), T("lastObservedTime"));
TYPE(event_type, S("apiVersion"), S("kind"), O("metadata", metadata),
     O("involvedObject", object_reference), S("reason"), S("message"), O("source", event_source),
     T("firstTimestamp"), T("lastTimestamp"), I("count"), S("type"), T("eventTime"),
     O("series", event_series), S("action"), O("related", object_reference),
     S("reportingComponent"), S("reportingInstance"));

TYPE(lease_spec, S("holderIdentity"), I("leaseDurationSeconds"), T("acquireTime"), T("renewTime"),
     I("leaseTransitions"), S("strategy"), S("preferredHolder"));
TYPE(lease_type, S("apiVersion"), S("kind"), O("metadata", metadata), O("spec", lease_spec));

TYPE(definition_type, S("apiVersion"), S("kind"), O("metadata", metadata), A("spec"), A("status"));

/* -- devices, v1beta1 ------------------------------------------------------------------------------- */

TYPE(config_data, S("protocolName"), A("configData"));
TYPE(twin_value, S("value"), MAP("metadata", TEXT));
TYPE(push_http, S("hostName"), I("port"), S("requestPath"), I("timeout"));
TYPE(push_mqtt, S("address"), S("topic"), I("qos"), B("retained"));
TYPE(push_otel, S("endpointURL"));
TYPE(influx_client, S("url"), S("org"), S("bucket"));
TYPE(influx_data, S("measurement"), MAP("tag", TEXT), S("fieldKey"));
TYPE(influx, O("influxdb2ClientConfig", influx_client), O("influxdb2DataConfig", influx_data));
TYPE(redis_client, S("addr"), I("db"), I("poolsize"), I("minIdleConns"));
TYPE(redis, O("redisClientConfig", redis_client));
TYPE(tdengine_client, S("addr"), S("dbName"));
TYPE(tdengine, O("TDEngineClientConfig", tdengine_client));
TYPE(mysql_client, S("addr"), S("database"), S("userName"));
TYPE(mysql, O("mysqlClientConfig", mysql_client));
TYPE(push_database, O("influxdb2", influx), O("redis", redis), O("TDEngine", tdengine),
     O("mysql", mysql));
TYPE(push_method, O("http", push_http), O("mqtt", push_mqtt), O("otel", push_otel),
     O("dbMethod", push_database), A("anomalyDetection"));
TYPE(device_property_type, S("name"), O("desired", twin_value), O("visitors", config_data),
     I("collectCycle"), I("reportCycle"), B("reportToCloud"), O("pushMethod", push_method));
TYPE(device_method, S("name"), S("description"), LIST("propertyNames", TEXT));
TYPE(state_report, B("reportToCloud"), I("reportCycle"));
TYPE(device_spec, O("deviceModelRef", local_reference), S("nodeName"),
     LO("properties", device_property_type), O("protocol", config_data),
     LO("methods", device_method), O("stateReport", state_report));
TYPE(device_twin, S("propertyName"), O("observedDesired", twin_value), O("reported", twin_value));
TYPE(device_status_type, LO("twins", device_twin), S("state"), S("reason"), S("message"),
     S("lastOnlineTime"), A("extensions"), B("reportToCloud"), I("reportCycle"));
TYPE(device_type, S("apiVersion"), S("kind"), O("metadata", metadata), O("spec", device_spec),
     O("status", device_status_type));

TYPE(device_report, S("apiVersion"), S("kind"), O("metadata", metadata),
     O("status", device_status_type));

TYPE(model_property, S("name"), S("description"), S("type"), S("accessMode"), S("minimum"),
     S("maximum"), S("unit"), O("visitors", config_data));
TYPE(device_model_spec, LO("properties", model_property), S("protocol"), A("protocolConfigData"));
TYPE(device_model_type, S("apiVersion"), S("kind"), O("metadata", metadata),
     O("spec", device_model_spec));

/* -- devices, v1alpha2 ------------------------------------------------------------------------------ */

TYPE(node_requirement, S("key"), S("operator"), LIST("values", TEXT));
TYPE(node_term, LO("matchExpressions", node_requirement), LO("matchFields", node_requirement));
TYPE(node_selector, LO("nodeSelectorTerms", node_term));
TYPE(opcua_protocol, S("url"), S("userName"), S("password"), S("securityPolicy"), S("securityMode"),
     S("certificate"), S("privateKey"), I("timeout"));
TYPE(modbus_protocol, I("slaveID"));
TYPE(bluetooth_protocol, S("macAddress"));
TYPE(common_com, S("serialPort"), I("baudRate"), I("dataBits"), S("parity"), I("stopBits"));
TYPE(common_tcp, S("ip"), I("port"));
TYPE(common_protocol, O("com", common_com), O("tcp", common_tcp), S("commType"),
     I("reconnTimeout"), I("reconnRetryTimes"), I("collectTimeout"), I("collectRetryTimes"),
     S("collectType"), A("customizedValues"));
TYPE(alpha_protocol, O("opcua", opcua_protocol), O("modbus", modbus_protocol),
     O("bluetooth", bluetooth_protocol), O("customizedProtocol", config_data),
     O("common", common_protocol));
TYPE(opcua_visitor, S("nodeID"), S("browseName"));
TYPE(modbus_visitor, S("register"), I("offset"), I("limit"), R("scale"), B("isSwap"),
     B("isRegisterSwap"));
TYPE(convert_operation, S("operationType"), R("operationValue"));
TYPE(data_converter, I("startIndex"), I("endIndex"), I("shiftLeft"), I("shiftRight"),
     LO("orderOfOperations", convert_operation));
TYPE(bluetooth_visitor, S("characteristicUUID"), A("dataWrite"),
     O("dataConverter", data_converter));
TYPE(alpha_visitor, S("propertyName"), I("reportCycle"), I("collectCycle"), A("customizedValues"),
     O("opcua", opcua_visitor), O("modbus", modbus_visitor), O("bluetooth", bluetooth_visitor),
     O("customizedProtocol", config_data));
TYPE(data_property, S("propertyName"), MAP("metadata", TEXT));
TYPE(alpha_data, LO("dataProperties", data_property), S("dataTopic"));
TYPE(alpha_spec, O("deviceModelRef", local_reference), O("nodeSelector", node_selector),
     O("protocol", alpha_protocol), LO("propertyVisitors", alpha_visitor), O("data", alpha_data));
TYPE(alpha_twin, S("propertyName"), O("desired", twin_value), O("reported", twin_value));
TYPE(alpha_status, LO("twins", alpha_twin), S("state"), S("reason"), S("message"),
     S("lastOnlineTime"));
TYPE(alpha_device, S("apiVersion"), S("kind"), O("metadata", metadata), O("spec", alpha_spec),
     O("status", alpha_status));

TYPE(alpha_int, S("accessMode"), I("defaultValue"), I("minimum"), I("maximum"), S("unit"));
TYPE(alpha_real, S("accessMode"), R("defaultValue"), R("minimum"), R("maximum"), S("unit"));
TYPE(alpha_string, S("accessMode"), S("defaultValue"));
TYPE(alpha_boolean, S("accessMode"), B("defaultValue"));
TYPE(alpha_bytes, S("accessMode"));
TYPE(alpha_property_type, O("int", alpha_int), O("string", alpha_string), O("double", alpha_real),
     O("float", alpha_real), O("boolean", alpha_boolean), O("bytes", alpha_bytes));
TYPE(alpha_model_property, S("name"), S("description"), O("type", alpha_property_type));
TYPE(alpha_model_spec, LO("properties", alpha_model_property), S("protocol"));
TYPE(alpha_model, S("apiVersion"), S("kind"), O("metadata", metadata),
     O("spec", alpha_model_spec));

const struct schema_type *api_schema(enum api_kind kind)
{
    switch (kind) {
    case API_NAMESPACE:
        return &namespace_type;
    case API_POD:
        return &pod_type;
    case API_CONFIGMAP:
        return &config_map_type;
    case API_SECRET:
        return &secret_type;
    case API_NODE:
        return &node_type;
    case API_EVENT:
        return &event_type;
    case API_SERVICEACCOUNT:
        return &service_account_type;
    case API_LEASE:
        return &lease_type;
    case API_DEVICE:
        return &device_type;
    case API_DEVICE_MODEL:
        return &device_model_type;
    case API_DEVICE_STATUS:
        return &device_report;
    case API_DEVICE_ALPHA:
        return &alpha_device;
    case API_DEVICE_MODEL_ALPHA:
        return &alpha_model;
    case API_DEFINITION:
        return &definition_type;
    }
    CHECK(false);
    return NULL;
}

const struct schema_field *schema_find(const struct schema_type *type, const char *name)
{
    if (type == NULL) {
        return NULL;
    }
    for (const struct schema_field *field = type->fields; field->name != NULL; field++) {
        if (strcmp(field->name, name) == 0) {
            return field;
        }
    }
    return NULL;
}

/* -- checking --------------------------------------------------------------------------------------- */

struct schema_walk {
    const struct api_resource *resource;
    struct text path; /* "spec.containers[0].image" */
    struct text *unknown;
    struct api_error *error; /* NULL: nobody asks why */
};

static const char *type_text(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        return "null";
    }
    return "?";
}

static bool walk_refuse(struct schema_walk *walk, const char *expected, const json_t *found)
{
    if (walk->error == NULL) {
        return false;
    }
    api_error_set(walk->error, 400,
                  "%s in version \"%s\" cannot be handled as a %s: %s: expected %s, found %s",
                  walk->resource->kind, walk->resource->version, walk->resource->kind,
                  walk->path.data, expected, type_text(found));
    return false;
}

static bool base64_valid(const char *text)
{
    size_t size = strlen(text);
    if (size % 4 != 0) {
        return false;
    }
    for (size_t pad = 0; pad < 2 && size > 0 && text[size - 1] == '='; pad++) {
        size--;
    }
    for (size_t i = 0; i < size; i++) {
        if (!isalnum((unsigned char)text[i]) && text[i] != '+' && text[i] != '/') {
            return false;
        }
    }
    return true;
}

static bool walk_object(struct schema_walk *walk, const struct schema_type *type, const json_t *v);

static bool walk_one(struct schema_walk *walk, const struct schema_field *field, const json_t *v)
{
    switch (field->shape) {
    case SHAPE_ANY:
        return true;
    case SHAPE_TEXT:
        return json_is_string(v) || walk_refuse(walk, "a string", v);
    case SHAPE_NUMBER:
        return json_is_integer(v) || walk_refuse(walk, "an integer", v);
    case SHAPE_REAL:
        return json_is_number(v) || walk_refuse(walk, "a number", v);
    case SHAPE_BOOL:
        return json_is_boolean(v) || walk_refuse(walk, "a boolean", v);
    case SHAPE_TIME:
        return (json_is_string(v) && time_parse(json_string_value(v)) >= 0) ||
               walk_refuse(walk, "a time as \"2025-01-31T08:00:00Z\"", v);
    case SHAPE_QUANTITY: {
        int64_t milli;
        return quantity_parse(v, &milli) ||
               walk_refuse(walk, "a quantity as \"500m\" or \"64Mi\"", v);
    }
    case SHAPE_PORT:
        return json_is_string(v) || json_is_integer(v) ||
               walk_refuse(walk, "a port number or name", v);
    case SHAPE_BASE64:
        return (json_is_string(v) && base64_valid(json_string_value(v))) ||
               walk_refuse(walk, "base64", v);
    case SHAPE_OBJECT:
        return walk_object(walk, field->type, v);
    }
    return true;
}

static bool walk_field(struct schema_walk *walk, const struct schema_field *field, const json_t *v)
{
    if (json_is_null(v)) {
        return true; /* as absent */
    }
    const size_t size = walk->path.size;
    switch (field->many) {
    case MANY_NONE:
        return walk_one(walk, field, v);
    case MANY_LIST:
        if (!json_is_array(v)) {
            return walk_refuse(walk, "a list", v);
        }
        for (size_t i = 0; i < json_array_size(v); i++) {
            text_print(&walk->path, "[%zu]", i);
            if (!walk_one(walk, field, json_array_get(v, i))) {
                return false;
            }
            walk->path.size = size;
        }
        return true;
    case MANY_MAP: {
        if (!json_is_object(v)) {
            return walk_refuse(walk, "an object", v);
        }
        json_t *map = (json_t *)(uintptr_t)v;
        const char *name;
        json_t *value;
        json_object_foreach(map, name, value) {
            text_print(&walk->path, ".%s", name);
            if (!json_is_null(value) && !walk_one(walk, field, value)) {
                return false;
            }
            walk->path.size = size;
        }
        return true;
    }
    }
    return true;
}

static bool walk_object(struct schema_walk *walk, const struct schema_type *type, const json_t *v)
{
    if (!json_is_object(v)) {
        return walk_refuse(walk, "an object", v);
    }
    const size_t size = walk->path.size;
    json_t *object = (json_t *)(uintptr_t)v;
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value) {
        text_print(&walk->path, "%s%s", size == 0 ? "" : ".", name);
        const struct schema_field *field = schema_find(type, name);
        if (field != NULL) {
            if (!walk_field(walk, field, value)) {
                return false;
            }
        } else if (walk->unknown != NULL && walk->unknown->size < 4096) {
            text_print(walk->unknown, "%sunknown field \"%s\"",
                       walk->unknown->size == 0 ? "" : ", ", walk->path.data);
        }
        walk->path.size = size;
    }
    return true;
}

bool schema_check(const struct api_resource *resource, const json_t *object, struct text *unknown,
                  struct api_error *error)
{
    struct schema_walk walk = {.resource = resource, .unknown = unknown, .error = error};
    text_append(&walk.path, "", 0);
    const bool fine = walk_object(&walk, api_schema(resource->id), object);
    text_release(&walk.path);
    return fine;
}

bool schema_holds(const struct schema_type *type, const json_t *object)
{
    struct text unknown = {0};
    struct schema_walk walk = {.unknown = &unknown};
    text_append(&walk.path, "", 0);
    const bool holds = walk_object(&walk, type, object) && unknown.size == 0;
    text_release(&walk.path);
    text_release(&unknown);
    return holds;
}

/* -- quantities ------------------------------------------------------------------------------------- */

__extension__ typedef __int128 wide; /* the largest quantity in thousandths, before it is bounded */

/* source: k8s.io/apimachinery/pkg/api/resource/quantity.go. Differs: no exponent with binary suffix,
 * nothing below a thousandth is told apart. */
static bool quantity_parse_text(const char *text, int64_t *out_milli)
{
    static const struct {
        const char *suffix;
        wide milli;
    } suffixes[] = {
        {"", 1000},
        {"m", 1},
        {"k", 1000000},
        {"M", 1000000000},
        {"G", 1000000000000},
        {"T", 1000000000000000},
        {"P", 1000000000000000000},
        {"Ki", (wide)1000 << 10},
        {"Mi", (wide)1000 << 20},
        {"Gi", (wide)1000 << 30},
        {"Ti", (wide)1000 << 40},
        {"Pi", (wide)1000 << 50},
    };
    const bool negative = *text == '-';
    if (*text == '-' || *text == '+') {
        text++;
    }
    wide digits = 0;
    wide scale = 1;
    uint32_t count = 0;
    bool fraction = false;
    for (; isdigit((unsigned char)*text) || (*text == '.' && !fraction); text++) {
        if (*text == '.') {
            fraction = true;
            continue;
        }
        count++;
        if (count > 19) {
            return false;
        }
        digits = digits * 10 + (*text - '0');
        scale *= fraction ? 10 : 1;
    }
    if (count == 0) {
        return false;
    }
    wide milli = -1;
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        if (strcmp(text, suffixes[i].suffix) == 0) {
            milli = suffixes[i].milli;
        }
    }
    if ((*text == 'e' || *text == 'E') && isdigit((unsigned char)text[1]) &&
        (text[2] == '\0' || (isdigit((unsigned char)text[2]) && text[3] == '\0'))) {
        milli = 1000;
        int exponent;
        (void)sscanf(text + 1, "%d", &exponent);
        for (int i = 0; i < exponent && milli < (wide)1 << 62; i++) {
            milli *= 10;
        }
    }
    if (milli < 0 || digits > ((wide)1 << 120) / milli) {
        return false;
    }
    const wide value = (digits * milli + scale - 1) / scale;
    if (value > INT64_MAX) {
        return false;
    }
    *out_milli = negative ? -(int64_t)value : (int64_t)value;
    return true;
}

bool quantity_parse(const json_t *value, int64_t *out_milli)
{
    if (json_is_string(value)) {
        return quantity_parse_text(json_string_value(value), out_milli);
    }
    if (json_is_number(value)) {
        struct text text = {0};
        json_write(&text, value);
        const bool fine = quantity_parse_text(text.data, out_milli);
        text_release(&text);
        return fine;
    }
    return false;
}
