/*
 * Why a job stopped, for people. A difference is told as `recorded` and `attempted`, with both sites and both builds,
 * and with what agreed before.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "job/state.h"

static const char no_memory_text[] = "out of memory";

static void report_set(pdr_job *job, enum job_state state, char *memory)
{
    if (job_is_stopped(job) && job->report != NULL) { /* the first reason stays */
        free(memory);
        return;
    }
    job->state = state;
    job->report_memory = memory;
    job->report = memory != NULL ? memory : no_memory_text;
}

void report_no_memory(pdr_job *job)
{
    if (job->report != NULL)
        return;
    job->state = JOB_BROKEN;
    job->report = no_memory_text;
}

void report_broken(pdr_job *job, const char *format, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        text = NULL;
    va_end(arguments);
    report_set(job, JOB_BROKEN, text);
}

/* ---- what agreed ---------------------------------------------------------------------------------- */

void report_agreed(pdr_job *job, const Event *event)
{
    struct agreed *agreed = &job->agreed[job->agreed_count++ % AGREED_COUNT];
    agreed->seq = event->seq;
    agreed->op = event->op;
    agreed->kind = (int)event->kind_case;
    snprintf(agreed->name, sizeof(agreed->name), "%s", event_name(event));
}

static void report_line(FILE *out, uint64_t seq, uint64_t op, const char *kind, const char *name, const Site *site)
{
    fprintf(out, "    event %llu: %s", (unsigned long long)seq, kind);
    if (name[0] != '\0')
        fprintf(out, " %s", name);
    if (op != 0)
        fprintf(out, ", operation %llu", (unsigned long long)op);
    if (site != NULL && site->file[0] != '\0')
        fprintf(out, ", at %s:%u", site->file, site->line);
    fputc('\n', out);
}

static void report_agreement(FILE *out, const pdr_job *job)
{
    fprintf(out, "  last events that agreed:\n");
    if (job->replay != NULL) {
        const struct replay *replay = job->replay;
        for (size_t i = replay->agreed > AGREED_COUNT ? replay->agreed - AGREED_COUNT : 0; i < replay->agreed; i++) {
            const Event *event = replay->events[i];
            report_line(out, event->seq, event->op, event_kind_name(event), event_name(event), event->site);
        }
        if (replay->agreed == 0)
            fprintf(out, "    none\n");
        return;
    }
    size_t first = job->agreed_count > AGREED_COUNT ? job->agreed_count - AGREED_COUNT : 0;
    for (size_t i = first; i < job->agreed_count; i++) {
        const struct agreed *agreed = &job->agreed[i % AGREED_COUNT];
        Event shell = PERDURE__V1__EVENT__INIT;
        shell.kind_case = (Perdure__V1__Event__KindCase)agreed->kind;
        report_line(out, agreed->seq, agreed->op, event_kind_name(&shell), agreed->name, NULL);
    }
}

/* ---- the two sides ---------------------------------------------------------------------------------- */

static void report_site(FILE *out, const char *file, const char *function, long line)
{
    if (file != NULL && file[0] != '\0')
        fprintf(out, ", at %s:%ld (%s)", file, line, function);
}

static const char *report_kind(enum op_kind kind)
{
    static const char *const names[] = {"nothing", "step", "timer", "signal", "message", "child", "end"};
    return names[kind];
}

static void report_op_side(FILE *out, const struct op *op)
{
    fprintf(out, "%s \"%s\"", report_kind(op->kind), op->name);
    if (op->kind == OP_TIMER)
        fprintf(out, " of %lld ms", (long long)op->duration_ms);
    if (op->target != NULL)
        fprintf(out, " to job \"%s\"", op->target);
    if (op->kind != OP_TIMER && op->kind != OP_SIGNAL)
        fprintf(out, ", input %016llx", (unsigned long long)op->digest);
    report_site(out, op->site->file, op->site->function, op->site->line);
}

static void report_payload(FILE *out, const char *what, const Payload *payload)
{
    if (payload == NULL)
        return;
    fprintf(out, ", %s %016llx", what,
            (unsigned long long)payload_digest(payload->type, payload->data.data, payload->data.len));
}

static void report_event_side(FILE *out, const Event *event)
{
    enum op_kind kind = match_kind_of(event);
    if (kind == OP_END || kind == OP_NONE)
        fprintf(out, "end \"%s\"", event_kind_name(event));
    else
        fprintf(out, "%s \"%s\"", report_kind(kind), event_name(event));
    switch (event->kind_case) {
    case PERDURE__V1__EVENT__KIND_STEP_COMPLETED:
        fprintf(out, ", input %016llx", (unsigned long long)event->step_completed->input_digest);
        break;
    case PERDURE__V1__EVENT__KIND_STEP_FAILED:
        fprintf(out, ", input %016llx", (unsigned long long)event->step_failed->input_digest);
        break;
    case PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED:
        fprintf(out, ", input %016llx", (unsigned long long)event->attempt_failed->input_digest);
        break;
    case PERDURE__V1__EVENT__KIND_STEP_SCHEDULED:
        report_payload(out, "input", event->step_scheduled->input);
        break;
    case PERDURE__V1__EVENT__KIND_STEP_DISPATCHED:
        fprintf(out, ", input %016llx", (unsigned long long)event->step_dispatched->input_digest);
        break;
    case PERDURE__V1__EVENT__KIND_TIMER_STARTED:
        fprintf(out, " of %lld ms", (long long)event->timer_started->duration_ms);
        break;
    case PERDURE__V1__EVENT__KIND_SIGNAL_SENT:
        fprintf(out, " to job \"%s\"", event->signal_sent->target);
        report_payload(out, "input", event->signal_sent->payload);
        break;
    case PERDURE__V1__EVENT__KIND_CHILD_REQUESTED:
        fprintf(out, " to job \"%s\"", event->child_requested->job);
        report_payload(out, "input", event->child_requested->input);
        break;
    case PERDURE__V1__EVENT__KIND_COMPLETED:
        report_payload(out, "result", event->completed->result);
        break;
    case PERDURE__V1__EVENT__KIND_FAILED:
        if (event->failed->error != NULL)
            fprintf(out, " with %s: %s", event->failed->error->type, event->failed->error->message);
        break;
    default:
        break;
    }
    if (event->site != NULL)
        report_site(out, event->site->file, event->site->function, event->site->line);
    fprintf(out, ", event %llu", (unsigned long long)event->seq);
}

static void report_end_side(FILE *out, const pdr_job *job, const struct outcome *outcome)
{
    Event shell = PERDURE__V1__EVENT__INIT;
    shell.kind_case = (Perdure__V1__Event__KindCase)outcome->kind;
    fprintf(out, "end \"%s\"", event_kind_name(&shell));
    if (outcome->kind == PERDURE__V1__EVENT__KIND_COMPLETED) {
        const char *type = codec_type_name(job->callable->entry->decl->out);
        fprintf(out, ", result %016llx",
                (unsigned long long)payload_digest(type, outcome->result.data, outcome->result.len));
    } else if (outcome->failure != NULL) {
        fprintf(out, " with %s: %s", outcome->failure->type, outcome->failure->message);
    }
    if (job->site != NULL)
        report_site(out, job->site->file, job->site->function, job->site->line);
}

/* What the job does now, where the history has something that it has not asked for. */
static void report_standing(FILE *out, const pdr_job *job)
{
    if (job->compensating != NULL) {
        report_op_side(out, job->compensating);
    } else if (job->outcome.kind != 0) {
        report_end_side(out, job, &job->outcome);
    } else if (job->pending != NULL) {
        const struct op *op = operation_find(job, job->pending->one.id);
        if (job->pending->futures == &job->pending->one && op != NULL)
            report_op_side(out, op);
        else if (job->site != NULL)
            fprintf(out, "a wait for several, at %s:%d (%s)", job->site->file, job->site->line, job->site->function);
    } else {
        fprintf(out, "nothing");
    }
}

/* ---- the text ----------------------------------------------------------------------------------------- */

struct report {
    FILE *out;
    char *text;
    size_t size;
};

static bool report_open(struct report *report, const pdr_job *job, const char *headline)
{
    *report = (struct report){0};
    report->out = open_memstream(&report->text, &report->size);
    if (report->out != NULL)
        fprintf(report->out, "job \"%s\" (%s, run %016llx) %s\n", job->id, job->callable->name,
                (unsigned long long)job->run, headline);
    return report->out != NULL;
}

static void report_close(struct report *report, pdr_job *job, const char *difference)
{
    if (report->out == NULL) {
        report_set(job, JOB_DIVERGED, NULL);
        return;
    }
    if (difference != NULL)
        fprintf(report->out, "  difference: %s\n", difference);
    fprintf(report->out, "  recorded by build %s, attempted by build %s\n", job->build != NULL ? job->build : "unknown",
            job->callable->build);
    report_agreement(report->out, job);
    bool whole = ferror(report->out) == 0;
    whole &= fclose(report->out) == 0;
    if (!whole) {
        free(report->text);
        report->text = NULL;
    }
    report_set(job, JOB_DIVERGED, report->text);
}

static const char took_another_path[] = "took another path than its history";

void report_op(pdr_job *job, const struct op *attempted, const Event *recorded, const char *difference)
{
    struct report report;
    if (report_open(&report, job, took_another_path)) {
        fprintf(report.out, "  operation %llu\n    recorded:  ", (unsigned long long)attempted->number);
        report_event_side(report.out, recorded);
        if (recorded->op != attempted->number)
            fprintf(report.out, ", operation %llu", (unsigned long long)recorded->op);
        fprintf(report.out, "\n    attempted: ");
        report_op_side(report.out, attempted);
        fputc('\n', report.out);
    }
    report_close(&report, job, difference);
}

void report_end(pdr_job *job, uint64_t number, const struct outcome *attempted, const Event *recorded,
                const char *difference)
{
    struct report report;
    if (report_open(&report, job, took_another_path)) {
        fprintf(report.out, "  operation %llu\n    recorded:  ", (unsigned long long)number);
        report_event_side(report.out, recorded);
        if (recorded->op != number)
            fprintf(report.out, ", operation %llu", (unsigned long long)recorded->op);
        fprintf(report.out, "\n    attempted: ");
        report_end_side(report.out, job, attempted);
        fputc('\n', report.out);
    }
    report_close(&report, job, difference);
}

void report_never_attempted(pdr_job *job, const Event *recorded)
{
    struct report report;
    if (report_open(&report, job, took_another_path)) {
        fprintf(report.out, "  operation %llu\n    recorded:  ", (unsigned long long)recorded->op);
        report_event_side(report.out, recorded);
        fprintf(report.out, "\n    attempted: never; the job stands at ");
        report_standing(report.out, job);
        fputc('\n', report.out);
    }
    report_close(&report, job, "never attempted");
}

void report_after_end(pdr_job *job, const Event *recorded)
{
    struct report report;
    if (report_open(&report, job, "has a history that goes on after its end")) {
        fprintf(report.out, "    recorded:  ");
        report_event_side(report.out, recorded);
        fprintf(report.out, "\n    attempted: nothing, it has ended\n");
    }
    report_close(&report, job, "after the end");
}

void report_start(pdr_job *job, const Event *recorded)
{
    struct report report;
    if (report_open(&report, job, "has a history that began otherwise")) {
        bool started = recorded->kind_case == PERDURE__V1__EVENT__KIND_STARTED;
        fprintf(report.out, "    recorded:  %s \"%s\", event %llu\n    attempted: started \"%s\"\n",
                event_kind_name(recorded), started ? recorded->started->type : event_name(recorded),
                (unsigned long long)recorded->seq, job->callable->name);
    }
    report_close(&report, job, "type");
}
