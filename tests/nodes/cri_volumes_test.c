/* Volumes on a real disk: what a container would read, and what a crash or a change leaves. */
#include "nodes/edge/volumes.h"
#include "schemas/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];
static const char *map_json = "{\"data\":{\"color\":\"blue\",\"size\":\"9\"}}";
static struct pod_facts facts = {
    .pod_ip = "10.0.0.7", .host_ip = "192.0.2.1", .node_name = "edge-1", .root = root};

static int find(void *context, bool secret, const char *namespace, const char *name,
                struct bytes *out)
{
    (void)context, (void)namespace;
    if (!secret && strcmp(name, "map") == 0 && map_json != NULL) {
        *out = bytes_text(map_json);
        return 0;
    }
    if (secret && strcmp(name, "sec") == 0) {
        *out = bytes_text("{\"data\":{\"pass\":\"czNj\"}}");
        return 0;
    }
    return -ENOENT;
}

static const struct pod_lookup lookup = {.find = find};

static int setup(void **state)
{
    (void)state;
    map_json = "{\"data\":{\"color\":\"blue\",\"size\":\"9\"}}";
    facts.pod_ip = "10.0.0.7";
    snprintf(root, sizeof root, "/tmp/kelp-volumes-XXXXXX");
    return mkdtemp(root) == NULL;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf --one-file-system %s", root);
    return system(command);
}

#define POD(volumes, more)                                                                         \
    "{\"metadata\":{\"name\":\"web\",\"namespace\":\"ns\",\"uid\":\"u1\",\"labels\":{\"b\":\"2\"," \
    "\"a\":\"q\\\"\"}},\"spec\":{" more "\"volumes\":[" volumes                                    \
    "],\"containers\":[{\"name\":\"c\",\"image\":\"i:1\"}]}}"

static char error[512];

static int write_pod(const char *json)
{
    struct pod_spec spec;
    struct volume_plan plan;
    assert_int_equal(podspec_parse(bytes_text(json), &spec, error, sizeof error), 0);
    int status = volumes_plan(&spec, &lookup, &facts, &plan, error, sizeof error);
    podspec_deinit(&spec); /* the plan owns what it needs: the wish may go while a thread writes */
    if (status == 0) {
        status = volumes_write(&plan, error, sizeof error);
        volume_plan_deinit(&plan);
    }
    return status;
}

static const char *path_of(const char *path)
{
    static char whole[512];
    snprintf(whole, sizeof whole, "%s/pods/u1/%s", root, path);
    return whole;
}

static const char *content(const char *path)
{
    static char text[512];
    FILE *file = fopen(path_of(path), "re");
    if (file == NULL) {
        return "(none)";
    }
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    return text;
}

static unsigned mode_of(const char *path)
{
    struct stat info;
    return stat(path_of(path), &info) == 0 ? info.st_mode & 07777 : 0;
}

static size_t entries(const char *path)
{
    size_t count = 0;
    DIR *directory = opendir(path_of(path));
    while (directory != NULL && readdir(directory) != NULL) {
        count++;
    }
    if (directory != NULL) {
        closedir(directory);
    }
    return count;
}

#define MAP "{\"name\":\"m\",\"configMap\":{\"name\":\"map\"}}"

static void test_every_kind(void **state)
{
    (void)state;
    assert_int_equal(
        write_pod(POD(MAP ",{\"name\":\"s\",\"secret\":{\"secretName\":\"sec\",\"defaultMode\":256}"
                          "},{\"name\":\"e\",\"emptyDir\":{}},"
                          "{\"name\":\"i\",\"configMap\":{\"name\":\"map\",\"items\":[{\"key\":"
                          "\"color\",\"path\":\"deep/er/c\",\"mode\":384}]}},"
                          "{\"name\":\"d\",\"downwardAPI\":{\"items\":[{\"path\":\"l\","
                          "\"fieldRef\":{\"fieldPath\":\"metadata.labels\"}},"
                          "{\"path\":\"n\",\"fieldRef\":{\"fieldPath\":\"metadata.name\"}}]}},"
                          "{\"name\":\"o\",\"configMap\":{\"name\":\"none\",\"optional\":true}},"
                          "{\"name\":\"p\",\"projected\":{\"sources\":[{\"configMap\":{\"name\":"
                          "\"map\",\"items\":[{\"key\":\"size\",\"path\":\"x\"}]}},"
                          "{\"secret\":{\"name\":\"sec\"}}]}}",
                      "\"hostAliases\":[{\"ip\":\"1.2.3.4\",\"hostnames\":[\"a\",\"b\"]}],")),
        0);
    assert_string_equal(content("volumes/config-map/m/color"), "blue");
    assert_string_equal(content("volumes/secret/s/pass"), "s3c");
    assert_string_equal(content("volumes/config-map/i/deep/er/c"), "blue");
    assert_string_equal(content("volumes/downward-api/d/l"), "a=\"q\\\"\"\nb=\"2\"");
    assert_string_equal(content("volumes/downward-api/d/n"), "web");
    assert_string_equal(content("volumes/projected/p/x"), "9");
    assert_string_equal(content("volumes/projected/p/pass"), "s3c");
    assert_int_equal(entries("volumes/config-map/o"),
                     4); /* . .. ..data ..<time>: empty, and there */
    assert_int_equal(mode_of(""), 0700);
    assert_int_equal(mode_of("volumes/secret/s/pass"), 0400);
    assert_int_equal(mode_of("volumes/config-map/m/color"), 0644);
    assert_int_equal(mode_of("volumes/config-map/i/deep/er/c"), 0600);
    assert_int_equal(mode_of("volumes/empty-dir/e"), 0777);
    assert_non_null(strstr(content("etc-hosts"), "10.0.0.7\tweb\n"));
    assert_non_null(strstr(content("etc-hosts"), "1.2.3.4\ta b\n"));
    assert_int_equal(mode_of("../../logs/ns_web_u1/c"), 0755);
}

/* Claim: a change swaps all files at once, what went is gone, what did not change is not touched,
 * and a mounted file keeps its directory entry. */
static void test_updates(void **state)
{
    (void)state;
    char before[256], after[256];
    assert_int_equal(write_pod(POD(MAP, "")), 0);
    ssize_t size = readlink(path_of("volumes/config-map/m/..data"), before, sizeof before - 1);
    before[size] = 0;
    assert_int_equal(write_pod(POD(MAP, "")), 0);
    size = readlink(path_of("volumes/config-map/m/..data"), after, sizeof after - 1);
    after[size] = 0;
    assert_string_equal(before, after);
    const int held = open(path_of("volumes/config-map/m/..data/color"),
                          O_RDONLY | O_CLOEXEC); /* a reader in the middle */
    map_json = "{\"data\":{\"color\":\"green\",\"new\":\"1\"}}";
    assert_int_equal(write_pod(POD(MAP, "")), 0);
    assert_string_equal(content("volumes/config-map/m/color"), "green");
    assert_string_equal(content("volumes/config-map/m/new"), "1");
    assert_string_equal(content("volumes/config-map/m/size"), "(none)");
    assert_int_equal(entries("volumes/config-map/m"), 6); /* . .. ..data ..<time> color new */
    char old[8] = "";
    assert_int_equal(read(held, old, sizeof old - 1), 4);
    assert_string_equal(old, "blue");
    close(held);
}

/* Claim: wherever a crash ends a writing, the next one makes it whole.
 * Method: the debris of each step by hand. */
static void test_debris_of_a_crash(void **state)
{
    (void)state;
    assert_int_equal(write_pod(POD(MAP, "")), 0);
    assert_int_equal(mkdir(path_of("volumes/config-map/m/..123.0"), 0755), 0); /* step 2 */
    assert_int_equal(mkdir(path_of("volumes/config-map/m/..123.0/sub"), 0755), 0);
    assert_int_equal(symlink("..123.0", path_of("volumes/config-map/m/..data_tmp")),
                     0);                                                /* step 3 */
    assert_int_equal(unlink(path_of("volumes/config-map/m/color")), 0); /* step 4 */
    assert_int_equal(symlink("..data/gone", path_of("volumes/config-map/m/gone")), 0);
    map_json = "{\"data\":{\"color\":\"red\"}}";
    assert_int_equal(write_pod(POD(MAP, "")), 0);
    assert_string_equal(content("volumes/config-map/m/color"), "red");
    assert_int_equal(entries("volumes/config-map/m"), 5);
}

static void test_missing_and_host_paths(void **state)
{
    (void)state;
    char json[1024];
    map_json = NULL;
    assert_int_equal(write_pod(POD(MAP, "")), -ENOENT);
    assert_string_equal(error, "configmap \"map\" not found");
    map_json = "{\"data\":{\"color\":\"x\"}}";
    assert_int_equal(write_pod(POD("{\"name\":\"m\",\"configMap\":{\"name\":\"map\",\"items\":[{"
                                   "\"key\":\"no\",\"path\":\"p\"}]}}",
                                   "")),
                     -ENOENT);
    static const struct {
        const char *name, *type;
        int status;
    } cases[] = {
        {"dir", "DirectoryOrCreate", 0}, {"dir", "Directory", 0}, {"dir", "File", -EINVAL},
        {"file", "FileOrCreate", 0},     {"file", "File", 0},     {"file", "Socket", -EINVAL},
        {"none", "Directory", -ENOENT},  {"none", "", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(json, sizeof json,
                 POD("{\"name\":\"h\",\"hostPath\":{\"path\":\"%s/%s\",\"type\":\"%s\"}}", ""),
                 root, cases[i].name, cases[i].type);
        assert_int_equal(write_pod(json), cases[i].status);
    }
}

/* Claim: removal takes everything of this pod and nothing else; symlinks are not followed, a tmpfs
 * is unmounted first; a second removal is no error. */
static void test_removal(void **state)
{
    (void)state;
    char outside[128], log[256];
    struct stat info;
    snprintf(outside, sizeof outside, "%s/outside", root);
    assert_int_equal(mkdir(outside, 0755), 0);
    const bool mounts = geteuid() == 0;
    const int status = write_pod(
        mounts ? POD(MAP
                     ",{\"name\":\"e\",\"emptyDir\":{\"medium\":\"Memory\",\"sizeLimit\":\"1Mi\"}}",
                     "")
               : POD(MAP, ""));
    if (status == -EPERM) {
        skip(); /* root without the right to mount */
    }
    assert_int_equal(status, 0);
    assert_int_equal(symlink(outside, path_of("escape")), 0);
    if (mounts) {
        assert_int_equal(mkdir(path_of("volumes/empty-dir/e/full"), 0755), 0);
    }
    snprintf(log, sizeof log, "%s/logs/ns_web_u1/c", root);
    for (int i = 0; i < 3; i++) {
        char path[512];
        snprintf(path, sizeof path, i == 2 ? "%s/1.log.20260101" : "%s/%d.log", log, i);
        fclose(fopen(path, "we"));
    }
    assert_int_equal(volumes_remove_log(root, "ns", "web", "u1", "c", 1), 0);
    assert_int_equal(entries("../../logs/ns_web_u1/c"), 3); /* . .. 0.log */
    assert_int_equal(volumes_remove(root, "", "ns", "web", "u1", error, sizeof error), 0);
    assert_int_not_equal(stat(path_of(""), &info), 0);
    assert_int_not_equal(stat(log, &info), 0);
    assert_int_equal(stat(outside, &info), 0);
    assert_int_equal(volumes_remove(root, "", "ns", "web", "u1", error, sizeof error), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(test_every_kind), TEST(test_updates),
                                       TEST(test_debris_of_a_crash),
                                       TEST(test_missing_and_host_paths), TEST(test_removal)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
