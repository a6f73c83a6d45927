#include "nodes/cli/status.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "nodes/control.h"
#include "nodes/options.h"

#define EXIT_UNREACHABLE 3
#define ANSWER_SECONDS   5

ssize_t cli_status_ask(const char *path, char *buffer, size_t size, int patience_s)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, strlen(path));
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    const struct timeval patience = {.tv_sec = patience_s};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience); /* of connect */
    ssize_t answer = 0;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        answer = errno == EAGAIN ? -ETIMEDOUT : -errno;
    }
    size_t used = 0;
    while (answer == 0 && used < size) {
        const ssize_t got = read(fd, buffer + used, size - used);
        if (got < 0) {
            answer = errno == EAGAIN ? -ETIMEDOUT : -errno;
        }
        if (got <= 0) {
            break;
        }
        used += (size_t)got;
    }
    close(fd);
    return answer < 0 ? answer : (ssize_t)used;
}

static void status_print(json_t *object)
{
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        if (json_is_object(value)) {
            continue; /* the group has a table of its own: kelp cluster status */
        }
        char *text = json_dumps(value, JSON_ENCODE_ANY);
        if (json_is_string(value)) {
            printf("%-18s %s\n", name, json_string_value(value));
        } else {
            printf("%-18s %s\n", name, text == NULL ? "?" : text);
        }
        free(text);
    }
}

int cli_status(int argc, char **argv)
{
    const char *output = "text";
    const struct options_flag flags[] = {
        {"output", 'o', OPTIONS_TEXT, &output, "text|json", "form of the answer"},
    };
    const struct options_command command = {
        .name = "kelp status",
        .arguments = "DIR",
        .about =
            "Ask a cloudcore or edgecore on this machine how it is. DIR is its data directory, or "
            "its control socket.\n\nExit codes: 0 answered, 2 usage, 3 nobody answers there.",
        .flags = flags,
        .flags_count = 1,
        .arguments_min = 1,
        .arguments_max = 1,
    };
    struct options_list words;
    switch (options_parse(&command, argc, argv, &words)) {
    case OPTIONS_DONE:
        return OPTIONS_EXIT_OK;
    case OPTIONS_USAGE:
        return OPTIONS_EXIT_USAGE;
    case OPTIONS_RUN:
        break;
    }
    if (strcmp(output, "text") != 0 && strcmp(output, "json") != 0) {
        fprintf(stderr, "kelp status: -o is text or json, not %s\n", output);
        return OPTIONS_EXIT_USAGE;
    }
    char path[4096];
    struct stat about;
    const bool directory = stat(words.items[0], &about) == 0 && S_ISDIR(about.st_mode);
    snprintf(path, sizeof path, "%s%s", words.items[0], directory ? "/control" : "");
    char text[CONTROL_BYTES + 1];
    const ssize_t size = cli_status_ask(path, text, sizeof text - 1, ANSWER_SECONDS);
    if (size <= 0) {
        fprintf(stderr, "kelp status: nobody answers at %s: %s\n", path,
                size == 0 ? "it is on its way out" : strerror((int)-size));
        if (size == -EACCES) {
            fprintf(stderr, "  try as root, or as the user it belongs to\n");
        } else if (directory && (size == -ECONNREFUSED || size == -ENOENT)) {
            fprintf(stderr, "  no cloudcore or edgecore runs with this data directory; 'kelp log' "
                            "reads it all the same\n");
        } else if (size == -ENOENT) {
            fprintf(stderr,
                    "  DIR is the data directory of a cloudcore or edgecore on this machine\n");
        }
        return EXIT_UNREACHABLE;
    }
    text[size] = 0;
    json_t *object = json_loads(text, 0, NULL);
    if (!json_is_object(object)) {
        fprintf(stderr, "kelp status: what answers at %s is no cloudcore or edgecore\n", path);
        json_decref(object);
        return EXIT_UNREACHABLE;
    }
    if (strcmp(output, "json") == 0) {
        printf("%s", text);
    } else {
        status_print(object);
    }
    json_decref(object);
    return OPTIONS_EXIT_OK;
}
