/*
 * `perdure queues`: what waits in the queues of a namespace, and who serves them. Asked of the brokers; no client of a queue is
 * needed, nor of the journal.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/kafka_internal.h"

struct kafka_backlog {
    struct kafka_uri uri;
    struct kafka_notes notes;
    rd_kafka_t *client;
    rd_kafka_queue_t *answers;
    char *text;
    size_t text_size;
};

static int kafka_backlog_fail(struct kafka_backlog *backlog, const char *what, const char *topic, rd_kafka_resp_err_t code)
{
    snprintf(backlog->text, backlog->text_size, "%s at %s: cannot ask for %s: %s", topic, backlog->uri.brokers, what,
             rd_kafka_err2str(code));
    return kafka_is_unauthorised(code) ? 2 : 5;
}

/* NULL: `code` says why. */
static rd_kafka_event_t *kafka_backlog_answer(struct kafka_backlog *backlog, rd_kafka_resp_err_t *code)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(backlog->answers, 2 * KAFKA_OPEN_TIMEOUT_MS);
    *code = event ? rd_kafka_event_error(event) : RD_KAFKA_RESP_ERR__TIMED_OUT;
    if (event && *code) {
        rd_kafka_event_destroy(event);
        event = NULL;
    }
    return event;
}

/* What the group has committed: behind the last task of each lane whose report was accepted. */
static int kafka_backlog_waiting(struct kafka_backlog *backlog, const char *topic, struct kafka_queue_state *state)
{
    rd_kafka_resp_err_t code;
    size_t count = 0;
    rd_kafka_ListConsumerGroupOffsets_t *wanted = rd_kafka_ListConsumerGroupOffsets_new(topic, NULL);
    rd_kafka_ListConsumerGroupOffsets(backlog->client, &wanted, 1, NULL, backlog->answers);
    rd_kafka_ListConsumerGroupOffsets_destroy(wanted);
    rd_kafka_event_t *event = kafka_backlog_answer(backlog, &code);
    const rd_kafka_group_result_t **groups =
        event ? rd_kafka_ListConsumerGroupOffsets_result_groups(rd_kafka_event_ListConsumerGroupOffsets_result(event), &count)
              : NULL;
    const rd_kafka_error_t *error = count ? rd_kafka_group_result_error(groups[0]) : NULL;
    const rd_kafka_topic_partition_list_t *committed = count && !error ? rd_kafka_group_result_partitions(groups[0]) : NULL;
    code = error ? rd_kafka_error_code(error) : code;
    for (int p = 0; p < state->partitions && !code; p++) {
        int64_t start = 0, end = 0;
        const rd_kafka_topic_partition_t *done =
            committed ? rd_kafka_topic_partition_list_find((rd_kafka_topic_partition_list_t *)(uintptr_t)committed, topic, p) : NULL;
        code = kafka_ask_offset(backlog->client, topic, (uint32_t)p, RD_KAFKA_OFFSET_END, true, KAFKA_OPEN_TIMEOUT_MS, &end);
        if (!code)
            code = kafka_ask_offset(backlog->client, topic, (uint32_t)p, RD_KAFKA_OFFSET_BEGINNING, true, KAFKA_OPEN_TIMEOUT_MS,
                                    &start);
        if (done && done->offset > start) /* what is older than its topic keeps is gone */
            start = done->offset;
        state->waiting += end > start ? end - start : 0;
    }
    if (event)
        rd_kafka_event_destroy(event);
    return code ? kafka_backlog_fail(backlog, "its offsets", topic, code) : 0;
}

static bool kafka_backlog_member(struct kafka_queue_state *state, const rd_kafka_MemberDescription_t *member)
{
    char text[200];
    const char *client = rd_kafka_MemberDescription_client_id(member), *host = rd_kafka_MemberDescription_host(member);
    char **workers = realloc(state->workers, (state->worker_count + 1) * sizeof *workers);
    if (!workers)
        return false;
    state->workers = workers;
    snprintf(text, sizeof text, "%.120s%.70s", client ? client : "", host ? host : "");
    workers[state->worker_count] = strdup(text);
    return workers[state->worker_count] && ++state->worker_count;
}

static int kafka_backlog_workers(struct kafka_backlog *backlog, const char *topic, struct kafka_queue_state *state)
{
    rd_kafka_resp_err_t code;
    size_t count = 0;
    rd_kafka_DescribeConsumerGroups(backlog->client, &topic, 1, NULL, backlog->answers);
    rd_kafka_event_t *event = kafka_backlog_answer(backlog, &code);
    const rd_kafka_ConsumerGroupDescription_t **groups =
        event ? rd_kafka_DescribeConsumerGroups_result_groups(rd_kafka_event_DescribeConsumerGroups_result(event), &count) : NULL;
    const rd_kafka_error_t *error = count ? rd_kafka_ConsumerGroupDescription_error(groups[0]) : NULL;
    code = error ? rd_kafka_error_code(error) : code;
    for (size_t i = 0; count && !error && i < rd_kafka_ConsumerGroupDescription_member_count(groups[0]); i++)
        if (!kafka_backlog_member(state, rd_kafka_ConsumerGroupDescription_member(groups[0], i)))
            code = RD_KAFKA_RESP_ERR__FAIL;
    if (event)
        rd_kafka_event_destroy(event);
    if (code == RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND) /* nobody has ever served it */
        code = RD_KAFKA_RESP_ERR_NO_ERROR;
    return code ? kafka_backlog_fail(backlog, "its workers", topic, code) : 0;
}

static int kafka_backlog_queue(struct kafka_backlog *backlog, const struct rd_kafka_metadata_topic *topic, const char *name,
                               bool (*visit)(void *context, const struct kafka_queue_state *state), void *context, bool *more)
{
    struct kafka_queue_state state = { .queue = name, .partitions = topic->partition_cnt };
    int code = topic->err ? kafka_backlog_fail(backlog, "its partitions", topic->topic, topic->err)
                          : kafka_backlog_waiting(backlog, topic->topic, &state);
    if (!code)
        code = kafka_backlog_workers(backlog, topic->topic, &state);
    if (!code)
        *more = visit(context, &state);
    for (size_t i = 0; i < state.worker_count; i++)
        free(state.workers[i]);
    free(state.workers);
    return code;
}

static int kafka_backlog_compare(const void *a, const void *b)
{
    const struct rd_kafka_metadata_topic *const *left = a, *const *right = b;
    return strcmp((*left)->topic, (*right)->topic);
}

static int kafka_backlog_queues(struct kafka_backlog *backlog, const struct rd_kafka_metadata *found,
                                bool (*visit)(void *context, const struct kafka_queue_state *state), void *context)
{
    char prefix[KAFKA_TOPIC_NAME_BYTES];
    const struct rd_kafka_metadata_topic **topics = calloc((size_t)found->topic_cnt + 1, sizeof *topics);
    size_t count = 0;
    int result = topics ? 0 : kafka_backlog_fail(backlog, "the topics", backlog->uri.name, RD_KAFKA_RESP_ERR__FAIL);
    bool more = true;
    kafka_queue_topic(&backlog->uri, "", prefix, sizeof prefix);
    for (int i = 0; i < found->topic_cnt && topics; i++)
        if (strncmp(found->topics[i].topic, prefix, strlen(prefix)) == 0)
            topics[count++] = &found->topics[i];
    if (count > 0)
        qsort(topics, count, sizeof *topics, kafka_backlog_compare);
    for (size_t i = 0; i < count && !result && more; i++)
        result = kafka_backlog_queue(backlog, topics[i], topics[i]->topic + strlen(prefix), visit, context, &more);
    free(topics);
    return result;
}

static int kafka_backlog_each(struct kafka_backlog *backlog, bool (*visit)(void *context, const struct kafka_queue_state *state),
                              void *context)
{
    const struct rd_kafka_metadata *found = NULL;
    struct kafka_shape shape;
    int result = kafka_topics_shape(backlog->client, &backlog->uri, &backlog->notes, KAFKA_OPEN_TIMEOUT_MS, &shape, backlog->text,
                                    backlog->text_size);
    if (!result && shape.partitions[KAFKA_JOURNAL] == 0)
        result = kafka_topics_check_partitions(&backlog->uri, &shape, backlog->text, backlog->text_size);
    rd_kafka_resp_err_t code = result ? RD_KAFKA_RESP_ERR_NO_ERROR
                                      : rd_kafka_metadata(backlog->client, 1, NULL, &found, KAFKA_OPEN_TIMEOUT_MS);
    if (code)
        result = kafka_backlog_fail(backlog, "the topics", backlog->uri.name, code);
    if (found) {
        result = kafka_backlog_queues(backlog, found, visit, context);
        rd_kafka_metadata_destroy(found);
    }
    return result;
}

int kafka_queues_each(const char *uri, bool (*visit)(void *context, const struct kafka_queue_state *state), void *context,
                      char *text, size_t text_size)
{
    struct kafka_backlog backlog = { .text = text, .text_size = text_size };
    kafka_notes_init(&backlog.notes);
    int code = kafka_uri_parse(&backlog.uri, uri, text, text_size) ? 0 : 2;
    if (!code && !(backlog.client = kafka_asker_new(&backlog.uri, "perdure-queues", &backlog.notes, text, text_size)))
        code = 2;
    if (!code) {
        backlog.answers = rd_kafka_queue_new(backlog.client);
        code = kafka_backlog_each(&backlog, visit, context);
        rd_kafka_queue_destroy(backlog.answers);
        rd_kafka_destroy(backlog.client);
    }
    kafka_uri_free(&backlog.uri);
    kafka_notes_free(&backlog.notes);
    return code;
}
