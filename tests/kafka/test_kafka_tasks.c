/* Queues of remote steps: topics made on demand or by command, lanes, and what is said when a queue takes nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kafka_test.h"

static int put_task(struct heard *heard, const char *queue, uint32_t lane, const char *text, uint64_t cookie)
{
    const Header header = { .kind = PERDURE__V1__KIND__KIND_TASK };
    const struct log_message message = { .key = "job", .data = text, .size = strlen(text), .header = &header };
    return heard->log->operations->put_task(heard->log, queue, lane, &message, cookie);
}

/* Reads what stands in the first `partitions` of a queue: texts by partition, separated by spaces. */
static void read_queue(const char *uri, const char *queue, uint32_t partitions, char texts[][256])
{
    char error[512], topic[KAFKA_TOPIC_NAME_BYTES];
    struct kafka_uri parsed;
    struct kafka_notes notes;
    uint32_t left = partitions;
    kafka_notes_init(&notes);
    assert_true(kafka_uri_parse(&parsed, uri, error, sizeof error));
    kafka_queue_topic(&parsed, queue, topic, sizeof topic);
    rd_kafka_t *scanner = kafka_scanner_new(&parsed, &notes, error, sizeof error);
    assert_non_null(scanner);
    assert_int_equal(kafka_scanner_begin(scanner, topic, 0, partitions, KAFKA_OPEN_TIMEOUT_MS), 0);
    while (left > 0) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(scanner, 30000);
        assert_non_null(message);
        if (message->err) {
            assert_int_equal(message->err, RD_KAFKA_RESP_ERR__PARTITION_EOF);
            left--;
        } else {
            char *text = texts[message->partition];
            size_t size = strlen(text);
            snprintf(text + size, 256 - size, "%.*s ", (int)message->len, (const char *)message->payload);
        }
        rd_kafka_message_destroy(message);
    }
    rd_kafka_destroy(scanner);
    kafka_notes_free(&notes);
}

static void test_made_on_demand(void **state)
{
    char uri[256], texts[8][256] = { "" };
    struct heard heard;
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    kafka_make(uri, 1);
    struct log *log = kafka_open(uri, "one", &heard);
    assert_int_equal(put_task(&heard, "gpu", 0, "a", 1), LOG_OK);
    assert_int_equal(put_task(&heard, "gpu", 7, "b", 2), LOG_OK);
    assert_int_equal(put_task(&heard, "gpu", 17, "c", 3), LOG_OK); /* lane mod the topic's 8 partitions */
    KAFKA_UNTIL(&heard, 60000, heard.reports[LOG_PERSISTED] == 3);
    assert_int_equal(put_task(&heard, "gpu", 7, "d", 4), LOG_OK);
    KAFKA_UNTIL(&heard, 60000, heard.reports[LOG_PERSISTED] == 4);
    assert_int_equal(heard.by_cookie[4], LOG_PERSISTED);
    assert_int_equal(log->operations->append(log, LOG_JOURNAL, 0, &(struct log_message){ .data = "x", .size = 1 }, 5), 0);
    KAFKA_UNTIL(&heard, 60000, heard.reports[LOG_PERSISTED] == 5);
    kafka_close_log(&heard);
    read_queue(uri, "gpu", 8, texts);
    assert_string_equal(texts[0], "a ");
    assert_string_equal(texts[1], "c ");
    assert_string_equal(texts[7], "b d ");
}

static void test_refused_at_once(void **state)
{
    char uri[256];
    static char large[RECORD_LIMIT_BYTES + 2];
    struct heard heard;
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    kafka_make(uri, 1);
    struct log *log = kafka_open(uri, "one", &heard);
    static const char *const names[] = { "", "a b", "a/b", "\xc3\xa4" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(put_task(&heard, names[i], 0, "a", 1), LOG_FAILED);
        assert_non_null(strstr(log->error, "no name of a queue"));
    }
    memset(large, 'x', sizeof large - 1);
    assert_int_equal(put_task(&heard, "gpu", 0, large, 1), LOG_FAILED);
    assert_non_null(strstr(log->error, "above the limit"));
    kafka_close_log(&heard);
}

/* No topic, and none can be made: told with the command that helps; other queues and the journal go on; it helps. */
static void test_missing_topic(void **state)
{
    char uri[256], text[1024];
    struct heard heard;
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    kafka_make(uri, 1);
    struct log *log = kafka_open(uri, "one", &heard);
    kafka_log_of(log)->replicas = 99; /* the broker refuses such a topic */
    assert_int_equal(put_task(&heard, "far", 0, "a", 1), LOG_OK);
    KAFKA_UNTIL(&heard, 60000, heard.reports[LOG_NOT_PERSISTED] == 1);
    print_message("%s\n", log->error);
    assert_non_null(strstr(log->error, "perdure namespace queue create far"));
    assert_non_null(strstr(log->error, "eplication factor"));
    assert_int_equal(put_task(&heard, "far", 0, "a", 2), LOG_FAILED); /* at once, for some seconds */
    assert_non_null(strstr(log->error, "perdure namespace queue create far"));

    kafka_log_of(log)->replicas = 1;
    assert_int_equal(put_task(&heard, "near", 0, "a", 3), LOG_OK);
    KAFKA_UNTIL(&heard, 60000, heard.reports[LOG_PERSISTED] == 1);
    assert_int_equal(log->operations->append(log, LOG_JOURNAL, 0, &(struct log_message){ .data = "x", .size = 1 }, 4), 0);
    KAFKA_UNTIL(&heard, 60000, heard.reports[LOG_PERSISTED] == 2);

    kafka_log_of(log)->replicas = 99;
    assert_int_equal(kafka_queue_create(uri, "far", 2, true, text, sizeof text), 0);
    assert_non_null(strstr(text, "2 partitions"));
    int64_t deadline = kafka_monotonic_ms() + 60000;
    for (uint64_t cookie = 5; heard.reports[LOG_PERSISTED] < 3; cookie++) {
        put_task(&heard, "far", 0, "b", cookie);
        kafka_poll_for(&heard, 500);
        if (kafka_monotonic_ms() > deadline)
            fail_msg("%s", log->error);
    }
    assert_int_equal(heard.faults[LOG_FATAL] + heard.faults[LOG_PRODUCER_REPLACED], 0);
    kafka_close_log(&heard);
}

static void test_create(void **state)
{
    char uri[256], text[1024];
    static const struct {
        uint32_t partitions;
        int code;
        const char *says;
    } calls[] = {
        { 0, 0, "is made: topic" },           { 0, 0, "8 partitions; nothing was changed" },
        { 8, 0, "nothing was changed" },      { 4, 2, "takes none away" },
        { 12, 0, "12 partitions now, it had 8" },
    };
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    assert_int_equal(kafka_queue_create(uri, "q", 0, true, text, sizeof text), 3);
    assert_non_null(strstr(text, "no namespace"));
    kafka_make(uri, 1);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        int code = kafka_queue_create(uri, "q", calls[i].partitions, true, text, sizeof text);
        if (code != calls[i].code || !strstr(text, calls[i].says))
            fail_msg("%zu: %d %s", i, code, text);
    }
    assert_int_equal(kafka_queue_create(uri, "a b", 0, true, text, sizeof text), 2);
    assert_int_equal(kafka_queue_create("kafka://127.0.0.1:9/shop", "q", 0, true, text, sizeof text), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_made_on_demand),
        cmocka_unit_test(test_refused_at_once),
        cmocka_unit_test(test_missing_topic),
        cmocka_unit_test(test_create),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
