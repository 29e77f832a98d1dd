/* Which records of a journal count: rules F and S, and what each kind of partition record must say. */
#include <stdlib.h>
#include <string.h>

#include "verify.h"

/* What counted under one (run, seq): enough to know a duplicate, and a second value in the same epoch. */
struct value {
    uint64_t digest;
    uint64_t epoch;
    uint64_t place; /* hash of partition and offset */
};

static uint64_t epoch_of(const struct message *m, const header_pb *h)
{
    return pv_hash_three(m->partition, (uint64_t)h->claim, h->nonce);
}

static uint64_t digest_key(const ProtobufCBinaryData *digest)
{
    return pv_hash_bytes(digest->data, digest->len);
}

static uint64_t genesis_hash(const genesis_pb *g)
{
    const uint64_t all[] = {g->log_id, pv_hash_text(g->namespace_), g->format, g->rule_level};
    return pv_hash_bytes(all, sizeof all);
}

/* rule 1: every Claim repeats the genesis, so that a cut head loses nothing */
static bool take_genesis(struct check *c, struct partition *p, const struct where *w, const genesis_pb *g)
{
    if (!pv_hold(c, g != NULL, 1, w, "the genesis is missing"))
        return false;
    bool good = pv_hold(c, g->partition == w->partition, 1, w, "its genesis is of partition %" PRIu32, g->partition);
    if (!pv_take_map(c, p, w, g))
        return false; /* nothing can be placed by it */
    if (p->has_genesis)
        return good & pv_hold(c, genesis_hash(g) == p->genesis, 1, w, "its genesis differs from the partition's first");
    if (c->has_log_id)
        good &= pv_hold(c, g->log_id == c->log_id, 1, w, "its log id differs from that of the other partitions");
    p->has_genesis = true;
    p->genesis = genesis_hash(g);
    p->log_id = g->log_id;
    c->log_id = c->has_log_id ? c->log_id : g->log_id;
    c->has_log_id = true;
    return good;
}

/* rule 32: what a newer writer wrote is not judged by older rules */
static bool readable(struct check *c, struct partition *p, const struct message *m, const record_pb *r)
{
    const header_pb *h = r->header;
    struct where w = pv_where_of(m, h);
    bool level = h->rule_level <= RULE_LEVEL && h->min_reader <= RULE_LEVEL;
    if (r->genesis)
        level &= r->genesis->rule_level <= RULE_LEVEL;
    bool ok =
        pv_hold(c, h->format == FORMAT && level, 32, &w,
                "format %" PRIu32 ", rule level %" PRIu32 ": above what this checker knows (%d, %d); the partition is "
                "not judged from here on",
                h->format, h->rule_level, FORMAT, RULE_LEVEL);
    if (ok)
        ok = pv_hold(c, h->kind >= PERDURE__V1__KIND__KIND_GENESIS && h->kind <= PERDURE__V1__KIND__KIND_SLOT_IN, 32, &w,
                     "record kind %" PRIu32
                     " is unknown in a journal of rule level %d; the partition is not judged from "
                     "here on",
                     h->kind, RULE_LEVEL);
    if (!ok)
        p->stopped = true;
    return ok;
}

static enum verdict judge_claim(struct check *c, struct partition *p, const struct message *m, const record_pb *r)
{
    struct where w = pv_where_of(m, r->header);
    take_genesis(c, p, &w, r->genesis);
    if (!pv_hold(c, r->claim != NULL, 1, &w, "a Claim without its body"))
        return UNREADABLE;
    const header_pb *h = r->header;
    pv_hold(c, h->claim == 0 && (!h->nonce || h->nonce == r->claim->nonce), 1, &w, "a Claim that names another epoch");
    pv_copy_drop(p); /* rule 18: in one epoch */
    p->owned = true;
    p->claim = m->offset;
    p->nonce = r->claim->nonce;
    p->n = h->n;
    p->hole = p->any = p->hash_told = false;
    p->epoch_out = INT64_MIN;
    p->in_floor = p->in_pos;
    return COUNTED;
}

/* rule 1 (F) */
bool pv_in_epoch(const struct partition *p, const header_pb *h)
{
    return p->owned && h->claim == p->claim && h->nonce == p->nonce;
}

/* `n` tells of appends of this epoch that are missing so far. True: the record stands in its owner's order. */
bool pv_count_append(struct check *c, struct partition *p, const struct where *w, const header_pb *h)
{
    pv_hold(c, h->n > 0, 5, w, "the record has no number in its epoch");
    bool in_order = h->n > p->n;
    if (in_order) {
        p->hole |= h->n != p->n + 1;
        p->n = h->n;
    }
    return in_order;
}

/* rules 10 and 13. A record that arrives behind a later one of its epoch may say less than that one. So may one that
 * comes after a Mark with refusals: that Mark could have been lost, and only it may pass what it refuses. */
void pv_take_positions(struct check *c, struct partition *p, const struct where *w, const position_pb *in, int64_t out,
                       bool in_order, bool is_mark)
{
    if (in_order) {
        pv_hold(c, out >= p->epoch_out, 10, w, "out_pos goes back from %" PRId64 " to %" PRId64 " in its epoch",
                p->epoch_out, out);
        p->epoch_out = out > p->epoch_out ? out : p->epoch_out;
    }
    pv_hold(c, out <= w->offset, 10, w, "out_pos %" PRId64 " lies beyond its own record", out);
    p->out_pos = out > p->out_pos ? out : p->out_pos;
    if (w->offset < p->horizon)
        p->sure_out_pos = p->out_pos;
    if (!in)
        return;
    bool cut = in->generation > p->in_generation, same = in->generation == p->in_generation;
    int64_t least = is_mark ? p->in_pos : p->in_floor;
    if (in_order)
        pv_hold(c, cut || (same && in->offset >= least), 13, w, "in_pos goes back from %" PRIu32 ":%" PRId64 " to %" PRIu32
                ":%" PRId64, p->in_generation, least, in->generation, in->offset);
    p->truncated |= cut && p->in_pos >= 0; /* rule 13: the inbox lost its tail */
    if (cut || (same && in->offset > p->in_pos)) {
        p->in_generation = in->generation;
        p->in_pos = in->offset;
    }
    if (cut || (same && !is_mark && in->offset > p->in_floor))
        p->in_floor = in->offset;
    if (w->offset < p->horizon)
        p->sure_in_pos = p->in_pos;
}

/* rule 9 */
static void check_mark(struct check *c, struct partition *p, const struct message *m, const record_pb *r, bool in_order)
{
    struct where w = pv_where_of(m, r->header);
    const mark_pb *mark = r->mark;
    if (!pv_hold(c, mark != NULL, 9, &w, "a Mark without its body"))
        return;
    pv_take_positions(c, p, &w, mark->in_pos, mark->out_pos, in_order, true);
    pv_across_mark(c, m, mark);
    if (mark->cut)
        pv_check_cut(c, p, m, r);
    if (!p->whole || p->hole || p->damaged || p->hash_told)
        return; /* the owner counted what the log lost: rule 5 makes it claim anew */
    uint8_t live[DIGEST];
    for (int i = 0; i < DIGEST; i++)
        live[i] = (uint8_t)(p->live >> (8 * i));
    bool same = mark->live_hash.len == DIGEST && memcmp(mark->live_hash.data, live, DIGEST) == 0;
    same = pv_hold(c, same, 9, &w, "the live hash is not that of the records that counted (%" PRIu64 " open runs)",
                   p->live_count);
    same &= pv_hold(c, mark->live_count == p->live_count, 9, &w, "it names %" PRIu64 " open runs, there are %" PRIu64,
                    mark->live_count, p->live_count);
    p->hash_told = !same;
    pv_hold(c, mark->largest_t >= p->largest_t, 9, &w, "largest_t %" PRId64 " is below a time that counted, %" PRId64,
            mark->largest_t, p->largest_t);
}

/* rules 24, 33 and the header's own shape; false: the record is not one of a job of this partition */
bool pv_check_header(struct check *c, const struct partition *p, const struct message *m, const record_pb *r)
{
    const header_pb *h = r->header;
    struct where w = pv_where_of(m, h);
    bool ok = pv_hold(c, *h->job && h->run, 33, &w, "a record of events without job or run");
    ok &= pv_hold(c, h->prev.len == DIGEST && h->digest.len == DIGEST, 33, &w, "a digest is not 16 bytes long");
    ok &= pv_hold(c, h->count == r->n_events && h->count > 0, 33, &w,
                  "the header counts %" PRIu32 " events, there are %zu", h->count, r->n_events);
    uint32_t slot = pv_digest_slot(h->job);
    pv_hold(c, h->slot == slot, 24, &w, "slot %" PRIu32 ", but the job's slot is %" PRIu32, h->slot, slot);
    pv_hold(c, h->map_version >= 1 && (!p->born || h->map_version <= p->map_version), 24, &w,
            "map %" PRIu32 ", its partition's journal has made none above %" PRIu32, h->map_version, p->map_version);
    if (p->partitions)
        pv_hold(c, slot % p->partitions == m->partition, 24, &w, "the job belongs to partition %" PRIu32,
                slot % p->partitions);
    if (m->key)
        pv_hold(c, m->key_size == strlen(h->job) && !memcmp(m->key, h->job, m->key_size), 24, &w,
                "the key is not the job id");
    return ok;
}

/* rule 33: the digest again, from the stored bytes */
bool pv_digest_agrees(const record_pb *r)
{
    uint8_t digest[DIGEST];
    memcpy(digest, r->header->prev.data, DIGEST);
    for (size_t i = 0; i < r->n_events; i++)
        pv_digest_next(digest, r->events[i].data, r->events[i].len);
    return memcmp(digest, r->header->digest.data, DIGEST) == 0;
}

/* rule 5: never a second value for one (epoch, run, seq), whether it counted or not */
static void check_second_value(struct check *c, const struct message *m, const header_pb *h, bool counts)
{
    struct where w = pv_where_of(m, h);
    uint64_t epoch = epoch_of(m, h), digest = digest_key(&h->digest), run = pv_hash_two(pv_hash_text(h->job), h->run);
    bool fresh;
    struct value *value = pv_table_find(&c->counted, pv_hash_two(run, h->seq));
    uint64_t *other = pv_table_find(&c->others, pv_hash_three(epoch, run, h->seq));
    bool single = !(value && value->epoch == epoch && value->digest != digest) && !(other && *other != digest);
    pv_hold(c, single, 5, &w, "a second value for this epoch, run and seq");
    if (counts) {
        value = pv_table_put(&c->counted, pv_hash_two(run, h->seq), &fresh);
        *value = (struct value){
            .digest = digest, .epoch = epoch, .place = pv_hash_two(m->partition, (uint64_t)m->offset)};
    } else if (!other) {
        *(uint64_t *)pv_table_put(&c->others, pv_hash_three(epoch, run, h->seq), &fresh) = digest;
    }
}

void pv_note_counted(struct check *c, const struct message *m, const header_pb *h)
{
    uint64_t run = pv_hash_two(pv_hash_text(h->job), h->run);
    struct value *value = pv_table_put(&c->counted, pv_hash_two(run, h->seq), NULL);
    *value = (struct value){.digest = digest_key(&h->digest),
                            .epoch = epoch_of(m, h),
                            .place = pv_hash_two(m->partition, (uint64_t)m->offset)};
}

bool pv_stood_at(const struct check *c, const header_pb *h, uint32_t partition, int64_t offset)
{
    uint64_t run = pv_hash_two(pv_hash_text(h->job), h->run);
    const struct value *value = pv_table_find(&c->counted, pv_hash_two(run, h->seq));
    return value && value->place == pv_hash_two(partition, (uint64_t)offset);
}

bool pv_was_counted(const struct check *c, const header_pb *h)
{
    uint64_t run = pv_hash_two(pv_hash_text(h->job), h->run);
    const struct value *value = pv_table_find(&c->counted, pv_hash_two(run, h->seq));
    return value && value->digest == digest_key(&h->digest);
}

struct run *pv_begin_run(struct check *c, const struct message *m, uint32_t job, const header_pb *h)
{
    c->runs = pv_must_grow(c->runs, c->run_count, &c->run_room, sizeof *c->runs);
    uint32_t index = (uint32_t)c->run_count++;
    *(uint32_t *)pv_table_put(&c->run_index, pv_hash_two(job, h->run), NULL) = index;
    struct run *run = &c->runs[index];
    *run = (struct run){.id = h->run,
                        .job = job,
                        .type = pv_check_type(c, h->type),
                        .first = m->offset,
                        .last = m->offset,
                        .in_last = -1,
                        .parent = NO_JOB,
                        .previous = c->jobs[job].run,
                        .kept = m->offset,
                        .t = INT64_MIN};
    pv_digest_first(h->run, run->digest);
    run->life = pv_must_alloc(sizeof *run->life);
    pv_table_init(&run->life->operations, sizeof(struct operation));
    pv_table_init(&run->life->requests, sizeof(struct request));
    c->jobs[job].run = index;
    c->jobs[job].partition = m->partition;
    c->jobs[job].away = false;
    return run;
}

/* rule 2 (S). NULL: it does not continue its run, and *why says in which way. */
static struct run *continued_run(struct check *c, const struct message *m, uint32_t job, const header_pb *h,
                                 const char **why)
{
    struct run *run = c->jobs[job].run < 0 ? NULL : &c->runs[c->jobs[job].run];
    if (run && run->id == h->run) {
        *why = run->state != RUN_OPEN                      ? "the run has ended: nothing follows a terminal event"
               : h->seq != run->seq + 1                    ? "its seq is not the next of the run"
               : memcmp(h->prev.data, run->digest, DIGEST) ? "its prev is not the digest of the run"
                                                           : NULL;
        return *why ? NULL : run;
    }
    uint8_t first[DIGEST];
    pv_digest_first(h->run, first);
    *why = run && run->state == RUN_OPEN         ? "the job's current run is another one, and open"
           : h->seq != 1                         ? "a run that is not known does not begin at seq 1"
           : pv_check_run(c, job, h->run)        ? "this run has been before: one start ran twice"
           : memcmp(h->prev.data, first, DIGEST) ? "the first prev is not made of the run id"
                                                 : NULL;
    return *why ? NULL : pv_begin_run(c, m, job, h);
}

/* A rejected record has its reason when an append before it is missing (n has a hole); else its owner was wrong. */
static enum verdict reject(struct check *c, const struct partition *p, const struct message *m, uint32_t job,
                           const header_pb *h, const char *why)
{
    struct where w = pv_where_of(m, h);
    /* rule 19: its head is gone, its copy comes */
    bool unknown = !p->whole && (c->jobs[job].run < 0 || pv_ran_below(c, p, m->partition, job));
    if (!p->hole && !p->damaged && !c->jobs[job].broken && !unknown) {
        pv_hold(c, false, 2, &w, "rejected though its epoch is current and misses no append: %s", why);
        c->jobs[job].broken = true;
    }
    check_second_value(c, m, h, false);
    return REJECTED;
}

void pv_add_live(const struct check *c, struct partition *p, const struct run *run, bool add)
{
    unsigned __int128 hash = pv_digest_live(c->jobs[run->job].id, run->id, run->seq, run->digest);
    p->live = add ? p->live + hash : p->live - hash;
    p->live_count = add ? p->live_count + 1 : p->live_count - 1;
}

void pv_end_life(struct run *run)
{
    pv_table_free(&run->life->operations);
    pv_table_free(&run->life->requests);
    free(run->life);
    run->life = NULL;
}

static enum verdict judge_events(struct check *c, struct partition *p, const struct message *m, const record_pb *r)
{
    const header_pb *h = r->header;
    struct where w = pv_where_of(m, h);
    if (!pv_in_epoch(p, h)) {
        check_second_value(c, m, h, false);
        return FENCED;
    }
    bool in_order = pv_count_append(c, p, &w, h);
    if (pv_was_counted(c, h))
        return DUPLICATE;
    bool here = pv_slot_stays(c, p, &w, h->job) &&
                (p->damaged || pv_hold(c, !p->awaits, 25, &w, "it stands before the SlotIn of its partition: it does not count"));
    if (!here) {
        check_second_value(c, m, h, false);
        return REJECTED;
    }
    uint32_t job = pv_check_job(c, h->job);
    if (!pv_check_header(c, p, m, r) ||
        !pv_hold(c, pv_digest_agrees(r), 33, &w, "the digest is not that of the stored events")) {
        c->jobs[job].broken = p->damaged = true;
        return REJECTED;
    }
    const char *why;
    struct run *run = continued_run(c, m, job, h, &why);
    if (!run)
        return reject(c, p, m, job, h, why);
    check_second_value(c, m, h, true);
    pv_hold(c, p->any || p->hole, 9, &w, "the first record of an epoch is not a Mark");
    if (run->seq)
        pv_add_live(c, p, run, false);
    pv_check_events(c, m, r, run);
    if (run->stopped)
        c->jobs[job].broken = p->damaged = true;
    memcpy(run->digest, h->digest.data, DIGEST);
    run->seq += r->n_events;
    run->last = m->offset;
    /* rule 23: who reads one run only begins where its records say */
    pv_hold(c, h->first <= run->first, 23, &w, "it says that its run begins at %" PRId64 ", behind %" PRId64, h->first,
            run->first);
    p->largest_t = h->t > p->largest_t ? h->t : p->largest_t;
    pv_take_positions(c, p, &w, h->in_pos, h->out_pos, in_order, false);
    if (run->state == RUN_OPEN)
        pv_add_live(c, p, run, true);
    else
        pv_end_life(run);
    c->totals.events += r->n_events;
    return COUNTED;
}

/* A Mark or a Release. A Mark has no digest to know a late copy by, but when no number is missing, its own is. */
static enum verdict judge_owner(struct check *c, struct partition *p, const struct message *m, const record_pb *r)
{
    const header_pb *h = r->header;
    struct where w = pv_where_of(m, h);
    if (!pv_in_epoch(p, h))
        return FENCED;
    bool mark = h->kind == PERDURE__V1__KIND__KIND_MARK;
    if (mark && h->n && h->n <= p->n && !p->hole)
        return DUPLICATE;
    bool in_order = pv_count_append(c, p, &w, h);
    if (mark)
        check_mark(c, p, m, r, in_order);
    else
        p->owned = false; /* nobody's until the next Claim */
    p->any = true;
    return COUNTED;
}

static enum verdict judge_kind(struct check *c, struct partition *p, const struct message *m, const record_pb *r)
{
    struct where w = pv_where_of(m, r->header);
    enum verdict verdict;
    switch (r->header->kind) {
    case PERDURE__V1__KIND__KIND_GENESIS:
        pv_hold(c, !p->seen, 1, &w, "a Genesis that is not the partition's first record");
        take_genesis(c, p, &w, r->genesis);
        return COUNTED;
    case PERDURE__V1__KIND__KIND_CLAIM:
        return judge_claim(c, p, m, r);
    case PERDURE__V1__KIND__KIND_EVENT:
        verdict = judge_events(c, p, m, r);
        p->any |= verdict == COUNTED;
        return verdict;
    case PERDURE__V1__KIND__KIND_COPY:
        return pv_judge_copy(c, p, m, r);
    case PERDURE__V1__KIND__KIND_STUB:
        return pv_judge_stub(c, p, m, r);
    case PERDURE__V1__KIND__KIND_SLOT_OUT:
        return pv_judge_slot_out(c, p, m, r);
    case PERDURE__V1__KIND__KIND_SLOT_IN:
        return pv_judge_slot_in(c, p, m, r);
    default:
        return judge_owner(c, p, m, r);
    }
}

/* A partition begins at its very first record (offset 0, in a file 1), or with what a cut has left. */
static void begin(struct check *c, struct partition *p, const struct where *w, uint32_t kind)
{
    bool opening = kind == PERDURE__V1__KIND__KIND_GENESIS || kind == PERDURE__V1__KIND__KIND_CLAIM;
    if (w->offset <= 1)
        pv_hold(c, opening, 1, w, "the partition begins with neither a Genesis nor a Claim");
    p->begin = w->offset;
    p->born = kind == PERDURE__V1__KIND__KIND_GENESIS || w->offset <= 1;
    p->whole = p->born; /* else when a Mark says that nothing below is needed: pv_check_finish() wants to know of it */
}

static enum verdict judge_open(struct check *c, struct partition *p, const struct message *m)
{
    record_pb *r;
    struct where w = pv_where_of(m, NULL);
    enum frame frame = pv_frame_open(m->data, m->size, &r);
    if (!pv_hold(c, frame == FRAME_GOOD, frame == FRAME_FORMAT ? 32 : 33, &w, "%s", pv_frame_text(frame))) {
        p->stopped = frame == FRAME_FORMAT;
        p->damaged = true; /* whose it was is unknown, so what is missing later has its reason here */
        return UNREADABLE;
    }
    const header_pb *h = r->header;
    w = pv_where_of(m, h);
    enum verdict verdict = UNJUDGED;
    c->totals.kinds[h->kind < 32 ? h->kind : 0]++;
    if (readable(c, p, m, r)) {
        if (!p->seen)
            begin(c, p, &w, h->kind);
        uint64_t log_id = p->has_genesis ? p->log_id : r->genesis ? r->genesis->log_id : h->log;
        bool own = pv_hold(c, h->log == (uint32_t)log_id, 1, &w, "the record is of another log: %08" PRIx32, h->log);
        if (!own)
            verdict = REJECTED;
        else if (pv_source_read(c, p, &w))
            verdict = judge_kind(c, p, m, r);
    }
    perdure__v1__record__free_unpacked(r, NULL);
    return verdict;
}

void pv_judge(struct check *c, const struct message *m)
{
    struct partition *p = pv_check_partition(c, m->partition);
    enum verdict verdict = p->stopped ? UNJUDGED : judge_open(c, p, m);
    p->seen = true;
    c->totals.later += m->offset >= p->horizon;
    c->totals.journal++;
    c->totals.verdicts[verdict]++;
}
