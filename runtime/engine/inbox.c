/*
 * Commands: absorbed on arrival, in inbox order per job, without running the job (rule 12). What is refused, is refused
 * for good only when a confirmed record puts the position beyond it (rule 15).
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"
#include "job/codec.h"

/* ---- the window of inbox records that were read and are not yet behind us --------------------------------------- */

static struct inbox_entry *window_at(const struct engine *engine, size_t index)
{
    return &engine->window[(engine->window_start + index) & (engine->window_capacity - 1)];
}

static bool window_push(struct engine *engine, int64_t offset, int64_t append_ms)
{
    if (engine->window_count == engine->window_capacity) {
        size_t capacity = engine->window_capacity ? engine->window_capacity * 2 : 64;
        struct inbox_entry *window = calloc(capacity, sizeof *window);
        if (!window) {
            engine_stop(engine, "out of memory");
            return false;
        }
        for (size_t i = 0; i < engine->window_count; i++)
            window[i] = *window_at(engine, i);
        free(engine->window);
        engine->window = window;
        engine->window_start = 0;
        engine->window_capacity = capacity;
    }
    *window_at(engine, engine->window_count++) =
        (struct inbox_entry){ .offset = offset, .append_ms = append_ms, .state = INBOX_PENDING };
    return true;
}

static struct inbox_entry *window_find(struct engine *engine, int64_t offset)
{
    size_t low = 0, high = engine->window_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (window_at(engine, middle)->offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == engine->window_count || window_at(engine, low)->offset != offset)
        return NULL;
    return window_at(engine, low);
}

static const struct inbox_entry *window_first_parked(const struct engine *engine)
{
    for (size_t i = 0; i < engine->window_count; i++)
        if (window_at(engine, i)->state == INBOX_PARKED)
            return window_at(engine, i);
    return NULL;
}

void inbox_done(struct engine *engine, int64_t offset)
{
    struct inbox_entry *entry = window_find(engine, offset);
    if (entry)
        entry->state = INBOX_DONE;
    while (engine->window_count > 0 && window_at(engine, 0)->state == INBOX_DONE) {
        engine->window_start = (engine->window_start + 1) & (engine->window_capacity - 1);
        engine->window_count--;
        engine->changed_since_mark = true;
    }
}

/* Rule 13: the lowest input that no confirmed record absorbed; never "read so far". In a Mark, what is refused in that
 * same Mark counts as done: both stand or fall together. */
Position inbox_low(const struct engine *engine, bool in_mark)
{
    Position low = PERDURE__V1__POSITION__INIT;
    low.generation = engine->inbox_generation;
    low.offset = engine->inbox_next;
    if (!RULE(IN_POS))
        return low;
    for (size_t i = 0; i < engine->window_count; i++) {
        const struct inbox_entry *entry = window_at(engine, i);
        if (entry->state == INBOX_PENDING || entry->state == INBOX_PARKED ||
            (entry->state == INBOX_IN_MARK && !in_mark)) {
            RULE_FIRED(IN_POS);
            low.offset = entry->offset;
            break;
        }
    }
    return low;
}

int64_t inbox_low_ms(const struct engine *engine, const Position *in_pos)
{
    for (size_t i = 0; i < engine->window_count; i++)
        if (window_at(engine, i)->offset >= in_pos->offset)
            return window_at(engine, i)->append_ms;
    return -1;
}

/* From what comes next; before that, what was parked is told again, or it would be taken after what came later. */
void inbox_follow(struct engine *engine)
{
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_FOLLOW_INBOX);
    const struct inbox_entry *parked = window_first_parked(engine);
    if (queued)
        queued->output.offset = parked ? parked->offset : engine->inbox_next;
    engine->inbox_turns_back = true;
}

void inbox_park(struct engine *engine, int64_t offset)
{
    struct inbox_entry *entry = window_find(engine, offset);
    if (entry && entry->state == INBOX_PENDING)
        entry->state = INBOX_PARKED;
}

void inbox_reread(struct engine *engine)
{
    if (window_first_parked(engine))
        inbox_follow(engine);
}

void inbox_begin(struct engine *engine)
{
    engine->inbox_next = engine->judge->in_pos.offset;
    engine->inbox_generation = engine->judge->in_pos.generation;
    if (engine->inbox_generation < engine->inbox_generation_min)
        engine->inbox_generation = engine->inbox_generation_min;
    inbox_follow(engine);
}

/* The inbox ends below what was read: it was truncated, its offsets are given out again (H21). They are told apart by
 * the generation. */
void inbox_end(struct engine *engine, int64_t end)
{
    if (engine->state != ENGINE_OWNER || end >= engine->inbox_next)
        return;
    engine_note(engine, "the inbox of partition %u was cut from offset %lld back to %lld; going on from there",
                engine->config.partition, (long long)engine->inbox_next, (long long)end);
    engine->inbox_generation_min = engine->inbox_generation + 1;
    alarm_clear(&engine->alarms, &engine->trim_alarm); /* it speaks of offsets that others have now */
    engine->trim_to = 0;
    if (engine->window_count > 0 || engine->held_replies || engine->held_refusals) {
        engine_doubt(engine, "the inbox was cut back behind commands in hand");
        return;
    }
    engine->inbox_generation = engine->inbox_generation_min;
    engine->inbox_next = end;
    engine->changed_since_mark = engine->mark_wanted = true;
    inbox_follow(engine);
}

void inbox_reset(struct engine *engine)
{
    engine->window_count = engine->window_start = 0;
    while (engine->held_replies) {
        struct held_reply *next = engine->held_replies->next;
        reply_free(engine->held_replies->reply);
        free(engine->held_replies);
        engine->held_replies = next;
    }
    while (engine->held_refusals) {
        struct held_refusal *next = engine->held_refusals->next;
        perdure__v1__refusal__free_unpacked(engine->held_refusals->refusal, NULL);
        free(engine->held_refusals);
        engine->held_refusals = next;
    }
}

/* ---- answers and refusals ---------------------------------------------------------------------------------------- */

/* Leaves when in_pos is confirmed beyond `offset`; takes the reply. */
void inbox_answer(struct engine *engine, int64_t offset, const ReplyTo *to, Reply *reply)
{
    if (!reply || !to) {
        reply_free(reply);
        return;
    }
    if (!RULE(REFUSE_AFTER_CONFIRM)) {
        reply_send(engine, to, reply);
        return;
    }
    RULE_FIRED(REFUSE_AFTER_CONFIRM);
    struct held_reply *held = calloc(1, sizeof *held);
    if (!held) {
        reply_free(reply);
        return;
    }
    held->offset = offset;
    held->reply_to = *to;
    held->reply = reply;
    held->next = engine->held_replies;
    engine->held_replies = held;
    engine->changed_since_mark = true;
}

void inbox_release_replies(struct engine *engine)
{
    struct held_reply **link = &engine->held_replies;
    while (*link) {
        struct held_reply *held = *link;
        if (held->offset >= engine->confirmed_in_pos.offset ||
            engine->confirmed_in_pos.generation != engine->inbox_generation) {
            link = &held->next;
            continue;
        }
        *link = held->next;
        reply_send(engine, &held->reply_to, held->reply);
        free(held);
    }
}

bool inbox_replies_could_go(const struct engine *engine)
{
    if (!engine->held_replies)
        return false;
    Position low = inbox_low(engine, true);
    for (const struct held_reply *held = engine->held_replies; held; held = held->next)
        if (held->offset < low.offset)
            return true;
    return false;
}

static void refuse_job(struct engine *engine, int64_t offset, const Header *header, const Command *command,
                       const char *code, const char *text)
{
    struct held_refusal *held = calloc(1, sizeof *held);
    Refusal *refusal = calloc(1, sizeof *refusal);
    if (!held || !refusal) {
        free(held);
        free(refusal);
        engine_stop(engine, "out of memory");
        return;
    }
    perdure__v1__refusal__init(refusal);
    held->refusal = refusal;
    held->offset = offset;
    refusal->to = calloc(1, sizeof *refusal->to);
    if (refusal->to) {
        perdure__v1__sender__init(refusal->to);
        refusal->to->job = strdup(header->sender->job);
        refusal->to->run = header->sender->run;
        refusal->to->seq = header->sender->seq;
        refusal->to->index = header->sender->index;
        refusal->to->partition = header->sender->partition;
    }
    refusal->code = strdup(code);
    refusal->message = strdup(text);
    refusal->request = strdup(command->request);
    refusal->of_start = command->kind_case == PERDURE__V1__COMMAND__KIND_START;
    if (refusal->of_start)
        refusal->op = command->start->parent_op;
    else if (command->kind_case == PERDURE__V1__COMMAND__KIND_SIGNAL)
        refusal->op = command->signal->sender_op;
    struct held_refusal **link = &engine->held_refusals;
    while (*link)
        link = &(*link)->next;
    *link = held;
    struct inbox_entry *entry = window_find(engine, offset);
    if (entry)
        entry->state = RULE(REFUSAL_IN_MARK) ? INBOX_IN_MARK : INBOX_DONE;
    if (!RULE(REFUSAL_IN_MARK)) {
        inbox_done(engine, offset);
        *link = NULL; /* the mutation: told by nobody's history */
        perdure__v1__refusal__free_unpacked(refusal, NULL);
        free(held);
    } else {
        RULE_FIRED(REFUSAL_IN_MARK);
    }
}

void inbox_refuse(struct engine *engine, int64_t offset, const Header *header, const Command *command,
                  const char *code, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (header->sender && header->sender->job[0]) {
        bool answers = command->kind_case == PERDURE__V1__COMMAND__KIND_START ||
                       command->kind_case == PERDURE__V1__COMMAND__KIND_SIGNAL;
        if (answers)
            refuse_job(engine, offset, header, command, code, text);
        else
            inbox_done(engine, offset); /* a result or a refusal for a run that is gone: nobody waits */
        return;
    }
    if (command->reply_to) {
        Reply *reply = reply_make("refused", command->request, true);
        if (reply && (reply->error = calloc(1, sizeof *reply->error))) {
            perdure__v1__error__init(reply->error);
            reply->error->type = strdup(code);
            reply->error->message = strdup(text);
            reply->error->code = PDR_FAILED;
        }
        inbox_answer(engine, offset, command->reply_to, reply);
    }
    inbox_done(engine, offset);
}

/* ---- Marks (rule 9) ------------------------------------------------------------------------------------------------ */

void engine_mark(struct engine *engine)
{
    Header header;
    Record record = PERDURE__V1__RECORD__INIT;
    Mark mark = PERDURE__V1__MARK__INIT;
    Position in_pos = inbox_low(engine, true);
    struct held_refusal *beyond = engine->held_refusals; /* the first that this Mark has no room for */
    size_t count = 0, bytes = 0, i = 0;
    for (; beyond; beyond = beyond->next, count++) {
        bytes += perdure__v1__refusal__get_packed_size(beyond->refusal);
        if (count > 0 && bytes > engine->limits.turn_bytes)
            break;
    }
    Refusal *refusals[count + 1];
    for (struct held_refusal *held = engine->held_refusals; held != beyond; held = held->next) {
        held->in_mark = true;
        refusals[i++] = held->refusal;
    }
    if (beyond && beyond->offset < in_pos.offset)
        in_pos.offset = beyond->offset;
    header_init(engine, &header, PERDURE__V1__KIND__KIND_MARK);
    header.in_pos = &in_pos;
    header.out_pos = outbox_position(engine);
    mark.in_pos = &in_pos;
    mark.out_pos = header.out_pos;
    mark.refusals = refusals;
    mark.n_refusals = count;
    mark.live_hash = (ProtobufCBinaryData){ .len = 16, .data = engine->judge->live_hash.bytes };
    mark.live_count = engine->judge->live_count;
    mark.largest_t = engine->judge->largest_t;
    mark.cut = retention_mark(engine, &in_pos);
    if (mark.cut > 0)
        header.min_reader = RULE_LEVEL_RETENTION;
    mark.leaving = handover_leaving(engine);
    record.header = &header;
    record.mark = &mark;
    struct append *append = engine_append(engine, &record);
    if (!append)
        return;
    if (mark.cut > 0)
        retention_mark_sent(engine, append->n);
    append->in_pos = in_pos;
    engine->mark_first = engine->mark_wanted = engine->changed_since_mark = false;
    alarm_set(&engine->alarms, &engine->mark_alarm, engine->monotonic_ms + engine->limits.mark_interval_ms);
    if (engine->confirmed_in_pos.offset > engine->trim_to && !engine->trim_alarm.place &&
        engine->confirmed_in_pos.generation == engine->inbox_generation) {
        engine->trim_to = engine->confirmed_in_pos.offset; /* rule 16: behind it, and after a delay */
        alarm_set(&engine->alarms, &engine->trim_alarm, engine->monotonic_ms + engine->limits.trim_delay_ms);
    }
}

bool inbox_has_refusals(const struct engine *engine)
{
    for (const struct held_refusal *held = engine->held_refusals; held; held = held->next)
        if (!held->in_mark)
            return true;
    return false;
}

/* Only now may the position of other records pass what the Mark refused: it could have been lost before. */
void inbox_mark_confirmed(struct engine *engine)
{
    struct held_refusal **link = &engine->held_refusals;
    while (*link) {
        struct held_refusal *held = *link;
        if (!held->in_mark) {
            link = &held->next;
            continue;
        }
        *link = held->next;
        inbox_done(engine, held->offset);
        perdure__v1__refusal__free_unpacked(held->refusal, NULL);
        free(held);
    }
}

/* ---- commands ---------------------------------------------------------------------------------------------------------- */

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
    active->t = 0;
    active->ending = false;
    active->parked = active->crash_pending = false;
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
    if (!callable && !(engine->config.type_is_known &&
                       engine->config.type_is_known(engine->config.type_context, start->type))) {
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
                     active->parked ? ": it waits for a worker with its module" : "");
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
static bool command_is_alive(const struct command_context *c)
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

static void command_dispatch(struct command_context *c)
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

/* What nobody can read goes to the dead letters and out of the way (rule 12). */
static void inbox_bury(struct engine *engine, const struct log_record *record, const char *why)
{
    struct queued_output *queued = engine_put(engine, ENGINE_OUT_DEAD);
    if (queued && (queued->owned[0] = malloc(record->size ? record->size : 1)) && (queued->owned[1] = strdup(why))) {
        memcpy(queued->owned[0], record->data, record->size);
        queued->output.data = queued->owned[0];
        queued->output.size = record->size;
        queued->output.offset = record->offset;
        queued->output.text = queued->owned[1];
    }
    inbox_done(engine, record->offset);
}

/* What comes next, or was parked. */
static bool inbox_takes(struct engine *engine, const struct log_record *record)
{
    if (record->offset >= engine->inbox_next) {
        engine->inbox_next = record->offset + 1;
        return window_push(engine, record->offset, record->append_ms);
    }
    struct inbox_entry *entry = window_find(engine, record->offset);
    if (!entry || entry->state != INBOX_PARKED)
        return false;
    entry->state = INBOX_PENDING;
    return true;
}

void inbox_record(struct engine *engine, const struct log_record *record)
{
    if (!engine_owns(engine) || engine->inbox_turns_back)
        return;
    if (engine->state == ENGINE_DRAINING)
        return; /* the next owner reads it */
    retention_on_inbox(engine, record->append_ms);
    if (!inbox_takes(engine, record))
        return;
    Record *decoded = NULL;
    enum wire_error error = record_decode(record->data, record->size, &decoded);
    if (error == WIRE_NO_MEMORY) {
        engine_stop(engine, "out of memory"); /* it is whole: whoever owns next reads it */
        return;
    }
    if (error != WIRE_OK) {
        inbox_bury(engine, record, wire_error_text(error));
        return;
    }
    struct command_context context = { engine, record, decoded->header, decoded->command, NULL };
    const struct slots_context slots = { record, decoded->header, decoded->command };
    if (decoded->header->kind != PERDURE__V1__KIND__KIND_COMMAND || !decoded->command ||
        decoded->header->log != (uint32_t)engine->config.genesis.log_id)
        inbox_bury(engine, record, "no command of this log");
    else if (slots_command(engine, &slots))
        ;
    else if (strlen(decoded->command->request) > REQUEST_ID_LIMIT_BYTES)
        inbox_bury(engine, record, "its request id is too long"); /* a terminal event must hold many of them */
    else if (strlen(decoded->header->job) > JOB_ID_LIMIT_BYTES)
        inbox_refuse(engine, record->offset, decoded->header, decoded->command, "BadId",
                     "a job id may have at most %d bytes", JOB_ID_LIMIT_BYTES);
    else if (engine->judge->map.version <= 1 &&
             partition_of(decoded->header->job, engine->judge->map.partitions) != engine->config.partition)
        inbox_bury(engine, record, "the job belongs to another partition");
    else if (slots_elsewhere(engine, record, decoded->header->job))
        ;
    else if (command_is_alive(&context))
        command_dispatch(&context);
    payload_free(context.payload);
    record_free(decoded);
}
