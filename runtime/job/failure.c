/*
 * Errors, in memory and on the wire.
 */
#include "job/failure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "job/codec.h"

const char *pdr_code_text(int code)
{
    switch (code) {
    case PDR_OK:
        return "ok";
#define CODE_TEXT_(name, number, text)                                                                                 \
    case PDR_##name:                                                                                                   \
        return text;
        PDR_ERROR_MAP(CODE_TEXT_)
#undef CODE_TEXT_
    default:
        return "unknown code";
    }
}

const char *pdr_version(void)
{
    return PDR_VERSION;
}

const char *failure_type_of(int code)
{
    switch (code) {
    case PDR_CANCELLED:
        return "Cancelled";
    case PDR_TIMED_OUT:
        return "TimedOut";
    case PDR_MISUSE:
        return "Misuse";
    case PDR_NO_MEMORY:
        return "NoMemory";
    case PDR_NOT_FOUND:
        return "NotFound";
    case PDR_EXISTS:
        return "Exists";
    case PDR_UNREACHABLE:
        return "Unreachable";
    case PDR_INVALID:
        return "Invalid";
    default:
        return "Failed";
    }
}

static char *failure_string(struct wire_arena *arena, const char *text, size_t limit)
{
    size_t size = strnlen(text, limit - 1);
    char *copy = codec_memory(arena, size + 1);
    if (copy != NULL) {
        memcpy(copy, text, size);
        utf8_repair(copy); /* cut, or of somebody else's making */
    }
    return copy;
}

pdr_failure *failure_new(struct wire_arena *arena, int code, const char *type, const pdr_site *site,
                         const pdr_failure *cause, bool final, const char *format, va_list arguments)
{
    char message[FAILURE_MESSAGE_BYTES];
    vsnprintf(message, sizeof(message), format, arguments);
    pdr_failure *failure = codec_memory(arena, sizeof(*failure));
    if (failure == NULL)
        return NULL;
    *failure = (pdr_failure){.size = sizeof(*failure), .code = code, .final = final, .cause = cause};
    failure->type = failure_string(arena, type, FAILURE_TYPE_BYTES);
    failure->message = failure_string(arena, message, sizeof(message));
    if (site != NULL)
        failure->site = *site;
    return failure->type != NULL && failure->message != NULL ? failure : NULL;
}

pdr_failure *failure_newf(struct wire_arena *arena, int code, const char *type, const pdr_site *site,
                          const pdr_failure *cause, bool final, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    pdr_failure *failure = failure_new(arena, code, type, site, cause, final, format, arguments);
    va_end(arguments);
    return failure;
}

static pdr_failure *failure_from_error_to(struct wire_arena *arena, const Error *error, const pdr_site *site,
                                          unsigned depth)
{
    pdr_failure *failure = codec_memory(arena, sizeof(*failure));
    if (failure == NULL)
        return NULL;
    int code = error->code < 0 ? error->code : PDR_FAILED;
    *failure = (pdr_failure){.size = sizeof(*failure), .code = code, .final = error->final};
    failure->type =
        failure_string(arena, error->type[0] != '\0' ? error->type : failure_type_of(code), FAILURE_TYPE_BYTES);
    failure->message = failure_string(arena, error->message, FAILURE_MESSAGE_BYTES);
    if (failure->type == NULL || failure->message == NULL)
        return NULL;
    if (site != NULL) {
        failure->site = *site;
    } else if (error->site != NULL) {
        failure->site.file = failure_string(arena, error->site->file, FAILURE_MESSAGE_BYTES);
        failure->site.function = failure_string(arena, error->site->function, FAILURE_MESSAGE_BYTES);
        failure->site.line = (int)error->site->line;
        if (failure->site.file == NULL || failure->site.function == NULL)
            return NULL;
    }
    if (error->cause != NULL && depth < ERROR_CAUSES_LIMIT) {
        failure->cause = failure_from_error_to(arena, error->cause, NULL, depth + 1);
        if (failure->cause == NULL)
            return NULL;
    }
    return failure;
}

pdr_failure *failure_from_error(struct wire_arena *arena, const Error *error, const pdr_site *site)
{
    static const Error unknown = PERDURE__V1__ERROR__INIT;
    return failure_from_error_to(arena, error != NULL ? error : &unknown, site, 1);
}

Site *wire_site(const pdr_site *site)
{
    Site *copy = malloc(sizeof(*copy));
    if (copy == NULL)
        return NULL;
    perdure__v1__site__init(copy);
    copy->line = (uint32_t)site->line;
    if (wire_string(&copy->file, site->file) && wire_string(&copy->function, site->function))
        return copy;
    perdure__v1__site__free_unpacked(copy, NULL);
    return NULL;
}

static Error *failure_to_error_to(const pdr_failure *failure, unsigned depth)
{
    Error *error = malloc(sizeof(*error));
    if (error == NULL)
        return NULL;
    perdure__v1__error__init(error);
    error->code = failure->code;
    error->final = failure->final;
    bool whole = wire_string(&error->type, failure->type) && wire_string(&error->message, failure->message);
    if (whole && failure->site.file != NULL)
        whole = (error->site = wire_site(&failure->site)) != NULL;
    if (whole && failure->cause != NULL && depth < ERROR_CAUSES_LIMIT)
        whole = (error->cause = failure_to_error_to(failure->cause, depth + 1)) != NULL;
    if (whole)
        return error;
    error_free(error);
    return NULL;
}

Error *failure_to_error(const pdr_failure *failure)
{
    return failure_to_error_to(failure, 1);
}
