#include "nodes/cloud/api_patch.h"

#include "schemas/check.h"

#include <ctype.h>
#include <stdlib.h>

/* -- merge patch ------------------------------------------------------------------------------------ */

static void merge(json_t *target, const json_t *patch)
{
    json_t *members = (json_t *)(uintptr_t)patch; /* jansson iterates over what is not const only */
    const char *name;
    json_t *value;
    json_object_foreach(members, name, value) {
        if (json_is_null(value)) {
            (void)json_object_del(target, name);
        } else if (json_is_object(value)) {
            merge(json_child(target, name), value);
        } else {
            json_t *copy = json_deep_copy(value);
            CHECK(json_object_set_new(target, name, copy) == 0);
        }
    }
}

bool api_patch_merge(json_t *document, const json_t *patch, struct api_error *error)
{
    if (!json_is_object(patch)) {
        api_error_set(error, 400, "the merge patch must be a JSON object");
        return false;
    }
    merge(document, patch);
    return true;
}

/* -- JSON patch ------------------------------------------------------------------------------------- */

static bool refuse(struct api_error *error, size_t at, const char *path, const char *why)
{
    api_error_set(error, 422, "the server rejected our request due to an error in our request: "
                              "operation %zu of the JSON patch (%.200s): %s", at, path, why);
    return false;
}

static uint32_t depth_of(const json_t *value)
{
    uint32_t deepest = 0;
    if (json_is_object(value)) {
        json_t *object = (json_t *)(uintptr_t)value;
        const char *name;
        json_t *member;
        json_object_foreach(object, name, member) {
            const uint32_t depth = depth_of(member);
            deepest = depth > deepest ? depth : deepest;
        }
        return deepest + 1;
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        const uint32_t depth = depth_of(json_array_get(value, i));
        deepest = depth > deepest ? depth : deepest;
    }
    return json_is_array(value) ? deepest + 1 : 0;
}

/* Take the next reference token of a pointer ("/a~1b" -> "a/b"); *at moves behind it. */
static char *pointer_token(const char **at)
{
    const char *from = *at + 1;
    const size_t size = strcspn(from, "/");
    char *token = malloc(size + 1);
    CHECK(token != NULL);
    size_t used = 0;
    for (size_t i = 0; i < size; i++) {
        if (from[i] == '~' && i + 1 < size && (from[i + 1] == '0' || from[i + 1] == '1')) {
            i++;
            token[used] = from[i] == '1' ? '/' : '~';
        } else {
            token[used] = from[i];
        }
        used++;
    }
    token[used] = '\0';
    *at = from + size;
    return token;
}

/* An index into an array of `size`; size itself for "-" and for the place behind the last; -1: none. */
static int64_t pointer_index(const char *token, size_t size)
{
    if (strcmp(token, "-") == 0) {
        return (int64_t)size;
    }
    const size_t length = strlen(token);
    if (length == 0 || length > 9 || (token[0] == '0' && length > 1)) {
        return -1;
    }
    int64_t index = 0;
    for (size_t i = 0; i < length; i++) {
        if (!isdigit((unsigned char)token[i])) {
            return -1;
        }
        index = index * 10 + (token[i] - '0');
    }
    return index <= (int64_t)size ? index : -1;
}

/* Walk to the container of what a pointer names.
 *
 *   out_token  the last token, to be freed; untouched when NULL is answered
 *   out_depth  of the container
 *   answers    borrowed; NULL: there is no such place, or the pointer is malformed or empty
 */
static json_t *pointer_parent(json_t *document, const char *pointer, char **out_token,
                              uint32_t *out_depth)
{
    if (pointer[0] != '/') {
        return NULL;
    }
    json_t *at = document;
    *out_depth = 1;
    for (;;) {
        char *token = pointer_token(&pointer);
        if (*pointer == '\0') {
            if (!json_is_object(at) && !json_is_array(at)) {
                free(token);
                return NULL;
            }
            *out_token = token;
            return at;
        }
        json_t *next = NULL;
        if (json_is_object(at)) {
            next = json_object_get(at, token);
        } else if (json_is_array(at)) {
            const int64_t index = pointer_index(token, json_array_size(at));
            next = index < 0 ? NULL : json_array_get(at, (size_t)index);
        }
        free(token);
        if (next == NULL) {
            return NULL;
        }
        at = next;
        (*out_depth)++;
    }
}

static json_t *pointer_get(json_t *document, const char *pointer)
{
    if (pointer[0] == '\0') {
        return document;
    }
    char *token;
    uint32_t depth;
    json_t *parent = pointer_parent(document, pointer, &token, &depth);
    if (parent == NULL) {
        return NULL;
    }
    json_t *value = NULL;
    if (json_is_object(parent)) {
        value = json_object_get(parent, token);
    } else {
        const int64_t index = pointer_index(token, json_array_size(parent));
        value = index < 0 ? NULL : json_array_get(parent, (size_t)index);
    }
    free(token);
    return value;
}

/* add, and replace when `replace`. Borrows value; what is put is a copy. */
static const char *pointer_put(json_t *document, const char *pointer, const json_t *value,
                               bool replace)
{
    if (pointer[0] == '\0') {
        if (!json_is_object(value)) {
            return "the document must stay an object";
        }
        json_t *copy = json_deep_copy(value);
        (void)json_object_clear(document);
        CHECK(json_object_update(document, copy) == 0);
        json_decref(copy);
        return NULL;
    }
    char *token;
    uint32_t depth;
    json_t *parent = pointer_parent(document, pointer, &token, &depth);
    if (parent == NULL) {
        return "there is no such path";
    }
    const char *why = NULL;
    if (depth + depth_of(value) > LIMIT_JSON_DEPTH) {
        why = "the document becomes too deep";
    } else if (json_is_object(parent)) {
        json_t *copy = json_deep_copy(value);
        why = json_object_set_new(parent, token, copy) == 0 ? NULL : "not a member name";
    } else {
        const size_t size = json_array_size(parent);
        const int64_t index = pointer_index(token, size);
        if (index < 0 || (replace && index == (int64_t)size)) {
            why = "there is no such index";
        } else {
            json_t *copy = json_deep_copy(value);
            CHECK((replace ? json_array_set_new(parent, (size_t)index, copy)
                           : json_array_insert_new(parent, (size_t)index, copy)) == 0);
        }
    }
    free(token);
    return why;
}

static const char *pointer_remove(json_t *document, const char *pointer)
{
    char *token;
    uint32_t depth;
    json_t *parent = pointer_parent(document, pointer, &token, &depth);
    if (parent == NULL) {
        return "there is no such path";
    }
    const char *why = NULL;
    if (json_is_object(parent)) {
        why = json_object_del(parent, token) == 0 ? NULL : "there is no such path";
    } else {
        const int64_t index = pointer_index(token, json_array_size(parent));
        if (index < 0 || json_array_remove(parent, (size_t)index) != 0) {
            why = "there is no such index";
        }
    }
    free(token);
    return why;
}

/* One operation. `budget` is what may still be copied within the document. */
static const char *operate(json_t *document, const json_t *operation, size_t *budget)
{
    const char *op = json_text_at(operation, "op");
    const char *path = json_text_at(operation, "path");
    const json_t *value = json_object_get(operation, "value");
    const bool needs_value =
        strcmp(op, "add") == 0 || strcmp(op, "replace") == 0 || strcmp(op, "test") == 0;
    if (needs_value && value == NULL) {
        return "the value is missing";
    }
    if (strcmp(op, "add") == 0) {
        return pointer_put(document, path, value, false);
    }
    if (strcmp(op, "replace") == 0) {
        return pointer_put(document, path, value, true);
    }
    if (strcmp(op, "remove") == 0) {
        return pointer_remove(document, path);
    }
    if (strcmp(op, "test") == 0) {
        const json_t *there = pointer_get(document, path);
        const bool equal = there == NULL ? json_is_null(value) : json_equal(there, value);
        return equal ? NULL : "the test failed";
    }
    const bool move = strcmp(op, "move") == 0;
    if (!move && strcmp(op, "copy") != 0) {
        return "there is no such operation";
    }
    const char *from = json_text_at(operation, "from");
    const json_t *found = pointer_get(document, from);
    if (found == NULL) {
        return "there is nothing at the path `from`";
    }
    const size_t from_size = strlen(from);
    if (move && strncmp(path, from, from_size) == 0 && path[from_size] == '/') {
        return "a value cannot move into itself";
    }
    struct text text = {0};
    json_write(&text, found);
    const size_t size = text.size;
    text_release(&text);
    if (size > *budget) {
        return "the document becomes too large";
    }
    *budget -= size;
    json_t *copy = json_deep_copy(found);
    const char *why = move ? pointer_remove(document, from) : NULL;
    why = why != NULL ? why : pointer_put(document, path, copy, false);
    json_decref(copy);
    return why;
}

bool api_patch_json(json_t *document, const json_t *patch, struct api_error *error)
{
    if (!json_is_array(patch)) {
        api_error_set(error, 400, "the JSON patch must be a list of operations");
        return false;
    }
    if (json_array_size(patch) > LIMIT_PATCH_OPERATIONS) {
        api_error_set(error, 413, "the JSON patch has %zu operations; at most %u are allowed",
                      json_array_size(patch), LIMIT_PATCH_OPERATIONS);
        return false;
    }
    size_t budget = LIMIT_HTTP_BODY_BYTES;
    for (size_t i = 0; i < json_array_size(patch); i++) {
        const json_t *operation = json_array_get(patch, i);
        const char *why = operate(document, operation, &budget);
        if (why != NULL) {
            return refuse(error, i, json_text_at(operation, "path"), why);
        }
    }
    return true;
}
