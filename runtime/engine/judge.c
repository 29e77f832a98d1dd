#include "engine/judge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "constants.h"
#include "engine/engine.h"
#include "engine/judge_internal.h"
#include "engine/rules.h"
#include "wire/pack.h"

static const char *const end_names[] = { "running", "completed", "failed", "cancelled", "terminated" };

const char *run_end_name(enum run_end end) { return end_names[end]; }

/* ---- request ids --------------------------------------------------------------------------------- */

static uint64_t request_hash(const char *request)
{
    uint64_t hash = hash64(request, strlen(request));
    return hash ? hash : 1;
}

bool request_set_has(const struct request_set *set, const char *request)
{
    if (set->capacity == 0)
        return false;
    uint64_t hash = request_hash(request);
    for (uint32_t i = (uint32_t)hash & (set->capacity - 1); set->hashes[i]; i = (i + 1) & (set->capacity - 1))
        if (set->hashes[i] == hash)
            return true;
    return false;
}

static void request_set_put(uint64_t *hashes, uint32_t capacity, uint64_t hash)
{
    uint32_t i = (uint32_t)hash & (capacity - 1);
    while (hashes[i])
        i = (i + 1) & (capacity - 1);
    hashes[i] = hash;
}

static int request_set_grow(struct request_set *set)
{
    uint32_t capacity = set->capacity ? set->capacity * 2 : 2;
    uint64_t *hashes = calloc(capacity, sizeof *hashes);
    if (!hashes)
        return PDR_NO_MEMORY;
    for (uint32_t i = 0; i < set->capacity; i++)
        if (set->hashes[i])
            request_set_put(hashes, capacity, set->hashes[i]);
    free(set->hashes);
    set->hashes = hashes;
    set->capacity = capacity;
    return PDR_OK;
}

static int request_set_keep_text(struct request_set *set, const char *request)
{
    char *text = strdup(request);
    if (!text)
        return PDR_NO_MEMORY;
    if (set->recent_count == REQUESTS_KEPT) {
        free(set->recent[0]);
        memmove(set->recent, set->recent + 1, (REQUESTS_KEPT - 1) * sizeof *set->recent);
        set->recent[REQUESTS_KEPT - 1] = text;
        return PDR_OK;
    }
    char **recent = realloc(set->recent, (set->recent_count + 1) * sizeof *recent);
    if (!recent) {
        free(text);
        return PDR_NO_MEMORY;
    }
    recent[set->recent_count++] = text;
    set->recent = recent;
    return PDR_OK;
}

int request_set_add(struct request_set *set, const char *request)
{
    if (!request || !*request || request_set_has(set, request))
        return PDR_OK;
    if (set->used + 1 >= set->capacity && request_set_grow(set) != PDR_OK)
        return PDR_NO_MEMORY;
    request_set_put(set->hashes, set->capacity, request_hash(request));
    set->used++;
    return request_set_keep_text(set, request);
}

static void request_set_clear(struct request_set *set)
{
    for (uint32_t i = 0; i < set->recent_count; i++)
        free(set->recent[i]);
    free(set->recent);
    free(set->hashes);
    memset(set, 0, sizeof *set);
}

/* ---- the table of runs --------------------------------------------------------------------------- */

static void outcome_free(struct outcome *outcome)
{
    if (!outcome)
        return;
    payload_free(outcome->result);
    error_free(outcome->error);
    free(outcome);
}

static void run_parent_free(struct run_parent *parent)
{
    if (parent)
        free(parent->job);
    free(parent);
}

/* Back to "nothing counted"; the job id and what the engine hung on it stay. */
void run_clear(struct run *run)
{
    request_set_clear(&run->requests);
    run_parent_free(run->parent);
    outcome_free(run->outcome);
    crash_tally_free(run->crashes);
    struct run kept = *run;
    memset(run, 0, sizeof *run);
    run->next = kept.next;
    run->hash = kept.hash;
    run->job = kept.job;
    run->user = kept.user;
    run->last_input = -1;
}

/* Another run of the same job id. What earlier runs absorbed is still known: a late copy of their starts or signals must
 * not be new to the next (rule 13). Time alone must not end that: a copy may lie unread in a lagging inbox (rule 20, H7),
 * so it ends with the job id, when retention forgets it. */
void run_begin_again(struct run *run)
{
    struct request_set known = run->requests;
    memset(&run->requests, 0, sizeof run->requests);
    run_clear(run);
    run->requests = known;
}

void run_free(struct run *run)
{
    run_clear(run);
    free(run->job);
    free(run);
}

struct run *judge_find(const struct judge *judge, const char *job)
{
    if (judge->capacity == 0)
        return NULL;
    uint64_t hash = hash64(job, strlen(job));
    for (struct run *run = judge->table[hash & (judge->capacity - 1)]; run; run = run->next)
        if (run->hash == hash && strcmp(run->job, job) == 0)
            return run;
    return NULL;
}

static int judge_grow(struct judge *judge)
{
    size_t capacity = judge->capacity ? judge->capacity * 2 : 64;
    struct run **table = calloc(capacity, sizeof *table);
    if (!table)
        return PDR_NO_MEMORY;
    for (size_t i = 0; i < judge->capacity; i++)
        for (struct run *run = judge->table[i], *next; run; run = next) {
            next = run->next;
            run->next = table[run->hash & (capacity - 1)];
            table[run->hash & (capacity - 1)] = run;
        }
    free(judge->table);
    judge->table = table;
    judge->capacity = capacity;
    return PDR_OK;
}

struct run *judge_find_or_add(struct judge *judge, const char *job)
{
    struct run *run = judge_find(judge, job);
    if (run)
        return run;
    if (judge->count >= judge->capacity && judge_grow(judge) != PDR_OK)
        return NULL;
    run = calloc(1, sizeof *run);
    char *name = strdup(job);
    if (!run || !name) {
        free(run);
        free(name);
        return NULL;
    }
    run->job = name;
    run->hash = hash64(job, strlen(job));
    run->last_input = -1;
    struct run **bucket = &judge->table[run->hash & (judge->capacity - 1)];
    run->next = *bucket;
    *bucket = run;
    judge->count++;
    return run;
}

/* Types and builds are few: a list is enough. */
const char *judge_intern(struct judge *judge, const char *text)
{
    for (size_t i = 0; i < judge->interned_count; i++)
        if (strcmp(judge->interned[i], text) == 0)
            return judge->interned[i];
    char **interned = realloc(judge->interned, (judge->interned_count + 1) * sizeof *interned);
    if (!interned)
        return NULL;
    judge->interned = interned;
    char *copy = strdup(text);
    if (!copy)
        return NULL;
    return interned[judge->interned_count++] = copy;
}

/* They are saved as messages, also when nothing has counted yet. */
static void judge_init_positions(struct judge *judge)
{
    perdure__v1__position__init(&judge->in_pos);
    perdure__v1__position__init(&judge->mark_in_pos);
}

struct judge *judge_new(const Genesis *expected)
{
    struct judge *judge = calloc(1, sizeof *judge);
    if (!judge)
        return NULL;
    if (expected) {
        judge->genesis = *expected;
        judge->genesis.namespace_ = NULL;
        judge->has_genesis = true;
    }
    judge->anchor = judge->begin = -1;
    judge->swept = SIZE_MAX;
    judge_init_positions(judge);
    return judge;
}

static void judge_clear_runs(struct judge *judge)
{
    for (size_t i = 0; i < judge->capacity; i++)
        for (struct run *run = judge->table[i], *next; run; run = next) {
            next = run->next;
            run_free(run);
        }
    free(judge->table);
    for (size_t i = 0; i < judge->interned_count; i++)
        free(judge->interned[i]);
    free(judge->interned);
}

void judge_reset(struct judge *judge)
{
    judge_partial_drop(judge);
    judge_clear_runs(judge);
    struct judge fresh = { .genesis = judge->genesis, .has_genesis = judge->has_genesis, .partition = judge->partition,
                           .anchor = -1, .begin = -1, .swept = SIZE_MAX };
    *judge = fresh;
    judge_init_positions(judge);
}

void judge_free(struct judge *judge)
{
    if (!judge)
        return;
    judge_partial_drop(judge);
    judge_clear_runs(judge);
    free(judge);
}

/* ---- rule F: whose record is it ------------------------------------------------------------------- */

enum judge_verdict judge_stop(struct judge *judge, int64_t offset, const char *why)
{
    snprintf(judge->error, sizeof judge->error, "journal offset %lld: %s", (long long)offset, why);
    return JUDGE_STOP;
}

/* Every Claim repeats the genesis: a topic made anew, or of another shape, is seen here (rule 1). */
static enum judge_verdict judge_genesis(struct judge *judge, int64_t offset, const Genesis *genesis)
{
    if (!genesis)
        return judge_stop(judge, offset, "a Claim or Genesis without its genesis");
    if (!judge->has_genesis) {
        judge->genesis = *genesis;
        judge->genesis.namespace_ = NULL;
        judge->has_genesis = true;
    }
    if (genesis->log_id != judge->genesis.log_id)
        return judge_stop(judge, offset, "belongs to another log (the log was made anew)");
    if (judge_slot_map(judge, offset, genesis) == JUDGE_STOP)
        return JUDGE_STOP;
    if (genesis->rule_level > RULE_LEVEL)
        return judge_stop(judge, offset, "the namespace follows rules of a later version; use that version");
    return JUDGE_GENESIS;
}

bool judge_epoch_is_current(const struct judge *judge, const Header *header)
{
    if (!RULE(FENCE))
        return true;
    if (!judge->owned)
        return false;
    if (header->claim != judge->claim)
        return false;
    if (header->nonce != judge->nonce)
        RULE_FIRED(NONCE);
    return header->nonce == judge->nonce || !RULE(NONCE);
}

static enum judge_verdict judge_claim(struct judge *judge, int64_t offset, const Record *record)
{
    if (!record->claim)
        return judge_stop(judge, offset, "a Claim without its body");
    enum judge_verdict verdict = judge_genesis(judge, offset, record->genesis);
    if (verdict == JUDGE_STOP)
        return verdict;
    judge_partial_drop(judge); /* rule 18: all parts in one epoch */
    judge->owned = true;
    judge->claim = offset;
    judge->nonce = record->claim->nonce;
    judge->n = 0;
    return JUDGE_CLAIM;
}

static void judge_positions(struct judge *judge, const Position *in_pos, int64_t out_pos)
{
    if (in_pos && position_is_beyond(in_pos, &judge->in_pos))
        judge->in_pos = *in_pos;
    if (out_pos > judge->out_pos)
        judge->out_pos = out_pos;
}

void judge_counted(struct judge *judge, int64_t offset, const Header *header)
{
    judge->n = header->n;
    judge->anchor = offset;
    if (header->t > judge->largest_t)
        judge->largest_t = header->t;
    judge_positions(judge, header->in_pos, out_pos_seen(header->out_pos, offset));
}

static enum judge_verdict judge_mark(struct judge *judge, int64_t offset, const Record *record)
{
    const Mark *mark = record->mark;
    if (!judge_epoch_is_current(judge, record->header)) {
        RULE_FIRED(FENCE);
        return JUDGE_FENCED;
    }
    if (!mark)
        return judge_stop(judge, offset, "a Mark without its body");
    if (record->header->n <= judge->n)
        return JUDGE_DUPLICATE; /* a late copy: its live hash tells of the past */
    judge_counted(judge, offset, record->header);
    judge_positions(judge, mark->in_pos, out_pos_seen(mark->out_pos, offset));
    if (mark->in_pos)
        judge->mark_in_pos = *mark->in_pos;
    if (mark->largest_t > judge->largest_t)
        judge->largest_t = mark->largest_t;
    if (mark->shown > judge->shown)
        judge->shown = mark->shown;
    bool knows_all = judge_at_mark(judge, mark);
    if (RULE(DISTRUST) && knows_all &&
        (mark->live_count != judge->live_count ||
         !digest_equal(digest_from_bytes(mark->live_hash), judge->live_hash))) {
        RULE_FIRED(DISTRUST);
        snprintf(judge->error, sizeof judge->error,
                 "journal offset %lld: the Mark counts %llu open runs, %llu were read, or their hashes differ",
                 (long long)offset, (unsigned long long)mark->live_count, (unsigned long long)judge->live_count);
        return JUDGE_DISTRUST;
    }
    return JUDGE_MARK;
}

/* ---- rule S: does it continue its run --------------------------------------------------------------- */

void judge_live(struct judge *judge, const struct run *run, bool add)
{
    if (!run_is_open(run))
        return;
    digest term = live_hash_of(run->job, run->run, run->seq, run->digest);
    if (add)
        live_hash_add(&judge->live_hash, term);
    else
        live_hash_subtract(&judge->live_hash, term);
    judge->live_count += add ? 1 : (uint64_t)-1;
    judge->open_count = (size_t)judge->live_count;
}

static enum judge_verdict judge_chain(struct judge *judge, const struct run *run, const Header *header)
{
    digest prev = digest_from_bytes(header->prev), after = digest_from_bytes(header->digest);
    uint64_t last = header->seq + header->count - 1;

    if (!judge_epoch_is_current(judge, header)) {
        RULE_FIRED(FENCE);
        return JUDGE_FENCED;
    }
    if (!judge_holds(judge, header->job)) { /* rule 25 */
        RULE_FIRED(SLOT_OUT_ENDS);
        return JUDGE_REJECTED;
    }
    if (run && run->seq > 0 && (run->run == header->run || !RULE(RUN_ID))) {
        if (last == run->seq && digest_equal(after, run->digest))
            return JUDGE_DUPLICATE;
        if (last < run->seq)
            return JUDGE_DUPLICATE; /* one epoch never writes two values for a seq (rule 5): a late copy */
        if (!RULE(CHAIN))
            return JUDGE_COUNTED;
        if (run->end != RUN_OPEN || header->seq != run->seq + 1 || !digest_equal(prev, run->digest))
            return JUDGE_REJECTED;
        return JUDGE_COUNTED;
    }
    if (!RULE(CHAIN))
        return JUDGE_COUNTED;
    /* Only the newest run of an id is kept here, and no run for ever (rule 20): a late copy of another one's records, in
     * the same epoch, shows by its counter. Without this its first record would begin that run again. */
    if (header->n <= judge->n)
        return JUDGE_DUPLICATE;
    if (header->seq != 1 || (run && run_is_open(run)) || !digest_equal(prev, digest_of_run(header->run)))
        return JUDGE_REJECTED;
    return JUDGE_COUNTED;
}

/* ---- what a counted event changes ---------------------------------------------------------------------- */

static int run_on_started(struct judge *judge, struct run *run, const Event *event)
{
    const Perdure__V1__Started *started = event->started;
    run->created = event->t;
    run->unbegun = true;
    run->keep_ms = started->keep_ms > 0 ? started->keep_ms : KEEP_MS;
    run->type = judge_intern(judge, started->type);
    run->build = judge_intern(judge, started->build);
    if (started->input)
        run->input_digest = payload_digest(started->input->type, started->input->data.data, started->input->data.len);
    if (started->parent_job[0]) {
        run->parent = calloc(1, sizeof *run->parent);
        if (!run->parent || !(run->parent->job = strdup(started->parent_job)))
            return PDR_NO_MEMORY;
        run->parent->run = started->parent_run;
        run->parent->op = started->parent_op;
    }
    return run->type && run->build ? request_set_add(&run->requests, started->request) : PDR_NO_MEMORY;
}

static int run_on_end(struct run *run, enum run_end end, const Payload *result, const Error *error,
                      const Perdure__V1__Ending *ending)
{
    run->end = end;
    run->keep_until = ending ? ending->keep_until : 0;
    run->outcome = calloc(1, sizeof *run->outcome);
    if (!run->outcome)
        return PDR_NO_MEMORY;
    if (result && !(run->outcome->result = payload_copy(result)))
        return PDR_NO_MEMORY;
    if (error && !(run->outcome->error = error_copy(error)))
        return PDR_NO_MEMORY;
    return PDR_OK;
}

/* Why somebody stopped it is told like why it failed. */
static int run_on_stopped(struct run *run, enum run_end end, const char *reason, const Perdure__V1__Ending *ending)
{
    Error error = PERDURE__V1__ERROR__INIT;
    error.type = (char *)(end == RUN_CANCELLED ? "Cancelled" : "Terminated");
    error.message = (char *)(uintptr_t)reason;
    error.code = end == RUN_CANCELLED ? PDR_CANCELLED : PDR_FAILED;
    return run_on_end(run, end, NULL, *reason ? &error : NULL, ending);
}

int run_on_event(struct judge *judge, struct run *run, const Event *event)
{
    if (event->t > run->t)
        run->t = event->t;
    if (crash_on_event(run, event) != PDR_OK)
        return PDR_NO_MEMORY;
    run->unbegun = run->unbegun && event->kind_case == PERDURE__V1__EVENT__KIND_SIGNAL_RECEIVED;
    switch (event->kind_case) {
    case PERDURE__V1__EVENT__KIND_STARTED:
        return run_on_started(judge, run, event);
    case PERDURE__V1__EVENT__KIND_SIGNAL_RECEIVED:
        return request_set_add(&run->requests, event->signal_received->request);
    case PERDURE__V1__EVENT__KIND_CANCEL_REQUESTED:
        return request_set_add(&run->requests, event->cancel_requested->request);
    case PERDURE__V1__EVENT__KIND_RESUMED:
        return request_set_add(&run->requests, event->resumed->request);
    case PERDURE__V1__EVENT__KIND_COMPLETED:
        return run_on_end(run, RUN_COMPLETED, event->completed->result, NULL, event->completed->ending);
    case PERDURE__V1__EVENT__KIND_FAILED:
        return run_on_end(run, RUN_FAILED, NULL, event->failed->error, event->failed->ending);
    case PERDURE__V1__EVENT__KIND_CANCELLED:
        return run_on_stopped(run, RUN_CANCELLED, event->cancelled->reason, event->cancelled->ending);
    case PERDURE__V1__EVENT__KIND_TERMINATED:
        if (run_on_stopped(run, RUN_TERMINATED, event->terminated->reason, event->terminated->ending) != PDR_OK)
            return PDR_NO_MEMORY;
        return request_set_add(&run->requests, event->terminated->request);
    case PERDURE__V1__EVENT__KIND__NOT_SET:
        if (RULE(UNKNOWN_STOPS)) { /* rule 32 */
            RULE_FIRED(UNKNOWN_STOPS);
            run->unknown_event = true;
        }
        return PDR_OK;
    default:
        return PDR_OK;
    }
}

void run_on_rest(struct run *run, int64_t rests)
{
    run->rests = rests;
    run->unbegun = run->unbegun && rests == 0;
}

int run_on_inputs(struct run *run, const Header *header)
{
    for (size_t i = 0; i < header->n_inputs; i++) {
        const InputRef *input = header->inputs[i];
        if (input->partition != run->last_partition || input->generation != run->last_generation ||
            input->offset > run->last_input) {
            run->last_partition = input->partition;
            run->last_generation = input->generation;
            run->last_input = input->offset;
        }
        if (request_set_add(&run->requests, input->request) != PDR_OK)
            return PDR_NO_MEMORY;
    }
    return PDR_OK;
}

enum judge_verdict judge_events(struct judge *judge, int64_t offset, const Header *header, Event *const *events,
                                size_t count, digest after, struct judged *out)
{
    struct run *run = judge_find(judge, header->job);
    enum judge_verdict verdict = judge_chain(judge, run, header);
    out->run = run;
    out->new_run = false;
    if (verdict != JUDGE_COUNTED) {
        RULE_FIRED(CHAIN);
        return verdict;
    }
    if (!run && !(run = judge_find_or_add(judge, header->job)))
        return JUDGE_NO_MEMORY;
    judge_partial_interrupt(judge, header->job);
    out->run = run;
    judge_live(judge, run, false);
    if (run->run != header->run || run->seq == 0) {
        int64_t known_from = run->seq > 0 ? run->known_from : offset;
        run_begin_again(run);
        run->run = header->run;
        run->first = offset;
        run->known_from = known_from;
        out->new_run = true;
    }
    run->seq = header->seq + count - 1;
    run->digest = after;
    run->last = offset;
    run->changed = true;
    int code = run_on_inputs(run, header);
    for (size_t i = 0; i < count && code == PDR_OK; i++)
        code = run_on_event(judge, run, events[i]);
    run_on_rest(run, header->rests);
    judge_live(judge, run, true);
    judge_counted(judge, offset, header);
    return code == PDR_OK ? JUDGE_COUNTED : JUDGE_NO_MEMORY;
}

/* The mutation: as this version would write it. */
static digest digest_next_anew(digest value, ProtobufCBinaryData bytes)
{
    Event *event = event_decode(bytes.data, bytes.len);
    size_t size = 0;
    uint8_t *data = event ? wire_pack(&event->base, 0, &size) : NULL;
    value = digest_next(value, data ? data : (uint8_t *)"", size);
    free(data);
    event_free(event);
    return value;
}

/* The digest covers the stored bytes (rule 33): a record whose events do not give its digest is damaged or forged. */
static bool judge_digest_holds(const Record *record, digest *after)
{
    digest value = digest_from_bytes(record->header->prev);
    for (size_t i = 0; i < record->n_events; i++)
        value = RULE(STORED_BYTES) ? digest_next(value, record->events[i].data, record->events[i].len)
                                   : digest_next_anew(value, record->events[i]);
    RULE_FIRED(STORED_BYTES);
    *after = value;
    return digest_equal(value, digest_from_bytes(record->header->digest));
}

enum judge_verdict judge_open_events(const Record *record, digest *after, struct judged *out)
{
    if (record->n_events == 0 || record->header->count != record->n_events || !judge_digest_holds(record, after))
        return JUDGE_REJECTED;
    out->events = calloc(record->n_events, sizeof *out->events);
    if (!out->events)
        return JUDGE_NO_MEMORY;
    for (size_t i = 0; i < record->n_events; i++) {
        out->events[i] = event_decode(record->events[i].data, record->events[i].len);
        if (!out->events[i]) {
            judged_release(out);
            return JUDGE_REJECTED;
        }
        out->count++;
        if (out->events[i]->seq != record->header->seq + i) {
            judged_release(out);
            return JUDGE_REJECTED; /* header and event bytes tell two stories */
        }
    }
    return JUDGE_COUNTED;
}

static enum judge_verdict judge_event_record(struct judge *judge, int64_t offset, const Record *record,
                                             struct judged *out)
{
    digest after;
    /* The epoch first: what is fenced is not even read. */
    if (!judge_epoch_is_current(judge, record->header)) {
        RULE_FIRED(FENCE);
        return JUDGE_FENCED;
    }
    enum judge_verdict verdict = judge_open_events(record, &after, out);
    if (verdict != JUDGE_COUNTED)
        return verdict;
    return judge_events(judge, offset, record->header, out->events, out->count, after, out);
}

enum judge_verdict judge_record(struct judge *judge, int64_t offset, const Record *record, struct judged *out)
{
    memset(out, 0, sizeof *out);
    judge->position = offset + 1;
    if (judge->begin < 0) {
        judge->begin = offset;
        judge->whole = record->header->kind == PERDURE__V1__KIND__KIND_GENESIS || offset == 0;
    }
    if (judge->has_genesis && record->header->log != (uint32_t)judge->genesis.log_id)
        return judge_stop(judge, offset, "belongs to another log (the log was made anew)");

    switch (record->header->kind) {
    case PERDURE__V1__KIND__KIND_GENESIS:
        return judge_genesis(judge, offset, record->genesis);
    case PERDURE__V1__KIND__KIND_CLAIM:
        return judge_claim(judge, offset, record);
    case PERDURE__V1__KIND__KIND_RELEASE:
        if (!judge_epoch_is_current(judge, record->header))
            return JUDGE_FENCED;
        judge_counted(judge, offset, record->header);
        if (RULE(RELEASE_ENDS)) {
            RULE_FIRED(RELEASE_ENDS);
            judge->owned = false; /* rule 1: nothing counts until the next claim */
        }
        return JUDGE_RELEASE;
    case PERDURE__V1__KIND__KIND_MARK:
        return judge_mark(judge, offset, record);
    case PERDURE__V1__KIND__KIND_EVENT:
        return judge_event_record(judge, offset, record, out);
    case PERDURE__V1__KIND__KIND_COPY:
        return judge_copy(judge, offset, record, out);
    case PERDURE__V1__KIND__KIND_STUB:
        return judge_stub(judge, offset, record, out);
    case PERDURE__V1__KIND__KIND_SLOT_OUT:
        return judge_slot_out(judge, offset, record);
    case PERDURE__V1__KIND__KIND_SLOT_IN:
        return judge_slot_in(judge, offset, record);
    default:
        return judge_stop(judge, offset, "a kind of record that this version does not know; use a later version");
    }
}

void judged_release(struct judged *judged)
{
    for (size_t i = 0; i < judged->count; i++)
        event_free(judged->events[i]);
    free(judged->events);
    judged->events = NULL;
    judged->count = 0;
}

/* ---- from the store ---------------------------------------------------------------------------------------- */

enum run_end run_end_of(const char *name)
{
    for (size_t i = 0; i < sizeof end_names / sizeof *end_names; i++)
        if (strcmp(name, end_names[i]) == 0)
            return (enum run_end)i;
    return RUN_OPEN;
}

struct run *judge_restore(struct judge *judge, const StoredRun *stored)
{
    struct run *run = judge_find_or_add(judge, stored->job);
    if (!run)
        return NULL;
    judge_live(judge, run, false);
    run_clear(run);
    run->run = stored->run;
    run->seq = stored->seq;
    run->digest = digest_from_bytes(stored->digest);
    run->end = stored->open ? RUN_OPEN : run_end_of(stored->state);
    run->first = stored->first;
    run->known_from = stored->known_from;
    run->last = stored->last;
    run->t = stored->t;
    run->rests = stored->rests;
    run->unbegun = stored->unbegun;
    run->created = stored->created;
    run->keep_ms = stored->keep_ms;
    run->keep_until = stored->keep_until;
    run->unknown_event = stored->unknown_event;
    run->input_digest = stored->input_digest;
    run->type = judge_intern(judge, stored->type);
    run->build = judge_intern(judge, stored->build);
    if (stored->last_input) {
        run->last_generation = stored->last_input->generation;
        run->last_input = stored->last_input->offset;
        run->last_partition = stored->last_partition;
    }
    for (size_t i = 0; i < stored->n_requests; i++)
        if (request_set_add(&run->requests, stored->requests[i]) != PDR_OK)
            return NULL;
    if (stored->parent_job[0]) {
        run->parent = calloc(1, sizeof *run->parent);
        if (!run->parent || !(run->parent->job = strdup(stored->parent_job)))
            return NULL;
        run->parent->run = stored->parent_run;
        run->parent->op = stored->parent_op;
    }
    run->unknown_event = stored->unknown_at_level >= RULE_LEVEL; /* a later version looks for itself */
    if (crash_restore(run, stored->crashes) != PDR_OK)
        return NULL;
    judge_live(judge, run, true);
    return run->type && run->build ? run : NULL;
}
