#include "command/duration.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct {
    const char *name;
    int64_t ms;
} duration_units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
#define DURATION_UNITS (sizeof duration_units / sizeof *duration_units)

bool duration_parse(const char *text, int64_t *ms)
{
    int64_t sum = 0;
    size_t unit = 0;
    if (strcmp(text, "0") == 0) {
        *ms = 0;
        return true;
    }
    if (!*text)
        return false;
    while (*text) {
        size_t digits = strspn(text, "0123456789");
        size_t letters = strcspn(text + digits, "0123456789");
        if (digits == 0 || digits > 12)
            return false;
        while (unit < DURATION_UNITS && (strlen(duration_units[unit].name) != letters ||
                                         strncmp(duration_units[unit].name, text + digits, letters) != 0))
            unit++;
        if (unit == DURATION_UNITS)
            return false;
        int64_t part;
        if (__builtin_mul_overflow(strtoll(text, NULL, 10), duration_units[unit].ms, &part) ||
            __builtin_add_overflow(sum, part, &sum))
            return false;
        unit++;
        text += digits + letters;
    }
    *ms = sum;
    return true;
}

const char *duration_text(int64_t ms, char *text, size_t size)
{
    int64_t s = ms / 1000, min = s / 60, h = min / 60, d = h / 24;
    if (ms < 1000)
        snprintf(text, size, "%" PRId64 " ms", ms);
    else if (s < 60)
        snprintf(text, size, "%" PRId64 ".%" PRId64 " s", s, ms % 1000 / 100);
    else if (min < 60)
        snprintf(text, size, "%" PRId64 " min %" PRId64 " s", min, s % 60);
    else if (h < 24)
        snprintf(text, size, "%" PRId64 " h %" PRId64 " min", h, min % 60);
    else
        snprintf(text, size, "%" PRId64 " d %" PRId64 " h", d, h % 24);
    return text;
}

const char *time_relative(int64_t at_ms, int64_t now_ms, char *text, size_t size)
{
    char length[40];
    if (at_ms <= now_ms)
        snprintf(text, size, "%s ago", duration_text(now_ms - at_ms, length, sizeof length));
    else
        snprintf(text, size, "in %s", duration_text(at_ms - now_ms, length, sizeof length));
    return text;
}

const char *time_text(int64_t at_ms, int64_t now_ms, char *text, size_t size)
{
    struct tm parts;
    time_t seconds = (time_t)(at_ms / 1000);
    char absolute[40], relative[60];
    if (at_ms == 0 || !localtime_r(&seconds, &parts))
        return strncpy(text, "-", size);
    strftime(absolute, sizeof absolute, "%Y-%m-%d %H:%M:%S", &parts);
    snprintf(text, size, "%s (%s)", absolute, time_relative(at_ms, now_ms, relative, sizeof relative));
    return text;
}

const char *time_clock(int64_t at_ms, char *text, size_t size)
{
    struct tm parts;
    time_t seconds = (time_t)(at_ms / 1000);
    char clock[20];
    if (!localtime_r(&seconds, &parts))
        return strncpy(text, "-", size);
    strftime(clock, sizeof clock, "%H:%M:%S", &parts);
    snprintf(text, size, "%s.%03d", clock, (int)(at_ms % 1000));
    return text;
}
