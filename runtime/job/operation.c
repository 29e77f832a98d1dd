/*
 * The operations of a job: a step, a timer, an expected signal, a message to another job, a child. Each has a number in
 * program order, which is how events find it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "constants.h"
#include "job/state.h"

/* An operation that is over leaves its kind behind, to know late events by. */
#define OVER(kind) ((uintptr_t)(kind) << 1 | 1)

/* ---- the table ---------------------------------------------------------------------------------- */

static bool operation_reserve(pdr_job *job)
{
    if (job->next_op <= job->op_capacity)
        return true;
    size_t capacity = job->op_capacity > 0 ? job->op_capacity * 2 : 8;
    uintptr_t *ops = realloc(job->ops, capacity * sizeof(*ops));
    if (ops == NULL)
        return false;
    memset(ops + job->op_capacity, 0, (capacity - job->op_capacity) * sizeof(*ops));
    job->ops = ops;
    job->op_capacity = capacity;
    return true;
}

static struct op **operation_list_first(pdr_job *job, const struct op *op)
{
    return op->kind == OP_SIGNAL ? &job->expect_first : &job->live_first;
}

static struct op **operation_list_last(pdr_job *job, const struct op *op)
{
    return op->kind == OP_SIGNAL ? &job->expect_last : &job->live_last;
}

static void operation_link(pdr_job *job, struct op *op)
{
    struct op **last = operation_list_last(job, op);
    op->previous = *last;
    op->next = NULL;
    if (*last != NULL)
        (*last)->next = op;
    else
        *operation_list_first(job, op) = op;
    *last = op;
}

static void operation_unlink(pdr_job *job, struct op *op)
{
    if (op->previous != NULL)
        op->previous->next = op->next;
    else
        *operation_list_first(job, op) = op->next;
    if (op->next != NULL)
        op->next->previous = op->previous;
    else
        *operation_list_last(job, op) = op->previous;
    op->next = op->previous = NULL;
}

/* Gives the next number away. NULL: no memory, and the job is broken. */
struct op *operation_new(pdr_job *job, enum op_kind kind, const pdr_decl *decl, const char *name, const pdr_site *site)
{
    struct op *op = job->free_ops;
    if (op != NULL)
        job->free_ops = op->next;
    else
        op = codec_memory(&job->arena, sizeof(*op));
    if (op == NULL || !operation_reserve(job)) {
        report_no_memory(job);
        return NULL;
    }
    *op = (struct op){.number = job->next_op++,
                      .kind = kind,
                      .decl = decl,
                      .name = name,
                      .site = site,
                      .since_ms = job->now_ms,
                      .attempt = 1};
    perdure__v1__payload__init(&op->input);
    perdure__v1__site__init(&op->wire_site);
    op->wire_site.file = (char *)(uintptr_t)site->file;
    op->wire_site.function = (char *)(uintptr_t)site->function;
    op->wire_site.line = (uint32_t)site->line;
    op->state = OP_PENDING;
    job->ops[op->number - 1] = (uintptr_t)op;
    operation_link(job, op);
    return op;
}

struct op *operation_find(const pdr_job *job, uint64_t number)
{
    if (number == 0 || number >= job->next_op)
        return NULL;
    uintptr_t slot = job->ops[number - 1];
    return slot & 1 ? NULL : (struct op *)slot;
}

enum op_kind operation_kind(const pdr_job *job, uint64_t number)
{
    if (number == 0 || number >= job->next_op)
        return OP_NONE;
    uintptr_t slot = job->ops[number - 1];
    return slot & 1 ? (enum op_kind)(slot >> 1) : ((struct op *)slot)->kind;
}

static void operation_drop_input(struct op *op)
{
    free(op->input.data.data);
    op->input.data = (ProtobufCBinaryData){0};
    error_free(op->last_error);
    op->last_error = NULL;
    payload_free(op->progress);
    op->progress = NULL;
}

const char *operation_copy_text(pdr_job *job, const char *text)
{
    if (text == NULL)
        return NULL;
    char *copy = codec_memory(&job->arena, strlen(text) + 1);
    if (copy == NULL)
        report_no_memory(job);
    return copy != NULL ? strcpy(copy, text) : NULL;
}

const char *operation_copy_shown(pdr_job *job, const char *text)
{
    char *copy = (char *)(uintptr_t)operation_copy_text(job, text);
    if (copy != NULL)
        utf8_repair(copy);
    return copy;
}

/* ---- limits --------------------------------------------------------------------------------------- */

static void limit_queue(pdr_limit *limit, struct op *op)
{
    op->state = OP_QUEUED;
    if (limit->last != NULL)
        limit->last->next_queued = op;
    else
        limit->first = op;
    limit->last = op;
}

static void limit_unqueue(pdr_limit *limit, struct op *op)
{
    struct op *before = NULL;
    for (struct op *at = limit->first; at != op; at = at->next_queued)
        before = at;
    if (before != NULL)
        before->next_queued = op->next_queued;
    else
        limit->first = op->next_queued;
    if (limit->last == op)
        limit->last = before;
    op->next_queued = NULL;
}

/* One of its operations is over: the next may begin. */
static void limit_release(pdr_job *job, pdr_limit *limit)
{
    limit->room++;
    while (limit->room > 0 && limit->first != NULL && !job_is_stopped(job)) {
        struct op *op = limit->first;
        limit_unqueue(limit, op);
        limit->room--;
        operation_begin(job, op);
    }
}

/* ---- life ----------------------------------------------------------------------------------------- */

/* A step: to be run. A child, a step of a queue: asked for, unless that is recorded. */
void operation_begin(pdr_job *job, struct op *op)
{
    op->state = OP_PENDING;
    op->since_ms = job->now_ms;
    bool asked_for = op->kind == OP_CHILD || (op->kind == OP_STEP && op->policy.queue != NULL);
    if (asked_for && !op->recorded) {
        op->recorded = true;
        op->first_started_ms = op->kind == OP_STEP ? job->now_ms : 0; /* its deadline counts from here */
        command_record(job, command_event(op));
    }
    if (op->kind == OP_STEP && job->replay == NULL && !job_is_stopped(job))
        command_step(job, op);
}

/* A step that has begun goes on as its history says: in its queue, with the limits of then, or here. */
static void operation_recorded_policy(pdr_job *job, struct op *op, const Event *recorded)
{
    if (recorded->kind_case != PERDURE__V1__EVENT__KIND_STEP_SCHEDULED) {
        op->policy.queue = NULL;
        return;
    }
    const Perdure__V1__StepScheduled *scheduled = recorded->step_scheduled;
    op->policy.queue = operation_copy_text(job, scheduled->queue);
    op->policy.max_attempts = scheduled->max_attempts;
    op->policy.timeout_ms = scheduled->timeout_ms;
    op->policy.deadline_ms = scheduled->deadline_ms;
    op->policy.schedule_to_start_ms = scheduled->schedule_to_start_ms;
    op->policy.heartbeat_ms = scheduled->heartbeat_ms;
    op->policy.backoff_ms = scheduled->backoff_ms;
    op->policy.backoff_max_ms = scheduled->backoff_max_ms;
    op->policy.priority = scheduled->priority;
    op->scheduled_ms = op->first_started_ms = recorded->t;
    if (!scheduled->held) {
        op->dispatched = op->dispatch = 1;
        op->dispatched_ms = recorded->t;
    }
}

/* Begins it, or lets it wait for its limit. What its history says has begun has begun, whatever the limit is now. */
static void operation_enter(pdr_job *job, struct op *op, pdr_limit *limit)
{
    const Event *recorded = match_op(job, op, limit != NULL);
    if (job_is_stopped(job))
        return;
    op->recorded = recorded != NULL;
    if (op->recorded && op->kind == OP_STEP)
        operation_recorded_policy(job, op, recorded);
    op->limit = limit;
    if (limit == NULL) {
        operation_begin(job, op);
    } else if (recorded != NULL || limit->room > 0) {
        limit->room--;
        operation_begin(job, op);
    } else {
        limit_queue(limit, op);
    }
}

static void operation_leave(pdr_job *job, struct op *op)
{
    bool queued = op->state == OP_QUEUED;
    operation_unlink(job, op);
    operation_drop_input(op);
    op->state = OP_READY;
    if (op->limit != NULL && queued)
        limit_unqueue(op->limit, op);
    else if (op->limit != NULL)
        limit_release(job, op->limit);
}

void operation_ready(pdr_job *job, struct op *op, int code)
{
    if (op->state == OP_READY)
        return;
    op->code = code;
    operation_leave(job, op);
}

void operation_fail(pdr_job *job, struct op *op, const pdr_failure *failure)
{
    if (failure == NULL) {
        report_no_memory(job);
        return;
    }
    op->failure = failure;
    operation_ready(job, op, failure->code);
}

/* Its step is not to be run, its timer not to fire. */
static void operation_abandon(pdr_job *job, struct op *op)
{
    if (op->state == OP_READY)
        return;
    command_drop(job, op);
    op->code = PDR_CANCELLED;
    operation_leave(job, op);
}

void operation_end(pdr_job *job, struct op *op)
{
    operation_abandon(job, op);
    job->ops[op->number - 1] = OVER(op->kind);
    op->next = job->free_ops;
    job->free_ops = op;
}

void operation_abandon_all(pdr_job *job)
{
    /* First what waits for a limit, so that nothing begins while the rest goes. */
    for (struct op *op = job->live_first, *next; op != NULL; op = next) {
        next = op->next;
        if (op->state == OP_QUEUED)
            operation_abandon(job, op);
    }
    while (job->live_first != NULL)
        operation_abandon(job, job->live_first);
    while (job->expect_first != NULL)
        operation_abandon(job, job->expect_first);
}

void operation_free_all(pdr_job *job)
{
    for (struct op *op = job->live_first; op != NULL; op = op->next)
        operation_drop_input(op);
    for (struct op *op = job->expect_first; op != NULL; op = op->next)
        operation_drop_input(op);
    free(job->ops);
    job->ops = NULL;
}

/* A replay is over: what is still open is the engine's to run and to wake. */
void operation_announce_pending(pdr_job *job)
{
    for (struct op *op = job->live_first; op != NULL && !job_is_stopped(job); op = op->next) {
        if (op->announced || op->state != OP_PENDING)
            continue;
        if (op->kind == OP_STEP)
            command_step(job, op);
        else if (op->kind == OP_TIMER)
            command_timer(job, op);
    }
}

/* ---- steps and children --------------------------------------------------------------------------- */

static int64_t merged(int64_t fallback, int64_t declared, int64_t called)
{
    int64_t value = called != 0 ? called : declared != 0 ? declared : fallback;
    return value < 0 ? 0 : value; /* -1: none */
}

/* An option block as this library knows it, whichever version of the header filled it. */
static pdr_step_options step_options(const void *options)
{
    pdr_step_options known = {.size = sizeof(known)};
    const pdr_step_options *given = options;
    if (given != NULL)
        memcpy(&known, given, given->size < sizeof(known) ? given->size : sizeof(known));
    return known;
}

static pdr_child_options child_options(const void *options)
{
    pdr_child_options known = {.size = sizeof(known)};
    const pdr_child_options *given = options;
    if (given != NULL)
        memcpy(&known, given, given->size < sizeof(known) ? given->size : sizeof(known));
    return known;
}

void operation_merge(struct step_policy *policy, const pdr_step_options *defaults, const pdr_step_options *call)
{
    pdr_step_options declared = step_options(defaults), called = step_options(call);
    policy->max_attempts = (uint32_t)merged(0, declared.max_attempts, called.max_attempts);
    policy->timeout_ms = merged(0, declared.timeout_ms, called.timeout_ms);
    policy->deadline_ms = merged(0, declared.deadline_ms, called.deadline_ms);
    policy->backoff_ms = merged(RETRY_BACKOFF_MS, declared.backoff_ms, called.backoff_ms);
    policy->backoff_max_ms = merged(RETRY_BACKOFF_MAX_MS, declared.backoff_max_ms, called.backoff_max_ms);
    policy->in_place = declared.in_place || called.in_place;
    policy->queue = called.queue != NULL ? called.queue : declared.queue;
    if (policy->queue != NULL && policy->queue[0] == '\0')
        policy->queue = NULL;
    policy->schedule_to_start_ms = merged(0, declared.schedule_to_start_ms, called.schedule_to_start_ms);
    policy->heartbeat_ms = merged(TASK_HEARTBEAT_MS, declared.heartbeat_ms, called.heartbeat_ms);
    int priority = called.priority != 0 ? called.priority : declared.priority;
    policy->priority = priority > 0 ? (uint32_t)priority : 0;
    policy->concurrency_key = called.concurrency_key != NULL ? called.concurrency_key : declared.concurrency_key;
    int limit = called.concurrency_limit != 0 ? called.concurrency_limit : declared.concurrency_limit;
    policy->concurrency_limit = limit > 0 ? (uint32_t)limit : 1;
}

/* Encodes the input. False: the operation is ready, failed, or the job is broken. */
static bool operation_set_input(pdr_job *job, struct op *op, const pdr_type *type, const void *in)
{
    op->input.type = (char *)(uintptr_t)codec_type_name(type);
    int code = codec_encode(type, in, &op->input.data);
    if (code == PDR_NO_MEMORY) {
        report_no_memory(job);
        return false;
    }
    if (code == PDR_OK) {
        op->digest = payload_digest(op->input.type, op->input.data.data, op->input.data.len);
        return true;
    }
    size_t size = op->input.data.len;
    op->input.data.len = 0;
    operation_fail(
        job, op,
        code == PDR_MISUSE
            ? failure_newf(&job->arena, PDR_FAILED, "Misuse", op->site, NULL, true, "the input of %s is NULL", op->name)
            : failure_newf(&job->arena, PDR_FAILED, "TooLarge", op->site, NULL, true,
                           "the input of %s takes %zu bytes, %d are allowed", op->name, size, PAYLOAD_LIMIT_BYTES));
    return false;
}

/* Whom it is for. Default id of a child: PARENT/OPERATION. False: ready, failed, or the job is broken. What is no job id
 * never leaves: no owner could read a command to it, so nobody would answer. */
static bool operation_set_target(pdr_job *job, struct op *op, const char *id)
{
    if (id != NULL) {
        op->target = operation_copy_text(job, id);
    } else {
        char *made = codec_memory(&job->arena, strlen(job->id) + 24);
        if (made == NULL)
            report_no_memory(job);
        else
            sprintf(made, "%s/%llu", job->id, (unsigned long long)op->number);
        op->target = made;
    }
    if (job_is_stopped(job))
        return false;
    size_t length = strlen(op->target);
    if (job_id_valid(op->target, length))
        return true;
    operation_fail(job, op,
                   failure_newf(&job->arena, PDR_FAILED, "BadId", op->site, NULL, true,
                                "a job id has 1 to %d bytes of UTF-8 without control characters, this one has %zu bytes",
                                JOB_ID_LIMIT_BYTES, length));
    return false;
}

/* It becomes part of a topic's name. False: the operation has failed. */
static bool operation_check_queue(pdr_job *job, struct op *op)
{
    const char *queue = op->policy.queue;
    if (queue == NULL)
        return true;
    size_t length = strlen(queue);
    bool valid = length <= QUEUE_NAME_LIMIT_BYTES;
    for (size_t i = 0; i < length && valid; i++)
        valid = strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", queue[i]) != NULL;
    if (valid)
        return true;
    operation_fail(job, op,
                   failure_newf(&job->arena, PDR_FAILED, "BadQueue", op->site, NULL, true,
                                "the queue of %s, \"%.120s\", may have letters, digits, '.', '_' and '-' only, at most %d",
                                op->name, queue, QUEUE_NAME_LIMIT_BYTES));
    return false;
}

static struct op *operation_new_of(pdr_job *job, const pdr_site *site, const pdr_decl *decl)
{
    const char *name = registry_qualify(job->registry, job->callable->module, decl->kind, decl->name);
    if (name == NULL) {
        size_t size = strlen(job->callable->module->name) + strlen(decl->name) + 2;
        char *made = codec_memory(&job->arena, size);
        if (made == NULL) {
            report_no_memory(job);
            return NULL;
        }
        if (decl->kind == PDR_KIND_STEP) /* of a module's own, but not among its PDR_RUNS */
            snprintf(made, size, "%s/%s", job->callable->module->name, decl->name);
        else
            strcpy(made, decl->name);
        name = made;
    }
    return operation_new(job, decl->kind == PDR_KIND_STEP ? OP_STEP : OP_CHILD, decl, name, site);
}

/* NULL: the job is broken or diverged. Else the operation may be ready already, failed. */
struct op *operation_start(pdr_job *job, const pdr_site *site, const pdr_decl *decl, const void *in,
                           const void *options)
{
    struct op *op = operation_new_of(job, site, decl);
    if (op == NULL)
        return NULL;
    pdr_limit *limit;
    const char *id = NULL;
    if (op->kind == OP_STEP) {
        pdr_step_options called = step_options(options);
        operation_merge(&op->policy, decl->defaults, &called);
        op->policy.queue = operation_copy_text(job, op->policy.queue);
        op->policy.concurrency_key = operation_copy_text(job, op->policy.concurrency_key);
        limit = called.limit;
        op->label = operation_copy_shown(job, called.label);
    } else {
        pdr_child_options called = child_options(options);
        limit = called.limit;
        op->label = operation_copy_shown(job, called.label);
        id = called.id;
    }
    if (operation_set_input(job, op, decl->in, in) &&
        (op->kind == OP_STEP ? operation_check_queue(job, op) : operation_set_target(job, op, id)) &&
        !job_is_stopped(job))
        operation_enter(job, op, limit);
    return job_is_stopped(job) ? NULL : op;
}

struct op *operation_compensate(pdr_job *job, const struct compensation *compensation)
{
    struct op *op = operation_new_of(job, compensation->site, compensation->decl);
    if (op == NULL)
        return NULL;
    op->policy = compensation->policy;
    op->label = compensation->label;
    op->input.type = (char *)(uintptr_t)codec_type_name(compensation->decl->in);
    op->digest = payload_digest(op->input.type, compensation->input.data, compensation->input.len);
    if (compensation->input.len > 0) {
        op->input.data.data = malloc(compensation->input.len);
        if (op->input.data.data == NULL) {
            report_no_memory(job);
            return NULL;
        }
        op->input.data.len = compensation->input.len;
        memcpy(op->input.data.data, compensation->input.data, compensation->input.len);
    }
    if (op->kind == OP_STEP ? operation_check_queue(job, op) : operation_set_target(job, op, compensation->id))
        operation_enter(job, op, NULL);
    return job_is_stopped(job) ? NULL : op;
}

/* ---- timers, signals, messages ---------------------------------------------------------------------- */

int64_t operation_later(int64_t now_ms, int64_t ms)
{
    return ms > INT64_MAX - now_ms ? INT64_MAX : now_ms + ms;
}

struct op *operation_timer(pdr_job *job, const pdr_site *site, const char *purpose, int64_t ms)
{
    struct op *op = operation_new(job, OP_TIMER, NULL, purpose, site);
    if (op == NULL)
        return NULL;
    op->duration_ms = ms > 0 ? ms : 0;
    op->at_ms = operation_later(job->now_ms, op->duration_ms);
    const Event *recorded = match_op(job, op, false);
    if (job_is_stopped(job))
        return NULL;
    op->recorded = true;
    if (recorded != NULL) {
        op->at_ms = recorded->timer_started->fire_at; /* rule 30: never computed again */
        return op;
    }
    command_record(job, command_event(op));
    if (job->replay == NULL && !job_is_stopped(job))
        command_timer(job, op);
    return job_is_stopped(job) ? NULL : op;
}

struct op *operation_expect(pdr_job *job, const pdr_site *site, const pdr_decl *decl)
{
    struct op *op = operation_new(job, OP_SIGNAL, decl, decl->name, site);
    if (op == NULL)
        return NULL;
    (void)match_op(job, op, false);
    if (job_is_stopped(job))
        return NULL;
    struct signal *before = NULL;
    for (struct signal *signal = job->signal_first; signal != NULL; before = signal, signal = signal->next) {
        if (strcmp(signal->name, decl->name) != 0)
            continue;
        if (before != NULL)
            before->next = signal->next;
        else
            job->signal_first = signal->next;
        if (job->signal_last == signal)
            job->signal_last = before;
        job->signal_count--;
        apply_signal(job, op, signal->payload);
        payload_free(signal->payload);
        free(signal);
        break;
    }
    return job_is_stopped(job) ? NULL : op;
}

int operation_send(pdr_job *job, const struct request *request)
{
    struct op *op = operation_new(job, OP_SEND, request->decl, request->decl->name, request->site);
    if (op == NULL)
        return PDR_FAILED;
    if (operation_set_input(job, op, request->decl->in, request->in) &&
        operation_set_target(job, op, request->id != NULL ? request->id : "")) {
        const Event *recorded = match_op(job, op, false);
        if (recorded == NULL && !job_is_stopped(job))
            command_record(job, command_event(op));
    }
    if (job_is_stopped(job))
        return PDR_FAILED;
    operation_ready(job, op, PDR_OK);
    int code = op->code;
    job->failure = op->failure;
    operation_end(job, op);
    return code;
}
