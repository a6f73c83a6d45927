/* control.h on real sockets: what is at its path, busy ones, and visitors at its end. And tag_tls.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "nodes/control.h"
#include "nodes/tag_tls.h"
#include "schemas/limits.h"

static char directory[64];
static char path[96];

static int set_up(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/kelp_control_XXXXXX");
    if (mkdtemp(directory) == NULL) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/control", directory);
    return 0;
}
static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(directory);
}

static void on_close(void *owner)
{
    *(bool *)owner = true;
}

static struct control *ending; /* closed while it answers */

static size_t report(void *owner, char *buffer, size_t size)
{
    (void)owner;
    if (ending != NULL) {
        control_close(ending, on_close);
        ending = NULL;
    }
    return (size_t)snprintf(buffer, size, "{}\n");
}

static int visit(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path));
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Claim: a stale socket is replaced, a served one is not, also when it is too busy to accept; and a file that is
 * no socket stays. */
static void test_what_is_there(void **state)
{
    (void)state;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    struct control first, second;
    bool closed = false;

    FILE *file = fopen(path, "w");
    fputs("precious", file);
    fclose(file);
    assert_int_equal(control_open(&second, &loop, path, report, &closed), -EEXIST);
    struct stat about;
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_size, 8);
    unlink(path);

    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path));
    const int stale = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(stale, (struct sockaddr *)&address, sizeof address), 0);
    close(stale); /* its process died: the name is left */

    assert_int_equal(control_open(&first, &loop, path, report, &closed), 0);
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0600);
    assert_int_equal(control_open(&second, &loop, path, report, &closed), -EADDRINUSE);
    int fds[256];
    int count = 0;
    while (count < 256 && (fds[count] = visit()) >= 0) {
        count++; /* until the kernel's queue is full: the loop does not run */
    }
    assert_in_range(count, 1, 255);
    assert_int_equal(control_open(&second, &loop, path, report, &closed), -EADDRINUSE);
    for (int i = 0; i < count; i++) {
        close(fds[i]);
    }
    control_close(&first, on_close);
    while (!closed) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    assert_int_not_equal(stat(path, &about), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* Claim: all visitors are answered, and one being answered at the end does not outlive the control's memory. */
static void test_visitors(void **state)
{
    (void)state;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    struct control *control = malloc(sizeof *control);
    bool closed = false;
    assert_int_equal(control_open(control, &loop, path, report, &closed), 0);
    int fds[10];
    for (size_t i = 0; i < 10; i++) {
        fds[i] = visit();
        assert_true(fds[i] >= 0);
    }
    for (int i = 0; i < 100; i++) {
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    for (size_t i = 0; i < 10; i++) {
        char text[8];
        assert_int_equal(read(fds[i], text, sizeof text), 3);
        assert_int_equal(read(fds[i], text, sizeof text), 0);
        close(fds[i]);
    }
    ending = control;
    const int last = visit();
    assert_true(last >= 0);
    while (!closed) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    assert_int_equal(control->visitors, 0);
    char text[8];
    assert_int_equal(read(last, text, sizeof text), 3);
    memset(control, 0xff, sizeof *control);
    free(control);
    while (uv_run(&loop, UV_RUN_NOWAIT) != 0) {
    }
    close(last);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* Claim: a tag depends on the cluster, on where the key ends, and on the content; chance is not constant. */
static void test_tags(void **state)
{
    (void)state;
    const struct tag one = tag_make("c", bytes_text("ab"), bytes_text("c"));
    const struct tag others[] = {
        tag_make("c", bytes_text("a"), bytes_text("bc")),
        tag_make("d", bytes_text("ab"), bytes_text("c")),
        tag_make("", bytes_text("ab"), bytes_text("c")),
        tag_make("c", bytes_text("ab"), bytes_text("")),
        tag_make("c", bytes_text(""), bytes_text("abc")),
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_true(one.low != others[i].low && one.high != others[i].high);
    }
    const struct tag again = tag_make("c", bytes_text("ab"), bytes_text("c"));
    assert_true(one.low == again.low && one.high == again.high);
    uint8_t cloud[16], edge[16], chance[2][600];
    tag_owner("cloudcore", "1", cloud);
    tag_owner("edge", "1", edge);
    assert_memory_not_equal(cloud, edge, 16);
    tag_random(chance[0], sizeof chance[0]);
    tag_random(chance[1], sizeof chance[1]);
    assert_memory_not_equal(chance[0] + 560, chance[1] + 560, 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_there),
        cmocka_unit_test(test_visitors),
        cmocka_unit_test(test_tags),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
