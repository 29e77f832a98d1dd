/*
 * Errors as the job sees them (pdr_failure, in an arena) and as the log holds them (Error).
 */
#ifndef PERDURE_FAILURE_H
#define PERDURE_FAILURE_H

#include <stdarg.h>

#include "job/job.h"

/* Word of a code for pdr_failure.type: "Failed", "TimedOut" ... */
const char *failure_type_of(int code);
/* Messages longer than this are cut. */
#define FAILURE_MESSAGE_BYTES 4096
#define FAILURE_TYPE_BYTES 128

/* In `arena`; NULL: no memory. `site` may be NULL. */
pdr_failure *failure_new(struct wire_arena *arena, int code, const char *type, const pdr_site *site,
                         const pdr_failure *cause, bool final, const char *format, va_list arguments);
pdr_failure *failure_newf(struct wire_arena *arena, int code, const char *type, const pdr_site *site,
                          const pdr_failure *cause, bool final, const char *format, ...)
    __attribute__((format(printf, 7, 8)));
pdr_failure *failure_from_error(struct wire_arena *arena, const Error *error, const pdr_site *site);
/* malloc'ed: error_free(). NULL: no memory. */
Error *failure_to_error(const pdr_failure *failure);

/* For wire messages that are freed by protobuf-c: malloc'ed; NULL: no memory. */
Site *wire_site(const pdr_site *site);

#endif
