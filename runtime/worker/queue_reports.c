/*
 * Reports of a step worker: commands to the run that awaits the step, sent until a broker has them. Repeating one is
 * harmless: it has the same request id, and names run, operation, attempt and dispatch.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "constants.h"
#include "worker/queue_worker.h"

static void report_fill(const struct queue_worker *queue, const struct taken *taken, Header *header, Command *command,
                        Perdure__V1__TaskReport *report)
{
    const Header *asked = taken->record->header;
    const Perdure__V1__Task *task = taken->record->task;
    header->format = FORMAT_VERSION;
    header->rule_level = header->min_reader = 1;
    header->log = asked->log;
    header->kind = PERDURE__V1__KIND__KIND_COMMAND;
    header->slot = asked->slot;
    header->map_version = asked->map_version;
    header->job = task->job;
    header->run = task->run;
    header->name = task->step;
    header->born = worker_wall_ms();
    report->token = task->token;
    report->op = task->op;
    report->attempt = task->attempt;
    report->dispatch = task->dispatch;
    report->worker = queue->worker->name;
    report->started = taken->started_ms;
    command->kind_case = PERDURE__V1__COMMAND__KIND_TASK_REPORT;
    command->task_report = report;
}

static void report_make(struct queue_worker *queue, struct taken *taken, const char *what, Perdure__V1__TaskReport *kind)
{
    const Perdure__V1__Task *task = taken->record->task;
    char request[160];
    Record record;
    Header header;
    Command command;
    ReplyTo reply_to = queue->reply_to;
    perdure__v1__record__init(&record);
    perdure__v1__header__init(&header);
    perdure__v1__command__init(&command);
    snprintf(request, sizeof request, "%s-%u-%u/%s", task->idempotency_key, task->attempt, task->dispatch, what);
    report_fill(queue, taken, &header, &command, kind);
    command.request = request;
    reply_to.correlation = taken->correlation;
    if (queue->has_reply_to)
        command.reply_to = &reply_to;
    record.header = &header;
    record.command = &command;
    struct report *report = calloc(1, sizeof *report), **link = &queue->reports;
    if (report)
        report->data = record_encode(&record, &report->size);
    if (!report || !report->data) {
        free(report);
        worker_fail(queue->worker, PDR_NO_MEMORY, "out of memory");
        return;
    }
    report->taken = taken;
    report->partition = task->inbox_partition;
    taken->reports++;
    while (*link)
        link = &(*link)->next;
    *link = report;
}

void taken_report_begun(struct queue_worker *queue, struct taken *taken)
{
    Perdure__V1__TaskReport report;
    Perdure__V1__TaskStarted begun;
    perdure__v1__task_report__init(&report);
    perdure__v1__task_started__init(&begun);
    report.kind_case = PERDURE__V1__TASK_REPORT__KIND_BEGUN;
    report.begun = &begun;
    report_make(queue, taken, "started", &report);
}

void taken_report_beat(struct queue_worker *queue, struct taken *taken, const char *detail)
{
    char what[40], type[] = "text";
    Payload payload;
    Perdure__V1__TaskReport report;
    Perdure__V1__TaskHeartbeat beat;
    perdure__v1__task_report__init(&report);
    perdure__v1__task_heartbeat__init(&beat);
    perdure__v1__payload__init(&payload);
    payload.type = type;
    payload.data = (ProtobufCBinaryData){ detail ? strlen(detail) : 0, (uint8_t *)(uintptr_t)detail };
    beat.detail = detail ? &payload : NULL;
    report.kind_case = PERDURE__V1__TASK_REPORT__KIND_HEARTBEAT;
    report.heartbeat = &beat;
    snprintf(what, sizeof what, "beat/%" PRIu64, ++taken->beats);
    report_make(queue, taken, what, &report);
}

void taken_report_declined(struct queue_worker *queue, struct taken *taken, const char *reason)
{
    char text[200];
    Perdure__V1__TaskReport report;
    Perdure__V1__TaskDeclined declined;
    perdure__v1__task_report__init(&report);
    perdure__v1__task_declined__init(&declined);
    snprintf(text, sizeof text, "%s", reason);
    declined.reason = text;
    report.kind_case = PERDURE__V1__TASK_REPORT__KIND_DECLINED;
    report.declined = &declined;
    report_make(queue, taken, "declined", &report);
}

void taken_report_end(struct queue_worker *queue, struct taken *taken, Payload *result, Error *error)
{
    Perdure__V1__TaskReport report;
    perdure__v1__task_report__init(&report);
    if (result) {
        report.kind_case = PERDURE__V1__TASK_REPORT__KIND_COMPLETED;
        report.completed = result;
    } else {
        report.kind_case = PERDURE__V1__TASK_REPORT__KIND_FAILED;
        report.failed = error;
    }
    report_make(queue, taken, "end", &report);
}

/* ---- on their way ---------------------------------------------------------------------------------------------------- */

static void report_free(struct report *report)
{
    free(report->data);
    free(report);
}

/* Where its slots were before the namespace grew: the owner there forwards what comes for them. */
static uint32_t older_home(uint32_t partition)
{
    uint32_t highest = 1;
    while (highest <= partition / 2)
        highest *= 2;
    return partition - highest;
}

void reports_send(struct queue_worker *queue)
{
    for (struct report **link = &queue->reports; *link;) {
        struct report *report = *link;
        struct log_message message = { report->taken->record->task->job, report->data, report->size, NULL };
        int code = LOG_OK;
        if (report->cookie == 0) {
            report->cookie = ++queue->next_cookie;
            code = queue->log->operations->append(queue->log, LOG_INBOX, report->partition, &message, report->cookie);
        }
        if (code == LOG_FULL)
            report->cookie = 0;
        if (code != LOG_FAILED) {
            link = &report->next;
            continue;
        }
        if (report->partition >= queue->log->genesis.partitions) { /* it has grown, and this log was opened before */
            report->partition = older_home(report->partition);
            report->cookie = 0;
            continue;
        }
        /* As good as lost: its owner learns from the silence. */
        worker_notice(queue->worker, PDR_WARNING, "a report on %s cannot be sent: %s", report->taken->record->task->job,
                      queue->log->error);
        report->taken->reports--;
        *link = report->next;
        report_free(report);
    }
}

void report_delivered(struct queue_worker *queue, uint64_t cookie, enum log_delivery delivery, int64_t offset)
{
    struct report **link = &queue->reports;
    while (*link && (*link)->cookie != cookie)
        link = &(*link)->next;
    struct report *report = *link;
    if (!report)
        return;
    if (!log_has(delivery, offset)) {
        report->cookie = 0; /* again */
        return;
    }
    taken_reported(queue, report->taken);
    if (report->taken->crash != 0)
        worker_crash_told(report->taken->crash);
    report->taken->reports--;
    *link = report->next;
    report_free(report);
}

void reports_free(struct queue_worker *queue)
{
    while (queue->reports) {
        struct report *next = queue->reports->next;
        report_free(queue->reports);
        queue->reports = next;
    }
}
