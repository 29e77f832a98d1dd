/*
 * Judging the slot map (rules 24, 25): what a journal says of it, the slots that leave a partition and those that arrive.
 * Every reader learns from the journal alone which jobs count in it, at which offset.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/judge_internal.h"
#include "engine/rules.h"

struct slot_map slot_map_of(const Genesis *genesis)
{
    struct slot_map map = { genesis->map_version, genesis->partitions, genesis->grown_from, genesis->settled };
    if (map.grown_from == 0)
        map.settled = map.version; /* it was always so */
    return map;
}

static bool map_holds(const struct slot_map *map, uint32_t partition, uint32_t slot)
{
    bool waits = map->settled < map->version && partition >= map->grown_from;
    return map->version <= 1 || (slot % map->partitions == partition && !waits);
}

bool judge_places(const struct judge *judge, const char *job)
{
    return judge->map.version <= 1 || partition_of(job, judge->map.partitions) == judge->partition;
}

bool judge_holds(const struct judge *judge, const char *job)
{
    return judge->map.version <= 1 || map_holds(&judge->map, judge->partition, slot_of(job)) || !RULE(SLOT_OUT_ENDS);
}

/*
 * Of a Genesis or a Claim. The map of a partition changes by its SlotOut and SlotIn alone. A Claim repeats what its writer
 * had read: less than what stands before it by now, or more, when that was lost again. Only who begins in the middle must
 * believe it, until a record says better; who cuts sees to it that the Claim to begin with is right (slots_allow_cut()).
 */
enum judge_verdict judge_slot_map(struct judge *judge, int64_t offset, const Genesis *genesis)
{
    const struct slot_map map = slot_map_of(genesis);
    const struct slot_map *known = &judge->map;
    const Genesis *expected = &judge->genesis;
    uint32_t partitions = map.version == known->version ? known->partitions
                          : map.version == expected->map_version ? expected->partitions
                                                                 : map.partitions;
    judge->partition = genesis->partition;
    if (map.partitions != partitions)
        return judge_stop(judge, offset, "was written for another partition count");
    bool more = map.version > known->version || (map.version == known->version && map.settled > known->settled);
    if (known->version == 0 || (more && !judge->whole))
        judge->map = map;
    return JUDGE_GENESIS;
}

uint64_t judge_share(const struct judge *judge, uint32_t partitions, uint32_t partition, bool open, digest *hash)
{
    uint64_t count = 0;
    memset(hash, 0, sizeof *hash);
    for (size_t i = 0; i < judge->capacity; i++)
        for (const struct run *run = judge->table[i]; run; run = run->next) {
            if (run->seq == 0 || run_is_open(run) != open || slot_of(run->job) % partitions != partition)
                continue;
            live_hash_add(hash, live_hash_of(run->job, run->run, run->seq, run->digest));
            count++;
        }
    return count;
}

static enum judge_verdict slots_differ(struct judge *judge, int64_t offset, uint32_t partition, uint64_t said, uint64_t read)
{
    snprintf(judge->error, sizeof judge->error,
             "journal offset %lld: of the slots of partition %u it counts %llu runs, %llu were read, or their hashes differ",
             (long long)offset, partition, (unsigned long long)said, (unsigned long long)read);
    return JUDGE_DISTRUST;
}

static void judge_map_changed(struct judge *judge, const Header *header)
{
    if (header->t > judge->map_t)
        judge->map_t = header->t;
}

static enum judge_verdict judge_leave(struct judge *judge, int64_t offset, const SlotOut *out)
{
    for (size_t i = 0; i < out->n_shares; i++) {
        const SlotShare *share = out->shares[i];
        digest hash;
        uint64_t count = judge_share(judge, out->partitions, share->partition, true, &hash);
        if (judge->whole && (count != share->live_count || !digest_equal(hash, digest_from_bytes(share->live_hash))))
            return slots_differ(judge, offset, share->partition, share->live_count, count);
    }
    for (size_t i = 0; i < judge->capacity; i++)
        for (const struct run *run = judge->table[i]; run; run = run->next)
            if (run_is_open(run) && slot_of(run->job) % out->partitions != judge->partition && RULE(SLOT_OUT_ENDS))
                judge_live(judge, run, false);
    judge->map = (struct slot_map){ out->map_version, out->partitions, out->grown_from, judge->map.settled };
    return JUDGE_SLOT_OUT;
}

enum judge_verdict judge_slot_out(struct judge *judge, int64_t offset, const Record *record)
{
    const SlotOut *out = record->slot_out;
    if (!judge_epoch_is_current(judge, record->header)) {
        RULE_FIRED(FENCE);
        return JUDGE_FENCED;
    }
    if (record->header->n <= judge->n)
        return JUDGE_DUPLICATE;
    bool arrived = out->arrived && out->map_version == judge->map.version;
    bool follows = out->map_version == judge->map.version + 1 && judge_is_settled(judge) &&
                   out->grown_from == judge->map.partitions;
    bool told = !judge->whole && out->map_version == judge->map.version; /* a Claim said so before */
    bool leaves = !out->arrived && (follows || told) && out->grown_from > 0 && out->partitions > out->grown_from &&
                  out->partitions % out->grown_from == 0;
    if (!arrived && !leaves)
        return JUDGE_REJECTED;
    judge_counted(judge, offset, record->header);
    judge_map_changed(judge, record->header);
    if (leaves)
        return judge_leave(judge, offset, out);
    judge->map.settled = judge->map.version;
    return JUDGE_SLOT_OUT;
}

enum judge_verdict judge_slot_in(struct judge *judge, int64_t offset, const Record *record)
{
    const SlotIn *in = record->slot_in;
    digest live, closed;
    if (!judge_epoch_is_current(judge, record->header)) {
        RULE_FIRED(FENCE);
        return JUDGE_FENCED;
    }
    if (record->header->n <= judge->n)
        return JUDGE_DUPLICATE;
    if (in->map_version != judge->map.version || (judge_is_settled(judge) && judge->whole))
        return JUDGE_REJECTED;
    judge_counted(judge, offset, record->header);
    judge_map_changed(judge, record->header);
    uint64_t live_count = judge_share(judge, judge->map.partitions, judge->partition, true, &live);
    uint64_t closed_count = judge_share(judge, judge->map.partitions, judge->partition, false, &closed);
    if (RULE(SLOT_COUNT) && judge->whole &&
        (live_count != in->live_count || !digest_equal(live, digest_from_bytes(in->live_hash))))
        return slots_differ(judge, offset, judge->partition, in->live_count, live_count);
    if (RULE(SLOT_COUNT) && judge->whole &&
        (closed_count != in->closed_count || !digest_equal(closed, digest_from_bytes(in->closed_hash))))
        return slots_differ(judge, offset, judge->partition, in->closed_count, closed_count);
    judge->map.settled = judge->map.version;
    return JUDGE_SLOT_IN;
}

void judge_sweep_left(struct judge *judge, void (*visit)(void *context, struct run *run), void *context)
{
    for (size_t i = 0; i < judge->capacity; i++)
        for (struct run **link = &judge->table[i]; *link;) {
            struct run *run = *link;
            if (judge_holds(judge, run->job)) {
                link = &run->next;
                continue;
            }
            visit(context, run);
            *link = run->next;
            judge->count--;
            run_free(run);
        }
}
