/* One run from its seed: the loop of the world, the log's end of things, the quiet end. */
#include "world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct world *world;
struct tally tally;

static const char *const fault_names[] = {
#define FAULT_NAME_(name, text) #name,
    FAULT_MAP(FAULT_NAME_)
#undef FAULT_NAME_
};

/* ---- telling ---------------------------------------------------------------------------------------------- */

void trace(const char *format, ...)
{
    va_list arguments;
    if (!world->options.trace)
        return;
    printf("%7lld ", (long long)(world->now - world->started));
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

void world_bad(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(world->violation, sizeof world->violation, format, arguments);
    va_end(arguments);
    trace("VIOLATION: %s", world->violation);
    longjmp(world->bad, 1);
}

void fault_count(enum fault fault)
{
    tally.faults[fault]++;
    if (TRACING && fault != FAULT_STORE_SAVED)
        trace("fault %s", fault_names[fault]);
}

bool fault_now(enum fault fault)
{
    if (world->quiet || !rng_chance(&world->faults, world->profile.chance[fault]))
        return false;
    fault_count(fault);
    return true;
}

static size_t record_text_events(const Record *record, char *text, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < record->n_events && used < size; i++) {
        Event *event = event_decode(record->events[i].data, record->events[i].len);
        used += (size_t)snprintf(text + used, size - used, " %s%s%s", event ? event_kind_name(event) : "?",
                                 event && event_name(event)[0] ? ":" : "", event ? event_name(event) : "");
        if (event && event->op && used < size)
            used += (size_t)snprintf(text + used, size - used, "#%llu", (unsigned long long)event->op);
        event_free(event);
    }
    return used;
}

static const char *command_text(const Command *command)
{
    static const char *const names[] = { "start", "signal", "cancel", "terminate", "watch", "child_result", "refusal",
                                         "task_report", "?", "?", "?", "?", "grow", "slots_moved" };
    int kind = (int)command->kind_case - 16;
    return kind >= 0 && kind < 14 ? names[kind] : "?";
}

const char *record_text(const void *data, size_t size)
{
    static char text[600];
    static const char *const kinds[] = { "none", "genesis", "claim", "release", "mark", "event", "copy", "stub", "slot out",
                                         "slot in" };
    Record *record = NULL;
    if (record_decode(data, size, &record) != WIRE_OK)
        return "what cannot be decoded";
    const Header *h = record->header;
    size_t used = 0;
    if (h->kind == PERDURE__V1__KIND__KIND_COMMAND) {
        snprintf(text, sizeof text, "command %s job %s run %08x request %s born %+lld from %s/%llu",
                 command_text(record->command), h->job, (unsigned)h->run, record->command->request,
                 (long long)(h->born - world->started), h->sender ? h->sender->job : "client",
                 h->sender ? (unsigned long long)h->sender->seq : 0);
    } else {
        used = (size_t)snprintf(text, sizeof text, "%s epoch %lld/%04x n %llu", h->kind < 10 ? kinds[h->kind] : "?",
                                (long long)h->claim, (unsigned)(h->nonce & 0xffff), (unsigned long long)h->n);
        if (h->kind == PERDURE__V1__KIND__KIND_CLAIM && record->claim)
            snprintf(text + used, sizeof text - used, " nonce %04x by %s: %s", (unsigned)(record->claim->nonce & 0xffff),
                     record->claim->worker, record->claim->cause);
        if (h->kind == PERDURE__V1__KIND__KIND_MARK && record->mark)
            snprintf(text + used, sizeof text - used, " in_pos %lld out_pos %lld refusals %zu live %llu shown %lld",
                     (long long)(record->mark->in_pos ? record->mark->in_pos->offset : -1),
                     (long long)record->mark->out_pos, record->mark->n_refusals,
                     (unsigned long long)record->mark->live_count, (long long)record->mark->shown);
        if (h->kind == PERDURE__V1__KIND__KIND_MARK && record->mark && record->mark->cut > 0)
            snprintf(text + strlen(text), sizeof text - strlen(text), " cut %lld", (long long)record->mark->cut);
        if (h->kind == PERDURE__V1__KIND__KIND_STUB) {
            used += (size_t)snprintf(text + used, sizeof text - used, " %s run %08x seq %llu %s, knows", h->job,
                                     (unsigned)h->run, (unsigned long long)h->seq, record->stub->state);
            for (size_t i = 0; i < record->stub->n_requests && used < sizeof text; i++)
                used += (size_t)snprintf(text + used, sizeof text - used, " %s", record->stub->requests[i]);
        }
        if (h->kind == PERDURE__V1__KIND__KIND_COPY)
            used += (size_t)snprintf(text + used, sizeof text - used, " part %u of %u", h->copy->part, h->copy->parts);
        if (h->kind == PERDURE__V1__KIND__KIND_EVENT || h->kind == PERDURE__V1__KIND__KIND_COPY) {
            used += (size_t)snprintf(text + used, sizeof text - used, " %s run %08x seq %llu inputs %zu in_pos %lld:",
                                     h->job, (unsigned)h->run, (unsigned long long)h->seq, h->n_inputs,
                                     (long long)(h->in_pos ? h->in_pos->offset : -1));
            record_text_events(record, text + used, sizeof text - used);
        }
    }
    record_free(record);
    return text;
}

/* ---- the log ------------------------------------------------------------------------------------------------ */

static struct inbox_note *note_add(uint32_t p, int64_t offset)
{
    if (offset >= world->notes_capacity[p]) {
        world->notes_capacity[p] = world->notes_capacity[p] ? world->notes_capacity[p] * 2 : 256;
        world->notes[p] = realloc(world->notes[p], (size_t)world->notes_capacity[p] * sizeof *world->notes[p]);
        if (!world->notes[p])
            abort();
    }
    struct inbox_note *note = &world->notes[p][offset];
    memset(note, 0, sizeof *note);
    note->copy = -1;
    return note;
}

static void judge_journal(uint32_t p, int64_t offset)
{
    struct oracle *oracle = &world->oracles[p];
    struct memory_record *at = &world->streams[LOG_JOURNAL][p].records[offset];
    Record *record = NULL;
    struct oracle_run *run;
    if (at->blob && record_decode(at->blob->data, at->blob->size, &record) != WIRE_OK)
        world_bad("journal %u offset %lld cannot be decoded", p, (long long)offset);
    if (!record) {
        oracle_judge(oracle, offset, NULL, &run);
        return;
    }
    at->kind = record->header->kind;
    at->nonce = record->claim ? record->claim->nonce : 0;
    enum oracle_verdict verdict = oracle_judge(oracle, offset, record, &run);
    tally.verdicts[verdict]++;
    if (TRACING)
        trace("journal %u @%lld %s: %s", p, (long long)offset, oracle_verdict_name(verdict),
              record_text(at->blob->data, at->blob->size));
    if (oracle->wrong[0]) {
        record_free(record);
        world_bad("%s", oracle->wrong);
    }
    if (verdict == ORACLE_SLOT_IN && !world->rejudging)
        fault_count(FAULT_SLOTS_ARRIVED);
    truth_on_record(p, offset, record, verdict, run, run ? run->seq - record->n_events : 0);
    record_free(record);
}

static void note_inbox(uint32_t p, int64_t offset, int64_t copy)
{
    struct memory_record *at = &world->streams[LOG_INBOX][p].records[offset];
    struct inbox_note *note = note_add(p, offset);
    note->append_ms = at->append_ms;
    note->copy = copy;
    if (!at->blob)
        return;
    if (record_decode(at->blob->data, at->blob->size, &note->record) != WIRE_OK)
        world_bad("inbox %u offset %lld cannot be decoded", p, (long long)offset);
    if (copy >= 0) {
        struct copy *mine = &world->copies[copy];
        mine->offset = offset;
        mine->landed++;
        world->requests[mine->request].landed++;
    }
    for (int64_t i = offset - 1; i >= 0 && i > offset - 40; i--)
        if (world->streams[LOG_INBOX][p].records[i].blob == at->blob)
            note->twin = world->notes[p][i].twin = true;
    growth_note(p, offset);
    if (TRACING)
        trace("inbox %u @%lld %s", p, (long long)offset, record_text(at->blob->data, at->blob->size));
}

int64_t world_append(enum log_stream stream, uint32_t p, struct blob *blob, int64_t copy)
{
    struct memory_stream *log = &world->streams[stream][p];
    if (fault_now(FAULT_HOLE)) {
        int64_t hole = memory_stream_append(log, NULL, world->now);
        if (stream == LOG_JOURNAL)
            judge_journal(p, hole);
        else
            note_add(p, hole);
    }
    int64_t offset = memory_stream_append(log, blob, world->now);
    world->last_landed = offset;
    if (stream == LOG_JOURNAL)
        judge_journal(p, offset);
    else
        note_inbox(p, offset, copy);
    return offset;
}

void world_rejudge(uint32_t p)
{
    bool tracing = world->options.trace;
    world->options.trace = false;
    world->rejudging = true;
    for (int64_t i = 0; i < world->streams[LOG_INBOX][p].end; i++)
        world->notes[p][i].absorbed = 0;
    oracle_clear(&world->oracles[p]);
    oracle_init(&world->oracles[p], p, world->log_id);
    truth_clear();
    for (uint32_t q = 0; q < world->profile.partitions; q++)
        if (q != p) { /* what the requests did there is counted again */
            oracle_clear(&world->oracles[q]);
            oracle_init(&world->oracles[q], q, world->log_id);
            for (int64_t i = 0; i < world->streams[LOG_INBOX][q].end; i++)
                world->notes[q][i].absorbed = 0;
        }
    growth_oracles();
    for (uint32_t q = 0; q < world->profile.partitions; q++)
        for (int64_t i = 0; i < world->streams[LOG_JOURNAL][q].end; i++)
            judge_journal(q, i);
    world->rejudging = false;
    world->options.trace = tracing;
}

static void world_genesis(uint32_t p)
{
    Record record = PERDURE__V1__RECORD__INIT;
    Header header = PERDURE__V1__HEADER__INIT;
    Genesis genesis = PERDURE__V1__GENESIS__INIT;
    header.format = header.rule_level = header.min_reader = 1;
    header.log = (uint32_t)world->log_id;
    header.kind = PERDURE__V1__KIND__KIND_GENESIS;
    header.map_version = 1;
    header.t = world->now;
    genesis.log_id = world->log_id;
    genesis.namespace_ = (char *)"sim";
    genesis.partitions = world->profile.partitions;
    genesis.map_version = genesis.format = 1;
    genesis.rule_level = RULE_LEVEL_RETENTION;
    genesis.partition = p;
    record.header = &header;
    record.genesis = &genesis;
    size_t size;
    void *data = record_encode(&record, &size);
    struct blob *blob = blob_new(data, size);
    free(data);
    world_append(LOG_JOURNAL, p, blob, -1);
    world->streams[LOG_JOURNAL][p].safe = 1;
    blob_release(blob);
}

/* ---- faults of the world -------------------------------------------------------------------------------------- */

static void fault_late_copies(void)
{
    for (uint32_t p = 0; p < world->profile.partitions; p++) {
        for (int stream = 0; stream < STREAMS; stream++) {
            struct memory_stream *log = &world->streams[stream][p];
            if (log->end < 2 || !fault_now(stream == LOG_JOURNAL ? FAULT_LATE_COPY : FAULT_LATE_COMMAND))
                continue;
            int64_t from = rng_chance(&world->faults, 5000) ? log->end - 8 : 1;
            if (stream == LOG_JOURNAL && from < 1)
                from = 1;
            if (from < 0)
                from = 0;
            int64_t offset = rng_between(&world->faults, from, log->end - 1);
            struct blob *blob = blob_share(log->records[offset].blob);
            if (!blob)
                continue;
            if (stream == LOG_INBOX)
                world->notes[p][offset].twin = true;
            int64_t copy = world_append((enum log_stream)stream, p, blob, -1);
            if (stream == LOG_INBOX) {
                world->notes[p][copy].twin = true;
                world->notes[p][copy].copy = world->notes[p][offset].copy;
            }
            blob_release(blob);
        }
    }
}

static void group_assign(uint32_t p, int to)
{
    struct worker *old = &world->workers[world->assigned_to[p]];
    if (world->assigned_to[p] != to) {
        fault_count(FAULT_REBALANCE);
        if (fault_now(FAULT_REVOKE_LATE))
            ; /* the old one is told with some later assignment, or never */
        else
            old->seats[p].assigned = false;
    }
    world->assigned_to[p] = to;
    world->workers[to].seats[p].assigned = true;
    trace("group: partition %u to %s", p, world->workers[to].name);
}

static void fault_group(void)
{
    for (uint32_t p = 0; p < world->profile.partitions; p++) {
        struct worker *owner = &world->workers[world->assigned_to[p]];
        bool gone = !owner->alive || owner->asleep_until > world->now + 500;
        if (gone ? rng_chance(&world->faults, 800) : fault_now(FAULT_REBALANCE))
            group_assign(p, (int)rng_below(&world->faults, WORKERS));
    }
    for (int w = 0; w < WORKERS; w++) /* late news */
        for (uint32_t p = 0; p < world->profile.partitions; p++)
            if (world->assigned_to[p] != w && world->workers[w].seats[p].assigned && rng_chance(&world->faults, 30))
                world->workers[w].seats[p].assigned = false;
}

static void fault_workers(void)
{
    for (int w = 0; w < WORKERS; w++) {
        struct worker *worker = &world->workers[w];
        if (!worker->alive) {
            if (worker->restart_at <= world->now)
                worker_start(worker);
            continue;
        }
        if (fault_now(FAULT_CRASH_ANY)) {
            worker_crash(worker);
            continue;
        }
        if (!worker->stopping && fault_now(FAULT_STOPPED))
            worker_stop(worker, rng_chance(&world->faults, 5000));
        if (fault_now(FAULT_PAUSE)) {
            worker->asleep_until = world->now + rng_between(&world->faults, 500, 15000);
            trace("%s is stopped", worker->name);
        }
        if (fault_now(FAULT_CLOCK_SKEW))
            worker->skew = rng_between(&world->faults, -900, 900);
        if (fault_now(FAULT_PRODUCER_REPLACED)) {
            session_orphan(worker->session);
            statuses_orphan(worker);
            worker->session = session_new(w);
            for (uint32_t p = 0; p < world->profile.partitions; p++)
                engine_on_fault(worker->seats[p].engine, LOG_PRODUCER_REPLACED, "the producer was replaced");
        }
    }
}

static struct oracle_run *open_chain(uint32_t p)
{
    struct oracle_run *run = world->oracles[p].waits ? NULL : world->oracles[p].all;
    while (run && !(run->open && run->left_at < 0 && strncmp(run->job, "chain", 5) == 0))
        run = run->next;
    return run;
}

/* A worker of a later version owns a partition for a moment and writes one event of a run. */
static void later_writes(uint32_t p, struct oracle_run *run, uint8_t *bytes, size_t length)
{
    Record record = PERDURE__V1__RECORD__INIT;
    Header header = PERDURE__V1__HEADER__INIT;
    Genesis genesis = PERDURE__V1__GENESIS__INIT;
    Perdure__V1__Claim claim = PERDURE__V1__CLAIM__INIT;
    growth_genesis(p, &genesis);
    claim.nonce = rng_next(&world->others);
    claim.worker = (char *)"later";
    header.format = header.rule_level = header.min_reader = header.map_version = 1;
    header.log = (uint32_t)world->log_id;
    header.kind = PERDURE__V1__KIND__KIND_CLAIM;
    header.t = world->now;
    record.header = &header;
    record.genesis = &genesis;
    record.claim = &claim;
    size_t size;
    void *data = record_encode(&record, &size);
    struct blob *blob = blob_new(data, size);
    free(data);
    header.claim = world_append(LOG_JOURNAL, p, blob, -1);
    blob_release(blob);

    ProtobufCBinaryData stored = { length, bytes };
    digest after = digest_next(run->digest, bytes, length);
    header.kind = PERDURE__V1__KIND__KIND_EVENT;
    header.nonce = claim.nonce;
    header.n = 1;
    header.slot = slot_of(run->job);
    header.job = run->job;
    header.run = run->run;
    header.seq = run->seq + 1;
    header.count = 1;
    header.first = run->first;
    header.prev = (ProtobufCBinaryData){ 16, run->digest.bytes };
    digest before = run->digest;
    header.prev.data = before.bytes;
    header.digest = (ProtobufCBinaryData){ 16, after.bytes };
    record.genesis = NULL;
    record.claim = NULL;
    record.n_events = 1;
    record.events = &stored;
    data = record_encode(&record, &size);
    blob = blob_new(data, size);
    free(data);
    world_append(LOG_JOURNAL, p, blob, -1);
    world->streams[LOG_JOURNAL][p].safe = world->streams[LOG_JOURNAL][p].end;
    blob_release(blob);
}

static size_t next_event(const struct oracle_run *run, Event *event, uint8_t *bytes)
{
    event->seq = run->seq + 1;
    event->t = run->events[run->seq - 1].event->t;
    return protobuf_c_message_pack(&event->base, bytes);
}

/* An event that this version does not know. */
static void fault_future_event(void)
{
    Event event = PERDURE__V1__EVENT__INIT;
    uint8_t bytes[256], later[] = { 0xc2, 0x3e, 0x02, 0x08, 0x01 }; /* field 1000, a message: a kind of event to come */
    if (world->unknown_job || !fault_now(FAULT_FUTURE_EVENT))
        return;
    uint32_t p = (uint32_t)rng_below(&world->faults, world->profile.partitions);
    struct oracle_run *run = open_chain(p);
    if (!run)
        return;
    size_t length = next_event(run, &event, bytes);
    memcpy(bytes + length, later, sizeof later);
    world->unknown_job = strdup(run->job);
    world->unknown_run = run->run;
    later_writes(p, run, bytes, length + sizeof later);
}

/* One that it knows, in the bytes of another encoder: the fields in another order (rule 33). */
static void fault_other_encoding(void)
{
    Event event = PERDURE__V1__EVENT__INIT;
    Perdure__V1__Resumed resumed = PERDURE__V1__RESUMED__INIT;
    uint8_t bytes[256], turned[256];
    uint32_t p = (uint32_t)rng_below(&world->others, world->profile.partitions);
    if (!rng_chance(&world->others, 4))
        return;
    struct oracle_run *run = open_chain(p);
    if (!run || (world->unknown_job && strcmp(run->job, world->unknown_job) == 0))
        return;
    event.kind_case = PERDURE__V1__EVENT__KIND_RESUMED;
    event.resumed = &resumed;
    size_t length = next_event(run, &event, bytes), first = 2; /* seq, a number of one byte or more */
    while (bytes[first - 1] & 0x80)
        first++;
    memcpy(turned, bytes + first, length - first);
    memcpy(turned + length - first, bytes, first);
    fault_count(FAULT_OTHER_ENCODING);
    later_writes(p, run, turned, length);
}

/* A broker that crashed may have forgotten where the log starts: it begins with any record that is still there. */
static void fault_head(uint32_t p)
{
    struct memory_stream *journal = &world->streams[LOG_JOURNAL][p];
    if (journal->start == 0 || !fault_now(FAULT_HEAD_REAPPEARS))
        return;
    int64_t start = rng_chance(&world->faults, 3000) ? 0 : rng_between(&world->faults, 0, journal->start - 1);
    trace("journal %u starts at %lld again, was %lld", p, (long long)start, (long long)journal->start);
    journal->start = start;
}

static void fault_log(void)
{
    fault_late_copies();
    fault_future_event();
    fault_other_encoding();
    for (uint32_t p = 0; p < world->profile.partitions; p++) {
        if (world->profile.truncates && fault_now(FAULT_TRUNCATED))
            journal_truncate(p, false);
        if (world->profile.lossy && fault_now(FAULT_TRUNCATED_LOSSY))
            journal_truncate(p, true);
        fault_head(p);
    }
    if (world->profile.leaps && fault_now(FAULT_CLOCK_LEAP))
        world->now += rng_between(&world->faults, 300, 1000 + world->profile.life_ms * 3 / 2);
}

/* ---- the run ----------------------------------------------------------------------------------------------------- */

static void profile_draw(struct profile *profile, const struct options *options)
{
    static const struct { enum fault fault; unsigned chance; } usual[] = {
        { FAULT_CRASH_BEFORE_EFFECT, 40 }, { FAULT_CRASH_AFTER_EFFECT, 40 }, { FAULT_CRASH_BEFORE_APPEND, 15 },
        { FAULT_CRASH_AFTER_APPEND, 15 }, { FAULT_CRASH_AFTER_REPORT, 10 }, { FAULT_CRASH_CLAIM, 60 },
        { FAULT_CRASH_BEFORE_REPLY, 40 }, { FAULT_CRASH_BEFORE_STORE, 200 }, { FAULT_CRASH_BEFORE_TRIM, 200 },
        { FAULT_CRASH_ANY, 4 }, { FAULT_STALL, 12 }, { FAULT_PAUSE, 8 }, { FAULT_APPEND_REFUSED, 25 },
        { FAULT_APPEND_PERSISTED_FAILED, 30 }, { FAULT_APPEND_DOUBT_LOST, 25 }, { FAULT_APPEND_VANISHED, 20 },
        { FAULT_ACK_DROPPED, 25 }, { FAULT_ACK_NO_OFFSET, 300 }, { FAULT_ACK_IMPLICIT, 100 }, { FAULT_SEND_REFUSED, 300 },
        { FAULT_SEND_PERSISTED_FAILED, 300 }, { FAULT_SEND_DOUBT_LOST, 300 }, { FAULT_SEND_DUPLICATED, 300 },
        { FAULT_SLOW_LANE, 60 }, { FAULT_LATE_COPY, 40 }, { FAULT_LATE_COMMAND, 30 }, { FAULT_HOLE, 50 },
        { FAULT_PRODUCER_REPLACED, 4 }, { FAULT_TRUNCATED, 60 }, { FAULT_HEAD_REAPPEARS, 40 }, { FAULT_CRASH_BEFORE_CUT, 1500 }, { FAULT_TRUNCATED_LOSSY, 20 },
        { FAULT_REBALANCE, 15 }, { FAULT_REVOKE_LATE, 4000 }, { FAULT_STORE_OLD, 3000 }, { FAULT_STORE_LOST, 1000 },
        { FAULT_STORE_DAMAGED, 1500 }, { FAULT_CLOCK_LEAP, 12 }, { FAULT_CLOCK_SKEW, 12 }, { FAULT_COMMAND_OLD, 300 },
        { FAULT_COMMAND_REPEATED, 2500 }, { FAULT_START_AGAIN, 2500 }, { FAULT_FUTURE_EVENT, 3 },
        { FAULT_STOPPED, 6 },
        { FAULT_TASK_REFUSED, 300 }, { FAULT_TASK_IN_DOUBT, 300 }, { FAULT_TASK_LATE, 300 }, { FAULT_TASK_TWICE, 600 },
        { FAULT_TASK_LOST, 100 }, { FAULT_TASK_DECLINED, 600 }, { FAULT_STEP_WORKER_DIES, 300 },
        { FAULT_HEARTBEAT_LOST, 3000 }, { FAULT_REPORT_LATE, 600 }, { FAULT_REPORT_TWICE, 600 },
    };
    struct rng rng;
    rng_seed(&rng, options->seed, 1);
    unsigned strength = (unsigned[]){ 0, 50, 100, 100, 200 }[rng_below(&rng, 5)]; /* percent */
    if (options->no_faults)
        strength = 0;
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
        unsigned chance = usual[i].chance * strength / 100;
        /* Each kind of fault is absent in some runs, and has some runs of its own. */
        if (rng_below(&rng, 10) < 3)
            chance = 0;
        profile->chance[usual[i].fault] = chance > 9000 ? 9000 : chance;
    }
    if (!options->no_faults) {
        profile->chance[FAULT_COMMAND_REPEATED] = 2500;
        profile->chance[FAULT_START_AGAIN] = 2500;
    }
    profile->partitions = rng_below(&rng, 4) ? 2 : 4;
    profile->step_ms = (int64_t[]){ 5, 10, 20 }[rng_below(&rng, 3)];
    profile->life_ms = rng_between(&rng, 8000, 30000);
    profile->retention_bytes = (int64_t[]){ -1, 2000, 6000, 6000, 20000 }[rng_below(&rng, 5)];
    profile->retention_records = (size_t[]){ 1, 3, 32 }[rng_below(&rng, 3)];
    if (rng_below(&rng, 2)) /* little is remembered for long: much is forgotten */
        profile->life_ms = rng_between(&rng, 500, 2500);
    profile->keep_ms = profile->life_ms + rng_between(&rng, profile->life_ms / 24 + 1, profile->life_ms);
    profile->retention_age_ms = profile->keep_ms / (int64_t[]){ 1, 2, 4 }[rng_below(&rng, 3)];
    profile->live_jobs = (size_t[]){ 1, 3, 6, 1000 }[rng_below(&rng, 4)];
    profile->turn_bytes = rng_below(&rng, 3) ? 0 : 200;
    profile->tasks_out = (size_t[]){ 1, 3, 0 }[options->seed % 3];
    profile->inbox_records = (size_t[]){ 0, 2, 0, 6, 1 }[options->seed % 5];
    profile->memory = (size_t[]){ 0, 40000, 1, 0, 0, 100000, 0 }[options->seed % 7];
    profile->step_limits = options->seed % 4 == 1;
    profile->job_rates = options->seed % 4 == 3;
    profile->stores = rng_below(&rng, 4) != 0;
    profile->truncates = !options->no_faults && rng_below(&rng, 4) == 0;
    profile->lossy = options->lossy && rng_below(&rng, 2) == 0;
    profile->leaps = rng_below(&rng, 3) != 0;
    profile->activity = rng_between(&rng, 350, 700);
    profile->client_chance = 1200;
    profile->land_chance = (unsigned[]){ 2500, 5000, 8000 }[rng_below(&rng, 3)];
    profile->save_chance = (unsigned[]){ 50, 200, 600 }[rng_below(&rng, 3)];
    profile->hands_over = rng_below(&rng, 4) != 0;
}

static void world_begin(const struct options *options)
{
    world->options = *options;
    profile_draw(&world->profile, options);
    growth_draw(&world->profile, options);
    rng_seed(&world->growth, options->seed, 6);
    rng_seed(&world->others, options->seed, 7);
    rng_seed(&world->statuses.rng, options->seed, 8);
    rng_seed(&world->faults, options->seed, 2);
    rng_seed(&world->schedule, options->seed, 3);
    rng_seed(&world->load, options->seed, 4);
    world->started = world->now = INT64_C(1700000000000);
    world->log_id = rng_next(&world->schedule) | 1;
    bool quiet = world->quiet;
    crashes_begin();
    world->quiet = true;
    for (uint32_t p = 0; p < world->profile.partitions; p++) {
        oracle_init(&world->oracles[p], p, world->log_id);
        world_genesis(p);
    }
    world->quiet = quiet;
    world->clients = session_new(-1);
    for (int w = 0; w < WORKERS; w++) {
        world->workers[w].id = w;
        snprintf(world->workers[w].name, sizeof world->workers[w].name, "w%d", w);
        world->workers[w].skew = options->no_faults ? 0 : rng_between(&world->faults, -400, 400);
        worker_start(&world->workers[w]);
    }
    for (uint32_t p = 0; p < world->profile.partitions; p++)
        group_assign(p, (int)((p + options->seed) % WORKERS));
}

/* No run is judged on less: clients go on until so many records count. */
#define RECORDS_AT_LEAST 200

static uint64_t world_counted(void)
{
    uint64_t counted = 0;
    for (uint32_t p = 0; p < world->profile.partitions; p++)
        counted += world->oracles[p].counted;
    return counted;
}

static void world_active(void)
{
    for (int64_t turn = 0;
         turn < world->profile.activity || (turn < 20000 && world_counted() < RECORDS_AT_LEAST);
         turn++) {
        world->turn++;
        world->now += rng_between(&world->schedule, 0, world->profile.step_ms);
        clients_turn();
        crashes_resume(false);
        growth_turn();
        if (!world->options.no_faults) {
            fault_group();
            fault_workers();
            fault_log();
        }
        sessions_turn();
        remote_turn();
        statuses_turn();
        for (int w = 0; w < WORKERS; w++)
            if (world->workers[w].alive && world->workers[w].asleep_until <= world->now &&
                rng_chance(&world->schedule, 6000))
                worker_turn(&world->workers[w]);
    }
}

/* True when every run has ended but those that wait for the clients' word. */
static size_t world_open_runs(bool sinks)
{
    size_t open = 0;
    for (uint32_t p = 0; p < world->profile.partitions; p++)
        for (const struct oracle_run *run = world->oracles[p].all; run; run = run->next)
            if (run->open && run->left_at < 0 && (sinks || strncmp(run->job, "sink", 4) != 0) &&
                !(world->unknown_job && strcmp(run->job, world->unknown_job) == 0))
                open++;
    return open;
}

static bool world_settled(const struct worker *worker, bool sinks)
{
    if (world_open_runs(sinks) > 0 || !remote_is_idle() || !growth_is_over())
        return false;
    for (uint32_t p = 0; p < world->profile.partitions; p++) {
        struct engine_counts counts;
        engine_counts(worker->seats[p].engine, &counts);
        if (engine_state_of(worker->seats[p].engine) != ENGINE_OWNER || counts.appends_in_flight > 0 ||
            counts.outputs_unsent > 0)
            return false;
        if (world->oracles[p].in_pos.offset < world->streams[LOG_INBOX][p].end)
            return false;
    }
    return true;
}

/* No faults any more, one worker, time runs on: everything must come to its end. */
static bool world_settle(struct worker *worker, bool sinks)
{
    int64_t limit = world->now + INT64_C(4) * 3600 * 1000, since = world->now;
    int moments = 0; /* without time going on: somebody turns round and round */
    for (int turn = 0; turn < 500000 && moments < 20000; turn++) { /* an hour passes before a lost task goes out again */
        moments = world->now == since ? moments + 1 : 0;
        since = world->now;
        bool did = remote_turn();
        did = sessions_turn() || did;
        did = worker_turn(worker) || did;
        if (did)
            continue;
        if (world_settled(worker, sinks))
            return true;
        if (crashes_resume(true))
            continue;
        int64_t next = worker_next(worker), remote = remote_next(), resume = crashes_next();
        next = remote < next ? remote : next;
        next = resume < next ? resume : next;
        if (next == INT64_MAX || next > limit)
            return false;
        world->now = next > world->now ? next : world->now + 1;
    }
    return false;
}

static void world_stuck(struct worker *worker)
{
    const struct oracle_run *stuck = NULL;
    for (uint32_t p = 0; p < world->profile.partitions; p++) {
        struct engine_counts counts;
        engine_counts(worker->seats[p].engine, &counts);
        for (const struct oracle_run *run = world->oracles[p].all; run; run = run->next)
            if (run->open && run->left_at < 0 && (!stuck || strncmp(stuck->job, "sink", 4) == 0))
                stuck = run;
        trace("partition %u: %s, open %zu, in flight %zu, unsent %zu, in_pos %lld of %lld", p,
              engine_state_name(engine_state_of(worker->seats[p].engine)), counts.open_runs, counts.appends_in_flight,
              counts.outputs_unsent, (long long)world->oracles[p].in_pos.offset,
              (long long)world->streams[LOG_INBOX][p].end);
        if (!stuck && engine_state_of(worker->seats[p].engine) != ENGINE_OWNER)
            world_bad("stuck: partition %u is %s", p, engine_state_name(engine_state_of(worker->seats[p].engine)));
        if (!stuck && counts.outputs_unsent > 0)
            world_bad("stuck: partition %u has unsent outputs", p);
        if (!stuck && counts.appends_in_flight > 0)
            world_bad("stuck: partition %u has appends in flight", p);
        if (!stuck && world->oracles[p].in_pos.offset < world->streams[LOG_INBOX][p].end)
            world_bad("stuck: partition %u in_pos %lld of %lld", p, (long long)world->oracles[p].in_pos.offset,
                      (long long)world->streams[LOG_INBOX][p].end);
    }
    if (!growth_is_over())
        world_bad("stuck: slots never arrive");
    if (!stuck)
        world_bad("stuck");
    const Event *last = stuck->events[stuck->seq - 1].event;
    world_bad("stuck: %s never ends, last event %llu %s %s", stuck->job, (unsigned long long)stuck->seq,
              event_kind_name(last), event_name(last));
}

static size_t world_remembers(const struct worker *worker)
{
    size_t closed = 0;
    for (uint32_t p = 0; p < world->profile.partitions; p++) {
        struct engine_counts counts;
        engine_counts(worker->seats[p].engine, &counts);
        closed += counts.closed_runs;
    }
    return closed;
}

/* Time goes on: what is over is forgotten, in memory and in the journal (rule 20). */
static void world_forget(struct worker *worker)
{
    if (world->profile.retention_bytes < 0)
        return;
    int64_t end = world->now + 6 * (world->profile.keep_ms + world->profile.retention_age_ms) + 60000;
    for (int turn = 0; turn < 60000 && world_remembers(worker); turn++) {
        bool did = sessions_turn();
        did = worker_turn(worker) || did;
        if (did)
            continue;
        int64_t next = worker_next(worker);
        if (next > end)
            break;
        world->now = next > world->now ? next : world->now + 1;
    }
    if (world_remembers(worker))
        world_bad("%zu runs that are long over are still remembered", world_remembers(worker));
}

static void world_quiet_end(void)
{
    struct worker *worker = &world->workers[rng_below(&world->schedule, WORKERS)];
    trace("--- quiet: %s alone", worker->name);
    for (int w = 0; w < WORKERS; w++) {
        if (world->workers[w].alive)
            worker_crash(&world->workers[w]);
        for (uint32_t p = 0; p < world->profile.partitions; p++)
            world->workers[w].seats[p].assigned = &world->workers[w] == worker;
    }
    world->quiet = true;
    for (int round = 0; round < 3; round++)
        sessions_turn();
    sessions_drop_zombies();
    worker->skew = 0;
    worker_start(worker);
    if (!world_settle(worker, false))
        world_stuck(worker);
    clients_stop_sinks();
    if (!world_settle(worker, true))
        world_stuck(worker);
    if (!world->truncated_lossy)
        statuses_check();
    world_forget(worker);
}

static void world_end(void)
{
    crashes_end();
    for (int w = 0; w < WORKERS; w++)
        worker_free(&world->workers[w]);
    while (world->sessions)
        session_free(world->sessions);
    for (uint32_t p = 0; p < PARTITIONS_MAX; p++) {
        for (int64_t i = 0; i < world->streams[LOG_INBOX][p].end; i++)
            if (world->notes[p][i].record)
                record_free(world->notes[p][i].record);
        free(world->notes[p]);
        oracle_clear(&world->oracles[p]);
        for (int stream = 0; stream < STREAMS; stream++)
            memory_stream_clear(&world->streams[stream][p]);
    }
    truth_clear();
    truth_forget_positions();
    statuses_free();
    remote_free_all();
    clients_free();
    for (size_t i = 0; i < world->effect_count; i++)
        free(world->effects[i].job);
    free(world->effects);
    for (size_t i = 0; i < world->shown_count; i++)
        free(world->shown[i].job);
    free(world->shown);
    free(world->unknown_job);
}

static struct registry *world_registry(void)
{
    static struct registry *registry;
    char error[256];
    if (!registry) {
        registry = registry_new();
        if (!registry || registry_add(registry, sim_module(), "5151", error, sizeof error) != PDR_OK)
            abort();
    }
    return registry;
}

bool world_run(const struct options *options, char *violation, size_t violation_size)
{
    world = calloc(1, sizeof *world);
    if (!world)
        abort();
    world->registry = world_registry();
    volatile bool good = false;
    if (setjmp(world->bad) == 0) {
        world_begin(options);
        world_active();
        world_quiet_end();
        checks_at_end();
        good = true;
    }
    snprintf(violation, violation_size, "%s", world->violation);
    tally.runs++;
    tally.violations += !good;
    tally.effects += world->effect_count;
    for (uint32_t p = 0; p < PARTITIONS_MAX; p++) {
        tally.records += world->oracles[p].counted;
        tally.journal_records += (uint64_t)world->streams[LOG_JOURNAL][p].end;
    }
    world_end();
    free(world);
    world = NULL;
    return good;
}
