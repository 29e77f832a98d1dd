#include "kafka_test.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *kafka_brokers(void)
{
    const char *brokers = getenv("PERDURE_KAFKA");
    return brokers && *brokers ? brokers : "127.0.0.1:9092";
}

void kafka_fresh_uri(char *uri, size_t size)
{
    snprintf(uri, size, "kafka://%s/test-%016" PRIx64, kafka_brokers(), kafka_random());
}

void kafka_make(const char *uri, uint32_t partitions)
{
    char text[1024] = "";
    if (kafka_namespace_create(uri, partitions, true, text, sizeof text) != 0)
        fail_msg("%s", text);
}

/* ---- the handler ------------------------------------------------------------------------------------------------------ */

static void heard_record(void *context, const struct log_record *record)
{
    struct heard *heard = context;
    if (heard->count == heard->space) {
        heard->space = heard->space ? 2 * heard->space : 1024;
        heard->records = realloc(heard->records, heard->space * sizeof *heard->records);
        assert_non_null(heard->records);
    }
    struct heard_record *copy = &heard->records[heard->count++];
    memset(copy, 0, sizeof *copy);
    copy->stream = record->stream;
    copy->partition = record->partition;
    copy->offset = record->offset;
    copy->append_ms = record->append_ms;
    copy->size = record->size;
    memcpy(copy->text, record->data, record->size < sizeof copy->text ? record->size : sizeof copy->text - 1);
}

static void heard_end(void *context, enum log_stream stream, uint32_t partition, int64_t end)
{
    struct heard *heard = context;
    heard->ends[stream][partition] = end;
}

static void heard_delivered(void *context, uint64_t cookie, enum log_delivery delivery, int64_t offset)
{
    struct heard *heard = context;
    heard->reports[delivery]++;
    heard->last_cookie = cookie;
    heard->last_offset = offset;
    heard->arrived += log_has(delivery, offset);
    if (cookie >= heard->cookies) {
        size_t old = heard->cookies;
        heard->cookies = (size_t)cookie + 1024;
        heard->by_cookie = realloc(heard->by_cookie, heard->cookies * sizeof *heard->by_cookie);
        assert_non_null(heard->by_cookie);
        for (size_t i = old; i < heard->cookies; i++)
            heard->by_cookie[i] = (enum log_delivery)99;
    }
    assert_int_equal(heard->by_cookie[cookie], 99); /* one report an append */
    heard->by_cookie[cookie] = delivery;
}

static void heard_assigned(void *context, uint32_t partition)
{
    struct heard *heard = context;
    assert_false(heard->owned[partition]);
    heard->owned[partition] = true;
    heard->assigned++;
}

static void heard_revoked(void *context, uint32_t partition)
{
    struct heard *heard = context;
    assert_true(heard->owned[partition]);
    heard->owned[partition] = false;
    heard->revoked++;
}

static void heard_fault(void *context, enum log_fault fault, uint32_t partition, const char *message)
{
    struct heard *heard = context;
    (void)partition;
    heard->faults[fault]++;
    snprintf(heard->fault_text, sizeof heard->fault_text, "%s", message);
    if (getenv("PERDURE_TEST_VERBOSE"))
        print_message("fault %d, partition %u: %s\n", (int)fault, partition, message);
}

static void heard_reply(void *context, const Reply *reply)
{
    struct heard *heard = context;
    heard->replies++;
    heard->last_correlation = reply->correlation;
    snprintf(heard->last_answer, sizeof heard->last_answer, "%s", reply->answer);
}

static void heard_row_lost(void *context, const char *key)
{
    struct heard *heard = context;
    heard->rows_lost++;
    snprintf(heard->lost_text, sizeof heard->lost_text, "%s", key);
}

static void heard_dead_lost(void *context, const struct log_record *record, const char *reason)
{
    struct heard *heard = context;
    heard->dead_lost++;
    snprintf(heard->lost_text, sizeof heard->lost_text, "%u/%lld %.*s %s", record->partition, (long long)record->offset,
             (int)record->size, (const char *)record->data, reason);
}

void kafka_listen(struct log *log, struct heard *heard)
{
    memset(heard, 0, sizeof *heard);
    memset(heard->ends, 0xff, sizeof heard->ends);
    heard->log = log;
    heard->last_offset = -2;
    const struct log_handler handler = {
        .context = heard,
        .record = heard_record,
        .end = heard_end,
        .delivered = heard_delivered,
        .assigned = heard_assigned,
        .revoked = heard_revoked,
        .fault = heard_fault,
        .reply = heard_reply,
        .row_lost = heard_row_lost,
        .dead_lost = heard_dead_lost,
    };
    log_set_handler(log, &handler);
}

struct log *kafka_open(const char *uri, const char *member, struct heard *heard)
{
    char error[1024] = "";
    const struct log_options options = { .client_name = "test", .member = member, .session_timeout_ms = 30000 };
    struct log *log = NULL;
    if (kafka_log_open(uri, &options, &log, error, sizeof error) != 0)
        fail_msg("%s", error);
    kafka_listen(log, heard);
    return log;
}

void kafka_close_log(struct heard *heard)
{
    heard->log->operations->close(heard->log);
    free(heard->records);
    free(heard->by_cookie);
    memset(heard, 0, sizeof *heard);
}

int kafka_put(struct heard *heard, enum log_stream stream, uint32_t partition, const char *text, uint64_t cookie)
{
    const struct log_message message = { .key = "job", .data = text, .size = strlen(text) };
    return heard->log->operations->append(heard->log, stream, partition, &message, cookie);
}

void kafka_poll_for(struct heard *heard, int64_t ms)
{
    int64_t deadline = kafka_monotonic_ms() + ms;
    while (kafka_monotonic_ms() < deadline)
        heard->log->operations->poll(heard->log, 10);
}

/* ---- administration --------------------------------------------------------------------------------------------------- */

struct admin {
    struct kafka_uri uri;
    struct kafka_notes notes;
    rd_kafka_t *client;
    rd_kafka_queue_t *queue;
    char topic[KAFKA_TOPIC_NAME_BYTES];
};

static void admin_open(struct admin *admin, const char *uri, enum kafka_topic topic)
{
    char error[512] = "";
    kafka_notes_init(&admin->notes);
    assert_true(kafka_uri_parse(&admin->uri, uri, error, sizeof error));
    kafka_topic_name(&admin->uri, topic, admin->topic, sizeof admin->topic);
    admin->client = kafka_producer_new(&admin->uri, "test-admin", &admin->notes, error, sizeof error);
    assert_non_null(admin->client);
    admin->queue = rd_kafka_queue_new(admin->client);
}

static void admin_close(struct admin *admin)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(admin->queue, 20000);
    assert_non_null(event);
    assert_int_equal(rd_kafka_event_error(event), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(admin->queue);
    rd_kafka_destroy(admin->client);
    kafka_uri_free(&admin->uri);
    kafka_notes_free(&admin->notes);
    nanosleep(&(struct timespec){ .tv_nsec = 300 * 1000 * 1000 }, NULL); /* until the brokers show it */
}

void kafka_alter_topic(const char *uri, enum kafka_topic topic, const char *setting, const char *value)
{
    /* AlterConfigs replaces all settings of a topic: with those of ours, and the one that is to be wrong last. */
    struct admin admin;
    admin_open(&admin, uri, topic);
    rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, admin.topic);
    rd_kafka_DescribeConfigs(admin.client, &resource, 1, NULL, admin.queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(admin.queue, 20000);
    assert_non_null(event);
    size_t count, entries;
    const rd_kafka_ConfigResource_t **found =
        rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event), &count);
    const rd_kafka_ConfigEntry_t **entry = rd_kafka_ConfigResource_configs(found[0], &entries);
    for (size_t i = 0; i < entries; i++)
        if (rd_kafka_ConfigEntry_source(entry[i]) == RD_KAFKA_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG &&
            strcmp(rd_kafka_ConfigEntry_name(entry[i]), setting) != 0)
            rd_kafka_ConfigResource_set_config(resource, rd_kafka_ConfigEntry_name(entry[i]),
                                               rd_kafka_ConfigEntry_value(entry[i]));
    rd_kafka_ConfigResource_set_config(resource, setting, value);
    rd_kafka_AlterConfigs(admin.client, &resource, 1, NULL, admin.queue);
    rd_kafka_event_destroy(event);
    rd_kafka_ConfigResource_destroy(resource);
    admin_close(&admin);
}

void kafka_delete_topic(const char *uri, enum kafka_topic topic)
{
    struct admin admin;
    admin_open(&admin, uri, topic);
    rd_kafka_DeleteTopic_t *gone = rd_kafka_DeleteTopic_new(admin.topic);
    rd_kafka_DeleteTopics(admin.client, &gone, 1, NULL, admin.queue);
    rd_kafka_DeleteTopic_destroy(gone);
    admin_close(&admin);
}

void kafka_add_partitions(const char *uri, enum kafka_topic topic, size_t count)
{
    char error[256];
    struct admin admin;
    admin_open(&admin, uri, topic);
    rd_kafka_NewPartitions_t *more = rd_kafka_NewPartitions_new(admin.topic, count, error, sizeof error);
    assert_non_null(more);
    rd_kafka_CreatePartitions(admin.client, &more, 1, NULL, admin.queue);
    rd_kafka_NewPartitions_destroy(more);
    admin_close(&admin);
}
