/* Commands to partitions (the talk about moving slots), and commands that are forwarded when their slot has left: the
 * request id and `born` stay, so the same command stands in two inboxes, and is absorbed from one (rule 25). */
#include <stdlib.h>
#include <string.h>

#include "verify.h"

/* What one partition tells another follows from its journal (rule 8): SlotOut, or SlotIn. */
static void check_slots_moved(struct check *c, const struct where *w, const Perdure__V1__SlotsMoved *s)
{
    uint32_t from = s->arrived ? w->partition : s->partition, to = s->arrived ? s->partition : w->partition;
    const struct move *move = pv_move(c, s->map_version, from, to);
    const struct partition *speaker = s->partition < c->partition_count ? &c->partitions[s->partition] : NULL;
    bool known = speaker && speaker->born && !speaker->stopped && !speaker->damaged;
    if (!known && !(move && move->out >= 0))
        return;
    bool stands = move && (s->arrived ? move->in >= 0 || !known : move->out >= 0); /* or below a cut */
    bool holds = stands && (move->out < 0 || move->out == s->offset);
    pv_hold(c, holds, 8, w, "partition %" PRIu32 " says that the slots of the SlotOut at %" PRId64 " %s: no such record counts",
            s->partition, s->offset, s->arrived ? "have arrived" : "are to be taken");
}

void pv_partition_command(struct check *c, const struct where *w, const record_pb *r)
{
    c->totals.skips[SKIP_PARTITION]++;
    if (r->command->kind_case == PERDURE__V1__COMMAND__KIND_SLOTS_MOVED && w->offset < c->partitions[w->partition].inbox_horizon)
        check_slots_moved(c, w, r->command->slots_moved);
}

/* ---- forwarded ---- */

/* All of a command that is kept when it is forwarded. */
static uint64_t whole_of(const record_pb *r)
{
    size_t size = perdure__v1__command__get_packed_size(r->command);
    uint8_t *bytes = pv_must_alloc(size);
    perdure__v1__command__pack(r->command, bytes);
    const header_pb *h = r->header;
    uint64_t key = pv_hash_three(pv_hash_text(h->job), h->run, pv_hash_bytes(bytes, size));
    free(bytes);
    const sender_pb *s = h->sender;
    uint64_t sender = s ? pv_hash_three(pv_hash_text(s->job), s->run, pv_hash_three(s->seq, s->index, s->partition)) : 0;
    return pv_hash_three(key, (uint64_t)h->born, pv_hash_two((uint64_t)h->life, sender));
}

static uint64_t request_of(const record_pb *r)
{
    return pv_hash_three(pv_hash_text(r->header->job), pv_hash_text(r->command->request), r->command->kind_case);
}

void pv_note_carried(struct check *c, const struct where *w, const record_pb *r)
{
    if (!c->maps[2])
        return; /* nothing ever moved */
    pv_table_put(&c->carried, pv_hash_two(w->partition, whole_of(r)), NULL);
    pv_table_put(&c->carried, pv_hash_two(w->partition, request_of(r)), NULL);
}

void pv_note_forward(struct check *c, const struct where *w, const record_pb *r, bool excused)
{
    c->forwards = pv_must_grow(c->forwards, c->forward_count, &c->forward_room, sizeof *c->forwards);
    c->forwards[c->forward_count++] = (struct forward){.partition = w->partition,
                                                       .job = pv_check_job(c, w->job),
                                                       .offset = w->offset,
                                                       .run = r->header->run,
                                                       .whole = whole_of(r),
                                                       .request = request_of(r),
                                                       .excused = excused};
}

static void finish_forward(struct check *c, const struct forward *f)
{
    struct where w = {
        .stream = INBOX, .partition = f->partition, .offset = f->offset, .job = c->jobs[f->job].id, .run = f->run};
    uint32_t homes[MAPS];
    int count = pv_homes(c, w.job, homes);
    bool as_it_was = false, somehow = false, trimmed = false;
    for (int i = 0; i < count; i++) {
        const struct partition *home = homes[i] < c->partition_count ? &c->partitions[homes[i]] : NULL;
        if (homes[i] == f->partition || !home)
            continue;
        as_it_was |= pv_table_find(&c->carried, pv_hash_two(homes[i], f->whole)) != NULL;
        somehow |= pv_table_find(&c->carried, pv_hash_two(homes[i], f->request)) != NULL;
        trimmed |= home->inbox_first < 0 || home->inbox_first > 1 || home->inbox_stopped || home->truncated;
    }
    c->totals.skips[as_it_was ? SKIP_FORWARDED : SKIP_DROPPED]++;
    if (as_it_was || (f->excused && !somehow))
        return;
    if (trimmed) {
        pv_unchecked(c, &w, "whether this command was forwarded: the inbox of its new partition has been trimmed");
        return;
    }
    /* Who asked again directly sent the same request id, and a `born` of its own. */
    pv_hold(c, somehow, 25, &w, "its slot left with the SlotOut at %" PRId64 ", in_pos passed it, and no inbox of its new "
            "partition has it: lost", pv_move_away(c, f->partition, w.job)->out);
    if (somehow && !f->excused)
        pv_hold(c, as_it_was, 25, &w, "it was forwarded with another content or born than it came with");
}

void pv_forwards_finish(struct check *c)
{
    for (size_t i = 0; i < c->forward_count; i++)
        finish_forward(c, &c->forwards[i]);
}
