/*
 * What goes into the store and comes out of it (rule 22): heads of open runs, stubs of closed ones, records of open runs
 * that counted since the last save, unsent outputs, and the position all this stands at.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

static bool unsaved_index(struct engine *engine, struct unsaved_record *record)
{
    if (!engine->unsaved_buckets &&
        !(engine->unsaved_buckets = calloc(UNSAVED_BUCKETS, sizeof *engine->unsaved_buckets)))
        return false;
    struct unsaved_bucket *bucket = &engine->unsaved_buckets[record->run % UNSAVED_BUCKETS];
    if (bucket->tail)
        bucket->tail->next_in_bucket = record;
    else
        bucket->head = record;
    bucket->tail = record;
    return true;
}

struct unsaved_record *save_unsaved_of(const struct engine *engine, uint64_t run)
{
    return engine->unsaved_buckets ? engine->unsaved_buckets[run % UNSAVED_BUCKETS].head : NULL;
}

static size_t unsaved_size(const struct unsaved_record *record)
{
    return sizeof *record + record->size + strlen(record->job) + 1;
}

static void unsaved_add(struct engine *engine, struct unsaved_record *record)
{
    record->next = record->next_in_bucket = NULL;
    if (engine->unsaved_tail)
        engine->unsaved_tail->next = record;
    else
        engine->unsaved = record;
    engine->unsaved_tail = record;
    memory_add_unsaved(engine, unsaved_size(record));
}

/* A run that has ended leaves a stub only. While a long journal is read, or while the store takes nothing, its records
 * would fill the memory. */
static bool unsaved_is_needed(const struct engine *engine, const struct unsaved_record *record)
{
    const struct run *run = judge_find(engine->judge, record->job);
    return run && (run_is_open(run) || run->run != record->run);
}

static void unsaved_prune(struct engine *engine)
{
    if (engine->unsaved_bytes < engine->unsaved_limit || judge_copy_is_under_way(engine->judge))
        return; /* what is being copied is known as a run with its last part only */
    struct unsaved_record *record = engine->unsaved, *next;
    engine->unsaved = engine->unsaved_tail = NULL;
    memory_subtract_unsaved(engine, engine->unsaved_bytes);
    if (engine->unsaved_buckets)
        memset(engine->unsaved_buckets, 0, UNSAVED_BUCKETS * sizeof *engine->unsaved_buckets);
    for (; record; record = next) {
        next = record->next;
        if (unsaved_is_needed(engine, record)) {
            unsaved_add(engine, record);
            (void)!unsaved_index(engine, record); /* the buckets are there */
        } else {
            free(record->job);
            free(record);
        }
    }
    engine->unsaved_limit = engine->unsaved_bytes < UNSAVED_PRUNE_BYTES / 2 ? UNSAVED_PRUNE_BYTES
                                                                            : 2 * engine->unsaved_bytes;
}

void save_note_record(struct engine *engine, const Header *header, int64_t offset, const void *data, size_t size)
{
    if (engine->histories_below == INT64_MAX)
        return; /* the log keeps them itself */
    unsaved_prune(engine);
    struct unsaved_record *record = malloc(sizeof *record + size);
    if (!record || !(record->job = strdup(header->job))) {
        free(record);
        engine_stop(engine, "out of memory");
        return;
    }
    record->next_in_bucket = NULL;
    record->run = header->run;
    record->seq = header->seq;
    record->offset = offset;
    record->size = size;
    memcpy(record->data, data, size);
    if (!unsaved_index(engine, record)) {
        free(record->job);
        free(record);
        engine_stop(engine, "out of memory");
        return;
    }
    unsaved_add(engine, record);
}

void save_clear(struct engine *engine)
{
    while (engine->unsaved) {
        struct unsaved_record *next = engine->unsaved->next;
        memory_subtract_unsaved(engine, unsaved_size(engine->unsaved));
        free(engine->unsaved->job);
        free(engine->unsaved);
        engine->unsaved = next;
    }
    engine->unsaved_tail = NULL;
    engine->unsaved_limit = UNSAVED_PRUNE_BYTES;
    free(engine->unsaved_buckets);
    engine->unsaved_buckets = NULL;
}

static uint64_t closed_count(const struct judge *judge)
{
    uint64_t count = 0;
    for (size_t i = 0; i < judge->capacity; i++)
        for (const struct run *run = judge->table[i]; run; run = run->next)
            count += run->seq > 0 && !run_is_open(run);
    return count;
}

static void save_partition(struct engine *engine, const struct engine_save *save)
{
    struct judge *judge = engine->judge;
    StoredPartition row = PERDURE__V1__STORED_PARTITION__INIT;
    Genesis genesis = engine->config.genesis;
    row.log_id = genesis.log_id;
    row.partition = engine->config.partition;
    row.format = FORMAT_VERSION;
    row.position = judge->position;
    row.claim = judge->owned ? judge->claim : -1;
    row.nonce = judge->nonce;
    row.n = judge->n;
    row.in_pos = &judge->in_pos;
    row.mark_in_pos = &judge->mark_in_pos;
    row.out_pos = judge->out_pos;
    row.largest_t = judge->largest_t;
    row.shown = judge->shown;
    row.anchor_offset = judge->anchor;
    row.anchor_digest = judge->anchor_digest;
    slots_genesis(engine, &genesis);
    genesis.partition = row.partition;
    row.genesis = &genesis;
    row.cut = judge->cut;
    row.journal_bytes = engine->retention.journal_bytes;
    row.claim_bytes = engine->retention.claim_bytes;
    row.owner = engine->handover.owner;
    row.leaving = engine->handover.leaving_ms;
    row.last_append = engine->handover.last_ms;
    row.released = engine->handover.released;
    row.live_hash = (ProtobufCBinaryData){ .len = sizeof judge->live_hash.bytes, .data = judge->live_hash.bytes };
    row.live_count = judge->live_count;
    row.closed_count = closed_count(judge);
    save->partition(save->context, &row);
}

static void save_crashes(StoredCrashes *row, CrashCount *counts, CrashCount **pointers, const struct crash_tally *tally)
{
    perdure__v1__stored_crashes__init(row);
    row->recent = (uint64_t *)tally->recent;
    row->n_recent = tally->recent_count;
    row->total = tally->total;
    row->quarantined = tally->quarantined;
    row->t = tally->t;
    row->report = tally->report;
    row->counts = pointers;
    row->n_counts = tally->count;
    for (size_t i = 0; i < tally->count; i++) {
        perdure__v1__crash_count__init(&counts[i]);
        counts[i].op = tally->counts[i].op;
        counts[i].attempt = tally->counts[i].attempt;
        counts[i].count = tally->counts[i].count;
        counts[i].reason = (char *)tally->counts[i].reason;
        pointers[i] = &counts[i];
    }
}

static void save_run(const struct engine_save *save, struct run *run)
{
    StoredCrashes crashes;
    CrashCount counts[sizeof run->crashes->counts / sizeof *run->crashes->counts];
    CrashCount *pointers[sizeof counts / sizeof *counts];
    StoredRun row = PERDURE__V1__STORED_RUN__INIT;
    Position last = PERDURE__V1__POSITION__INIT;
    row.job = run->job;
    row.run = run->run;
    row.seq = run->seq;
    row.digest = (ProtobufCBinaryData){ .len = sizeof run->digest.bytes, .data = run->digest.bytes };
    row.open = run_is_open(run);
    row.first = run->first;
    row.known_from = run->known_from;
    row.last = run->last;
    row.t = run->t;
    row.rests = run->rests;
    row.unbegun = run->unbegun;
    row.type = (char *)(run->type ? run->type : "");
    row.build = (char *)(run->build ? run->build : "");
    row.created = run->created;
    row.requests = run->requests.recent;
    row.n_requests = run->requests.recent_count;
    last.generation = run->last_generation;
    last.offset = run->last_input;
    row.last_input = &last;
    row.last_partition = run->last_partition;
    row.unknown_event = run->unknown_event;
    row.keep_until = run->keep_until;
    row.keep_ms = run->keep_ms;
    row.state = (char *)run_end_name(run->end);
    row.result = run->outcome ? run->outcome->result : NULL;
    row.error = run->outcome ? run->outcome->error : NULL;
    row.input_digest = run->input_digest;
    if (run->parent) {
        row.parent_job = run->parent->job;
        row.parent_run = run->parent->run;
        row.parent_op = run->parent->op;
    }
    row.unknown_at_level = run->unknown_event ? RULE_LEVEL : 0;
    if (run->crashes) {
        save_crashes(&crashes, counts, pointers, run->crashes);
        row.crashes = &crashes;
    }
    save->run(save->context, &row);
}

static void save_runs(struct engine *engine, const struct engine_save *save)
{
    for (size_t i = 0; i < engine->judge->capacity; i++)
        for (struct run *run = engine->judge->table[i]; run; run = run->next) {
            if (!run->changed || run->seq == 0)
                continue;
            run->changed = false;
            if (!run_is_open(run) && !RULE(STORE_STUBS))
                continue; /* the mutation: a job that ended left no trace */
            RULE_FIRED(STORE_STUBS);
            save_run(save, run);
            if (!run_is_open(run))
                save->closed(save->context, run->job, run->run);
        }
}

/* A run that ended since the last save never touches the store but for its stub. */
static void save_records(struct engine *engine, const struct engine_save *save)
{
    engine->records_stored = engine->records_stored || engine->unsaved;
    for (struct unsaved_record *record = engine->unsaved; record; record = record->next) {
        const struct run *run = judge_find(engine->judge, record->job);
        if (run && run->run == record->run && run_is_open(run))
            save->record(save->context, record->job, record->run, record->seq, record->offset, record->data,
                         record->size);
        else if (run && run->run != record->run) /* ended, and the next run of its id began, since the last save */
            save->closed(save->context, record->job, record->run);
    }
    save_clear(engine);
}

static void save_outputs(struct engine *engine, const struct engine_save *save)
{
    if (!engine->outbox.changed)
        return;
    engine->outbox.changed = false;
    size_t count = 0, i = 0;
    StoredOutput *rows = calloc(engine->outbox.unsent + 1, sizeof *rows);
    const StoredOutput **pointers = calloc(engine->outbox.unsent + 1, sizeof *pointers);
    if (!rows || !pointers) {
        engine_stop(engine, "out of memory");
    } else {
        for (struct outbox_entry *entry = engine->outbox.oldest; entry; entry = entry->newer, i++) {
            perdure__v1__stored_output__init(&rows[i]);
            rows[i].offset = entry->offset;
            rows[i].index = entry->index;
            rows[i].target = (char *)(entry->task ? outbox_task_job(entry) : entry->target->job);
            rows[i].record = (ProtobufCBinaryData){ .len = entry->size, .data = entry->data };
            if (entry->task) {
                rows[i].queue = entry->task->queue;
                rows[i].run = entry->task->run;
                rows[i].op = entry->task->op;
                rows[i].attempt = entry->task->attempt;
                rows[i].dispatch = entry->task->dispatch;
            }
            pointers[count++] = &rows[i];
        }
        save->outputs(save->context, pointers, count);
    }
    free(rows);
    free(pointers);
}

/* Rule 20. An id that lives again keeps its row: it is another run's by now. */
static void save_forgotten(struct engine *engine, const struct engine_save *save)
{
    while (engine->retention.forgotten) {
        struct forgotten_job *forgotten = engine->retention.forgotten;
        const struct run *run = judge_find(engine->judge, forgotten->job);
        engine->retention.forgotten = forgotten->next;
        if (!run || run->seq == 0)
            save->forgotten(save->context, forgotten->job);
        if (forgotten->run)
            save->closed(save->context, forgotten->job, forgotten->run);
        free(forgotten);
    }
}

void engine_store(struct engine *engine, const struct engine_save *save)
{
    if (!engine->partition_changed || !engine->began)
        return;
    if (!engine->judge->whole || judge_copy_is_under_way(engine->judge))
        return; /* whoever begins from it could not tell what it does not know (rules 18, 22) */
    engine->partition_changed = false;
    save_forgotten(engine, save);
    save_runs(engine, save);
    save_records(engine, save);
    save_outputs(engine, save);
    save_partition(engine, save);
}

bool engine_store_anew(struct engine *engine)
{
    if (engine->records_stored)
        return false;
    engine->partition_changed = engine->outbox.changed = true;
    for (size_t i = 0; i < engine->judge->capacity; i++)
        for (struct run *run = engine->judge->table[i]; run; run = run->next)
            run->changed = true;
    return true;
}

/* ---- from the store ------------------------------------------------------------------------------------------- */

int engine_load_partition(struct engine *engine, const StoredPartition *row)
{
    struct judge *judge = engine->judge;
    judge->position = row->position;
    judge->owned = row->claim >= 0;
    judge->claim = row->claim;
    judge->nonce = row->nonce;
    judge->n = row->n;
    if (row->in_pos)
        judge->in_pos = *row->in_pos;
    if (row->mark_in_pos)
        judge->mark_in_pos = *row->mark_in_pos;
    judge->out_pos = row->out_pos;
    judge->largest_t = row->largest_t;
    judge->shown = row->shown;
    judge->anchor = row->anchor_offset;
    judge->anchor_digest = row->anchor_digest;
    judge->begin = row->position;
    judge->whole = true;
    judge->cut = row->cut;
    judge->swept = row->cut > 0 ? 0 : SIZE_MAX;
    engine->retention.journal_bytes = row->journal_bytes;
    engine->retention.claim_bytes = row->claim_bytes;
    snprintf(engine->handover.owner, sizeof engine->handover.owner, "%s", row->owner);
    engine->handover.leaving_ms = row->leaving;
    engine->handover.last_ms = row->last_append;
    engine->handover.released = row->released;
    if (row->genesis) {
        judge->map = slot_map_of(row->genesis);
        judge->partition = row->partition;
    }
    engine->loaded.known = row->live_hash.len == sizeof engine->loaded.live_hash.bytes;
    if (engine->loaded.known)
        engine->loaded.live_hash = digest_from_bytes(row->live_hash);
    engine->loaded.live_count = row->live_count;
    engine->loaded.closed_count = row->closed_count;
    engine->from_store = true;
    engine->records_stored = engine->histories_below != INT64_MAX;
    if (engine->histories_below < row->position)
        engine->histories_below = row->position;
    return PDR_OK;
}

int engine_load_run(struct engine *engine, const StoredRun *stored)
{
    if (!judge_places(engine->judge, stored->job))
        return PDR_OK; /* it left, and its row with the next store (rule 25) */
    struct run *run = judge_restore(engine->judge, stored);
    if (!run)
        return PDR_NO_MEMORY;
    if (!stored->open && (stored->result || stored->error)) {
        run->outcome = calloc(1, sizeof *run->outcome);
        if (!run->outcome)
            return PDR_NO_MEMORY;
        run->outcome->result = stored->result ? payload_copy(stored->result) : NULL;
        run->outcome->error = stored->error ? error_copy(stored->error) : NULL;
    }
    return PDR_OK;
}

/* Each row has a checksum; together they must be those of one moment. */
bool engine_loaded_whole(const struct engine *engine)
{
    const struct loaded *loaded = &engine->loaded;
    return !loaded->known || (loaded->live_count == engine->judge->live_count &&
                              digest_equal(loaded->live_hash, engine->judge->live_hash) &&
                              loaded->closed_count == closed_count(engine->judge));
}

int engine_load_output(struct engine *engine, const StoredOutput *stored) { return outbox_restore(engine, stored); }
