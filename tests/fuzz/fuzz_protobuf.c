/* Can a protobuf body hurt the API door? */
#include "nodes/cloud/api_protobuf.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char why[200];
    json_t *object = api_protobuf_read(bytes_of(data, size), why, sizeof why);
    if (object != NULL) {
        struct text text = {0};
        json_write(&text, object);
        json_t *again = json_read(text_bytes(&text), false, why, sizeof why);
        if (again == NULL || !json_equal(again, object)) {
            abort(); /* what is decoded can be written and read */
        }
        json_decref(again);
        text_release(&text);
    }
    json_decref(object);
    return 0;
}
