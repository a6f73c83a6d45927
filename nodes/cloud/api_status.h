/* Errors as the Kubernetes Status object, which kubectl prints from. */
#ifndef KELP_NODES_CLOUD_API_STATUS_H
#define KELP_NODES_CLOUD_API_STATUS_H

#include "nodes/cloud/api_json.h"

/* Zero it to start, release it in the end. code 0: no error. */
struct api_error {
    uint32_t code;
    const char *reason; /* lent for ever */
    struct text message;
    json_t *details;     /* may be NULL */
    uint32_t cause_count;
    uint32_t retry_after_s; /* sent as Retry-After when not 0 */
};

/* Set code, the reason that belongs to it, and the message. */
void api_error_set(struct api_error *error, uint32_t code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void api_error_release(struct api_error *error);

/* Name what the error is about: details.name, .group and .kind (the plural). */
void api_error_about(struct api_error *error, const char *group, const char *resource,
                     const char *name);

/* One thing wrong with an object. Several may be added; api_error_invalid then makes them a 422.
 *   reason  "FieldValueRequired", "FieldValueInvalid", "FieldValueNotSupported", ...
 *   field   "spec.containers[0].image" */
void api_error_cause(struct api_error *error, const char *reason, const char *field,
                     const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Make the causes so far an Invalid of this kind (details.kind is the Kind here). Nothing without causes. */
void api_error_invalid(struct api_error *error, const char *group, const char *kind,
                       const char *name);

/* The Status object; a new value. */
json_t *api_error_status(const struct api_error *error);

#endif
