/* Patches from standard input to results on standard output, for api_patch_oracle.py: each line
 * {"kind":"Pod","type":"strategic|merge|json","base":{...},"patch":...} becomes the result, or null. */
#include <stdio.h>
#include <stdlib.h>

#include "nodes/cloud/api_patch.h"

int main(void)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t size;
    while ((size = getline(&line, &capacity, stdin)) > 0) {
        char why[200];
        json_t *job = json_read(bytes_of(line, (size_t)size), true, why, sizeof why);
        if (job == NULL) {
            fprintf(stderr, "%s\n", why);
            return 2;
        }
        json_t *base = json_object_get(job, "base");
        const json_t *patch = json_object_get(job, "patch");
        const char *type = json_text_at(job, "type");
        const struct api_resource *resource =
            api_resource_find_kind("", "v1", json_text_at(job, "kind"));
        struct api_error error = {0};
        const bool fine =
            strcmp(type, "json") == 0    ? api_patch_json(base, patch, &error)
            : strcmp(type, "merge") == 0 ? api_patch_merge(base, patch, &error)
                                         : api_patch_strategic(base, patch,
                                                               api_schema(resource->id), &error);
        struct text out = {0};
        if (fine) {
            json_write(&out, base);
        } else {
            text_add(&out, "null");
        }
        puts(out.data);
        text_release(&out);
        api_error_release(&error);
        json_decref(job);
    }
    free(line);
    return 0;
}
