#include "nodes/cloud/state_place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "schemas/check.h"

static const char *const names[2] = {"state", "state.2"};

#define CURRENT        "state.current"
#define CURRENT_MAKING "state.current.making"

static void path_of(char out[static STATE_PLACE_BYTES], const struct state_place *place,
                    const char *name)
{
    const int size = snprintf(out, STATE_PLACE_BYTES, "%s/%s", place->data, name);
    CHECK(size > 0 && (size_t)size < STATE_PLACE_BYTES);
}

int state_place_open(struct state_place *place, const char *data)
{
    if (strlen(data) + sizeof CURRENT_MAKING + 1 >= STATE_PLACE_BYTES) {
        return -ENAMETOOLONG;
    }
    *place = (struct state_place){0};
    memcpy(place->data, data, strlen(data) + 1);
    path_of(place->paths[0], place, names[0]);
    path_of(place->paths[1], place, names[1]);

    char path[STATE_PLACE_BYTES];
    path_of(path, place, CURRENT);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    char text[32] = "";
    const ssize_t size = read(fd, text, sizeof text - 1);
    const int status = size < 0 ? -errno : 0;
    (void)close(fd);
    if (status != 0) {
        return status;
    }
    text[strcspn(text, "\n")] = '\0';
    for (unsigned i = 0; i < 2; i++) {
        if (strcmp(text, names[i]) == 0) {
            place->current = i;
            return 0;
        }
    }
    return STATUS_CORRUPT;
}

const char *state_place_current(const struct state_place *place)
{
    return place->paths[place->current];
}

const char *state_place_other(const struct state_place *place)
{
    return place->paths[1 - place->current];
}

bool state_place_exists(const struct state_place *place)
{
    return access(state_place_current(place), F_OK) == 0;
}

static int directory_sync(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    const int status = fsync(fd) == 0 ? 0 : -errno;
    (void)close(fd);
    return status;
}

int state_place_exchange(struct state_place *place)
{
    char making[STATE_PLACE_BYTES];
    char path[STATE_PLACE_BYTES];
    path_of(making, place, CURRENT_MAKING);
    path_of(path, place, CURRENT);
    char text[32];
    const int size = snprintf(text, sizeof text, "%s\n", names[1 - place->current]);
    const int fd = open(making, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return -errno;
    }
    errno = ENOSPC; /* of a short write */
    int status = write(fd, text, (size_t)size) == size && fsync(fd) == 0 ? 0 : -errno;
    (void)close(fd);
    if (status == 0 && rename(making, path) != 0) {
        status = -errno;
    }
    if (status != 0) {
        return status;
    }
    place->current = 1 - place->current; /* from here on it may be so after a crash: no way back */
    return directory_sync(place->data);
}
