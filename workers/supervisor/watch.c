/*
 * The watchdog: a job's code that is on its thread for longer than it may be, without an await, ends its worker. The
 * worker does nothing for it but what crash attribution needs anyway; the clock is here.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "supervisor.h"

#define WATCH_LOOKS 8              /* in the time that a job has: how exact the verdict is */
#define VERDICT_PATIENCE_MS 1000   /* for the backtrace */

void watch_begin(struct supervisor *supervisor)
{
    memset(supervisor->watched, 0, CRASH_THREADS * sizeof *supervisor->watched);
    supervisor->watched_ms = supervisor_now_ms();
    supervisor->verdict = false;
}

static int64_t watch_interval(const struct supervisor *supervisor)
{
    int64_t interval = supervisor->watchdog_ms / WATCH_LOOKS;
    return interval < 10 ? 10 : interval > 1000 ? 1000 : interval;
}

int watch_timeout(const struct supervisor *supervisor)
{
    if (supervisor->verdict)
        return 10;
    return supervisor->watchdog_ms > 0 && supervisor->child > 0 ? (int)watch_interval(supervisor) : 1000;
}

/* Stopped by SIGSTOP or by a debugger: its time does not count. */
static bool child_is_stopped(pid_t pid)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = '\0';
    const char *end = strrchr(text, ')'); /* the name may hold anything */
    return end != NULL && end[1] != '\0' && (end[2] == 'T' || end[2] == 't');
}

static void watch_condemn(struct supervisor *supervisor, int32_t slot, int32_t thread)
{
    supervisor->verdict = true;
    supervisor->verdict_ms = supervisor_now_ms();
    supervisor->verdict_slot = slot;
    atomic_store(&supervisor->record->watchdog, 1);
    syscall(SYS_tgkill, supervisor->child, thread, SIGXCPU);
}

static void watch_slots(struct supervisor *supervisor, int64_t passed)
{
    struct crash_record *record = supervisor->record;
    int32_t count = (int32_t)atomic_load(&record->slots);
    for (int32_t i = 0; i < count && i < CRASH_THREADS && !supervisor->verdict; i++) {
        struct crash_slot *slot = &record->slot[i];
        struct watched *watched = &supervisor->watched[i];
        int32_t thread = atomic_load_explicit(&slot->thread, memory_order_relaxed);
        uint64_t busy = atomic_load_explicit(&slot->busy, memory_order_acquire);
        if (busy == 0 || busy != watched->busy || slot->kind == CRASH_IN_STEP) {
            *watched = (struct watched){busy, 0};
            continue;
        }
        watched->ms += passed;
        if (watched->ms >= supervisor->watchdog_ms)
            watch_condemn(supervisor, i, thread);
    }
}

void watch_look(struct supervisor *supervisor)
{
    int64_t now = supervisor_now_ms(), passed = now - supervisor->watched_ms, most = 2 * watch_interval(supervisor);
    if (supervisor->child <= 0 || supervisor->watchdog_ms == 0)
        return;
    if (supervisor->verdict) {
        uint32_t state = atomic_load(&supervisor->record->now.state);
        if (state == CRASH_NONE && atomic_load(&supervisor->record->watchdog) == 0)
            watch_begin(supervisor); /* it awaited at the last moment */
        else if (state == CRASH_WHOLE || now - supervisor->verdict_ms > VERDICT_PATIENCE_MS)
            kill(supervisor->child, SIGKILL);
        return;
    }
    if (passed < watch_interval(supervisor))
        return;
    supervisor->watched_ms = now;
    if (!child_is_stopped(supervisor->child)) /* nor does the time that this process did not get itself */
        watch_slots(supervisor, passed < most ? passed : most);
}
