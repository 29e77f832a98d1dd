/* Slots that move: which partition's a job is by its journal's own map, SlotOut and SlotIn (rules 24 and 25).
 *
 * A new partition has all that it has from one old partition of a lower number, which was read before it. So a run that
 * leaves is known here, with its digest, when its copies come. */
#include <stdlib.h>
#include <string.h>

#include "verify.h"

static bool is_power(uint32_t partitions)
{
    return partitions && partitions <= SLOTS && !(partitions & (partitions - 1));
}

static uint32_t number_of(const struct check *c, const struct partition *p)
{
    return (uint32_t)(p - c->partitions);
}

/* ---- maps ---- */

/* Every partition must make the same map of one version. */
static bool know_map(struct check *c, const struct where *w, uint32_t version, uint32_t partitions, uint32_t grown_from)
{
    bool ok = pv_hold(c, is_power(partitions), 24, w, "the number of partitions is no power of two: %" PRIu32, partitions);
    ok = ok && pv_hold(c, version >= 1 && version < MAPS, 24, w, "there is no map version %" PRIu32, version);
    ok = ok && pv_hold(c, version == 1 ? !grown_from : is_power(grown_from) && grown_from < partitions, 24, w,
                       "map %" PRIu32 " of %" PRIu32 " partitions cannot follow one of %" PRIu32, version, partitions,
                       grown_from);
    if (!ok)
        return false;
    uint32_t *here = &c->maps[version], *before = version > 1 ? &c->maps[version - 1] : NULL;
    ok = pv_hold(c, !*here || *here == partitions, 24, w,
                 "map %" PRIu32 " has %" PRIu32 " partitions here, and %" PRIu32 " elsewhere", version, partitions, *here);
    ok &= pv_hold(c, !before || !*before || *before == grown_from, 24, w,
                  "map %" PRIu32 " grows from %" PRIu32 " partitions here, map %" PRIu32 " has %" PRIu32, version,
                  grown_from, version - 1, before ? *before : 0);
    if (!*here)
        *here = partitions;
    if (before && !*before)
        *before = grown_from;
    return ok;
}

static void set_map(struct partition *p, uint32_t version, uint32_t partitions, uint32_t grown_from)
{
    p->map_version = version;
    p->partitions = partitions;
    p->grown_from = grown_from;
}

static void take_first_map(struct check *c, struct partition *p, const struct where *w, const genesis_pb *g)
{
    uint32_t number = number_of(c, p);
    bool new = number >= g->grown_from && g->map_version > 1;
    pv_hold(c, number < g->partitions, 24, w, "its map has only %" PRIu32 " partitions", g->partitions);
    set_map(p, g->map_version, g->partitions, g->grown_from);
    p->settled = g->settled;
    p->awaits = p->born && new;
    p->slots_in_pos = -1;
    pv_hold(c, !p->born || new || g->map_version == 1, 24, w,
            "a Genesis of map %" PRIu32 " in a partition that is older", g->map_version);
}

/* A Claim says what its writer had read, which may be less than what stands before it, and never more. One who begins at
 * a cut has only what Claims tell. */
bool pv_take_map(struct check *c, struct partition *p, const struct where *w, const genesis_pb *g)
{
    bool good = know_map(c, w, g->map_version, g->partitions, g->grown_from);
    good = good && pv_hold(c, g->settled <= g->map_version, 24, w, "map %" PRIu32 " is settled before it is made", g->settled);
    if (!good)
        return false;
    if (!p->has_genesis)
        take_first_map(c, p, w, g);
    if (p->born) {
        good &= pv_hold(c, g->map_version <= p->map_version, 24, w,
                        "it names map %" PRIu32 ", its partition's journal has made none above %" PRIu32, g->map_version,
                        p->map_version);
        bool settled = g->settled <= p->settled || g->settled == 1; /* map 1 moved nothing */
        good &= pv_hold(c, settled, 25, w,
                        "it says that the moves of map %" PRIu32 " are over, its partition's journal does not", g->settled);
    } else if (g->map_version > p->map_version) {
        set_map(p, g->map_version, g->partitions, g->grown_from);
    }
    if (!p->born && g->settled > p->settled)
        p->settled = g->settled;
    p->told_map = g->map_version;
    p->told_settled = g->settled;
    return good;
}

int pv_homes(const struct check *c, const char *job, uint32_t homes[MAPS])
{
    int count = 0;
    for (uint32_t version = 1; version < MAPS; version++) {
        if (!c->maps[version])
            continue;
        uint32_t home = pv_digest_slot(job) % c->maps[version];
        if (!count || homes[count - 1] != home)
            homes[count++] = home;
    }
    return count;
}

/* ---- moves ---- */

struct move *pv_move(const struct check *c, uint32_t version, uint32_t from, uint32_t to)
{
    for (size_t i = 0; i < c->move_count; i++) {
        struct move *move = &c->moves[i];
        if (move->version == version && move->from == from && move->to == to)
            return move;
    }
    return NULL;
}

static struct move *add_move(struct check *c, uint32_t version, uint32_t from, uint32_t to)
{
    struct move *move = pv_move(c, version, from, to);
    if (move)
        return move;
    c->moves = pv_must_grow(c->moves, c->move_count, &c->move_room, sizeof *c->moves);
    c->moves[c->move_count] =
        (struct move){.version = version, .from = from, .to = to, .out = -1, .in = -1, .arrived = -1, .out_in_pos = -1};
    return &c->moves[c->move_count++];
}

/* The growth by which the job's slot left this partition, as far as its journal has been read; NULL: none. */
const struct move *pv_move_away(const struct check *c, uint32_t partition, const char *job)
{
    uint32_t slot = pv_digest_slot(job);
    for (size_t i = 0; i < c->move_count; i++) {
        const struct move *move = &c->moves[i];
        uint32_t before = c->maps[move->version - 1], after = c->maps[move->version];
        if (move->out >= 0 && move->from == partition && slot % before == partition && slot % after == move->to)
            return move;
    }
    return NULL;
}

/* rule 25: from its SlotOut on a partition counts nothing for what has left, and a new one nothing before its SlotIn */
bool pv_slot_stays(struct check *c, const struct partition *p, const struct where *w, const char *job)
{
    const struct move *move = pv_move_away(c, w->partition, job);
    if (!move)
        return true;
    if (!p->hole && !p->damaged)
        pv_hold(c, false, 25, w, "its slot left for partition %" PRIu32 " with the SlotOut at %" PRId64 ": it does not count",
                move->to, move->out);
    return false;
}

static const struct move *move_in(const struct check *c, const struct partition *p, uint32_t partition)
{
    return p->grown_from ? pv_move(c, p->map_version, partition % p->grown_from, partition) : NULL;
}

/* What comes to a new partition before its SlotIn: a run that left its source. */
bool pv_run_comes(struct check *c, const struct partition *p, uint32_t partition, const struct run *run)
{
    const struct job *job = &c->jobs[run->job];
    return p->awaits && job->away && job->partition == partition % p->grown_from &&
           pv_digest_slot(job->id) % p->partitions == partition;
}

/* A run that is not known here may come when not all is known of its source. */
bool pv_may_come(struct check *c, const struct partition *p, uint32_t partition)
{
    const struct move *move = move_in(c, p, partition);
    return p->awaits && !(move && move->compared);
}

/* A new partition may have been read further than its source: then it is judged no further than its horizon. */
bool pv_source_read(struct check *c, struct partition *p, const struct where *w)
{
    const struct move *move = move_in(c, p, w->partition);
    if (!p->awaits || w->offset < p->horizon || (move && move->out >= 0))
        return true;
    pv_unchecked(c, w, "its slots came after their source was read: not judged from here on");
    p->stopped = true;
    return false;
}

void pv_run_arrives(struct check *c, struct partition *p, uint32_t partition, int64_t offset, struct run *run)
{
    struct job *job = &c->jobs[run->job];
    job->away = false;
    job->partition = partition;
    run->last = offset;
    if (run->state != RUN_OPEN)
        return;
    pv_add_live(c, p, run, true);
    *pv_reach(c, run, partition, p->in_generation, NULL) = (struct reach){.first = -1, .last = -1};
}

static bool is_live_hash(const ProtobufCBinaryData *bytes, unsigned __int128 hash)
{
    uint8_t live[DIGEST];
    for (int i = 0; i < DIGEST; i++)
        live[i] = (uint8_t)(hash >> (8 * i));
    return bytes->len == DIGEST && memcmp(bytes->data, live, DIGEST) == 0;
}

static unsigned __int128 hash_of(const struct check *c, const struct run *run)
{
    return pv_digest_live(c->jobs[run->job].id, run->id, run->seq, run->digest);
}

/* The job's newest run, if it is this partition's still, and remembered. */
static struct run *run_here(const struct check *c, const struct job *job, uint32_t partition)
{
    struct run *run = job->run < 0 || job->partition != partition || job->away ? NULL : &c->runs[job->run];
    return run && !run->forgotten ? run : NULL;
}

/* ---- SlotOut ---- */

/* One share: what was open here for that partition is away from now on. */
static void send_share(struct check *c, struct partition *p, const struct where *w, const Perdure__V1__SlotOut *s,
                       struct move *move, const Perdure__V1__SlotShare *share)
{
    bool known = p->whole && !p->hole && !p->damaged;
    move->live = 0;
    for (size_t i = 0; i < c->job_count; i++) {
        struct job *job = &c->jobs[i];
        struct run *run = run_here(c, job, w->partition);
        if (!run || pv_digest_slot(job->id) % s->partitions != move->to)
            continue;
        job->away = true;
        known &= !job->broken;
        if (run->state != RUN_OPEN)
            continue;
        move->live += hash_of(c, run);
        move->live_count++;
        pv_add_live(c, p, run, false);
        bool fresh;
        struct reach *reach = pv_reach(c, run, w->partition, p->in_generation, &fresh);
        if (fresh)
            reach->first = 0;
        reach->last = INT64_MAX; /* it was open here for as long as it was here */
    }
    move->compared = known;
    if (!known || !share)
        return;
    bool same = share->live_count == move->live_count && is_live_hash(&share->live_hash, move->live);
    pv_hold(c, same, 25, w,
            "its share for partition %" PRIu32 " names %" PRIu64 " open runs, %" PRIu64
            " count here, or their live hash is another", move->to, share->live_count, move->live_count);
}

static const Perdure__V1__SlotShare *share_of(const Perdure__V1__SlotOut *s, uint32_t to)
{
    for (size_t i = 0; i < s->n_shares; i++) {
        if (s->shares[i]->partition == to)
            return s->shares[i];
    }
    return NULL;
}

static void send_shares(struct check *c, struct partition *p, const struct message *m, const struct where *w,
                        const Perdure__V1__SlotOut *s)
{
    size_t expected = 0;
    for (uint32_t to = w->partition + s->grown_from; to < s->partitions; to += s->grown_from, expected++) {
        const Perdure__V1__SlotShare *share = share_of(s, to);
        struct move *move = add_move(c, s->map_version, w->partition, to);
        pv_hold(c, share != NULL, 25, w, "it has no share for partition %" PRIu32, to);
        send_share(c, p, w, s, move, share);
        if (!share)
            move->compared = false;
        else if (!move->compared) { /* as it says, then */
            move->live_count = share->live_count;
            move->live = 0;
            for (size_t i = share->live_hash.len; i > 0 && share->live_hash.len == DIGEST; i--)
                move->live = move->live << 8 | share->live_hash.data[i - 1];
        }
        move->out = m->offset;
        move->out_in_pos = p->in_pos;
        move->out_ms = m->append_ms;
    }
    pv_hold(c, s->n_shares == expected, 25, w, "%zu shares, where slots go to %zu partitions", s->n_shares, expected);
}

static enum verdict judge_arrived(struct check *c, struct partition *p, const struct message *m, const struct where *w,
                                  const Perdure__V1__SlotOut *s)
{
    if (!p->born && s->map_version > p->map_version && know_map(c, w, s->map_version, s->partitions, s->grown_from))
        set_map(p, s->map_version, s->partitions, s->grown_from);
    bool ours = s->map_version == p->map_version && s->partitions == p->partitions && s->grown_from == p->grown_from;
    if (!pv_hold(c, ours, 25, w, "slots have arrived of map %" PRIu32 ", its partition is at map %" PRIu32, s->map_version,
                 p->map_version))
        return REJECTED;
    pv_hold(c, !s->n_shares, 25, w, "slots that have arrived leave again: it has shares");
    for (size_t i = 0; i < c->move_count; i++) {
        if (c->moves[i].version == s->map_version && c->moves[i].from == w->partition && c->moves[i].arrived < 0)
            c->moves[i].arrived = m->offset;
    }
    p->moving = false;
    p->settled = p->told_settled = s->map_version;
    p->told_map = s->map_version;
    return COUNTED;
}

/* rules 24 and 25: one growth after another, each once */
static enum verdict judge_leaving(struct check *c, struct partition *p, const struct message *m, const struct where *w,
                                  const Perdure__V1__SlotOut *s)
{
    if (!pv_hold(c, s->map_version > p->map_version, 25, w, "a second SlotOut of map %" PRIu32, s->map_version))
        return REJECTED;
    bool next = s->map_version == p->map_version + 1 && s->grown_from == p->partitions;
    if (!pv_hold(c, next, 24, w,
                 "map %" PRIu32 " grown from %" PRIu32 " does not follow map %" PRIu32 " of %" PRIu32 " partitions",
                 s->map_version, s->grown_from, p->map_version, p->partitions) ||
        !know_map(c, w, s->map_version, s->partitions, s->grown_from)) {
        p->damaged = true;
        return REJECTED;
    }
    bool over = !p->moving && !p->awaits && (p->map_version == 1 || p->settled >= p->map_version || !p->born);
    pv_hold(c, over, 25, w, "it grows again before its moves of map %" PRIu32 " are over", p->map_version);
    send_shares(c, p, m, w, s);
    set_map(p, s->map_version, s->partitions, s->grown_from);
    p->moving = true;
    p->told_map = s->map_version;
    return COUNTED;
}

/* Both kinds stand in their owner's order, and are known by their number as Marks are. */
static enum verdict in_owner_order(struct check *c, struct partition *p, const struct where *w, const header_pb *h)
{
    if (!pv_in_epoch(p, h))
        return FENCED;
    if (h->n && h->n <= p->n && !p->hole)
        return DUPLICATE;
    bool in_order = pv_count_append(c, p, w, h);
    pv_hold(c, h->min_reader >= 3, 32, w, "a reader of rule level %" PRIu32 " may read that slots move", h->min_reader);
    pv_hold(c, p->any || p->hole, 9, w, "the first record of an epoch is not a Mark");
    pv_take_positions(c, p, w, h->in_pos, h->out_pos, in_order, false);
    return COUNTED;
}

enum verdict pv_judge_slot_out(struct check *c, struct partition *p, const struct message *m, const record_pb *r)
{
    struct where w = pv_where_of(m, r->header);
    enum verdict verdict = in_owner_order(c, p, &w, r->header);
    if (verdict != COUNTED)
        return verdict;
    if (!pv_hold(c, r->slot_out != NULL, 25, &w, "a SlotOut without its body"))
        return UNREADABLE;
    return r->slot_out->arrived ? judge_arrived(c, p, m, &w, r->slot_out) : judge_leaving(c, p, m, &w, r->slot_out);
}

/* ---- SlotIn ---- */

/* The SlotOut that it answers. NULL: there is none, or what is left of the source does not tell. */
static struct move *answered(struct check *c, struct partition *p, const struct message *m, const struct where *w,
                             const Perdure__V1__SlotIn *s)
{
    const struct partition *source = &c->partitions[s->partition];
    struct move *move = pv_move(c, s->map_version, s->partition, w->partition);
    if (move && move->out >= 0) {
        pv_hold(c, s->offset == move->out, 25, w, "it answers a SlotOut at %" PRId64 ", that of partition %" PRIu32
                " stands at %" PRId64, s->offset, s->partition, move->out);
        return move;
    }
    if (source->born && !source->stopped && !source->damaged && m->offset < p->horizon)
        pv_hold(c, false, 25, w, "no SlotOut of map %" PRIu32 " counts in partition %" PRIu32, s->map_version, s->partition);
    else
        pv_unchecked(c, w, "the SlotOut at %" PRId64 " of partition %" PRIu32 " is not among what was read: its copies are"
                     " compared with nothing", s->offset, s->partition);
    return add_move(c, s->map_version, s->partition, w->partition);
}

/* rule 25: all copies first. A closed run comes along while it is remembered. */
static void check_all_came(struct check *c, const struct partition *p, const struct where *at, int64_t t, uint32_t from)
{
    for (size_t i = 0; i < c->job_count; i++) {
        const struct job *job = &c->jobs[i];
        if (!job->away || job->partition != from || job->broken || pv_digest_slot(job->id) % p->partitions != at->partition)
            continue;
        const struct run *run = &c->runs[job->run];
        struct where w = *at;
        w.job = job->id;
        w.run = run->id;
        w.seq = run->seq;
        if (run->state == RUN_OPEN)
            pv_hold(c, false, 25, &w, "it left partition %" PRIu32 " open, and is not here as a whole", from);
        else
            pv_hold(c, run->keep_until <= t, 20, &w,
                    "it left partition %" PRIu32 " closed, is to be kept until %" PRId64 ", and is not here", from,
                    run->keep_until);
    }
}

static void compare_closed(struct check *c, const struct where *w, const Perdure__V1__SlotIn *s, struct move *move)
{
    unsigned __int128 hash = 0;
    uint64_t count = 0;
    for (size_t i = 0; i < c->job_count; i++) {
        const struct run *run = run_here(c, &c->jobs[i], w->partition);
        if (!run || run->state == RUN_OPEN)
            continue;
        hash += hash_of(c, run);
        count++;
    }
    move->closed = count;
    pv_hold(c, s->closed_count == count && is_live_hash(&s->closed_hash, hash), 25, w,
            "it names %" PRIu64 " closed runs, %" PRIu64 " are here, or their hash is another", s->closed_count, count);
}

static void compare_counts(struct check *c, const struct partition *p, const struct where *w,
                           const Perdure__V1__SlotIn *s, struct move *move)
{
    bool known = !p->hole && !p->damaged;
    move->open = p->live_count;
    if (known)
        pv_hold(c, s->live_count == p->live_count && is_live_hash(&s->live_hash, p->live), 25, w,
                "it names %" PRIu64 " open runs, copies of %" PRIu64 " are here, or their live hash is another",
                s->live_count, p->live_count);
    if (move->out >= 0)
        pv_hold(c, s->live_count == move->live_count && is_live_hash(&s->live_hash, move->live), 25, w,
                "it names %" PRIu64 " open runs, the SlotOut %" PRIu64 ", or their live hashes differ", s->live_count,
                move->live_count);
    if (known)
        compare_closed(c, w, s, move);
}

enum verdict pv_judge_slot_in(struct check *c, struct partition *p, const struct message *m, const record_pb *r)
{
    struct where w = pv_where_of(m, r->header);
    enum verdict verdict = in_owner_order(c, p, &w, r->header);
    if (verdict != COUNTED)
        return verdict;
    const Perdure__V1__SlotIn *s = r->slot_in;
    if (!pv_hold(c, s != NULL, 25, &w, "a SlotIn without its body"))
        return UNREADABLE;
    bool ours = s->map_version == p->map_version && p->grown_from && w.partition >= p->grown_from &&
                s->partition == w.partition % p->grown_from;
    if (!pv_hold(c, ours, 25, &w, "slots of map %" PRIu32 " from partition %" PRIu32 " are not this partition's",
                 s->map_version, s->partition) ||
        !pv_hold(c, p->awaits || !p->born, 25, &w, "a second SlotIn of map %" PRIu32, s->map_version))
        return REJECTED;
    struct move *move = answered(c, p, m, &w, s);
    if (p->born)
        compare_counts(c, p, &w, s, move);
    if (move->compared)
        check_all_came(c, p, &w, r->header->t, s->partition);
    move->in = m->offset;
    p->awaits = false;
    p->slots_in_pos = p->in_pos;
    p->settled = p->told_settled = s->map_version;
    p->told_map = s->map_version;
    return COUNTED;
}

/* ---- the end ---- */

/* rule 25: a move goes on in its order, whatever the order in which the journals were read */
static void check_order(struct check *c, const struct move *move)
{
    const struct partition *from = &c->partitions[move->from];
    const struct partition *to = move->to < c->partition_count ? &c->partitions[move->to] : NULL;
    struct where w = {.stream = JOURNAL, .partition = move->from, .offset = move->arrived};
    if (move->arrived < 0 || move->arrived >= from->horizon || !to || !to->born || to->stopped || to->damaged)
        return;
    pv_hold(c, move->in >= 0, 25, &w, "it says that its slots have arrived, partition %" PRIu32 " has no SlotIn of them",
            move->to);
}

void pv_slots_finish(struct check *c)
{
    for (size_t i = 0; i < c->move_count; i++) {
        check_order(c, &c->moves[i]);
        const struct move *move = &c->moves[i];
        struct where w = {.stream = JOURNAL, .partition = move->to, .offset = move->in};
        if (move->in >= 0 && move->out >= 0 && !move->compared)
            pv_unchecked(c, &w, "not all is left of partition %" PRIu32 " before its SlotOut at %" PRId64
                         ": a part of the copies is compared with nothing", move->from, move->out);
    }
}
