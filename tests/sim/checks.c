/* What is checked when all is quiet: nothing lost, every reader agrees, every effect belongs to a history, and a
 * fault-free run of the same job would have come to the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

/* ---- nothing accepted was lost --------------------------------------------------------------------------------- */

static bool note_is_of(const struct inbox_note *note, const struct request *request)
{
    return note->copy >= 0 && &world->requests[world->copies[note->copy].request] == request;
}

static uint32_t absorbed_times(const struct request *request)
{
    uint32_t times = 0;
    for (uint32_t p = 0; p < world->profile.partitions; p++)
        for (int64_t i = 0; i < world->streams[LOG_INBOX][p].end; i++)
            if (note_is_of(&world->notes[p][i], request))
                times += world->notes[p][i].absorbed;
    return times;
}

/* The first that landed; of the same instant, that of the old partition. */
static const struct inbox_note *first_note(const struct request *request, uint32_t *partition, int64_t *offset)
{
    const struct inbox_note *first = NULL;
    for (uint32_t p = 0; p < world->profile.partitions; p++)
        for (int64_t i = 0; i < world->streams[LOG_INBOX][p].end; i++)
            if (note_is_of(&world->notes[p][i], request) &&
                (!first || world->notes[p][i].append_ms < first->append_ms)) {
                first = &world->notes[p][i];
                *partition = p;
                *offset = i;
            }
    return first;
}

/* Some of its copies came in time. Forwarded, its life is judged where it arrives. */
static bool came_in_time(const struct request *request)
{
    bool any = false;
    for (uint32_t p = 0; p < world->profile.partitions; p++)
        for (int64_t i = 0; i < world->streams[LOG_INBOX][p].end; i++) {
            const struct inbox_note *note = &world->notes[p][i];
            if (!note_is_of(note, request))
                continue;
            if (note->append_ms - request->born > world->profile.life_ms)
                return false;
            any = true;
        }
    return any;
}

static const struct oracle_run *run_of_start(const struct request *request)
{
    return growth_find_run(request->job, run_id_of(world->log_id, request->job, request->id));
}

static void check_starts(void)
{
    for (size_t i = 0; i < world->request_count; i++) {
        const struct request *request = &world->requests[i];
        if (request->kind != COMMAND_START || request->landed == 0)
            continue;
        const struct oracle_run *run = run_of_start(request);
        bool sink = strncmp(request->job, "sink", 4) == 0;
        if (!run && (request->unique_id || sink) && !request->old) {
            /* It may have been too old when it landed. */
            uint32_t p;
            int64_t first;
            const struct inbox_note *note = first_note(request, &p, &first);
            if (note && note->append_ms - request->born <= world->profile.life_ms &&
                (!world->grown_from || came_in_time(request)))
                world_bad("an accepted start was lost: %s of %s", request->id, request->job);
        }
        if (run && request->old)
            world_bad("a start older than LIFE ran: %s of %s", request->id, request->job);
    }
}

static void check_signals(void)
{
    int64_t begun[2] = { INT64_MAX, INT64_MAX };
    uint32_t begun_at[2] = { 0, 0 };
    int64_t begun_ms[2] = { 0, 0 };
    static const char *const sinks[] = { "sink0", "sink1" };
    for (size_t i = 0; i < world->request_count; i++)
        for (size_t s = 0; s < 2; s++)
            if (world->requests[i].kind == COMMAND_START && strcmp(world->requests[i].job, sinks[s]) == 0 &&
                run_of_start(&world->requests[i])) {
                (void)first_note(&world->requests[i], &begun_at[s], &begun[s]);
                begun_ms[s] = growth_started_ms(run_of_start(&world->requests[i]));
            }
    for (size_t i = 0; i < world->request_count; i++) {
        const struct request *request = &world->requests[i];
        if (!request->sink || request->landed == 0)
            continue;
        int sink = request->job[4] - '0';
        uint32_t p;
        int64_t first;
        const struct inbox_note *note = first_note(request, &p, &first);
        if (!note || begun[sink] == INT64_MAX || (p == begun_at[sink] && first < begun[sink]) ||
            (p != begun_at[sink] && note->append_ms <= begun_ms[sink]))
            continue; /* across a move, order is that of one inbox */
        if (note->append_ms - request->born > world->profile.life_ms || (world->grown_from && !came_in_time(request)))
            continue;
        if (absorbed_times(request) == 0)
            world_bad("an accepted signal was lost: %s to %s, inbox offset %lld", request->id, request->job,
                      (long long)first);
    }
}

/* A signal between jobs is in the one history, or its refusal is in the other, unless that one was over before. */
static void check_sent(const struct oracle_run *run)
{
    for (uint64_t i = 0; i < run->seq; i++) {
        const Event *event = run->events[i].event;
        if (event->kind_case != PERDURE__V1__EVENT__KIND_SIGNAL_SENT)
            continue;
        uint32_t landed = 0, absorbed = 0;
        for (uint32_t q = 0; q < world->profile.partitions; q++)
            for (int64_t o = 0; o < world->streams[LOG_INBOX][q].end; o++) {
                const struct inbox_note *note = &world->notes[q][o];
                const Sender *sender = note->record ? note->record->header->sender : NULL;
                if (!sender || sender->run != run->run || sender->seq != event->seq)
                    continue;
                landed++;
                absorbed += note->absorbed;
            }
        bool refused = false;
        for (uint64_t k = i; k < run->seq; k++)
            refused = refused || (run->events[k].event->kind_case == PERDURE__V1__EVENT__KIND_SEND_REFUSED &&
                                  run->events[k].event->op == event->op);
        if (landed == 0)
            world_bad("%s sent %s to %s, which never came", run->job, event->signal_sent->name, event->signal_sent->target);
        if (absorbed > 1)
            world_bad("%s: its signal to %s was absorbed %u times", run->job, event->signal_sent->target, absorbed);
        /* A second copy may find another run of the id: each copy has one fate. */
        if (absorbed > 0 && refused && landed == 1)
            world_bad("%s: its signal to %s was absorbed and refused", run->job, event->signal_sent->target);
    }
}

/* The parent starts its child, then speaks: the word finds the child (rule 11). */
static void check_leaf(const struct oracle_run *run)
{
    const Event *last = run->events[run->seq - 1].event;
    if (last->kind_case != PERDURE__V1__EVENT__KIND_FAILED || strcmp(last->failed->error->type, "NoWord") != 0)
        return;
    const Perdure__V1__Started *started = run->events[0].event->started;
    const struct oracle_run *parent = growth_find_run(started->parent_job, started->parent_run);
    bool spoke = false, refused = false;
    for (uint64_t i = 0; parent && i < parent->seq; i++) {
        const Event *event = parent->events[i].event;
        spoke = spoke || event->kind_case == PERDURE__V1__EVENT__KIND_SIGNAL_SENT;
        if (event->kind_case == PERDURE__V1__EVENT__KIND_SEND_REFUSED) {
            refused = true;
            trace("%s: word refused: %s %s", run->job, event->send_refused->error->type,
                  event->send_refused->error->message);
        }
    }
    if (!spoke)
        return;
    /* Excused when the word was older than LIFE where it came. */
    for (uint32_t q = 0; q < world->profile.partitions; q++)
        for (int64_t o = 0; o < world->streams[LOG_INBOX][q].end; o++) {
            const struct inbox_note *note = &world->notes[q][o];
            if (note->record && note->record->header->sender && note->record->header->sender->run == started->parent_run &&
                note->record->command->kind_case == PERDURE__V1__COMMAND__KIND_SIGNAL &&
                (note->append_ms - note->record->header->born > world->profile.life_ms || growth_overtook(note, run->job)))
                return;
        }
    world_bad("a message overtook the start of its job: %s never got its parent's word%s", run->job,
              refused ? ", it was refused" : "");
}

/* ---- a fault-free run of the same job ------------------------------------------------------------------------------- */

struct rerun {
    pdr_job *job;
    Event **events; /* it asked for */
    size_t event_count;
    struct { uint64_t op; uint64_t input_digest; char step[24]; } steps[256];
    size_t step_count;
};

static void rerun_take(struct rerun *rerun, const struct oracle_run *run)
{
    struct job_command command;
    while (job_take(rerun->job, &command)) {
        if (command.kind == JOB_RECORD) {
            if (rerun->event_count == 256)
                world_bad("%s: no end of commands", run->job);
            rerun->events[rerun->event_count++] = command.event;
        } else if (command.kind == JOB_STEP && rerun->step_count < 256) {
            rerun->steps[rerun->step_count].op = command.op;
            rerun->steps[rerun->step_count].input_digest = command.input_digest;
            snprintf(rerun->steps[rerun->step_count].step, sizeof rerun->steps[0].step, "%s", command.step);
            trace("fault-free %s: step op %llu %s input %llx attempt %u", run->job, (unsigned long long)command.op,
                  command.step, (unsigned long long)command.input_digest, command.attempt);
            rerun->step_count++;
        }
    }
}

static bool is_command_event(const Event *event)
{
    switch (event->kind_case) {
    case PERDURE__V1__EVENT__KIND_STEP_SCHEDULED:
    case PERDURE__V1__EVENT__KIND_TIMER_STARTED:
    case PERDURE__V1__EVENT__KIND_SIGNAL_SENT:
    case PERDURE__V1__EVENT__KIND_CHILD_REQUESTED:
    case PERDURE__V1__EVENT__KIND_COMPLETED:
    case PERDURE__V1__EVENT__KIND_FAILED:
    case PERDURE__V1__EVENT__KIND_CANCELLED:
        return true;
    default:
        return false;
    }
}

static void rerun_match(struct rerun *rerun, const struct oracle_run *run, const Event *event)
{
    for (size_t i = 0; i < rerun->event_count; i++) {
        const Event *mine = rerun->events[i];
        if (mine->kind_case != event->kind_case || (!event_is_terminal(event) && mine->op != event->op))
            continue;
        if (strcmp(event_name(mine), event_name(event)) != 0)
            world_bad("%s: a fault-free run names %s, recorded is %s", run->job, event_name(mine), event_name(event));
        if (event->kind_case == PERDURE__V1__EVENT__KIND_COMPLETED &&
            !bytes_equal(mine->completed->result->data, event->completed->result->data))
            world_bad("%s: a fault-free run has another result", run->job);
        return;
    }
    world_bad("%s: event %llu, %s, does not follow from what came before", run->job, (unsigned long long)event->seq,
              event_kind_name(event));
}

/* Every effect is a step that the counted history leads to. */
static void rerun_effects(const struct rerun *rerun, const struct oracle_run *run)
{
    for (size_t i = 0; i < world->effect_count; i++) {
        const struct effect *effect = &world->effects[i];
        if (effect->run != run->run || strcmp(effect->job, run->job) != 0)
            continue;
        bool found = false;
        for (size_t k = 0; k < rerun->step_count && !found; k++)
            found = rerun->steps[k].op == effect->op && rerun->steps[k].input_digest == effect->input_digest &&
                    strcmp(rerun->steps[k].step, effect->step) == 0;
        if (!found)
            world_bad("an effect of a branch that never counted: %s %s op %llu attempt %u by w%d", effect->job,
                      effect->step, (unsigned long long)effect->op, effect->attempt, effect->worker);
    }
}

static void check_rerun(const struct oracle_run *run)
{
    const Perdure__V1__Started *started = run->events[0].event->started;
    Event *events[256];
    struct rerun *rerun = calloc(1, sizeof *rerun);
    const struct callable *callable = registry_job(world->registry, started->type);
    const struct job_options options = { .stack_bytes = 64 * 1024 };
    if (!rerun || !callable)
        world_bad("%s: type %s is not known", run->job, started->type);
    rerun->events = events;
    rerun->job = job_new(world->registry, callable, run->job, run->run, &options);
    if (!rerun->job)
        abort();
    const Event *first = run->events[0].event;
    job_replay(rerun->job, &first, 1);
    rerun_take(rerun, run);
    bool judged = true;
    for (uint64_t i = 1; i < run->seq; i++) {
        const Event *event = run->events[i].event;
        if (event->kind_case == PERDURE__V1__EVENT__KIND_TERMINATED)
            break;
        if (event->kind_case == PERDURE__V1__EVENT__KIND__NOT_SET) {
            judged = false;
            break;
        }
        if (is_command_event(event)) {
            rerun_match(rerun, run, event);
            continue;
        }
        enum job_state state = job_feed(rerun->job, event);
        if (state == JOB_DIVERGED || state == JOB_BROKEN)
            world_bad("%s: a fault-free run differs at event %llu: %s", run->job, (unsigned long long)event->seq,
                      job_report(rerun->job));
        rerun_take(rerun, run);
    }
    if (judged && !world->truncated_lossy)
        rerun_effects(rerun, run);
    for (size_t i = 0; i < rerun->event_count; i++)
        event_free(rerun->events[i]);
    job_free(rerun->job);
    free(rerun);
}

static void check_result(const struct oracle_run *run)
{
    const Event *last = run->events[run->seq - 1].event;
    const Perdure__V1__Started *started = run->events[0].event->started;
    char input[128] = "", result[64] = "";
    uint64_t expected;
    if (event_is_terminal(last))
        tally.endings[(int)last->kind_case - PERDURE__V1__EVENT__KIND_COMPLETED]++;
    if (last->kind_case == PERDURE__V1__EVENT__KIND_FAILED && strcmp(last->failed->error->type, "TimeWentBack") == 0)
        world_bad("%s: time went back %s", run->job, last->failed->error->message);
    if (last->kind_case != PERDURE__V1__EVENT__KIND_COMPLETED || !started->input)
        return;
    bytes_text(input, sizeof input, started->input->data);
    bytes_text(result, sizeof result, last->completed->result->data);
    if (job_expected(started->type, input, &expected) && strtoull(result, NULL, 10) != expected)
        world_bad("%s: result %s, a fault-free run gives %llu", run->job, result, (unsigned long long)expected);
}

/* ---- what was shown is true -------------------------------------------------------------------------------------------- */

static void check_shown(void)
{
    for (size_t i = 0; i < world->shown_count; i++) {
        const struct shown *shown = &world->shown[i];
        const struct oracle_run *run = oracle_find_run(&world->oracles[shown->partition], shown->job, shown->run);
        if (!run || run->seq < shown->events)
            world_bad("a client saw %s with %llu events, which do not count", shown->job,
                      (unsigned long long)shown->events);
    }
    for (size_t i = 0; i < world->effect_count; i++) {
        const struct effect *effect = &world->effects[i];
        if (!growth_find_run(effect->job, effect->run))
            world_bad("an effect of a run that never counted: %s %s", effect->job, effect->step);
    }
    for (size_t i = 0; i < world->copy_count; i++) {
        const struct copy *copy = &world->copies[i];
        if (copy->accepted && absorbed_times(&world->requests[copy->request]) == 0)
            world_bad("accepted, but not in the journal: %s of %s", world->requests[copy->request].id,
                      world->requests[copy->request].job);
    }
}

/* What was sent to a job belongs to a run that counts. */
static void check_inboxes(void)
{
    for (uint32_t p = 0; p < world->profile.partitions; p++)
        for (int64_t o = 0; o < world->streams[LOG_INBOX][p].end; o++) {
            const Record *record = world->notes[p][o].record;
            const Sender *sender = record ? record->header->sender : NULL;
            if (!sender || sender->run == 0)
                continue;
            const struct oracle_run *run = growth_find_run(sender->job, sender->run);
            if (!run || run->seq < sender->seq)
                world_bad("inbox %u offset %lld: a command of %s that follows from nothing", p, (long long)o, sender->job);
        }
}

/* ---- every reader agrees ------------------------------------------------------------------------------------------------- */

static void read_all(struct engine *engine, uint32_t p, struct rows *rows, int64_t from, const char *who)
{
    struct memory_stream *journal = &world->streams[LOG_JOURNAL][p];
    struct engine_output out;
    int64_t next = -1;
    engine_begin(engine, from);
    for (int turn = 0; turn < 100; turn++) {
        engine_on_time(engine, world->now, world->now - world->started);
        engine_run(engine, true);
        bool did = false;
        while (engine_take(engine, &out)) {
            did = true;
            if (out.kind == ENGINE_OUT_FOLLOW_JOURNAL)
                next = out.offset;
            if (out.kind == ENGINE_OUT_REBUILD) {
                rows_clear(rows);
                engine_begin(engine, from);
                break;
            }
            if (out.kind == ENGINE_OUT_APPEND || out.kind == ENGINE_OUT_SEND || out.kind == ENGINE_OUT_STEP)
                world_bad("%s: a reader that owns nothing acts", who);
            if (out.kind == ENGINE_OUT_STOPPED)
                world_bad("%s stopped: %s", who, out.text);
        }
        for (int i = 0; next >= 0 && next < journal->end && i < 100000; i++) {
            const struct memory_record *record = &journal->records[next++];
            did = true;
            if (!record->blob)
                continue;
            struct log_record given = { .stream = LOG_JOURNAL, .partition = p, .offset = next - 1,
                                        .append_ms = record->append_ms, .leader_epoch = -1,
                                        .data = record->blob->data, .size = record->blob->size };
            engine_on_record(engine, &given);
        }
        if (did)
            engine_on_end(engine, LOG_JOURNAL, journal->end);
        else
            break;
    }
    rows_save(rows, engine, false);
    if (rows->position != journal->end && journal->records[journal->end - 1].blob)
        world_bad("%s stands at %lld of %lld", who, (long long)rows->position, (long long)journal->end);
    truth_check_store(p, rows, who);
}

/* `from`: where the log starts; a store does not mind. */
static void check_reader(uint32_t p, const struct rows *store, int64_t from, const char *who)
{
    struct worker reader = { .id = 9, .name = "reader", .incarnation = 1 };
    struct rows rows = { 0 };
    if (store)
        rows_copy(&rows, store);
    struct engine *engine = seat_engine_new(&reader, p, &rows);
    rows_load(&rows, engine);
    read_all(engine, p, &rows, from, who);
    engine_free(engine);
    rows_clear(&rows);
}

static void check_readers(void)
{
    for (uint32_t p = 0; p < world->profile.partitions; p++) {
        check_reader(p, NULL, 0, "a fresh reader");
        if (world->oracles[p].cut > 0) {
            check_reader(p, NULL, world->oracles[p].cut, "a reader from the cut");
            check_reader(p, NULL, rng_between(&world->schedule, 1, world->oracles[p].cut), "a reader from before the cut");
        }
        for (int w = 0; w < WORKERS; w++) {
            struct seat *seat = &world->workers[w].seats[p];
            char who[48];
            if (world->workers[w].alive && world->profile.stores) {
                rows_save(&seat->store, seat->engine, false);
                truth_check_store(p, &seat->store, world->workers[w].name);
            }
            snprintf(who, sizeof who, "a reader from w%d's store", w);
            if (seat->store.count > 0 && !seat->damaged)
                check_reader(p, &seat->store, 0, who);
        }
    }
}

void checks_at_end(void)
{
    if (!world->truncated_lossy) {
        check_starts();
        check_signals();
        check_shown();
        check_inboxes();
    }
    for (uint32_t p = 0; p < world->profile.partitions; p++)
        for (const struct oracle_run *run = world->oracles[p].all; run; run = run->next) {
            if (!growth_holds(run, p))
                continue;
            tally.jobs++;
            check_rerun(run);
            check_result(run);
            if (world->truncated_lossy)
                continue;
            check_sent(run);
            truth_check_family(run);
            if (strncmp(run->job, "leaf", 4) == 0 && !run->open)
                check_leaf(run);
        }
    check_readers();
}
