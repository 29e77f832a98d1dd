/*
 * A kill for want of memory looks like `kill -9`, but the kernel counts it: `oom_kill` of /proc/vmstat, of the whole machine.
 * A worker that is killed in the seconds in which that rises was killed for it.
 *
 * Whose code took the memory nobody sees. Who ran alone is held to be it; of several, those whose same call ran at the kill
 * before too: in a row of kills it is always there, and who makes progress in between is not.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "supervisor.h"

#define LOOK_MS 1000

/* -1: the kernel does not tell. */
static int64_t kills_read(void)
{
    char line[128];
    long long kills = -1;
    FILE *file = fopen("/proc/vmstat", "re");
    while (file != NULL && kills < 0 && fgets(line, sizeof line, file) != NULL)
        (void)sscanf(line, "oom_kill %lld", &kills);
    if (file != NULL)
        fclose(file);
    return kills;
}

void memory_begin(struct supervisor *supervisor)
{
    supervisor->memory_kills = supervisor->memory_kills_before = kills_read();
    supervisor->memory_ms = supervisor_now_ms();
    supervisor->out_of_memory = false;
}

void memory_look(struct supervisor *supervisor)
{
    int64_t now = supervisor_now_ms();
    if (now - supervisor->memory_ms < LOOK_MS)
        return;
    supervisor->memory_ms = now;
    supervisor->memory_kills_before = supervisor->memory_kills; /* the count rises a moment before the process is gone */
    supervisor->memory_kills = kills_read();
}

bool memory_was_short(const struct supervisor *supervisor, int status)
{
    int64_t before = supervisor->memory_kills_before;
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && !supervisor->verdict && before >= 0 && kills_read() > before;
}

bool memory_suspects(const struct supervisor *supervisor, const struct crash_slot *slot, uint32_t busy)
{
    for (size_t i = 0; i < supervisor->suspect_count; i++) {
        const struct suspect *suspect = &supervisor->suspect[i];
        if (suspect->kind == slot->kind && suspect->run == slot->run && suspect->op == slot->op)
            return true;
    }
    return busy == 1;
}

void memory_remember(struct supervisor *supervisor)
{
    const struct crash_record *record = supervisor->record;
    uint32_t count = atomic_load(&record->slots);
    supervisor->suspect_count = 0;
    for (uint32_t i = 0; i < count && i < CRASH_THREADS && supervisor->suspect_count < SUSPECTS; i++) {
        const struct crash_slot *slot = &record->slot[i];
        if (atomic_load(&slot->busy) != 0)
            supervisor->suspect[supervisor->suspect_count++] = (struct suspect){slot->kind, slot->run, slot->op};
    }
}
