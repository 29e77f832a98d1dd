/*
 * Membership: a consumer that joins the group of the namespace, only to hear which partitions we should own. It reads
 * nothing: what it is assigned is paused at once. The journal decides who owns (rules 1 and 4).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/kafka_internal.h"

#define KAFKA_SESSION_TIMEOUT_MS 10000
/* Only with a heartbeat a member hears that partitions move: this adds to every takeover. */
#define KAFKA_HEARTBEAT_MS 200
/* Being taken for another so often, each time within this time of the last, is no accident: a real other one does it at once. */
#define KAFKA_FENCED_LIMIT 4
#define KAFKA_FENCED_AGAIN_MS INT64_C(60000)

static void kafka_tell_assigned(struct kafka_log *log, uint32_t partition, bool ours)
{
    if (log->assigned[partition] == ours)
        return;
    log->assigned[partition] = ours;
    if (ours && log->base.handler.assigned)
        log->base.handler.assigned(log->base.handler.context, partition);
    if (!ours && log->base.handler.revoked)
        log->base.handler.revoked(log->base.handler.context, partition);
}

static bool kafka_listed(const rd_kafka_topic_partition_list_t *list, uint32_t partition)
{
    for (int i = 0; i < list->cnt; i++)
        if (list->elems[i].partition == (int32_t)partition)
            return true;
    return false;
}

static void kafka_take_assignment(struct kafka_log *log, rd_kafka_topic_partition_list_t *list, bool cooperative)
{
    for (int i = 0; i < list->cnt; i++)
        list->elems[i].offset = RD_KAFKA_OFFSET_END;
    if (cooperative) {
        rd_kafka_error_t *error = rd_kafka_incremental_assign(log->membership, list);
        if (error)
            rd_kafka_error_destroy(error);
    } else {
        rd_kafka_assign(log->membership, list);
    }
    rd_kafka_pause_partitions(log->membership, list);
    /* An eager strategy revokes everything first; only now is known what did not come back. */
    for (uint32_t p = 0; p < log->partitions && !cooperative; p++)
        if (!kafka_listed(list, p))
            kafka_tell_assigned(log, p, false);
    for (int i = 0; i < list->cnt; i++)
        if (list->elems[i].partition >= 0 && (uint32_t)list->elems[i].partition < log->partitions)
            kafka_tell_assigned(log, (uint32_t)list->elems[i].partition, true);
        else if (log->base.handler.assigned) /* the namespace has grown: it is opened again */
            log->base.handler.assigned(log->base.handler.context, (uint32_t)list->elems[i].partition);
}

static void kafka_give_up_assignment(struct kafka_log *log, rd_kafka_topic_partition_list_t *list, bool cooperative)
{
    bool lost = rd_kafka_assignment_lost(log->membership) != 0; /* the session has ended: others have it already */
    if (cooperative) {
        rd_kafka_error_t *error = rd_kafka_incremental_unassign(log->membership, list);
        if (error)
            rd_kafka_error_destroy(error);
    } else {
        rd_kafka_assign(log->membership, NULL);
    }
    if (!cooperative && !log->leaving && !lost)
        return; /* most of it comes back with the next assignment: see there */
    for (int i = 0; i < list->cnt; i++)
        if (list->elems[i].partition >= 0 && (uint32_t)list->elems[i].partition < log->partitions)
            kafka_tell_assigned(log, (uint32_t)list->elems[i].partition, false);
}

static void kafka_rebalance(struct kafka_log *log, rd_kafka_event_t *event)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_event_topic_partition_list(event);
    const char *protocol = rd_kafka_rebalance_protocol(log->membership);
    bool cooperative = protocol && strcmp(protocol, "COOPERATIVE") == 0;
    if (rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS)
        kafka_take_assignment(log, list, cooperative);
    else
        kafka_give_up_assignment(log, list, cooperative);
}

/*
 * The group may have taken ourselves for another: a request to join that the network held back arrives behind the one that
 * took its place, and the member that it makes is nobody; while the network comes and goes, that happens again. So we join again;
 * a real other one does the same, until the older of the two has done it too often.
 */
static bool kafka_may_join_again(struct kafka_log *log)
{
    int64_t now = kafka_monotonic_ms();
    log->fenced = log->fenced && now - log->fenced_ms < KAFKA_FENCED_AGAIN_MS ? log->fenced + 1 : 1;
    log->fenced_ms = now;
    if (log->fenced >= KAFKA_FENCED_LIMIT)
        return false;
    log->rejoin = true;
    kafka_fault(log, LOG_UNREACHABLE, LOG_ALL, "the group of namespace %s has given our member id '%s' to another: joining again. "
                "If another worker runs with it, one of the two will be stopped", log->uri.name, log->member);
    return true;
}

static void kafka_member_error(struct kafka_log *log, rd_kafka_event_t *event)
{
    char reason[256];
    if (!rd_kafka_event_error_is_fatal(event)) {
        kafka_on_error(log, log->membership, event);
        return;
    }
    rd_kafka_resp_err_t code = rd_kafka_fatal_error(log->membership, reason, sizeof reason);
    if (log->taken || log->rejoin)
        return;
    if (code == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID && kafka_may_join_again(log))
        return;
    log->taken = true;
    if (code == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID) /* rule 4, H33 */
        kafka_fault(log, LOG_MEMBERSHIP_TAKEN, LOG_ALL, "another worker runs with our member id '%s' in namespace %s: give "
                    "each its own data directory", log->member, log->uri.name);
    else
        kafka_fault(log, LOG_FATAL, LOG_ALL, "the membership of '%s' in namespace %s is lost for good: %s", log->member,
                    log->uri.name, reason);
}

static void kafka_members_serve(struct kafka_log *log, struct kafka_source *source)
{
    do { /* also when it is empty: librdkafka must see that we poll, or we are expelled */
        rd_kafka_event_t *event = rd_kafka_queue_poll(source->queue, 0);
        switch (event ? rd_kafka_event_type(event) : RD_KAFKA_EVENT_NONE) {
        case RD_KAFKA_EVENT_REBALANCE:
            kafka_rebalance(log, event);
            break;
        case RD_KAFKA_EVENT_ERROR:
            kafka_member_error(log, event);
            break;
        default: /* a message fetched before the pause */
            break;
        }
        rd_kafka_event_destroy(event);
    } while (source->queue && rd_kafka_queue_length(source->queue) > 0);
}

/* cooperative-sticky hangs, doubles and picks wrong owners before 2.10.1; then only range is safe. */
static const char *kafka_strategy(void)
{
    return rd_kafka_version() >= 0x020a0100 ? "cooperative-sticky" : "range";
}

bool kafka_deals_rows(void) { return strcmp(kafka_strategy(), "range") == 0; }

int kafka_join(struct log *base)
{
    struct kafka_log *log = kafka_log_of(base);
    char session[24], heartbeat[24], poll[24], error[256];
    if (log->membership)
        return LOG_OK;
    if (!log->member)
        return kafka_fail(log, "opened as a client: only a worker with a member id can join");
    int64_t timeout = log->session_timeout_ms > 0 ? log->session_timeout_ms : KAFKA_SESSION_TIMEOUT_MS;
    snprintf(session, sizeof session, "%" PRId64, timeout);
    snprintf(heartbeat, sizeof heartbeat, "%" PRId64, timeout / 10 < KAFKA_HEARTBEAT_MS ? timeout / 10 : KAFKA_HEARTBEAT_MS);
    snprintf(poll, sizeof poll, "%" PRId64, timeout > 300000 ? timeout : 300000);
    const struct kafka_setting settings[] = {
        { "group.id", log->uri.name },
        { "group.instance.id", log->member },
        { "session.timeout.ms", session },
        { "heartbeat.interval.ms", heartbeat },
        { "max.poll.interval.ms", poll },
        { "partition.assignment.strategy", kafka_strategy() },
        { "enable.auto.commit", "false" }, /* group offsets are never state */
        { "enable.auto.offset.store", "false" },
        { "isolation.level", "read_uncommitted" },
        { "queued.min.messages", "1" },
        { "queued.max.messages.kbytes", "1024" },
        { "topic.metadata.refresh.interval.ms", "60000" },
        { NULL, NULL },
    };
    log->membership = kafka_client_new(&log->uri, RD_KAFKA_CONSUMER, log->client_name, settings, &log->notes,
                                       RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_ERROR, error, sizeof error);
    if (!log->membership)
        return kafka_fail(log, "%s", error);
    rd_kafka_poll_set_consumer(log->membership);
    log->member_events.serve = kafka_members_serve;
    log->leaving = log->taken = false;
    if (!kafka_source_open(log, &log->member_events, rd_kafka_queue_get_consumer(log->membership)))
        return kafka_fail(log, "out of memory");
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, log->topics[KAFKA_INBOX], RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t code = rd_kafka_subscribe(log->membership, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    return code ? kafka_fail(log, "cannot join the group %s: %s", log->uri.name, rd_kafka_err2str(code)) : LOG_OK;
}

int kafka_leave(struct log *base, bool for_good)
{
    struct kafka_log *log = kafka_log_of(base);
    if (!log->membership)
        return LOG_OK;
    if (for_good && !log->taken) {
        /* A static member leaves by unsubscribing; closing alone keeps its place. */
        log->leaving = true;
        rd_kafka_unsubscribe(log->membership);
        return LOG_OK;
    }
    kafka_members_stop(log);
    for (uint32_t p = 0; p < log->partitions; p++)
        kafka_tell_assigned(log, p, false);
    return LOG_OK;
}

static void kafka_join_again(struct kafka_log *log)
{
    kafka_members_stop(log);
    for (uint32_t p = 0; p < log->partitions; p++)
        kafka_tell_assigned(log, p, false);
    if (kafka_join(&log->base) == LOG_OK)
        log->rejoin = false;
    else
        kafka_fault(log, LOG_UNREACHABLE, LOG_ALL, "%s; it is tried again", log->base.error);
}

void kafka_members_chores(struct kafka_log *log)
{
    if (log->rejoin && !log->leaving)
        kafka_join_again(log);
    if (log->membership && log->member_events.queue)
        kafka_members_serve(log, &log->member_events);
}

bool kafka_is_member(rd_kafka_t *consumer)
{
    char *id = rd_kafka_memberid(consumer);
    bool member = id && *id;
    if (id)
        rd_kafka_mem_free(consumer, id);
    return member;
}

void kafka_members_stop(struct kafka_log *log)
{
    if (!log->membership)
        return;
    /* The LeaveGroup goes out once the revocation was answered: from then on it has no member id. Closing before that
     * would keep the place of a static member. */
    int64_t deadline = kafka_monotonic_ms() + KAFKA_CLOSE_TIMEOUT_MS;
    while (log->leaving && !log->taken && kafka_is_member(log->membership) && kafka_monotonic_ms() < deadline) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(log->member_events.queue, 20);
        if (event && rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE)
            kafka_rebalance(log, event);
        rd_kafka_event_destroy(event);
    }
    kafka_source_close(&log->member_events);
    rd_kafka_consumer_close(log->membership);
    rd_kafka_destroy(log->membership);
    if (log->unreachable == log->membership)
        log->unreachable = NULL;
    log->membership = NULL;
}
