#include "nodes/cloud/api_status.h"

#include "schemas/check.h"

#include <stdarg.h>
#include <stdio.h>

static const char *reason_of(uint32_t code)
{
    switch (code) {
    case 400:
        return "BadRequest";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "NotFound";
    case 405:
        return "MethodNotAllowed";
    case 406:
        return "NotAcceptable";
    case 409:
        return "Conflict";
    case 410:
        return "Expired";
    case 413:
        return "RequestEntityTooLarge";
    case 415:
        return "UnsupportedMediaType";
    case 422:
        return "Invalid";
    case 429:
        return "TooManyRequests";
    case 501:
        return "NotImplemented";
    case 503:
        return "ServiceUnavailable";
    case 504:
        return "Timeout";
    default:
        return "InternalError";
    }
}

void api_error_set(struct api_error *error, uint32_t code, const char *format, ...)
{
    char message[2048];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    error->code = code;
    error->reason = reason_of(code);
    error->message.size = 0;
    text_add(&error->message, message);
}

void api_error_release(struct api_error *error)
{
    text_release(&error->message);
    json_decref(error->details);
    *error = (struct api_error){0};
}

static json_t *error_details(struct api_error *error)
{
    if (error->details == NULL) {
        error->details = json_object();
        CHECK(error->details != NULL);
    }
    return error->details;
}

void api_error_about(struct api_error *error, const char *group, const char *resource,
                     const char *name)
{
    json_t *details = error_details(error);
    if (name[0] != '\0') {
        json_put_text(details, "name", name);
    }
    if (group[0] != '\0') {
        json_put_text(details, "group", group);
    }
    json_put_text(details, "kind", resource);
}

void api_error_cause(struct api_error *error, const char *reason, const char *field,
                     const char *format, ...)
{
    if (error->cause_count >= LIMIT_API_CAUSES) {
        return; /* more of them help nobody */
    }
    char message[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);

    json_t *details = error_details(error);
    json_t *causes = json_object_get(details, "causes");
    if (causes == NULL) {
        causes = json_array();
        CHECK(json_object_set_new(details, "causes", causes) == 0);
    }
    json_t *cause = json_object();
    json_put_text(cause, "reason", reason);
    json_put_text(cause, "message", message);
    json_put_text(cause, "field", field);
    CHECK(json_array_append_new(causes, cause) == 0);
    error->cause_count++;
}

void api_error_invalid(struct api_error *error, const char *group, const char *kind,
                       const char *name)
{
    if (error->cause_count == 0) {
        return;
    }
    error->code = 422;
    error->reason = reason_of(422);
    error->message.size = 0;
    text_print(&error->message, "%s \"%s\" is invalid: %s", kind, name,
               error->cause_count > 1 ? "[" : "");
    const json_t *causes = json_object_get(error->details, "causes");
    for (size_t i = 0; i < json_array_size(causes); i++) {
        const json_t *cause = json_array_get(causes, i);
        text_print(&error->message, "%s%s: %s", i > 0 ? ", " : "", json_text_at(cause, "field"),
                   json_text_at(cause, "message"));
    }
    text_add(&error->message, error->cause_count > 1 ? "]" : "");
    api_error_about(error, group, kind, name);
}

json_t *api_error_status(const struct api_error *error)
{
    CHECK(error->code != 0);
    json_t *status = json_object();
    json_put_text(status, "kind", "Status");
    json_put_text(status, "apiVersion", "v1");
    CHECK(json_object_set_new(status, "metadata", json_object()) == 0);
    json_put_text(status, "status", "Failure");
    json_put_text(status, "message", error->message.data);
    json_put_text(status, "reason", error->reason);
    if (error->details != NULL || error->retry_after_s != 0) {
        json_t *details = error->details != NULL ? json_copy(error->details) : json_object();
        if (error->retry_after_s != 0) {
            json_put_number(details, "retryAfterSeconds", error->retry_after_s);
        }
        CHECK(json_object_set_new(status, "details", details) == 0);
    }
    json_put_number(status, "code", error->code);
    return status;
}
