/*
 * `perdure namespace queue create`: the topic of a queue, made by somebody who may, before any owner needs it.
 */
#include <stdio.h>
#include <string.h>

#include "log/kafka_internal.h"

struct kafka_queue_order {
    struct kafka_uri uri;
    struct kafka_notes notes;
    struct kafka_shape shape;
    rd_kafka_t *client;
    const char *queue;
    char topic[KAFKA_TOPIC_NAME_BYTES];
    int partitions;
    bool dev;
};

static int kafka_queue_order_open(struct kafka_queue_order *order, const char *uri, char *text, size_t text_size)
{
    if (!kafka_uri_parse(&order->uri, uri, text, text_size))
        return 2;
    if (!kafka_queue_name_valid(order->queue)) {
        snprintf(text, text_size, "'%s' is no name of a queue: letters, digits, '.', '_' and '-', at most %d", order->queue,
                 KAFKA_QUEUE_NAME_LIMIT);
        return 2;
    }
    kafka_queue_topic(&order->uri, order->queue, order->topic, sizeof order->topic);
    if (strlen(order->topic) > 249) { /* Kafka's own limit */
        snprintf(text, text_size, "the topic %s of queue %s would be longer than the 249 characters that Kafka allows",
                 order->topic, order->queue);
        return 2;
    }
    order->client = kafka_producer_new(&order->uri, "perdure-namespace", &order->notes, text, text_size);
    if (!order->client)
        return 2;
    int code = kafka_topics_shape(order->client, &order->uri, &order->notes, KAFKA_OPEN_TIMEOUT_MS, &order->shape, text,
                                  text_size);
    if (!code && order->shape.partitions[KAFKA_JOURNAL] == 0)
        code = kafka_topics_check_partitions(&order->uri, &order->shape, text, text_size);
    order->dev = order->dev || order->uri.dev || order->shape.replicas[KAFKA_JOURNAL] < 2;
    return code;
}

static int kafka_queue_order_result(rd_kafka_queue_t *queue, rd_kafka_resp_err_t *code, char *text, size_t text_size)
{
    size_t count = 0;
    const rd_kafka_topic_result_t **results = NULL;
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 2 * KAFKA_OPEN_TIMEOUT_MS);
    *code = event ? rd_kafka_event_error(event) : RD_KAFKA_RESP_ERR__TIMED_OUT;
    const char *said = event && *code ? rd_kafka_event_error_string(event) : rd_kafka_err2str(*code);
    if (event && !*code && rd_kafka_event_type(event) == RD_KAFKA_EVENT_CREATETOPICS_RESULT)
        results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    else if (event && !*code)
        results = rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(event), &count);
    bool reached = results != NULL;
    if (count > 0 && (*code = rd_kafka_topic_result_error(results[0]))) {
        said = rd_kafka_topic_result_error_string(results[0]);
        said = said ? said : rd_kafka_err2str(*code);
    }
    snprintf(text, text_size, "%s", said);
    if (event)
        rd_kafka_event_destroy(event);
    return !*code ? 0 : reached ? 2 : 5;
}

static int kafka_queue_order_make(struct kafka_queue_order *order, bool *there, char *text, size_t text_size)
{
    char said[300];
    rd_kafka_resp_err_t code;
    rd_kafka_NewTopic_t *wanted = kafka_topics_plan_queue(order->topic, order->partitions,
                                                          order->shape.replicas[KAFKA_JOURNAL], order->dev, said, sizeof said);
    if (!wanted) {
        snprintf(text, text_size, "topic %s: %s", order->topic, said);
        return 2;
    }
    rd_kafka_queue_t *queue = rd_kafka_queue_new(order->client);
    rd_kafka_CreateTopics(order->client, &wanted, 1, NULL, queue);
    rd_kafka_NewTopic_destroy(wanted);
    int result = kafka_queue_order_result(queue, &code, said, sizeof said);
    rd_kafka_queue_destroy(queue);
    *there = code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS;
    if (*there)
        return 0;
    if (code)
        snprintf(text, text_size, "topic %s cannot be created: %s", order->topic, said);
    else
        snprintf(text, text_size, "queue %s is made: topic %s, %d partitions", order->queue, order->topic,
                 order->partitions);
    return result;
}

static int kafka_queue_order_count(struct kafka_queue_order *order, int *count, char *text, size_t text_size)
{
    rd_kafka_resp_err_t code = kafka_topic_count(order->client, order->topic, KAFKA_OPEN_TIMEOUT_MS, count);
    if (!code)
        return 0;
    snprintf(text, text_size, "topic %s: its partitions are not known: %s", order->topic, rd_kafka_err2str(code));
    return 5;
}

/* Tasks have no place of their own, so partitions may be added while tasks are in it. */
static int kafka_queue_order_grow(struct kafka_queue_order *order, bool exact, char *text, size_t text_size)
{
    char said[300];
    int count;
    rd_kafka_resp_err_t code;
    int result = kafka_queue_order_count(order, &count, text, text_size);
    if (result)
        return result;
    if (!exact || count == order->partitions) {
        snprintf(text, text_size, "queue %s is there already: topic %s, %d partitions; nothing was changed", order->queue,
                 order->topic, count);
        return 0;
    }
    if (count > order->partitions) {
        snprintf(text, text_size, "queue %s is there already, with %d partitions: Kafka takes none away", order->queue,
                 count);
        return 2;
    }
    rd_kafka_NewPartitions_t *wanted =
        rd_kafka_NewPartitions_new(order->topic, (size_t)order->partitions, said, sizeof said);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(order->client);
    rd_kafka_CreatePartitions(order->client, &wanted, 1, NULL, queue);
    rd_kafka_NewPartitions_destroy(wanted);
    result = kafka_queue_order_result(queue, &code, said, sizeof said);
    rd_kafka_queue_destroy(queue);
    if (code)
        snprintf(text, text_size, "topic %s: no partitions can be added: %s", order->topic, said);
    else
        snprintf(text, text_size, "queue %s: topic %s has %d partitions now, it had %d", order->queue, order->topic,
                 order->partitions, count);
    return result;
}

int kafka_queue_create(const char *uri, const char *queue, uint32_t partitions, bool dev, char *text, size_t text_size)
{
    struct kafka_queue_order order = { .queue = queue, .dev = dev,
                                       .partitions = partitions ? (int)partitions : KAFKA_QUEUE_PARTITIONS };
    bool there = false;
    kafka_notes_init(&order.notes);
    int code = kafka_queue_order_open(&order, uri, text, text_size);
    if (!code)
        code = kafka_queue_order_make(&order, &there, text, text_size);
    if (!code && there)
        code = kafka_queue_order_grow(&order, partitions > 0, text, text_size);
    if (order.client)
        rd_kafka_destroy(order.client);
    kafka_uri_free(&order.uri);
    kafka_notes_free(&order.notes);
    return code;
}
