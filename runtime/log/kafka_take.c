/*
 * Taking tasks: a step worker as a member of its queue's consumer group. What was reported may be committed, and is, every
 * second; what was not comes again, to this worker or to another (docs/remote-steps.md).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/kafka_internal.h"

struct kafka_taking {
    rd_kafka_t *consumer;
    struct kafka_source source;
    struct log_taker taker;
    char topic[KAFKA_TOPIC_NAME_BYTES];
    char member[64]; /* its static id in the group; empty: none */
    int lane_count;  /* of the topic, when it last joined; 0: it is not there, or not known */
    rd_kafka_topic_partition_list_t *lanes; /* that are ours; NULL: none */
    bool joined;  /* it has been a member */
    bool waiting; /* the taker has no room for what is there */
    bool again;   /* the consumer is to be replaced */
};

/* From our own list: who is fenced gets no event, and is assigned nothing any more. */
static void kafka_take_lose_lanes(struct kafka_taking *taking)
{
    for (int i = 0; taking->lanes && i < taking->lanes->cnt; i++)
        taking->taker.lane_lost(taking->taker.context, (uint32_t)taking->lanes->elems[i].partition);
    if (taking->lanes)
        rd_kafka_topic_partition_list_destroy(taking->lanes);
    taking->lanes = NULL;
}

/* An eager strategy: all lanes go, all that are ours come. */
static void kafka_take_rebalance(struct kafka_log *log, rd_kafka_event_t *event)
{
    struct kafka_taking *taking = log->taking;
    rd_kafka_topic_partition_list_t *list = rd_kafka_event_topic_partition_list(event);
    bool ours = rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
    kafka_take_lose_lanes(taking);
    if (ours)
        taking->lanes = rd_kafka_topic_partition_list_copy(list);
    rd_kafka_assign(taking->consumer, ours ? list : NULL);
    taking->joined = true;
}

static void kafka_take_message(struct kafka_log *log, const rd_kafka_message_t *message)
{
    struct kafka_taking *taking = log->taking;
    if (kafka_is_unauthorised(message->err))
        kafka_fault_unauthorised(log, message->err == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED ? "join (Read) the group"
                                                                                                   : "read", taking->topic);
    if (message->err)
        return; /* a topic that is not there yet is asked for again */
    const struct log_record record = {
        .partition = (uint32_t)message->partition,
        .offset = message->offset,
        .append_ms = rd_kafka_message_timestamp(message, NULL),
        .leader_epoch = -1,
        .data = message->payload,
        .size = message->len,
    };
    kafka_reachable(log);
    taking->taker.task(taking->taker.context, &record);
}

/* By what the process before us had on its way, most likely: its place is ours alone. */
static void kafka_take_fenced(struct kafka_log *log)
{
    if (!log->taking->again)
        kafka_fault(log, LOG_UNREACHABLE, LOG_ALL, "the group %s has given our place to another: joining again", log->taking->topic);
    log->taking->again = true;
}

static void kafka_take_event(struct kafka_log *log, rd_kafka_event_t *event)
{
    const rd_kafka_message_t *message;
    switch (event ? rd_kafka_event_type(event) : RD_KAFKA_EVENT_NONE) {
    case RD_KAFKA_EVENT_REBALANCE:
        kafka_take_rebalance(log, event);
        break;
    case RD_KAFKA_EVENT_FETCH:
        while ((message = rd_kafka_event_message_next(event)))
            kafka_take_message(log, message);
        break;
    case RD_KAFKA_EVENT_ERROR:
        if (rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED)
            kafka_fault_unauthorised(log, "join (Read) the group", log->taking->topic);
        else if (rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
            kafka_fault_unauthorised(log, "read", log->taking->topic);
        else if (rd_kafka_event_error_is_fatal(event))
            kafka_take_fenced(log);
        else
            kafka_on_error(log, log->taking->consumer, event);
        break;
    default:
        break;
    }
    rd_kafka_event_destroy(event);
}

static void kafka_take_serve(struct kafka_log *log, struct kafka_source *source)
{
    struct kafka_taking *taking = log->taking;
    for (int count = 0; count < KAFKA_TURN_MESSAGES; count++) {
        taking->waiting = taking->taker.room(taking->taker.context) == 0;
        if (taking->waiting)
            return; /* not for long: what finds no slot is given back */
        rd_kafka_event_t *event = rd_kafka_queue_poll(source->queue, 0);
        if (!event)
            return;
        kafka_take_event(log, event);
    }
    atomic_store(&source->ready, true);
}

/* There is room again. */
void kafka_take_resume(struct log *base)
{
    struct kafka_log *log = kafka_log_of(base);
    struct kafka_taking *taking = log->taking;
    if (taking && taking->waiting && taking->taker.room(taking->taker.context) > 0)
        atomic_store(&taking->source.ready, true);
}

/* The group deals lanes anew for a new member only, so one that comes back when there are more lanes than before is one. */
static void kafka_take_name(struct kafka_log *log, int timeout_ms)
{
    struct kafka_taking *taking = log->taking;
    int count;
    if (!taking->taker.member)
        return;
    if (!kafka_topic_count(log->producer, taking->topic, timeout_ms, &count))
        taking->lane_count = count;
    snprintf(taking->member, sizeof taking->member, "%s-%d", taking->taker.member, taking->lane_count);
}

static bool kafka_take_subscribe(struct kafka_log *log, char *error, size_t error_size)
{
    struct kafka_taking *taking = log->taking;
    const struct kafka_setting settings[] = {
        { "group.id", taking->topic },
        { "session.timeout.ms", "10000" }, /* the lanes of a killed worker are free after it */
        { "heartbeat.interval.ms", "1000" },
        { "partition.assignment.strategy", "range" },
        { "auto.offset.reset", "earliest" },
        { "enable.auto.commit", "true" }, /* of what kafka_take_commit() stores */
        { "enable.auto.offset.store", "false" },
        { "auto.commit.interval.ms", "1000" },
        { "check.crcs", "true" },
        { "fetch.wait.max.ms", "50" },
        { "queued.min.messages", "1000" },
        { "topic.metadata.refresh.interval.ms", "5000" }, /* a queue that nobody used yet has no topic */
        { taking->member[0] ? "group.instance.id" : NULL, taking->member },
        { NULL, NULL },
    };
    taking->consumer = kafka_client_new(&log->uri, RD_KAFKA_CONSUMER, log->client_name, settings, &log->notes,
                                        RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_ERROR, error, error_size);
    if (!taking->consumer)
        return false;
    rd_kafka_poll_set_consumer(taking->consumer);
    taking->source.serve = kafka_take_serve;
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, taking->topic, RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t code = rd_kafka_subscribe(taking->consumer, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    if (!code && kafka_source_open(log, &taking->source, rd_kafka_queue_get_consumer(taking->consumer)))
        return true;
    snprintf(error, error_size, "cannot join the group %s: %s", taking->topic, rd_kafka_err2str(code));
    return false;
}

int kafka_take_tasks(struct log *base, const char *queue, const struct log_taker *taker)
{
    struct kafka_log *log = kafka_log_of(base);
    char error[600];
    if (log->taking)
        return kafka_fail(log, "it takes tasks already");
    if (!kafka_queue_name_valid(queue))
        return kafka_fail(log, "'%s' is no name of a queue: letters, digits, '.', '_' and '-', at most %d", queue,
                          KAFKA_QUEUE_NAME_LIMIT);
    log->taking = calloc(1, sizeof *log->taking);
    if (!log->taking)
        return kafka_fail(log, "out of memory");
    log->taking->taker = *taker;
    kafka_queue_topic(&log->uri, queue, log->taking->topic, sizeof log->taking->topic);
    kafka_take_name(log, KAFKA_OPEN_TIMEOUT_MS);
    return kafka_take_subscribe(log, error, sizeof error) ? LOG_OK : kafka_fail(log, "%s", error);
}

void kafka_take_commit(struct log *base, uint32_t lane, int64_t offset)
{
    struct kafka_log *log = kafka_log_of(base);
    if (!log->taking || !log->taking->consumer)
        return;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, log->taking->topic, (int32_t)lane)->offset = offset;
    rd_kafka_offsets_store(log->taking->consumer, list); /* refused where the lane is not ours any more: it comes again */
    rd_kafka_topic_partition_list_destroy(list);
}

static void kafka_take_rebalances_until(struct kafka_log *log, bool member)
{
    struct kafka_taking *taking = log->taking;
    int64_t deadline = kafka_monotonic_ms() + KAFKA_CLOSE_TIMEOUT_MS;
    while ((member ? !taking->joined : kafka_is_member(taking->consumer)) && kafka_monotonic_ms() < deadline) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(taking->source.queue, 20);
        if (event && rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE)
            kafka_take_rebalance(log, event);
        rd_kafka_event_destroy(event);
    }
}

/* A static member leaves by unsubscribing, once the revocation was answered; closing alone keeps its place. One whose first
 * join is not answered yet has no id to leave with: it would be a member that is not there. */
static void kafka_take_leave(struct kafka_log *log)
{
    struct kafka_taking *taking = log->taking;
    if (!taking->member[0] || taking->again)
        return;
    if (!taking->joined && taking->lane_count > 0)
        kafka_take_rebalances_until(log, true);
    rd_kafka_unsubscribe(taking->consumer);
    kafka_take_rebalances_until(log, false);
}

static void kafka_take_close(struct kafka_log *log)
{
    struct kafka_taking *taking = log->taking;
    kafka_source_close(&taking->source);
    rd_kafka_consumer_close(taking->consumer);
    if (log->unreachable == taking->consumer)
        log->unreachable = NULL;
    rd_kafka_destroy(taking->consumer);
    taking->consumer = NULL;
    kafka_take_lose_lanes(taking);
    taking->joined = false;
}

static void kafka_take_again(struct kafka_log *log)
{
    struct kafka_taking *taking = log->taking;
    char error[600];
    if (taking->consumer)
        kafka_take_close(log);
    kafka_take_name(log, 1000);
    taking->again = !kafka_take_subscribe(log, error, sizeof error);
    if (taking->again)
        kafka_fault(log, LOG_UNREACHABLE, LOG_ALL, "%s; it is tried again", error);
}

/* librdkafka counts polls, also of a queue in which nothing is: who does none for five minutes is out of the group. */
void kafka_take_chores(struct kafka_log *log)
{
    if (log->taking && log->taking->again)
        kafka_take_again(log);
    if (log->taking && log->taking->consumer)
        atomic_store(&log->taking->source.ready, true);
}

/* Commits, and leaves the group. The struct stays: the list of sources knows it. */
void kafka_take_stop(struct log *base)
{
    struct kafka_log *log = kafka_log_of(base);
    if (!log->taking)
        return;
    if (log->taking->consumer) {
        kafka_take_leave(log);
        kafka_take_close(log);
    }
    log->taking->again = false;
}
