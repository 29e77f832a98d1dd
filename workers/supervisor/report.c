/*
 * Whose crash it was: from what the handler of the dying process wrote down, else from who was on its threads.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>

#include "supervisor.h"

/* From other memory, which a crash may have harmed: always ends. */
static void take_text(char *to, size_t size, const char *from, size_t from_size)
{
    size_t length = strnlen(from, from_size < size ? from_size : size - 1);
    memcpy(to, from, length < size ? length : size - 1);
    to[length < size ? length : size - 1] = '\0';
}

static bool signal_counts(int number)
{
    return number == SIGSEGV || number == SIGBUS || number == SIGILL || number == SIGFPE || number == SIGABRT;
}

static const char *signal_text(int number)
{
    const char *name = sigabbrev_np(number);
    return name != NULL ? name : "?";
}

static void reason_text(const struct supervisor *supervisor, const struct crash_now *now, char *text, size_t size)
{
    switch (now->reason) {
    case CRASH_OVERFLOW:
        snprintf(text, size, "stack overflow (endless recursion, or locals that are too large)");
        break;
    case CRASH_EXIT:
        snprintf(text, size, "it called exit(%d)", now->status);
        break;
    case CRASH_WATCHDOG:
        snprintf(text, size, "no await for %" PRId64 ".%01" PRId64 " s", supervisor->watchdog_ms / 1000,
                 supervisor->watchdog_ms % 1000 / 100);
        break;
    default:
        if (now->signal != SIGABRT && now->code > 0)
            snprintf(text, size, "SIG%s at address 0x%" PRIx64, signal_text(now->signal), now->address);
        else
            snprintf(text, size, "SIG%s", signal_text(now->signal));
    }
}

static void trace_text(const struct crash_record *record, char *text, size_t size)
{
    uint32_t count = atomic_load(&record->now.frames);
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < count && i < CRASH_FRAMES && used + 160 < size; i++) {
        symbol_of(record, record->now.frame[i], text + used, 159);
        if (used == 0 && (strncmp(text, "handler_", 8) == 0 || strncmp(text, "on_exit_called", 14) == 0 ||
                          strncmp(text, "note_trace", 10) == 0))
            continue; /* of who writes this down */
        used += strlen(text + used);
        text[used++] = '\n';
        text[used] = '\0';
    }
}

/* The oldest goes when there are too many: the worker has not been able to journal one for long. */
static struct crash_report *report_new(struct crash_record *record)
{
    struct crash_report *oldest = &record->report[0];
    for (size_t i = 0; i < CRASH_REPORTS; i++) {
        struct crash_report *report = &record->report[i];
        if (atomic_load(&report->state) == CRASH_REPORT_FREE)
            return report;
        if (report->at_ms < oldest->at_ms)
            oldest = report;
    }
    return oldest;
}

static struct crash_report *report_fill(struct crash_record *record, int32_t index)
{
    const struct crash_slot *slot = &record->slot[index];
    struct crash_report *report = report_new(record);
    struct timespec now;
    memset(report, 0, sizeof *report);
    clock_gettime(CLOCK_REALTIME, &now);
    report->at_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    if (getrandom(&report->id, sizeof report->id, 0) != sizeof report->id || report->id == 0)
        report->id = (uint64_t)now.tv_nsec << 32 | (uint64_t)now.tv_sec;
    report->kind = slot->kind;
    report->run = slot->run;
    report->op = slot->op;
    report->attempt = slot->attempt;
    take_text(report->job, sizeof report->job, slot->job, sizeof slot->job);
    return report;
}

static void report_say(const struct supervisor *supervisor, const struct crash_report *report)
{
    bool job = report->kind == CRASH_IN_JOB;
    char what[CRASH_NAME_BYTES + 40] = "", where[2 * CRASH_NAME_BYTES + 40] = "";
    if (!job)
        snprintf(what, sizeof what, " (step %s%sattempt %u)", report->name, report->name[0] ? ", " : "", report->attempt);
    if (report->site_file[0])
        snprintf(where, sizeof where, ", after %s:%u (%s)", report->site_file, report->site_line, report->site_function);
    say(supervisor, SAY_ERROR, "job %s%s crashed the worker: %s%s", report->job, what, report->reason, where);
    for (const char *line = report->trace; *line;) {
        size_t length = strcspn(line, "\n");
        say(supervisor, SAY_ERROR, "    %.*s", (int)length, line);
        line += length + (line[length] == '\n');
    }
}

/* Somebody's code was at fault. */
static void report_culprit(struct supervisor *supervisor, int32_t index, bool handled)
{
    struct crash_record *record = supervisor->record;
    const struct crash_now *now = &record->now;
    struct crash_report *report = report_fill(record, index);
    report->counts = CRASH_COUNTS;
    report->signal = now->signal;
    if (handled) {
        take_text(report->name, sizeof report->name, now->name, sizeof now->name);
        take_text(report->build, sizeof report->build, now->build, sizeof now->build);
        take_text(report->site_file, sizeof report->site_file, now->site_file, sizeof now->site_file);
        take_text(report->site_function, sizeof report->site_function, now->site_function, sizeof now->site_function);
        report->site_line = now->site_line;
        trace_text(record, report->trace, sizeof report->trace);
    }
    reason_text(supervisor, now, report->reason, sizeof report->reason);
    report_say(supervisor, report);
    atomic_store(&report->state, CRASH_REPORT_PENDING);
}

static uint32_t busy_count(const struct crash_record *record)
{
    uint32_t count = atomic_load(&record->slots), busy = 0;
    for (uint32_t i = 0; i < count && i < CRASH_THREADS; i++)
        busy += atomic_load(&record->slot[i].busy) != 0;
    return busy;
}

static void report_memory(struct supervisor *supervisor, int32_t index, uint32_t busy)
{
    struct crash_report *report = report_fill(supervisor->record, index);
    report->counts = CRASH_COUNTS;
    report->signal = SIGKILL;
    snprintf(report->reason, sizeof report->reason, "out of memory, the kernel killed the worker while it ran%s",
             busy > 1 ? ", the second time in a row" : "");
    report_say(supervisor, report);
    atomic_store(&report->state, CRASH_REPORT_PENDING);
}

static void report_bystander(struct supervisor *supervisor, int32_t index, int number)
{
    struct crash_report *report = report_fill(supervisor->record, index);
    report->signal = number;
    if (number == SIGKILL)
        snprintf(report->reason, sizeof report->reason, "killed (SIGKILL%s) while it ran",
                 supervisor->out_of_memory ? ", out of memory" : "");
    else
        snprintf(report->reason, sizeof report->reason, "the worker ended (SIG%s) while it ran", signal_text(number));
    say(supervisor, SAY_WARNING, "job %s was on its thread then; that is not held against it", report->job);
    atomic_store(&report->state, CRASH_REPORT_PENDING);
}

/* No handler ran. Who was there may be innocent: it is said, and a job's history gets a line, but nothing is counted; unless
 * memory had ended, and it was alone or there the last time too. */
static void report_killed(struct supervisor *supervisor, int number)
{
    struct crash_record *record = supervisor->record;
    uint32_t count = atomic_load(&record->slots), busy = busy_count(record), steps = 0;
    for (uint32_t i = 0; i < count && i < CRASH_THREADS; i++) {
        const struct crash_slot *slot = &record->slot[i];
        if (atomic_load(&slot->busy) == 0)
            continue;
        if (supervisor->out_of_memory && memory_suspects(supervisor, slot, busy))
            report_memory(supervisor, (int32_t)i, busy);
        else if (slot->kind == CRASH_IN_STEP)
            steps++;
        else
            report_bystander(supervisor, (int32_t)i, number);
    }
    if (supervisor->out_of_memory)
        memory_remember(supervisor);
    if (steps > 0)
        say(supervisor, SAY_WARNING, "attempts of steps that were cut off, and run again: %u", steps);
}

/* The one thread that ran a job's code; -1: none or several. */
static int32_t only_busy(const struct crash_record *record)
{
    uint32_t count = atomic_load(&record->slots);
    int32_t found = -1;
    for (uint32_t i = 0; i < count && i < CRASH_THREADS; i++) {
        if (atomic_load(&record->slot[i].busy) == 0)
            continue;
        if (found >= 0)
            return -1;
        found = (int32_t)i;
    }
    return found;
}

void report_crash(struct supervisor *supervisor, int status)
{
    struct crash_record *record = supervisor->record;
    struct crash_now *now = &record->now;
    int number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    bool handled = atomic_load(&now->state) != CRASH_NONE;
    int32_t slot = handled ? now->slot : supervisor->verdict ? supervisor->verdict_slot : -1;
    if (!handled && supervisor->verdict)
        now->reason = CRASH_WATCHDOG;
    if (!handled && !supervisor->verdict && signal_counts(number)) { /* not even the handler could run */
        slot = only_busy(record);
        now->reason = CRASH_SIGNAL;
        now->signal = number;
    } else if (!handled && !supervisor->verdict && WIFEXITED(status)) { /* _exit(), which no handler sees */
        slot = only_busy(record);
        now->reason = CRASH_EXIT;
        now->status = WEXITSTATUS(status);
    }
    if (slot >= 0 && slot < CRASH_THREADS) {
        report_culprit(supervisor, slot, handled);
    } else if (handled) {
        char text[CRASH_FRAMES * 160];
        trace_text(record, text, sizeof text);
        say(supervisor, SAY_ERROR, "no job's code was on the thread that crashed; please report this:\n%s", text);
    } else {
        report_killed(supervisor, number);
    }
}

unsigned reports_done(struct supervisor *supervisor)
{
    unsigned done = 0;
    for (size_t i = 0; i < CRASH_REPORTS; i++) {
        struct crash_report *report = &supervisor->record->report[i];
        uint32_t state = atomic_load(&report->state);
        if (state != CRASH_REPORT_DONE && state != CRASH_REPORT_TOLD)
            continue;
        done += report->counts == CRASH_COUNTS;
        if (state == CRASH_REPORT_DONE)
            atomic_store(&report->state, CRASH_REPORT_FREE);
        else if (report->counts == CRASH_COUNTS)
            report->counts = CRASH_COUNTED; /* it stays for a while */
    }
    return done;
}
