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
    m->to = -1;
    for (uint32_t i = 0; i < MAKER_GROWN; i++) {
        bool new = i >= MAKER_PARTITIONS;
        m->partitions[i].map_version = new ? 2 : 1;
        m->partitions[i].partitions = new ? MAKER_GROWN : MAKER_PARTITIONS;
        m->partitions[i].grown_from = new ? MAKER_PARTITIONS : 0;
    }
}

void maker_end(struct maker *m)
{
    for (int i = 0; i < m->kept_count; i++)
        free(m->kept[i]);
    free(m->last);
    fclose(m->out);
}

static header_pb header_of(struct maker *m, uint32_t partition, uint32_t kind)
{
    header_pb h = PERDURE__V1__HEADER__INIT;
    struct made_partition *p = &m->partitions[partition];
    h.format = FORMAT;
    h.rule_level = h.min_reader = 2;
    h.log = (uint32_t)MAKER_LOG + (m->lie.log ? 1 : 0);
    h.kind = kind;
    h.t = m->now;
    h.map_version = p->map_version + (m->lie.map ? 1 : 0);
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

static genesis_pb genesis_of(const struct maker *m, uint32_t partition, uint32_t partitions)
{
    genesis_pb g = PERDURE__V1__GENESIS__INIT;
    const struct made_partition *p = &m->partitions[partition];
    g.log_id = MAKER_LOG;
    g.namespace_ = (char *)"test";
    g.partitions = partitions;
    g.map_version = p->map_version;
    g.grown_from = p->grown_from;
    g.settled = p->settled;
    g.format = FORMAT;
    g.rule_level = 2;
    g.partition = partition;
    return g;
}

void maker_genesis(struct maker *m, uint32_t partition)
{
    record_pb r = PERDURE__V1__RECORD__INIT;
    header_pb h = header_of(m, partition, PERDURE__V1__KIND__KIND_GENESIS);
    genesis_pb g = genesis_of(m, partition, m->partitions[partition].partitions);
    r.header = &h;
    r.genesis = &g;
    write_record(m, JOURNAL, partition, &r);
}

void maker_claim(struct maker *m, uint32_t partition, uint64_t nonce, uint32_t genesis_partitions)
{
    record_pb r = PERDURE__V1__RECORD__INIT;
    header_pb h = header_of(m, partition, PERDURE__V1__KIND__KIND_CLAIM);
    genesis_pb g = genesis_of(m, partition, genesis_partitions);
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

uint64_t maker_live(const struct maker *m, uint32_t partition, int to, uint8_t hash[DIGEST])
{
    unsigned __int128 sum = 0;
    uint64_t count = 0;
    for (int i = 0; i < m->run_count; i++) {
        const struct made_run *run = m->runs[i];
        if (run->partition != partition || !run->open || (to >= 0 && pv_digest_slot(run->job) % MAKER_GROWN != (uint32_t)to))
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
    mark.live_count = maker_live(m, partition, -1, hash);
    mark.cut = m->cut;
    m->cut = 0;
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
    if (!lost && run->part_count < PARTS_MOST) {
        struct made_part *part = &run->parts[run->part_count++];
        *part = (struct made_part){malloc(m->last_size), m->last_size, partition, p->journal - 1};
        memcpy(part->data, m->last, m->last_size);
        m->kept[m->kept_count++] = part->data;
    }
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
    uint32_t partition = m->to >= 0 ? (uint32_t)m->to : pv_digest_slot(job) % MAKER_PARTITIONS;
    m->to = -1;
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

const char *maker_job_of(char *id, size_t size, const char *prefix, uint32_t partition, uint32_t partitions)
{
    for (int i = 0;; i++) {
        snprintf(id, size, "%s-%d", prefix, i);
        if (pv_digest_slot(id) % partitions == partition)
            return id;
    }
}

const char *maker_job(char *id, size_t size, const char *prefix, uint32_t partition)
{
    return maker_job_of(id, size, prefix, partition, MAKER_PARTITIONS);
}

/* ---- slots that move ---- */

static void write_positioned(struct maker *m, uint32_t partition, record_pb *r)
{
    const struct made_partition *p = &m->partitions[partition];
    position_pb in_pos = PERDURE__V1__POSITION__INIT;
    in_pos.offset = p->in_pos;
    r->header->in_pos = &in_pos;
    r->header->out_pos = p->out_pos;
    r->header->min_reader = m->level ? m->level : 3;
    m->level = 0;
    write_record(m, JOURNAL, partition, r);
}

void maker_slot_out(struct maker *m, uint32_t partition, Perdure__V1__SlotOut *body)
{
    record_pb r = PERDURE__V1__RECORD__INIT;
    header_pb h = header_of(m, partition, PERDURE__V1__KIND__KIND_SLOT_OUT);
    r.header = &h;
    r.slot_out = body;
    write_positioned(m, partition, &r);
}

void maker_slot_in(struct maker *m, uint32_t partition, Perdure__V1__SlotIn *body)
{
    record_pb r = PERDURE__V1__RECORD__INIT;
    header_pb h = header_of(m, partition, PERDURE__V1__KIND__KIND_SLOT_IN);
    r.header = &h;
    r.slot_in = body;
    write_positioned(m, partition, &r);
}

/* Another label in its first event; the digest agrees with that. */
static void change_event(record_pb *r)
{
    event_pb *e = perdure__v1__event__unpack(NULL, r->events[0].len, r->events[0].data);
    free(e->label != protobuf_c_empty_string ? e->label : NULL);
    e->label = strdup("changed");
    free(r->events[0].data);
    r->events[0].len = perdure__v1__event__get_packed_size(e);
    r->events[0].data = malloc(r->events[0].len);
    perdure__v1__event__pack(e, r->events[0].data);
    perdure__v1__event__free_unpacked(e, NULL);
    memcpy(r->header->digest.data, r->header->prev.data, DIGEST);
    for (size_t i = 0; i < r->n_events; i++)
        pv_digest_next(r->header->digest.data, r->events[i].data, r->events[i].len);
}

void maker_copy(struct maker *m, uint32_t partition, const struct made_run *run, int parts, int odd)
{
    int written = m->stop_after ? m->stop_after : parts;
    m->stop_after = 0;
    for (int i = 0; i < written; i++) {
        record_pb *r = perdure__v1__record__unpack(NULL, run->parts[i].size - 8, run->parts[i].data + 8);
        header_pb h = header_of(m, partition, PERDURE__V1__KIND__KIND_COPY);
        Perdure__V1__CopyOf copy = PERDURE__V1__COPY_OF__INIT;
        copy.part = (uint32_t)i + 1;
        copy.parts = (uint32_t)parts;
        copy.partition = run->parts[i].partition;
        copy.offset = run->parts[i].offset + (odd == -(i + 1) ? 1 : 0);
        if (odd == i + 1)
            change_event(r);
        r->header->kind = h.kind;
        r->header->claim = h.claim;
        r->header->nonce = h.nonce;
        r->header->n = h.n;
        r->header->map_version = h.map_version;
        r->header->copy = &copy;
        write_record(m, JOURNAL, partition, r);
        r->header->copy = NULL;
        perdure__v1__record__free_unpacked(r, NULL);
    }
}

void maker_stub(struct maker *m, uint32_t partition, const struct made_run *run, int64_t keep_until)
{
    record_pb r = PERDURE__V1__RECORD__INIT;
    header_pb h = header_of(m, partition, PERDURE__V1__KIND__KIND_STUB);
    Perdure__V1__Stub stub = PERDURE__V1__STUB__INIT;
    uint8_t digest[DIGEST];
    memcpy(digest, run->digest, DIGEST);
    h.job = (char *)(uintptr_t)run->job;
    h.slot = pv_digest_slot(run->job);
    h.run = run->id;
    h.seq = run->seq;
    h.t = run->t;
    h.digest = (ProtobufCBinaryData){.len = DIGEST, .data = digest};
    stub.state = (char *)(uintptr_t)"completed";
    stub.keep_until = keep_until;
    r.header = &h;
    r.stub = &stub;
    write_record(m, JOURNAL, partition, &r);
}

void maker_to_partition(struct maker *m, uint32_t from, uint32_t to, const Perdure__V1__SlotsMoved *body)
{
    record_pb r = PERDURE__V1__RECORD__INIT;
    header_pb h = header_of(m, from, PERDURE__V1__KIND__KIND_COMMAND);
    sender_pb s = PERDURE__V1__SENDER__INIT;
    command_pb c = PERDURE__V1__COMMAND__INIT;
    char request[64];
    snprintf(request, sizeof request, "slots-%u-%u-%d", body->map_version, body->partition, (int)body->offset);
    s.partition = from;
    h.sender = &s;
    h.born = m->now;
    c.request = request;
    c.kind_case = PERDURE__V1__COMMAND__KIND_SLOTS_MOVED;
    c.slots_moved = (Perdure__V1__SlotsMoved *)(uintptr_t)body;
    r.header = &h;
    r.command = &c;
    write_record(m, INBOX, to, &r);
}
