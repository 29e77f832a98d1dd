/* Producer sessions: lanes that keep their order, reports that come late or never, and what dead sessions leave. */
#include <stdlib.h>
#include <string.h>

#include "world.h"

struct session *session_new(int worker)
{
    struct session *session = calloc(1, sizeof *session);
    if (!session)
        abort();
    session->id = ++world->session_count;
    session->worker = worker;
    session->reports_tail = &session->reports;
    for (int stream = 0; stream < STREAMS; stream++)
        for (uint32_t p = 0; p < PARTITIONS_MAX; p++)
            session->lanes[stream][p].tail = &session->lanes[stream][p].head;
    session->next = world->sessions;
    world->sessions = session;
    return session;
}

void session_push(struct session *session, enum log_stream stream, uint32_t partition, const struct pending *pending)
{
    struct lane *lane = &session->lanes[stream][partition];
    struct pending *copy = malloc(sizeof *copy);
    if (!copy)
        abort();
    *copy = *pending;
    copy->next = NULL;
    *lane->tail = copy;
    lane->tail = &copy->next;
}

static struct pending *lane_pop(struct lane *lane)
{
    struct pending *first = lane->head;
    lane->head = first->next;
    if (!lane->head)
        lane->tail = &lane->head;
    return first;
}

static void pending_free(struct pending *pending)
{
    blob_release(pending->blob);
    free(pending);
}

static void session_report(struct session *session, const struct pending *pending, enum log_delivery delivery,
                           int64_t offset, bool counts_safe)
{
    struct report *report = malloc(sizeof *report);
    if (!report)
        abort();
    *report = (struct report){ .cookie = pending->cookie, .from = pending->from, .delivery = delivery, .offset = offset,
                               .due = world->now + (int64_t)rng_below(&world->faults, 30), .counts_safe = counts_safe };
    report->nonce = pending->nonce;
    report->landed = counts_safe ? world->last_landed : -1;
    *session->reports_tail = report;
    session->reports_tail = &report->next;
}

/* Of what does not go to the log: a task. */
void session_tell(struct session *session, uint32_t from, uint64_t cookie, enum log_delivery delivery, int64_t offset)
{
    struct pending pending = { .cookie = cookie, .from = from };
    session_report(session, &pending, delivery, offset, false);
}

bool session_is_empty(const struct session *session)
{
    for (int stream = 0; stream < STREAMS; stream++)
        for (uint32_t p = 0; p < world->profile.partitions; p++)
            if (session->lanes[stream][p].head)
                return false;
    return true;
}

/* ---- a worker dies or replaces its producer ---------------------------------------------------------- */

void session_orphan(struct session *session)
{
    session->worker = -1;
    while (session->reports) {
        struct report *report = session->reports;
        session->reports = report->next;
        free(report);
    }
    session->reports_tail = &session->reports;
    for (int stream = 0; stream < STREAMS; stream++)
        for (uint32_t p = 0; p < world->profile.partitions; p++) {
            struct lane *lane = &session->lanes[stream][p];
            if (!lane->head)
                continue;
            if (rng_chance(&world->faults, 6000)) { /* the process is gone, its batch in part on the wire */
                while (lane->head && rng_chance(&world->faults, 6000)) {
                    struct pending *pending = lane_pop(lane);
                    world_append((enum log_stream)stream, p, pending->blob, pending->copy);
                    fault_count(FAULT_BATCH_TORN);
                    pending_free(pending);
                }
                while (lane->head)
                    pending_free(lane_pop(lane));
            } else { /* still on its way */
                lane->not_before = world->now + rng_between(&world->faults, 0, 8000);
            }
        }
}

void session_free(struct session *session)
{
    struct session **link = &world->sessions;
    while (*link != session)
        link = &(*link)->next;
    *link = session->next;
    for (int stream = 0; stream < STREAMS; stream++)
        for (uint32_t p = 0; p < PARTITIONS_MAX; p++)
            while (session->lanes[stream][p].head)
                pending_free(lane_pop(&session->lanes[stream][p]));
    while (session->reports) {
        struct report *report = session->reports;
        session->reports = report->next;
        free(report);
    }
    free(session);
}

void sessions_drop_zombies(void)
{
    for (struct session *session = world->sessions, *next; session; session = next) {
        next = session->next;
        if (session->worker < 0 && session != world->clients)
            session_free(session);
    }
}

/* ---- landing ---------------------------------------------------------------------------------------------- */

static void land_whole(struct session *session, enum log_stream stream, uint32_t partition, struct pending *pending)
{
    int64_t offset = world_append(stream, partition, pending->blob, pending->copy);
    world->streams[stream][partition].records[offset].session = session->id;
    world->streams[stream][partition].records[offset].cookie = pending->cookie;
    if (fault_now(FAULT_ACK_DROPPED))
        return;
    session_report(session, pending, LOG_PERSISTED, !pending->again && fault_now(FAULT_ACK_NO_OFFSET) ? -1 : offset, true);
}

/* One message of a lane arrives at the log, or not. */
static void session_land(struct session *session, enum log_stream stream, uint32_t partition)
{
    struct pending *pending = lane_pop(&session->lanes[stream][partition]);
    bool journal = stream == LOG_JOURNAL;
    if (session->worker < 0 && session != world->clients) {
        fault_count(FAULT_LATE_APPEND);
        world_append(stream, partition, pending->blob, pending->copy);
    } else if (fault_now(journal ? FAULT_APPEND_REFUSED : FAULT_SEND_REFUSED)) {
        session_report(session, pending, LOG_NOT_PERSISTED, -1, false);
    } else if (fault_now(journal ? FAULT_APPEND_PERSISTED_FAILED : FAULT_SEND_PERSISTED_FAILED)) {
        world_append(stream, partition, pending->blob, pending->copy);
        session_report(session, pending, LOG_POSSIBLY_PERSISTED, -1, false);
    } else if (fault_now(journal ? FAULT_APPEND_DOUBT_LOST : FAULT_SEND_DOUBT_LOST)) {
        session_report(session, pending, LOG_POSSIBLY_PERSISTED, -1, false);
    } else if (!pending->again && fault_now(FAULT_ACK_IMPLICIT)) { /* a leader that never heard of its producer took what came next */
        session_report(session, pending, LOG_PERSISTED, -1, false);
    } else if (journal && fault_now(FAULT_APPEND_VANISHED)) {
        ;
    } else {
        if (!journal && fault_now(FAULT_SEND_DUPLICATED))
            world_append(stream, partition, pending->blob, pending->copy);
        land_whole(session, stream, partition, pending);
    }
    pending_free(pending);
}

static bool session_turn(struct session *session)
{
    bool did = false;
    for (int stream = 0; stream < STREAMS; stream++)
        for (uint32_t p = 0; p < world->profile.partitions; p++) {
            struct lane *lane = &session->lanes[stream][p];
            if (!lane->head || (lane->not_before > world->now && !world->quiet))
                continue;
            if (fault_now(FAULT_SLOW_LANE)) {
                lane->not_before = world->now + rng_between(&world->faults, 50, 4000);
                continue;
            }
            while (lane->head && (world->quiet || rng_chance(&world->schedule, world->profile.land_chance))) {
                session_land(session, (enum log_stream)stream, p);
                did = true;
            }
        }
    return did;
}

bool sessions_turn(void)
{
    bool did = false;
    for (struct session *session = world->sessions, *next; session; session = next) {
        next = session->next;
        if (session->worker >= 0 && world->workers[session->worker].asleep_until > world->now)
            continue; /* a stopped process sends nothing; what it queued waits */
        did = session_turn(session) || did;
        if (session->worker < 0 && session != world->clients && session_is_empty(session))
            session_free(session);
    }
    return did;
}

/* ---- truncation --------------------------------------------------------------------------------------------- */

/* An idempotent producer sends what was not acknowledged again, before anything later. */
static void session_send_again(uint32_t partition, const struct memory_record *record)
{
    struct session *session = world->sessions;
    while (session && (session->id != record->session || session->worker < 0))
        session = session->next;
    if (!session || !record->blob)
        return;
    for (struct report **link = &session->reports; *link; link = &(*link)->next)
        if ((*link)->cookie == record->cookie && (*link)->from == partition) {
            struct report *report = *link;
            *link = report->next;
            if (!*link)
                session->reports_tail = link;
            free(report);
            break;
        }
    struct lane *lane = &session->lanes[LOG_JOURNAL][partition];
    struct pending *again = calloc(1, sizeof *again);
    if (!again)
        abort();
    again->blob = blob_share(record->blob);
    again->cookie = record->cookie;
    again->from = partition;
    again->copy = -1;
    again->again = true;
    again->next = lane->head;
    if (!lane->head)
        lane->tail = &again->next;
    lane->head = again;
}

/* What an idempotent producer has on its way behind acknowledged records that are gone comes out of order: refused. */
static void sessions_out_of_order(uint32_t partition)
{
    for (struct session *session = world->sessions; session; session = session->next) {
        struct lane *lane = &session->lanes[LOG_JOURNAL][partition];
        while (lane->head) {
            struct pending *pending = lane_pop(lane);
            if (session->worker >= 0)
                session_report(session, pending, LOG_POSSIBLY_PERSISTED, -1, false);
            pending_free(pending);
        }
    }
}

/* The journal loses its tail. `lossy`: also what was acknowledged; else only what no producer was told to be safe. */
void journal_truncate(uint32_t partition, bool lossy)
{
    struct memory_stream *journal = &world->streams[LOG_JOURNAL][partition];
    int64_t low = lossy ? journal->end - 8 : journal->safe;
    if (low < 1)
        low = 1; /* genesis stays: whoever loses that has another log */
    if (lossy && low <= world->oracles[partition].cut_mark)
        low = world->oracles[partition].cut_mark + 1; /* without that Mark the log begins in the middle, for good */
    for (int w = 0; w < WORKERS; w++) /* what tells a damaged store from a sound one (rule 3) */
        if (world->workers[w].seats[partition].damaged && low <= world->oracles[partition].last_mark)
            low = world->oracles[partition].last_mark + 1;
    if (journal->end <= low)
        return;
    int64_t end = rng_between(&world->faults, low, journal->end - 1);
    fault_count(lossy ? FAULT_TRUNCATED_LOSSY : FAULT_TRUNCATED);
    trace("journal %u loses %lld..%lld%s", partition, (long long)end, (long long)journal->end - 1,
          lossy ? ", acknowledged ones too" : "");
    if (lossy) {
        world->truncated_lossy = true;
        sessions_out_of_order(partition);
    }
    for (int64_t offset = journal->end; !lossy && offset-- > end;)
        session_send_again(partition, &journal->records[offset]);
    memory_stream_truncate(journal, end);
    for (struct session *session = world->sessions; session; session = session->next)
        for (struct report *report = session->reports; report; report = report->next)
            if (report->counts_safe && report->from == partition && report->delivery == LOG_PERSISTED &&
                report->landed >= end)
                report->delivery = LOG_POSSIBLY_PERSISTED; /* NOT_ENOUGH_REPLICAS_AFTER_APPEND */
    for (int w = 0; w < WORKERS; w++) {
        struct seat *seat = &world->workers[w].seats[partition];
        if (seat->engine && seat->read[LOG_JOURNAL] > end)
            seat->truncated = true;
    }
    world_rejudge(partition);
}
