/* What leaves one job and arrives at another: every command has its cause among the records that count, every cause
 * below out_pos has its command, and parents and children agree (rules 8, 10, 15). */
#include <stdlib.h>
#include <string.h>

#include "verify.h"

static bool is_terminal(const event_pb *e)
{
    return e->kind_case >= PERDURE__V1__EVENT__KIND_COMPLETED && e->kind_case <= PERDURE__V1__EVENT__KIND_TERMINATED;
}

static const char *const state_names[RUN_STATES] = {"", "completed", "failed", "cancelled", "terminated"};

static uint8_t state_of(const char *name)
{
    for (uint8_t i = RUN_COMPLETED; i < RUN_STATES; i++) {
        if (!strcmp(name, state_names[i]))
            return i;
    }
    return RUN_OPEN;
}

static uint64_t signal_key(uint32_t sender, uint32_t target, const char *name)
{
    return pv_hash_three(sender, target, pv_hash_text(name));
}

static struct signal_sum *signal_sum(struct check *c, uint32_t sender, uint32_t target, const char *name)
{
    struct signal_sum *sum = pv_table_put(&c->signals, signal_key(sender, target, name), NULL);
    sum->sender = sender;
    return sum;
}

static void add_output(struct check *c, const struct message *m, const struct run *run, const event_pb *e,
                       uint32_t target, uint16_t kind)
{
    struct output *output = pv_table_put(&c->outputs, pv_hash_three(run->job, run->id, e->seq), NULL);
    *output = (struct output){.offset = m->offset,
                              .partition = m->partition,
                              .job = run->job,
                              .target = target,
                              .run = run->id,
                              .seq = e->seq,
                              .op = e->op,
                              .kind = kind};
}

static void add_child_fact(struct check *c, const struct message *m, const struct child_fact *fact)
{
    /* A fact at the log's very end may have its cause in what was written to another partition after that was read. */
    if (m->offset >= pv_check_partition(c, m->partition)->horizon)
        return;
    c->children = pv_must_grow(c->children, c->child_count, &c->child_room, sizeof *c->children);
    c->children[c->child_count++] = *fact;
}

static void child_started(struct check *c, const struct message *m, const struct run *run, const event_pb *e)
{
    const Perdure__V1__Started *s = e->started;
    if (!*s->parent_job)
        return;
    struct child_fact fact = {.offset = m->offset,
                              .partition = m->partition,
                              .job = run->job,
                              .run = run->id,
                              .seq = e->seq,
                              .other = pv_check_job(c, s->parent_job),
                              .other_run = s->parent_run,
                              .op = s->parent_op};
    add_child_fact(c, m, &fact);
    pv_table_put(&c->from_jobs, pv_hash_text(s->request), NULL);
}

static void child_ended(struct check *c, const struct message *m, const struct run *run, const event_pb *e)
{
    const struct operation *op = pv_table_find(&run->life->operations, e->op);
    pv_table_put(&c->results, pv_hash_three(run->job, run->id, e->op), NULL);
    if (!op || !op->child_asked)
        return; /* checks.c says so */
    struct child_fact fact = {.offset = m->offset,
                              .partition = m->partition,
                              .job = run->job,
                              .run = run->id,
                              .seq = e->seq,
                              .other = op->child_job,
                              .other_run = e->child_ended->child_run,
                              .op = e->op,
                              .state = state_of(e->child_ended->state),
                              .ended = true};
    add_child_fact(c, m, &fact);
}

static void child_requested(struct check *c, const struct message *m, struct run *run, const event_pb *e)
{
    uint32_t child = pv_check_job(c, e->child_requested->job);
    struct operation *op = pv_table_put(&run->life->operations, e->op, NULL);
    op->child_job = child;
    struct child_request *asked = pv_table_put(&c->requested, pv_hash_three(run->job, run->id, e->op), NULL);
    asked->child = child;
    add_output(c, m, run, e, child, PERDURE__V1__COMMAND__KIND_START);
}

static void signal_received(struct check *c, const struct message *m, const struct run *run, const event_pb *e)
{
    const Perdure__V1__SignalReceived *s = e->signal_received;
    pv_table_put(&c->tastes, pv_taste(c, run, s->name, s->payload), NULL);
    if (!*s->sender_job)
        return;
    pv_table_put(&c->from_jobs, pv_hash_text(s->request), NULL);
    if (m->offset >= pv_check_partition(c, m->partition)->horizon)
        return;
    struct signal_sum *sum = signal_sum(c, pv_check_job(c, s->sender_job), run->job, s->name);
    sum->received++;
    sum->offset = m->offset;
    sum->partition = m->partition;
    sum->job = run->job;
    sum->run = run->id;
    sum->seq = e->seq;
}

/* The parent that waits for this run, from its Started. */
static void run_ended(struct check *c, const struct message *m, const struct run *run, const event_pb *e)
{
    if (run->parent != NO_JOB)
        add_output(c, m, run, e, run->parent, PERDURE__V1__COMMAND__KIND_CHILD_RESULT);
}

void pv_across_event(struct check *c, const struct message *m, struct run *run, const event_pb *e)
{
    uint32_t target;
    switch (e->kind_case) {
    case PERDURE__V1__EVENT__KIND_STARTED:
        run->parent = *e->started->parent_job ? pv_check_job(c, e->started->parent_job) : NO_JOB;
        child_started(c, m, run, e);
        break;
    case PERDURE__V1__EVENT__KIND_CHILD_REQUESTED:
        child_requested(c, m, run, e);
        break;
    case PERDURE__V1__EVENT__KIND_CHILD_ENDED:
        child_ended(c, m, run, e);
        break;
    case PERDURE__V1__EVENT__KIND_SIGNAL_SENT:
        target = pv_check_job(c, e->signal_sent->target);
        signal_sum(c, run->job, target, e->signal_sent->name)->sent++;
        add_output(c, m, run, e, target, PERDURE__V1__COMMAND__KIND_SIGNAL);
        break;
    case PERDURE__V1__EVENT__KIND_SEND_REFUSED:
        pv_table_put(&c->results, pv_hash_three(run->job, run->id, e->op), NULL);
        break;
    case PERDURE__V1__EVENT__KIND_SIGNAL_RECEIVED:
        signal_received(c, m, run, e);
        break;
    default:
        if (is_terminal(e))
            run_ended(c, m, run, e);
        break;
    }
}

/* rule 15: refusals to jobs stand in a Mark and are its outputs */
void pv_across_mark(struct check *c, const struct message *m, const mark_pb *mark)
{
    for (size_t i = 0; i < mark->n_refusals; i++) {
        const Perdure__V1__Refusal *r = mark->refusals[i];
        struct where w = pv_where_of(m, NULL);
        if (!pv_hold(c, r->to && *r->to->job && r->to->run, 15, &w, "a refusal to no job"))
            continue;
        c->refusals = pv_must_grow(c->refusals, c->refusal_count, &c->refusal_room, sizeof *c->refusals);
        c->refusals[c->refusal_count++] = (struct refusal){.offset = m->offset,
                                                           .partition = m->partition,
                                                           .job = pv_check_job(c, r->to->job),
                                                           .run = r->to->run,
                                                           .op = r->op,
                                                           .request = pv_hash_text(r->request)};
        pv_table_put(&c->refused, pv_hash_text(r->request), NULL);
        pv_table_put(&c->refused_ops, pv_hash_three(pv_check_job(c, r->to->job), r->to->run, r->op), NULL);
    }
}

static uint16_t kind_sent(const command_pb *command)
{
    return (uint16_t)command->kind_case;
}

/* A refusal follows from a Mark, which has no run and seq: it is known by whom it tells of which operation. */
static bool find_refusal(struct check *c, const header_pb *h, const command_pb *command)
{
    const uint32_t *job = pv_table_find(&c->job_index, pv_hash_text(h->job));
    bool *delivered = job ? pv_table_find(&c->refused_ops, pv_hash_three(*job, h->run, command->refusal->op)) : NULL;
    if (delivered)
        *delivered = true;
    return delivered;
}

/* rule 8: a job's command in an inbox follows from a record that counts */
void pv_across_command(struct check *c, const struct where *w, const record_pb *record)
{
    const header_pb *h = record->header;
    const sender_pb *s = h->sender;
    const struct partition *p = pv_check_partition(c, w->partition);
    if (w->offset >= p->inbox_horizon)
        return;
    if (record->command->kind_case == PERDURE__V1__COMMAND__KIND_REFUSAL) {
        bool gone = s && s->partition < c->partition_count &&
                    (c->partitions[s->partition].cut > 0 || !c->partitions[s->partition].whole);
        bool found = find_refusal(c, h, record->command);
        pv_hold(c, found || gone, 8, w, "a refusal that no Mark holds");
        return;
    }
    const uint32_t *sender = pv_table_find(&c->job_index, pv_hash_text(s->job));
    struct output *o = sender ? pv_table_find(&c->outputs, pv_hash_three(*sender, s->run, s->seq)) : NULL;
    if (sender && c->jobs[*sender].broken)
        return;
    if (!o && pv_was_cut(c, s->job))
        return;
    if (!pv_hold(c, o != NULL, 8, w, "sent by job '%s', run %016" PRIx64 ", seq %" PRIu64 ": no such record counts",
                 s->job, s->run, s->seq))
        return;
    pv_hold(c, o->kind == kind_sent(record->command) && !strcmp(c->jobs[o->target].id, h->job), 8, w,
            "it is not what job '%s' sent at seq %" PRIu64, s->job, s->seq);
    o->delivered = true;
}

/* Whether all that counts of the job can be known here, wherever its slot was. */
static bool judged(struct check *c, uint32_t job)
{
    uint32_t homes[MAPS];
    int count = c->jobs[job].broken ? 0 : pv_homes(c, c->jobs[job].id, homes);
    for (int i = 0; i < count; i++) {
        const struct partition *home = homes[i] < c->partition_count ? &c->partitions[homes[i]] : NULL;
        bool has_it = home && home->seen && !home->stopped && !home->damaged;
        bool may_lack_it = i > 0 && (!home || !home->seen); /* a growth that has not come so far */
        if (!has_it && !may_lack_it)
            return false;
    }
    return count > 0;
}

static struct where where_fact(const struct check *c, const struct child_fact *f)
{
    return (struct where){.stream = JOURNAL,
                          .partition = f->partition,
                          .offset = f->offset,
                          .job = c->jobs[f->job].id,
                          .run = f->run,
                          .seq = f->seq};
}

static void finish_started(struct check *c, const struct child_fact *f)
{
    struct where w = where_fact(c, f);
    struct child_request *asked = pv_table_find(&c->requested, pv_hash_three(f->other, f->other_run, f->op));
    if (!asked && pv_was_cut(c, c->jobs[f->other].id))
        return;
    if (!pv_hold(c, asked && asked->child == f->job, 8, &w,
                 "a child without its parent's request: no ChildRequested of job '%s', run %016" PRIx64 ", op %" PRIu64
                 " counts",
                 c->jobs[f->other].id, f->other_run, f->op))
        return;
    pv_hold(c, !asked->started, 8, &w, "the child of one request started twice");
    asked->started = true;
}

static void finish_ended(struct check *c, const struct child_fact *f)
{
    struct where w = where_fact(c, f);
    const struct child_request *asked = pv_table_find(&c->requested, pv_hash_three(f->job, f->run, f->op));
    if (f->state == RUN_OPEN) {
        pv_hold(c, !asked || !asked->started, 15, &w, "the start of child '%s' was refused, and yet it ran",
                c->jobs[f->other].id);
        return;
    }
    const struct run *child = pv_check_run(c, f->other, f->other_run);
    bool lived_on = child && child->state == RUN_OPEN && c->jobs[f->other].away;
    if ((!child || child->stub || lived_on) && pv_was_cut(c, c->jobs[f->other].id))
        return;
    pv_hold(c, child && child->state == f->state, 8, &w,
            "ChildEnded says that '%s', run %016" PRIx64 ", is %s; by its own history it is %s", c->jobs[f->other].id,
            f->other_run, state_names[f->state],
            !child         ? "unknown"
            : child->state ? state_names[child->state]
                           : "open");
}

static void finish_children(struct check *c)
{
    for (int ended = 0; ended < 2; ended++) { /* all starts first: a refusal asks for them */
        for (size_t i = 0; i < c->child_count; i++) {
            const struct child_fact *f = &c->children[i];
            if (f->ended != ended || !judged(c, f->other))
                continue;
            if (ended)
                finish_ended(c, f);
            else
                finish_started(c, f);
        }
    }
}

static void finish_signals(struct check *c)
{
    const struct signal_sum *s;
    for (size_t at = 0; (s = pv_table_next(&c->signals, &at, NULL));) {
        if (!s->received || !judged(c, s->sender) || pv_was_cut(c, c->jobs[s->sender].id))
            continue;
        struct where w = {.stream = JOURNAL,
                          .partition = s->partition,
                          .offset = s->offset,
                          .job = c->jobs[s->job].id,
                          .run = s->run,
                          .seq = s->seq};
        pv_hold(c, s->received <= s->sent, 8, &w, "%" PRIu64 " signals from job '%s' were absorbed, it sent %" PRIu64,
                s->received, c->jobs[s->sender].id, s->sent);
    }
}

/* The inboxes still hold all that was ever sent to the job. */
static bool inbox_whole(struct check *c, uint32_t job)
{
    uint32_t homes[MAPS];
    int count = pv_homes(c, c->jobs[job].id, homes);
    for (int i = 0; i < count; i++) {
        const struct partition *p = homes[i] < c->partition_count ? &c->partitions[homes[i]] : NULL;
        if (p && (p->inbox_first < 0 || p->inbox_first > 1 || p->inbox_stopped || p->truncated))
            return false;
    }
    return count > 0;
}

/* rule 10: what lies below out_pos has been sent; rule 25: so is what jobs sent that have left */
static void finish_outputs(struct check *c)
{
    const struct output *o;
    for (size_t at = 0; (o = pv_table_next(&c->outputs, &at, NULL));) {
        const struct partition *p = &c->partitions[o->partition];
        struct where w = {.stream = JOURNAL,
                          .partition = o->partition,
                          .offset = o->offset,
                          .job = c->jobs[o->job].id,
                          .run = o->run,
                          .seq = o->seq};
        const struct move *move = pv_move_away(c, o->partition, w.job);
        bool answered = pv_table_find(&c->results, pv_hash_three(o->job, o->run, o->op)); /* expired unsent: rule 14 */
        if (answered || !inbox_whole(c, o->target))
            continue;
        if (o->offset < p->sure_out_pos)
            pv_hold(c, o->delivered, 10, &w, "out_pos %" PRId64 " says that its output to '%s' is sent; no inbox has it",
                    p->sure_out_pos, c->jobs[o->target].id);
        else if (move && move->out < p->horizon)
            pv_hold(c, o->delivered, 25, &w,
                    "its slot left with the SlotOut at %" PRId64 " before its output to '%s' was sent; no inbox has it",
                    move->out, c->jobs[o->target].id);
    }
}

static void finish_refusals(struct check *c)
{
    for (size_t i = 0; i < c->refusal_count; i++) {
        const struct refusal *r = &c->refusals[i];
        const struct partition *p = &c->partitions[r->partition];
        struct where w = {.stream = JOURNAL,
                          .partition = r->partition,
                          .offset = r->offset,
                          .job = c->jobs[r->job].id,
                          .run = r->run};
        pv_hold(c, !pv_table_find(&c->from_jobs, r->request), 15, &w, "the refused command was absorbed as well");
        if (r->offset < p->sure_out_pos && inbox_whole(c, r->job))
            pv_hold(c, *(bool *)pv_table_find(&c->refused_ops, pv_hash_three(r->job, r->run, r->op)), 10, &w,
                    "out_pos %" PRId64 " says that this refusal is sent; no inbox has it", p->sure_out_pos);
    }
}

void pv_across_finish(struct check *c)
{
    finish_children(c);
    finish_signals(c);
    finish_outputs(c);
    finish_refusals(c);
}
