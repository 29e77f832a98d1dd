/* See story.h. A parent in partition 0 has a timer, a step, a child in partition 1 and two signals to send; partition 0
 * changes hands before it ends. */
#include "story.h"

#include <string.h>

#include "log_maker.h"

enum { HOUR = 3600 * 1000 };

struct story {
    struct maker m;
    enum fault fault;
    struct made_run parent, child, other;
    char parent_id[32], child_id[32], nobody_id[32];
    int64_t results; /* inbox offset of what comes back to the parent */
};

#define BODY(KIND, FIELD, BODY_TYPE)                                                                                   \
    static BODY_TYPE FIELD##_body;                                                                                     \
    BODY_TYPE *body = &FIELD##_body;                                                                                   \
    perdure__v1__##FIELD##__init(body);                                                                                \
    e->kind_case = PERDURE__V1__EVENT__KIND_##KIND;                                                                    \
    e->FIELD = body

static void say(char **field, const char *text)
{
    *field = (char *)(uintptr_t)text;
}

static int64_t send_start(struct story *s, const char *job, const char *request, const struct made_run *sender,
                          uint64_t seq)
{
    command_pb c = PERDURE__V1__COMMAND__INIT;
    Perdure__V1__Start start = PERDURE__V1__START__INIT;
    say(&c.request, request);
    say(&start.type, "test/job");
    if (sender) {
        say(&start.parent_job, sender->job);
        start.parent_run = sender->id;
        start.parent_op = 3;
    }
    c.kind_case = PERDURE__V1__COMMAND__KIND_START;
    c.start = &start;
    return maker_command(&s->m, job, 0, &c, sender, seq, 0);
}

static int64_t send_signal(struct story *s, const char *job, const char *request, const struct made_run *sender,
                           uint64_t seq, int64_t age)
{
    command_pb c = PERDURE__V1__COMMAND__INIT;
    Perdure__V1__Signal signal = PERDURE__V1__SIGNAL__INIT;
    say(&c.request, request);
    say(&signal.name, s->fault == COMMAND_OTHER ? "stop" : "go");
    c.kind_case = PERDURE__V1__COMMAND__KIND_SIGNAL;
    c.signal = &signal;
    uint64_t run = s->fault == OTHER_RUN_TAKES && !sender && age == 0 ? 12345 : 0;
    return maker_command(&s->m, job, run, &c, sender, seq, age);
}

static void send_watch(struct story *s, const char *job, bool cancel)
{
    command_pb c = PERDURE__V1__COMMAND__INIT;
    Perdure__V1__Watch watch = PERDURE__V1__WATCH__INIT;
    Perdure__V1__Cancel body = PERDURE__V1__CANCEL__INIT;
    say(&c.request, "watch-1");
    c.kind_case = cancel ? PERDURE__V1__COMMAND__KIND_CANCEL : PERDURE__V1__COMMAND__KIND_WATCH;
    if (cancel)
        c.cancel = &body;
    else
        c.watch = &watch;
    maker_command(&s->m, job, 0, &c, NULL, 0, 0);
}

static void started(struct story *s, const char *request, const struct made_run *parent)
{
    event_pb *e = maker_event(&s->m, 0);
    BODY(STARTED, started, Perdure__V1__Started);
    say(&body->type, "test/job");
    say(&body->request, request);
    if (parent) {
        say(&body->parent_job, parent->job);
        body->parent_run = parent->id;
        body->parent_op = 3;
    }
}

static void received(struct story *s, const char *request, const char *sender)
{
    event_pb *e = maker_event(&s->m, 0);
    BODY(SIGNAL_RECEIVED, signal_received, Perdure__V1__SignalReceived);
    say(&body->name, "go");
    say(&body->request, request);
    say(&body->sender_job, sender);
}

static void timer_started(struct story *s)
{
    event_pb *e = maker_event(&s->m, 1);
    BODY(TIMER_STARTED, timer_started, Perdure__V1__TimerStarted);
    body->fire_at = s->m.now + (s->fault == TIMER_EARLY ? 100 * HOUR : 1000);
}

static void timer_fired(struct story *s)
{
    event_pb *e = maker_event(&s->m, 1);
    BODY(TIMER_FIRED, timer_fired, Perdure__V1__TimerFired);
}

static void attempt_failed(struct story *s)
{
    event_pb *e = maker_event(&s->m, 2);
    BODY(ATTEMPT_FAILED, attempt_failed, Perdure__V1__AttemptFailed);
    say(&body->name, "test/step");
    body->attempt = s->fault == ATTEMPT_BACK ? 2 : 1;
}

static void step_completed(struct story *s)
{
    event_pb *e = maker_event(&s->m, s->fault == OP_MISSING ? 0 : 2);
    BODY(STEP_COMPLETED, step_completed, Perdure__V1__StepCompleted);
    say(&body->name, s->fault == STEP_CHANGED ? "test/another" : "test/step");
    body->attempt = 2;
}

static void child_requested(struct story *s)
{
    event_pb *e = maker_event(&s->m, 3);
    BODY(CHILD_REQUESTED, child_requested, Perdure__V1__ChildRequested);
    say(&body->job, s->fault == ORPHAN ? s->nobody_id : s->child_id);
    say(&body->type, "test/job");
}

static void child_ended(struct story *s)
{
    event_pb *e = maker_event(&s->m, 3);
    BODY(CHILD_ENDED, child_ended, Perdure__V1__ChildEnded);
    say(&body->state, s->fault == CHILD_STATE ? "failed" : "completed");
    body->child_run = s->child.id;
}

static void signal_sent(struct story *s, uint64_t op, const char *target)
{
    event_pb *e = maker_event(&s->m, op);
    static Perdure__V1__SignalSent bodies[2];
    Perdure__V1__SignalSent *body = &bodies[op == 5];
    perdure__v1__signal_sent__init(body);
    e->kind_case = PERDURE__V1__EVENT__KIND_SIGNAL_SENT;
    e->signal_sent = body;
    say(&body->name, s->fault == SIGNAL_UNSENT ? "another" : "go");
    say(&body->target, target);
}

static void send_refused(struct story *s)
{
    event_pb *e = maker_event(&s->m, 5);
    BODY(SEND_REFUSED, send_refused, Perdure__V1__SendRefused);
}

static void completed(struct story *s, char **requests, size_t count)
{
    event_pb *e = maker_event(&s->m, 0);
    static Perdure__V1__Ending ending;
    BODY(COMPLETED, completed, Perdure__V1__Completed);
    perdure__v1__ending__init(&ending);
    ending.keep_until = s->m.now + 25 * HOUR;
    ending.requests = requests;
    ending.n_requests = count;
    body->ending = &ending;
}

static void open_partition(struct story *s, uint32_t partition)
{
    struct maker *m = &s->m;
    uint32_t partitions = MAKER_PARTITIONS;
    if (s->fault == PARTITIONS_ZERO && partition == 0)
        partitions = 0;
    else if (s->fault != GENESIS_MISSING || partition)
        maker_genesis(m, partition);
    else
        maker_mark(m, partition, NULL, false);
    maker_claim(m, partition, 7, s->fault == GENESIS_DIFFERS && partition ? 4 : partitions);
    if (s->fault != MARK_NOT_FIRST)
        maker_mark(m, partition, NULL, false);
}

static void send_all(struct story *s)
{
    send_start(s, s->parent_id, "s-p", NULL, 0);                                     /* 0 */
    send_signal(s, s->parent_id, "g1", NULL, 0, 0);                                  /* 1 */
    send_start(s, s->parent_id, s->fault == DEAD_ABSORBED ? "s-q" : "s-p", NULL, 0); /* 2: a repetition */
    send_signal(s, s->parent_id, "old", NULL, 0, 25 * HOUR);                         /* 3: dead */
    send_watch(s, s->parent_id, s->fault == CANCEL_SKIPPED);                         /* 4 */
    maker_garbage(&s->m, INBOX, 0);                                                  /* 5 */
    send_signal(s, s->parent_id, s->fault == REQUEST_TWICE ? "g1" : "g2", NULL, 0,
                s->fault == AHEAD_ABSORBED ? -2 * 60 * 1000 : 0); /* 6 */
}

/* An error with more causes than anybody decodes. */
static void nest(Perdure__V1__AttemptFailed *failed)
{
    static Perdure__V1__Error errors[40];
    failed->error = errors;
    for (int i = 0; i < 40; i++) {
        perdure__v1__error__init(&errors[i]);
        errors[i].cause = i < 39 ? &errors[i + 1] : NULL;
    }
}

static void begin_parent(struct story *s)
{
    struct maker *m = &s->m;
    started(s, "s-p", NULL);
    maker_input(m, 0, 0, s->fault == REQUEST_OTHER ? "s-other" : "s-p");
    if (s->fault == REQUEST_OTHER)
        say(&m->events[0].started->request, "s-other");
    m->lie.log = s->fault == LOG_WRONG;
    maker_append(m, &s->parent);
    m->partitions[0].in_pos = s->fault == IN_POS_AHEAD ? 3 : 1;
    m->now += 1000;
    timer_started(s);
    attempt_failed(s);
    m->lie.digest = s->fault == DIGEST_WRONG;
    m->lie.count = s->fault == COUNT_WRONG;
    m->lie.slot = s->fault == SLOT_WRONG;
    m->lie.kind = s->fault == KIND_UNKNOWN;
    m->lie.level = s->fault == LEVEL_HIGH;
    m->lie.crc = s->fault == SUM_WRONG;
    m->lie.seq = s->fault == SEQ_GAP;
    m->lie.first = s->fault == FIRST_HINT;
    if (s->fault == ERROR_DEEP)
        nest(m->events[1].attempt_failed);
    if (s->fault == EVENT_UNKNOWN)
        m->events[1].kind_case = PERDURE__V1__EVENT__KIND__NOT_SET;
    maker_append(m, &s->parent);
}

/* A second run of the job, where there may be one and where not. */
static void other_run(struct story *s)
{
    struct maker *m = &s->m;
    const char *request = s->fault == RUN_AGAIN ? "s-p" : "s-again";
    int64_t offset = send_start(s, s->parent_id, request, NULL, 0);
    maker_run(m, &s->other, s->parent_id, request);
    m->now += s->fault == RUN_AGAIN ? 1000 : 0;
    started(s, request, NULL);
    maker_input(m, 0, offset, request);
    maker_append(m, &s->other);
}

static void second_value(struct story *s)
{
    struct made_run before = s->parent;
    step_completed(s);
    s->m.events[0].step_completed->attempt = 3;
    maker_append(&s->m, &s->parent);
    s->parent = before;
}

static void feed_parent(struct story *s)
{
    struct maker *m = &s->m;
    m->now += 1000;
    received(s, "g1", "");
    maker_input(m, 0, 1, "g1");
    m->lie.no_input = s->fault == INPUT_UNNAMED;
    maker_append(m, &s->parent);
    m->partitions[0].in_pos = s->fault == IN_POS_BACK ? 0 : 6;
    if (s->fault == APPEND_LOST) { /* the owner goes on for a moment as if it had been written */
        struct made_run before = s->parent;
        received(s, "g2", "");
        maker_append_lost(m, &s->parent);
        m->partitions[0].n++;
        step_completed(s);
        maker_append(m, &s->parent);
        s->parent = before;
        maker_claim(m, 0, 6, MAKER_PARTITIONS);
        maker_mark(m, 0, NULL, false);
    }
    step_completed(s);
    if (s->fault == TIME_BACK)
        m->events[0].t = m->now - 5000;
    m->lie.t = s->fault == HEADER_TIME;
    struct made_run before = s->parent;
    maker_append(m, &s->parent);
    if (s->fault == SECOND_VALUE) {
        struct made_run after = s->parent;
        s->parent = before;
        m->partitions[0].n++; /* or the checker would call it no more than rejected */
        second_value(s);
        s->parent = after;
    }
    if (s->fault == STEP_TWICE) {
        step_completed(s);
        maker_append(m, &s->parent);
    }
    if (s->fault == RUN_BESIDE)
        other_run(s);
}

static void feed_more(struct story *s)
{
    struct maker *m = &s->m;
    if (s->fault == DEAD_ABSORBED) {
        received(s, "old", "");
        maker_input(m, 0, 3, "old");
        m->partitions[0].in_pos = 3;
        maker_append(m, &s->parent);
    }
    if (s->fault != SIGNAL_SKIPPED) {
        const char *request = s->fault == REQUEST_TWICE ? "g1" : "g2";
        int64_t offset = s->fault == ABSORBED_TWICE ? 1 : s->fault == INPUT_INVENTED ? 7 : 6;
        received(s, request, "");
        maker_input(m, 0, offset, request);
        maker_append(m, &s->parent);
    }
    m->partitions[0].in_pos = 7;
    child_requested(s);
    signal_sent(s, 4, s->child_id);
    signal_sent(s, 5, s->nobody_id);
    maker_append(m, &s->parent);
}

static void send_to_child(struct story *s)
{
    uint64_t seq = s->parent.seq - 2;
    send_start(s, s->child_id, "s-c", &s->parent, s->fault == SENDER_UNKNOWN ? 99 : seq); /* 0 */
    send_signal(s, s->child_id, "hi", &s->parent, seq + 1, 0);                            /* 1 */
    send_signal(s, s->nobody_id, "no", &s->parent, seq + 2, 0);                           /* 2: refused */
}

static void refuse(struct story *s)
{
    struct maker *m = &s->m;
    Perdure__V1__Refusal refusal = PERDURE__V1__REFUSAL__INIT;
    sender_pb to = PERDURE__V1__SENDER__INIT;
    say(&to.job, s->parent_id);
    to.run = s->parent.id;
    refusal.to = &to;
    refusal.op = 5;
    say(&refusal.code, "NotFound");
    say(&refusal.request, s->fault == REFUSED_ABSORBED ? "hi" : "no");
    m->partitions[1].in_pos = 3;
    if (s->fault == LARGEST_WRONG)
        m->partitions[1].largest_t -= 500;
    bool absent = s->fault == SEND_UNANSWERED || s->fault == REFUSAL_UNKNOWN;
    maker_mark(m, 1, absent ? NULL : &refusal, s->fault == LIVE_WRONG);
}

static void live_child(struct story *s)
{
    struct maker *m = &s->m;
    m->now += 1000;
    started(s, s->fault == RUN_ID_WRONG ? "s-d" : "s-c", &s->parent);
    maker_input(m, 1, 0, s->fault == RUN_ID_WRONG ? "s-d" : "s-c");
    m->lie.partition = s->fault == PARTITION_WRONG;
    maker_append(m, &s->child);
    received(s, "hi", s->parent_id);
    maker_input(m, 1, 1, "hi");
    maker_append(m, &s->child);
    refuse(s);
    char *requests[] = {(char *)"s-c", (char *)"hi"};
    if (s->fault == RUN_ID_WRONG)
        requests[0] = (char *)"s-d";
    completed(s, requests, s->fault == ENDING_LACKS ? 1 : 2);
    if (s->fault == TWO_ENDS)
        completed(s, requests, 2);
    maker_append(m, &s->child);
    if (s->fault == AFTER_END) {
        timer_started(s);
        maker_append(m, &s->child);
    }
}

static void send_back(struct story *s)
{
    struct maker *m = &s->m;
    command_pb c = PERDURE__V1__COMMAND__INIT;
    Perdure__V1__ChildResult result = PERDURE__V1__CHILD_RESULT__INIT;
    say(&c.request, "r-c");
    say(&result.state, "completed");
    result.op = 3;
    result.child_run = s->child.id;
    c.kind_case = PERDURE__V1__COMMAND__KIND_CHILD_RESULT;
    c.child_result = &result;
    m->partitions[0].inbox += s->fault == INPUT_INVENTED; /* offset 7 is nobody's */
    s->results = m->partitions[0].inbox;
    if (s->fault != OUTPUT_UNSENT)
        maker_command(m, s->parent_id, s->parent.id, &c, &s->child, s->child.seq, 0);
    command_pb d = PERDURE__V1__COMMAND__INIT;
    Perdure__V1__ChildRefusal refusal = PERDURE__V1__CHILD_REFUSAL__INIT;
    struct made_run mark = {.job = ""};
    say(&d.request, "r-n");
    refusal.op = 5;
    d.kind_case = PERDURE__V1__COMMAND__KIND_REFUSAL;
    d.refusal = &refusal;
    if (s->fault != REFUSAL_UNSENT && s->fault != SEND_UNANSWERED)
        maker_command(m, s->parent_id, s->parent.id, &d, &mark, 0, 0);
    m->partitions[1].out_pos = m->partitions[1].journal;
    maker_mark(m, 1, NULL, false);
    maker_release(m, 1);
}

/* A new owner; and what the old one had still on its way. */
static void take_over(struct story *s)
{
    struct maker *m = &s->m;
    maker_claim(m, 0, 8, MAKER_PARTITIONS);
    struct made_run before = s->parent;
    timer_fired(s);
    m->lie.epoch = true;
    maker_append(m, &s->parent);
    s->parent = before;
    m->partitions[0].out_pos = m->partitions[0].journal;
    maker_mark(m, 0, NULL, false);
    m->now += 1000;
    timer_fired(s);
    maker_append(m, &s->parent);
    maker_again(m, JOURNAL, 0);
    if (s->fault == TIMER_TWICE) {
        timer_fired(s);
        maker_append(m, &s->parent);
    }
}

static int64_t send_begun(struct story *s)
{
    command_pb c = PERDURE__V1__COMMAND__INIT;
    Perdure__V1__TaskReport report = PERDURE__V1__TASK_REPORT__INIT;
    Perdure__V1__TaskStarted begun = PERDURE__V1__TASK_STARTED__INIT;
    say(&c.request, "task-1/started");
    say(&report.worker, "w");
    report.op = 6;
    report.attempt = 1;
    report.kind_case = PERDURE__V1__TASK_REPORT__KIND_BEGUN;
    report.begun = &begun;
    c.kind_case = PERDURE__V1__COMMAND__KIND_TASK_REPORT;
    c.task_report = &report;
    return maker_command(&s->m, s->parent_id, s->parent.id, &c, NULL, 0, 0);
}

static void step_scheduled(struct story *s)
{
    event_pb *e = maker_event(&s->m, 6);
    BODY(STEP_SCHEDULED, step_scheduled, Perdure__V1__StepScheduled);
    say(&body->name, "test/far");
    say(&body->queue, "far");
}

static void step_progress(struct story *s)
{
    event_pb *e = maker_event(&s->m, 6);
    BODY(STEP_PROGRESS, step_progress, Perdure__V1__StepProgress);
    say(&body->name, "test/far");
    body->attempt = 1;
}

static void step_outside(struct story *s)
{
    step_scheduled(s);
    maker_append(&s->m, &s->parent);
    int64_t offset = send_begun(s);
    step_progress(s);
    maker_input(&s->m, 0, offset, "task-1/started");
    maker_append(&s->m, &s->parent);
}

static void end_parent(struct story *s)
{
    struct maker *m = &s->m;
    int64_t at = s->results;
    if (s->fault != RESULT_SKIPPED && s->fault != OUTPUT_UNSENT) {
        child_ended(s);
        maker_input(m, 0, at++, "r-c");
        m->lie.out_pos = s->fault == OUT_POS_BACK;
        maker_append(m, &s->parent);
    } else if (s->fault == RESULT_SKIPPED) {
        at++;
    }
    if (s->fault != REFUSAL_UNSENT && s->fault != SEND_UNANSWERED) {
        send_refused(s);
        maker_input(m, 0, at, "r-n");
        maker_append(m, &s->parent);
    }
    if (s->fault == STEP_OUTSIDE)
        step_outside(s);
    m->partitions[0].in_pos = m->partitions[0].inbox;
    char *requests[] = {(char *)"s-p", (char *)"g1", (char *)"g2"};
    completed(s, requests, s->fault == SIGNAL_SKIPPED || s->fault == REQUEST_TWICE ? 2 : 3);
    maker_append(m, &s->parent);
    if (s->fault == SECOND_RUN || s->fault == RUN_AGAIN)
        other_run(s);
    m->partitions[0].out_pos = m->partitions[0].journal;
    m->partitions[0].in_pos = m->partitions[0].inbox;
    maker_mark(m, 0, NULL, false);
    maker_release(m, 0);
    send_signal(s, s->parent_id, "late", NULL, 0, 0); /* waits: nobody owns the partition */
}

void story_write(FILE *out, enum fault fault)
{
    struct story s = {.fault = fault};
    maker_start(&s.m, out);
    maker_job(s.parent_id, sizeof s.parent_id, "parent", 0);
    maker_job(s.child_id, sizeof s.child_id, "child", 1);
    maker_job(s.nobody_id, sizeof s.nobody_id, "nobody", 1);
    maker_run(&s.m, &s.parent, s.parent_id, "s-p");
    maker_run(&s.m, &s.child, s.child_id, "s-c");
    open_partition(&s, 0);
    open_partition(&s, 1);
    send_all(&s);
    begin_parent(&s);
    feed_parent(&s);
    feed_more(&s);
    send_to_child(&s);
    live_child(&s);
    send_back(&s);
    take_over(&s);
    end_parent(&s);
    maker_end(&s.m);
}
