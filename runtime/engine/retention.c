/*
 * Retention (rules 17 to 21): the journal is kept short by copying forward what must stay and cutting its head at a claim
 * of the owner's own. All of it happens in small pieces between turns.
 *
 *   IDLE      a claim's generation fills: by bytes, or by age. What lies before the claim is worth a cut: LOOKING, else CLAIMING
 *   LOOKING   a quiet inbox is asked for its end: what came late to it decides what may be forgotten (rule 20)
 *   MARKING   ... and a Mark says so
 *   COPYING   runs whose first record lies before the claim: open ones are copied, closed ones leave a stub or are left out
 *   COPIED    all of it is confirmed; waits until the outputs of what was copied are sent (rule 10)
 *   CUTTING   the Mark with the cut is on its way. Confirmed: the head goes
 *   CLAIMING  claims again when nothing is in flight: the next generation begins
 *
 * So a closed run's records stay for a generation at least, and a job that ends within one is never copied. Any doubt, any
 * other claim ends the pass: what was copied in one epoch counts for no cut in another.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

/* An inbox of which so much of LIFE is unknown is asked for its end. */
#define LOOK_PART 8
#define LOOK_PATIENCE_MS 5000
#define LOOK_FRESH_MS 10000

void retention_init(struct engine *engine)
{
    engine->retention.alarm.kind = ALARM_RETENTION;
    engine->retention.cut = -1;
}

static bool retention_is_on(const struct engine *engine)
{
    return engine->limits.retention_bytes > 0 && engine->config.genesis.rule_level >= RULE_LEVEL_RETENTION;
}

void retention_abort(struct engine *engine)
{
    struct retention *r = &engine->retention;
    copy_run_clear(&r->copy);
    r->phase = RETENTION_IDLE;
    r->run = NULL;
    r->parts_sent = 0;
    r->in_flight = 0;
    r->cut = -1;
    r->read_ms = r->clean_ms = r->mark_read_ms = r->asked_ms = 0;
    perdure__v1__position__init(&r->clean_pos);
    alarm_clear(&engine->alarms, &r->alarm);
}

void retention_begin(struct engine *engine)
{
    struct retention *r = &engine->retention;
    int64_t read_ms = r->read_ms, clean_ms = r->clean_ms;
    Position clean_pos = r->clean_pos;
    bool again = r->phase == RETENTION_CLAIMING;
    retention_abort(engine);
    if (again) { /* the same owner goes on: what it knows of the inbox stays true */
        r->read_ms = read_ms;
        r->clean_ms = clean_ms;
        r->clean_pos = clean_pos;
    }
    r->claimed_ms = engine->wall_ms;
    r->events_at_claim = engine->counts.events;
    r->age_is_due = false;
    if (retention_is_on(engine))
        alarm_set(&engine->alarms, &r->alarm, engine->monotonic_ms + engine->limits.retention_age_ms);
}

void retention_free(struct engine *engine)
{
    struct retention *r = &engine->retention;
    copy_run_clear(&r->copy);
    alarm_clear(&engine->alarms, &r->alarm);
    while (r->forgotten) {
        struct forgotten_job *next = r->forgotten->next;
        free(r->forgotten);
        r->forgotten = next;
    }
}

void retention_on_read(struct engine *engine, size_t size)
{
    engine->retention.journal_bytes += size;
    engine->retention.claim_bytes += size;
}

/* ---- what is known of the inbox (rule 20) --------------------------------------------------------------------------- */

/* This clock against the log's, as it was at the last claim; the rest is in keep's margin beyond LIFE (rule 20). */
static int64_t skew_of(const struct engine *engine) { return engine->claim_skew_ms + engine->limits.skew_ms; }

/* The log's clock does not go back within a partition; another broker's may differ a little. */
void retention_on_inbox(struct engine *engine, int64_t append_ms)
{
    struct retention *r = &engine->retention;
    if (append_ms - skew_of(engine) > r->read_ms)
        r->read_ms = append_ms - skew_of(engine);
}

static void look_is_over(struct engine *engine)
{
    struct retention *r = &engine->retention;
    r->phase = RETENTION_MARKING;
    r->mark_sent = false;
    alarm_clear(&engine->alarms, &r->alarm);
}

void engine_on_inbox_asked(struct engine *engine, int64_t end)
{
    struct retention *r = &engine->retention;
    if (engine->state != ENGINE_OWNER || r->phase != RETENTION_LOOKING || end > engine->inbox_next)
        return;
    if (r->asked_ms - skew_of(engine) > r->read_ms)
        r->read_ms = r->asked_ms - skew_of(engine);
    look_is_over(engine);
}

static void look(struct engine *engine)
{
    struct retention *r = &engine->retention;
    int64_t fresh = engine->limits.life_ms / LOOK_PART;
    if (fresh > LOOK_FRESH_MS)
        fresh = LOOK_FRESH_MS;
    if (r->read_ms + skew_of(engine) + fresh >= engine->wall_ms) {
        look_is_over(engine);
        return;
    }
    r->phase = RETENTION_LOOKING;
    r->asked_ms = engine->wall_ms;
    engine_put(engine, ENGINE_OUT_ASK_INBOX_END);
    alarm_set(&engine->alarms, &r->alarm, engine->monotonic_ms + LOOK_PATIENCE_MS);
}

/* ---- when ------------------------------------------------------------------------------------------------------------ */

static uint64_t generation_bytes(const struct engine *engine)
{
    uint64_t half = (uint64_t)engine->limits.retention_bytes / 2;
    return half > engine->retention.copied_before ? half : engine->retention.copied_before;
}

static uint64_t bytes_below_claim(const struct engine *engine)
{
    const struct retention *r = &engine->retention;
    return r->journal_bytes > r->claim_bytes ? r->journal_bytes - r->claim_bytes : 0;
}

static bool generation_is_full(const struct engine *engine)
{
    const struct retention *r = &engine->retention;
    uint64_t full = generation_bytes(engine);
    return r->age_is_due || r->claim_bytes >= full || bytes_below_claim(engine) >= 2 * full;
}

static bool retention_is_due(const struct engine *engine)
{
    const struct retention *r = &engine->retention;
    if (slots_want_out(engine)) /* rule 25: first what leaves */
        return false;
    return r->phase == RETENTION_IDLE && retention_is_on(engine) && judge_is_settled(engine->judge) && r->retry_ms <= engine->monotonic_ms &&
           !engine->mark_first && engine->judge->swept == SIZE_MAX && generation_is_full(engine);
}

static void pass_begin(struct engine *engine)
{
    struct retention *r = &engine->retention;
    uint64_t below = bytes_below_claim(engine);
    bool worth = below >= generation_bytes(engine) / 2 || (r->age_is_due && below > 0);
    r->age_is_due = false;
    if (!worth || engine->own_claim <= engine->judge->cut || !slots_allow_cut(engine)) {
        r->phase = RETENTION_CLAIMING;
        return;
    }
    r->cut = engine->own_claim;
    r->place = 0;
    r->capacity = engine->judge->capacity;
    r->top = -1;
    r->copied_bytes = r->runs = 0;
    look(engine);
}

void retention_on_alarm(struct engine *engine)
{
    struct retention *r = &engine->retention;
    if (r->phase == RETENTION_LOOKING) { /* nobody says where the inbox ends: what is known must do */
        look_is_over(engine);
        return;
    }
    bool something = engine->judge->count > engine->judge->open_count || engine->counts.events > r->events_at_claim;
    if (r->phase == RETENTION_IDLE && something)
        r->age_is_due = true;
    else if (r->phase == RETENTION_IDLE)
        alarm_set(&engine->alarms, &r->alarm, engine->monotonic_ms + engine->limits.retention_age_ms);
}

/* ---- what may be forgotten (rule 20) ---------------------------------------------------------------------------------- */

static bool keep_is_over(const struct engine *engine, const struct run *run)
{
    int64_t until = run->keep_until ? run->keep_until : run->t + engine->limits.keep_ms;
    return until <= engine->wall_ms;
}

static bool last_input_is_behind(const struct engine *engine, const struct run *run)
{
    const Position *behind = &engine->retention.clean_pos;
    return run->last_input < 0 || run->last_partition != engine->config.partition || behind->generation > run->last_generation ||
           (behind->generation == run->last_generation && behind->offset > run->last_input);
}

/* A start sent again shortly before its LIFE was over may lie in the inbox, and would run the job once more (H7). */
static bool inbox_is_behind(const struct engine *engine, const struct run *run)
{
    return run->t + engine->limits.life_ms <= engine->retention.clean_ms;
}

static bool condition(bool holds, bool rule, uint64_t *fired)
{
    if (!holds && fired)
        ++*fired;
    return holds || !rule;
}

#ifdef PDR_MUTATIONS
#define CONDITION(name, holds) condition(holds, RULE(name), &rule_branch_count[RULE_##name])
#else
#define CONDITION(name, holds) condition(holds, true, NULL)
#endif

static bool run_may_be_forgotten(const struct engine *engine, const struct run *run)
{
    return CONDITION(FORGET_KEEP, keep_is_over(engine, run)) &&
           CONDITION(FORGET_INPUT, last_input_is_behind(engine, run)) &&
           CONDITION(FORGET_LAGGING, inbox_is_behind(engine, run)) &&
           CONDITION(FORGET_OUTPUTS, run->last < outbox_position(engine));
}

/* ---- copying (rules 17, 18) --------------------------------------------------------------------------------------------- */

bool retention_holds(const struct engine *engine, const struct active *active)
{
    if (engine->retention.run != active->head)
        return false;
    RULE_FIRED(COPY_ALONE);
    return RULE(COPY_ALONE);
}

static void run_is_done(struct engine *engine, struct run *run)
{
    struct retention *r = &engine->retention;
    run->copied = r->cut;
    r->run = NULL;
    copy_run_clear(&r->copy);
    r->parts_sent = 0;
    if (run->user)
        active_enqueue(run->user);
}

static void run_was_sent(struct engine *engine, struct run *run)
{
    struct retention *r = &engine->retention;
    if (run->last > r->top)
        r->top = run->last;
    r->runs++;
    run_is_done(engine, run);
}

struct load {
    struct copy_run *copy;
    uint64_t run;
    uint32_t partition;
    int code;
};

static bool load_visit(void *context, int64_t offset, const void *data, size_t size)
{
    struct load *load = context;
    struct copy_part part = { .data = data, .size = size, .offset = offset, .partition = load->partition };
    load->code = copy_run_add(load->copy, load->run, &part);
    return load->code == PDR_OK;
}

/* What the host does not hold yet, the engine does. */
static bool run_load(struct engine *engine, struct run *run)
{
    struct retention *r = &engine->retention;
    struct engine_host *host = &engine->config.host;
    struct load load = { .copy = &r->copy, .run = run->run, .partition = engine->config.partition };
    copy_run_clear(&r->copy);
    int code = host->history(host->context, engine->config.partition, run->job, run->run, load_visit, &load);
    for (struct unsaved_record *record = save_unsaved_of(engine, run->run); record && code == LOG_OK && load.code == PDR_OK;
         record = record->next_in_bucket)
        if (record->run == run->run && strcmp(record->job, run->job) == 0)
            load_visit(&load, record->offset, record->data, record->size);
    return code == LOG_OK && load.code == PDR_OK && r->copy.seq == run->seq &&
           digest_equal(r->copy.digest, run->digest);
}

static void copy_failed(struct engine *engine, const struct run *run)
{
    engine_note(engine,
                "partition %u: the journal is not cut: the history of open job %s cannot be read whole (%llu of %llu "
                "events); `perdure describe` it, terminate it if it is lost",
                engine->config.partition, run->job, (unsigned long long)engine->retention.copy.seq,
                (unsigned long long)run->seq);
    retention_abort(engine);
    engine->retention.retry_ms = engine->monotonic_ms + RETENTION_RETRY_MS;
}

struct piece { /* what one turn may still do */
    size_t records, bytes, places;
};

static void piece_use(struct engine *engine, struct piece *piece, const struct append *append)
{
    struct retention *r = &engine->retention;
    r->in_flight++;
    r->copied_bytes += append->size;
    piece->records = piece->records > 1 ? piece->records - 1 : 0;
    piece->bytes = piece->bytes > append->size ? piece->bytes - append->size : 0;
}

static bool piece_is_used(const struct engine *engine, const struct piece *piece)
{
    return piece->records == 0 || piece->bytes == 0 || piece->places == 0 ||
           engine->retention.in_flight >= RETENTION_IN_FLIGHT;
}

static void copy_open(struct engine *engine, struct run *run, struct piece *piece)
{
    struct retention *r = &engine->retention;
    if (r->parts_sent == 0 && !run_load(engine, run)) {
        struct active *held = run->user;
        copy_failed(engine, run);
        if (held)
            active_enqueue(held);
        return;
    }
    while (r->parts_sent < r->copy.count && !piece_is_used(engine, piece)) {
        struct append *append = copy_append(engine, &r->copy, r->parts_sent + 1, &run->requests);
        if (!append)
            return;
        r->parts_sent++;
        piece_use(engine, piece, append);
    }
    if (r->parts_sent == r->copy.count) {
        engine->counts.copied++;
        run_was_sent(engine, run);
    }
}

static void leave_closed(struct engine *engine, struct run *run, struct piece *piece)
{
    if (run_may_be_forgotten(engine, run)) {
        run_is_done(engine, run);
        return;
    }
    struct append *append = stub_append(engine, run);
    if (!append)
        return;
    piece_use(engine, piece, append);
    engine->counts.stubbed++;
    run_was_sent(engine, run);
}

/* An append of this job that is on its way would come before its copy, which does not hold it. */
static bool run_is_busy(const struct run *run)
{
    const struct active *active = run->user;
    return active && active->in_flight && RULE(COPY_ALONE);
}

static struct run *next_run(struct engine *engine, struct piece *piece)
{
    struct retention *r = &engine->retention;
    struct judge *judge = engine->judge;
    if (r->capacity != judge->capacity) { /* it grew: everything has another place; what is done is known by its mark */
        r->capacity = judge->capacity;
        r->place = 0;
    }
    for (; r->place < judge->capacity && piece->places > 0; r->place++, piece->places--)
        for (struct run *run = judge->table[r->place]; run; run = run->next)
            if (run->seq > 0 && run->known_from < r->cut && run->copied != r->cut)
                return run;
    return NULL;
}

/* A partition that is to be given up has better to do; but the job of a run that is half copied waits behind it. */
static bool is_given_up(const struct engine *engine) { return !engine->assigned || engine->state != ENGINE_OWNER; }

static bool may_copy(const struct engine *engine)
{
    if (!is_given_up(engine))
        return true;
    bool asked = engine->state == ENGINE_DRAINING && engine->handover.say_leaving; /* first the answer, when nothing is in flight */
    return engine_takes_turns(engine) && engine->retention.parts_sent > 0 && !asked;
}

/* Of the run that was looked at next nothing was sent: it is as any other. */
static void leave_unbegun(struct engine *engine)
{
    struct retention *r = &engine->retention;
    struct run *run = r->parts_sent == 0 ? r->run : NULL;
    if (!run)
        return;
    r->run = NULL;
    copy_run_clear(&r->copy);
    if (run->user)
        active_enqueue(run->user);
}

static void copy_some(struct engine *engine)
{
    struct retention *r = &engine->retention;
    struct piece piece = { engine->limits.retention_records, RETENTION_TURN_BYTES, RETENTION_TURN_PLACES };
    while (r->phase == RETENTION_COPYING && may_copy(engine) && !piece_is_used(engine, &piece)) {
        struct run *run = r->run ? r->run : next_run(engine, &piece);
        if (!run) {
            if (r->place >= engine->judge->capacity)
                r->phase = RETENTION_COPIED;
            return;
        }
        r->run = run;
        if (run_is_busy(run))
            return;
        RULE_FIRED(COPY_ALL);
        if (run->known_from >= r->cut)
            run_is_done(engine, run);
        else if (!run_is_open(run))
            leave_closed(engine, run, &piece);
        else if (RULE(COPY_ALL))
            copy_open(engine, run, &piece);
        else
            run_is_done(engine, run);
    }
}

void retention_confirmed(struct engine *engine)
{
    if (engine->retention.in_flight > 0)
        engine->retention.in_flight--;
}

/* ---- the cut ------------------------------------------------------------------------------------------------------------ */

/* Who begins at the cut reads copies, and sends nothing that follows from what they hold; nor what lies below it. */
static bool outputs_are_sent(const struct engine *engine)
{
    const struct retention *r = &engine->retention;
    int64_t sent_below = outbox_position(engine);
    return CONDITION(CUT_OUTPUTS, sent_below > r->top && sent_below >= r->cut);
}

bool retention_wants_mark(const struct engine *engine)
{
    const struct retention *r = &engine->retention;
    return (r->phase == RETENTION_MARKING && !r->mark_sent) ||
           (r->phase == RETENTION_COPIED && r->in_flight == 0 && outputs_are_sent(engine));
}

int64_t retention_mark(struct engine *engine, const Position *in_pos)
{
    struct retention *r = &engine->retention;
    int64_t low_ms = inbox_low_ms(engine, in_pos);
    r->mark_pos = *in_pos;
    r->mark_read_ms = low_ms >= 0 && low_ms - skew_of(engine) < r->read_ms ? low_ms - skew_of(engine)
                                                                                 : r->read_ms;
    r->mark_sent = true;
    if (engine->state != ENGINE_OWNER || r->phase != RETENTION_COPIED || !retention_wants_mark(engine))
        return 0;
    r->phase = RETENTION_CUTTING;
    return r->cut;
}

static void cut_now(struct engine *engine)
{
    struct retention *r = &engine->retention;
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_CUT_JOURNAL);
    if (!queued)
        return;
    queued->output.offset = r->cut;
    queued->output.count = r->runs;
    queued->output.size = (size_t)r->copied_bytes;
    engine->counts.cuts++;
}

void retention_mark_sent(struct engine *engine, uint64_t n)
{
    engine->retention.cut_n = n;
    RULE_FIRED(CUT_CONFIRMED);
    if (!RULE(CUT_CONFIRMED))
        cut_now(engine);
}

void retention_mark_confirmed(struct engine *engine, uint64_t n)
{
    struct retention *r = &engine->retention;
    r->clean_ms = r->mark_read_ms;
    r->clean_pos = r->mark_pos;
    if (r->phase == RETENTION_MARKING && r->mark_sent) {
        r->phase = RETENTION_COPYING;
    } else if (r->phase == RETENTION_CUTTING && r->cut_n == n) {
        if (RULE(CUT_CONFIRMED))
            cut_now(engine);
        r->copied_before = r->copied_bytes;
        r->phase = RETENTION_CLAIMING;
    }
}

/* ---- forgetting: what no Copy and no Stub names after the cut ---------------------------------------------------------- */

static bool forget_run(void *context, struct run *run)
{
    struct engine *engine = context;
    if (run->user)
        active_settle(run->user);
    if (run->user)
        return false;
    size_t size = strlen(run->job) + 1;
    struct forgotten_job *forgotten = malloc(sizeof *forgotten + size);
    if (!forgotten)
        return false;
    memcpy(forgotten->job, run->job, size);
    forgotten->run = 0;
    forgotten->next = engine->retention.forgotten;
    engine->retention.forgotten = forgotten;
    engine->partition_changed = true;
    engine->counts.forgotten++;
    if (engine->state != ENGINE_OWNER)
        return true;
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_FORGOTTEN);
    if (queued)
        queued->output.key = queued->owned[0] = strdup(run->job);
    return true;
}

bool engine_has_forgotten(const struct engine *engine, const char *job)
{
    return engine_owns(engine) && judge_holds(engine->judge, job) && !judge_find(engine->judge, job);
}

void retention_sweep(struct engine *engine)
{
    if (engine->retention.run == NULL)
        judge_sweep(engine->judge, RETENTION_TURN_PLACES, forget_run, engine);
}

/* ---- between turns -------------------------------------------------------------------------------------------------------- */

bool retention_wants_claim(const struct engine *engine)
{
    return engine->retention.phase == RETENTION_CLAIMING && !engine->claim;
}

bool retention_wants_run(const struct engine *engine)
{
    const struct retention *r = &engine->retention;
    if (engine->claim)
        return false;
    if (is_given_up(engine))
        return may_copy(engine) && r->in_flight < RETENTION_IN_FLIGHT;
    if (engine->judge->swept != SIZE_MAX && engine->judge->cut > 0)
        return true;
    switch (r->phase) {
    case RETENTION_IDLE:
        return retention_is_due(engine);
    case RETENTION_COPYING:
        return r->in_flight < RETENTION_IN_FLIGHT && !(r->run && run_is_busy(r->run));
    case RETENTION_CLAIMING:
        return !engine->appends;
    case RETENTION_MARKING:
    case RETENTION_COPIED:
        return !engine->appends && retention_wants_mark(engine);
    default:
        return false;
    }
}

void retention_run(struct engine *engine)
{
    if (is_given_up(engine)) {
        leave_unbegun(engine);
    } else {
        retention_sweep(engine);
        if (retention_is_due(engine))
            pass_begin(engine);
    }
    if (engine->retention.phase == RETENTION_COPYING)
        copy_some(engine);
}
