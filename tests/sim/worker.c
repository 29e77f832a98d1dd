/* A worker: the driver loop around the real engine, one seat a partition, with the named fault points. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

int64_t worker_wall(const struct worker *worker) { return world->now + worker->skew; }
static int64_t worker_monotonic(const struct worker *worker) { return world->now - worker->monotonic_base; }

static void seat_note_state(struct seat *seat)
{
    enum engine_state state = engine_state_of(seat->engine);
    if (state != seat->state)
        tally.transitions[seat->state][state]++;
    if (state != seat->state && state == ENGINE_FENCED)
        seat->fenced_at = world->now;
    else if (state != ENGINE_FENCED && state != ENGINE_CATCHING_UP && state != ENGINE_CLAIMING)
        seat->fenced_at = -1;
    seat->state = state;
}

/* ---- life ------------------------------------------------------------------------------------------------- */

static int host_history(void *context, uint32_t partition, const char *job, uint64_t run,
                        bool (*visit)(void *context, int64_t offset, const void *record, size_t size),
                        void *visit_context)
{
    (void)partition;
    return rows_history(context, job, run, visit, visit_context);
}

struct engine *seat_engine_new(struct worker *worker, uint32_t partition, struct rows *store)
{
    const struct profile *profile = &world->profile;
    struct engine_config config = {
        .partition = partition,
        .genesis = PERDURE__V1__GENESIS__INIT,
        .worker = worker->name,
        .boot_id = "boot",
        .registry = world->registry,
        .hands_over = profile->hands_over,
        .has_queues = true,
        .seed = world->options.seed * 1000 + worker->incarnation * 10 + (uint64_t)worker->id,
        .limits = { .live_jobs = profile->live_jobs, .life_ms = profile->life_ms, .keep_ms = profile->keep_ms,
                    .retention_bytes = profile->retention_bytes, .retention_age_ms = profile->retention_age_ms,
                    .retention_records = profile->retention_records, .skew_ms = 2000,
                     .append_deadline_ms = APPEND_DEADLINE, .mark_interval_ms = 400, .claim_backoff_ms = CLAIM_BACKOFF,
                     .trim_delay_ms = TRIM_DELAY, .status_delay_ms = 200, .alive_ms = 1000, .drain_ms = 300, .turn_bytes = profile->turn_bytes,
                     .tasks_out = profile->tasks_out, .inbox_records = profile->inbox_records, .crash_limit = 2 },
         .memory = profile->memory ? &worker->memory : NULL,
         .shared_limits = worker->limits,
        .host = { .context = store, .history = host_history, .unshown = statuses_unshown },
        .job = { .stack_bytes = 64 * 1024 },
    };
    config.genesis.log_id = world->log_id;
    config.genesis.namespace_ = (char *)"sim";
    config.genesis.partitions = profile->partitions;
    config.genesis.map_version = world->grown_from ? 2 : 1;
    config.genesis.grown_from = world->grown_from;
    config.genesis.format = 1;
    config.genesis.rule_level = RULE_LEVEL_RETENTION;
    config.genesis.partition = partition;
    struct engine *engine = engine_new(&config);
    if (!engine)
        abort();
    return engine;
}

void seat_start(struct worker *worker, uint32_t partition)
{
    struct seat *seat = &worker->seats[partition];
    seat->engine = seat_engine_new(worker, partition, &seat->store);
    seat->state = engine_state_of(seat->engine);
    seat->told = false;
    seat->own_claim = seat->claim_pending = seat->truncated = seat->out_of_range = false;
    seat->nonce_count = 0;
    seat->fenced_at = -1;
    seat->reads_source = false;
    for (int stream = 0; stream < STREAMS; stream++) {
        seat->following[stream] = false;
        seat->end_told[stream] = -1;
    }
    engine_on_time(seat->engine, worker_wall(worker), worker_monotonic(worker));
    rows_load(&seat->store, seat->engine);
    seat->unverified = seat->store.count > 0;
    crashes_tell(worker, partition, seat->engine);
    engine_begin(seat->engine, world->streams[LOG_JOURNAL][partition].start);
    if (seat->store.count > 0)
        engine_on_histories_kept(seat->engine, seat->store.position);
    seat_note_state(seat);
}

/* What a store is like after a crash: as of its last commit, or an older backup, lost, damaged. */
static void seat_choose_store(struct seat *seat, uint32_t partition)
{
    if (!world->profile.stores) {
        rows_clear(&seat->store);
        seat->damaged = false;
    } else if (seat->old_store.count > 0 && fault_now(FAULT_STORE_OLD)) {
        rows_copy(&seat->store, &seat->old_store);
        seat->damaged = false;
    } else if (fault_now(FAULT_STORE_LOST)) {
        rows_clear(&seat->store);
        seat->damaged = false;
    } else if (seat->store.count > 0 && world->oracles[partition].last_mark >= seat->store.position &&
               fault_now(FAULT_STORE_DAMAGED)) {
        /* Only where a Mark follows can a reader know: rule 3 promises no more. */
        rows_damage(&seat->store);
        seat->damaged = true;
    }
}

#define LEAF_RATE 2

/* A rate, a number, and the keys that jobs name; or rates of job types: a child's, one that begins with a step, one that
 * waits for signals alone. */
static void worker_limit(struct worker *worker)
{
    const struct profile *profile = &world->profile;
    limits_free(worker->limits);
    worker->begun_count = 0;
    struct limits *limits = worker->limits = profile->step_limits || profile->job_rates ? limits_new() : NULL;
    if (profile->step_limits && (!limits_set(limits, LIMIT_STEP_COUNT, "work", 2) ||
                                 !limits_set(limits, LIMIT_STEP_RATE, "sim/undo", 50)))
        abort();
    if (profile->job_rates && (!limits_set(limits, LIMIT_JOB_RATE, "leaf", LEAF_RATE) ||
                               !limits_set(limits, LIMIT_JOB_RATE, "sim/chain", 1) ||
                               !limits_set(limits, LIMIT_JOB_RATE, "mailbox", 0.5)))
        abort();
}

void worker_start(struct worker *worker)
{
    worker_limit(worker);
    worker->alive = true;
    worker->restarting = worker->stopping = false;
    worker->incarnation++;
    worker->asleep_until = 0;
    worker->monotonic_base = world->now - (int64_t)rng_below(&world->schedule, 1000000);
    worker->session = session_new(worker->id);
    trace("%s starts, incarnation %llu", worker->name, (unsigned long long)worker->incarnation);
    for (uint32_t p = 0; p < world->profile.partitions; p++) {
        if (!world->quiet)
            seat_choose_store(&worker->seats[p], p);
        seat_start(worker, p);
    }
}

static void task_free(struct task *task)
{
    if (task->executed) {
        payload_free(task->outcome.result);
        error_free(task->outcome.error);
    }
    payload_free(task->input);
    free(task->job);
    free(task);
}

static void seat_stop(struct seat *seat)
{
    if (seat->engine)
        engine_free(seat->engine);
    seat->engine = NULL;
    while (seat->tasks) {
        struct task *task = seat->tasks;
        seat->tasks = task->next;
        task_free(task);
    }
}

void worker_crash(struct worker *worker)
{
    trace("%s crashes", worker->name);
    worker->alive = false;
    worker->restarting = false;
    worker->restart_at = world->now + rng_between(&world->faults, 0, 3000);
    for (uint32_t p = 0; p < world->profile.partitions; p++) {
        struct engine_counts counts;
        engine_counts(worker->seats[p].engine, &counts);
        tally.replays += counts.replays;
        tally.evictions += counts.evictions;
        tally.faults[FAULT_INBOX_PAUSED] += counts.inbox_pauses;
        tally.faults[FAULT_MEMORY_WAITED] += counts.memory_waits;
        tally.faults[FAULT_STEP_LIMITED] += counts.limit_waits;
        tally.faults[FAULT_START_HELD] += counts.start_waits;
        tally.claims += counts.claims;
        tally.cuts += counts.cuts;
        tally.copied += counts.copied;
        tally.stubbed += counts.stubbed;
        tally.forgotten += counts.forgotten;
        seat_stop(&worker->seats[p]);
    }
    session_orphan(worker->session);
    statuses_orphan(worker);
    worker->session = NULL;
}

void worker_free(struct worker *worker)
{
    for (uint32_t p = 0; p < world->profile.partitions; p++) {
        seat_stop(&worker->seats[p]);
        rows_clear(&worker->seats[p].store);
        rows_clear(&worker->seats[p].old_store);
    }
    limits_free(worker->limits);
}

void worker_stop(struct worker *worker, bool leave)
{
    trace("%s is told to stop%s", worker->name, leave ? " for good" : "");
    worker->stopping = true;
    for (uint32_t p = 0; p < world->profile.partitions; p++)
        engine_on_stop(worker->seats[p].engine, leave);
}

static bool worker_has_stopped(const struct worker *worker)
{
    for (uint32_t p = 0; p < world->profile.partitions; p++)
        if (worker->seats[p].state != ENGINE_FOLLOWING && worker->seats[p].state != ENGINE_STOPPED)
            return false;
    return worker->stopping;
}

/* A named fault point: crash or stall there. True: the driver must stop what it does. */
static bool worker_point(struct worker *worker, enum fault crash)
{
    if (fault_now(crash)) {
        worker->restarting = true;
        return true;
    }
    if (fault_now(FAULT_STALL)) {
        worker->asleep_until = world->now + rng_between(&world->faults, 10, 6000);
        return true;
    }
    return false;
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

static void seat_note_claim(struct seat *seat, const struct memory_record *record)
{
    if (record->kind != PERDURE__V1__KIND__KIND_CLAIM)
        return;
    seat->own_claim = false;
    seat->own_last_claim = seat->nonce_count > 0 && record->nonce == seat->last_nonce;
    for (size_t i = 0; i < seat->nonce_count && i < 64; i++)
        if (seat->nonces[i] == record->nonce) {
            seat->own_claim = true;
            seat->claim_pending = false;
        }
}

static bool seat_outputs(struct worker *worker, uint32_t p);

/* Rule 4: a claim that was read back, and is not wanted any more, is released first. */
static void seat_is_done_with(const struct worker *worker, uint32_t p, bool claim)
{
    const struct seat *seat = &worker->seats[p];
    if (claim && seat->own_last_claim && seat->state == ENGINE_CLAIMING && engine_state_of(seat->engine) == ENGINE_FOLLOWING)
        world_bad("%s/%u does not release the claim that it no longer wants", worker->name, p);
}

static bool seat_read(struct worker *worker, uint32_t p, enum log_stream stream, int64_t limit)
{
    struct seat *seat = &worker->seats[p];
    struct memory_stream *log = &world->streams[stream][p];
    bool did = false;
    for (int64_t i = 0; i < limit && seat->following[stream] && seat->read[stream] < log->end; i++) {
        int64_t offset = seat->read[stream];
        const struct memory_record *record = &log->records[offset];
        if (offset < log->start && stream == LOG_INBOX && world->truncated_lossy) { /* as with --accept-lost-commands */
            seat->read[stream] = log->start;
            break;
        }
        if (offset < log->start) {
            seat->following[stream] = false;
            engine_on_fault(seat->engine, LOG_OUT_OF_RANGE, "records are gone");
            did = true;
            break;
        }
        if (stream == LOG_JOURNAL && seat->claim_pending && record->kind == PERDURE__V1__KIND__KIND_CLAIM &&
            worker_point(worker, FAULT_CRASH_CLAIM))
            return true;
        /* What the engine said before it reads a claim is said before: what comes later is held against it. */
        if (stream == LOG_JOURNAL && record->kind == PERDURE__V1__KIND__KIND_CLAIM && seat_outputs(worker, p) &&
            (worker->restarting || worker->asleep_until > world->now))
            return true;
        if (seat->read[stream] != offset || !seat->following[stream])
            continue; /* it wants to read from elsewhere now */
        seat->read[stream]++;
        seat->end_told[stream] = -1;
        did = true;
        if (!record->blob)
            continue;
        struct log_record given = { .stream = stream, .partition = p, .offset = offset, .append_ms = record->append_ms,
                                    .leader_epoch = -1, .data = record->blob->data, .size = record->blob->size };
        if (stream == LOG_JOURNAL)
            seat_note_claim(seat, record);
        if (stream == LOG_JOURNAL && record->kind == PERDURE__V1__KIND__KIND_RELEASE)
            seat->fenced_at = -1;
        engine_on_record(seat->engine, &given);
        if (stream == LOG_JOURNAL)
            seat->unverified = false;
        seat_is_done_with(worker, p, stream == LOG_JOURNAL && record->kind == PERDURE__V1__KIND__KIND_CLAIM);
        seat_note_state(seat);
    }
    if (seat->following[stream] && seat->read[stream] >= log->end && seat->end_told[stream] != log->end) {
        seat->end_told[stream] = log->end;
        engine_on_end(seat->engine, stream, log->end);
        if (stream == LOG_JOURNAL)
            seat->unverified = false;
        seat_note_state(seat);
        did = true;
    }
    return did;
}

/* ---- reports and steps ----------------------------------------------------------------------------------------- */

static bool worker_reports(struct worker *worker, bool all)
{
    bool did = false;
    struct session *session = worker->session;
    struct report **link = &session->reports;
    while (*link) {
        struct report *report = *link;
        if (report->due > world->now && !all)
            break; /* a producer tells in the order of its appends */
        *link = report->next;
        if (!*link)
            session->reports_tail = link;
        struct seat *seat = &worker->seats[report->from];
        struct memory_stream *journal = &world->streams[LOG_JOURNAL][report->from];
        if (report->counts_safe && report->landed >= journal->safe && report->cookie < (UINT64_C(1) << 63))
            journal->safe = report->landed + 1;
        if (report->delivery != LOG_PERSISTED && report->nonce)
            seat->doubted = report->nonce;
        engine_on_delivered(seat->engine, report->cookie, report->delivery, report->offset);
        seat_is_done_with(worker, report->from, report->delivery == LOG_PERSISTED);
        seat_note_state(seat);
        free(report);
        did = true;
        if (worker_point(worker, FAULT_CRASH_AFTER_REPORT))
            return true;
    }
    return did;
}

static void task_execute(struct worker *worker, struct seat *seat, struct task *task, uint32_t partition)
{
    struct effect effect = { .job = task->job, .run = task->run, .op = task->op, .attempt = task->attempt,
                             .step = task->step->name, .worker = worker->id, .incarnation = worker->incarnation,
                             .claim = task->claim, .partition = partition, .at = world->now };
    (void)seat;
    struct attempt_request request = { .callable = task->step, .job = task->job, .run = task->run, .op = task->op,
                                       .attempt = task->attempt, .input = task->input, .log_id = world->log_id };
    effect.input_digest = payload_digest(task->input->type, task->input->data.data, task->input->data.len);
    uint64_t before = world->token;
    attempt_run(&request, &task->outcome);
    task->executed = true;
    effect.token = world->token > before ? world->token : 0;
    trace("%s/%u effect %s %s op %llu attempt %u -> %d digest %llx %.*s", worker->name, partition, task->job, task->step->name,
          (unsigned long long)task->op, task->attempt, task->outcome.code, (unsigned long long)effect.input_digest, (int)task->input->data.len, task->input->data.data);
    truth_on_effect(&effect);
}

static void task_end(struct seat *seat, struct task *task)
{
    engine_on_step_ended(seat->engine, task->job, task->run, task->op, task->attempt, &task->outcome, task->started_ms);
    task->executed = false; /* the engine took the outcome */
    seat_note_state(seat);
}

/* The pool comes to it too late. */
static void task_hand_back(struct worker *worker, struct seat *seat, const struct task *task)
{
    fault_count(FAULT_STEP_TOO_LATE);
    engine_on_time(seat->engine, worker_wall(worker), worker_monotonic(worker));
    engine_on_step_handed_back(seat->engine, task->job, task->run, task->op, task->attempt);
    seat_note_state(seat);
}

static bool seat_tasks(struct worker *worker, uint32_t p)
{
    struct seat *seat = &worker->seats[p];
    bool did = false;
    for (struct task **link = &seat->tasks; *link;) {
        struct task *task = *link;
        if (!task->executed && task->begins <= world->now) {
            did = true;
            if (worker_monotonic(worker) >= task->begin_until) {
                *link = task->next;
                task_hand_back(worker, seat, task);
                task_free(task);
                continue;
            }
            if (worker_point(worker, FAULT_CRASH_BEFORE_EFFECT))
                return true;
            if (crashes_in_step(worker, task))
                return true;
            task_execute(worker, seat, task, p);
            if (worker_point(worker, FAULT_CRASH_AFTER_EFFECT))
                return true;
        }
        if (task->executed && task->ends <= world->now) {
            *link = task->next;
            task_end(seat, task);
            task_free(task);
            did = true;
            continue;
        }
        link = &task->next;
    }
    return did;
}

/* ---- outputs ------------------------------------------------------------------------------------------------------ */

static void out_append(struct worker *worker, uint32_t p, const struct engine_output *out)
{
    struct seat *seat = &worker->seats[p];
    struct pending pending = { .blob = blob_new(out->data, out->size), .cookie = out->cookie, .from = p, .copy = -1 };
    if (out->kind == ENGINE_OUT_APPEND && out->header->kind == PERDURE__V1__KIND__KIND_CLAIM) {
        Record *record = NULL;
        if (record_decode(out->data, out->size, &record) != WIRE_OK)
            world_bad("%s appends a claim that cannot be decoded", worker->name);
        seat->last_nonce = record->claim->nonce;
        seat->nonces[seat->nonce_count++ % 64] = record->claim->nonce;
        if (seat->nonce_count > 64)
            seat->nonce_count = 64;
        seat->claim_pending = true;
        truth_on_claim(worker, p);
        seat->fenced_at = -1;
        record_free(record);
    }
    if (out->kind == ENGINE_OUT_APPEND && out->header->kind != PERDURE__V1__KIND__KIND_CLAIM)
        pending.nonce = out->header->nonce;
    if (pending.nonce && out->header->claim >= 0 && pending.nonce != seat->asked_nonce) { /* the first of its epoch */
        seat->asked_nonce = pending.nonce;
        seat->asked_end = world->streams[LOG_JOURNAL][p].end;
    }
    if (out->kind == ENGINE_OUT_APPEND && out->header->kind == PERDURE__V1__KIND__KIND_MARK && out->header->claim < 0)
        fault_count(FAULT_ASKED);
    if (TRACING)
        trace("%s/%u %s %s", worker->name, p, out->kind == ENGINE_OUT_APPEND ? "appends" : "sends",
              record_text(out->data, out->size));
    session_push(worker->session, out->kind == ENGINE_OUT_APPEND ? LOG_JOURNAL : LOG_INBOX,
                 out->kind == ENGINE_OUT_APPEND ? p : out->partition, &pending);
}

/* The first step of a run whose history does not tell that it has begun: of a limited type, no more than two seconds' worth
 * in a second. Not while steps wait for memory: runs that have begun may meet there. */
static void rate_check(struct worker *worker, uint32_t p, const struct engine_output *out)
{
    const struct oracle_run *run = oracle_find_run(&world->oracles[p], out->key, out->run);
    const size_t size = sizeof worker->begun / sizeof *worker->begun;
    size_t recent = 1;
    if (!world->profile.job_rates || world->profile.memory || world->options.without != RULE_NONE || !run || run->seq == 0 ||
        strcmp(run->events[0].event->started->type, "sim/leaf") != 0)
        return;
    for (uint64_t i = 1; i < run->seq; i++)
        if (run->events[i].event->kind_case != PERDURE__V1__EVENT__KIND_SIGNAL_RECEIVED)
            return;
    for (size_t i = 0; i < size && i < worker->begun_count; i++) {
        if (worker->begun[i].run == out->run)
            return; /* an attempt that was handed back */
        recent += worker->begun[i].at > world->now - 1000;
    }
    worker->begun[worker->begun_count % size].run = out->run;
    worker->begun[worker->begun_count++ % size].at = world->now;
    if (recent > 2 * LEAF_RATE)
        world_bad("%s: %zu runs of `leaf` begin within a second, of %d allowed", worker->name, recent, LEAF_RATE);
}

static void out_step(struct worker *worker, uint32_t p, const struct engine_output *out)
{
    rate_check(worker, p, out);
    struct seat *seat = &worker->seats[p];
    struct engine_counts counts;
    struct task *task = calloc(1, sizeof *task);
    if (!task || !(task->job = strdup(out->key)))
        abort();
    engine_counts(seat->engine, &counts);
    task->run = out->run;
    task->op = out->op;
    task->attempt = out->attempt;
    task->step = out->step;
    task->input = payload_copy(out->input);
    task->claim = counts.claim;
    task->begin_until = out->begin_until;
    task->started_ms = worker_wall(worker);
    task->begins = world->now + (int64_t)rng_below(&world->schedule, 20);
    task->ends = task->begins + (int64_t)rng_below(&world->schedule, rng_chance(&world->schedule, 500) ? 3000 : 40);
    if (out->timeout_ms > 0 && (task->ends - world->now > out->timeout_ms || rng_chance(&world->faults, 1500))) {
        task->ends = world->now + out->timeout_ms + (int64_t)rng_below(&world->schedule, 200) + 1;
        if (world->quiet)
            task->ends = task->begins + 1;
        else
            fault_count(FAULT_STEP_TIMED_OUT);
    }
    if (out->in_place) {
        if (worker_monotonic(worker) >= task->begin_until) {
            task_hand_back(worker, seat, task);
        } else {
            task_execute(worker, seat, task, p);
            task_end(seat, task);
        }
        task_free(task);
        return;
    }
    task->next = seat->tasks;
    seat->tasks = task;
}

static void out_abandon(struct seat *seat, const struct engine_output *out)
{
    for (struct task **link = &seat->tasks; *link; link = &(*link)->next) {
        struct task *task = *link;
        if (task->executed || task->run != out->run || task->op != out->op || strcmp(task->job, out->key) != 0)
            continue;
        if (rng_chance(&world->schedule, 5000)) { /* else it was too late to stop it */
            *link = task->next;
            task_free(task);
        }
        return;
    }
}

static void seat_follow(struct seat *seat, enum log_stream stream, int64_t offset)
{
    seat->following[stream] = true;
    seat->read[stream] = offset;
    seat->end_told[stream] = -1;
    if (stream == LOG_JOURNAL)
        seat->own_claim = false;
}

/* Crash before this output takes effect? */
static bool output_point(struct worker *worker, enum engine_output_kind kind)
{
    switch (kind) {
    case ENGINE_OUT_APPEND:
    case ENGINE_OUT_SEND:
    case ENGINE_OUT_TASK:
        return worker_point(worker, FAULT_CRASH_BEFORE_APPEND);
    case ENGINE_OUT_REPLY:
        return worker_point(worker, FAULT_CRASH_BEFORE_REPLY);
    case ENGINE_OUT_TRIM_INBOX:
        return worker_point(worker, FAULT_CRASH_BEFORE_TRIM);
    case ENGINE_OUT_CUT_JOURNAL:
        return worker_point(worker, FAULT_CRASH_BEFORE_CUT);
    case ENGINE_OUT_STEP:
        return worker_point(worker, FAULT_CRASH_BEFORE_EFFECT);
    default:
        return false;
    }
}

static void out_notice(struct worker *worker, uint32_t p, const struct engine_output *out)
{
    static const char *const names[] = { [ENGINE_OUT_OWNED] = "owns",       [ENGINE_OUT_LOST] = "lost",
                                         [ENGINE_OUT_RELEASED] = "released", [ENGINE_OUT_REPLAYED] = "replayed",
                                         [ENGINE_OUT_REBUILD] = "rebuilds", [ENGINE_OUT_STOPPED] = "STOPPED",
                                         [ENGINE_OUT_NOTE] = "notes",       [ENGINE_OUT_DEAD] = "dead letter", [ENGINE_OUT_FORGOTTEN] = "forgets" };
    trace("%s/%u %s%s%s %s", worker->name, p, names[out->kind], out->key ? " " : "", out->key ? out->key : "",
          out->text ? out->text : "");
    if (out->kind == ENGINE_OUT_RELEASED)
        fault_count(FAULT_DRAINED);
    if (out->kind == ENGINE_OUT_FORGOTTEN)
        statuses_forgotten(out->key);
    if (out->kind == ENGINE_OUT_REBUILD) {
        worker->seats[p].following[LOG_JOURNAL] = worker->seats[p].following[LOG_INBOX] = false;
        rows_clear(&worker->seats[p].store);
        worker->seats[p].damaged = false;
        engine_begin(worker->seats[p].engine, world->streams[LOG_JOURNAL][p].start);
    }
    if (out->kind == ENGINE_OUT_STOPPED && !world->truncated_lossy)
        world_bad("%s/%u stopped: %s", worker->name, p, out->text ? out->text : "");
}

static void seat_output(struct worker *worker, uint32_t p, const struct engine_output *out)
{
    struct seat *seat = &worker->seats[p];
    tally.outputs[out->kind]++;
    truth_on_output(worker, p, out);
    switch (out->kind) {
    case ENGINE_OUT_APPEND:
    case ENGINE_OUT_SEND:
        out_append(worker, p, out);
        break;
    case ENGINE_OUT_TASK:
        remote_put_task(worker, p, out);
        break;
    case ENGINE_OUT_REPLY:
        if (out->reply->client == 7)
            clients_reply(out->reply, p);
        else
            remote_reply(out->reply);
        break;
    case ENGINE_OUT_STATUS:
        statuses_put(worker, out);
        break;
    case ENGINE_OUT_STEP:
        out_step(worker, p, out);
        break;
    case ENGINE_OUT_ABANDON_STEP:
        out_abandon(seat, out);
        break;
    case ENGINE_OUT_FOLLOW_JOURNAL:
        seat_follow(seat, LOG_JOURNAL, out->offset);
        break;
    case ENGINE_OUT_FOLLOW_INBOX:
        seat_follow(seat, LOG_INBOX, out->offset);
        break;
    case ENGINE_OUT_UNFOLLOW_INBOX:
        seat->following[LOG_INBOX] = false;
        break;
    case ENGINE_OUT_MAP: {
        Genesis genesis;
        growth_genesis(world->profile.partitions - 1, &genesis);
        engine_on_map(seat->engine, &genesis);
        break;
    }
    case ENGINE_OUT_READ_SOURCE:
        seat->reads_source = true;
        seat->source = out->partition;
        seat->source_end = out->offset;
        seat->source_at = -1;
        break;
    case ENGINE_OUT_TRIM_INBOX:
        if (out->offset > world->streams[LOG_INBOX][p].start)
            world->streams[LOG_INBOX][p].start = out->offset;
        break;
    case ENGINE_OUT_ASK_INBOX_END:
        engine_on_inbox_asked(seat->engine, world->streams[LOG_INBOX][p].end);
        break;
    case ENGINE_OUT_CUT_JOURNAL:
        trace("%s/%u cuts the journal below %lld, %llu runs copied forward", worker->name, p, (long long)out->offset,
              (unsigned long long)out->count);
        if (out->offset > world->streams[LOG_JOURNAL][p].start)
            world->streams[LOG_JOURNAL][p].start = out->offset;
        break;
    case ENGINE_OUT_CRASH_DONE:
        crashes_done(worker, out->count);
        break;
    default:
        out_notice(worker, p, out);
        break;
    }
}

static bool seat_outputs(struct worker *worker, uint32_t p)
{
    struct seat *seat = &worker->seats[p];
    struct engine_output out;
    bool did = false;
    for (int i = 0; engine_take(seat->engine, &out); i++) {
        did = true;
        if (i > 100000)
            world_bad("%s/%u: no end of outputs", worker->name, p);
        bool stop = output_point(worker, out.kind);
        if (worker->restarting)
            return true;
        seat_output(worker, p, &out); /* after a stall it goes on as if nothing had been */
        seat_note_state(seat);
        if (stop || (out.kind == ENGINE_OUT_APPEND && worker_point(worker, FAULT_CRASH_AFTER_APPEND)))
            return true;
    }
    return did;
}

/* ---- the loop --------------------------------------------------------------------------------------------------------- */

static void seat_save(struct worker *worker, uint32_t p)
{
    struct seat *seat = &worker->seats[p];
    if (engine_state_of(seat->engine) == ENGINE_STOPPED)
        return;
    if (fault_now(FAULT_CRASH_BEFORE_STORE)) {
        RULE_FIRED(STORE_ATOMIC);
        if (!RULE(STORE_ATOMIC))
            rows_save(&seat->store, seat->engine, true);
        worker->restarting = true;
        return;
    }
    if (!seat->damaged && rng_chance(&world->faults, 2500))
        rows_copy(&seat->old_store, &seat->store);
    rows_save(&seat->store, seat->engine, false);
    fault_count(FAULT_STORE_SAVED);
    truth_check_store(p, &seat->store, worker->name);
    engine_on_histories_kept(seat->engine, seat->store.position);
}

static void seat_hints(const struct worker *worker, struct seat *seat)
{
    if (seat->truncated) {
        seat->truncated = false;
        trace("a reader that stood at %lld is told of the truncation", (long long)seat->read[LOG_JOURNAL]);
        engine_on_fault(seat->engine, LOG_TRUNCATED, "the journal's end is below what was read");
        seat_note_state(seat);
    }
    if (seat->assigned != seat->told && !worker->stopping) {
        seat->told = seat->assigned;
        if (seat->assigned)
            engine_on_assigned(seat->engine);
        else
            engine_on_revoked(seat->engine);
        seat_note_state(seat);
    }
}

/* The other partition's journal, a few records at a time; now and then from its start again, as after an outage. */
static bool seat_source(struct seat *seat, bool all)
{
    struct memory_stream *log = &world->streams[LOG_JOURNAL][seat->source];
    if (!seat->reads_source)
        return false;
    if (seat->source_at < 0 || (!all && rng_chance(&world->growth, 200))) {
        engine_on_source(seat->engine, NULL);
        seat->source_at = log->start;
    }
    for (int64_t i = all ? 100000 : rng_between(&world->growth, 1, 40); i > 0 && seat->source_at <= seat->source_end; i--) {
        const struct memory_record *record = &log->records[seat->source_at++];
        if (!record->blob)
            continue;
        struct log_record given = { .stream = LOG_JOURNAL, .partition = seat->source, .offset = seat->source_at - 1,
                                    .append_ms = record->append_ms, .leader_epoch = -1,
                                    .data = record->blob->data, .size = record->blob->size };
        engine_on_source(seat->engine, &given);
    }
    if (seat->source_at > seat->source_end) {
        seat->reads_source = false;
        engine_on_source_end(seat->engine);
    }
    return true;
}

bool seat_pump(struct worker *worker, uint32_t p, bool all)
{
    struct seat *seat = &worker->seats[p];
    struct rng *schedule = &world->schedule;
    bool did = false;
    engine_on_time(seat->engine, worker_wall(worker), worker_monotonic(worker));
    seat_note_state(seat);
    seat_hints(worker, seat);
    if (all || rng_chance(schedule, 8000))
        did = seat_read(worker, p, LOG_JOURNAL, all ? 1000 : rng_between(schedule, 1, 12)) || did;
    if (!worker->restarting && (all || rng_chance(schedule, 6000)))
        did = seat_read(worker, p, LOG_INBOX, all ? 1000 : rng_between(schedule, 1, 4)) || did;
    if (!worker->restarting && (all || rng_chance(&world->growth, 5000)))
        did = seat_source(seat, all) || did;
    if (!worker->restarting)
        did = seat_tasks(worker, p) || did;
    if (!worker->restarting && (all || rng_chance(schedule, 8500))) {
        crashes_run(worker, seat->engine, all || rng_chance(schedule, 7000));
        seat_note_state(seat);
    }
    if (!worker->restarting)
        did = seat_outputs(worker, p) || did;
    if (!worker->restarting && world->profile.stores && rng_chance(schedule, world->profile.save_chance))
        seat_save(worker, p);
    return did;
}

/* As the host does: who has been idle for the longest time goes. */
static bool worker_evict(struct worker *worker)
{
    struct engine *tried[PARTITIONS_MAX] = { 0 };
    bool did = false;
    worker->memory.budget = world->profile.memory;
    worker->memory.result = 3000; /* a few attempts fill a budget of the simulator */
    while (world->profile.memory > 0 && worker->memory.used >= worker->memory.budget) {
        struct seat *oldest = NULL;
        for (uint32_t p = 0; p < world->profile.partitions; p++) {
            struct seat *seat = &worker->seats[p];
            if (tried[p] || engine_idle_since(seat->engine) == INT64_MAX)
                continue;
            if (!oldest || engine_idle_since(seat->engine) < engine_idle_since(oldest->engine))
                oldest = seat;
        }
        if (!oldest)
            break;
        if (engine_evict(oldest->engine)) {
            fault_count(FAULT_MEMORY_EVICTED);
            did = true;
        } else {
            tried[oldest - worker->seats] = oldest->engine;
        }
    }
    return did;
}

bool worker_turn(struct worker *worker)
{
    bool did = worker_reports(worker, world->quiet);
    for (uint32_t p = 0; p < world->profile.partitions && !worker->restarting; p++)
        if (world->quiet || rng_chance(&world->schedule, 7500))
            did = seat_pump(worker, p, world->quiet) || did;
    if (!worker->restarting)
        did = worker_evict(worker) || did;
    if (worker->restarting || worker_has_stopped(worker))
        worker_crash(worker);
    return did;
}

int64_t worker_next(const struct worker *worker)
{
    int64_t next = INT64_MAX;
    for (uint32_t p = 0; p < world->profile.partitions; p++) {
        const struct seat *seat = &worker->seats[p];
        int64_t wake = engine_next_wake(seat->engine);
        if (wake < INT64_MAX && wake + worker->monotonic_base < next)
            next = wake + worker->monotonic_base;
        for (const struct task *task = seat->tasks; task; task = task->next) {
            int64_t due = task->executed ? task->ends : task->begins;
            if (due < next)
                next = due;
        }
    }
    return next;
}
