/* What is checked while a run goes on: each record that counts, each output of an engine, each effect, each save. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

/* ---- by request id ------------------------------------------------------------------------------------------ */

static struct truth_request *truth_request(const char *id)
{
    struct truth_request **link = &world->truth[hash64(id, strlen(id)) % 256];
    while (*link && strcmp((*link)->id, id) != 0)
        link = &(*link)->next;
    if (!*link) {
        *link = calloc(1, sizeof **link);
        if (!*link || !((*link)->id = strdup(id)))
            abort();
    }
    return *link;
}

void truth_clear(void)
{
    for (size_t i = 0; i < 256; i++)
        while (world->truth[i]) {
            struct truth_request *next = world->truth[i]->next;
            free(world->truth[i]->id);
            free(world->truth[i]);
            world->truth[i] = next;
        }
}

/* ---- events that count ------------------------------------------------------------------------------------------ */

static const Event *run_find(const struct oracle_run *run, uint64_t below, int kind, uint64_t op)
{
    for (uint64_t i = 0; i < below && i < run->seq; i++)
        if ((int)run->events[i].event->kind_case == kind && run->events[i].event->op == op)
            return run->events[i].event;
    return NULL;
}

static const struct effect *effect_find(const char *job, uint64_t run, uint64_t op, uint32_t attempt, uint64_t token)
{
    for (size_t i = world->effect_count; i-- > 0;) {
        const struct effect *effect = &world->effects[i];
        if (effect->run == run && effect->op == op && effect->attempt == attempt &&
            (token == 0 || effect->token == token) && strcmp(effect->job, job) == 0)
            return effect;
    }
    return NULL;
}

static void check_step_ended(const struct oracle_run *run, uint64_t at, const Event *event)
{
    const int ends[] = { PERDURE__V1__EVENT__KIND_STEP_COMPLETED, PERDURE__V1__EVENT__KIND_STEP_FAILED };
    for (size_t i = 0; i < 2; i++)
        if (run_find(run, at, ends[i], event->op))
            world_bad("%s: the step of op %llu is recorded twice", run->job, (unsigned long long)event->op);
    if (event->kind_case == PERDURE__V1__EVENT__KIND_STEP_COMPLETED) {
        const Payload *result = event->step_completed->result;
        unsigned value;
        unsigned long long token = 0;
        char text[64] = "";
        if (result)
            bytes_text(text, sizeof text, result->data);
        if (sscanf(text, "%u %llu", &value, &token) != 2)
            token = 0;
        if (!effect_find(run->job, run->run, event->op, event->step_completed->attempt, token))
            world_bad("%s: step op %llu is recorded, but nobody did it", run->job, (unsigned long long)event->op);
    }
}

static void check_attempt_failed(const struct oracle_run *run, const Event *event, const Error *error, uint32_t attempt)
{
    static const char *const ours[] = { "NotYet", "Hopeless", "BadInput" };
    for (size_t i = 0; error && i < 3; i++)
        if (strcmp(error->type, ours[i]) == 0 && !effect_find(run->job, run->run, event->op, attempt, 0))
            world_bad("%s: attempt %u of op %llu is recorded, but nobody made it", run->job, attempt,
                      (unsigned long long)event->op);
}

static void check_timer(const struct oracle_run *run, uint64_t at, const Event *event)
{
    const Event *started = run_find(run, at, PERDURE__V1__EVENT__KIND_TIMER_STARTED, event->op);
    if (!started)
        world_bad("%s: a timer fires that was not started", run->job);
    if (run_find(run, at, PERDURE__V1__EVENT__KIND_TIMER_FIRED, event->op))
        world_bad("%s: timer op %llu fires twice", run->job, (unsigned long long)event->op);
    if (event->t < started->timer_started->fire_at)
        world_bad("%s: timer op %llu fires before its time", run->job, (unsigned long long)event->op);
}

static void check_parent(const struct oracle_run *run, const Perdure__V1__Started *started)
{
    if (!started->parent_job[0] || world->truncated_lossy)
        return;
    const struct oracle_run *parent =
        growth_find_run(started->parent_job, started->parent_run);
    const Event *asked =
        parent ? run_find(parent, parent->seq, PERDURE__V1__EVENT__KIND_CHILD_REQUESTED, started->parent_op) : NULL;
    if (!asked || strcmp(asked->child_requested->job, run->job) != 0)
        world_bad("orphan: %s runs, but %s did not ask for it", run->job, started->parent_job);
}

static void check_started(const struct oracle_run *run, const Event *event)
{
    const Perdure__V1__Started *started = event->started;
    struct truth_request *request = truth_request(started->request);
    if (run->run != run_id_of(world->log_id, run->job, started->request))
        world_bad("%s: its run id does not follow from its start", run->job);
    request->starts++;
    if (request->starts > 1)
        world_bad("a start ran twice: request %s of %s", started->request, run->job);
    request->run = run->run;
    if (!world->rejudging)
        check_parent(run, started);
}

static void check_signal(const struct oracle_run *run, const Event *event)
{
    const Perdure__V1__SignalReceived *signal = event->signal_received;
    struct truth_request *request = truth_request(signal->request);
    request->signals++;
    if (request->signals > 1)
        world_bad("a signal was absorbed twice: request %s by %s", signal->request, run->job);
}

static void check_child(const struct oracle_run *run, const Event *event, const Event *asked)
{
    const Perdure__V1__ChildEnded *ended = event->child_ended;
    if (strcmp(ended->state, "refused") == 0 || world->truncated_lossy)
        return;
    const struct oracle_run *child =
        growth_find_run(asked->child_requested->job, ended->child_run);
    if (!child || child->open)
        world_bad("%s: its child %s ended, but not in its history", run->job, asked->child_requested->job);
    const Perdure__V1__Started *started = child->events[0].event->started;
    if (started->parent_run != run->run || started->parent_op != event->op || strcmp(started->parent_job, run->job) != 0)
        world_bad("%s: it took the result of another run's child", run->job);
    const Event *last = child->events[child->seq - 1].event;
    if (last->kind_case == PERDURE__V1__EVENT__KIND_COMPLETED) {
        const Payload *a = last->completed->result, *b = ended->result;
        if (strcmp(ended->state, "completed") != 0 || !a || !b || !bytes_equal(a->data, b->data))
            world_bad("%s: its child's result is not that of the child", run->job);
    }
}

static void check_child_ended(const struct oracle_run *run, uint64_t at, const Event *event)
{
    const Event *asked = run_find(run, at, PERDURE__V1__EVENT__KIND_CHILD_REQUESTED, event->op);
    if (!asked)
        world_bad("%s: a child ended that it did not ask for", run->job);
    if (run_find(run, at, PERDURE__V1__EVENT__KIND_CHILD_ENDED, event->op))
        world_bad("%s: child of op %llu ended twice", run->job, (unsigned long long)event->op);
    if (!world->rejudging)
        check_child(run, event, asked);
}

/* One crash once, in a row of its own code's, aside from the second one on; nothing of its own before it is resumed. */
static void check_crash(const struct oracle_run *run, uint64_t at, const Perdure__V1__JobCrashed *crash)
{
    for (uint64_t i = 0; i < at; i++)
        if (run->events[i].event->kind_case == PERDURE__V1__EVENT__KIND_JOB_CRASHED &&
            run->events[i].event->job_crashed->crash == crash->crash)
            world_bad("%s: one crash is recorded twice", run->job);
    if (crash->quarantined != (crash->count >= 2) && !(crash->quarantined && at > 20))
        world_bad("%s: %u crashes in a row, quarantined: %d", run->job, crash->count, crash->quarantined);
    if (crash->worker[0] && !effect_find(run->job, run->run, run->events[at].event->op, crash->attempt, 0))
        world_bad("%s: attempt %u crashed its worker, but nobody made it", run->job, crash->attempt);
    if (crash->quarantined)
        fault_count(FAULT_QUARANTINED);
}

static void check_aside(const struct oracle_run *run, uint64_t at, const Event *event)
{
    bool own = event->kind_case == PERDURE__V1__EVENT__KIND_STEP_COMPLETED ||
               event->kind_case == PERDURE__V1__EVENT__KIND_STEP_FAILED ||
               event->kind_case == PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED ||
               event->kind_case == PERDURE__V1__EVENT__KIND_TIMER_STARTED ||
               event->kind_case == PERDURE__V1__EVENT__KIND_TIMER_FIRED ||
               event->kind_case == PERDURE__V1__EVENT__KIND_SIGNAL_SENT ||
               event->kind_case == PERDURE__V1__EVENT__KIND_CHILD_REQUESTED ||
               event->kind_case == PERDURE__V1__EVENT__KIND_COMPLETED ||
               event->kind_case == PERDURE__V1__EVENT__KIND_FAILED ||
               event->kind_case == PERDURE__V1__EVENT__KIND_CANCELLED;
    bool outside = run_find(run, at, PERDURE__V1__EVENT__KIND_STEP_SCHEDULED, event->op) ||
                   run_find(run, at, PERDURE__V1__EVENT__KIND_STEP_DISPATCHED, event->op);
    own = own && !(event->op > 0 && outside); /* what others did is absorbed, rule 12 */
    for (uint64_t i = at; own && i-- > 0;) {
        const Event *before = run->events[i].event;
        if (before->kind_case == PERDURE__V1__EVENT__KIND_RESUMED)
            return;
        if (before->kind_case == PERDURE__V1__EVENT__KIND_JOB_CRASHED && before->job_crashed->quarantined)
            world_bad("%s is quarantined and goes on: event %llu, %s", run->job, (unsigned long long)event->seq,
                      event_kind_name(event));
    }
}

/* What a step worker said of a crash stands before the failure of that attempt. */
static void check_behind_crash(const struct oracle_run *run, uint64_t at, const Event *event)
{
    uint64_t i = at;
    if (event->kind_case == PERDURE__V1__EVENT__KIND_STEP_PROGRESS) /* a new owner reads that it began, then how it ended */
        return;
    while (event->op > 0 && i-- > 0)
        if (run->events[i].event->op == event->op && run->events[i].event->kind_case != PERDURE__V1__EVENT__KIND_STEP_PROGRESS)
            break;
    if (event->op == 0 || i >= at || run->events[i].event->kind_case != PERDURE__V1__EVENT__KIND_JOB_CRASHED ||
        !run->events[i].event->job_crashed->worker[0])
        return;
    uint32_t attempt = event->kind_case == PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED ? event->attempt_failed->attempt
                       : event->kind_case == PERDURE__V1__EVENT__KIND_STEP_FAILED ? event->step_failed->attempt
                                                                                  : 0;
    if (attempt != run->events[i].event->job_crashed->attempt)
        world_bad("%s: behind the crash of op %llu comes %s", run->job, (unsigned long long)event->op, event_kind_name(event));
}

static void check_event(const struct oracle_run *run, uint64_t at, const Event *event)
{
    tally.events++;
    if (event->kind_case < 64)
        tally.event_kinds[event->kind_case]++;
    for (uint64_t i = 0; i < at; i++)
        if (run->events[i].event->kind_case == PERDURE__V1__EVENT__KIND__NOT_SET &&
            event->kind_case != PERDURE__V1__EVENT__KIND_SIGNAL_RECEIVED &&
            event->kind_case != PERDURE__V1__EVENT__KIND_CANCEL_REQUESTED &&
            event->kind_case != PERDURE__V1__EVENT__KIND_RESUMED &&
            event->kind_case != PERDURE__V1__EVENT__KIND_JOB_CRASHED && /* of before: journaled late, the job does not run */
            event->kind_case != PERDURE__V1__EVENT__KIND_TERMINATED)
            world_bad("%s goes on after an event that nobody here knows", run->job);
    check_aside(run, at, event);
    check_behind_crash(run, at, event);
    switch (event->kind_case) {
    case PERDURE__V1__EVENT__KIND_JOB_CRASHED:
        check_crash(run, at, event->job_crashed);
        break;
    case PERDURE__V1__EVENT__KIND_STARTED:
        check_started(run, event);
        break;
    case PERDURE__V1__EVENT__KIND_STEP_COMPLETED:
        check_step_ended(run, at, event);
        break;
    case PERDURE__V1__EVENT__KIND_STEP_FAILED:
        check_step_ended(run, at, event);
        check_attempt_failed(run, event, event->step_failed->error, event->step_failed->attempt);
        break;
    case PERDURE__V1__EVENT__KIND_ATTEMPT_FAILED:
        check_attempt_failed(run, event, event->attempt_failed->error, event->attempt_failed->attempt);
        break;
    case PERDURE__V1__EVENT__KIND_TIMER_FIRED:
        check_timer(run, at, event);
        break;
    case PERDURE__V1__EVENT__KIND_SIGNAL_RECEIVED:
        check_signal(run, event);
        break;
    case PERDURE__V1__EVENT__KIND_CHILD_ENDED:
        check_child_ended(run, at, event);
        break;
    case PERDURE__V1__EVENT__KIND_SEND_REFUSED:
        if (!run_find(run, at, PERDURE__V1__EVENT__KIND_SIGNAL_SENT, event->op) && !world->truncated_lossy)
            world_bad("%s: a signal was refused that it did not send", run->job);
        break;
    default:
        break;
    }
}

void truth_check_family(const struct oracle_run *run)
{
    check_parent(run, run->events[0].event->started);
    for (uint64_t i = 0; i < run->seq; i++) {
        const Event *event = run->events[i].event;
        if (event->kind_case == PERDURE__V1__EVENT__KIND_CHILD_ENDED)
            check_child(run, event, run_find(run, i, PERDURE__V1__EVENT__KIND_CHILD_REQUESTED, event->op));
    }
}

/* ---- inputs that are absorbed --------------------------------------------------------------------------------------- */

static void check_input(uint32_t p, const struct oracle_run *run, const InputRef *input)
{
    if (input->partition != p || input->offset < 0 || input->offset >= world->streams[LOG_INBOX][p].end)
        world_bad("%s absorbs input %lld of partition %u, which is not there", run->job, (long long)input->offset,
                  input->partition);
    struct inbox_note *note = &world->notes[p][input->offset];
    if (!note->record || strcmp(note->record->header->job, run->job) != 0 ||
        strcmp(note->record->command->request, input->request) != 0)
        world_bad("%s absorbs input %lld, which is another's", run->job, (long long)input->offset);
    if (note->absorbed++ > 0)
        world_bad("%s absorbs input %lld a second time", run->job, (long long)input->offset);
    if (note->refused && !world->truncated_lossy && !note->twin && note->copy >= 0 && world->copies[note->copy].landed == 1)
        world_bad("refused, then absorbed: %s of %s", input->request, run->job);
    const Command *command = note->record->command;
    bool dies = command->kind_case != PERDURE__V1__COMMAND__KIND_CHILD_RESULT &&
                command->kind_case != PERDURE__V1__COMMAND__KIND_REFUSAL &&
                command->kind_case != PERDURE__V1__COMMAND__KIND_TASK_REPORT;
    int64_t life = note->record->header->life > 0 ? note->record->header->life : world->profile.life_ms;
    if (dies && note->append_ms - note->record->header->born > life)
        world_bad("%s absorbs %s, which was too old when it was appended", run->job, input->request);
    if (!dies && note->record->header->run != run->run)
        world_bad("%s absorbs an answer to another run", run->job);
}

static void check_mark(uint32_t p, int64_t offset, const Mark *mark)
{
    digest hash;
    uint64_t count = oracle_live(&world->oracles[p], &hash);
    if (mark->live_count != count || !digest_equal(hash, digest_from_bytes(mark->live_hash)))
        world_bad("journal %u offset %lld: the Mark's live hash is not that of the journal (%llu open, the Mark says %llu)",
                  p, (long long)offset, (unsigned long long)count, (unsigned long long)mark->live_count);
    if (mark->in_pos && mark->in_pos->offset > world->streams[LOG_INBOX][p].end)
        world_bad("journal %u offset %lld: in_pos is beyond the inbox", p, (long long)offset);
}

static bool event_is_output(const struct oracle_run *run, const Event *event)
{
    if (event_is_terminal(event))
        return run->events[0].event->started->parent_job[0] != '\0';
    if (event->kind_case == PERDURE__V1__EVENT__KIND_STEP_SCHEDULED)
        return !event->step_scheduled->held;
    if (event->kind_case == PERDURE__V1__EVENT__KIND_STEP_DISPATCHED)
        return strcmp(event->step_dispatched->reason, DISPATCH_LATER) != 0;
    return event->kind_case == PERDURE__V1__EVENT__KIND_CHILD_REQUESTED ||
           event->kind_case == PERDURE__V1__EVENT__KIND_SIGNAL_SENT;
}

/* Rule 20, each of its conditions, for a run that a cut has left out. */
static void check_forgotten(uint32_t p, const struct oracle_run *run, const Mark *mark)
{
    const struct oracle *oracle = &world->oracles[p];
    const struct oracle_event *last = &run->events[run->seq - 1];
    const Perdure__V1__Ending *ending = NULL;
    const Event *event = last->event;
    if (event->kind_case == PERDURE__V1__EVENT__KIND_COMPLETED)
        ending = event->completed->ending;
    else if (event->kind_case == PERDURE__V1__EVENT__KIND_FAILED)
        ending = event->failed->ending;
    else if (event->kind_case == PERDURE__V1__EVENT__KIND_CANCELLED)
        ending = event->cancelled->ending;
    else if (event->kind_case == PERDURE__V1__EVENT__KIND_TERMINATED)
        ending = event->terminated->ending;
    if (!ending || ending->keep_until > world->now + 1000)
        world_bad("%s is forgotten %lld ms before its keep time is over", run->job,
                  (long long)(ending ? ending->keep_until - world->now : 0));
    const Position *in = &oracle->mark_in_pos;
    if (run->has_input && (in->generation < run->last_input.generation ||
                           (in->generation == run->last_input.generation && in->offset <= run->last_input.offset)))
        world_bad("%s is forgotten, though in_pos is not past its last input", run->job);
    for (int64_t o = in->offset; o < world->streams[LOG_INBOX][p].end; o++)
        if (world->notes[p][o].record && world->notes[p][o].append_ms < event->t + world->profile.life_ms)
            world_bad("%s is forgotten, though what came to the inbox before its end and LIFE is not absorbed", run->job);
    for (uint64_t i = 0; i < run->seq; i++)
        if (event_is_output(run, run->events[i].event) && run->events[i].offset >= mark->out_pos)
            world_bad("%s is forgotten before its outputs are sent", run->job);
}

/* Rule 10: who begins at the cut sends nothing that stands below it, nor what follows from copied records. */
static void check_cut(uint32_t p, int64_t offset, const Mark *mark)
{
    for (const struct oracle_run *run = world->oracles[p].all; run; run = run->next) {
        if (run->forgotten_at == offset && !run->open && (run == oracle_find(&world->oracles[p], run->job)))
            check_forgotten(p, run, mark);
        for (uint64_t i = 0; i < run->seq; i++)
            if ((run->events[i].offset < mark->cut || run->events[i].offset < run->kept_at) &&
                run->events[i].offset >= mark->out_pos && event_is_output(run, run->events[i].event))
                world_bad("journal %u offset %lld: cut before the output of %s at %lld is sent", p, (long long)offset,
                          run->job, (long long)run->events[i].offset);
    }
}

/* Rule 31: the rest of a turn that did not fit into a record has its time, in the same epoch. */
static void check_parts(uint32_t p, const Record *record, const struct oracle_run *run, uint64_t seq_before)
{
    if (seq_before == 0 || world->profile.turn_bytes == 0)
        return;
    const struct oracle_event *before = &run->events[seq_before - 1];
    const struct memory_record *at = &world->streams[LOG_JOURNAL][p].records[before->offset];
    Record *last = NULL;
    if (!at->blob || at->kind != PERDURE__V1__KIND__KIND_EVENT || record_decode(at->blob->data, at->blob->size, &last) != WIRE_OK)
        return;
    bool part = last->header->more && last->header->run == run->run && last->header->claim == record->header->claim &&
                last->header->nonce == record->header->nonce;
    record_free(last);
    if (part && run->events[seq_before].event->t != before->event->t)
        world_bad("%s: event %llu is the rest of the turn before it, and %lld ms later", run->job,
                  (unsigned long long)seq_before + 1,
                  (long long)(run->events[seq_before].event->t - before->event->t));
}

/* ---- rule 16: the inbox is kept for a while behind in_pos ------------------------------------------------------ */

static void note_in_pos(uint32_t p)
{
    const Position *in_pos = &world->oracles[p].in_pos;
    size_t count = world->in_pos_count[p];
    if (count > 0 && world->in_pos[p][count - 1].in_pos.offset >= in_pos->offset)
        return;
    if ((count & (count - 1)) == 0) {
        world->in_pos[p] = realloc(world->in_pos[p], (count ? count * 2 : 1) * sizeof *world->in_pos[p]);
        if (!world->in_pos[p])
            abort();
    }
    world->in_pos[p][world->in_pos_count[p]++] = (struct in_pos_note){ world->now, *in_pos };
}

static void check_trim(uint32_t p, int64_t offset, const char *who)
{
    for (size_t i = world->in_pos_count[p]; i-- > 0;)
        if (world->in_pos[p][i].ms <= world->now - TRIM_DELAY) {
            if (offset > world->in_pos[p][i].in_pos.offset)
                break;
            return;
        }
    if (!world->profile.truncates)
        world_bad("%s trims the inbox to %lld, which was not behind in_pos for long", who, (long long)offset);
}

void truth_forget_positions(void)
{
    for (uint32_t p = 0; p < PARTITIONS_MAX; p++) {
        free(world->in_pos[p]);
        world->in_pos[p] = NULL;
    }
}

/* Rule 4: two that both believe themselves assigned do not take turns. */
void truth_on_claim(const struct worker *worker, uint32_t p)
{
    const struct seat *seat = &worker->seats[p];
    if (seat->fenced_at >= 0 && world->now - seat->fenced_at < CLAIM_BACKOFF)
        world_bad("%s/%u claims again %lld ms after it was fenced", worker->name, p,
                  (long long)(world->now - seat->fenced_at));
}

void truth_on_record(uint32_t p, int64_t offset, const Record *record, enum oracle_verdict verdict,
                     struct oracle_run *run, uint64_t seq_before)
{
    note_in_pos(p);
    if (verdict == ORACLE_MARK)
        check_mark(p, offset, record->mark);
    if (verdict == ORACLE_MARK && record->mark->cut > 0 && !world->rejudging)
        check_cut(p, offset, record->mark);
    if (verdict != ORACLE_COUNTED)
        return;
    check_parts(p, record, run, seq_before);
    for (size_t i = 0; i < record->header->n_inputs; i++)
        check_input(p, run, record->header->inputs[i]);
    for (uint64_t i = seq_before; i < run->seq; i++)
        check_event(run, i, run->events[i].event);
}

/* ---- what leaves an engine --------------------------------------------------------------------------------------------- */

static const char *const output_names[] = { "APPEND", "SEND", "TASK", "REPLY", "STATUS", "STEP", "ABANDON_STEP",
                                            "FOLLOW_JOURNAL", "FOLLOW_INBOX", "UNFOLLOW_INBOX", "TRIM_INBOX", "CUT_JOURNAL", "ASK_INBOX_END", "FORGOTTEN", "DEAD" };

/* Rule 8: a status, to whomever it goes, tells only what counts. */
static void check_status(uint32_t p, const Status *status, const char *who)
{
    const struct oracle_run *run = oracle_find_run(&world->oracles[p], status->id, status->run);
    if (status->run == 0 && status->events == 0)
        return; /* says that there is none */
    if (!run || run->seq < status->events)
        world_bad("%s shows %s with %llu events, %llu count", who, status->id, (unsigned long long)status->events,
                  (unsigned long long)(run ? run->seq : 0));
    static const char *const ends[] = { "completed", "failed", "cancelled", "terminated" };
    for (size_t i = 0; i < 4; i++)
        if (strcmp(status->state, ends[i]) == 0 &&
            (run->open || strcmp(event_kind_name(run->events[run->seq - 1].event), ends[i]) != 0))
            world_bad("%s shows %s as %s, its history does not", who, status->id, ends[i]);
    if (world->shown_count == world->shown_capacity) {
        world->shown_capacity = world->shown_capacity ? world->shown_capacity * 2 : 128;
        world->shown = realloc(world->shown, world->shown_capacity * sizeof *world->shown);
        if (!world->shown)
            abort();
    }
    struct shown *shown = &world->shown[world->shown_count++];
    *shown = (struct shown){ .job = strdup(status->id), .run = status->run, .events = status->events, .partition = p };
    snprintf(shown->state, sizeof shown->state, "%s", status->state);
}

static void check_send(struct worker *worker, uint32_t p, const struct engine_output *out)
{
    if (growth_is_forward(p, out))
        return;
    Record *record = NULL;
    if (record_decode(out->data, out->size, &record) != WIRE_OK)
        world_bad("%s sends what cannot be decoded", worker->name);
    const Sender *sender = record->header->sender;
    const char *what = NULL;
    if (!sender)
        what = "without a sender";
    else if (sender->run != 0) {
        const struct oracle_run *run = oracle_find_run(&world->oracles[p], sender->job, sender->run);
        if (!run || sender->seq == 0 || run->seq < sender->seq)
            what = "that follows from no record that counts";
    } else if (sender->seq != 0) {
        what = "with half a sender";
    }
    bool moved = record->command && record->command->kind_case == PERDURE__V1__COMMAND__KIND_SLOTS_MOVED;
    if (moved)
        what = growth_move_is_true(p, out->partition, record->command->slots_moved) ? what : "about slots that is not true";
    else if (out->partition != partition_of(record->header->job, world->profile.partitions) &&
             (!world->grown_from || out->partition != partition_of(record->header->job, world->grown_from)))
        what = "to the wrong partition";
    char text[128];
    snprintf(text, sizeof text, "%s request %s", record->header->job, record->command ? record->command->request : "?");
    record_free(record);
    if (what)
        world_bad("%s/%u sends a command %s: to %s", worker->name, p, what, text);
}

/* Rules 8, 10: a task follows from an event that counts, and its attempt is not over by what counts. */
static void check_task(struct worker *worker, uint32_t p, const struct engine_output *out)
{
    Record *record = NULL;
    if (record_decode(out->data, out->size, &record) != WIRE_OK || !record->task)
        world_bad("%s/%u puts a task that cannot be decoded", worker->name, p);
    const Perdure__V1__Task *task = record->task;
    const struct oracle_run *run = oracle_find_run(&world->oracles[p], task->job, task->run);
    bool follows = false;
    for (uint64_t i = 0; run && i < run->seq; i++) {
        const Event *event = run->events[i].event;
        if (event->op != task->op)
            continue;
        if (event->kind_case == PERDURE__V1__EVENT__KIND_STEP_SCHEDULED)
            follows = !event->step_scheduled->held && task->attempt == 1 && task->dispatch == 1;
        else if (event->kind_case == PERDURE__V1__EVENT__KIND_STEP_DISPATCHED)
            follows = follows || (event->step_dispatched->attempt == task->attempt &&
                                  event->step_dispatched->dispatch == task->dispatch);
    }
    char text[128];
    snprintf(text, sizeof text, "%s op %llu attempt %u dispatch %u", task->job, (unsigned long long)task->op, task->attempt,
             task->dispatch);
    record_free(record);
    if (!follows)
        world_bad("%s/%u puts a task that follows from no event that counts: %s", worker->name, p, text);
}

/* One value for one (epoch, run, seq), and for one (epoch, n) (rule 5). */
static void check_append(struct worker *worker, uint32_t p, const struct engine_output *out)
{
    Record *record = NULL;
    if (record_decode(out->data, out->size, &record) != WIRE_OK)
        world_bad("%s appends what cannot be decoded", worker->name);
    const Header *h = record->header;
    if (h->kind != PERDURE__V1__KIND__KIND_CLAIM && h->nonce == worker->seats[p].doubted) {
        record_free(record);
        world_bad("%s/%u goes on appending in an epoch in which an append failed", worker->name, p);
    }
    if (h->kind != PERDURE__V1__KIND__KIND_CLAIM) {
        char key[96];
        struct truth_request *by_n, *by_seq = NULL;
        uint64_t value = hash64(out->data, out->size);
        snprintf(key, sizeof key, "n/%u/%llx/%llu", p, (unsigned long long)h->nonce, (unsigned long long)h->n);
        by_n = truth_request(key);
        if (h->kind == PERDURE__V1__KIND__KIND_EVENT) {
            snprintf(key, sizeof key, "s/%u/%llx/%llx/%llu", p, (unsigned long long)h->nonce,
                     (unsigned long long)h->run, (unsigned long long)h->seq);
            by_seq = truth_request(key);
        }
        uint64_t digest = h->digest.len == 16 ? hash64(h->digest.data, 16) : 0;
        bool twice = (by_n->run != 0 && by_n->run != value) || (by_seq && by_seq->run != 0 && by_seq->run != digest);
        by_n->run = value;
        if (by_seq)
            by_seq->run = digest;
        if (twice) {
            record_free(record);
            world_bad("%s/%u appends two values for one place in one epoch", worker->name, p);
        }
    }
    record_free(record);
}

/* The first claim behind `claim` and below `end`; -1: none. */
static int64_t claim_behind(uint32_t p, int64_t claim, int64_t end)
{
    const struct memory_stream *journal = &world->streams[LOG_JOURNAL][p];
    for (int64_t i = claim + 1; i < end && i < journal->end; i++)
        if (journal->records[i].blob && journal->records[i].kind == PERDURE__V1__KIND__KIND_CLAIM)
            return i;
    return -1;
}

/* Nothing is begun by an owner whose claim was superseded before it looked: before it appended for the first time in its
 * epoch. That append comes back behind all that stood in the journal then. */
static void check_looked(uint32_t p, const struct seat *seat, const char *who, const char *what)
{
    const struct memory_stream *journal = &world->streams[LOG_JOURNAL][p];
    struct engine_counts counts;
    engine_counts(seat->engine, &counts);
    if (counts.claim < 0 || counts.claim >= journal->end)
        return; /* gone with a truncation of which it was not told yet */
    bool looked = seat->asked_nonce == journal->records[counts.claim].nonce;
    int64_t behind = claim_behind(p, counts.claim, looked ? seat->asked_end : journal->end);
    if (behind >= 0)
        world_bad("%s lets %s leave, though its claim at %lld was superseded at %lld before it looked", who, what,
                  (long long)counts.claim, (long long)behind);
}

void truth_on_output(struct worker *worker, uint32_t p, const struct engine_output *out)
{
    const struct seat *seat = &worker->seats[p];
    bool leaves = out->kind == ENGINE_OUT_SEND || out->kind == ENGINE_OUT_TASK || out->kind == ENGINE_OUT_REPLY || out->kind == ENGINE_OUT_STATUS ||
                  out->kind == ENGINE_OUT_STEP; /* a trim stands on what was confirmed, whoever owns it now */
    char who[32];
    snprintf(who, sizeof who, "%s/%u", worker->name, p);
    if (leaves && !seat->own_claim)
        world_bad("%s lets %s leave, though the last claim it read is not its own", who, output_names[out->kind]);
    if (world->truncated_lossy)
        return;
    if (out->kind == ENGINE_OUT_SEND || out->kind == ENGINE_OUT_TASK || out->kind == ENGINE_OUT_STEP)
        check_looked(p, seat, who, output_names[out->kind]);
    if (out->kind == ENGINE_OUT_SEND)
        check_send(worker, p, out);
    else if (out->kind == ENGINE_OUT_TASK)
        check_task(worker, p, out);
    else if (out->kind == ENGINE_OUT_APPEND)
        check_append(worker, p, out);
    else if (out->kind == ENGINE_OUT_REPLY && out->reply->status)
        check_status(p, out->reply->status, who);
    else if (out->kind == ENGINE_OUT_STATUS) {
        Status *status = perdure__v1__status__unpack(NULL, out->size, out->data);
        if (!status)
            world_bad("%s: a status that cannot be decoded", who);
        trace("%s status %s %s events %llu", who, status->id, status->state, (unsigned long long)status->events);
        check_status(p, status, who);
        perdure__v1__status__free_unpacked(status, NULL);
    } else if (out->kind == ENGINE_OUT_STEP) {
        const struct oracle_run *run = oracle_find_run(&world->oracles[p], out->key, out->run);
        if (!run)
            world_bad("%s runs a step of %s, whose start does not count", who, out->key);
    } else if (out->kind == ENGINE_OUT_CUT_JOURNAL && out->offset > world->oracles[p].cut) {
        world_bad("%s cuts the journal at %lld, no Mark that counts says so", who, (long long)out->offset);
    } else if (out->kind == ENGINE_OUT_TRIM_INBOX && out->offset > world->oracles[p].in_pos.offset) {
        world_bad("%s trims the inbox to %lld, in_pos is %lld", who, (long long)out->offset,
                  (long long)world->oracles[p].in_pos.offset);
    } else if (out->kind == ENGINE_OUT_TRIM_INBOX) {
        check_trim(p, out->offset, who);
    }
}

/* However long it stood still: no effect is begun that long after another claimed (proof.c). */
static void check_not_late(const struct effect *effect)
{
    const struct memory_stream *journal = &world->streams[LOG_JOURNAL][effect->partition];
    int64_t behind = claim_behind(effect->partition, effect->claim, journal->end);
    if (behind >= 0 && effect->at > journal->records[behind].append_ms + APPEND_DEADLINE)
        world_bad("w%d begins a step of %s %lld ms after its claim at %lld was superseded at %lld", effect->worker, effect->job,
                  (long long)(effect->at - journal->records[behind].append_ms), (long long)effect->claim,
                  (long long)behind);
}

void truth_on_effect(const struct effect *effect)
{
    if (!world->truncated_lossy && effect->worker < WORKERS) /* not of a step worker */
        check_not_late(effect);
    for (size_t i = world->effect_count; i-- > 0;) {
        const struct effect *other = &world->effects[i];
        if (other->run == effect->run && other->op == effect->op && other->attempt == effect->attempt &&
            other->worker == effect->worker && other->incarnation == effect->incarnation &&
            other->claim == effect->claim && other->partition == effect->partition && strcmp(other->job, effect->job) == 0)
            world_bad("w%d runs attempt %u of %s op %llu twice in one epoch", effect->worker, effect->attempt, effect->job,
                      (unsigned long long)effect->op);
    }
    if (world->effect_count == world->effect_capacity) {
        world->effect_capacity = world->effect_capacity ? world->effect_capacity * 2 : 256;
        world->effects = realloc(world->effects, world->effect_capacity * sizeof *world->effects);
        if (!world->effects)
            abort();
    }
    world->effects[world->effect_count] = *effect;
    world->effects[world->effect_count++].job = strdup(effect->job);
}

/* ---- stores ------------------------------------------------------------------------------------------------------------- */

static void check_row(uint32_t p, const struct row *row, int64_t position, const char *who)
{
    StoredRun *stored = perdure__v1__stored_run__unpack(NULL, row->value->size, row->value->data);
    if (!stored)
        world_bad("%s: a stored run cannot be decoded", who);
    const struct oracle_run *run = oracle_find_at(&world->oracles[p], stored->job, position);
    uint64_t seq = run ? oracle_seq_at(run, position) : 0;
    const char *wrong = NULL;
    if (!run || run->run != stored->run)
        wrong = "a run that does not count";
    else if (seq != stored->seq)
        wrong = stored->seq > seq ? "events that do not count" : "too few events";
    else if (!digest_equal(run->events[seq - 1].after, digest_from_bytes(stored->digest)))
        wrong = "another history";
    else if (oracle_open_at(run, position) != (bool)stored->open)
        wrong = "another state";
    else if (run->last_at < position && stored->last != run->last_at)
        wrong = "another place in the journal, which owners must agree on (rule 9)";
    char job[64];
    snprintf(job, sizeof job, "%s", stored->job);
    unsigned long long has = stored->seq;
    perdure__v1__stored_run__free_unpacked(stored, NULL);
    if (wrong)
        world_bad("%s/%u as of %lld: %s has %s (%llu events, %llu count)", who, p, (long long)position, job, wrong, has,
                  (unsigned long long)seq);
}

void truth_check_store(uint32_t p, const struct rows *rows, const char *who)
{
    if (rows->position > world->streams[LOG_JOURNAL][p].end || world->truncated_lossy)
        return; /* of before a truncation that it was not told of */
    for (int w = 0; w < WORKERS; w++)
        if ((world->workers[w].seats[p].truncated || world->workers[w].seats[p].damaged ||
             world->workers[w].seats[p].unverified) &&
            strcmp(world->workers[w].name, who) == 0)
            return;
    size_t count = 0;
    for (size_t i = 0; i < rows->count; i++)
        if (rows->rows[i].kind == ROW_RUN) {
            check_row(p, &rows->rows[i], rows->position, who);
            count++;
        }
    size_t known = 0, forgotten = 0; /* these go little by little */
    for (const struct oracle_run *run = world->oracles[p].all; run; run = run->next) {
        known += run->first < rows->position && run->previous == NULL &&
                 !(run->left_at >= 0 && run->left_at < rows->position);
        forgotten += run->forgotten_at >= 0 && run->forgotten_at < rows->position &&
                     oracle_find_at(&world->oracles[p], run->job, rows->position) == run;
    }
    if (count > known || count + forgotten < known)
        world_bad("%s/%u as of %lld: %zu jobs, %zu count, %zu of these forgotten", who, p, (long long)rows->position, count,
                  known, forgotten);
}
