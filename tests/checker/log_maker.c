/* See log_maker.h. */
#include "log_maker.h"

#include <isa-l/crc.h>
#include <stdlib.h>
#include <string.h>

static void put(uint8_t *p, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        p[i] = (uint8_t)(value >> (8 * i));
}

static void write_dump(struct maker *m, enum stream stream, uint32_t partition, int64_t append_ms)
{
    struct made_partition *p = &m->partitions[partition];
    int64_t *next = stream == JOURNAL ? &p->journal : &p->inbox;
    uint8_t head[25];
    head[0] = (uint8_t)stream;
    put(head + 1, partition, 4);
    put(head + 5, (uint64_t)(*next)++, 8);
    put(head + 13, (uint64_t)append_ms, 8);
    put(head + 21, m->last_size, 4);
    fwrite(head, sizeof head, 1, m->out);
    fwrite(m->last, m->last_size, 1, m->out);
}

static void write_record(struct maker *m, enum stream stream, uint32_t partition, record_pb *r)
{
    size_t size = perdure__v1__record__get_packed_size(r);
    free(m->last);
    m->last_size = size + 8;
    m->last = malloc(m->last_size);
    memcpy(m->last, "PDR\1", 4);
    perdure__v1__record__pack(r, m->last + 8);
    put(m->last + 4, ~crc32_iscsi(m->last + 8, (int)size, ~0u) + (m->lie.crc ? 1 : 0), 4);
    write_dump(m, stream, partition, m->now);
}

void maker_start(struct maker *m, FILE *out)
{
    memset(m, 0, sizeof *m);
    m->out = out;
    m->now = MAKER_TIME;
}

void maker_end(struct maker *m)
{
    free(m->last);
    fclose(m->out);
}

static header_pb header_of(struct maker *m, uint32_t partition, uint32_t kind)
{
    header_pb h = PERDURE__V1__HEADER__INIT;
    struct made_partition *p = &m->partitions[partition];
    h.format = FORMAT;
    h.rule_level = h.min_reader = RULE_LEVEL;
    h.log = (uint32_t)MAKER_LOG + (m->lie.log ? 1 : 0);
    h.kind = kind;
    h.t = m->now;
    h.map_version = MAP_VERSION;
    if (kind != PERDURE__V1__KIND__KIND_COMMAND && kind != PERDURE__V1__KIND__KIND_GENESIS &&
        kind != PERDURE__V1__KIND__KIND_CLAIM) {
        h.claim = p->claim;
        h.nonce = p->nonce + (m->lie.epoch ? 1 : 0);
        h.n = m->lie.epoch ? p->n + 1 : ++p->n;
    }
    if (m->lie.kind)
        h.kind = 77;
    if (m->lie.level)
        h.min_reader = RULE_LEVEL + 1;
    return h;
}

static genesis_pb genesis_of(uint32_t partition, uint32_t partitions)
{
    genesis_pb g = PERDURE__V1__GENESIS__INIT;
    g.log_id = MAKER_LOG;
    g.namespace_ = (char *)"test";
    g.partitions = partitions;
    g.map_version = MAP_VERSION;
    g.format = FORMAT;
    g.rule_level = RULE_LEVEL;
    g.partition = partition;
    return g;
}

void maker_genesis(struct maker *m, uint32_t partition)
{
    record_pb r = PERDURE__V1__RECORD__INIT;
    header_pb h = header_of(m, partition, PERDURE__V1__KIND__KIND_GENESIS);
    genesis_pb g = genesis_of(partition, MAKER_PARTITIONS);
    r.header = &h;
    r.genesis = &g;
    write_record(m, JOURNAL, partition, &r);
}

void maker_claim(struct maker *m, uint32_t partition, uint64_t nonce, uint32_t genesis_partitions)
{
    record_pb r = PERDURE__V1__RECORD__INIT;
    header_pb h = header_of(m, partition, PERDURE__V1__KIND__KIND_CLAIM);
    genesis_pb g = genesis_of(partition, genesis_partitions);
    Perdure__V1__Claim claim = PERDURE__V1__CLAIM__INIT;
    struct made_partition *p = &m->partitions[partition];
    claim.nonce = nonce;
    r.header = &h;
    r.genesis = &g;
    r.claim = &claim;
    p->claim = p->journal;
    p->nonce = nonce;
    p->n = 0;
    write_record(m, JOURNAL, partition, &r);
}

static uint64_t live_of(const struct maker *m, uint32_t partition, uint8_t hash[DIGEST])
{
    unsigned __int128 sum = 0;
    uint64_t count = 0;
    for (int i = 0; i < m->run_count; i++) {
        const struct made_run *run = m->runs[i];
        if (run->partition != partition || !run->open)
            continue;
        sum += pv_digest_live(run->job, run->id, run->seq, run->digest);
        count++;
    }
    put(hash, (uint64_t)sum, 8);
    put(hash + 8, (uint64_t)(sum >> 64), 8);
    return count;
}

void maker_mark(struct maker *m, uint32_t partition, Perdure__V1__Refusal *refusal, bool wrong_hash)
{
    record_pb r = PERDURE__V1__RECORD__INIT;
    header_pb h = header_of(m, partition, PERDURE__V1__KIND__KIND_MARK);
    const struct made_partition *p = &m->partitions[partition];
    mark_pb mark = PERDURE__V1__MARK__INIT;
    position_pb in_pos = PERDURE__V1__POSITION__INIT;
    uint8_t hash[DIGEST];
    in_pos.offset = p->in_pos;
    mark.in_pos = &in_pos;
    mark.out_pos = p->out_pos;
    mark.live_count = live_of(m, partition, hash);
    hash[3] ^= wrong_hash;
    mark.live_hash = (ProtobufCBinaryData){.len = DIGEST, .data = hash};
    mark.largest_t = p->largest_t;
    mark.refusals = &refusal;
    mark.n_refusals = refusal ? 1 : 0;
    r.header = &h;
    r.mark = &mark;
    write_record(m, JOURNAL, partition, &r);
}

void maker_release(struct maker *m, uint32_t partition)
{
    record_pb r = PERDURE__V1__RECORD__INIT;
    header_pb h = header_of(m, partition, PERDURE__V1__KIND__KIND_RELEASE);
    r.header = &h;
    write_record(m, JOURNAL, partition, &r);
}

void maker_again(struct maker *m, enum stream stream, uint32_t partition)
{
    write_dump(m, stream, partition, m->now);
}

void maker_garbage(struct maker *m, enum stream stream, uint32_t partition)
{
    free(m->last);
    m->last = malloc(m->last_size = 11);
    memcpy(m->last, "no record!!", 11);
    write_dump(m, stream, partition, m->now);
}

void maker_run(struct maker *m, struct made_run *run, const char *job, const char *request)
{
    *run = (struct made_run){.job = job, .partition = pv_digest_slot(job) % MAKER_PARTITIONS};
    run->id = pv_digest_run(MAKER_LOG, job, request);
    pv_digest_first(run->id, run->digest);
    m->runs[m->run_count++] = run;
}

event_pb *maker_event(struct maker *m, uint64_t op)
{
    event_pb *e = &m->events[m->event_count++];
    perdure__v1__event__init(e);
    e->op = op;
    return e;
}

void maker_input(struct maker *m, uint32_t partition, int64_t offset, const char *request)
{
    input_pb *input = &m->inputs[m->input_count++];
    perdure__v1__input_ref__init(input);
    input->partition = partition;
    input->offset = offset;
    input->leader_epoch = -1;
    input->request = (char *)(uintptr_t)request;
}

static bool ends(const event_pb *e)
{
    return e->kind_case >= PERDURE__V1__EVENT__KIND_COMPLETED && e->kind_case <= PERDURE__V1__EVENT__KIND_TERMINATED;
}

/* The events' bytes, and the run behind them. */
static void pack_events(struct maker *m, struct made_run *run, ProtobufCBinaryData *bytes)
{
    for (int i = 0; i < m->event_count; i++) {
        event_pb *e = &m->events[i];
        e->seq = ++run->seq;
        e->t = e->t ? e->t : m->now;
        run->t = e->t;
        run->open = !ends(e);
        bytes[i].len = perdure__v1__event__get_packed_size(e);
        bytes[i].data = malloc(bytes[i].len + 1);
        perdure__v1__event__pack(e, bytes[i].data);
        pv_digest_next(run->digest, bytes[i].data, bytes[i].len);
    }
}

static void append(struct maker *m, struct made_run *run, bool lost)
{
    uint32_t partition = run->partition ^ (m->lie.partition ? 1 : 0);
    struct made_partition *p = &m->partitions[partition];
    record_pb r = PERDURE__V1__RECORD__INIT;
    header_pb h = header_of(m, partition, PERDURE__V1__KIND__KIND_EVENT);
    position_pb in_pos = PERDURE__V1__POSITION__INIT;
    ProtobufCBinaryData bytes[EVENTS_MOST];
    input_pb *inputs[INPUTS_MOST];
    uint8_t prev[DIGEST], digest[DIGEST];
    memcpy(prev, run->digest, DIGEST);
    h.job = (char *)(uintptr_t)run->job;
    h.run = run->id;
    h.seq = run->seq + (m->lie.seq ? 2 : 1);
    h.count = (uint32_t)m->event_count + (m->lie.count ? 1 : 0);
    h.slot = pv_digest_slot(run->job) ^ (m->lie.slot ? 2 : 0);
    h.out_pos = m->lie.out_pos ? 0 : p->out_pos;
    in_pos.offset = p->in_pos;
    h.in_pos = &in_pos;
    h.first = m->lie.first ? 1000 : -1;
    pack_events(m, run, bytes);
    memcpy(digest, run->digest, DIGEST);
    digest[7] ^= m->lie.digest;
    prev[7] ^= m->lie.prev;
    h.prev = (ProtobufCBinaryData){.len = DIGEST, .data = prev};
    h.digest = (ProtobufCBinaryData){.len = DIGEST, .data = digest};
    h.t = run->t + (m->lie.t ? 5 : 0);
    for (int i = 0; i < m->input_count; i++)
        inputs[i] = &m->inputs[i];
    h.inputs = inputs;
    h.n_inputs = m->lie.no_input ? 0 : (size_t)m->input_count;
    r.header = &h;
    r.events = bytes;
    r.n_events = (size_t)m->event_count;
    if (!lost)
        write_record(m, JOURNAL, partition, &r);
    if (!lost && run->t > p->largest_t)
        p->largest_t = run->t;
    for (int i = 0; i < m->event_count; i++)
        free(bytes[i].data);
    m->event_count = m->input_count = 0;
    memset(&m->lie, 0, sizeof m->lie);
}

void maker_append(struct maker *m, struct made_run *run)
{
    append(m, run, false);
}

void maker_append_lost(struct maker *m, struct made_run *run)
{
    append(m, run, true);
}

int64_t maker_command(struct maker *m, const char *job, uint64_t run, command_pb *command,
                      const struct made_run *sender, uint64_t sender_seq, int64_t age)
{
    record_pb r = PERDURE__V1__RECORD__INIT;
    header_pb h = header_of(m, 0, PERDURE__V1__KIND__KIND_COMMAND);
    sender_pb s = PERDURE__V1__SENDER__INIT;
    uint32_t partition = pv_digest_slot(job) % MAKER_PARTITIONS;
    h.job = (char *)(uintptr_t)job;
    h.slot = pv_digest_slot(job);
    h.run = run;
    h.born = m->now - age;
    if (sender) {
        s.job = (char *)(uintptr_t)sender->job;
        s.run = sender->id;
        s.seq = sender_seq;
        h.sender = &s;
    }
    r.header = &h;
    r.command = command;
    write_record(m, INBOX, partition, &r);
    return m->partitions[partition].inbox - 1;
}

const char *maker_job(char *id, size_t size, const char *prefix, uint32_t partition)
{
    for (int i = 0;; i++) {
        snprintf(id, size, "%s-%d", prefix, i);
        if (pv_digest_slot(id) % MAKER_PARTITIONS == partition)
            return id;
    }
}
