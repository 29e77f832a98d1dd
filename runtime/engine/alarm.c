#include "engine/alarm.h"

#include <perdure/perdure.h>
#include <stdlib.h>

static bool alarm_before(const struct alarm *a, const struct alarm *b)
{
    return a->due != b->due ? a->due < b->due : a->order < b->order;
}

static void alarms_place(struct alarms *alarms, size_t index, struct alarm *alarm)
{
    alarms->heap[index] = alarm;
    alarm->place = index + 1;
}

static void alarms_sift_up(struct alarms *alarms, size_t index, struct alarm *alarm)
{
    while (index > 0 && alarm_before(alarm, alarms->heap[(index - 1) / 2])) {
        alarms_place(alarms, index, alarms->heap[(index - 1) / 2]);
        index = (index - 1) / 2;
    }
    alarms_place(alarms, index, alarm);
}

static void alarms_sift_down(struct alarms *alarms, size_t index, struct alarm *alarm)
{
    for (;;) {
        size_t child = 2 * index + 1;
        if (child + 1 < alarms->count && alarm_before(alarms->heap[child + 1], alarms->heap[child]))
            child++;
        if (child >= alarms->count || !alarm_before(alarms->heap[child], alarm))
            break;
        alarms_place(alarms, index, alarms->heap[child]);
        index = child;
    }
    alarms_place(alarms, index, alarm);
}

void alarms_release(struct alarms *alarms)
{
    for (size_t i = 0; i < alarms->count; i++)
        alarms->heap[i]->place = 0;
    free(alarms->heap);
    alarms->heap = NULL;
    alarms->count = alarms->capacity = 0;
}

int alarm_set(struct alarms *alarms, struct alarm *alarm, int64_t due)
{
    alarm_clear(alarms, alarm);
    if (alarms->count == alarms->capacity) {
        size_t capacity = alarms->capacity ? alarms->capacity * 2 : 64;
        struct alarm **heap = realloc(alarms->heap, capacity * sizeof *heap);
        if (!heap)
            return PDR_NO_MEMORY;
        alarms->heap = heap;
        alarms->capacity = capacity;
    }
    alarm->due = due;
    alarm->order = alarms->next_order++;
    alarms_sift_up(alarms, alarms->count++, alarm);
    return PDR_OK;
}

void alarm_clear(struct alarms *alarms, struct alarm *alarm)
{
    if (alarm->place == 0)
        return;
    size_t index = alarm->place - 1;
    struct alarm *last = alarms->heap[--alarms->count];
    alarm->place = 0;
    if (last == alarm)
        return;
    if (index > 0 && alarm_before(last, alarms->heap[(index - 1) / 2]))
        alarms_sift_up(alarms, index, last);
    else
        alarms_sift_down(alarms, index, last);
}

struct alarm *alarms_take(struct alarms *alarms, int64_t now)
{
    if (alarms->count == 0 || alarms->heap[0]->due > now)
        return NULL;
    struct alarm *alarm = alarms->heap[0];
    alarm_clear(alarms, alarm);
    return alarm;
}

int64_t alarms_next(const struct alarms *alarms) { return alarms->count ? alarms->heap[0]->due : INT64_MAX; }
