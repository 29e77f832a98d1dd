/*
 * Attempts that ended the step worker before this one: their owners hear it from here, at once and whether or not the
 * task comes again (where it had begun to be reported, it does not). Should it come, it is known: it is not begun a second
 * time, nor by those that follow when others crash them too.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "constants.h"
#include "crash/crash_record.h"
#include "wire/token.h"
#include "worker/queue_worker.h"

/* As much of its task as a report says again. Which dispatch it was nobody remembers: an end counts for its attempt. */
static Record *task_of_crash(const struct log *log, const struct crash_report *crash)
{
    Header header;
    Perdure__V1__Task task;
    Record record;
    struct token token = { (uint32_t)log->genesis.log_id, crash->run, crash->op, crash->attempt, "" };
    char text[TOKEN_BYTES], key[48], job[CRASH_JOB_BYTES], name[CRASH_NAME_BYTES];
    size_t size = 0;
    Record *copy = NULL;
    perdure__v1__record__init(&record);
    perdure__v1__header__init(&header);
    perdure__v1__task__init(&task);
    snprintf(job, sizeof job, "%s", crash->job);
    snprintf(name, sizeof name, "%s", crash->name);
    snprintf(token.job, sizeof token.job, "%s", crash->job);
    token_write(&token, text);
    snprintf(key, sizeof key, "%016" PRIx64 "-%" PRIu64, crash->run, crash->op);
    header.format = FORMAT_VERSION;
    header.rule_level = header.min_reader = 1;
    header.kind = PERDURE__V1__KIND__KIND_TASK;
    header.log = (uint32_t)log->genesis.log_id;
    header.slot = slot_of(job);
    header.map_version = log->genesis.map_version;
    task.job = job;
    task.run = crash->run;
    task.op = crash->op;
    task.attempt = crash->attempt;
    task.step = name;
    task.token = text;
    task.idempotency_key = key;
    task.inbox_partition = partition_of(job, log->genesis.partitions);
    record.header = &header;
    record.task = &task;
    void *data = record_encode(&record, &size);
    if (data)
        record_decode(data, size, &copy);
    free(data);
    return copy;
}

/* "function+0x12 (module.so+0x1139)": the innermost place that is not libc's, which raise() and abort() are in. */
static int crash_place(const struct crash_report *crash, const char **place)
{
    size_t length = 0;
    for (*place = crash->trace;; *place += length + 1) {
        const char *libc = strstr(*place, "libc.so");
        length = strcspn(*place, "\n");
        if (!libc || libc > *place + length || (*place)[length] == '\0')
            return length < 200 ? (int)length : 200;
    }
}

static void crash_tell(struct queue_worker *queue, const struct crash_report *crash, struct taken *taken)
{
    char message[CRASH_NAME_BYTES + 240];
    const char *place;
    int length = crash_place(crash, &place);
    snprintf(message, sizeof message, CRASHED_MESSAGE "%s%s%.*s", crash->reason,
             length > 0 ? ", in " : "", length, place);
    Error error = failure_of("Crashed", message, false);
    taken_report_end(queue, taken, NULL, &error);
}

static void crash_keep(struct queue_worker *queue, const struct crash_report *crash)
{
    struct taken *taken = calloc(1, sizeof *taken);
    if (!taken || !(taken->record = task_of_crash(queue->log, crash))) {
        free(taken);
        worker_fail(queue->worker, PDR_NO_MEMORY, "out of memory");
        return;
    }
    taken->state = TAKEN_OVER;
    taken->crash = crash->id;
    taken->started_ms = crash->at_ms; /* or a moment before */
    taken->correlation = ++queue->next_correlation;
    taken->next = queue->all;
    queue->all = taken;
    taken->reported = crash->state == CRASH_REPORT_TOLD;
    if (!taken->reported)
        crash_tell(queue, crash, taken);
}

void queue_tell_crashes(struct queue_worker *queue)
{
    struct crash_report crash;
    for (size_t i = 0; i < CRASH_REPORTS; i++) {
        if (!crash_report_read(i, &crash))
            continue;
        if (crash.counts && crash.kind == CRASH_IN_STEP)
            crash_keep(queue, &crash);
        else
            worker_crash_done(crash.id); /* only there when the worker was killed: its silence says so */
    }
}

bool taken_is_crash_of(const struct taken *taken, const Perdure__V1__Task *task)
{
    const Perdure__V1__Task *crashed = taken->record->task;
    return taken->crash != 0 && crashed->run == task->run && crashed->op == task->op &&
           crashed->attempt == task->attempt && strcmp(crashed->job, task->job) == 0;
}
