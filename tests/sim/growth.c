/* The namespace grows while jobs run (rules 24, 25): more partitions, engines that hear of it sooner or later, clients with
 * the old map, and where to look for a job's history. */
#include <stdlib.h>
#include <string.h>

#include "world.h"

#define GROW_CORRELATION UINT64_MAX

void growth_draw(struct profile *profile, const struct options *options)
{
    struct rng rng;
    rng_seed(&rng, options->seed, 5);
    bool grows = profile->partitions == 2 && !profile->lossy && rng_below(&rng, 2) == 0;
    profile->grow_to = grows ? (rng_below(&rng, 4) ? 4 : 8) : 0;
    profile->grow_at = rng_between(&rng, 30, 300);
}

static void genesis_new(uint32_t p)
{
    Record record = PERDURE__V1__RECORD__INIT;
    Header header = PERDURE__V1__HEADER__INIT;
    Genesis genesis = PERDURE__V1__GENESIS__INIT;
    size_t size;
    header.format = header.rule_level = header.min_reader = 1;
    header.log = (uint32_t)world->log_id;
    header.kind = PERDURE__V1__KIND__KIND_GENESIS;
    header.map_version = 2;
    header.t = world->now;
    genesis.log_id = world->log_id;
    genesis.namespace_ = (char *)"sim";
    genesis.partitions = world->profile.partitions;
    genesis.grown_from = world->grown_from;
    genesis.map_version = 2;
    genesis.format = 1;
    genesis.rule_level = RULE_LEVEL;
    genesis.partition = p;
    record.header = &header;
    record.genesis = &genesis;
    void *data = record_encode(&record, &size);
    struct blob *blob = blob_new(data, size);
    free(data);
    int64_t at = world_append(LOG_JOURNAL, p, blob, -1);
    world->streams[LOG_JOURNAL][p].safe = at + 1;
    blob_release(blob);
}

/* To an old partition: it is to let slots go. Its answer comes when they have arrived. */
static void grow_send(uint32_t p)
{
    Record record = PERDURE__V1__RECORD__INIT;
    Header header = PERDURE__V1__HEADER__INIT;
    Command command = PERDURE__V1__COMMAND__INIT;
    Perdure__V1__Grow grow = PERDURE__V1__GROW__INIT;
    ReplyTo to = PERDURE__V1__REPLY_TO__INIT;
    size_t size;
    header.format = header.rule_level = header.min_reader = header.map_version = 1;
    header.log = (uint32_t)world->log_id;
    header.kind = PERDURE__V1__KIND__KIND_COMMAND;
    header.born = world->now;
    to.client = 7;
    to.correlation = GROW_CORRELATION;
    grow.map_version = 2;
    command.request = (char *)"grow-2";
    command.reply_to = &to;
    command.kind_case = PERDURE__V1__COMMAND__KIND_GROW;
    command.grow = &grow;
    record.header = &header;
    record.command = &command;
    void *data = record_encode(&record, &size);
    struct pending pending = { .blob = blob_new(data, size), .client = true, .copy = -1 };
    free(data);
    session_push(world->clients, LOG_INBOX, p, &pending);
}

bool growth_reply(const Reply *reply, uint32_t partition)
{
    if (reply->correlation != GROW_CORRELATION)
        return false;
    trace("partition %u answers %s to growth", partition, reply->answer);
    if (strcmp(reply->answer, "accepted") == 0 && !world->oracles[partition].arrived)
        world_bad("partition %u says that its slots have arrived, its journal does not", partition);
    return true;
}

static void grow(void)
{
    bool quiet = world->quiet;
    fault_count(FAULT_GROWN);
    world->grown_from = world->profile.partitions;
    world->profile.partitions = world->profile.grow_to;
    world->quiet = true;
    for (uint32_t p = world->grown_from; p < world->profile.partitions; p++) {
        oracle_init(&world->oracles[p], p, world->log_id);
        world->oracles[p].source = &world->oracles[p % world->grown_from];
        genesis_new(p);
    }
    world->quiet = quiet;
    for (uint32_t p = world->grown_from; p < world->profile.partitions; p++) {
        for (int w = 0; w < WORKERS; w++)
            if (world->workers[w].alive)
                seat_start(&world->workers[w], p);
        world->assigned_to[p] = (int)rng_below(&world->growth, WORKERS);
        world->workers[world->assigned_to[p]].seats[p].assigned = true;
    }
}

void growth_turn(void)
{
    struct rng *rng = &world->growth;
    if (world->profile.grow_to == 0)
        return;
    if (world->grown_from == 0 && (int64_t)world->turn >= world->profile.grow_at)
        grow();
    if (world->grown_from == 0)
        return;
    for (uint32_t p = 0; p < world->grown_from; p++) {
        if (rng_chance(rng, world->oracles[p].arrived ? 5 : 100))
            grow_send(p);
        Genesis genesis;
        growth_genesis(world->grown_from, &genesis);
        for (int w = 0; w < WORKERS; w++) /* a worker sees the new partitions by itself, sooner or later */
            if (world->workers[w].alive && rng_chance(rng, 30))
                engine_on_map(world->workers[w].seats[p].engine, &genesis);
    }
}

bool growth_is_over(void)
{
    if (world->grown_from == 0)
        return true;
    for (uint32_t p = 0; p < world->profile.partitions; p++)
        if (p < world->grown_from ? !world->oracles[p].arrived : world->oracles[p].waits)
            return false;
    return true;
}

void growth_genesis(uint32_t p, Genesis *genesis)
{
    const struct oracle *oracle = &world->oracles[p];
    bool settled = p < world->grown_from ? oracle->arrived : !oracle->waits;
    perdure__v1__genesis__init(genesis);
    genesis->log_id = world->log_id;
    genesis->namespace_ = (char *)"sim";
    genesis->partitions = oracle->partitions;
    genesis->map_version = oracle->map_version;
    genesis->format = 1;
    genesis->rule_level = RULE_LEVEL;
    genesis->partition = p;
    if (genesis->map_version > 1) {
        genesis->grown_from = world->grown_from;
        genesis->settled = settled ? 2 : p < world->grown_from;
    }
}

/* ---- where a job is ------------------------------------------------------------------------------------------- */

struct oracle *growth_oracle(const char *job)
{
    struct oracle *oracle = &world->oracles[partition_of(job, world->profile.partitions)];
    return oracle->waits ? oracle->source : oracle;
}

struct oracle_run *growth_find_run(const char *job, uint64_t run)
{
    struct oracle *oracle = growth_oracle(job);
    struct oracle_run *found = oracle_find_run(oracle, job, run);
    return found || !oracle->source ? found : oracle_find_run(oracle->source, job, run);
}

bool growth_holds(const struct oracle_run *run, uint32_t p)
{
    uint32_t now = partition_of(run->job, world->profile.partitions);
    return now == p || !oracle_find_run(&world->oracles[now], run->job, run->run);
}

uint32_t growth_client_partition(const char *job)
{
    bool old = world->grown_from > 0 && rng_chance(&world->growth, 5000);
    return partition_of(job, old ? world->grown_from : world->profile.partitions);
}

/* ---- forwarded commands ------------------------------------------------------------------------------------------ */

static struct inbox_note *note_of_bytes(uint32_t p, const void *data, size_t size)
{
    struct memory_stream *inbox = &world->streams[LOG_INBOX][p];
    for (int64_t i = inbox->end; i-- > 0;) {
        const struct blob *blob = inbox->records[i].blob;
        if (blob && blob->size == size && memcmp(blob->data, data, size) == 0)
            return &world->notes[p][i];
    }
    return NULL;
}

bool growth_is_forward(uint32_t p, const struct engine_output *out)
{
    return world->grown_from > 0 && p < world->grown_from && out->partition >= world->grown_from &&
           note_of_bytes(p, out->data, out->size) != NULL;
}

void growth_note(uint32_t p, int64_t offset)
{
    struct inbox_note *note = &world->notes[p][offset];
    const struct blob *blob = world->streams[LOG_INBOX][p].records[offset].blob;
    struct inbox_note *first = world->grown_from > 0 && p >= world->grown_from && blob
                                   ? note_of_bytes(p % world->grown_from, blob->data, blob->size)
                                   : NULL;
    if (!first)
        return;
    fault_count(FAULT_FORWARDED);
    note->forwarded = first->forwarded = true;
    note->twin = first->twin = true;
    if (note->copy < 0 && first->copy >= 0) {
        note->copy = first->copy;
        world->copies[first->copy].forwarded = true;
    }
}

/* A start that came to the old partition and was forwarded, and a word that came to the new one by itself. */
bool growth_overtook(const struct inbox_note *word, const char *job)
{
    if (world->grown_from == 0)
        return false;
    uint32_t now = partition_of(job, world->profile.partitions);
    for (int64_t i = 0; i < world->streams[LOG_INBOX][now].end; i++) {
        const struct inbox_note *note = &world->notes[now][i];
        if (note->record && note->record->command->kind_case == PERDURE__V1__COMMAND__KIND_START &&
            strcmp(note->record->header->job, job) == 0 && note->forwarded && !word->forwarded)
            return true;
    }
    return false;
}

int64_t growth_started_ms(const struct oracle_run *run)
{
    uint32_t p = partition_of(run->job, world->profile.partitions);
    const struct oracle_run *first =
        world->oracles[p].source ? oracle_find_run(world->oracles[p].source, run->job, run->run) : NULL;
    if (first)
        return world->streams[LOG_JOURNAL][world->oracles[p].source->partition].records[first->first].append_ms;
    return world->streams[LOG_JOURNAL][p].records[run->first].append_ms;
}

void growth_oracles(void)
{
    for (uint32_t p = world->grown_from; world->grown_from > 0 && p < world->profile.partitions; p++)
        world->oracles[p].source = &world->oracles[p % world->grown_from];
}

/* Rule 8: what partitions tell each other stands in their journals. */
bool growth_move_is_true(uint32_t p, uint32_t to, const Perdure__V1__SlotsMoved *moved)
{
    const struct oracle *oracle = &world->oracles[p];
    if (world->grown_from == 0 || moved->partition != p)
        return false;
    if (moved->arrived)
        return p >= world->grown_from && !oracle->waits && to == p % world->grown_from;
    return p < world->grown_from && oracle->left == moved->offset && to % world->grown_from == p;
}
