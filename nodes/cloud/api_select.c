#include "nodes/cloud/api_select.h"

#include "schemas/check.h"

#include <ctype.h>
#include <stdlib.h>

void api_select_release(struct api_select *select)
{
    for (uint32_t i = 0; i < select->count; i++) {
        for (uint32_t j = 0; j < select->terms[i].value_count; j++) {
            free(select->terms[i].values[j]);
        }
        free(select->terms[i].values);
        free(select->terms[i].key);
    }
    free(select->terms);
    *select = (struct api_select){0};
}

static struct select_term *select_add(struct api_select *select, enum select_operator operation,
                                      const char *key, size_t key_size)
{
    if (select->count >= LIMIT_SELECTOR_TERMS) {
        return NULL;
    }
    struct select_term *terms = realloc(select->terms, (select->count + 1) * sizeof *terms);
    CHECK(terms != NULL);
    select->terms = terms;
    struct select_term *term = &terms[select->count];
    *term = (struct select_term){.operation = operation, .key = strndup(key, key_size)};
    CHECK(term->key != NULL);
    select->count++;
    return term;
}

static bool select_add_value(struct select_term *term, const char *value, size_t size)
{
    if (term->value_count >= LIMIT_SELECTOR_TERMS) {
        return false;
    }
    char **values = realloc(term->values, (term->value_count + 1) * sizeof *values);
    CHECK(values != NULL);
    term->values = values;
    values[term->value_count] = strndup(value, size);
    CHECK(values[term->value_count] != NULL);
    term->value_count++;
    return true;
}

static const char *skip_blank(const char *at)
{
    while (*at == ' ' || *at == '\t') {
        at++;
    }
    return at;
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '-' || c == '_' || c == '.' || c == '/';
}

static size_t word_size(const char *at)
{
    size_t size = 0;
    while (is_word(at[size])) {
        size++;
    }
    return size;
}

/* "(a, b)" behind in or notin. Answers the place behind, NULL: malformed. */
static const char *select_values(struct select_term *term, const char *at)
{
    if (term == NULL || *at != '(') {
        return NULL;
    }
    at++;
    for (;;) {
        at = skip_blank(at);
        const size_t size = word_size(at);
        if (!select_add_value(term, at, size)) {
            return NULL;
        }
        at = skip_blank(at + size);
        if (*at == ')') {
            return at + 1;
        }
        if (*at != ',') {
            return NULL;
        }
        at++;
    }
}

static const char *select_label_term(struct api_select *out, const char *at)
{
    const bool missing = *at == '!';
    if (missing) {
        at = skip_blank(at + 1);
    }
    const char *key = at;
    const size_t key_size = word_size(at);
    if (key_size == 0) {
        return NULL;
    }
    at = skip_blank(at + key_size);
    if (missing || *at == ',' || *at == '\0') {
        return select_add(out, missing ? SELECT_MISSING : SELECT_EXISTS, key, key_size) == NULL
                   ? NULL
                   : at;
    }
    if (strncmp(at, "in", 2) == 0 && !is_word(at[2])) {
        return select_values(select_add(out, SELECT_IN, key, key_size), skip_blank(at + 2));
    }
    if (strncmp(at, "notin", 5) == 0 && !is_word(at[5])) {
        return select_values(select_add(out, SELECT_NOT_IN, key, key_size), skip_blank(at + 5));
    }
    enum select_operator operation = SELECT_IN;
    if (strncmp(at, "!=", 2) == 0) {
        operation = SELECT_NOT_IN;
        at += 2;
    } else if (strncmp(at, "==", 2) == 0) {
        at += 2;
    } else if (*at == '=') {
        at++;
    } else {
        return NULL;
    }
    at = skip_blank(at);
    struct select_term *term = select_add(out, operation, key, key_size);
    const size_t size = word_size(at);
    return term != NULL && select_add_value(term, at, size) ? at + size : NULL;
}

bool api_select_labels(const char *text, struct api_select *out, struct api_error *error)
{
    const char *at = skip_blank(text);
    while (*at != '\0') {
        at = select_label_term(out, at);
        at = at == NULL ? NULL : skip_blank(at);
        if (at == NULL || (*at != ',' && *at != '\0')) {
            api_error_set(error, 400, "unable to parse requirement: the label selector \"%s\" is "
                                      "malformed or has too many terms", text);
            return false;
        }
        if (*at == ',') {
            at = skip_blank(at + 1);
            if (*at == '\0') {
                api_error_set(error, 400, "unable to parse requirement: found '', expected: "
                                          "identifier after ','");
                return false;
            }
        }
    }
    return true;
}

/* The fields that a kind can be selected by, beside metadata.name and metadata.namespace. */
static bool field_supported(const struct api_resource *resource, const char *path)
{
    static const struct {
        enum api_kind kind;
        const char *path;
    } fields[] = {
        {API_POD, "spec.nodeName"},
        {API_POD, "status.phase"},
        {API_POD, "spec.restartPolicy"},
        {API_POD, "spec.schedulerName"},
        {API_POD, "spec.serviceAccountName"},
        {API_POD, "spec.hostNetwork"},
        {API_POD, "status.podIP"},
        {API_POD, "status.nominatedNodeName"},
        {API_NODE, "spec.unschedulable"},
        {API_NAMESPACE, "status.phase"},
        {API_SECRET, "type"},
        {API_DEVICE, "spec.nodeName"},
        {API_EVENT, "involvedObject.kind"},
        {API_EVENT, "involvedObject.namespace"},
        {API_EVENT, "involvedObject.name"},
        {API_EVENT, "involvedObject.uid"},
        {API_EVENT, "involvedObject.apiVersion"},
        {API_EVENT, "involvedObject.resourceVersion"},
        {API_EVENT, "involvedObject.fieldPath"},
        {API_EVENT, "reason"},
        {API_EVENT, "reportingComponent"},
        {API_EVENT, "source"},
        {API_EVENT, "type"},
    };
    if (strcmp(path, "metadata.name") == 0 || strcmp(path, "metadata.namespace") == 0) {
        return true;
    }
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (fields[i].kind == resource->id && strcmp(fields[i].path, path) == 0) {
            return true;
        }
    }
    return false;
}

bool api_select_fields(const char *text, const struct api_resource *resource,
                       struct api_select *out, struct api_error *error)
{
    const char *at = text;
    while (*at != '\0') {
        const size_t size = strcspn(at, ",");
        const char *equal = memchr(at, '=', size);
        if (equal == NULL) {
            api_error_set(error, 400, "invalid selector: '%s'; can't understand '%.*s'", text,
                          (int)size, at);
            return false;
        }
        const bool not = equal > at && equal[-1] == '!';
        const char *value = equal + (equal[1] == '=' ? 2 : 1);
        struct select_term *term = select_add(out, not ? SELECT_NOT_IN : SELECT_IN, at,
                                              (size_t)(equal - at) - (not ? 1 : 0));
        if (term == NULL || !select_add_value(term, value, (size_t)(at + size - value))) {
            api_error_set(error, 400, "the field selector has more than %u terms",
                          LIMIT_SELECTOR_TERMS);
            return false;
        }
        if (!field_supported(resource, term->key)) {
            api_error_set(error, 400, "field label not supported: %s", term->key);
            return false;
        }
        at += size;
        at += *at == ',' ? 1 : 0;
    }
    return true;
}

static bool term_match(const struct select_term *term, const char *value)
{
    switch (term->operation) {
    case SELECT_EXISTS:
        return value != NULL;
    case SELECT_MISSING:
        return value == NULL;
    case SELECT_IN:
    case SELECT_NOT_IN:
        break;
    }
    bool found = false;
    for (uint32_t i = 0; i < term->value_count && !found; i++) {
        found = value != NULL && strcmp(value, term->values[i]) == 0;
    }
    return found == (term->operation == SELECT_IN);
}

bool api_select_match_labels(const struct api_select *select, const json_t *object)
{
    if (select->count == 0) {
        return true;
    }
    const json_t *labels = json_at(object, "metadata.labels");
    for (uint32_t i = 0; i < select->count; i++) {
        const json_t *value = json_object_get(labels, select->terms[i].key);
        if (!term_match(&select->terms[i], json_string_value(value))) {
            return false;
        }
    }
    return true;
}

bool api_select_match_fields(const struct api_select *select, const json_t *object)
{
    for (uint32_t i = 0; i < select->count; i++) {
        const json_t *value = json_at(object, select->terms[i].key);
        const bool boolean = strcmp(select->terms[i].key, "spec.unschedulable") == 0 ||
                             strcmp(select->terms[i].key, "spec.hostNetwork") == 0;
        const char *text = json_is_string(value) ? json_string_value(value)
                           : json_is_true(value) ? "true"
                           : boolean             ? "false"
                                                 : "";
        if (!term_match(&select->terms[i], text)) {
            return false;
        }
    }
    return true;
}

const char *api_select_name(const struct api_select *fields)
{
    for (uint32_t i = 0; i < fields->count; i++) {
        if (fields->terms[i].operation == SELECT_IN &&
            strcmp(fields->terms[i].key, "metadata.name") == 0) {
            return fields->terms[i].values[0];
        }
    }
    return NULL;
}
