/*
 * Commands: absorbed on arrival, in inbox order per job, without running the job (rule 12).
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"
#include "job/codec.h"

struct input *input_make(const struct command_context *c)
{
    struct input *input = calloc(1, sizeof *input);
    Event *event = calloc(1, sizeof *event);
    if (!input || !event) {
        free(input);
        free(event);
        engine_stop(c->engine, "out of memory");
        return NULL;
    }
    perdure__v1__event__init(event);
    input->event = event;
    input->offset = c->at->offset;
    input->generation = c->engine->inbox_generation;
    input->leader_epoch = c->at->leader_epoch;
    input->t = c->header->t;
    input->request = strdup(c->command->request);
    if (c->command->reply_to && (input->reply_to = malloc(sizeof *input->reply_to)))
        *input->reply_to = *c->command->reply_to;
    return input;
}

#define NEW(type, variable)                    \
    type *variable = calloc(1, sizeof *variable); \
    if (!variable)                             \
        return engine_stop(c->engine, "out of memory")

/* Fills an empty string the generated code would not free. */
static char *text_copy(const char *text) { return strdup(text ? text : ""); }

/* Rule 30: a new run's time is later than that of the run before it, or its status would be taken for the older one where
 * claims cannot tell them apart: its slot has moved. */
static int64_t start_not_before(const struct active *active)
{
    int64_t last = active->head->t > active->t ? active->head->t : active->t;
    return last > 0 && last < active->engine->wall_ms + CLOCK_SKEW_LIMIT_MS ? last + 1 : 0;
}

static void start_push(struct command_context *c, struct active *active, const char *type, const char *build)
{
    struct engine *engine = c->engine;
    Perdure__V1__Start *start = c->command->start;
    struct input *input = input_make(c);
    if (!input)
        return;
    NEW(Perdure__V1__Started, started);
    perdure__v1__started__init(started);
    started->type = text_copy(type);
    started->build = text_copy(build);
    started->input = c->payload;
    c->payload = NULL;
    started->request = text_copy(c->command->request);
    started->parent_job = text_copy(start->parent_job);
    started->parent_run = start->parent_run;
    started->parent_op = start->parent_op;
    started->keep_ms = start->keep_ms > engine->limits.keep_ms ? start->keep_ms : engine->limits.keep_ms;
    input->event->kind_case = PERDURE__V1__EVENT__KIND_STARTED;
    input->event->started = started;
    input->watch = start->watch;

    active->run = RULE(RUN_ID) ? run_id_of(engine->config.genesis.log_id, active->head->job, c->command->request)
                               : hash64(active->head->job, strlen(active->head->job)) | 1;
    RULE_FIRED(RUN_ID);
    active->seq = 0;
    active->digest = digest_of_run(active->run);
    active->t = start_not_before(active);
    active->ending = false;
    active->parked = active->crash_pending = active->split = false;
    input_push(active, input);
    crash_attach_start(active);
}

/* The Started event that is queued or in flight for this job id; NULL: none. */
static const struct input *start_under_way(const struct active *active)
{
    const struct input_list *lists[2] = { &active->inputs, active->in_flight ? &active->in_flight->inputs : NULL };
    for (size_t l = 0; l < 2; l++)
        for (const struct input *input = lists[l] ? lists[l]->head : NULL; input; input = input->next)
            if (input->event && input->event->kind_case == PERDURE__V1__EVENT__KIND_STARTED)
                return input;
    return NULL;
}

/* The input with this request id that waits or is in flight; NULL: none. */
static struct input *input_under_way(const struct active *active, const char *request)
{
    const struct input_list *lists[2] = { &active->inputs, active->in_flight ? &active->in_flight->inputs : NULL };
    for (size_t l = 0; l < 2; l++)
        for (struct input *input = lists[l] ? lists[l]->head : NULL; input; input = input->next)
            if (input->request && strcmp(input->request, request) == 0)
                return input;
    return NULL;
}

static bool request_under_way(const struct active *active, const char *request)
{
    return input_under_way(active, request) != NULL;
}

static void watch_add(const struct command_context *c, struct active *active)
{
    struct watcher *watcher = calloc(1, sizeof *watcher);
    if (!watcher)
        return;
    watcher->run = active->run;
    watcher->request = text_copy(c->command->request);
    watcher->reply_to = *c->command->reply_to;
    watcher->next = active->watchers;
    active->watchers = watcher;
    /* A client asks again every few seconds, under another id: the oldest are not waited for any more. */
    struct watcher **oldest = &active->watchers;
    for (size_t i = 0; *oldest && i < WATCHERS_LIMIT; i++)
        oldest = &(*oldest)->next;
    if (*oldest) {
        free((*oldest)->request);
        free(*oldest);
        *oldest = NULL;
    }
}

/* The id is taken by this very start, or by one with the same type and input: the caller gets that run. */
static void start_exists(const struct command_context *c, struct run *head, bool pending)
{
    struct engine *engine = c->engine;
    bool watch = c->command->start->watch;
    if (c->command->reply_to) {
        bool open = pending || run_is_open(head);
        Reply *reply = reply_make(watch && !open ? "ended" : "exists", c->command->request, !(watch && open));
        if (reply)
            reply->status = pending ? NULL : status_make(engine, head);
        inbox_answer(engine, c->at->offset, c->command->reply_to, reply);
        if (watch && open) {
            struct active *active = active_of(engine, head);
            if (active)
                watch_add(c, active);
        }
    }
    inbox_done(engine, c->at->offset);
}

static bool start_input_is_same(const struct command_context *c, const char *type, const char *other_type,
                                uint64_t other_digest)
{
    const Payload *input = c->payload;
    uint64_t digest = input ? payload_digest(input->type, input->data.data, input->data.len) : 0;
    return other_type && strcmp(type, other_type) == 0 && digest == other_digest;
}

/* An id that is in use. Returns true when the start was answered. */
static bool start_on_known(const struct command_context *c, struct run *head, const char *type)
{
    struct engine *engine = c->engine;
    struct active *active = head->user;
    const struct input *pending = active ? start_under_way(active) : NULL;
    const char *known_type = pending ? pending->event->started->type : head->seq ? head->type : NULL;
    uint64_t known_digest = head->input_digest;
    if (pending) {
        const Payload *input = pending->event->started->input;
        known_digest = input ? payload_digest(input->type, input->data.data, input->data.len) : 0;
    }
    if (!known_type)
        return false;
    bool repeated = (head->seq && request_set_has(&head->requests, c->command->request)) ||
                    (active && request_under_way(active, c->command->request));
    if (RULE(REQUEST_IDS) && repeated) { /* rule 13 */
        RULE_FIRED(REQUEST_IDS);
        start_exists(c, head, pending != NULL);
        return true;
    }
    bool again = c->command->start->id_policy == PERDURE__V1__ID_POLICY__ID_POLICY_AGAIN;
    if (!pending && head->seq && !run_is_open(head) && (again || (!RULE(REQUEST_IDS) && repeated)))
        return false;
    bool from_job = c->header->sender && c->header->sender->job[0];
    if (!from_job && start_input_is_same(c, type, known_type, known_digest)) {
        start_exists(c, head, pending != NULL);
        return true;
    }
    inbox_refuse(engine, c->at->offset, c->header, c->command, "Exists",
                 "job id `%s` is taken by %s job of type `%s`%s", head->job,
                 pending || run_is_open(head) ? "an open" : "an ended", known_type,
                 strcmp(known_type, type) == 0 ? " with another input" : "");
    return true;
}

static void command_start(struct command_context *c)
{
    struct engine *engine = c->engine;
    Perdure__V1__Start *start = c->command->start;
    const struct callable *callable = registry_job(engine->config.registry, start->type);
    const char *type = callable ? callable->name : start->type;
    char error[512];
    enum engine_type elsewhere = callable || !engine->config.type_elsewhere
                                     ? ENGINE_TYPE_UNKNOWN
                                     : engine->config.type_elsewhere(engine->config.type_context, start->type);
    if (elsewhere == ENGINE_TYPE_ASKED) {
        inbox_ask(engine, c->at->offset);
        return;
    }
    if (!callable && elsewhere == ENGINE_TYPE_UNKNOWN) {
        inbox_refuse(engine, c->at->offset, c->header, c->command, "UnknownType",
                     "no registered module has a job type `%s`; known here: %s", start->type,
                     registry_job_names(engine->config.registry));
        return;
    }
    if (callable && c->payload && c->payload->json &&
        payload_from_json(callable->entry->decl->in, c->payload, error, sizeof error) != PDR_OK) {
        inbox_refuse(engine, c->at->offset, c->header, c->command, "BadInput", "%s", error);
        return;
    }
    const char *wanted = callable ? codec_type_name(callable->entry->decl->in) : NULL;
    if (wanted && c->payload && strcmp(c->payload->type, wanted) != 0) {
        inbox_refuse(engine, c->at->offset, c->header, c->command, "TypeMismatch",
                     "`%s` takes a %s, not a %s", type, wanted, c->payload->type);
        return;
    }
    if (c->payload && c->payload->data.len > PAYLOAD_LIMIT_BYTES) {
        inbox_refuse(engine, c->at->offset, c->header, c->command, "TooLarge", "input of %zu bytes; the limit is %d",
                     c->payload->data.len, PAYLOAD_LIMIT_BYTES);
        return;
    }
    struct run *head = judge_find_or_add(engine->judge, c->header->job);
    if (!head)
        return engine_stop(engine, "out of memory");
    if (start_on_known(c, head, type))
        return;
    struct active *active = active_of(engine, head);
    if (active)
        start_push(c, active, type, callable ? callable->build : "");
}

/* A start that is under way is as good as a run: inputs follow it. */
struct active *command_target(const struct command_context *c)
{
    struct engine *engine = c->engine;
    struct run *head = judge_find(engine->judge, c->header->job);
    struct active *active = head ? head->user : NULL;
    const struct input *starting = active ? start_under_way(active) : NULL;
    bool open = head && run_is_open(head);
    if (!starting && !open) {
        bool known = head && head->seq > 0;
        if (known && request_set_has(&head->requests, c->command->request) && RULE(REQUEST_IDS)) {
            if (c->command->reply_to)
                inbox_answer(engine, c->at->offset, c->command->reply_to,
                             reply_make("accepted", c->command->request, true));
            inbox_done(engine, c->at->offset);
            return NULL;
        }
        inbox_refuse(engine, c->at->offset, c->header, c->command, known ? "Closed" : "NotFound",
                     known ? "job `%s` has ended" : "no job with id `%s`", c->header->job);
        return NULL;
    }
    active = active_of(engine, head);
    if (!active)
        return NULL;
    if (c->header->run && c->header->run != active->run && RULE(RESULT_NAMES_RUN)) { /* rule 14 */
        RULE_FIRED(RESULT_NAMES_RUN);
        inbox_refuse(engine, c->at->offset, c->header, c->command, "NotFound", "job `%s` has another run now",
                     c->header->job);
        return NULL;
    }
    /* Also what the run before absorbed, when the next one's start is still under way. */
    bool repeated = head->seq > 0 && request_set_has(&head->requests, c->command->request);
    struct input *first = input_under_way(active, c->command->request);
    bool absorbed = open && !starting && engine->config.partition == head->last_partition &&
                    engine->inbox_generation == head->last_generation &&
                    c->at->offset <= head->last_input;
    if (RULE(REQUEST_IDS) && first && !repeated && !absorbed) { /* rule 13 */
        RULE_FIRED(REQUEST_IDS);
        /* What is not decided yet has no answer: the run may end before it is absorbed. Nor may the first's answer go to
         * this one, which the next owner may decide otherwise (rule 15): whoever waits asks again. */
        inbox_done(engine, c->at->offset);
        return NULL;
    }
    if (RULE(REQUEST_IDS) && absorbed && !repeated && head->requests.used < REQUESTS_KEPT) {
        /* Later inputs were absorbed, this was not: an owner before refused it, and nothing that counts says so yet. */
        inbox_refuse(engine, c->at->offset, c->header, c->command, "Closed", "job `%s` had ended when this came",
                     c->header->job);
        return NULL;
    }
    if (RULE(REQUEST_IDS) && (repeated || absorbed)) {
        RULE_FIRED(REQUEST_IDS);
        if (c->command->reply_to)
            inbox_answer(engine, c->at->offset, c->command->reply_to, reply_make("accepted", c->command->request, true));
        inbox_done(engine, c->at->offset);
        return NULL;
    }
    return active;
}

static void command_signal(struct command_context *c)
{
    Perdure__V1__Signal *signal = c->command->signal;
    if (c->payload && c->payload->data.len > PAYLOAD_LIMIT_BYTES) {
        inbox_refuse(c->engine, c->at->offset, c->header, c->command, "TooLarge",
                     "signal of %zu bytes; the limit is %d", c->payload->data.len, PAYLOAD_LIMIT_BYTES);
        return;
    }
    struct active *active = command_target(c);
    struct input *input = active ? input_make(c) : NULL;
    if (!input)
        return;
    NEW(Perdure__V1__SignalReceived, received);
    perdure__v1__signal_received__init(received);
    received->name = text_copy(signal->name);
    received->payload = c->payload;
    c->payload = NULL;
    received->request = text_copy(c->command->request);
    received->sender_job = text_copy(c->header->sender ? c->header->sender->job : "");
    input->event->kind_case = PERDURE__V1__EVENT__KIND_SIGNAL_RECEIVED;
    input->event->signal_received = received;
    input_push(active, input);
}

static void command_cancel(const struct command_context *c)
{
    struct active *active = command_target(c);
    struct input *input = active ? input_make(c) : NULL;
    if (!input)
        return;
    NEW(Perdure__V1__CancelRequested, cancel);
    perdure__v1__cancel_requested__init(cancel);
    cancel->request = text_copy(c->command->request);
    cancel->reason = text_copy(c->command->cancel->reason);
    input->event->kind_case = PERDURE__V1__EVENT__KIND_CANCEL_REQUESTED;
    input->event->cancel_requested = cancel;
    input_push(active, input);
}

static void command_terminate(const struct command_context *c)
{
    struct active *active = command_target(c);
    struct input *input = active ? input_make(c) : NULL;
    if (!input)
        return;
    NEW(Perdure__V1__Terminated, terminated);
    perdure__v1__terminated__init(terminated);
    terminated->request = text_copy(c->command->request);
    terminated->reason = text_copy(c->command->terminate->reason);
    input->event->kind_case = PERDURE__V1__EVENT__KIND_TERMINATED;
    input->event->terminated = terminated;
    input_push(active, input);
}

/* Only the owner knows what of a job stands still; one that it has not looked at yet may. */
static bool resume_has_sense(const struct command_context *c, const struct active *active)
{
    if (run_is_open(active->head) && active->head->crashes && active->head->crashes->quarantined)
        return true;
    if (active->parked)
        return strcmp(active->parked_state, "waiting") != 0;
    if (start_waits(active))
        return false;
    return !active->job && active->queued && run_is_open(active->head) && c->engine->state == ENGINE_OWNER;
}

static void command_resume(const struct command_context *c)
{
    struct active *active = command_target(c);
    if (!active)
        return;
    if (!resume_has_sense(c, active)) {
        inbox_refuse(c->engine, c->at->offset, c->header, c->command, "NotStopped",
                     "job `%s` is neither quarantined nor diverged%s", active->head->job,
                     active->parked ? ": it waits for a worker with its module"
                     : start_waits(active) ? ": the rate of its type has not let it begin" : "");
        active_settle(active);
        return;
    }
    struct input *input = input_make(c);
    if (!input)
        return;
    NEW(Perdure__V1__Resumed, resumed);
    perdure__v1__resumed__init(resumed);
    resumed->request = text_copy(c->command->request);
    resumed->reason = text_copy(c->command->resume->reason);
    input->event->kind_case = PERDURE__V1__EVENT__KIND_RESUMED;
    input->event->resumed = resumed;
    input_push(active, input);
}

static void command_child_result(const struct command_context *c)
{
    Perdure__V1__ChildResult *result = c->command->child_result;
    struct active *active = command_target(c);
    struct input *input = active ? input_make(c) : NULL;
    if (!input)
        return;
    NEW(Perdure__V1__ChildEnded, ended);
    perdure__v1__child_ended__init(ended);
    ended->state = text_copy(result->state);
    ended->child_run = result->child_run;
    ended->result = result->result ? payload_copy(result->result) : NULL;
    ended->error = result->error ? error_copy(result->error) : NULL;
    input->event->op = result->op;
    input->event->kind_case = PERDURE__V1__EVENT__KIND_CHILD_ENDED;
    input->event->child_ended = ended;
    input_push(active, input);
}

static void command_refusal(const struct command_context *c)
{
    Perdure__V1__ChildRefusal *refusal = c->command->refusal;
    struct active *active = command_target(c);
    struct input *input = active ? input_make(c) : NULL;
    if (!input)
        return;
    input->event->op = refusal->op;
    if (refusal->of_start) {
        NEW(Perdure__V1__ChildEnded, ended);
        perdure__v1__child_ended__init(ended);
        ended->state = text_copy("refused");
        ended->error = refusal->error ? error_copy(refusal->error) : NULL;
        input->event->kind_case = PERDURE__V1__EVENT__KIND_CHILD_ENDED;
        input->event->child_ended = ended;
    } else {
        NEW(Perdure__V1__SendRefused, refused);
        perdure__v1__send_refused__init(refused);
        refused->error = refusal->error ? error_copy(refusal->error) : NULL;
        input->event->kind_case = PERDURE__V1__EVENT__KIND_SEND_REFUSED;
        input->event->send_refused = refused;
    }
    input_push(active, input);
}

static void command_watch(const struct command_context *c)
{
    struct engine *engine = c->engine;
    struct run *head = judge_find(engine->judge, c->header->job);
    struct active *active = head ? head->user : NULL;
    if (c->command->reply_to && ((head && run_is_open(head)) || (active && start_under_way(active)))) {
        active = active_of(engine, head);
        if (active)
            watch_add(c, active);
    } else if (c->command->reply_to) {
        bool known = head && head->seq > 0;
        Reply *reply = reply_make(known ? "ended" : "unknown", c->command->request, true);
        if (reply && known)
            reply->status = status_make(engine, head);
        inbox_answer(engine, c->at->offset, c->command->reply_to, reply);
    }
    inbox_done(engine, c->at->offset);
}

/* Rule 14: a command older than LIFE at its append is dead; so is one from a clock that runs ahead. Results never die. */
bool command_is_alive(const struct command_context *c)
{
    const Header *header = c->header;
    int64_t life = c->engine->limits.life_ms;
    if (header->life > 0 && header->life < life) /* never longer: what is remembered of a closed run goes by LIFE (rule 20) */
        life = header->life;
    int64_t age = c->at->append_ms - header->born;
    bool dies = c->command->kind_case != PERDURE__V1__COMMAND__KIND_CHILD_RESULT &&
                c->command->kind_case != PERDURE__V1__COMMAND__KIND_REFUSAL &&
                c->command->kind_case != PERDURE__V1__COMMAND__KIND_TASK_REPORT;
    if (!dies || !RULE(LIFE))
        return true;
    /* What was absorbed in time is no news: a late copy of it is dropped, not refused (rule 13). */
    const struct run *head = age > life && RULE(REQUEST_IDS) ? judge_find(c->engine->judge, header->job) : NULL;
    if (head && ((head->seq > 0 && request_set_has(&head->requests, c->command->request)) ||
                 (head->user && request_under_way(head->user, c->command->request))))
        return true;
    if (age > life) {
        RULE_FIRED(LIFE);
        inbox_refuse(c->engine, c->at->offset, header, c->command, "Expired",
                     "the command is %lld s old; commands live %lld s", (long long)(age / 1000),
                     (long long)(life / 1000));
        return false;
    }
    if (-age > BORN_SKEW_MS) {
        RULE_FIRED(LIFE);
        inbox_refuse(c->engine, c->at->offset, header, c->command, "ClockAhead",
                     "the sender's clock is %lld s ahead of the log's; set it right", (long long)(-age / 1000));
        return false;
    }
    return true;
}

void command_dispatch(struct command_context *c)
{
    const Payload *payload = NULL;
    if (c->command->kind_case == PERDURE__V1__COMMAND__KIND_START)
        payload = c->command->start->input;
    else if (c->command->kind_case == PERDURE__V1__COMMAND__KIND_SIGNAL)
        payload = c->command->signal->payload;
    if (payload && !(c->payload = payload_copy(payload)))
        return engine_stop(c->engine, "out of memory");
    switch (c->command->kind_case) {
    case PERDURE__V1__COMMAND__KIND_START:
        command_start(c);
        break;
    case PERDURE__V1__COMMAND__KIND_SIGNAL:
        command_signal(c);
        break;
    case PERDURE__V1__COMMAND__KIND_CANCEL:
        command_cancel(c);
        break;
    case PERDURE__V1__COMMAND__KIND_TERMINATE:
        command_terminate(c);
        break;
    case PERDURE__V1__COMMAND__KIND_WATCH:
        command_watch(c);
        break;
    case PERDURE__V1__COMMAND__KIND_RESUME:
        command_resume(c);
        break;
    case PERDURE__V1__COMMAND__KIND_CHILD_RESULT:
        command_child_result(c);
        break;
    case PERDURE__V1__COMMAND__KIND_REFUSAL:
        command_refusal(c);
        break;
    case PERDURE__V1__COMMAND__KIND_TASK_REPORT:
        command_task_report(c);
        break;
    default:
        inbox_refuse(c->engine, c->at->offset, c->header, c->command, "Unreadable",
                     "a kind of command that this version does not know");
        break;
    }
}
