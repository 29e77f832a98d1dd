/*
 * Judging what retention writes: the parts of a copy, which count together or not at all (rule 18), stubs, and the cut of
 * a Mark, below which no closed run is remembered (rules 17, 19, 20).
 */
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/judge_internal.h"
#include "engine/engine.h"
#include "engine/rules.h"

/* Copies of different runs do not interleave: one is being read at a time. */
struct partial_copy {
    struct run *run;  /* as far as the parts tell; not in the table */
    uint32_t part, parts;
    int64_t first;    /* offset of part 1 */
    bool known;       /* the run is in the table: what the parts hold is there already */
};

void judge_partial_drop(struct judge *judge)
{
    if (!judge->partial)
        return;
    run_free(judge->partial->run);
    free(judge->partial);
    judge->partial = NULL;
}

bool judge_copy_is_under_way(const struct judge *judge) { return judge->partial && !judge->partial->known; }

/* Rule 18: no other append of that job in between. */
void judge_partial_interrupt(struct judge *judge, const char *job)
{
    if (judge->partial && strcmp(judge->partial->run->job, job) == 0)
        judge_partial_drop(judge);
}

static struct partial_copy *partial_begin(struct judge *judge, int64_t offset, const Header *header)
{
    judge_partial_drop(judge);
    struct partial_copy *partial = calloc(1, sizeof *partial);
    struct run *run = calloc(1, sizeof *run);
    char *job = strdup(header->job);
    if (!partial || !run || !job) {
        free(partial);
        free(run);
        free(job);
        return NULL;
    }
    const struct run *known = judge_find(judge, header->job);
    run->job = job;
    run->hash = hash64(job, strlen(job));
    run->run = header->run;
    run->digest = digest_of_run(header->run);
    run->last_input = -1;
    partial->run = run;
    partial->parts = header->copy->parts;
    partial->first = offset;
    partial->known = known && known->seq > 0 && known->run == header->run;
    for (size_t i = 0; i < header->copy->n_requests; i++)
        if (request_set_add(&run->requests, header->copy->requests[i]) != PDR_OK) {
            run_free(run);
            free(partial);
            return NULL;
        }
    return judge->partial = partial;
}

static bool part_continues(const struct partial_copy *partial, const Header *header)
{
    const struct run *run = partial->run;
    return run->run == header->run && strcmp(run->job, header->job) == 0 && partial->parts == header->copy->parts &&
           header->copy->part == partial->part + 1 && header->seq == run->seq + 1 &&
           digest_equal(digest_from_bytes(header->prev), run->digest);
}

/* A run that was unknown goes into the table, in the place of an older run of its id. */
static struct run *run_install(struct judge *judge, struct run *from)
{
    struct run *run = judge_find_or_add(judge, from->job);
    if (!run)
        return NULL;
    int64_t known_from = run->seq > 0 && run->known_from < from->first ? run->known_from : from->first;
    judge_live(judge, run, false);
    run_begin_again(run);
    struct run place = *run;
    for (uint32_t i = 0; i < place.requests.recent_count; i++)
        (void)request_set_add(&from->requests, place.requests.recent[i]);
    run_clear(run);
    place = *run;
    *run = *from;
    run->known_from = known_from;
    run->next = place.next;
    run->hash = place.hash;
    run->job = place.job;
    run->user = place.user;
    run->changed = true;
    memset(&from->requests, 0, sizeof from->requests); /* they are the table's now */
    from->parent = NULL;
    from->outcome = NULL;
    from->crashes = NULL;
    judge_live(judge, run, true);
    return run;
}

static enum judge_verdict copy_of_known(struct judge *judge, struct partial_copy *partial, struct judged *out)
{
    struct run *run = judge_find(judge, partial->run->job);
    const struct run *copied = partial->run;
    if (!run || run->run != copied->run || run->seq != copied->seq || !digest_equal(run->digest, copied->digest))
        return JUDGE_REJECTED;
    for (uint32_t i = 0; i < copied->requests.recent_count; i++) /* of earlier runs: who began at the cut has not met them */
        if (request_set_add(&run->requests, copied->requests.recent[i]) != PDR_OK)
            return JUDGE_NO_MEMORY;
    run->first = run->known_from = partial->first;
    run->last = copied->last; /* as for who began at the cut: Marks compare it with what another reader had (rule 9) */
    run->changed = true;
    out->run = run;
    return JUDGE_COPY;
}

static enum judge_verdict copy_is_whole(struct judge *judge, struct judged *out)
{
    struct partial_copy *partial = judge->partial;
    enum judge_verdict verdict = JUDGE_COPY;
    const struct run *other = judge_find(judge, partial->run->job);
    RULE_FIRED(COPY_WHOLE);
    if (partial->known) {
        verdict = copy_of_known(judge, partial, out);
    } else if (other && run_is_open(other) && other->run != partial->run->run) {
        verdict = JUDGE_REJECTED; /* it is not over: nobody could have begun another */
    } else {
        partial->run->first = partial->first;
        out->run = run_install(judge, partial->run);
        out->new_run = true;
        verdict = out->run ? JUDGE_COPY : JUDGE_NO_MEMORY;
    }
    judge_partial_drop(judge);
    return verdict;
}

/* The mutation: each part counts as soon as it is read. */
static enum judge_verdict copy_counts_singly(struct judge *judge, struct judged *out)
{
    struct run *known = judge_find(judge, judge->partial->run->job), *part = judge->partial->run;
    if (judge->partial->known || (known && run_is_open(known) && known->run != part->run))
        return JUDGE_COPY;
    if (!known && !(known = judge_find_or_add(judge, part->job)))
        return JUDGE_NO_MEMORY;
    judge_live(judge, known, false);
    known->run = part->run;
    known->seq = part->seq;
    known->digest = part->digest;
    known->first = judge->partial->first;
    known->last = part->last;
    known->type = part->type;
    known->build = part->build;
    known->end = part->end;
    known->t = part->t;
    known->changed = true;
    judge_live(judge, known, true);
    out->run = known;
    out->new_run = true;
    return JUDGE_COPY;
}

enum judge_verdict judge_copy(struct judge *judge, int64_t offset, const Record *record, struct judged *out)
{
    const Header *header = record->header;
    digest after;
    if (!judge_epoch_is_current(judge, header)) {
        RULE_FIRED(FENCE);
        return JUDGE_FENCED;
    }
    if (header->n <= judge->n)
        return JUDGE_DUPLICATE; /* a late copy of a copy */
    enum judge_verdict verdict = judge_open_events(record, &after, out);
    if (verdict != JUDGE_COUNTED)
        return verdict;
    if (header->copy->part == 1 && !partial_begin(judge, offset, header))
        return JUDGE_NO_MEMORY;
    struct partial_copy *partial = judge->partial;
    if (!partial || !part_continues(partial, header))
        return JUDGE_REJECTED;
    struct run *run = partial->run;
    out->unknown = !partial->known;
    partial->part++;
    run->seq = header->seq + out->count - 1;
    run->digest = after;
    run->last = offset;
    int code = run_on_inputs(run, header);
    for (size_t i = 0; i < out->count && code == PDR_OK; i++)
        code = run_on_event(judge, run, out->events[i]);
    run_on_rest(run, header->rests);
    judge_counted(judge, offset, header);
    if (code != PDR_OK)
        return JUDGE_NO_MEMORY;
    if (!RULE(COPY_WHOLE))
        verdict = copy_counts_singly(judge, out);
    else
        verdict = JUDGE_COPY;
    return verdict == JUDGE_COPY && partial->part == partial->parts ? copy_is_whole(judge, out) : verdict;
}

/* ---- stubs ------------------------------------------------------------------------------------------------------ */

static int run_of_stub(struct judge *judge, struct run *run, int64_t offset, const Record *record)
{
    const Header *header = record->header;
    const Stub *stub = record->stub;
    int code = PDR_OK;
    run->run = header->run;
    run->seq = header->seq;
    run->digest = digest_from_bytes(header->digest);
    run->first = run->last = offset;
    run->t = header->t;
    run->created = stub->created;
    run->keep_ms = stub->keep_ms;
    run->keep_until = stub->keep_until;
    run->input_digest = stub->input_digest;
    run->end = run_end_of(stub->state);
    run->type = judge_intern(judge, header->type);
    run->build = judge_intern(judge, header->build);
    run->last_input = -1;
    if (stub->last_input) {
        run->last_generation = stub->last_input->generation;
        run->last_input = stub->last_input->offset;
    }
    for (size_t i = 0; i < stub->n_requests && code == PDR_OK; i++)
        code = request_set_add(&run->requests, stub->requests[i]);
    if (stub->parent_job[0] && (run->parent = calloc(1, sizeof *run->parent))) {
        run->parent->job = strdup(stub->parent_job);
        run->parent->run = stub->parent_run;
        run->parent->op = stub->parent_op;
    }
    run->outcome = calloc(1, sizeof *run->outcome);
    if (run->outcome && stub->result)
        run->outcome->result = payload_copy(stub->result);
    if (run->outcome && stub->error)
        run->outcome->error = error_copy(stub->error);
    bool failed = !run->type || !run->build || !run->outcome || (stub->result && !run->outcome->result) ||
                  (stub->error && !run->outcome->error) || (stub->parent_job[0] && (!run->parent || !run->parent->job));
    return failed ? PDR_NO_MEMORY : code;
}

static enum judge_verdict stub_of_unknown(struct judge *judge, int64_t offset, const Record *record, struct judged *out)
{
    struct run *run = calloc(1, sizeof *run);
    enum judge_verdict verdict = JUDGE_NO_MEMORY;
    if (run && (run->job = strdup(record->header->job)) && run_of_stub(judge, run, offset, record) == PDR_OK &&
        (out->run = run_install(judge, run)) != NULL) {
        out->new_run = true;
        verdict = JUDGE_STUB;
    }
    if (run)
        run_free(run);
    return verdict;
}

enum judge_verdict judge_stub(struct judge *judge, int64_t offset, const Record *record, struct judged *out)
{
    const Header *header = record->header;
    if (!judge_epoch_is_current(judge, header)) {
        RULE_FIRED(FENCE);
        return JUDGE_FENCED;
    }
    if (header->n <= judge->n)
        return JUDGE_DUPLICATE;
    struct run *run = judge_find(judge, header->job);
    bool known = run && run->seq > 0 && run->run == header->run;
    if (run_end_of(record->stub->state) == RUN_OPEN || (run && run_is_open(run)) ||
        (known && (run->seq != header->seq || !digest_equal(run->digest, digest_from_bytes(header->digest)))))
        return JUDGE_REJECTED;
    enum judge_verdict verdict = JUDGE_STUB;
    judge_partial_interrupt(judge, header->job);
    if (known) {
        for (size_t i = 0; i < record->stub->n_requests; i++)
            if (request_set_add(&run->requests, record->stub->requests[i]) != PDR_OK)
                return JUDGE_NO_MEMORY;
        run->first = run->last = run->known_from = offset;
        run->changed = true;
        out->run = run;
    } else {
        verdict = stub_of_unknown(judge, offset, record, out);
    }
    judge_counted(judge, offset, header);
    return verdict;
}

/* ---- cuts --------------------------------------------------------------------------------------------------------- */

bool judge_at_mark(struct judge *judge, const Mark *mark)
{
    if (mark->cut > judge->cut) {
        judge->cut = mark->cut;
        judge->swept = 0;
    }
    /* Whoever began at the cut, or before it, has met every run that must stay. */
    if (mark->cut > 0 && judge->begin >= 0 && mark->cut >= judge->begin)
        judge->whole = true;
    return judge->whole;
}

static bool run_is_forgotten(const struct judge *judge, const struct run *run)
{
    return run->seq > 0 && !run_is_open(run) && run->first < judge->cut;
}

bool judge_sweep(struct judge *judge, size_t budget, bool (*visit)(void *context, struct run *run), void *context)
{
    if (judge->cut == 0 || judge->swept == SIZE_MAX)
        return false;
    for (; judge->swept < judge->capacity && budget > 0; judge->swept++, budget--)
        for (struct run **link = &judge->table[judge->swept]; *link;) {
            struct run *run = *link;
            bool empty = run->seq == 0 && !run->user; /* an id that was asked for and never lived */
            if (!empty && (!run_is_forgotten(judge, run) || !visit(context, run))) {
                link = &run->next; /* who is kept goes with the next cut */
                continue;
            }
            *link = run->next;
            judge->count--;
            run_free(run);
        }
    if (judge->swept >= judge->capacity)
        judge->swept = SIZE_MAX;
    return judge->swept != SIZE_MAX;
}
