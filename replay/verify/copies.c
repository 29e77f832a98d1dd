/* Copies, stubs and cuts (rules 17 to 20), whether a head is cut or slots have moved. Of a log whose head is gone less can be known: what is not known is no
 * violation there. */
#include <stdlib.h>
#include <string.h>

#include "verify.h"

bool pv_was_cut(struct check *c, const char *job)
{
    uint32_t homes[MAPS];
    int count = pv_homes(c, job, homes);
    for (int i = 0; i < count; i++) {
        const struct partition *home = homes[i] < c->partition_count ? &c->partitions[homes[i]] : NULL;
        if (home && home->seen && (home->cut > 0 || !home->whole || !home->born))
            return true;
    }
    return false;
}

/* Known from where its slot was before; what it did here lies below a cut. It is told by a copy or a stub, as one that is not
 * known at all. */
bool pv_ran_below(const struct check *c, const struct partition *p, uint32_t partition, uint32_t job)
{
    return !p->whole && c->jobs[job].run >= 0 && c->jobs[job].away && c->jobs[job].partition != partition;
}

/* A copy that is not whole counts for nothing. */
void pv_copy_drop(struct partition *p)
{
    for (size_t i = 0; i < p->copy.held_count; i++)
        free(p->copy.held[i].data);
    p->copy.held_count = 0;
    p->copy.on = false;
}

/* Where the copied record stood first: here, or where the job's slot was before. */
static bool stood_somewhere(const struct check *c, const struct message *m, const header_pb *h)
{
    uint32_t homes[MAPS];
    int count = pv_homes(c, h->job, homes);
    for (int i = 0; i < count; i++) {
        if (homes[i] == h->copy->partition && homes[i] < c->partition_count)
            return true;
    }
    return h->copy->partition == m->partition;
}

/* Whether this is a copy of what the reader has, or may lack; false: of neither. */
static bool may_be_copied(struct check *c, struct partition *p, const struct message *m, const header_pb *h, uint32_t job)
{
    struct where w = pv_where_of(m, h);
    const struct run *run = c->jobs[job].run < 0 ? NULL : &c->runs[c->jobs[job].run];
    bool known = run && run->id == h->run;
    if (known && (pv_run_comes(c, p, m->partition, run) || pv_ran_below(c, p, m->partition, job)))
        return true;
    if (known && c->jobs[job].partition != m->partition)
        return pv_hold(c, false, 25, &w, "a copy of a run that has not left partition %" PRIu32, c->jobs[job].partition);
    if (known && p->awaits) /* once more, by the next owner */
        return true;
    if (!pv_hold(c, !run || known == (run->state == RUN_OPEN), 18, &w,
                 "a copy of a run that is not the open one of its job"))
        return false;
    return known || pv_hold(c, !p->whole || pv_may_come(c, p, m->partition), 18, &w, "a copy of a run that never was");
}

static bool copy_begins(struct check *c, struct partition *p, const struct message *m, const header_pb *h, uint32_t job)
{
    pv_copy_drop(p);
    if (!may_be_copied(c, p, m, h, job))
        return false;
    p->copy.on = true;
    p->copy.known = c->jobs[job].run >= 0 && c->runs[c->jobs[job].run].id == h->run;
    p->copy.job = job;
    p->copy.run = h->run;
    p->copy.part = 0;
    p->copy.parts = h->copy->parts;
    p->copy.seq = 0;
    p->copy.first = m->offset;
    pv_digest_first(h->run, p->copy.digest);
    for (size_t i = 0; i < h->copy->n_requests; i++)
        pv_table_put(&c->known, pv_hash_two(job, pv_hash_text(h->copy->requests[i])), NULL);
    return true;
}

static void hold_part(struct partition *p, const struct message *m)
{
    p->copy.held = pv_must_grow(p->copy.held, p->copy.held_count, &p->copy.held_room, sizeof *p->copy.held);
    struct held *held = &p->copy.held[p->copy.held_count++];
    *held = (struct held){.data = pv_must_alloc(m->size), .size = m->size, .offset = m->offset};
    memcpy(held->data, m->data, m->size);
}

/* A part of a run that was not known: its events are judged as they were when they counted first, where that was. */
static void part_of_unknown(struct check *c, const struct message *m, const record_pb *r, struct run *run)
{
    struct message first = *m;
    first.partition = r->header->copy->partition;
    first.offset = r->header->copy->offset;
    c->copying = true;
    pv_check_events(c, &first, r, run);
    c->copying = false;
    pv_note_counted(c, &first, r->header);
    memcpy(run->digest, r->header->digest.data, DIGEST);
    run->seq += r->n_events;
    run->last = m->offset;
}

/* rule 18: all n parts, or none. `run`: what is known of it already */
static struct run *take_over(struct check *c, struct partition *p, const struct message *last, struct run *run)
{
    for (size_t i = 0; i < p->copy.held_count; i++) {
        const struct held *held = &p->copy.held[i];
        struct message m = *last;
        record_pb *r;
        m.data = held->data;
        m.size = held->size;
        m.offset = held->offset;
        if (pv_frame_open(m.data, m.size, &r) != FRAME_GOOD)
            continue; /* it was when it came */
        run = run ? run : pv_begin_run(c, &m, p->copy.job, r->header);
        part_of_unknown(c, &m, r, run);
        perdure__v1__record__free_unpacked(r, NULL);
    }
    return run;
}

static void copy_ends(struct check *c, struct partition *p, const struct message *m, const header_pb *h)
{
    struct where w = pv_where_of(m, h);
    bool below = p->copy.known && pv_ran_below(c, p, m->partition, p->copy.job);
    struct run *run = take_over(c, p, m, p->copy.known ? &c->runs[c->jobs[p->copy.job].run] : NULL);
    bool whole = pv_hold(c, p->copy.seq == run->seq, 18, &w,
                         "a whole copy ends at seq %" PRIu64 ", its run at %" PRIu64, p->copy.seq, run->seq);
    if (whole) {
        run->first = run->kept = p->copy.first;
        if (!p->copy.known && run->state == RUN_OPEN)
            pv_add_live(c, p, run, true);
        else if (!p->copy.known)
            pv_end_life(run);
        else if (below || pv_run_comes(c, p, m->partition, run))
            pv_run_arrives(c, p, m->partition, m->offset, run);
    }
    pv_copy_drop(p);
}

/* What is known is compared, what is not is held until the last part. */
static void take_part(struct check *c, struct partition *p, const struct message *m, const header_pb *h)
{
    struct where w = pv_where_of(m, h);
    bool below = p->copy.known && pv_ran_below(c, p, m->partition, p->copy.job) && h->seq > c->runs[c->jobs[p->copy.job].run].seq;
    if (p->copy.known && !below) {
        pv_hold(c, pv_was_counted(c, h), 18, &w, "a copy of what never counted");
        pv_hold(c, pv_stood_at(c, h, h->copy->partition, h->copy->offset), 18, &w,
                "it says that its original stood at %" PRIu32 ":%" PRId64 ", where it did not", h->copy->partition,
                h->copy->offset);
    } else {
        pv_hold(c, !memcmp(h->prev.data, p->copy.digest, DIGEST), 18, &w, "its prev is not the digest of the part before");
        hold_part(p, m);
    }
    memcpy(p->copy.digest, h->digest.data, DIGEST);
    p->copy.part++;
    p->copy.seq = h->seq + h->count - 1;
}

static bool is_copy(struct check *c, const struct partition *p, const struct message *m, const record_pb *r)
{
    const header_pb *h = r->header;
    struct where w = pv_where_of(m, h);
    return pv_slot_stays(c, p, &w, h->job) && pv_check_header(c, p, m, r) &&
           pv_hold(c, pv_digest_agrees(r), 33, &w, "the digest is not that of the events") &&
           pv_hold(c, h->copy && h->copy->part >= 1 && h->copy->part <= h->copy->parts, 18, &w,
                   "a copy that does not say which part it is") &&
           pv_hold(c, stood_somewhere(c, m, h), 18, &w, "its original stood in partition %" PRIu32 ", where its slot never was",
                   h->copy->partition);
}

enum verdict pv_judge_copy(struct check *c, struct partition *p, const struct message *m, const record_pb *r)
{
    const header_pb *h = r->header;
    struct where w = pv_where_of(m, h);
    if (!pv_in_epoch(p, h))
        return FENCED;
    if (h->n <= p->n && !p->hole)
        return DUPLICATE;
    pv_count_append(c, p, &w, h);
    uint32_t job = pv_check_job(c, h->job);
    if (!is_copy(c, p, m, r) || (h->copy->part == 1 && !copy_begins(c, p, m, h, job)))
        return REJECTED;
    bool next = p->copy.on && p->copy.job == job && p->copy.run == h->run && h->copy->part == p->copy.part + 1 &&
                h->copy->parts == p->copy.parts && h->seq == p->copy.seq + 1;
    if (!next) { /* a part before it was lost: then its owner claims anew */
        pv_hold(c, p->hole || p->damaged || !p->whole, 18, &w,
                "a part of a copy without the one before, and no append is missing");
        pv_copy_drop(p);
        return REJECTED;
    }
    take_part(c, p, m, h);
    if (p->copy.part == p->copy.parts)
        copy_ends(c, p, m, h);
    return COUNTED;
}

/* ---- stubs ---- */

static uint8_t stub_state(const char *name)
{
    static const char *const names[] = {[RUN_OPEN] = "", [RUN_COMPLETED] = "completed", [RUN_FAILED] = "failed",
                                        [RUN_CANCELLED] = "cancelled", [RUN_TERMINATED] = "terminated"};
    for (uint8_t i = RUN_COMPLETED; i < RUN_STATES; i++) {
        if (!strcmp(name, names[i]))
            return i;
    }
    return RUN_OPEN;
}

/* `run`: what is known of it, from below a cut */
static void stub_of_unknown(struct check *c, const struct message *m, const record_pb *r, uint32_t job, struct run *run)
{
    const header_pb *h = r->header;
    c->jobs[job].away = false;
    c->jobs[job].partition = m->partition;
    if (!run)
        run = pv_begin_run(c, m, job, h);
    run->stub = true;
    run->seq = h->seq;
    run->t = h->t;
    memcpy(run->digest, h->digest.data, DIGEST);
    run->state = stub_state(r->stub->state);
    run->keep_until = r->stub->keep_until;
    if (r->stub->last_input) {
        run->in_partition = c->maps[2] ? NO_PARTITION : m->partition; /* a stub does not say: where its slot was, perhaps */
        run->in_generation = r->stub->last_input->generation;
        run->in_last = r->stub->last_input->offset;
    }
    if (run->life)
        pv_end_life(run);
    for (size_t i = 0; i < r->stub->n_requests; i++) {
        pv_table_put(&c->known, pv_hash_two(job, pv_hash_text(r->stub->requests[i])), NULL);
        pv_lists_stub(c, job, r->stub->requests[i]);
    }
}

static void stub_of_known(struct check *c, const struct where *w, const record_pb *r, const struct run *run)
{
    const header_pb *h = r->header;
    bool same = run->state == stub_state(r->stub->state) && run->seq == h->seq &&
                !memcmp(run->digest, h->digest.data, DIGEST);
    pv_hold(c, same, 20, w, "a stub that tells of another end than its run's");
    pv_hold(c, r->stub->keep_until == run->keep_until, 20, w, "a stub that is kept until %" PRId64 ", its run until %" PRId64,
            r->stub->keep_until, run->keep_until);
}

enum verdict pv_judge_stub(struct check *c, struct partition *p, const struct message *m, const record_pb *r)
{
    const header_pb *h = r->header;
    struct where w = pv_where_of(m, h);
    if (!pv_in_epoch(p, h))
        return FENCED;
    if (h->n <= p->n && !p->hole)
        return DUPLICATE;
    pv_count_append(c, p, &w, h);
    if (!pv_slot_stays(c, p, &w, h->job))
        return REJECTED;
    if (!pv_hold(c, r->stub && *h->job && h->run && h->seq && h->digest.len == DIGEST && stub_state(r->stub->state), 20, &w,
                 "a stub that does not say how which run ended"))
        return REJECTED;
    uint32_t job = pv_check_job(c, h->job);
    struct run *run = c->jobs[job].run < 0 ? NULL : &c->runs[c->jobs[job].run];
    if (run && run->id == h->run && h->seq > run->seq && pv_ran_below(c, p, m->partition, job)) {
        stub_of_unknown(c, m, r, job, run);
        run->first = run->kept = m->offset;
    } else if (run && run->id == h->run) {
        stub_of_known(c, &w, r, run);
        run->first = run->kept = m->offset;
        if (pv_run_comes(c, p, m->partition, run))
            pv_run_arrives(c, p, m->partition, m->offset, run);
    } else if (pv_hold(c, (!p->whole || pv_may_come(c, p, m->partition)) && (!run || run->state != RUN_OPEN), 20, &w,
                       "a stub of a run that is not its job's last")) {
        stub_of_unknown(c, m, r, job, NULL);
    }
    return COUNTED;
}

/* ---- cuts ---- */

/* A run that no longer stands above the cut must be one that may be forgotten. */
static void check_left_out(struct check *c, const struct partition *p, const struct where *at, const record_pb *r,
                           const struct run *run)
{
    struct where w = *at;
    const mark_pb *mark = r->mark;
    w.job = c->jobs[run->job].id;
    w.run = run->id;
    w.seq = run->seq;
    if (!pv_hold(c, run->state != RUN_OPEN, 17, &w, "it is open, lies below the cut %" PRId64 ", and was not copied",
                 mark->cut))
        return;
    pv_hold(c, run->keep_until <= r->header->t + BORN_AHEAD_MS, 20, &w, "left out at %" PRId64 ", to be kept until %" PRId64,
            r->header->t, run->keep_until);
    bool behind = run->in_last < 0 || run->in_partition != w.partition || run->in_generation < p->in_generation ||
                  (run->in_generation == p->in_generation && run->in_last < p->in_pos);
    pv_hold(c, behind, 20, &w, "left out, and in_pos is not past its last input");
    pv_hold(c, run->last < mark->out_pos, 20, &w, "left out, and out_pos is not past its last record");
}

void pv_check_cut(struct check *c, struct partition *p, const struct message *m, const record_pb *r)
{
    struct where w = pv_where_of(m, r->header);
    const mark_pb *mark = r->mark;
    pv_hold(c, mark->cut == p->claim, 17, &w, "the cut %" PRId64 " is not at its owner's claim, %" PRId64, mark->cut,
            p->claim);
    pv_hold(c, !p->moving, 25, &w, "a cut before the slots that left have arrived");
    bool told = !p->born || (p->told_map == p->map_version && p->told_settled >= p->settled);
    pv_hold(c, told, 19, &w, "from the cut on nothing tells of map %" PRIu32 ", or that its moves are over", p->map_version);
    pv_hold(c, mark->cut > p->cut, 17, &w, "the cut %" PRId64 " is not above the one before, %" PRId64, mark->cut, p->cut);
    pv_hold(c, mark->out_pos >= mark->cut, 10, &w, "what lies below the cut is not all sent: out_pos %" PRId64,
            mark->out_pos);
    for (size_t i = 0; i < c->job_count && p->whole && !p->hole && !p->damaged; i++) {
        const struct job *job = &c->jobs[i];
        bool here = job->run >= 0 && job->partition == m->partition && !job->away && !job->broken;
        struct run *run = here ? &c->runs[job->run] : NULL;
        if (!run || run->kept >= mark->cut || run->forgotten || run->stopped)
            continue;
        check_left_out(c, p, &w, r, run);
        run->forgotten = true;
    }
    if (mark->cut > p->cut)
        p->cut = mark->cut;
    p->whole |= mark->cut >= p->begin;
}
