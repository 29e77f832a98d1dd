/*
 * Which backend a log's name means.
 */
#include "log/log.h"

#include <stdio.h>
#include <string.h>

#include "log/kafka.h"
#include "log/sqlite.h"

static bool has_scheme(const char *uri, const char *scheme) { return strncmp(uri, scheme, strlen(scheme)) == 0; }

int log_open(const char *uri, const struct log_options *options, struct log **out, char *error, size_t error_size)
{
    *out = NULL;
    if (has_scheme(uri, "sqlite:"))
        return sqlite_log_open(uri + strlen("sqlite:"), options, out, error, error_size);
    if (has_scheme(uri, "kafka://"))
        return kafka_log_open(uri, options, out, error, error_size);
    snprintf(error, error_size, "%s: not the name of a log: sqlite:PATH or kafka://HOST:PORT[,HOST:PORT]/NAMESPACE",
             *uri ? uri : "(empty)");
    return 2;
}
