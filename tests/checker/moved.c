/* See moved.h. Partitions 0 and 1 grow to four. The traveller and a closed job go from 0 to 2, the traveller's child from 1
 * to 3, a stayer stays in 0. A signal and a start come to 0 after the slots have left. */
#include "moved.h"

#include <stdlib.h>
#include <string.h>

#include "log_maker.h"

enum { HOUR = 3600 * 1000 };

struct story {
    struct maker m;
    enum moved_fault fault;
    bool cut, target_cut;
    struct made_run traveller, stayer, closed, forgotten, child, newcomer;
    char traveller_id[32], stayer_id[32], closed_id[32], stub_id[32], child_id[32], newcomer_id[32];
    int64_t out[2]; /* offsets of the SlotOuts */
    int64_t keep_until;
    struct moved_place place;
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

/* The next record of this stream is the wrong one, if this is the fault. */
static bool bad(struct story *s, enum moved_fault fault, enum stream stream, uint32_t partition, const char *job)
{
    if (s->fault != fault)
        return false;
    const struct made_partition *p = &s->m.partitions[partition];
    s->place = (struct moved_place){.stream = (int)stream,
                                    .partition = partition,
                                    .offset = stream == JOURNAL ? p->journal : p->inbox};
    snprintf(s->place.job, sizeof s->place.job, "%s", job ? job : "");
    return true;
}

/* ---- commands ---- */

static int64_t send_start(struct story *s, const char *job, const char *request, const struct made_run *sender, int64_t age)
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
    return maker_command(&s->m, job, 0, &c, sender, sender ? sender->seq : 0, age);
}

static int64_t send_signal(struct story *s, const char *job, const char *request, int64_t age)
{
    command_pb c = PERDURE__V1__COMMAND__INIT;
    Perdure__V1__Signal signal = PERDURE__V1__SIGNAL__INIT;
    say(&c.request, request);
    say(&signal.name, "go");
    c.kind_case = PERDURE__V1__COMMAND__KIND_SIGNAL;
    c.signal = &signal;
    return maker_command(&s->m, job, 0, &c, NULL, 0, age);
}

static int64_t send_result(struct story *s, int to)
{
    command_pb c = PERDURE__V1__COMMAND__INIT;
    Perdure__V1__ChildResult result = PERDURE__V1__CHILD_RESULT__INIT;
    say(&c.request, "r-c");
    say(&result.state, "completed");
    result.op = 3;
    result.child_run = s->child.id;
    c.kind_case = PERDURE__V1__COMMAND__KIND_CHILD_RESULT;
    c.child_result = &result;
    s->m.to = to;
    return maker_command(&s->m, s->traveller_id, s->traveller.id, &c, &s->child, s->child.seq, 0);
}

static void tell(struct story *s, uint32_t from, uint32_t to, uint32_t source, bool arrived)
{
    Perdure__V1__SlotsMoved body = PERDURE__V1__SLOTS_MOVED__INIT;
    body.map_version = 2;
    body.partition = from;
    body.offset = s->out[source];
    body.arrived = arrived;
    maker_to_partition(&s->m, from, to, &body);
}

/* ---- events ---- */

static void started(struct story *s, const char *request, const struct made_run *parent, uint64_t op)
{
    event_pb *e = maker_event(&s->m, 0);
    BODY(STARTED, started, Perdure__V1__Started);
    say(&body->type, "test/job");
    say(&body->request, request);
    if (parent) {
        say(&body->parent_job, parent->job);
        body->parent_run = parent->id;
        body->parent_op = op;
    }
}

static void received(struct story *s, const char *request)
{
    event_pb *e = maker_event(&s->m, 0);
    BODY(SIGNAL_RECEIVED, signal_received, Perdure__V1__SignalReceived);
    say(&body->name, "go");
    say(&body->request, request);
}

static void step(struct story *s, uint64_t op)
{
    event_pb *e = maker_event(&s->m, op);
    BODY(STEP_COMPLETED, step_completed, Perdure__V1__StepCompleted);
    say(&body->name, "test/step");
    body->attempt = 1;
}

static void child_requested(struct story *s)
{
    event_pb *e = maker_event(&s->m, 3);
    BODY(CHILD_REQUESTED, child_requested, Perdure__V1__ChildRequested);
    say(&body->job, s->child_id);
    say(&body->type, "test/job");
}

static void child_ended(struct story *s)
{
    event_pb *e = maker_event(&s->m, 3);
    BODY(CHILD_ENDED, child_ended, Perdure__V1__ChildEnded);
    say(&body->state, s->fault == CHILD_STATE_MOVED ? "failed" : "completed");
    body->child_run = s->child.id;
}

static void completed(struct story *s, const char *first, const char *second)
{
    static Perdure__V1__Ending ending;
    static char *requests[2];
    event_pb *e = maker_event(&s->m, 0);
    BODY(COMPLETED, completed, Perdure__V1__Completed);
    perdure__v1__ending__init(&ending);
    ending.keep_until = s->keep_until;
    say(&requests[0], first);
    say(&requests[1], second);
    ending.requests = requests;
    ending.n_requests = second ? 2 : 1;
    body->ending = &ending;
}

/* A job that is started, and perhaps ends at once. */
static void run_once(struct story *s, struct made_run *run, const char *request, bool ends)
{
    int64_t offset = send_start(s, run->job, request, NULL, 0);
    started(s, request, NULL, 0);
    maker_input(&s->m, run->partition, offset, request);
    if (ends)
        completed(s, request, NULL);
    maker_append(&s->m, run);
    s->m.partitions[run->partition].in_pos = offset + 1;
}

/* ---- before ---- */

static void open_partition(struct story *s, uint32_t partition)
{
    maker_genesis(&s->m, partition);
    maker_claim(&s->m, partition, 7 + partition, s->m.partitions[partition].partitions);
    maker_mark(&s->m, partition, NULL, false);
}

static void begin_traveller(struct story *s)
{
    struct maker *m = &s->m;
    run_once(s, &s->traveller, "s-t", false);
    int64_t signal = send_signal(s, s->traveller_id, "g1", 0);
    received(s, "g1");
    maker_input(m, 0, signal, "g1");
    step(s, 1);
    m->lie.map = bad(s, MAP_HEADER, JOURNAL, 0, s->traveller_id);
    maker_append(m, &s->traveller);
    m->partitions[0].in_pos = signal + 1;
    child_requested(s);
    if (s->fault == OUTPUT_LEFT)
        bad(s, OUTPUT_LEFT, JOURNAL, 0, s->traveller_id);
    maker_append(m, &s->traveller);
}

static void begin_child(struct story *s)
{
    struct maker *m = &s->m;
    int64_t offset = send_start(s, s->child_id, "s-c", &s->traveller, 0);
    started(s, "s-c", &s->traveller, s->fault == ORPHAN_MOVED ? 9 : 3);
    maker_input(m, 1, offset, "s-c");
    bad(s, ORPHAN_MOVED, JOURNAL, 1, s->child_id);
    maker_append(m, &s->child);
    m->partitions[1].in_pos = offset + 1;
}

/* ---- the move ---- */

static void leave(struct story *s, uint32_t from)
{
    struct maker *m = &s->m;
    struct made_partition *p = &m->partitions[from];
    Perdure__V1__SlotOut body = PERDURE__V1__SLOT_OUT__INIT;
    Perdure__V1__SlotShare share = PERDURE__V1__SLOT_SHARE__INIT, *shares[] = {&share};
    uint8_t hash[DIGEST];
    body.map_version = from == 0 && bad(s, MAP_SKIPS, JOURNAL, 0, NULL) ? 3 : 2;
    body.partitions = from == 1 && bad(s, MAP_OTHER, JOURNAL, 1, NULL) ? 8 : MAKER_GROWN;
    body.grown_from = MAKER_PARTITIONS;
    share.partition = from + MAKER_PARTITIONS;
    share.live_count = maker_live(m, from, (int)share.partition, hash);
    hash[5] ^= from == 0 && bad(s, SHARE_WRONG, JOURNAL, 0, NULL);
    share.live_hash = (ProtobufCBinaryData){.len = DIGEST, .data = hash};
    body.shares = shares;
    body.n_shares = from == 0 && bad(s, SHARE_MISSING, JOURNAL, 0, NULL) ? 0 : 1;
    m->level = from == 0 && bad(s, READER_OLD, JOURNAL, 0, NULL) ? 2 : 0;
    p->out_pos = s->fault == OUTPUT_LEFT ? p->out_pos : p->journal;
    s->out[from] = p->journal;
    maker_slot_out(m, from, &body);
    if (from == 0 && bad(s, OUT_TWICE, JOURNAL, 0, NULL))
        maker_slot_out(m, from, &body);
    p->map_version = 2;
    p->partitions = MAKER_GROWN;
    p->grown_from = MAKER_PARTITIONS;
    if (from == 0 && bad(s, GROWS_AGAIN, JOURNAL, 0, NULL)) {
        body.map_version = 3;
        body.partitions = 8;
        body.grown_from = 4;
        maker_slot_out(m, from, &body);
    }
}

/* What comes to partition 0 after that; what it does with it. */
static void forward(struct story *s)
{
    struct maker *m = &s->m;
    m->now += s->fault == LATE_LOST || s->fault == FORWARD_CHANGED ? 2 * HOUR : 1000;
    bad(s, FORWARD_LOST, INBOX, 0, s->traveller_id);
    bad(s, FORWARD_CHANGED, INBOX, 0, s->traveller_id);
    send_signal(s, s->traveller_id, "g2", 0);
    if (s->fault != FORWARD_LOST) {
        m->to = 2;
        send_signal(s, s->traveller_id, "g2", s->fault == FORWARD_CHANGED ? 5 : 0);
    }
    bad(s, START_LOST, INBOX, 0, s->newcomer_id);
    send_start(s, s->newcomer_id, "s-n", NULL, 0);
    m->to = 2;
    if (s->fault == START_LOST)
        m->partitions[2].inbox++; /* so that offsets stay */
    else
        send_start(s, s->newcomer_id, "s-n", NULL, 0);
    m->to = 0;
    send_signal(s, s->traveller_id, "g1", 0); /* a late repetition goes the same way */
    m->to = 2;
    send_signal(s, s->traveller_id, "g1", 0);
    m->to = 0;
    if (s->fault == LATE_LOST) { /* one that might have been refused, had it come earlier */
        bad(s, LATE_LOST, INBOX, 0, s->newcomer_id);
        send_signal(s, s->newcomer_id, "late", 0);
    }
    m->to = -1;
}

static void still_counts(struct story *s)
{
    struct maker *m = &s->m;
    if (!bad(s, OUT_AFTER_OUT, JOURNAL, 0, s->traveller_id))
        return;
    struct made_run before = s->traveller;
    step(s, 2);
    maker_append(m, &s->traveller);
    s->traveller = before;
}

static void come(uint32_t to, struct made_run *run)
{
    if (run->open)
        run->partition = to;
}

static void slot_in(struct story *s, uint32_t to, uint64_t closed, const struct made_run *first, const struct made_run *second)
{
    struct maker *m = &s->m;
    struct made_partition *p = &m->partitions[to];
    Perdure__V1__SlotIn body = PERDURE__V1__SLOT_IN__INIT;
    uint8_t hash[DIGEST], closed_hash[DIGEST] = {0};
    unsigned __int128 sum = 0;
    const struct made_run *runs[] = {first, second};
    for (uint64_t i = 0; i < closed; i++)
        sum += pv_digest_live(runs[i]->job, runs[i]->id, runs[i]->seq, runs[i]->digest);
    for (int i = 0; i < DIGEST; i++)
        closed_hash[i] = (uint8_t)(sum >> (8 * i));
    body.map_version = 2;
    body.partition = to % MAKER_PARTITIONS;
    body.offset = s->out[body.partition] + (to == 2 && bad(s, IN_OFFSET, JOURNAL, 2, NULL) ? 1 : 0);
    body.live_count = maker_live(m, to, -1, hash);
    hash[2] ^= to == 2 && (bad(s, IN_HASH, JOURNAL, 2, NULL) || bad(s, CUT_HASH, JOURNAL, 2, NULL));
    closed_hash[9] ^= to == 2 && bad(s, IN_CLOSED, JOURNAL, 2, NULL);
    body.live_hash = (ProtobufCBinaryData){.len = DIGEST, .data = hash};
    body.closed_count = closed;
    body.closed_hash = (ProtobufCBinaryData){.len = DIGEST, .data = closed_hash};
    if (to == 2)
        bad(s, IN_COUNT_OTHER, JOURNAL, 2, NULL);
    maker_slot_in(m, to, &body);
    if (to == 2 && bad(s, IN_TWICE, JOURNAL, 2, NULL))
        maker_slot_in(m, to, &body);
    p->settled = 2;
}

/* What the traveller's copy is, right or wrong. */
static void copy_traveller(struct story *s)
{
    struct maker *m = &s->m;
    int parts = s->traveller.part_count, odd = 0;
    const char *id = s->traveller_id;
    if (bad(s, COPY_DIFFERS, JOURNAL, 2, id))
        s->place.offset += (odd = 2) - 1;
    if (bad(s, COPY_PLACE, JOURNAL, 2, id))
        s->place.offset += -(odd = -2) - 1;
    if (bad(s, COPY_SHORT, JOURNAL, 2, id))
        s->place.offset += --parts - 1;
    if (s->fault == COPIED_TWICE) { /* one part, and a new owner */
        m->stop_after = 1;
        maker_copy(m, 2, &s->traveller, parts, 0);
        maker_claim(m, 2, 17, MAKER_GROWN);
        maker_mark(m, 2, NULL, false);
        maker_copy(m, 2, &s->closed, s->closed.part_count, 0);
        maker_copy(m, 2, &s->closed, s->closed.part_count, 0);
    }
    maker_copy(m, 2, &s->traveller, parts, odd);
    come(2, &s->traveller);
}

static void copy_all(struct story *s)
{
    struct maker *m = &s->m;
    if (s->fault != COPY_MISSING && s->fault != IN_EARLY && s->fault != IN_COUNT_OTHER)
        copy_traveller(s);
    if (s->fault != CLOSED_MISSING)
        maker_copy(m, 2, &s->closed, s->closed.part_count, 0);
    struct made_run other = s->forgotten;
    other.seq += bad(s, STUB_OTHER, JOURNAL, 2, s->stub_id);
    maker_stub(m, 2, &other, s->keep_until);
    if (bad(s, COPY_ALIEN, JOURNAL, 2, s->newcomer_id)) { /* nobody ever started it in partition 0 */
        struct made_run alien = s->newcomer;
        FILE *out = m->out;
        m->out = fopen("/dev/null", "w");
        int64_t before = m->partitions[2].journal;
        uint64_t n = m->partitions[2].n;
        started(s, "s-n", NULL, 0);
        maker_input(m, 2, 2, "s-n");
        alien.partition = 2;
        maker_append(m, &alien);
        fclose(m->out);
        m->out = out;
        m->partitions[2].journal = before;
        m->partitions[2].n = n;
        maker_copy(m, 2, &alien, 1, 0);
    }
}

static void arrive(struct story *s)
{
    struct maker *m = &s->m;
    if (s->fault == IN_WITHOUT_OUT)
        return;
    if (s->fault == COUNTS_BEFORE_IN) {
        bad(s, COUNTS_BEFORE_IN, JOURNAL, 2, s->newcomer_id);
        struct made_run before = s->newcomer;
        started(s, "s-n", NULL, 0);
        maker_input(m, 2, 2, "s-n");
        maker_append(m, &s->newcomer);
        s->newcomer = before;
    }
    copy_all(s);
    if (bad(s, IN_POS_BEFORE_IN, INBOX, 2, s->traveller_id)) {
        s->place.offset = 1;
        m->partitions[2].in_pos = 2;
    }
    bool early = bad(s, IN_EARLY, JOURNAL, 2, s->traveller_id) || bad(s, COPY_MISSING, JOURNAL, 2, s->traveller_id);
    bad(s, CLOSED_MISSING, JOURNAL, 2, s->closed_id);
    if (s->fault == CLOSED_MISSING)
        slot_in(s, 2, 1, &s->forgotten, NULL);
    else
        slot_in(s, 2, 2, &s->closed, &s->forgotten);
    if (early)
        copy_traveller(s);
    come(2, &s->traveller);
}

static void child_arrives(struct story *s)
{
    maker_copy(&s->m, 3, &s->child, s->child.part_count, 0);
    come(3, &s->child);
    slot_in(s, 3, 0, NULL, NULL);
}

/* Partition `from` hears that all are in. */
static void settle(struct story *s, uint32_t from)
{
    struct maker *m = &s->m;
    struct made_partition *p = &m->partitions[from];
    Perdure__V1__SlotOut body = PERDURE__V1__SLOT_OUT__INIT;
    body.map_version = 2;
    body.partitions = MAKER_GROWN;
    body.grown_from = MAKER_PARTITIONS;
    body.arrived = true;
    p->in_pos = p->inbox;
    p->out_pos = p->journal;
    if (from == 0 && s->fault == CUT_EARLY) {
        m->cut = p->claim;
        bad(s, CUT_EARLY, JOURNAL, 0, NULL);
        maker_mark(m, 0, NULL, false);
    }
    if (from == 0 && s->fault == CUT_UNTOLD) /* a Claim of one who had not read the SlotOut{arrived} */
        maker_slot_out(m, from, &body);
    if (from == 0 && (s->fault == CUT_UNTOLD || bad(s, SETTLED_EARLY, JOURNAL, 0, NULL))) {
        p->settled = s->fault == SETTLED_EARLY ? 2 : 0;
        maker_claim(m, 0, 27, MAKER_GROWN);
        maker_mark(m, 0, NULL, false);
    }
    if (from == 1) { /* an owner died between: the next one says that all before this growth is over */
        p->settled = 1;
        maker_claim(m, 1, 29, MAKER_GROWN);
        maker_mark(m, 1, NULL, false);
    }
    if (from != 0 || s->fault != CUT_UNTOLD)
        maker_slot_out(m, from, &body);
    p->settled = 2;
}

/* ---- after ---- */

static void end_child(struct story *s)
{
    struct maker *m = &s->m;
    m->now += 1000;
    completed(s, "s-c", NULL);
    maker_append(m, &s->child);
    m->partitions[3].in_pos = m->partitions[3].inbox;
    bad(s, RESULT_LOST, JOURNAL, 3, s->child_id);
    s->place.offset -= s->fault == RESULT_LOST;
    if (s->fault != RESULT_LOST)
        send_result(s, 2);
    m->partitions[3].out_pos = m->partitions[3].journal;
    maker_mark(m, 3, NULL, false);
}

static void take_forwarded(struct story *s)
{
    struct maker *m = &s->m;
    if (s->fault != FORWARD_LOST) {
        received(s, "g2");
        maker_input(m, 2, 1, "g2");
        step(s, 2);
        maker_append(m, &s->traveller);
    }
    if (s->fault != START_LOST) {
        started(s, "s-n", NULL, 0);
        maker_input(m, 2, s->fault == FORWARD_LOST ? 1 : 2, "s-n");
        maker_append(m, &s->newcomer);
    }
    if (bad(s, SIGNAL_BOTH, JOURNAL, 2, s->traveller_id)) {
        received(s, "g1");
        maker_input(m, 2, 3, "g1");
        maker_append(m, &s->traveller);
    }
    if (s->fault == START_BOTH) {
        m->to = 2;
        int64_t offset = send_start(s, s->closed_id, "s-k", NULL, 0);
        struct made_run again;
        maker_run(m, &again, s->closed_id, "s-k");
        m->run_count--; /* it is on this stack */
        again.partition = 2;
        bad(s, START_BOTH, JOURNAL, 2, s->closed_id);
        started(s, "s-k", NULL, 0);
        maker_input(m, 2, offset, "s-k");
        maker_append(m, &again);
    }
}

static void end_traveller(struct story *s)
{
    struct maker *m = &s->m;
    int64_t result = m->partitions[2].inbox - 1;
    if (s->fault != RESULT_LOST) {
        child_ended(s);
        maker_input(m, 2, result, "r-c");
        bad(s, CHILD_STATE_MOVED, JOURNAL, 2, s->traveller_id);
        maker_append(m, &s->traveller);
    }
    m->partitions[2].in_pos = m->partitions[2].inbox;
    m->partitions[2].out_pos = m->partitions[2].journal;
    maker_mark(m, 2, NULL, false);
}

static void claim_target(struct story *s, uint32_t partition)
{
    struct maker *m = &s->m;
    if (!s->target_cut)
        return;
    maker_claim(m, partition, 50 + partition, MAKER_GROWN);
    maker_mark(m, partition, NULL, false);
}

/* Nothing below the claim is needed: what came from another partition and went on here is copied, what ended leaves a stub. */
static void cut_targets(struct story *s)
{
    struct maker *m = &s->m;
    if (!s->target_cut)
        return;
    claim_target(s, 3);
    maker_stub(m, 3, &s->child, s->keep_until);
    maker_copy(m, 2, &s->traveller, s->traveller.part_count, 0);
    maker_copy(m, 2, &s->newcomer, s->newcomer.part_count, 0);
    maker_stub(m, 2, &s->closed, s->keep_until);
    maker_stub(m, 2, &s->forgotten, s->keep_until);
    for (uint32_t i = 2; i < MAKER_GROWN; i++) {
        m->partitions[i].out_pos = m->partitions[i].journal;
        m->cut = m->partitions[i].claim;
        maker_mark(m, i, NULL, false);
    }
}

/* The next owner of partition 0; with a cut, nothing below its Claim is needed. */
static void go_on(struct story *s)
{
    struct maker *m = &s->m;
    struct made_partition *p = &m->partitions[0];
    bool cut = s->cut || s->fault == CUT_UNTOLD;
    if (s->fault != CUT_UNTOLD) {
        p->settled = 2;
        maker_claim(m, 0, 37, MAKER_GROWN);
        maker_mark(m, 0, NULL, false);
    }
    if (cut) {
        maker_copy(m, 0, &s->stayer, s->stayer.part_count, 0);
        p->out_pos = p->journal;
        m->cut = p->claim;
        bad(s, CUT_UNTOLD, JOURNAL, 0, NULL);
        maker_mark(m, 0, NULL, false);
    }
    maker_release(m, 0);
}

static void name_jobs(struct story *s)
{
    struct maker *m = &s->m;
    maker_job_of(s->traveller_id, sizeof s->traveller_id, "traveller", 2, MAKER_GROWN);
    maker_job_of(s->stayer_id, sizeof s->stayer_id, "stayer", 0, MAKER_GROWN);
    maker_job_of(s->closed_id, sizeof s->closed_id, "closed", 2, MAKER_GROWN);
    maker_job_of(s->stub_id, sizeof s->stub_id, "stub", 2, MAKER_GROWN);
    maker_job_of(s->child_id, sizeof s->child_id, "child", 3, MAKER_GROWN);
    maker_job_of(s->newcomer_id, sizeof s->newcomer_id, "newcomer", 2, MAKER_GROWN);
    maker_run(m, &s->traveller, s->traveller_id, "s-t");
    maker_run(m, &s->stayer, s->stayer_id, "s-s");
    maker_run(m, &s->closed, s->closed_id, "s-k");
    maker_run(m, &s->forgotten, s->stub_id, "s-f");
    maker_run(m, &s->child, s->child_id, "s-c");
    maker_run(m, &s->newcomer, s->newcomer_id, "s-n");
    s->newcomer.partition = 2;
    s->keep_until = m->now + 25 * HOUR;
}

static void before(struct story *s)
{
    struct maker *m = &s->m;
    open_partition(s, 0);
    open_partition(s, 1);
    begin_traveller(s);
    run_once(s, &s->stayer, "s-s", false);
    run_once(s, &s->closed, "s-k", true);
    run_once(s, &s->forgotten, "s-f", true);
    if (s->fault != OUTPUT_LEFT)
        begin_child(s);
    else
        maker_garbage(m, INBOX, 1); /* all of this inbox is there */
    m->now += 1000;
    open_partition(s, 2);
    open_partition(s, 3);
}

/* Both moves. */
static void move(struct story *s)
{
    struct maker *m = &s->m;
    if (bad(s, CLAIM_AHEAD, JOURNAL, 1, NULL)) {
        m->partitions[1].map_version = 2;
        m->partitions[1].grown_from = 2;
        maker_claim(m, 1, 47, MAKER_GROWN);
        m->partitions[1].map_version = 1;
        m->partitions[1].grown_from = 0;
        maker_mark(m, 1, NULL, false);
    }
    if (s->fault == TOLD_FALSE) {
        bad(s, TOLD_FALSE, INBOX, 2, NULL);
        s->out[0] = 2;
        tell(s, 0, 2, 0, false);
    }
    if (s->fault == IN_WITHOUT_OUT) {
        s->out[0] = 3;
        bad(s, IN_WITHOUT_OUT, JOURNAL, 2, NULL);
        slot_in(s, 2, 0, NULL, NULL);
        return;
    }
    leave(s, 0);
    still_counts(s);
    if (s->fault != TOLD_FALSE)
        tell(s, 0, 2, 0, false);
    forward(s);
    leave(s, 1);
    tell(s, 1, 3, 1, false);
    if (s->fault == TOLD_IN_FALSE) {
        bad(s, TOLD_IN_FALSE, INBOX, 0, NULL);
        tell(s, 2, 0, 0, true);
    }
    if (s->fault == ARRIVED_EARLY)
        bad(s, ARRIVED_EARLY, JOURNAL, 0, NULL);
}

static void write_all(struct story *s)
{
    name_jobs(s);
    before(s);
    move(s);
    if (s->fault == HALF_DONE || s->fault == IN_WITHOUT_OUT || s->fault == TOLD_IN_FALSE || s->fault == OUTPUT_LEFT)
        return;
    if (s->fault == ARRIVED_EARLY) {
        settle(s, 0);
        return;
    }
    arrive(s);
    tell(s, 2, 0, 0, true);
    settle(s, 0);
    child_arrives(s);
    tell(s, 3, 1, 1, true);
    settle(s, 1);
    take_forwarded(s);
    end_child(s);
    claim_target(s, 2);
    end_traveller(s);
    cut_targets(s);
    go_on(s);
}

struct moved_place moved_write(FILE *out, enum moved_fault fault)
{
    struct story s = {.fault = fault};
    maker_start(&s.m, out);
    write_all(&s);
    maker_end(&s.m);
    return s.place;
}

/* Leaves out what lies below the last claim of some partitions. */
static void write_cut(FILE *out, const char *text, size_t size, const struct maker *m, uint32_t from, uint32_t to)
{
    for (size_t at = 0; at < size;) {
        uint32_t bytes, partition;
        int64_t offset;
        memcpy(&partition, text + at + 1, 4);
        memcpy(&offset, text + at + 5, 8);
        memcpy(&bytes, text + at + 21, 4);
        if (text[at] != JOURNAL || partition < from || partition > to || offset >= m->partitions[partition].claim)
            fwrite(text + at, 25 + bytes, 1, out);
        at += 25 + bytes;
    }
}

static struct moved_place write_with_cut(FILE *out, struct story *s, uint32_t from, uint32_t to)
{
    char *text = NULL;
    size_t size;
    maker_start(&s->m, open_memstream(&text, &size));
    write_all(s);
    maker_end(&s->m);
    write_cut(out, text, size, &s->m, from, to);
    free(text);
    fclose(out);
    return s->place;
}

struct moved_place moved_cut(FILE *out, enum moved_fault fault)
{
    struct story s = {.fault = fault, .cut = true};
    return write_with_cut(out, &s, 0, 0);
}

struct moved_place moved_target_cut(FILE *out, enum moved_fault fault)
{
    struct story s = {.fault = fault, .target_cut = true};
    return write_with_cut(out, &s, 2, 3);
}

void moved_lists(char *acked, char *ledger, size_t size)
{
    struct story s = {0};
    FILE *out = fopen("/dev/null", "w");
    maker_start(&s.m, out);
    name_jobs(&s);
    maker_end(&s.m);
    snprintf(acked, size, "start s-t %s\nsignal g1 %s\nsignal g2 %s\nstart s-n %s\nstart s-k %s\n", s.traveller_id,
             s.traveller_id, s.traveller_id, s.newcomer_id, s.closed_id);
    snprintf(ledger, size, "%016" PRIx64 "-1 test/step\n%016" PRIx64 "-2 test/step\n", s.traveller.id, s.traveller.id);
}
