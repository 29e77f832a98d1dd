/* Inputs: each one absorbed once, none passed over without a reason (rules 12 to 16). */
#include <stdlib.h>
#include <string.h>

#include "verify.h"

static uint64_t input_key(uint32_t partition, uint32_t generation, int64_t offset)
{
    return pv_hash_three(partition, generation, (uint64_t)offset);
}

/* The request id an event carries; NULL: its kind carries none. */
static const char *request_of(const event_pb *e)
{
    switch (e->kind_case) {
    case PERDURE__V1__EVENT__KIND_STARTED:
        return e->started->request;
    case PERDURE__V1__EVENT__KIND_SIGNAL_RECEIVED:
        return e->signal_received->request;
    case PERDURE__V1__EVENT__KIND_CANCEL_REQUESTED:
        return e->cancel_requested->request;
    case PERDURE__V1__EVENT__KIND_TERMINATED:
        return e->terminated->request;
    case PERDURE__V1__EVENT__KIND_RESUMED:
        return e->resumed->request;
    default:
        return NULL;
    }
}

static bool event_takes(const event_pb *e, const input_pb *input)
{
    const char *request = e ? request_of(e) : NULL;
    return request && !strcmp(request, input->request);
}

static bool is_reply(const event_pb *e)
{
    switch (e ? e->kind_case : PERDURE__V1__EVENT__KIND__NOT_SET) {
    case PERDURE__V1__EVENT__KIND_CHILD_ENDED:
    case PERDURE__V1__EVENT__KIND_SEND_REFUSED:
    case PERDURE__V1__EVENT__KIND_STEP_COMPLETED: /* of a step that was executed outside */
    case PERDURE__V1__EVENT__KIND_STEP_FAILED:
    case PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED:
    case PERDURE__V1__EVENT__KIND_STEP_DISPATCHED:
    case PERDURE__V1__EVENT__KIND_STEP_PROGRESS:
        return true;
    default:
        return false;
    }
}

/* rule 33: the header repeats the request ids that stand in the events. Results carry none there: they are counted. */
static void compare_requests(struct check *c, const struct where *w, const header_pb *h, event_pb *const *events,
                             size_t count)
{
    size_t nameless = 0, replies = 0, at = 0;
    for (size_t i = 0; i < count; i++) {
        const char *request = events[i] ? request_of(events[i]) : NULL;
        replies += is_reply(events[i]);
        size_t j = 0;
        while (request && j < h->n_inputs && strcmp(h->inputs[j]->request, request))
            j++;
        if (request)
            pv_hold(c, j < h->n_inputs, 13, w, "an event absorbs request '%s', which the header's inputs do not name",
                    request);
    }
    for (size_t i = 0; i < h->n_inputs; i++) {
        size_t tried = 0; /* mostly both are in one order, so the search goes on where it last ended */
        while (tried < count && !event_takes(events[(at + tried) % count], h->inputs[i]))
            tried++;
        nameless += tried == count;
        at = tried < count ? (at + tried + 1) % count : at;
    }
    pv_hold(c, nameless <= replies, 13, w, "the header names %zu inputs that no event absorbs",
            nameless - (nameless ? replies : 0));
}

/* What an absorbed command and its event have in common, whatever the owner made of types and payloads. */
static uint64_t fact_of_event(const event_pb *e)
{
    switch (e->kind_case) {
    case PERDURE__V1__EVENT__KIND_STARTED:
        return pv_hash_three(PERDURE__V1__COMMAND__KIND_START, pv_hash_text(e->started->parent_job),
                             pv_hash_two(e->started->parent_run, e->started->parent_op));
    case PERDURE__V1__EVENT__KIND_SIGNAL_RECEIVED:
        return pv_hash_three(PERDURE__V1__COMMAND__KIND_SIGNAL, pv_hash_text(e->signal_received->name),
                             pv_hash_text(e->signal_received->sender_job));
    case PERDURE__V1__EVENT__KIND_CANCEL_REQUESTED:
        return PERDURE__V1__COMMAND__KIND_CANCEL;
    case PERDURE__V1__EVENT__KIND_RESUMED:
        return PERDURE__V1__COMMAND__KIND_RESUME;
    default:
        return PERDURE__V1__COMMAND__KIND_TERMINATE;
    }
}

static uint64_t fact_of_command(const record_pb *r)
{
    const command_pb *command = r->command;
    const Perdure__V1__Start *start = command->start;
    switch (command->kind_case) {
    case PERDURE__V1__COMMAND__KIND_START:
        return pv_hash_three(command->kind_case, pv_hash_text(start->parent_job),
                             pv_hash_two(start->parent_run, start->parent_op));
    case PERDURE__V1__COMMAND__KIND_SIGNAL:
        return pv_hash_three(command->kind_case, pv_hash_text(command->signal->name),
                             pv_hash_text(r->header->sender ? r->header->sender->job : ""));
    case PERDURE__V1__COMMAND__KIND_CHILD_RESULT:
    case PERDURE__V1__COMMAND__KIND_REFUSAL:
    case PERDURE__V1__COMMAND__KIND_TASK_REPORT:
        return 0;
    default:
        return command->kind_case;
    }
}

static uint64_t fact_of_input(const header_pb *h, event_pb *const *events, const input_pb *input)
{
    for (size_t i = 0; i < h->count; i++) {
        if (event_takes(events[i], input))
            return fact_of_event(events[i]);
    }
    return 0;
}

/* rule 13: no request id twice in a run */
static void absorb_request(struct check *c, const struct where *w, const header_pb *h, struct run *run,
                           event_pb *const *events, size_t i)
{
    const char *request = h->inputs[i]->request;
    if (!*request)
        return;
    bool fresh;
    struct request *r = pv_table_put(&run->life->requests, pv_hash_text(request), &fresh);
    if (!pv_hold(c, fresh, 13, w, "request '%s' is absorbed twice in one run", request))
        return;
    *r = (struct request){.t = h->t, .command = fact_of_input(h, events, h->inputs[i]) != 0};
    pv_table_put(&c->known, pv_hash_two(run->job, pv_hash_text(request)), NULL);
}

struct reach *pv_reach(struct check *c, const struct run *run, uint32_t partition, uint32_t generation, bool *fresh)
{
    return pv_table_put(&c->reached, pv_hash_three((uint64_t)(run - c->runs), partition, generation), fresh);
}

static void absorb_one(struct check *c, const struct message *m, const header_pb *h, struct run *run,
                       event_pb *const *events, const input_pb *in)
{
    struct where w = pv_where_of(m, h);
    const struct partition *p = pv_check_partition(c, m->partition);
    pv_hold(c, in->partition == m->partition, 24, &w, "an input of partition %" PRIu32 "'s inbox", in->partition);
    bool fresh;
    struct absorbed *a = pv_table_put(&c->absorbed, input_key(in->partition, in->generation, in->offset), &fresh);
    if (!pv_hold(c, fresh, 13, &w, "input %" PRIu32 ":%" PRId64 " is absorbed twice, first at %" PRId64, in->generation,
                 in->offset, a->offset))
        return;
    *a = (struct absorbed){.run = (uint32_t)(run - c->runs),
                           .partition = in->partition,
                           .generation = in->generation,
                           .input = in->offset,
                           .request = pv_hash_text(in->request),
                           .fact = fact_of_input(h, events, in),
                           .offset = m->offset};
    c->totals.absorbed++;
    pv_hold(c, c->copying || in->generation != p->in_generation || in->offset >= p->in_pos, 13, &w,
            "input %" PRId64 " is absorbed though in_pos had reached %" PRId64 " without it", in->offset, p->in_pos);
    bool same = run->in_last >= 0 && in->partition == run->in_partition && in->generation == run->in_generation;
    pv_hold(c, !same || in->offset > run->in_last, 13, &w,
            "input %" PRId64 " is not above the run's last one, %" PRId64, in->offset, run->in_last);
    struct reach *reach = pv_reach(c, run, in->partition, in->generation, &fresh);
    if (fresh) /* a run from an earlier generation, or another inbox, was open at every offset of this one so far */
        reach->first = run->in_last < 0 ? in->offset : 0;
    reach->last = in->offset > reach->last ? in->offset : reach->last;
    run->in_partition = in->partition;
    run->in_generation = in->generation;
    run->in_last = in->offset;
}

void pv_absorb_inputs(struct check *c, const struct message *m, const header_pb *h, struct run *run,
                      event_pb *const *events, size_t count)
{
    struct where w = pv_where_of(m, h);
    compare_requests(c, &w, h, events, count);
    for (size_t i = 0; i < h->n_inputs; i++) {
        absorb_one(c, m, h, run, events, h->inputs[i]);
        absorb_request(c, &w, h, run, events, i);
    }
}

static const Perdure__V1__Ending *ending_of(const event_pb *e)
{
    switch (e->kind_case) {
    case PERDURE__V1__EVENT__KIND_COMPLETED:
        return e->completed->ending;
    case PERDURE__V1__EVENT__KIND_FAILED:
        return e->failed->ending;
    case PERDURE__V1__EVENT__KIND_CANCELLED:
        return e->cancelled->ending;
    default:
        return e->terminated->ending;
    }
}

/* rule 20: the terminal event keeps what a later repetition is known by */
void pv_check_ending(struct check *c, const struct where *w, struct run *run, const event_pb *event)
{
    const Perdure__V1__Ending *ending = ending_of(event);
    if (!pv_hold(c, ending != NULL, 20, w, "a terminal event without its ending"))
        return;
    run->keep_until = ending->keep_until;
    pv_hold(c, ending->keep_until >= event->t, 20, w, "keep_until %" PRId64 " is before its own t", ending->keep_until);
    struct table named;
    pv_table_init(&named, 1);
    for (size_t i = 0; i < ending->n_requests; i++) {
        uint64_t key = pv_hash_text(ending->requests[i]);
        pv_table_put(&named, key, NULL);
        /* What an earlier run of the job id absorbed is still known: a late repetition must not start it again. */
        pv_hold(c, pv_table_find(&c->known, pv_hash_two(run->job, key)) != NULL || pv_was_cut(c, w->job), 20, w,
                "the ending names request '%s', which the job never absorbed", ending->requests[i]);
    }
    const char *own = request_of(event); /* a Terminated names its request itself */
    uint64_t skip = own ? pv_hash_text(own) : 0, key;
    bool whole = run->life->requests.count <= REQUESTS_KEPT; /* else only the newest are kept */
    const struct request *r;
    for (size_t at = 0; (r = pv_table_next(&run->life->requests, &at, &key));) {
        if (whole && r->command && key != skip && r->t > event->t - LIFE_MS)
            pv_hold(c, pv_table_find(&named, key) != NULL, 20, w, "the ending lacks a request absorbed at %" PRId64,
                    r->t);
    }
    pv_table_free(&named);
    for (size_t i = 0; i < ending->n_unconsumed; i++)
        pv_hold(c, ending->unconsumed[i] > 0 && ending->unconsumed[i] < event->seq, 20, w,
                "the ending names an unconsumed input at seq %" PRIu64, ending->unconsumed[i]);
}

static bool is_result(const command_pb *command)
{
    return command->kind_case == PERDURE__V1__COMMAND__KIND_CHILD_RESULT ||
           command->kind_case == PERDURE__V1__COMMAND__KIND_REFUSAL ||
           command->kind_case == PERDURE__V1__COMMAND__KIND_TASK_REPORT;
}

/* rule 14; results do not die by age. 0: alive; else which end of its life it missed. */
static int dead(const struct message *m, const record_pb *r)
{
    const header_pb *h = r->header;
    if (m->append_ms <= 0 || !h->born || is_result(r->command))
        return 0;
    if (h->born > m->append_ms + BORN_AHEAD_MS)
        return 1;
    return m->append_ms - h->born > (h->life ? h->life : LIFE_MS) ? -1 : 0;
}

/* The record that absorbed this one. After a truncation an offset may stand for another input of an older
 * generation. */
static struct absorbed *absorber(struct check *c, const struct partition *p, const struct message *m, uint64_t request)
{
    for (uint32_t back = 0; back <= p->in_generation && back < 64; back++) {
        struct absorbed *a = pv_table_find(&c->absorbed, input_key(m->partition, p->in_generation - back, m->offset));
        if (a && (back == 0 || a->request == request))
            return a;
    }
    return NULL;
}

static void check_absorbed(struct check *c, const struct message *m, const record_pb *r, struct absorbed *a)
{
    const header_pb *h = r->header;
    struct where w = pv_where_of(m, h);
    const struct run *run = &c->runs[a->run];
    const char *job = c->jobs[run->job].id;
    pv_hold(c, a->request == pv_hash_text(r->command->request), 13, &w,
            "journal record %" PRId64 " absorbed this input under another request id than '%s'", a->offset,
            r->command->request);
    pv_hold(c, !strcmp(job, h->job), 13, &w, "journal record %" PRId64 " of job '%s' absorbed this input", a->offset,
            job);
    bool started = r->command->kind_case == PERDURE__V1__COMMAND__KIND_START;
    pv_hold(c, started || !h->run || h->run == run->id, 14, &w,
            "it names another run than %016" PRIx64 ", which absorbed it", run->id);
    pv_hold(c, r->command->kind_case != PERDURE__V1__COMMAND__KIND_WATCH, 12, &w, "a Watch was absorbed");
    if (a->request == pv_hash_text(r->command->request))
        pv_hold(c, a->fact == fact_of_command(r), 12, &w,
                "journal record %" PRId64 " absorbed something else than this", a->offset);
    int died = dead(m, r);
    pv_hold(c, !died, 14, &w,
            died > 0 ? "a command was absorbed that was born more than 60 s after its append"
                     : "a command was absorbed that had outlived its life");
}

/* A run of the job that was open when this input's turn came: it absorbed something before it, or came from another
 * partition; and it is open, absorbed something after it, or left after that. */
static const struct run *open_across(struct check *c, const struct partition *p, const struct message *m,
                                     const header_pb *h)
{
    const uint32_t *job = pv_table_find(&c->job_index, pv_hash_text(h->job));
    for (int64_t at = job ? c->jobs[*job].run : -1; at >= 0; at = c->runs[at].previous) {
        const struct run *run = &c->runs[at];
        bool named = !h->run || h->run == run->id, here = c->jobs[*job].partition == m->partition && !c->jobs[*job].away;
        const struct reach *reach =
            pv_table_find(&c->reached, pv_hash_three((uint64_t)at, m->partition, p->in_generation));
        if (c->jobs[*job].broken || run->stopped || !reach || !named)
            continue;
        if (reach->first < m->offset && ((run->state == RUN_OPEN && here) || reach->last > m->offset))
            return run;
    }
    return NULL;
}

uint64_t pv_taste(const struct check *c, const struct run *run, const char *name, const Perdure__V1__Payload *payload)
{
    return pv_hash_three(pv_hash_text(c->types[run->type]), pv_hash_text(name),
                         pv_hash_text(payload ? payload->type : ""));
}

/* A client's signal may be refused for its name, type, size or JSON, which leaves no trace. Not so one whose like was
 * absorbed by a job of this type. */
static bool refusable(const struct check *c, const Perdure__V1__Signal *signal, const struct run *run)
{
    const Perdure__V1__Payload *payload = signal->payload;
    if (payload && (payload->json || payload->data.len > PAYLOAD_MOST))
        return true;
    return !pv_table_find(&c->tastes, pv_taste(c, run, signal->name, payload));
}

/* Whether an open run may leave such a command aside. */
static bool droppable(const struct check *c, const command_pb *command, const struct run *run)
{
    switch (command->kind_case) {
    case PERDURE__V1__COMMAND__KIND_SIGNAL:
        return refusable(c, command->signal, run);
    case PERDURE__V1__COMMAND__KIND_CANCEL:
        return run->cancel_asked;
    case PERDURE__V1__COMMAND__KIND_TERMINATE:
        return false;
    case PERDURE__V1__COMMAND__KIND_CHILD_RESULT:
        return pv_table_find(&c->results, pv_hash_three(run->job, run->id, command->child_result->op));
    case PERDURE__V1__COMMAND__KIND_REFUSAL:
        return pv_table_find(&c->results, pv_hash_three(run->job, run->id, command->refusal->op));
    default:
        return true; /* a start of a job that runs: answered, not absorbed */
    }
}

static enum skip why_skipped(struct check *c, const struct partition *p, const struct message *m, const record_pb *r)
{
    const header_pb *h = r->header;
    const uint32_t *job = pv_table_find(&c->job_index, pv_hash_text(h->job));
    uint64_t request = pv_hash_text(r->command->request);
    if (r->command->kind_case == PERDURE__V1__COMMAND__KIND_WATCH)
        return SKIP_WATCH;
    if (job && *r->command->request && pv_table_find(&c->known, pv_hash_two(*job, request)))
        return SKIP_DUPLICATE;
    if (pv_table_find(&c->refused, request))
        return SKIP_REFUSED;
    if (dead(m, r) && !h->sender)
        return SKIP_EXPIRED;
    struct where w = pv_where_of(m, h);
    bool told = !h->sender || is_result(r->command); /* rule 15: a job is told of the end of its command */
    if (!told && pv_was_cut(c, h->job))
        return SKIP_DROPPED; /* who absorbed it is forgotten, or the Mark that refused it is gone */
    pv_hold(c, told, 15, &w, "a job's command lies below in_pos, neither absorbed nor refused in a Mark");
    bool aged = m->append_ms <= 0 && !is_result(r->command); /* it may have been dead: the log cannot tell */
    const struct run *run = told && !aged ? open_across(c, p, m, h) : NULL;
    pv_hold(c, !run || droppable(c, r->command, run), 13, &w,
            "in_pos %" PRId64 " passed this input to an open run; nothing "
            "absorbed it",
            p->in_pos);
    return SKIP_DROPPED;
}

/* Whether the old owner may have answered it before its slot left, so that there was nothing to forward. Not so what came
 * clearly later than the SlotOut, whatever the brokers' clocks; nor a job's command: its end stands in a journal. */
static bool answered_before(struct check *c, const struct partition *p, const struct message *m, const record_pb *r,
                            const struct move *move)
{
    const command_pb *command = r->command;
    const uint32_t *job = pv_table_find(&c->job_index, pv_hash_text(r->header->job));
    const struct run *asked = job && r->header->run ? pv_check_run(c, *job, r->header->run) : NULL;
    bool late = m->offset >= move->out_in_pos && m->append_ms > move->out_ms + BORN_AHEAD_MS;
    if (command->kind_case == PERDURE__V1__COMMAND__KIND_WATCH || (dead(m, r) && !r->header->sender))
        return true;
    if (late)
        return false;
    if (job && *command->request && pv_table_find(&c->known, pv_hash_two(*job, pv_hash_text(command->request))))
        return true;
    if (pv_table_find(&c->refused, pv_hash_text(command->request)))
        return true;
    if (is_result(command) && (!asked || asked->state != RUN_OPEN || droppable(c, command, asked)))
        return true; /* the run that waited for it has had it, or is over */
    if (r->header->sender && !is_result(command))
        return pv_was_cut(c, r->header->job);
    if (command->kind_case != PERDURE__V1__COMMAND__KIND_START) {
        const struct run *run = open_across(c, p, m, r->header);
        return !run || droppable(c, command, run);
    }
    const Perdure__V1__Payload *input = command->start->input;
    return (job && c->jobs[*job].run >= 0) || !pv_table_find(&c->type_index, pv_hash_text(command->start->type)) ||
           (input && (input->json || input->data.len > PAYLOAD_MOST));
}

/* What nothing absorbed here. */
static void check_left_alone(struct check *c, const struct partition *p, const struct message *m, const record_pb *r)
{
    struct where w = pv_where_of(m, r->header);
    const struct move *move = pv_move_away(c, m->partition, r->header->job);
    bool sure = m->offset < p->sure_in_pos; /* else where it went may lie beyond what was read */
    if (m->offset >= p->in_pos || (move && !sure))
        c->totals.waiting++;
    else if (move && !p->stopped)
        pv_note_forward(c, &w, r, answered_before(c, p, m, r, move));
    else if (p->has_genesis && !move && pv_digest_slot(r->header->job) % p->partitions != m->partition)
        c->totals.skips[SKIP_FOREIGN]++;
    else if (!p->stopped)
        c->totals.skips[why_skipped(c, p, m, r)]++;
}

static void check_command(struct check *c, const struct partition *p, const struct message *m, const record_pb *r)
{
    const header_pb *h = r->header;
    struct where w = pv_where_of(m, h);
    if (p->has_genesis && h->log != (uint32_t)p->log_id) {
        c->totals.skips[SKIP_FOREIGN]++;
        return;
    }
    if (!*h->job) {
        pv_partition_command(c, &w, r);
        return;
    }
    struct absorbed *a = absorber(c, p, m, pv_hash_text(r->command->request));
    pv_note_carried(c, &w, r);
    if (h->sender)
        pv_across_command(c, &w, r);
    pv_hold(c, m->offset >= p->slots_in_pos, 25, &w, "in_pos had passed this command before the slots of its partition were in");
    if (a)
        check_absorbed(c, m, r, a);
    else
        check_left_alone(c, p, m, r);
}

void pv_check_inbox(struct check *c, const struct message *m)
{
    struct partition *p = pv_check_partition(c, m->partition);
    record_pb *r;
    c->totals.inbox++;
    if (p->inbox_first < 0)
        p->inbox_first = m->offset;
    p->inbox_seen = true;
    if (p->inbox_stopped)
        return;
    enum frame frame = pv_frame_open(m->data, m->size, &r);
    struct absorbed *a = pv_table_find(&c->absorbed, input_key(m->partition, p->in_generation, m->offset));
    if (a)
        a->seen = true;
    struct where w = pv_where_of(m, r ? r->header : NULL);
    bool old =
        r && r->header->format == FORMAT && r->header->rule_level <= RULE_LEVEL && r->header->min_reader <= RULE_LEVEL;
    bool command = old && r->header->kind == PERDURE__V1__KIND__KIND_COMMAND && r->command && r->command->kind_case;
    if (r)
        c->totals.kinds[r->header->kind < 32 ? r->header->kind : 0]++;
    if (command) {
        check_command(c, p, m, r);
    } else if (r && (!old || r->header->kind != PERDURE__V1__KIND__KIND_COMMAND)) {
        pv_hold(c, false, 32, &w,
                "record kind %" PRIu32 " of rule level %" PRIu32 " is unknown in an inbox; it is not judged "
                "from here on",
                r->header->kind, r->header->rule_level);
        p->inbox_stopped = true;
    } else { /* rule 12: unreadable ones are refused */
        c->totals.skips[SKIP_UNREADABLE]++;
        pv_hold(c, !a, 12, &w, "absorbed though it cannot be read: %s",
                pv_frame_text(frame == FRAME_GOOD ? FRAME_RECORD : frame));
    }
    if (r)
        perdure__v1__record__free_unpacked(r, NULL);
}

/* What was absorbed stands in the inbox, as far as that is still there. */
void pv_inputs_finish(struct check *c)
{
    const struct absorbed *a;
    for (size_t at = 0; (a = pv_table_next(&c->absorbed, &at, NULL));) {
        const struct partition *p = pv_check_partition(c, a->partition);
        const struct run *run = &c->runs[a->run];
        struct where w = {.stream = JOURNAL,
                          .partition = c->jobs[run->job].partition,
                          .offset = a->offset,
                          .job = c->jobs[run->job].id,
                          .run = run->id};
        bool held = p && p->inbox_seen && !p->inbox_stopped && !p->truncated && a->input >= p->inbox_first &&
                    a->input < p->inbox_horizon && (p->inbox_horizon == INT64_MAX || a->input <= p->inbox_last);
        if (held)
            pv_hold(c, a->seen, 12, &w, "it absorbed input %" PRId64 ", which the inbox does not have", a->input);
    }
}
