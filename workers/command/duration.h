/* Durations and points in time, as people write and read them. */
#ifndef PERDURE_COMMAND_DURATION_H
#define PERDURE_COMMAND_DURATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "500ms", "10s", "5m", "2h", "3d", and several in falling order: "1h30m". "0" is a duration too. */
bool duration_parse(const char *text, int64_t *ms);
/* "850 ms", "12.3 s", "4 min 5 s", "3 h 20 min", "2 d 4 h". */
const char *duration_text(int64_t ms, char *text, size_t size);
/* "2026-11-23 14:05:07 (3 min 12 s ago)" in local time; "-" for 0. */
const char *time_text(int64_t at_ms, int64_t now_ms, char *text, size_t size);
/* "3 min 12 s ago", "in 2 h". */
const char *time_relative(int64_t at_ms, int64_t now_ms, char *text, size_t size);
/* "14:05:07.123" in local time. */
const char *time_clock(int64_t at_ms, char *text, size_t size);

#endif
