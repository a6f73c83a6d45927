/* A fuzz target without libFuzzer: every file of the corpus, every prefix of it, and every file with each
 * of its bytes changed in turn. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILE_BYTES_MAX = 4096 };

static void replay(const uint8_t *data, size_t size)
{
    for (size_t prefix = 0; prefix <= size; prefix++) {
        uint8_t *exact = malloc(prefix + 1); /* so that a sanitizer sees a byte too far */
        memcpy(exact, data, prefix);
        LLVMFuzzerTestOneInput(exact, prefix);
        free(exact);
    }
    uint8_t changed[FILE_BYTES_MAX];
    for (size_t place = 0; place < size; place++) {
        for (int bit = 0; bit < 8; bit++) {
            memcpy(changed, data, size);
            changed[place] ^= (uint8_t)(1 << bit);
            LLVMFuzzerTestOneInput(changed, size);
        }
    }
}

int main(int argc, char **argv)
{
    DIR *directory = argc == 2 ? opendir(argv[1]) : NULL;
    if (directory == NULL) {
        fprintf(stderr, "usage: %s CORPUS\n", argv[0]);
        return 2;
    }
    int files = 0;
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        FILE *file = entry->d_name[0] == '.' ? NULL : fopen(path, "re");
        if (file == NULL) {
            continue;
        }
        uint8_t data[FILE_BYTES_MAX];
        const size_t size = fread(data, 1, sizeof data, file);
        fclose(file);
        replay(data, size);
        files++;
    }
    closedir(directory);
    printf("%d files\n", files);
    return files > 0 ? 0 : 1;
}
