/*
 * The memory budget of a worker: how much, and who gives some back when it is used up: of all partitions, the job that has
 * not moved for the longest time.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "constants.h"
#include "worker/worker.h"

#define NOTICE_INTERVAL_MS 60000

/* A number in a file; -1: there is none ("max"). */
static int64_t number_in(const char *path)
{
    char text[64], *end = text;
    FILE *file = fopen(path, "re");
    int64_t number = file && fgets(text, sizeof text, file) ? strtoll(text, &end, 10) : -1;
    if (file)
        fclose(file);
    return end == text ? -1 : number;
}

/* The lowest limit of a control group and those it lies in; `group` is cut short on the way. */
static int64_t limit_of_group(const char *root, char *group, const char *name)
{
    int64_t least = -1;
    for (;;) {
        char path[4600], *slash = strrchr(group, '/');
        snprintf(path, sizeof path, "%s%s/%s", root, group, name);
        int64_t limit = number_in(path);
        if (limit > 0 && (least < 0 || limit < least))
            least = limit;
        if (!slash)
            return least;
        *slash = '\0';
    }
}

/* Of this process, version 2 or 1; -1: none. */
static int64_t group_limit(void)
{
    char line[4200];
    int64_t limit = -1;
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file && limit < 0 && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        if (controllers[1] == '\0')
            limit = limit_of_group("/sys/fs/cgroup", group, "memory.max");
        else if (strstr(controllers, "memory"))
            limit = limit_of_group("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes");
    }
    if (file)
        fclose(file);
    return limit;
}

static double mebibytes(size_t bytes) { return (double)bytes / (1024 * 1024); }

void worker_memory_begin(struct pdr_worker *worker)
{
    int64_t machine = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE), group = group_limit();
    const char *whence = "as told";
    worker->memory.budget = worker->options.memory_bytes;
    if (worker->memory.budget == 0 && group > 0 && group < machine) {
        worker->memory.budget = (size_t)group / MEMORY_PART_OF_GROUP;
        whence = "half of this control group's limit";
    } else if (worker->memory.budget == 0) {
        worker->memory.budget = (size_t)machine / MEMORY_PART_OF_MACHINE;
        whence = "a quarter of this machine's";
    }
    worker->memory.result = PAYLOAD_LIMIT_BYTES;
    if (worker->memory.budget < MEMORY_LEAST)
        worker->memory.budget = MEMORY_LEAST;
    worker_notice(worker, PDR_INFO, "jobs may take %.0f MiB of memory (%s)", mebibytes(worker->memory.budget), whence);
}

static struct engine *idle_for_longest(struct pdr_worker *worker)
{
    struct engine *oldest = NULL;
    int64_t least = INT64_MAX;
    for (uint32_t p = 0; p < worker->partition_count; p++) {
        struct worker_partition *slot = &worker->partitions[p];
        int64_t since = slot->engine && !slot->none_to_evict ? engine_idle_since(slot->engine) : INT64_MAX;
        if (since < least) {
            least = since;
            oldest = slot->engine;
        }
    }
    return oldest;
}

static void none_to_evict(struct pdr_worker *worker, const struct engine *engine, bool none)
{
    for (uint32_t p = 0; p < worker->partition_count; p++)
        if (!engine || worker->partitions[p].engine == engine)
            worker->partitions[p].none_to_evict = none;
}

bool worker_evict(struct pdr_worker *worker)
{
    struct engine_memory *memory = &worker->memory;
    if (memory->used < memory->budget)
        return false;
    none_to_evict(worker, NULL, false);
    size_t enough = memory->budget - memory->budget / 16; /* not one at each turn */
    for (struct engine *engine; memory->used > enough && (engine = idle_for_longest(worker));)
        if (!engine_evict(engine))
            none_to_evict(worker, engine, true);
    if (memory->used < memory->budget)
        return true;
    if (worker_monotonic_ms() < worker->next_memory_notice_ms)
        return false;
    worker->next_memory_notice_ms = worker_monotonic_ms() + NOTICE_INTERVAL_MS;
    worker_notice(worker, PDR_WARNING, "jobs take %.0f MiB, as much as they may, and all of them are at work: others are not "
                  "brought back before there is room (--memory)", mebibytes(memory->used));
    return false;
}
