/*
 * Alarms: an intrusive binary heap ordered by due time, ties by the order in which they were set. Whoever owns an alarm
 * embeds it; setting it again moves it, clearing it costs O(log n). Times are monotonic milliseconds.
 */
#ifndef PERDURE_ALARM_H
#define PERDURE_ALARM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct alarm {
    int64_t due;
    uint64_t order;
    size_t place; /* index + 1 in the heap; 0: not set */
    int kind;     /* the owner's */
};

struct alarms {
    struct alarm **heap;
    size_t count;
    size_t capacity;
    uint64_t next_order;
};

void alarms_release(struct alarms *alarms);
int alarm_set(struct alarms *alarms, struct alarm *alarm, int64_t due); /* PDR_OK or PDR_NO_MEMORY */
void alarm_clear(struct alarms *alarms, struct alarm *alarm);
/* The earliest that is due at `now`, cleared; NULL: none. */
struct alarm *alarms_take(struct alarms *alarms, int64_t now);
int64_t alarms_next(const struct alarms *alarms); /* INT64_MAX: none */

#endif
