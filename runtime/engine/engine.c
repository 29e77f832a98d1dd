/*
 * The engine of one partition: states, claims, reading back.
 *
 *   from          on                                              to
 *   FOLLOWING     assigned                                        CATCHING_UP
 *   CATCHING_UP   journal read to its end                         CLAIMING     (appends a Claim)
 *   CATCHING_UP   revoked                                         FOLLOWING
 *   CLAIMING      own claim read back                             OWNER        (else: waits, an append deadline claims anew)
 *   CLAIMING      own claim read back, but revoked meanwhile      DRAINING
 *   OWNER         any doubt (rule 5)                              CLAIMING
 *   CLAIMING      its claim fails                                 CLAIMING     (another one, after a growing delay)
 *   CLAIMING      any doubt, not assigned any more                FOLLOWING
 *   DRAINING      any doubt                                       FOLLOWING
 *   OWNER         revoked                                         DRAINING
 *   OWNER         another's claim read                            FENCED       (not assigned: FOLLOWING)
 *   CLAIMING      another's claim read                            CLAIMING     (ours comes later, or the deadline)
 *   DRAINING      nothing in flight, Mark and Release read back   FOLLOWING    (assigned again meanwhile: CATCHING_UP)
 *   DRAINING      assigned again before the Release left          OWNER
 *   DRAINING      another's claim read                            FOLLOWING
 *   FENCED        foreign epoch silent for the backoff, or ended  CATCHING_UP
 *   FENCED        revoked                                         FOLLOWING
 *   any           a record that cannot be judged, wrong log       STOPPED
 */
#include "engine/engine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

const char *engine_state_name(enum engine_state state)
{
    static const char *const names[] = {
#define STATE_NAME_(name, text) #name,
        ENGINE_STATE_MAP(STATE_NAME_)
#undef STATE_NAME_
    };
    return names[state];
}

enum engine_state engine_state_of(const struct engine *engine) { return engine->state; }

/* ---- small things ---------------------------------------------------------------------------------- */

/* xoshiro256++ (Blackman, Vigna 2019), seeded by splitmix64. */
static uint64_t rotate(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

uint64_t engine_random(struct engine *engine)
{
    uint64_t *s = engine->random, result = rotate(s[0] + s[3], 23) + s[0], t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

static void engine_seed(struct engine *engine, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = (seed += UINT64_C(0x9e3779b97f4a7c15));
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        engine->random[i] = z ^ (z >> 31);
    }
}

int64_t engine_due(const struct engine *engine, int64_t wall_ms)
{
    int64_t wait = wall_ms - engine->wall_ms;
    return engine->monotonic_ms + (wait > 0 ? wait : 0);
}

struct queued_output *engine_put(struct engine *engine, enum engine_output_kind kind)
{
    struct queued_output *queued = calloc(1, sizeof *queued);
    if (!queued) {
        engine_stop(engine, "out of memory");
        return NULL;
    }
    queued->output.kind = kind;
    queued->output.partition = engine->config.partition;
    if (engine->outputs_tail)
        engine->outputs_tail->next = queued;
    else
        engine->outputs = queued;
    engine->outputs_tail = queued;
    return queued;
}

static void engine_put_text(struct engine *engine, enum engine_output_kind kind, const char *format, va_list arguments)
{
    char text[512];
    vsnprintf(text, sizeof text, format, arguments);
    struct queued_output *queued = engine_put(engine, kind);
    if (queued)
        queued->output.text = queued->owned[0] = strdup(text);
}

void engine_note(struct engine *engine, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    engine_put_text(engine, ENGINE_OUT_NOTE, format, arguments);
    va_end(arguments);
}

static void engine_put_notice(struct engine *engine, enum engine_output_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void engine_put_notice(struct engine *engine, enum engine_output_kind kind, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    engine_put_text(engine, kind, format, arguments);
    va_end(arguments);
}

static void queued_output_free(struct queued_output *queued)
{
    if (!queued)
        return;
    for (size_t i = 0; i < sizeof queued->owned / sizeof *queued->owned; i++)
        free(queued->owned[i]);
    reply_free(queued->owned_reply);
    free(queued);
}

bool engine_take(struct engine *engine, struct engine_output *out)
{
    queued_output_free(engine->taken);
    engine->taken = engine->outputs;
    if (!engine->taken)
        return false;
    engine->outputs = engine->taken->next;
    if (!engine->outputs)
        engine->outputs_tail = NULL;
    *out = engine->taken->output;
    if (out->kind == ENGINE_OUT_FOLLOW_INBOX)
        engine->inbox_turns_back = false;
    if (out->kind == ENGINE_OUT_FOLLOW_JOURNAL) { /* more may have been read since it was put: never back behind that */
        out->offset = engine->verify_anchor ? engine->judge->anchor : engine->judge->position;
        engine->follow_asked = false;
    }
    return true;
}

/* ---- appends ------------------------------------------------------------------------------------------ */

void header_init(struct engine *engine, Header *header, uint32_t kind)
{
    perdure__v1__header__init(header);
    header->format = FORMAT_VERSION;
    header->rule_level = RULE_LEVEL;
    header->min_reader = RULE_LEVEL;
    header->log = (uint32_t)engine->config.genesis.log_id;
    header->kind = kind;
    header->map_version = engine->config.genesis.map_version;
}

void append_free(struct append *append)
{
    if (!append)
        return;
    for (struct input *input = append->inputs.head; input; input = input->next)
        for (size_t i = 0; i < append->count; i++)
            if (append->events[i] == input->event)
                append->events[i] = NULL;
    inputs_clear(&append->inputs);
    for (size_t i = 0; i < append->count; i++)
        event_free(append->events[i]);
    free(append->events);
    free(append->header);
    free(append->data);
    free(append);
}

static void append_put_out(struct engine *engine, struct append *append)
{
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_APPEND);
    if (!queued)
        return;
    queued->output.cookie = append->cookie;
    queued->output.key = append->header->job[0] ? append->header->job : NULL;
    queued->output.data = append->data;
    queued->output.size = append->size;
    queued->output.header = append->header;
}

static char *block_text(char **at, const char *text)
{
    size_t size = strlen(text) + 1;
    if (size == 1)
        return (char *)""; /* as messages have it: never freed by itself */
    char *copy = memcpy(*at, text, size);
    *at += size;
    return copy;
}

static ProtobufCBinaryData block_bytes(char **at, ProtobufCBinaryData bytes)
{
    ProtobufCBinaryData copy = { .len = bytes.len, .data = (uint8_t *)*at };
    if (bytes.len > 0)
        memcpy(*at, bytes.data, bytes.len);
    *at += bytes.len;
    return copy;
}

/* A copy that outlives the caller's: the host shows it, and the own record is judged by it when it is read back. One
 * block, freed by free(): each record has one. Sender and copy are not for records of an owner. */
static Header *header_copy(const Header *header)
{
    struct block {
        Header header;
        Position in_pos;
        InputRef *pointers[];
    } *block;
    size_t texts = strlen(header->job) + strlen(header->type) + strlen(header->build) + strlen(header->codec) +
                   strlen(header->name) + 5 + header->prev.len + header->digest.len;
    for (size_t i = 0; i < header->n_inputs; i++)
        texts += strlen(header->inputs[i]->request) + 1;
    block = malloc(sizeof *block + header->n_inputs * (sizeof(InputRef *) + sizeof(InputRef)) + texts);
    if (!block)
        return NULL;
    InputRef *refs = (InputRef *)&block->pointers[header->n_inputs];
    char *at = (char *)&refs[header->n_inputs];
    block->header = *header;
    block->header.job = block_text(&at, header->job);
    block->header.type = block_text(&at, header->type);
    block->header.build = block_text(&at, header->build);
    block->header.codec = block_text(&at, header->codec);
    block->header.name = block_text(&at, header->name);
    block->header.prev = block_bytes(&at, header->prev);
    block->header.digest = block_bytes(&at, header->digest);
    block->header.inputs = header->n_inputs ? block->pointers : NULL;
    for (size_t i = 0; i < header->n_inputs; i++) {
        refs[i] = *header->inputs[i];
        refs[i].request = block_text(&at, header->inputs[i]->request);
        block->pointers[i] = &refs[i];
    }
    if (header->in_pos) {
        block->in_pos = *header->in_pos;
        block->header.in_pos = &block->in_pos;
    }
    block->header.sender = NULL;
    block->header.copy = NULL;
    return &block->header;
}

struct append *engine_append(struct engine *engine, Record *record)
{
    struct append *append = calloc(1, sizeof *append);
    if (!append)
        goto no_memory;
    Header *header = record->header;
    header->t = header->t ? header->t : engine->wall_ms;
    if (header->kind != PERDURE__V1__KIND__KIND_CLAIM) {
        header->claim = engine->own_claim;
        header->nonce = engine->nonce;
        header->n = ++engine->n;
    }
    append->kind = header->kind;
    append->n = header->n;
    append->cookie = ++engine->next_cookie;
    append->known_offset = -1;
    append->offset = -1;
    append->deadline = engine->monotonic_ms + engine->limits.append_deadline_ms;
    append->header = header_copy(header);
    append->data = record_encode(record, &append->size);
    if (!append->header || !append->data)
        goto no_memory;
    append_put_out(engine, append);
    if (append->kind == PERDURE__V1__KIND__KIND_CLAIM)
        return append;
    if (engine->appends_tail)
        engine->appends_tail->next = append;
    else
        engine->appends = append;
    engine->appends_tail = append;
    if (!engine->unread)
        engine->unread = append;
    if (!engine->unacked)
        engine->unacked = append;
    engine->append_count++;
    return append;

no_memory:
    append_free(append);
    engine_stop(engine, "out of memory");
    return NULL;
}

/* The data of appends that are dropped may still be wanted by outputs nobody took: these outputs go with them. */
static void outputs_drop_appends(struct engine *engine)
{
    struct queued_output **link = &engine->outputs;
    engine->outputs_tail = NULL;
    while (*link) {
        struct queued_output *queued = *link;
        if (queued->output.kind == ENGINE_OUT_APPEND || queued->output.kind == ENGINE_OUT_SEND) {
            *link = queued->next;
            queued_output_free(queued);
        } else {
            engine->outputs_tail = queued;
            link = &queued->next;
        }
    }
}

static void appends_forget(struct engine *engine)
{
    outputs_drop_appends(engine);
    while (engine->appends) {
        struct append *append = engine->appends;
        engine->appends = append->next;
        append_free(append);
    }
    engine->appends_tail = engine->unread = engine->unacked = NULL;
    engine->append_count = 0;
    append_free(engine->claim);
    engine->claim = NULL;
}

/* ---- claims ---------------------------------------------------------------------------------------------- */

static void engine_claim(struct engine *engine, const char *cause)
{
    Header header;
    Record record = PERDURE__V1__RECORD__INIT;
    Claim claim = PERDURE__V1__CLAIM__INIT;
    Genesis genesis = engine->config.genesis;
    header_init(engine, &header, PERDURE__V1__KIND__KIND_CLAIM);
    genesis.partition = engine->config.partition;
    engine->nonce = engine_random(engine);
    claim.nonce = engine->nonce;
    claim.worker = (char *)(engine->config.worker ? engine->config.worker : "");
    claim.boot = (char *)(engine->config.boot_id ? engine->config.boot_id : "");
    claim.version = (char *)"0.1";
    claim.cause = (char *)cause;
    header.nonce = engine->nonce;
    record.header = &header;
    record.genesis = &genesis;
    record.claim = &claim;
    append_free(engine->claim);
    engine->claim = engine_append(engine, &record);
    engine->state = ENGINE_CLAIMING;
    engine->counts.claims++;
}

/* What was worked on goes; what was judged stays. */
static void actives_drop(struct engine *engine)
{
    for (size_t i = 0; i < engine->judge->capacity; i++)
        for (struct run *run = engine->judge->table[i]; run; run = run->next)
            if (run->user) {
                steps_clear(run->user, true);
                active_free(run->user);
            }
}

/* Everything that belongs to an owner goes; what was judged stays. */
static void engine_disown(struct engine *engine, const char *why)
{
    if (engine->state == ENGINE_OWNER || engine->state == ENGINE_DRAINING)
        engine_put(engine, ENGINE_OUT_UNFOLLOW_INBOX);
    appends_forget(engine);
    outbox_forget_sends(engine);
    inbox_reset(engine);
    actives_drop(engine);
    alarm_clear(&engine->alarms, &engine->mark_alarm);
    alarm_clear(&engine->alarms, &engine->claim_alarm);
    alarm_clear(&engine->alarms, &engine->trim_alarm);
    engine->mark_wanted = engine->mark_first = false;
    engine->release_sent = false;
    if (why)
        engine_put_notice(engine, ENGINE_OUT_LOST, "%s", why);
}

void engine_stop(struct engine *engine, const char *format, ...)
{
    char text[512];
    va_list arguments;
    if (engine->state == ENGINE_STOPPED)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    engine->state = ENGINE_STOPPED; /* first: what follows must not stop it again */
    engine->stop_reason = strdup(text);
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_STOPPED);
    if (queued)
        queued->output.text = engine->stop_reason ? engine->stop_reason : "out of memory";
}

static void engine_follow(struct engine *engine)
{
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_FOLLOW_JOURNAL);
    if (queued)
        queued->output.offset = engine->verify_anchor ? engine->judge->anchor : engine->judge->position;
    engine->follow_asked = true;
}

/* It owns nothing any more: the host may let the engine go, unless the partition was assigned again meanwhile. */
static void engine_let_go(struct engine *engine)
{
    engine->state = engine->assigned ? ENGINE_CATCHING_UP : ENGINE_FOLLOWING;
    if (engine->assigned)
        engine_follow(engine); /* tells the end again, also of a quiet journal */
    else
        engine_put(engine, ENGINE_OUT_RELEASED);
}

/* Rule 5: nothing more is sent in this epoch. A new claim, what is in the log is read, what is missing appended again. */
void engine_doubt(struct engine *engine, const char *why)
{
    if (!engine_owns(engine) && engine->state != ENGINE_CLAIMING)
        return;
    if (!RULE(CLAIM_ON_DOUBT))
        return;
    RULE_FIRED(CLAIM_ON_DOUBT);
    if (!engine->assigned) { /* rule 4: it may be another's by now; whoever owns it next reads what is in the log */
        engine_disown(engine, why);
        engine_let_go(engine);
        return;
    }
    engine_note(engine, "partition %u: claims anew: %s", engine->config.partition, why);
    for (size_t i = 0; i < engine->judge->capacity; i++)
        for (struct run *run = engine->judge->table[i]; run; run = run->next)
            if (run->user)
                turn_rewind(run->user);
    appends_forget(engine);
    outbox_forget_sends(engine);
    inbox_reset(engine);
    engine_put(engine, ENGINE_OUT_UNFOLLOW_INBOX);
    engine_claim(engine, why);
}

/* A log that takes no claim is not asked for another in the same breath. */
static void engine_claim_failed(struct engine *engine)
{
    if (!engine->assigned) {
        engine_doubt(engine, "the claim was not acknowledged");
        return;
    }
    append_free(engine->claim);
    engine->claim = NULL;
    alarm_set(&engine->alarms, &engine->claim_alarm, engine->monotonic_ms + engine->claim_retry_ms);
    engine->claim_retry_ms *= 2;
    if (engine->claim_retry_ms > CLAIM_BACKOFF_MAX_MS)
        engine->claim_retry_ms = CLAIM_BACKOFF_MAX_MS;
}

/* A fenced owner waits before it claims again, so that two that both believe themselves assigned do not take turns
 * (rule 4, hazard 4). */
static void engine_fenced(struct engine *engine)
{
    engine_disown(engine, "another worker claimed the partition");
    if (!engine->assigned) {
        engine_let_go(engine);
        return;
    }
    engine->state = ENGINE_FENCED;
    int64_t backoff = engine->claim_backoff_ms;
    engine->claim_backoff_ms = backoff * 2 < CLAIM_BACKOFF_MAX_MS ? backoff * 2 : CLAIM_BACKOFF_MAX_MS;
    backoff += (int64_t)(engine_random(engine) % (uint64_t)(backoff / 2 + 1));
    alarm_set(&engine->alarms, &engine->claim_alarm, engine->monotonic_ms + backoff);
}

static bool engine_clock_is_sane(struct engine *engine, int64_t append_ms)
{
    int64_t skew = engine->wall_ms - append_ms;
    if (append_ms <= 0)
        return true;
    if (skew < 0)
        skew = -skew;
    if (skew > CLOCK_SKEW_LIMIT_MS) { /* rule 30 */
        engine_stop(engine, "this machine's clock differs from the log's by %lld s; set it right (limit %lld s)",
                    (long long)(skew / 1000), (long long)(CLOCK_SKEW_LIMIT_MS / 1000));
        return false;
    }
    if (skew > CLOCK_SKEW_WARN_MS)
        engine_note(engine, "this machine's clock differs from the log's by %lld ms", (long long)skew);
    return true;
}

/* Rule 7 holds for the claim as for any append: what was read before it is confirmed by it. */
static void engine_owned(struct engine *engine)
{
    if (!engine_clock_is_sane(engine, engine->claim->append_ms))
        return;
    int64_t offset = engine->claim->offset;
    append_free(engine->claim);
    engine->claim = NULL;
    engine->state = engine->assigned ? ENGINE_OWNER : ENGINE_DRAINING;
    engine->own_claim = offset;
    engine->n = 0;
    engine->acked_n = 0;
    engine->claim_backoff_ms = engine->limits.claim_backoff_ms;
    engine->claim_retry_ms = CLAIM_RETRY_MS;
    engine->release_sent = false;
    engine->confirmed_in_pos = engine->judge->in_pos;
    engine->mark_first = true; /* rule 9: first thing in an epoch */
    engine->changed_since_mark = true;
    engine->counts.claim = offset;
    inbox_begin(engine);
    outbox_confirm(engine, offset);
    turn_wake_all(engine);
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_OWNED);
    if (queued)
        queued->output.offset = offset;
}

/* Rule 5: a claim that was read, lost by a truncation and sent again is acknowledged at another offset: nothing read since
 * the first is to be trusted. It stays unowned until the truncation is told or its deadline claims anew. */
static bool claim_is_where_it_was_read(struct engine *engine)
{
    const struct append *claim = engine->claim;
    if (claim->known_offset < 0 || claim->known_offset == claim->offset)
        return true;
    engine_note(engine, "the claim was acknowledged at another offset than it was read");
    return false;
}

static void engine_on_claim(struct engine *engine, const struct log_record *record)
{
    struct append *claim = engine->state == ENGINE_CLAIMING ? engine->claim : NULL;
    if (claim && engine->judge->nonce == engine->nonce) {
        claim->read_back = true;
        claim->offset = record->offset;
        claim->append_ms = record->append_ms;
        if (!RULE(ACKED) || (claim->acked && claim_is_where_it_was_read(engine)))
            engine_owned(engine);
    } else if (engine_owns(engine) || (claim && claim->read_back)) {
        engine_fenced(engine);
    } else if (engine->state == ENGINE_CLAIMING) {
        /* Another owned it before our claim comes: jobs in memory know nothing of what was done then. */
        actives_drop(engine);
    }
}

/* ---- reading back ---------------------------------------------------------------------------------------- */

static void engine_count_verdict(struct engine *engine, enum judge_verdict verdict)
{
    if (verdict == JUDGE_COUNTED || verdict == JUDGE_MARK || verdict == JUDGE_RELEASE)
        engine->counts.records_counted++;
    else if (verdict == JUDGE_DUPLICATE)
        engine->counts.records_duplicate++;
    else if (verdict == JUDGE_FENCED || verdict == JUDGE_REJECTED)
        engine->counts.records_rejected++;
}

/* Confirmed (rule 7): read back, counted, and this or a later append is acknowledged; in order. */
void engine_confirm(struct engine *engine)
{
    while (engine->appends && engine->appends->read_back &&
           (engine->appends->n <= engine->acked_n || !RULE(ACKED))) {
        struct append *append = engine->appends;
        engine->appends = append->next;
        if (!engine->appends)
            engine->appends_tail = NULL;
        if (engine->unacked == append) /* a later one's acknowledgement confirms it too */
            engine->unacked = append->next;
        engine->append_count--;
        if (position_is_beyond(&append->in_pos, &engine->confirmed_in_pos))
            engine->confirmed_in_pos = append->in_pos;
        outbox_confirm(engine, append->offset);
        if (append->active)
            turn_confirmed(append->active, append);
        else if (append->kind == PERDURE__V1__KIND__KIND_MARK)
            inbox_mark_confirmed(engine);
        else if (append->kind == PERDURE__V1__KIND__KIND_RELEASE) {
            append_free(append);
            engine_disown(engine, NULL);
            engine_let_go(engine);
            return;
        }
        append_free(append);
    }
    if (engine->appends && engine->appends->read_back)
        RULE_FIRED(ACKED);
}

/* One of ours came back: the front of the line, or something before it was lost. */
static void engine_own_read_back(struct engine *engine, const Header *header, int64_t offset)
{
    struct append *append = engine->unread;
    if (!append || append->n > header->n)
        return; /* a late copy */
    if (append->n < header->n) {
        engine_doubt(engine, "an append was lost");
        return;
    }
    append->read_back = true;
    append->offset = offset;
    engine->unread = append->next;
    if (append->known_offset >= 0 && append->known_offset != offset) {
        engine_doubt(engine, "an append was acknowledged at another offset than it was read");
        return;
    }
    engine_confirm(engine);
}

/* After every counted record, whoever wrote it. */
static void engine_on_counted(struct engine *engine, const struct log_record *record, const Header *header,
                              const struct judged *judged)
{
    engine->counts.events += judged->count;
    engine->changed_since_mark = true;
    engine->judge->anchor_digest = hash64(record->data, record->size);
    save_note_record(engine, judged->run, header, record->offset, record->data, record->size);
    outbox_collect(engine, judged->run, judged, record->offset);
    outbox_drop_below(engine, out_pos_seen(header->out_pos, record->offset));
}

static bool engine_header_is_ours(const struct engine *engine, const Header *header)
{
    return engine_owns(engine) && header->claim == engine->own_claim && header->nonce == engine->nonce;
}

static void engine_distrust(struct engine *engine)
{
    char why[256];
    snprintf(why, sizeof why, "%s", engine->judge->error);
    if (!engine->from_store) {
        engine_stop(engine, "%s; the journal is damaged or was changed: run `perdure verify`", why);
        return;
    }
    engine_disown(engine, "the store is not to be trusted; reading the journal from its start");
    outbox_clear(engine);
    save_clear(engine);
    judge_reset(engine->judge);
    engine->state = ENGINE_FOLLOWING;
    engine->from_store = false;
    engine->began = false;
    engine_put_notice(engine, ENGINE_OUT_REBUILD, "%s", why);
}

static void engine_on_verdict(struct engine *engine, const struct log_record *record, const Record *decoded,
                              enum judge_verdict verdict, const struct judged *judged)
{
    const Header *header = decoded->header;
    switch (verdict) {
    case JUDGE_COUNTED:
        engine_on_counted(engine, record, header, judged);
        break;
    case JUDGE_MARK:
        outbox_collect_mark(engine, decoded->mark, record->offset);
        outbox_drop_below(engine, out_pos_seen(decoded->mark->out_pos, record->offset));
        break;
    case JUDGE_CLAIM:
        engine_on_claim(engine, record);
        return;
    case JUDGE_REJECTED:
        if (engine_header_is_ours(engine, header)) {
            engine_doubt(engine, "an own record was rejected");
        } else if (engine->from_store && header->claim == engine->judge->claim &&
                   header->nonce == engine->judge->nonce) {
            snprintf(engine->judge->error, sizeof engine->judge->error, "journal offset %lld was rejected",
                     (long long)record->offset);
            engine_distrust(engine); /* rule 3 */
        }
        return;
    case JUDGE_DISTRUST:
        engine_distrust(engine);
        return;
    case JUDGE_STOP:
        engine_stop(engine, "partition %u, %s", engine->config.partition, engine->judge->error);
        return;
    case JUDGE_NO_MEMORY:
        engine_stop(engine, "out of memory");
        return;
    case JUDGE_FENCED:
    case JUDGE_DUPLICATE:
    case JUDGE_GENESIS:
    case JUDGE_RELEASE:
        break;
    }
    if (engine->state == ENGINE_FENCED && verdict != JUDGE_FENCED && verdict != JUDGE_DUPLICATE) {
        /* The foreign owner lives: wait on (rule 4). It is done: no need to. */
        int64_t wait = verdict == JUDGE_RELEASE ? 0 : engine->claim_backoff_ms;
        alarm_set(&engine->alarms, &engine->claim_alarm, engine->monotonic_ms + wait);
    }
    if (engine_header_is_ours(engine, header) && verdict != JUDGE_FENCED)
        engine_own_read_back(engine, header, record->offset);
}

/* The common case of an owner: the record is, byte for byte, the next append that we wait for. */
static bool engine_own_fast(struct engine *engine, const struct log_record *record)
{
    struct append *append = engine->unread;
    if (!append || append->kind != PERDURE__V1__KIND__KIND_EVENT || append->size != record->size ||
        memcmp(append->data, record->data, record->size) != 0)
        return false;
    struct judged judged = { 0 };
    engine->judge->position = record->offset + 1;
    enum judge_verdict verdict = judge_events(engine->judge, record->offset, append->header, append->events,
                                              append->count, append->after, &judged);
    judged.events = append->events;
    judged.count = append->count;
    engine_count_verdict(engine, verdict);
    Record decoded = PERDURE__V1__RECORD__INIT;
    decoded.header = append->header;
    /* The append may be freed on the way: its header is used before that only. */
    engine_on_verdict(engine, record, &decoded, verdict, &judged);
    return true;
}

/* Rule 22: what the store stands on must still be in the log as it was (H22: a truncated log that grew again). */
static bool engine_anchor_holds(struct engine *engine, const struct log_record *record)
{
    engine->verify_anchor = false;
    RULE_FIRED(STORE_ANCHOR);
    if (record->offset == engine->judge->anchor &&
        hash64(record->data, record->size) == engine->judge->anchor_digest) {
        /* What lay behind it counted for nothing; a truncated log may hold other records there now. */
        engine->judge->position = engine->judge->anchor + 1;
        return true;
    }
    snprintf(engine->judge->error, sizeof engine->judge->error, "journal offset %lld is not what the store was made from",
             (long long)engine->judge->anchor);
    engine_distrust(engine);
    return false;
}

static void engine_on_journal(struct engine *engine, const struct log_record *record)
{
    if (engine->verify_anchor && !engine_anchor_holds(engine, record))
        return;
    if (record->offset < engine->judge->position)
        return; /* handed over twice */
    if (engine_owns(engine) && engine_own_fast(engine, record))
        return;
    Record *decoded = NULL;
    enum wire_error error = record_decode(record->data, record->size, &decoded);
    if (error == WIRE_NOT_PERDURE) { /* somebody else's bytes count for nobody (rule 1) */
        engine->judge->position = record->offset + 1;
        engine->counts.records_rejected++;
        return;
    }
    if (error != WIRE_OK) {
        engine_stop(engine, "partition %u, journal offset %lld: %s", engine->config.partition,
                    (long long)record->offset, wire_error_text(error));
        return;
    }
    struct judged judged;
    enum judge_verdict verdict = judge_record(engine->judge, record->offset, decoded, &judged);
    engine_count_verdict(engine, verdict);
    if (verdict == JUDGE_MARK || verdict == JUDGE_RELEASE || verdict == JUDGE_CLAIM) {
        engine->judge->anchor = record->offset;
        engine->judge->anchor_digest = hash64(record->data, record->size);
    }
    engine_on_verdict(engine, record, decoded, verdict, &judged);
    judged_release(&judged);
    record_free(decoded);
}

void engine_on_record(struct engine *engine, const struct log_record *record)
{
    if (engine->state == ENGINE_STOPPED || !engine->began)
        return;
    engine->partition_changed = true;
    if (record->stream == LOG_JOURNAL)
        engine_on_journal(engine, record);
    else
        inbox_record(engine, record);
}

void engine_on_end(struct engine *engine, enum log_stream stream, int64_t end)
{
    if (!engine->began || engine->state == ENGINE_STOPPED)
        return;
    if (stream == LOG_INBOX) {
        inbox_end(engine, end);
        return;
    }
    if (engine->follow_asked)
        return; /* of what was followed before */
    if (engine->verify_anchor) { /* read to the end and never met it */
        struct log_record none = { .offset = -1, .data = "", .size = 0 };
        if (!engine_anchor_holds(engine, &none))
            return;
    }
    if (engine->judge->position < end)
        engine->judge->position = end; /* what lies between is no record of this partition */
    if (engine->state == ENGINE_CATCHING_UP)
        engine_claim(engine, "assigned");
}

void engine_on_delivered(struct engine *engine, uint64_t cookie, enum log_delivery delivery, int64_t offset)
{
    if (engine->state == ENGINE_STOPPED)
        return;
    if (cookie & COOKIE_SEND) {
        outbox_delivered(engine, cookie, delivery);
        return;
    }
    if (engine->claim && engine->claim->cookie == cookie) {
        engine->claim->acked = delivery == LOG_PERSISTED;
        engine->claim->known_offset = offset;
        if (delivery != LOG_PERSISTED)
            engine_claim_failed(engine);
        else if (engine->claim->read_back && claim_is_where_it_was_read(engine))
            engine_owned(engine);
        return;
    }
    struct append *append = engine->unacked;
    while (append && append->cookie != cookie)
        append = append->next;
    if (!append)
        return; /* of an epoch that is over */
    if (delivery != LOG_PERSISTED) {
        engine_doubt(engine, "an append was not acknowledged");
        return;
    }
    append->acked = true;
    append->known_offset = offset;
    while (engine->unacked && engine->unacked->acked)
        engine->unacked = engine->unacked->next;
    if (append->n > engine->acked_n)
        engine->acked_n = append->n;
    if (append->read_back && offset >= 0 && offset != append->offset)
        engine_doubt(engine, "an append was acknowledged at another offset than it was read");
    else
        engine_confirm(engine);
}

void engine_on_fault(struct engine *engine, enum log_fault fault, const char *message)
{
    switch (fault) {
    case LOG_UNREACHABLE:
        break;
    case LOG_PRODUCER_REPLACED:
        engine_doubt(engine, message ? message : "the producer was replaced");
        break;
    case LOG_TRUNCATED:
    case LOG_OUT_OF_RANGE:
        engine->from_store = true; /* what is in memory is of no more worth than a store */
        snprintf(engine->judge->error, sizeof engine->judge->error, "%s", message ? message : "records are gone");
        engine_distrust(engine);
        break;
    case LOG_MEMBERSHIP_TAKEN:
    case LOG_FATAL:
        engine_stop(engine, "%s", message ? message : "the log cannot go on");
        break;
    }
}

/* ---- assignment -------------------------------------------------------------------------------------------- */

void engine_on_assigned(struct engine *engine)
{
    engine->assigned = true;
    if (engine->state == ENGINE_FOLLOWING) {
        engine->state = ENGINE_CATCHING_UP;
        if (engine->began) /* asks for the end again, so that a quiet journal is seen to be read */
            engine_follow(engine);
    } else if (engine->state == ENGINE_DRAINING && !engine->release_sent) {
        engine->state = ENGINE_OWNER;
        inbox_follow(engine); /* what came while it drained was left to the next owner, who it is itself */
    }
}

void engine_on_revoked(struct engine *engine)
{
    engine->assigned = false;
    bool waits_to_claim = engine->state == ENGINE_CLAIMING && !engine->claim;
    if (engine->state == ENGINE_CATCHING_UP || engine->state == ENGINE_FENCED || waits_to_claim) {
        engine_disown(engine, NULL);
        engine_let_go(engine);
    } else if (engine->state == ENGINE_OWNER) {
        engine->state = ENGINE_DRAINING;
    } else if (engine->state == ENGINE_FOLLOWING || engine->state == ENGINE_STOPPED) {
        engine_put(engine, ENGINE_OUT_RELEASED);
    }
}

/* DRAINING: everything confirmed, then Mark and Release; the next owner begins at once (rule 4). */
static void engine_drain(struct engine *engine)
{
    if (engine->appends || engine->release_sent)
        return;
    if (engine->mark_first || engine->changed_since_mark) {
        engine_mark(engine);
        return;
    }
    Header header;
    Record record = PERDURE__V1__RECORD__INIT;
    header_init(engine, &header, PERDURE__V1__KIND__KIND_RELEASE);
    Position in_pos = inbox_low(engine, false);
    header.in_pos = &in_pos;
    header.out_pos = outbox_position(engine);
    record.header = &header;
    engine->release_sent = engine_append(engine, &record) != NULL;
}

/* ---- time and turns ------------------------------------------------------------------------------------------ */

static void engine_on_alarm(struct engine *engine, struct alarm *alarm)
{
    switch ((enum alarm_kind)alarm->kind) {
    case ALARM_CLAIM:
        if (engine->state == ENGINE_FENCED && engine->assigned) {
            engine->state = ENGINE_CATCHING_UP;
            engine_follow(engine);
        } else if (engine->state == ENGINE_CLAIMING && !engine->claim) {
            engine_claim(engine, "the claim before was not acknowledged");
        }
        break;
    case ALARM_MARK:
        engine->mark_wanted = engine->changed_since_mark;
        break;
    case ALARM_TRIM: {
        struct queued_output *queued = engine_put(engine, ENGINE_OUT_TRIM_INBOX);
        if (queued)
            queued->output.offset = engine->trim_to;
        break;
    }
    case ALARM_STATUS: {
        struct active *active = (struct active *)((char *)alarm - offsetof(struct active, status_alarm));
        status_on_alarm(active);
        active_settle(active);
        break;
    }
    case ALARM_WAKE:
        active_enqueue((struct active *)((char *)alarm - offsetof(struct active, wake_alarm)));
        break;
    case ALARM_TIMER:
        timer_on_alarm((struct timer *)((char *)alarm - offsetof(struct timer, alarm)));
        break;
    case ALARM_RETRY:
    case ALARM_TIMEOUT:
        step_on_alarm(engine, (struct step *)((char *)alarm - offsetof(struct step, alarm)));
        break;
    }
}

void engine_on_time(struct engine *engine, int64_t wall_ms, int64_t monotonic_ms)
{
    engine->wall_ms = wall_ms;
    if (monotonic_ms > engine->monotonic_ms)
        engine->monotonic_ms = monotonic_ms;
    if (engine->state == ENGINE_STOPPED)
        return;
    for (struct alarm *alarm; (alarm = alarms_take(&engine->alarms, engine->monotonic_ms));)
        engine_on_alarm(engine, alarm);
    if (engine->appends && engine->appends->deadline <= engine->monotonic_ms)
        engine_doubt(engine, "an append was not confirmed before its deadline");
    else if (engine->claim && engine->claim->deadline <= engine->monotonic_ms)
        engine_doubt(engine, "the claim was not confirmed before its deadline");
}

static bool engine_mark_is_wanted(const struct engine *engine)
{
    return engine->mark_wanted || engine->mark_first || inbox_has_refusals(engine) ||
           (engine->held_replies && !engine->appends);
}

int64_t engine_next_wake(const struct engine *engine)
{
    int64_t next = alarms_next(&engine->alarms);
    if (engine->state == ENGINE_STOPPED)
        return INT64_MAX;
    if (engine->appends && engine->appends->deadline < next)
        next = engine->appends->deadline;
    if (engine->claim && engine->claim->deadline < next)
        next = engine->claim->deadline;
    if (engine->runnable && engine->state == ENGINE_OWNER && engine->append_count < engine->limits.appends_in_flight &&
        !(engine->appends && engine_mark_is_wanted(engine))) /* jobs wait for the Mark, the Mark for appends */
        next = engine->monotonic_ms;
    return next;
}

void engine_run(struct engine *engine)
{
    if (engine->state == ENGINE_DRAINING) {
        engine_drain(engine);
        return;
    }
    if (engine->state != ENGINE_OWNER)
        return;
    inbox_release_replies(engine);
    /* Rule 9: the alarm may have found nothing to mark; what changed since then must not wait for ever. */
    if (engine->changed_since_mark && !engine->mark_wanted && !engine->mark_alarm.place)
        alarm_set(&engine->alarms, &engine->mark_alarm, engine->monotonic_ms + engine->limits.mark_interval_ms);
    /* A Mark's live hash is true only if nothing is on its way: jobs wait for the moment. */
    if (RULE(MARKS) && engine_mark_is_wanted(engine)) {
        if (engine->appends)
            return;
        RULE_FIRED(MARKS);
        engine_mark(engine);
    }
    engine->replays_this_turn = 0;
    while (engine->runnable && engine->append_count < engine->limits.appends_in_flight &&
           engine->replays_this_turn < engine->limits.replays_per_turn && engine->state == ENGINE_OWNER) {
        struct active *active = engine->runnable;
        engine->runnable = active->next_queued;
        if (!engine->runnable)
            engine->runnable_tail = NULL;
        active->queued = false;
        turn_run(active);
    }
    if (engine->state != ENGINE_OWNER)
        return;
    turn_evict(engine);
    outbox_send(engine);
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

static void limits_fill(struct engine_limits *limits)
{
#define DEFAULT(field, value) \
    if (limits->field == 0)   \
    limits->field = (value)
    DEFAULT(live_jobs, LIVE_JOBS_LIMIT);
    DEFAULT(live_bytes, (size_t)LIVE_BYTES_LIMIT);
    DEFAULT(appends_in_flight, APPENDS_IN_FLIGHT_LIMIT);
    DEFAULT(replays_per_turn, REPLAYS_PER_TURN);
    DEFAULT(turn_bytes, TURN_BYTES_LIMIT);
    DEFAULT(life_ms, LIFE_MS);
    DEFAULT(keep_ms, KEEP_MS);
    DEFAULT(append_deadline_ms, APPEND_DEADLINE_MS);
    DEFAULT(mark_interval_ms, MARK_INTERVAL_MS);
    DEFAULT(claim_backoff_ms, CLAIM_BACKOFF_MS);
    DEFAULT(trim_delay_ms, TRIM_DELAY_MS);
    DEFAULT(status_delay_ms, STATUS_DELAY_MS);
#undef DEFAULT
}

struct engine *engine_new(const struct engine_config *config)
{
    struct engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return NULL;
    engine->config = *config;
    engine->config.genesis.namespace_ = config->genesis.namespace_ ? config->genesis.namespace_ : (char *)"";
    engine->limits = config->limits;
    limits_fill(&engine->limits);
    engine->judge = judge_new(&config->genesis);
    if (!engine->judge) {
        free(engine);
        return NULL;
    }
    engine->claim_alarm.kind = ALARM_CLAIM;
    engine->mark_alarm.kind = ALARM_MARK;
    engine->trim_alarm.kind = ALARM_TRIM;
    engine->claim_backoff_ms = engine->limits.claim_backoff_ms;
    engine->claim_retry_ms = CLAIM_RETRY_MS;
    engine->own_claim = -1;
    engine->confirmed_in_pos = (Position)PERDURE__V1__POSITION__INIT;
    engine_seed(engine, config->seed ^ ((uint64_t)config->partition << 32));
    return engine;
}

void engine_free(struct engine *engine)
{
    if (!engine)
        return;
    engine->state = ENGINE_STOPPED;
    appends_forget(engine);
    inbox_reset(engine);
    for (size_t i = 0; i < engine->judge->capacity; i++)
        for (struct run *run = engine->judge->table[i]; run; run = run->next)
            if (run->user)
                active_free(run->user);
    outbox_clear(engine);
    free(engine->outbox.slots);
    free(engine->outbox.targets);
    save_clear(engine);
    while (engine->outputs) {
        struct queued_output *next = engine->outputs->next;
        queued_output_free(engine->outputs);
        engine->outputs = next;
    }
    queued_output_free(engine->taken);
    free(engine->window);
    alarms_release(&engine->alarms);
    judge_free(engine->judge);
    free(engine->stop_reason);
    free(engine);
}

void engine_begin(struct engine *engine, int64_t log_start)
{
    if (!engine->from_store)
        engine->judge->position = log_start;
    engine->verify_anchor = engine->from_store && engine->judge->anchor >= 0 && RULE(STORE_ANCHOR);
    engine_follow(engine);
    engine->began = true;
    if (engine->state == ENGINE_FOLLOWING && engine->assigned)
        engine->state = ENGINE_CATCHING_UP;
}

void engine_on_histories_kept(struct engine *engine, int64_t offset)
{
    if (offset > engine->histories_below)
        engine->histories_below = offset;
}

void engine_counts(const struct engine *engine, struct engine_counts *out)
{
    *out = engine->counts;
    out->open_runs = engine->judge->open_count;
    out->closed_runs = engine->judge->count - engine->judge->open_count;
    out->live_jobs = engine->live_jobs;
    out->live_bytes = engine->live_bytes;
    out->waiting_steps = engine->running_steps;
    out->appends_in_flight = engine->append_count;
    out->outputs_unsent = engine->outbox.unsent;
    out->position = engine->judge->position;
    out->in_pos = engine->confirmed_in_pos.offset;
    out->out_pos = outbox_position(engine);
}
