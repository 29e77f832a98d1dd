/*
 * Moving slots (rule 25), the same engine on both sides. The old partition: jobs that leave stop, what is in flight ends,
 * SlotOut is appended and offered; later commands are forwarded. The new one: the other's journal is read up to that
 * SlotOut, its runs are copied (rule 18), SlotIn is appended when what was read back is what left; then it begins.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

static bool never_grew(const struct engine *engine)
{
    return engine->judge->map.version <= 1 && engine->config.genesis.map_version <= 1;
}

bool slots_are_here(const struct engine *engine)
{
    const struct slot_map *map = &engine->judge->map;
    bool settled = judge_is_settled(engine->judge) && !engine->slots.unconfirmed;
    return map->version <= 1 || settled || engine->config.partition < map->grown_from;
}

static bool slots_leave_by(const struct engine *engine, const char *job)
{
    return engine->config.genesis.map_version > engine->judge->map.version &&
           partition_of(job, engine->config.genesis.partitions) != engine->config.partition;
}

bool slots_keep(const struct engine *engine, const char *job)
{
    return !engine->slots.frozen || !slots_leave_by(engine, job);
}

/* It appends nothing more here; but a task that is still to be sent is made from what the job says it waits for. */
void slots_stand_still(struct active *active)
{
    if (run_is_open(active->head) && start_is_limited(active, active->head->type))
        start_leave(active); /* it begins where its slot goes */
    else if (!active->job && !active->parked && !active->in_flight && run_is_open(active->head))
        active_replay(active);
}

void slots_genesis(const struct engine *engine, Genesis *genesis)
{
    const struct slot_map *map = &engine->judge->map;
    if (map->version == 0)
        return;
    genesis->map_version = map->version;
    genesis->partitions = map->partitions;
    genesis->grown_from = map->grown_from;
    genesis->settled = map->version > 1 ? map->settled : 0;
}

/* ---- commands to the partition -------------------------------------------------------------------------------------- */

static void command_answer(struct engine *engine, int64_t offset, const ReplyTo *to, const char *request,
                           const char *refused, const char *text)
{
    if (to) {
        Reply *reply = reply_make(refused ? "refused" : "accepted", request, true);
        if (reply && refused && (reply->error = calloc(1, sizeof *reply->error))) {
            perdure__v1__error__init(reply->error);
            reply->error->type = strdup(refused);
            reply->error->message = strdup(text);
            reply->error->code = PDR_FAILED;
        }
        inbox_answer(engine, offset, to, reply);
    }
    inbox_done(engine, offset);
}

/* What was held for a version that is settled now is over. */
static void held_release(struct engine *engine)
{
    for (struct slot_command **link = &engine->slots.held; *link;) {
        struct slot_command *held = *link;
        if (held->version > engine->judge->map.version || !judge_is_settled(engine->judge)) {
            link = &held->next;
            continue;
        }
        *link = held->next;
        inbox_done(engine, held->offset);
        free(held);
    }
}

static bool held_add(struct engine *engine, int64_t offset, const Perdure__V1__SlotsMoved *moved)
{
    struct slot_command *held = malloc(sizeof *held);
    if (!held) {
        engine_stop(engine, "out of memory");
        return false;
    }
    *held = (struct slot_command){ engine->slots.held, offset, moved->map_version, moved->partition, moved->arrived };
    engine->slots.held = held;
    inbox_keep(engine, offset, false);
    return true;
}

/* Whoever made the namespace grow asks until all has arrived; the first time it is news. */
static void on_grow(struct engine *engine, const struct slots_context *c)
{
    uint32_t version = c->command->grow->map_version;
    bool over = version <= engine->judge->map.version && judge_is_settled(engine->judge);
    command_answer(engine, c->at->offset, c->command->reply_to, c->command->request, over ? NULL : "Growing",
                   "slots of this partition are still moving");
    if (version > engine->config.genesis.map_version)
        engine_put(engine, ENGINE_OUT_MAP);
}

static void source_ask(struct engine *engine, uint32_t partition, int64_t offset)
{
    struct slots *slots = &engine->slots;
    if (slots->source_asked)
        return;
    slots->source_partition = partition;
    slots->source_end = offset;
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_READ_SOURCE);
    if (!queued)
        return;
    queued->output.partition = partition;
    queued->output.offset = offset;
    slots->source_asked = true;
}

static void on_slots_moved(struct engine *engine, const struct slots_context *c)
{
    const Perdure__V1__SlotsMoved *moved = c->command->slots_moved;
    const struct slot_map *map = &engine->judge->map;
    bool over = moved->map_version < map->version || judge_is_settled(engine->judge);
    if (over || moved->map_version > map->version) { /* said again; the other only by a partition that never left */
        inbox_done(engine, c->at->offset);
        return;
    }
    if (held_add(engine, c->at->offset, moved) && !moved->arrived && !slots_are_here(engine) &&
        moved->partition == engine->config.partition % map->grown_from)
        source_ask(engine, moved->partition, moved->offset);
}

bool slots_command(struct engine *engine, const struct slots_context *c)
{
    if (c->command->kind_case == PERDURE__V1__COMMAND__KIND_GROW)
        on_grow(engine, c);
    else if (c->command->kind_case == PERDURE__V1__COMMAND__KIND_SLOTS_MOVED)
        on_slots_moved(engine, c);
    else
        return false;
    return true;
}

/* Rule 25: before SlotIn the inbox keeps them; after SlotOut they go where their slot went. */
bool slots_elsewhere(struct engine *engine, const struct log_record *record, const char *job)
{
    if (!slots_are_here(engine)) {
        RULE_FIRED(SLOT_WAITS);
        if (!RULE(SLOT_WAITS))
            return false;
        inbox_park(engine, record->offset);
        return true;
    }
    if (!judge_holds(engine->judge, job) && !engine->slots.unconfirmed) {
        RULE_FIRED(SLOT_FORWARD);
        if (RULE(SLOT_FORWARD))
            outbox_forward(engine, job, record->offset, record->data, record->size);
        RULE_FIRED(SLOT_DELIVERED);
        if (!RULE(SLOT_FORWARD) || !RULE(SLOT_DELIVERED))
            inbox_done(engine, record->offset);
        return true;
    }
    if (slots_keep(engine, job) && judge_holds(engine->judge, job))
        return false;
    inbox_park(engine, record->offset);
    return true;
}

/* ---- the old partition: what leaves ----------------------------------------------------------------------------------- */

static bool slots_append(struct engine *engine, Record *record)
{
    Position in_pos = inbox_low(engine, false);
    Header *header = record->header;
    header->min_reader = RULE_LEVEL_SLOTS;
    header->in_pos = &in_pos;
    header->out_pos = outbox_position(engine);
    struct append *append = engine_append(engine, record);
    if (append)
        append->in_pos = in_pos;
    engine->slots.sent = append != NULL;
    return append != NULL;
}

static void slots_out(struct engine *engine)
{
    const Genesis *next = &engine->config.genesis;
    uint32_t from = engine->judge->map.partitions;
    size_t count = next->partitions / from - 1;
    SlotShare *shares = calloc(count + 1, sizeof *shares);
    SlotShare **pointers = calloc(count + 1, sizeof *pointers);
    digest *hashes = calloc(count + 1, sizeof *hashes);
    Header header;
    Record record = PERDURE__V1__RECORD__INIT;
    SlotOut out = PERDURE__V1__SLOT_OUT__INIT;
    if (!shares || !pointers || !hashes) {
        engine_stop(engine, "out of memory");
    } else {
        for (size_t i = 0; i < count; i++) {
            perdure__v1__slot_share__init(&shares[i]);
            shares[i].partition = engine->config.partition + (uint32_t)(i + 1) * from;
            shares[i].live_count = judge_share(engine->judge, next->partitions, shares[i].partition, true, &hashes[i]);
            shares[i].live_hash = (ProtobufCBinaryData){ .len = sizeof hashes[i].bytes, .data = hashes[i].bytes };
            pointers[i] = &shares[i];
        }
        header_init(engine, &header, PERDURE__V1__KIND__KIND_SLOT_OUT);
        out.map_version = next->map_version;
        out.partitions = next->partitions;
        out.grown_from = from;
        out.shares = pointers;
        out.n_shares = count;
        record.header = &header;
        record.slot_out = &out;
        slots_append(engine, &record);
    }
    free(shares);
    free(pointers);
    free(hashes);
}

/* A journal that begins with a claim must not know less of the map than what was cut (rule 1); and what left is read here
 * until all of it has arrived. */
bool slots_allow_cut(const struct engine *engine)
{
    const struct slot_map *map = &engine->judge->map, *claimed = &engine->slots.claimed;
    return never_grew(engine) || (judge_is_settled(engine->judge) && claimed->version == map->version &&
                                  claimed->settled == map->settled);
}

/* Jobs that leave stop at once, but what they sent must have gone: after the move it could be overtaken (rule 11). */
static bool slots_leave(struct engine *engine)
{
    struct slots *slots = &engine->slots;
    if (engine->retention.phase != RETENTION_IDLE)
        return true; /* it holds on to runs: let it end */
    slots->frozen = true;
    if (slots->sent)
        return true;
    if (outbox_has_leaving(engine)) {
        RULE_FIRED(SLOT_OUTPUTS);
        if (RULE(SLOT_OUTPUTS))
            return true;
    }
    if (engine->appends)
        return false; /* the hash is true only if nothing is on its way */
    slots_out(engine);
    return true;
}

/* Its rows leave the store with the next save. */
static void run_unsave(struct engine *engine, const struct run *run)
{
    size_t size = strlen(run->job) + 1;
    struct forgotten_job *forgotten = malloc(sizeof *forgotten + size);
    if (!forgotten) {
        engine_stop(engine, "out of memory");
        return;
    }
    memcpy(forgotten->job, run->job, size);
    forgotten->run = run->run;
    forgotten->next = engine->retention.forgotten;
    engine->retention.forgotten = forgotten;
    engine->partition_changed = true;
}

static void run_left(void *context, struct run *run)
{
    struct engine *engine = context;
    struct active *active = run->user;
    run_unsave(engine, run);
    if (!active)
        return;
    for (const struct input *input = active->inputs.head; input; input = input->next)
        if (input->offset >= 0)
            inbox_park(engine, input->offset);
    for (const struct step *step = active->steps; step; step = step->next)
        remote_park_report(step);
    steps_clear(active, true);
    active_free(active);
}

static void slots_offer(struct engine *engine, const SlotOut *out, int64_t offset)
{
    for (size_t i = 0; i < out->n_shares; i++) {
        Perdure__V1__SlotsMoved moved = PERDURE__V1__SLOTS_MOVED__INIT;
        moved.map_version = out->map_version;
        moved.partition = engine->config.partition;
        moved.offset = offset;
        outbox_to_partition(engine, out->shares[i]->partition, offset, (uint32_t)i, &moved);
    }
    if (!RULE(SLOT_OFFER)) /* the mutation: as soon as it is read */
        for (struct outbox_entry *entry = engine->outbox.newest; entry && entry->offset == offset; entry = entry->older)
            entry->confirmed = true;
    RULE_FIRED(SLOT_OFFER);
}

void slots_on_out(struct engine *engine, const SlotOut *out, int64_t offset)
{
    struct slots *slots = &engine->slots;
    Genesis *genesis = &engine->config.genesis;
    slots->sent = false;
    if (out->arrived)
        return;
    slots->frozen = false;
    slots->unconfirmed = engine_owns(engine);
    if (genesis->map_version < out->map_version) {
        genesis->map_version = out->map_version;
        genesis->partitions = out->partitions;
        genesis->grown_from = out->grown_from;
    }
    judge_sweep_left(engine->judge, run_left, engine);
    slots_offer(engine, out, offset);
}

/* All new partitions have said that they have theirs. */
static bool slots_have_arrived(const struct engine *engine)
{
    const struct slot_map *map = &engine->judge->map;
    uint32_t missing = map->partitions / map->grown_from - 1;
    for (const struct slot_command *held = engine->slots.held; held; held = held->next) {
        bool first = held->arrived && held->version == map->version;
        for (const struct slot_command *before = engine->slots.held; before != held; before = before->next)
            first = first && !(before->arrived && before->version == map->version && before->partition == held->partition);
        missing -= first && missing > 0;
    }
    return missing == 0;
}

static void slots_arrived(struct engine *engine)
{
    Header header;
    Record record = PERDURE__V1__RECORD__INIT;
    SlotOut out = PERDURE__V1__SLOT_OUT__INIT;
    header_init(engine, &header, PERDURE__V1__KIND__KIND_SLOT_OUT);
    out.map_version = engine->judge->map.version;
    out.partitions = engine->judge->map.partitions;
    out.grown_from = engine->judge->map.grown_from;
    out.arrived = true;
    record.header = &header;
    record.slot_out = &out;
    slots_append(engine, &record);
}

/* ---- the new partition: what arrives ------------------------------------------------------------------------------------ */

static struct source_run *source_find(const struct slots *slots, uint64_t run)
{
    struct source_run *found = slots->runs ? slots->runs[run % SOURCE_BUCKETS] : NULL;
    while (found && found->run != run)
        found = found->next;
    return found;
}

static struct source_run *source_add(struct slots *slots, uint64_t run)
{
    struct source_run *found = source_find(slots, run);
    if (found)
        return found;
    if (!slots->runs && !(slots->runs = calloc(SOURCE_BUCKETS, sizeof(struct source_run *))))
        return NULL;
    found = calloc(1, sizeof *found);
    if (!found)
        return NULL;
    found->run = run;
    found->next = slots->runs[run % SOURCE_BUCKETS];
    return slots->runs[run % SOURCE_BUCKETS] = found;
}

static void source_drop(struct slots *slots)
{
    for (size_t i = 0; slots->runs && i < SOURCE_BUCKETS; i++)
        while (slots->runs[i]) {
            struct source_run *next = slots->runs[i]->next;
            copy_run_clear(&slots->runs[i]->copy);
            free(slots->runs[i]);
            slots->runs[i] = next;
        }
    free(slots->runs);
    judge_free(slots->source);
    slots->runs = NULL;
    slots->source = NULL;
    slots->source_whole = slots->source_left = false;
    slots->copying = NULL;
    slots->bucket = slots->part = 0;
}

static bool source_keep(struct engine *engine, const struct log_record *record, const Header *header)
{
    if (partition_of(header->job, engine->judge->map.partitions) != engine->config.partition)
        return true;
    struct source_run *kept = source_add(&engine->slots, header->run);
    struct copy_part part = { record->data, record->size, record->offset, engine->slots.source_partition };
    return kept && copy_run_add(&kept->copy, header->run, &part) == PDR_OK;
}

static void source_judge(struct engine *engine, const struct log_record *record, const Record *decoded)
{
    struct slots *slots = &engine->slots;
    struct judged judged;
    enum judge_verdict verdict = judge_record(slots->source, record->offset, decoded, &judged);
    bool kept = true;
    if (verdict == JUDGE_COUNTED || verdict == JUDGE_COPY)
        kept = source_keep(engine, record, decoded->header);
    else if (verdict == JUDGE_SLOT_OUT)
        slots->source_left = slots->source_left || slots->source->map.version == engine->judge->map.version;
    judged_release(&judged);
    if (verdict == JUDGE_STOP || verdict == JUDGE_DISTRUST)
        engine_stop(engine, "partition %u gets its slots from partition %u, and there %s; run `perdure verify`",
                    engine->config.partition, slots->source_partition, slots->source->error);
    else if (verdict == JUDGE_NO_MEMORY || !kept)
        engine_stop(engine, "out of memory");
}

void engine_on_source(struct engine *engine, const struct log_record *record)
{
    struct slots *slots = &engine->slots;
    if (!slots->source_asked || slots->source_whole || engine->state == ENGINE_STOPPED)
        return;
    if (!record) {
        source_drop(slots);
        slots->source = judge_new(&engine->config.genesis);
        if (!slots->source)
            engine_stop(engine, "out of memory");
        return;
    }
    Record *decoded = NULL;
    enum wire_error error = slots->source ? record_decode(record->data, record->size, &decoded) : WIRE_NOT_PERDURE;
    if (error == WIRE_OK)
        source_judge(engine, record, decoded);
    else if (error != WIRE_NOT_PERDURE)
        engine_stop(engine, "partition %u, journal offset %lld: %s", slots->source_partition, (long long)record->offset,
                    wire_error_text(error));
    record_free(decoded);
}

static bool source_forget(void *context, struct run *run)
{
    (void)context;
    (void)run;
    return true;
}

void engine_on_source_end(struct engine *engine)
{
    struct slots *slots = &engine->slots;
    if (!slots->source_asked || !slots->source || engine->state == ENGINE_STOPPED)
        return;
    slots->source_whole = true;
    while (judge_sweep(slots->source, SIZE_MAX, source_forget, NULL))
        ; /* what is forgotten there need not be remembered here (rule 20) */
    if (!slots->source_left)
        engine_stop(engine, "partition %u gets its slots from partition %u, whose journal has no SlotOut at offset %lld",
                    engine->config.partition, slots->source_partition, (long long)slots->source_end);
}

/* The next run of the source that is ours and not here yet; NULL: none is left. */
static struct run *source_next(struct engine *engine)
{
    struct slots *slots = &engine->slots;
    const struct slot_map *map = &engine->judge->map;
    struct run *run = slots->copying ? slots->copying->next : NULL;
    for (;;) {
        while (!run && slots->bucket < slots->source->capacity)
            run = slots->source->table[slots->bucket++];
        if (!run)
            return NULL;
        const struct run *here = judge_find(engine->judge, run->job);
        bool known = here && here->run == run->run && here->seq == run->seq;
        if (run->seq > 0 && partition_of(run->job, map->partitions) == engine->config.partition && !known)
            return run;
        run = run->next;
    }
}

/* Appends one record of what is to be copied. False: all is. */
static bool slots_copy(struct engine *engine)
{
    struct slots *slots = &engine->slots;
    const struct source_run *kept = slots->copying ? source_find(slots, slots->copying->run) : NULL;
    if (!kept || slots->part >= kept->copy.count) {
        slots->copying = source_next(engine);
        slots->part = 0;
        if (!slots->copying)
            return false;
        kept = source_find(slots, slots->copying->run);
    }
    const struct run *run = slots->copying;
    if (kept && kept->copy.seq == run->seq && digest_equal(kept->copy.digest, run->digest)) {
        copy_append(engine, &kept->copy, ++slots->part, &run->requests);
    } else if (!run_is_open(run)) {
        slots->part = kept ? kept->copy.count : 0;
        stub_append(engine, run);
    } else {
        engine_stop(engine, "job `%s` moves here from partition %u, whose journal has not all of its records", run->job,
                    slots->source_partition);
        return false;
    }
    return true;
}

static bool slots_agree(const struct engine *engine, bool open, digest *hash, uint64_t *count)
{
    const struct slot_map *map = &engine->judge->map;
    digest here;
    *count = judge_share(engine->slots.source, map->partitions, engine->config.partition, open, hash);
    return judge_share(engine->judge, map->partitions, engine->config.partition, open, &here) == *count &&
           digest_equal(*hash, here);
}

/* The source's judge has compared what left with its SlotOut: what is here must be the same. */
static void slots_in(struct engine *engine)
{
    struct slots *slots = &engine->slots;
    Header header;
    Record record = PERDURE__V1__RECORD__INIT;
    SlotIn in = PERDURE__V1__SLOT_IN__INIT;
    digest live, closed;
    bool agree = slots_agree(engine, true, &live, &in.live_count);
    agree = slots_agree(engine, false, &closed, &in.closed_count) && agree;
    RULE_FIRED(SLOT_COUNT);
    if (!agree && RULE(SLOT_COUNT)) {
        engine_stop(engine, "partition %u: what was copied from partition %u is not what left there",
                    engine->config.partition, slots->source_partition);
        return;
    }
    header_init(engine, &header, PERDURE__V1__KIND__KIND_SLOT_IN);
    in.map_version = engine->judge->map.version;
    in.partition = slots->source_partition;
    in.offset = slots->source_end;
    in.live_hash = (ProtobufCBinaryData){ .len = sizeof live.bytes, .data = live.bytes };
    in.closed_hash = (ProtobufCBinaryData){ .len = sizeof closed.bytes, .data = closed.bytes };
    record.header = &header;
    record.slot_in = &in;
    slots_append(engine, &record);
}

static void slots_take(struct engine *engine)
{
    struct slots *slots = &engine->slots;
    if (!slots->source_whole || slots->sent || slots->unconfirmed)
        return;
    while (engine->append_count < engine->limits.appends_in_flight && engine->state == ENGINE_OWNER)
        if (!slots_copy(engine)) {
            if (engine->state == ENGINE_OWNER && (!engine->appends || !RULE(SLOT_COUNT)))
                slots_in(engine);
            return;
        }
}

void slots_on_in(struct engine *engine, const SlotIn *in, int64_t offset)
{
    Perdure__V1__SlotsMoved moved = PERDURE__V1__SLOTS_MOVED__INIT;
    moved.map_version = in->map_version;
    moved.partition = engine->config.partition;
    moved.offset = in->offset;
    moved.arrived = true;
    engine->slots.sent = false;
    engine->slots.unconfirmed = engine_owns(engine);
    outbox_to_partition(engine, in->partition, offset, 0, &moved);
    source_drop(&engine->slots);
    engine->slots.source_asked = false;
}

/* ---- both ------------------------------------------------------------------------------------------------------------------- */

/* SlotOut or SlotIn is confirmed: what was kept for this moment is read again. */
void slots_confirmed(struct engine *engine)
{
    engine->slots.unconfirmed = false;
    held_release(engine);
    inbox_reread(engine); /* now: what comes later must not be taken before it */
    if (engine->judge->map.version > 1 && engine->config.partition >= engine->judge->map.grown_from)
        wake_runs(engine);
}

bool slots_want_out(const struct engine *engine)
{
    return engine->config.genesis.map_version > engine->judge->map.version && judge_is_settled(engine->judge);
}

bool slots_run(struct engine *engine)
{
    struct slots *slots = &engine->slots;
    const struct judge *judge = engine->judge;
    if (never_grew(engine))
        return true;
    if (!slots_are_here(engine)) {
        slots_take(engine);
        return true;
    }
    if (slots_want_out(engine))
        return slots_leave(engine);
    if (!judge_is_settled(judge) && !slots->sent && !slots->unconfirmed && slots_have_arrived(engine))
        slots_arrived(engine);
    return true;
}

uint32_t engine_map_version(const struct engine *engine)
{
    uint32_t told = engine->config.genesis.map_version, read = engine->judge->map.version;
    return told > read ? told : read;
}

void engine_on_map(struct engine *engine, const Genesis *genesis)
{
    Genesis *known = &engine->config.genesis;
    if (engine->state == ENGINE_STOPPED)
        return;
    if (genesis->log_id == known->log_id && genesis->map_version > known->map_version) {
        known->map_version = genesis->map_version;
        known->partitions = genesis->partitions;
        known->grown_from = genesis->grown_from;
    }
}

/* An epoch is over. What was read of the source stays true: nothing of these slots can change there. */
void slots_reset(struct engine *engine)
{
    struct slots *slots = &engine->slots;
    slots->frozen = slots->sent = slots->unconfirmed = false;
    slots->copying = NULL;
    slots->bucket = slots->part = 0;
    while (slots->held) {
        struct slot_command *next = slots->held->next;
        free(slots->held);
        slots->held = next;
    }
}

void slots_clear(struct engine *engine)
{
    slots_reset(engine);
    source_drop(&engine->slots);
    engine->slots.source_asked = false;
}
