#include "command/retention_flags.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "constants.h"

/* Below this a journal is cut more often than it is worth: each cut costs a claim and two Marks. */
#define RETENTION_LEAST 65536

/* "64M": 0 is no size. */
static int64_t size_parse(const char *text)
{
    static const char units[] = "KMGT";
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || errno || value <= 0)
        return 0;
    const char *unit = *end ? strchr(units, *end) : NULL;
    int shift = unit ? 10 * (int)(unit - units + 1) : 0;
    if ((*end && (!unit || end[1])) || value > INT64_MAX >> shift)
        return 0;
    return (int64_t)value << shift;
}

static bool retention_size(const struct arguments *arguments, int64_t *bytes)
{
    const char *text = arguments_get(arguments, "retention");
    *bytes = 0;
    if (!text)
        return true;
    *bytes = strcmp(text, "off") == 0 ? -1 : size_parse(text);
    if (*bytes == -1 || *bytes >= RETENTION_LEAST)
        return true;
    arguments_wrong(arguments, "--retention: \"%s\" is no size of at least 64K; write it like 512K, 64M, 2G, or off", text);
    return false;
}

bool memory_flag(const struct arguments *arguments, pdr_worker_options *options)
{
    const char *text = arguments_get(arguments, "memory");
    int64_t bytes = text ? size_parse(text) : 0;
    options->memory_bytes = (size_t)bytes;
    if (!text || bytes >= MEMORY_LEAST)
        return true;
    arguments_wrong(arguments, "--memory: \"%s\" is no size of at least 16M; write it like 256M or 2G", text);
    return false;
}

bool retention_flags(const struct arguments *arguments, pdr_worker_options *options)
{
    if (!arguments_duration_within(arguments, "keep", "1s", KEEP_MOST, 0, &options->keep_ms) ||
        !arguments_duration_within(arguments, "life", "1s", "365d", 0, &options->life_ms) ||
        !arguments_duration_within(arguments, "retention-age", "1s", KEEP_MOST, 0, &options->retention_age_ms) ||
        !retention_size(arguments, &options->retention_bytes))
        return false;
    int64_t life = options->life_ms > 0 ? options->life_ms : LIFE_MS, least = KEEP_OF(life);
    if (options->keep_ms == 0 || options->keep_ms >= least)
        return true;
    /* Rule 20: what is forgotten sooner could be begun once more by a late copy of its start. */
    arguments_wrong(arguments, "--keep: a job must be remembered longer than a command lives: %lld s at least (--life is "
                    "%lld s)", (long long)((least + 999) / 1000), (long long)(life / 1000));
    return false;
}
