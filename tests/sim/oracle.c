#include "oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const verdict_names[] = { "genesis", "claim",     "release", "mark",
                                             "counted", "duplicate", "fenced",  "rejected", "copy", "stub", "slot out", "slot in" };

const char *oracle_verdict_name(enum oracle_verdict verdict) { return verdict_names[verdict]; }

void oracle_init(struct oracle *oracle, uint32_t partition, uint64_t log_id)
{
    *oracle = (struct oracle){ .partition = partition, .log_id = log_id, .claim = -1, .last_mark = -1, .cut_mark = -1, .capacity = 64,
                               .left = -1 };
    oracle->heads = calloc(oracle->capacity, sizeof *oracle->heads);
    if (!oracle->heads)
        abort();
}

static void oracle_run_free(struct oracle_run *run)
{
    for (uint64_t i = 0; i < run->seq; i++)
        event_free(run->events[i].event);
    free(run->events);
    free(run->job);
    free(run);
}

void oracle_clear(struct oracle *oracle)
{
    while (oracle->all) {
        struct oracle_run *next = oracle->all->next;
        oracle_run_free(oracle->all);
        oracle->all = next;
    }
    free(oracle->heads);
    memset(oracle, 0, sizeof *oracle);
}

static size_t oracle_slot(const struct oracle *oracle, const char *job)
{
    size_t i = (size_t)hash64(job, strlen(job)) & (oracle->capacity - 1);
    while (oracle->heads[i] && strcmp(oracle->heads[i]->job, job) != 0)
        i = (i + 1) & (oracle->capacity - 1);
    return i;
}

static void oracle_grow(struct oracle *oracle)
{
    struct oracle_run **old = oracle->heads;
    size_t old_capacity = oracle->capacity;
    oracle->capacity *= 2;
    oracle->heads = calloc(oracle->capacity, sizeof *oracle->heads);
    if (!oracle->heads)
        abort();
    for (size_t i = 0; i < old_capacity; i++)
        if (old[i])
            oracle->heads[oracle_slot(oracle, old[i]->job)] = old[i];
    free(old);
}

struct oracle_run *oracle_find(const struct oracle *oracle, const char *job)
{
    return oracle->heads[oracle_slot(oracle, job)];
}

struct oracle_run *oracle_find_run(const struct oracle *oracle, const char *job, uint64_t run)
{
    struct oracle_run *found = oracle_find(oracle, job);
    while (found && found->run != run)
        found = found->previous;
    return found;
}

static struct oracle_run *oracle_add(struct oracle *oracle, const char *job, uint64_t run, int64_t offset)
{
    if ((oracle->head_count + 1) * 2 > oracle->capacity)
        oracle_grow(oracle);
    size_t slot = oracle_slot(oracle, job);
    struct oracle_run *added = calloc(1, sizeof *added);
    if (!added || !(added->job = strdup(job)))
        abort();
    added->run = run;
    added->digest = digest_of_run(run);
    added->open = true;
    added->first = offset;
    added->closed_at = added->forgotten_at = added->left_at = -1;
    added->kept_at = added->last_at = offset;
    added->previous = oracle->heads[slot];
    if (!added->previous)
        oracle->head_count++;
    added->next = oracle->all;
    oracle->all = added;
    oracle->heads[slot] = added;
    return added;
}

bool event_is_terminal(const Event *event)
{
    return event->kind_case == PERDURE__V1__EVENT__KIND_COMPLETED || event->kind_case == PERDURE__V1__EVENT__KIND_FAILED ||
           event->kind_case == PERDURE__V1__EVENT__KIND_CANCELLED || event->kind_case == PERDURE__V1__EVENT__KIND_TERMINATED;
}

static void oracle_wrong(struct oracle *oracle, int64_t offset, const char *what)
{
    if (!oracle->wrong[0])
        snprintf(oracle->wrong, sizeof oracle->wrong, "journal %u offset %lld: %s", oracle->partition, (long long)offset,
                 what);
}

static bool oracle_epoch_holds(const struct oracle *oracle, const Header *header)
{
    return oracle->owned && header->claim == oracle->claim && header->nonce == oracle->nonce;
}

static void oracle_positions(Position *mine, const Position *other)
{
    if (other && (other->generation > mine->generation ||
                  (other->generation == mine->generation && other->offset > mine->offset)))
        *mine = *other;
}

/* The events of a record that continues the run: the chain is computed anew from the stored bytes. */
static void oracle_take(struct oracle *oracle, struct oracle_run *run, int64_t offset, const Record *record)
{
    for (size_t i = 0; i < record->n_events; i++) {
        Event *event = event_decode(record->events[i].data, record->events[i].len);
        if (!event) {
            oracle_wrong(oracle, offset, "an event that cannot be decoded counts");
            return;
        }
        if (run->seq == run->capacity) {
            run->capacity = run->capacity ? run->capacity * 2 : 16;
            run->events = realloc(run->events, run->capacity * sizeof *run->events);
            if (!run->events)
                abort();
        }
        if (!run->open)
            oracle_wrong(oracle, offset, "an event after the terminal event");
        if (event->seq != run->seq + 1)
            oracle_wrong(oracle, offset, "an event's seq is not the next");
        if ((run->seq == 0) != (event->kind_case == PERDURE__V1__EVENT__KIND_STARTED))
            oracle_wrong(oracle, offset, "Started is not the first event, or not only that");
        if (run->seq > 0 && event->t < run->events[run->seq - 1].event->t)
            oracle_wrong(oracle, offset, "t goes back in a run");
        run->digest = digest_next(run->digest, record->events[i].data, record->events[i].len);
        run->events[run->seq++] = (struct oracle_event){ .offset = offset, .after = run->digest, .event = event };
        if (event_is_terminal(event)) {
            run->open = false;
            run->closed_at = offset;
        }
    }
    if (!digest_equal(run->digest, digest_from_bytes(record->header->digest)))
        oracle_wrong(oracle, offset, "the header's digest is not that of the events");
    for (size_t i = 0; i < record->header->n_inputs; i++) {
        const InputRef *input = record->header->inputs[i];
        Position at = PERDURE__V1__POSITION__INIT;
        at.generation = input->generation;
        at.offset = input->offset;
        if (!run->has_input)
            run->last_input = at;
        else
            oracle_positions(&run->last_input, &at);
        run->has_input = true;
    }
}

/* Was this very record counted before: same run, same seq, same digest after it (rule 2)? */
static bool oracle_is_duplicate(const struct oracle_run *run, const Header *header)
{
    uint64_t last = header->seq + header->count - 1;
    return last >= 1 && last <= run->seq && digest_equal(run->events[last - 1].after, digest_from_bytes(header->digest));
}

static enum oracle_verdict oracle_judge_event(struct oracle *oracle, int64_t offset, const Record *record,
                                              struct oracle_run **out)
{
    const Header *header = record->header;
    digest prev = digest_from_bytes(header->prev);
    if (!oracle_epoch_holds(oracle, header))
        return ORACLE_FENCED;
    if (oracle->waits || (oracle->map_version > 1 && slot_of(header->job) % oracle->partitions != oracle->partition))
        return ORACLE_REJECTED; /* rule 25 */
    struct oracle_run *run = oracle_find(oracle, header->job), *known = oracle_find_run(oracle, header->job, header->run);
    if (known && oracle_is_duplicate(known, header))
        return ORACLE_DUPLICATE;
    if (run && run->run == header->run) {
        if (!run->open || header->seq != run->seq + 1 || !digest_equal(prev, run->digest))
            return ORACLE_REJECTED;
    } else {
        if (header->seq != 1 || (run && run->open) || !digest_equal(prev, digest_of_run(header->run)))
            return ORACLE_REJECTED;
        if (known)
            oracle_wrong(oracle, offset, "a run that was closed long ago begins again");
        run = oracle_add(oracle, header->job, header->run, offset);
    }
    if (header->count != record->n_events || record->n_events == 0)
        oracle_wrong(oracle, offset, "count is not the number of events");
    if (oracle->copy.run == run)
        oracle->copy.run = NULL; /* rule 18: no other append of that job in between */
    oracle_take(oracle, run, offset, record);
    run->last_at = offset;
    oracle->counted++;
    *out = run;
    return ORACLE_COUNTED;
}

static void oracle_after(struct oracle *oracle, const Header *header)
{
    if (header->n > oracle->n)
        oracle->n = header->n;
    oracle_positions(&oracle->in_pos, header->in_pos);
    if (header->out_pos > oracle->out_pos)
        oracle->out_pos = header->out_pos;
}

/* ---- retention (rules 17 to 20) -------------------------------------------------------------------------- */

/* The run of the other partition, all of it, as it left; it counts here from `offset` on (rules 18, 25). */
static struct oracle_run *oracle_adopt(struct oracle *oracle, const struct oracle_run *from, int64_t offset)
{
    struct oracle_run *run = oracle_add(oracle, from->job, from->run, offset);
    run->events = calloc(from->seq + 1, sizeof *run->events);
    run->capacity = from->seq + 1;
    if (!run->events)
        abort();
    for (uint64_t i = 0; i < from->seq; i++) {
        run->events[i] = from->events[i];
        run->events[i].offset = offset;
        run->events[i].event = event_copy(from->events[i].event);
        if (!run->events[i].event)
            abort();
    }
    run->seq = from->seq;
    run->digest = from->digest;
    run->open = from->open;
    run->closed_at = from->open ? -1 : offset;
    return run;
}

/* What may be copied here: a run of this partition, or one that has left its source for it. */
static struct oracle_run *oracle_copied(const struct oracle *oracle, const Header *header)
{
    struct oracle_run *run = oracle_find(oracle, header->job);
    if (run || !oracle->waits || !oracle->source)
        return run;
    run = oracle_find(oracle->source, header->job);
    return run && run->left_at >= 0 && slot_of(run->job) % oracle->partitions == oracle->partition ? run : NULL;
}

/* A copy says what counted before, part after part; only the whole of it counts. */
static enum oracle_verdict oracle_judge_copy(struct oracle *oracle, int64_t offset, const Record *record)
{
    const Header *header = record->header;
    if (!oracle_epoch_holds(oracle, header))
        return ORACLE_FENCED;
    if (header->n <= oracle->n)
        return ORACLE_DUPLICATE;
    oracle_after(oracle, header);
    struct oracle_run *run = oracle_copied(oracle, header);
    bool adopted = oracle->waits;
    if (!run || run->run != header->run || (!run->open && !adopted) || run->forgotten_at >= 0 || !header->copy) {
        oracle_wrong(oracle, offset, "a copy of a run that is not the open one of its job");
        return ORACLE_REJECTED;
    }
    uint64_t last = header->seq + header->count - 1;
    digest before = header->seq == 1 ? digest_of_run(run->run) : run->events[header->seq - 2].after;
    if (last > run->seq || record->n_events != header->count ||
        !digest_equal(before, digest_from_bytes(header->prev)) ||
        !digest_equal(run->events[last - 1].after, digest_from_bytes(header->digest))) {
        oracle_wrong(oracle, offset, "a copy that is not what counted");
        return ORACLE_REJECTED;
    }
    for (size_t i = 0; i < record->n_events; i++)
        before = digest_next(before, record->events[i].data, record->events[i].len);
    if (!digest_equal(before, digest_from_bytes(header->digest)))
        oracle_wrong(oracle, offset, "a copy with other bytes");
    if (header->copy->part == 1) {
        oracle->copy.run = run;
        oracle->copy.part = 0;
        oracle->copy.parts = header->copy->parts;
        oracle->copy.seq = 0;
        oracle->copy.first = offset;
    }
    if (oracle->copy.run != run || oracle->copy.parts != header->copy->parts ||
        header->copy->part != oracle->copy.part + 1 || header->seq != oracle->copy.seq + 1) {
        oracle->copy.run = NULL;
        return ORACLE_REJECTED; /* a part before it was lost */
    }
    oracle->copy.part++;
    oracle->copy.seq = last;
    if (oracle->copy.part == oracle->copy.parts) {
        if (last == run->seq && run->left_at >= 0) {
            oracle_adopt(oracle, run, offset)->kept_at = oracle->copy.first;
        } else if (last == run->seq) {
            run->kept_at = oracle->copy.first;
            run->last_at = offset;
        } else
            oracle_wrong(oracle, offset, "a copy without the run's last events");
        oracle->copy.run = NULL;
    }
    return ORACLE_COPY;
}

static enum oracle_verdict oracle_judge_stub(struct oracle *oracle, int64_t offset, const Record *record)
{
    const Header *header = record->header;
    if (!oracle_epoch_holds(oracle, header))
        return ORACLE_FENCED;
    if (header->n <= oracle->n)
        return ORACLE_DUPLICATE;
    oracle_after(oracle, header);
    struct oracle_run *run = oracle_copied(oracle, header);
    if (!run || run->run != header->run || run->open || run->forgotten_at >= 0 || run->seq != header->seq ||
        !digest_equal(run->digest, digest_from_bytes(header->digest)) ||
        strcmp(record->stub->state, event_kind_name(run->events[run->seq - 1].event)) != 0)
        oracle_wrong(oracle, offset, "a stub that is not of its job's closed run");
    else if (run->left_at >= 0)
        oracle_adopt(oracle, run, offset);
    else
        run->kept_at = run->last_at = offset;
    return ORACLE_STUB;
}

/* Whatever stands below the cut and nowhere else is gone for who reads from there. */
static void oracle_cut(struct oracle *oracle, int64_t offset, const Mark *mark)
{
    if (mark->cut != oracle->claim)
        oracle_wrong(oracle, offset, "a cut that is not at the owner's claim");
    if (mark->cut < oracle->cut)
        oracle_wrong(oracle, offset, "a cut below an earlier one");
    oracle->cut = mark->cut;
    oracle->cut_mark = offset;
    for (size_t i = 0; i < oracle->capacity; i++) {
        struct oracle_run *run = oracle->heads[i];
        if (!run || run->kept_at >= mark->cut || run->forgotten_at >= 0)
            continue;
        if (run->left_at >= 0 && !oracle->arrived)
            oracle_wrong(oracle, offset, "a cut before all that left has arrived");
        if (run->left_at >= 0)
            continue;
        if (run->open)
            oracle_wrong(oracle, offset, "an open run lies below the cut, and no whole copy of it above");
        for (; run; run = run->previous)
            if (run->forgotten_at < 0)
                run->forgotten_at = offset;
    }
}

static enum oracle_verdict oracle_judge_mark(struct oracle *oracle, int64_t offset, const Record *record)
{
    const Mark *mark = record->mark;
    if (!oracle_epoch_holds(oracle, record->header))
        return ORACLE_FENCED;
    if (!mark) {
        oracle_wrong(oracle, offset, "a Mark without a body");
        return ORACLE_REJECTED;
    }
    if (record->header->n <= oracle->n)
        return ORACLE_DUPLICATE; /* a late copy: what it says is of the past */
    oracle_after(oracle, record->header);
    oracle_positions(&oracle->in_pos, mark->in_pos);
    oracle_positions(&oracle->mark_in_pos, mark->in_pos);
    if (mark->out_pos > oracle->mark_out_pos)
        oracle->mark_out_pos = mark->out_pos;
    if (mark->cut > 0)
        oracle_cut(oracle, offset, mark);
    oracle->last_mark = offset;
    oracle->counted++;
    return ORACLE_MARK;
}

/* ---- moving slots (rule 25) ------------------------------------------------------------------------------ */

static void oracle_check_share(struct oracle *oracle, int64_t offset, const SlotOut *out, const SlotShare *share)
{
    digest hash;
    uint64_t count = 0;
    memset(&hash, 0, sizeof hash);
    for (const struct oracle_run *run = oracle->all; run; run = run->next)
        if (run->open && slot_of(run->job) % out->partitions == share->partition) {
            live_hash_add(&hash, live_hash_of(run->job, run->run, run->seq, run->digest));
            count++;
        }
    if (count != share->live_count || !digest_equal(hash, digest_from_bytes(share->live_hash)))
        oracle_wrong(oracle, offset, "a SlotOut whose count or hash is not that of what leaves");
}

static enum oracle_verdict oracle_judge_slot_out(struct oracle *oracle, int64_t offset, const Record *record)
{
    const SlotOut *out = record->slot_out;
    if (!oracle_epoch_holds(oracle, record->header))
        return ORACLE_FENCED;
    if (record->header->n <= oracle->n)
        return ORACLE_DUPLICATE;
    oracle_after(oracle, record->header);
    oracle->counted++;
    if (out->arrived) {
        oracle->arrived = true;
        return ORACLE_SLOT_OUT;
    }
    if (oracle->left >= 0 || out->map_version != oracle->map_version + 1 || out->grown_from != oracle->partitions ||
        out->n_shares + 1 != out->partitions / out->grown_from)
        oracle_wrong(oracle, offset, "a SlotOut that does not follow from the map before");
    for (size_t i = 0; i < out->n_shares; i++)
        oracle_check_share(oracle, offset, out, out->shares[i]);
    for (struct oracle_run *run = oracle->all; run; run = run->next)
        if (slot_of(run->job) % out->partitions != oracle->partition)
            run->left_at = offset;
    oracle->left = offset;
    oracle->partitions = out->partitions;
    oracle->map_version = out->map_version;
    return ORACLE_SLOT_OUT;
}

/* Whatever left for this partition is here, whole, and nothing else is. */
static enum oracle_verdict oracle_judge_slot_in(struct oracle *oracle, int64_t offset, const Record *record)
{
    if (!oracle_epoch_holds(oracle, record->header))
        return ORACLE_FENCED;
    if (record->header->n <= oracle->n)
        return ORACLE_DUPLICATE;
    oracle_after(oracle, record->header);
    oracle->counted++;
    if (!oracle->waits || !oracle->source || oracle->source->left != record->slot_in->offset)
        oracle_wrong(oracle, offset, "a SlotIn that no SlotOut led to");
    size_t there = 0, here = 0;
    for (size_t i = 0; oracle->source && i < oracle->source->capacity; i++) {
        const struct oracle_run *run = oracle->source->heads[i];
        if (!run || run->forgotten_at >= 0 || slot_of(run->job) % oracle->partitions != oracle->partition)
            continue;
        const struct oracle_run *mine = oracle_find_run(oracle, run->job, run->run);
        there++;
        if (!mine || mine->seq != run->seq || !digest_equal(mine->digest, run->digest))
            oracle_wrong(oracle, offset, "a SlotIn, though not all that left is here");
    }
    for (const struct oracle_run *run = oracle->all; run; run = run->next)
        here++;
    if (here < there)
        oracle_wrong(oracle, offset, "a SlotIn, though less is here than left");
    oracle->waits = false;
    return ORACLE_SLOT_IN;
}

enum oracle_verdict oracle_judge(struct oracle *oracle, int64_t offset, const Record *record, struct oracle_run **run)
{
    *run = NULL;
    oracle->end = offset + 1;
    if (!record)
        return ORACLE_DUPLICATE;
    if (record->header->log != (uint32_t)oracle->log_id)
        oracle_wrong(oracle, offset, "a record of another log");
    switch (record->header->kind) {
    case PERDURE__V1__KIND__KIND_GENESIS:
        oracle->partitions = record->genesis->partitions;
        oracle->map_version = record->genesis->map_version;
        oracle->waits = record->genesis->grown_from > 0 && oracle->partition >= record->genesis->grown_from;
        return ORACLE_GENESIS;
    case PERDURE__V1__KIND__KIND_SLOT_OUT:
        return oracle_judge_slot_out(oracle, offset, record);
    case PERDURE__V1__KIND__KIND_SLOT_IN:
        return oracle_judge_slot_in(oracle, offset, record);
    case PERDURE__V1__KIND__KIND_CLAIM:
        if (!record->claim || !record->genesis)
            oracle_wrong(oracle, offset, "a Claim without body or genesis");
        else if (record->genesis->log_id != oracle->log_id)
            oracle_wrong(oracle, offset, "a Claim with another genesis");
        oracle->copy.run = NULL; /* rule 18: in one epoch */
        oracle->owned = true;
        oracle->claim = offset;
        oracle->nonce = record->claim ? record->claim->nonce : 0;
        oracle->n = 0;
        return ORACLE_CLAIM;
    case PERDURE__V1__KIND__KIND_RELEASE:
        if (!oracle_epoch_holds(oracle, record->header))
            return ORACLE_FENCED;
        oracle_after(oracle, record->header);
        oracle->owned = false;
        return ORACLE_RELEASE;
    case PERDURE__V1__KIND__KIND_MARK:
        return oracle_judge_mark(oracle, offset, record);
    case PERDURE__V1__KIND__KIND_EVENT: {
        enum oracle_verdict verdict = oracle_judge_event(oracle, offset, record, run);
        if (verdict == ORACLE_COUNTED)
            oracle_after(oracle, record->header);
        return verdict;
    }
    case PERDURE__V1__KIND__KIND_COPY:
        return oracle_judge_copy(oracle, offset, record);
    case PERDURE__V1__KIND__KIND_STUB:
        return oracle_judge_stub(oracle, offset, record);
    default:
        oracle_wrong(oracle, offset, "a kind of record that is not written at this level");
        return ORACLE_REJECTED;
    }
}

/* ---- looking back -------------------------------------------------------------------------------- */

uint64_t oracle_seq_at(const struct oracle_run *run, int64_t position)
{
    uint64_t seq = run->seq;
    while (seq > 0 && run->events[seq - 1].offset >= position)
        seq--;
    return seq;
}

bool oracle_open_at(const struct oracle_run *run, int64_t position)
{
    return run->closed_at < 0 || run->closed_at >= position;
}

struct oracle_run *oracle_find_at(const struct oracle *oracle, const char *job, int64_t position)
{
    struct oracle_run *run = oracle_find(oracle, job);
    while (run && run->first >= position)
        run = run->previous;
    return run && run->left_at >= 0 && run->left_at < position ? NULL : run;
}

uint64_t oracle_live(const struct oracle *oracle, digest *hash)
{
    uint64_t count = 0;
    memset(hash, 0, sizeof *hash);
    for (const struct oracle_run *run = oracle->all; run; run = run->next) {
        if (!run->open || run->left_at >= 0)
            continue;
        live_hash_add(hash, live_hash_of(run->job, run->run, run->seq, run->digest));
        count++;
    }
    return count;
}
