#include "tests/nodes/net_support.h"

#include "nodes/net/identity_tls.h"

#include <arpa/inet.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char support_directory[64];

const char *support_path(const char *name)
{
    static char paths[16][256];
    static unsigned next;
    char *path = paths[next++ % 16];
    snprintf(path, sizeof paths[0], "%s/%s", support_directory, name);
    return path;
}

struct identity_request support_request(const char *common_name, const char *const *group,
                                        const char *const *sans, size_t sans_count, bool server)
{
    return (struct identity_request){
        .common_name = common_name,
        .groups = group,
        .groups_count = 1,
        .sans = sans,
        .sans_count = sans_count,
        .server = server,
        .client = true,
        .valid_from_s = time(NULL) - 7200,
        .valid_until_s = time(NULL) + 86400,
    };
}

static void support_issue(const char *authority, const char *name, const char *common_name,
                          const char *group, const char *const *sans, size_t sans_count,
                          bool server, bool client, int64_t until_s)
{
    char reason[IDENTITY_REASON_BYTES] = "";
    struct identity_request request =
        support_request(common_name, &group, sans, sans_count, server);
    request.client = client;
    request.valid_until_s = time(NULL) + until_s;
    if (identity_issue(support_path(authority), &request, support_path(authority), name, false,
                       reason) != IDENTITY_MADE) {
        fail_msg("%s: %s", name, reason);
    }
}

int support_set_up(void **state)
{
    (void)state;
    snprintf(support_directory, sizeof support_directory, "/tmp/kelp_net_XXXXXX");
    if (mkdtemp(support_directory) == NULL) {
        return -1;
    }
    char reason[IDENTITY_REASON_BYTES] = "";
    const int64_t now_s = time(NULL);
    static const char *const authorities[] = {"ca", "foreign"};
    for (size_t i = 0; i < 2; i++) {
        if (identity_authority_create(support_path(authorities[i]), "kelp-test", now_s - 7200,
                                      now_s + 86400, false, reason) != IDENTITY_MADE) {
            fail_msg("%s", reason);
        }
    }
    static const char *const here[] = {"127.0.0.1", "::1", "localhost"};
    static const char *const there[] = {"another.example", "10.9.8.7"};
    support_issue("ca", "server", "cloudcore-1", "kelp:cloudcores", here, 3, true, true, 86400);
    support_issue("ca", "second", "cloudcore-2", "kelp:cloudcores", here, 3, true, true, 86400);
    support_issue("ca", "elsewhere", "cloudcore-2", "kelp:cloudcores", there, 2, true, true, 86400);
    support_issue("ca", "edge", "system:node:edge-1", "system:nodes", NULL, 0, false, true, 86400);
    support_issue("ca", "admin", "admin", "system:masters", NULL, 0, false, true, 86400);
    support_issue("ca", "expired", "system:node:old", "system:nodes", NULL, 0, false, true, -3600);
    support_issue("ca", "server_only", "system:node:x", "system:nodes", NULL, 0, true, false,
                  86400);
    support_issue("foreign", "stranger", "system:node:edge-1", "system:nodes", here, 3, true, true,
                  86400);
    return 0;
}

uint16_t support_free_port(void)
{
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static int support_remove(const char *path, const struct stat *stat, int kind, struct FTW *place)
{
    (void)stat;
    (void)kind;
    (void)place;
    return remove(path);
}

int support_tear_down(void **state)
{
    (void)state;
    return nftw(support_directory, support_remove, 8, FTW_DEPTH | FTW_PHYS);
}

struct link_context *support_context(enum link_role role, const char *name, const char *authority)
{
    char authority_file[64], certificate[64], key[64];
    snprintf(authority_file, sizeof authority_file, "%s/ca.crt", authority);
    snprintf(certificate, sizeof certificate, "%s/%s.crt",
             name != NULL && strcmp(name, "stranger") == 0 ? "foreign" : "ca",
             name == NULL ? "" : name);
    snprintf(key, sizeof key, "%s", certificate);
    memcpy(key + strlen(key) - 3, "key", 3);
    const struct link_files files = {.authority = support_path(authority_file),
                                     .certificate = name == NULL ? NULL : support_path(certificate),
                                     .key = name == NULL ? NULL : support_path(key)};
    struct link_context *context = NULL;
    char reason[LINK_REASON_BYTES] = "";
    if (link_context_open(role, &files, &context, reason) != 0) {
        fail_msg("context %s: %s", name, reason);
    }
    return context;
}

/* Against hanging, not a slow machine. Looked at often: a timer of the test may have made the condition true
 * before the loop went to wait for what never comes. */
#define SUPPORT_LOOK_MS 20u
#define SUPPORT_LOOKS   3000u

static void support_on_look(uv_timer_t *timer)
{
    *(unsigned *)timer->data += 1;
}

void support_run(uv_loop_t *loop, const bool *done)
{
    unsigned looks = 0;
    uv_timer_t timer;
    uv_timer_init(loop, &timer);
    timer.data = &looks;
    uv_timer_start(&timer, support_on_look, SUPPORT_LOOK_MS, SUPPORT_LOOK_MS);
    while (!*done && looks < SUPPORT_LOOKS) {
        uv_run(loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(loop, UV_RUN_NOWAIT);
    assert_true(*done);
}

static void support_print_handle(uv_handle_t *handle, void *context)
{
    (void)context;
    if (!uv_is_closing(handle)) {
        print_error("left open: %s\n", uv_handle_type_name(handle->type));
    }
}

void support_finish(uv_loop_t *loop)
{
    for (int i = 0; i < 1000 && uv_loop_alive(loop) != 0; i++) {
        uv_run(loop, UV_RUN_NOWAIT);
        usleep(uv_loop_alive(loop) != 0 ? 2000 : 0);
    }
    uv_walk(loop, support_print_handle, NULL);
    assert_int_equal(uv_loop_close(loop), 0);
}
