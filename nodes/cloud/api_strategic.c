/* Strategic merge patch. The order of the elements of a merged list is part of the result: what the patch
 * names comes in the patch's order, the others keep theirs, and the two are woven by the order the list had
 * before. kubectl's own implementation (kubectl patch --local) is the oracle of the tests. */
#include "nodes/cloud/api_patch.h"

#include "schemas/check.h"

#define DIRECTIVE     "$patch"
#define RETAIN_KEYS   "$retainKeys"
#define ELEMENT_ORDER "$setElementOrder/"
#define DELETE_LIST   "$deleteFromPrimitiveList/"

struct strategic {
    struct api_error *error;
};

static bool refuse(const struct strategic *s, const char *why, const char *what)
{
    api_error_set(s->error, 400, "the strategic merge patch cannot be applied: %s%s%s", why,
                  what[0] == '\0' ? "" : ": ", what);
    return false;
}

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static void append(json_t *array, json_t *value)
{
    CHECK(json_array_append(array, value) == 0);
}

/* -- values that are taken as they are --------------------------------------------------------------- */

/* A patch value that meets nothing to merge with: nulls of objects are dropped, so are directives, and
 * elements of lists that are directives. false: the value itself is one to drop. */
static bool take(json_t *value)
{
    if (json_is_object(value)) {
        if (json_object_get(value, DIRECTIVE) != NULL) {
            return false; /* replace as well: the reference drops what it cannot merge into */
        }
        const char *name;
        void *next;
        json_t *member;
        json_object_foreach_safe(value, next, name, member) {
            if (json_is_null(member) || starts_with(name, "$") || !take(member)) {
                (void)json_object_del(value, name);
            }
        }
        return true;
    }
    for (size_t i = json_array_size(value); i > 0; i--) {
        json_t *element = json_array_get(value, i - 1);
        const bool directive = json_object_get(element, DIRECTIVE) != NULL;
        if (directive || !take(element)) {
            CHECK(json_array_remove(value, i - 1) == 0);
        }
    }
    return true;
}

/* -- the order of elements ---------------------------------------------------------------------------- */

/* Same element: by key, or as scalars when key is "". */
static bool same(const json_t *a, const json_t *b, const char *key)
{
    if (key[0] == '\0') {
        return json_equal(a, b);
    }
    const json_t *left = json_object_get(a, key);
    const json_t *right = json_object_get(b, key);
    return left != NULL && right != NULL && json_equal(left, right);
}

static int64_t place(const json_t *list, const json_t *element, const char *key)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (same(json_array_get(list, i), element, key)) {
            return (int64_t)i;
        }
    }
    return -1;
}

/* Elements of `all` that `order` names come in its order; the rest keep theirs; of the two heads the rest's
 * goes first only if `base` knows both and has it first. A new list. */
static json_t *weave(const json_t *all, const json_t *order, const json_t *base, const char *key)
{
    json_t *named = json_array();
    json_t *rest = json_array();
    json_t *taken = json_array(); /* of `order`, to take equal keys once per entry in `all` */
    for (size_t i = 0; i < json_array_size(order); i++) {
        const json_t *wanted = json_array_get(order, i);
        if (place(taken, wanted, key) >= 0) {
            continue;
        }
        append(taken, (json_t *)(uintptr_t)wanted);
        for (size_t j = 0; j < json_array_size(all); j++) {
            if (same(json_array_get(all, j), wanted, key)) {
                append(named, json_array_get(all, j));
            }
        }
    }
    for (size_t i = 0; i < json_array_size(all); i++) {
        if (place(taken, json_array_get(all, i), key) < 0) {
            append(rest, json_array_get(all, i));
        }
    }

    json_t *woven = json_array();
    size_t n = 0;
    size_t r = 0;
    while (n < json_array_size(named) && r < json_array_size(rest)) {
        const int64_t rest_place = place(base, json_array_get(rest, r), key);
        const int64_t named_place = place(base, json_array_get(named, n), key);
        if (rest_place >= 0 && named_place >= 0 && rest_place < named_place) {
            append(woven, json_array_get(rest, r));
            r++;
        } else {
            append(woven, json_array_get(named, n));
            n++;
        }
    }
    for (; n < json_array_size(named); n++) {
        append(woven, json_array_get(named, n));
    }
    for (; r < json_array_size(rest); r++) {
        append(woven, json_array_get(rest, r));
    }
    json_decref(named);
    json_decref(rest);
    json_decref(taken);
    return woven;
}

/* -- lists -------------------------------------------------------------------------------------------- */

static bool merge_object(const struct strategic *s, json_t *original, json_t *patch,
                         const struct schema_type *type);

static bool merge_set(json_t *list, const json_t *patch)
{
    json_t *all = json_array();
    for (size_t i = 0; i < json_array_size(list) + json_array_size(patch); i++) {
        const size_t size = json_array_size(list);
        json_t *value = i < size ? json_array_get(list, i) : json_array_get(patch, i - size);
        if (place(all, value, "") < 0) {
            append(all, value);
        }
    }
    json_t *woven = weave(all, patch, list, "");
    CHECK(json_array_clear(list) == 0);
    CHECK(json_array_extend(list, woven) == 0);
    json_decref(woven);
    json_decref(all);
    return true;
}

/* Carry out the $patch elements of a patch list and take them out of it. */
static bool merge_special(const struct strategic *s, json_t *list, json_t *patch, const char *key,
                          bool *out_replaced)
{
    *out_replaced = false;
    for (size_t i = 0; i < json_array_size(patch);) {
        const json_t *element = json_array_get(patch, i);
        if (!json_is_object(element)) {
            return refuse(s, "an element of a list that is merged by key is no object", key);
        }
        if (json_object_get(element, DIRECTIVE) == NULL) {
            i++;
            continue;
        }
        const char *directive = json_text_at(element, DIRECTIVE);
        if (strcmp(directive, "replace") == 0) {
            *out_replaced = true;
        } else if (strcmp(directive, "delete") == 0) {
            if (json_object_get(element, key) == NULL) {
                return refuse(s, "an element to delete does not have the merge key", key);
            }
            for (size_t j = json_array_size(list); j > 0; j--) {
                if (same(json_array_get(list, j - 1), element, key)) {
                    CHECK(json_array_remove(list, j - 1) == 0);
                }
            }
        } else {
            return refuse(s, "unknown $patch directive in a list", directive);
        }
        CHECK(json_array_remove(patch, i) == 0);
    }
    return true;
}

/* Merge a list by key, in place.
 *
 *   out_base  what the order is woven by, when a $setElementOrder follows: as the reference has it, the
 *             first n of (survivors, then added), n being the length before. A new list; may be NULL */
static bool merge_keyed(const struct strategic *s, json_t *list, json_t *patch,
                        const struct schema_type *type, const char *key, json_t **out_base)
{
    const size_t size_before = json_array_size(list);
    bool replaced;
    if (!merge_special(s, list, patch, key, &replaced)) {
        return false;
    }
    if (replaced) {
        if (out_base != NULL) {
            *out_base = json_copy(list);
        }
        CHECK(json_array_clear(list) == 0);
        for (size_t i = 0; i < json_array_size(patch); i++) {
            (void)take(json_array_get(patch, i));
            append(list, json_array_get(patch, i));
        }
        return true;
    }
    json_t *base = json_copy(list);
    bool fine = true;
    for (size_t i = 0; i < json_array_size(patch) && fine; i++) {
        json_t *element = json_array_get(patch, i);
        if (json_object_get(element, key) == NULL) {
            fine = refuse(s, "an element does not have the merge key", key);
            break;
        }
        const int64_t at = place(list, element, key);
        if (at >= 0) {
            json_t *copy = json_deep_copy(element); /* merging takes the patch apart */
            fine = merge_object(s, json_array_get(list, (size_t)at), copy, type);
            json_decref(copy);
        } else {
            json_t *copy = json_deep_copy(element);
            (void)take(copy);
            CHECK(json_array_append_new(list, copy) == 0);
        }
    }
    if (fine) {
        if (out_base != NULL) {
            *out_base = json_copy(list);
            while (json_array_size(*out_base) > size_before) {
                CHECK(json_array_remove(*out_base, json_array_size(*out_base) - 1) == 0);
            }
        }
        json_t *woven = weave(list, patch, base, key);
        CHECK(json_array_clear(list) == 0);
        CHECK(json_array_extend(list, woven) == 0);
        json_decref(woven);
    }
    json_decref(base);
    return fine;
}

/* -- directives of an object --------------------------------------------------------------------------- */

/* $retainKeys: members of the original that are not listed go. */
static bool retain_keys(const struct strategic *s, json_t *original, json_t *patch)
{
    json_t *keep = json_object_get(patch, RETAIN_KEYS);
    if (keep == NULL) {
        return true;
    }
    if (!json_is_array(keep)) {
        return refuse(s, "$retainKeys is no list", "");
    }
    (void)json_incref(keep);
    (void)json_object_del(patch, RETAIN_KEYS);
    bool fine = true;
    const char *name;
    void *next;
    json_t *value;
    json_object_foreach(patch, name, value) {
        json_t *text = json_string(name);
        if (!json_is_null(value) && !starts_with(name, "$") && place(keep, text, "") < 0) {
            fine = refuse(s, "a member of the patch is not in $retainKeys", name);
        }
        json_decref(text);
    }
    json_object_foreach_safe(original, next, name, value) {
        json_t *text = json_string(name);
        if (place(keep, text, "") < 0) {
            (void)json_object_del(original, name);
        }
        json_decref(text);
    }
    json_decref(keep);
    return fine;
}

/* Does the patch list name its live elements in the order of the order list? */
static bool order_fits(const json_t *patch, const json_t *order, const char *key)
{
    size_t at = 0;
    for (size_t i = 0; i < json_array_size(patch); i++) {
        const json_t *element = json_array_get(patch, i);
        if (json_object_get(element, DIRECTIVE) != NULL) {
            continue;
        }
        while (at < json_array_size(order) && !same(json_array_get(order, at), element, key)) {
            at++;
        }
        if (at >= json_array_size(order)) {
            return false;
        }
        at++;
    }
    return true;
}

/* $setElementOrder/f, and the list f together with it. */
static bool set_element_order(const struct strategic *s, json_t *original, json_t *patch,
                              const char *name, const json_t *order,
                              const struct schema_type *type)
{
    const struct schema_field *field = schema_find(type, name);
    const char *key = field == NULL || field->merge_key == NULL ? "" : field->merge_key;
    json_t *list = json_object_get(original, name);
    json_t *changes = json_object_get(patch, name);
    if (!json_is_array(order)) {
        return refuse(s, "$setElementOrder is no list", name);
    }
    if ((list != NULL && !json_is_array(list)) || (changes != NULL && !json_is_array(changes))) {
        return refuse(s, "$setElementOrder is for lists", name);
    }
    if (json_array_size(changes) > 0 && json_array_size(order) > 0 &&
        !order_fits(changes, order, key)) {
        return refuse(s, "the order in the patch list doesn't match $setElementOrder list", name);
    }
    if (list == NULL && changes == NULL) {
        return true;
    }
    json_t *base = NULL;
    if (list == NULL) {
        list = json_deep_copy(changes);
        (void)take(list);
        base = json_array();
        CHECK(json_object_set_new(original, name, list) == 0);
    } else if (changes != NULL && field != NULL && field->merge_key != NULL) {
        if (key[0] == '\0') {
            base = json_copy(list);
            (void)merge_set(list, changes);
        } else if (!merge_keyed(s, list, changes, field->type, key, &base)) {
            return false;
        }
    } else if (changes != NULL) {
        base = json_copy(list);
        CHECK(json_array_clear(list) == 0);
        CHECK(json_array_extend(list, changes) == 0);
    }
    json_t *woven = weave(list, order, base != NULL ? base : list, key);
    json_decref(base);
    CHECK(json_object_set_new(original, name, woven) == 0);
    (void)json_object_del(patch, name);
    return true;
}

/* $deleteFromPrimitiveList/f */
static void delete_from(json_t *original, const char *name, const json_t *gone)
{
    json_t *list = json_object_get(original, name);
    for (size_t i = json_array_size(list); i > 0; i--) {
        if (place(gone, json_array_get(list, i - 1), "") >= 0) {
            CHECK(json_array_remove(list, i - 1) == 0);
        }
    }
}

static bool merge_directives(const struct strategic *s, json_t *original, json_t *patch,
                             const struct schema_type *type)
{
    if (!retain_keys(s, original, patch)) {
        return false;
    }
    const char *name;
    void *next;
    json_t *value;
    json_t *orders = json_object(); /* taken aside: handling one takes members out of the patch */
    json_object_foreach_safe(patch, next, name, value) {
        if (starts_with(name, ELEMENT_ORDER)) {
            CHECK(json_object_set(orders, name + sizeof ELEMENT_ORDER - 1, value) == 0);
            (void)json_object_del(patch, name);
        }
    }
    bool fine = true;
    json_object_foreach(orders, name, value) {
        fine = fine && set_element_order(s, original, patch, name, value, type);
    }
    json_decref(orders);
    json_object_foreach_safe(patch, next, name, value) {
        if (starts_with(name, DELETE_LIST)) {
            delete_from(original, name + sizeof DELETE_LIST - 1, value);
            (void)json_object_del(patch, name);
        }
    }
    return fine;
}

/* -- objects ------------------------------------------------------------------------------------------- */

static bool merge_list(const struct strategic *s, json_t *list, json_t *patch,
                       const struct schema_field *field)
{
    if (field == NULL || field->merge_key == NULL) {
        CHECK(json_array_clear(list) == 0);
        CHECK(json_array_extend(list, patch) == 0);
        return true;
    }
    if (field->merge_key[0] == '\0') {
        return merge_set(list, patch);
    }
    return merge_keyed(s, list, patch, field->type, field->merge_key, NULL);
}

/* Merge a patch into an object, in place. The patch is taken apart on the way. */
static bool merge_object(const struct strategic *s, json_t *original, json_t *patch,
                         const struct schema_type *type)
{
    const json_t *directive = json_object_get(patch, DIRECTIVE);
    if (directive != NULL) {
        const bool replace = strcmp(json_text_at(patch, DIRECTIVE), "replace") == 0;
        if (!replace && strcmp(json_text_at(patch, DIRECTIVE), "delete") != 0) {
            return refuse(s, "unknown $patch directive in an object", "");
        }
        (void)json_object_del(patch, DIRECTIVE);
        (void)json_object_clear(original);
        if (replace) {
            CHECK(json_object_update(original, patch) == 0);
        }
        return true;
    }
    if (!merge_directives(s, original, patch, type)) {
        return false;
    }
    const char *name;
    json_t *value;
    json_object_foreach(patch, name, value) {
        json_t *there = json_object_get(original, name);
        const struct schema_field *field = schema_find(type, name);
        if (json_is_null(value)) {
            (void)json_object_del(original, name);
        } else if (there == NULL || json_typeof(there) != json_typeof(value)) {
            json_t *copy = json_deep_copy(value);
            if (take(copy)) {
                CHECK(json_object_set_new(original, name, copy) == 0);
            } else {
                json_decref(copy);
                (void)json_object_del(original, name);
            }
        } else if (json_is_object(value)) {
            const bool typed = field != NULL && field->many == MANY_NONE;
            if (!merge_object(s, there, value, typed ? field->type : NULL)) {
                return false;
            }
        } else if (json_is_array(value)) {
            if (!merge_list(s, there, value, field)) {
                return false;
            }
        } else {
            CHECK(json_object_set(original, name, value) == 0);
        }
    }
    return true;
}

bool api_patch_strategic(json_t *document, const json_t *patch, const struct schema_type *type,
                         struct api_error *error)
{
    const struct strategic s = {.error = error};
    if (!json_is_object(patch)) {
        api_error_set(error, 400, "the strategic merge patch must be a JSON object");
        return false;
    }
    json_t *copy = json_deep_copy(patch);
    CHECK(copy != NULL);
    const bool fine = merge_object(&s, document, copy, type);
    json_decref(copy);
    return fine;
}
