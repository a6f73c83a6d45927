/* Can a patch of a user hurt the API door? 's', 'j' or 'm', the document, a NUL, the patch. */
#include "nodes/cloud/api_patch.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *middle = size < 2 ? NULL : memchr(data + 1, '\0', size - 1);
    if (middle == NULL) {
        return 0;
    }
    char why[200];
    json_t *document =
        json_read(bytes_of(data + 1, (size_t)(middle - data - 1)), true, why, sizeof why);
    json_t *patch = json_read(bytes_of(middle + 1, (size_t)(data + size - middle - 1)), true, why,
                              sizeof why);
    if (json_is_object(document) && patch != NULL) {
        struct api_error error = {0};
        const bool fine = data[0] == 'j'   ? api_patch_json(document, patch, &error)
                          : data[0] == 'm' ? api_patch_merge(document, patch, &error)
                                           : api_patch_strategic(document, patch,
                                                                 api_schema(API_POD), &error);
        if (fine == (error.code != 0)) {
            abort(); /* an answer is one or the other */
        }
        struct text text = {0};
        json_write(&text, document);
        json_t *again = json_read(text_bytes(&text), false, why, sizeof why);
        if (fine && again == NULL && data[0] == 'j') {
            abort(); /* the result is JSON within our bounds */
        }
        json_decref(again);
        text_release(&text);
        api_error_release(&error);
    }
    json_decref(document);
    json_decref(patch);
    return 0;
}
