/* Making a namespace, and finding each thing about it that is wrong. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kafka_test.h"

static void check_says(const char *uri, int code, const char *topic, const char *setting, const char *found,
                       const char *needed)
{
    char text[1024] = "";
    int result = kafka_namespace_check(uri, true, text, sizeof text);
    const char *words[] = { topic, setting, found, needed };
    if (result != code)
        fail_msg("%s: %s: result %d: %s", topic, setting, result, text);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (words[i] && !strstr(text, words[i]))
            fail_msg("'%s' is not in: %s", words[i], text);
}

static void test_create_twice(void **state)
{
    char uri[256], text[1024] = "", query[300];
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    check_says(uri, 3, "no namespace", "namespace create", NULL, NULL);
    assert_int_equal(kafka_namespace_create(uri, 3, true, text, sizeof text), 2);
    assert_non_null(strstr(text, "power of two"));
    assert_int_equal(kafka_namespace_create(uri, 4, true, text, sizeof text), 0);
    assert_non_null(strstr(text, "is made: 4 partitions"));
    assert_int_equal(kafka_namespace_create(uri, 4, true, text, sizeof text), 0);
    assert_non_null(strstr(text, "nothing was changed"));
    assert_int_equal(kafka_namespace_create(uri, 0, true, text, sizeof text), 0);
    assert_non_null(strstr(text, "nothing was changed"));
    assert_int_equal(kafka_namespace_create(uri, 8, true, text, sizeof text), 2);
    assert_non_null(strstr(text, "4 partitions instead of 8"));
    check_says(uri, 0, "4 partitions", "all settings are right", NULL, NULL);
    snprintf(query, sizeof query, "%s?dev=1", uri);
    check_says(query, 0, "all settings are right", NULL, NULL, NULL);
    snprintf(query, sizeof query, "%s?acks=1", uri);
    check_says(query, 2, "acks", NULL, NULL, NULL);
    check_says("kafka://nowhere", 2, "kafka://host:port", NULL, NULL, NULL);
    check_says("kafka://h:1/a b", 2, "namespace", NULL, NULL, NULL);
}

/* Each setting of the table once, with a value that would lose data or hide it. */
static void test_wrong_settings(void **state)
{
    static const struct {
        enum kafka_topic topic;
        const char *name, *setting, *wrong, *right;
    } cases[] = {
        { KAFKA_JOURNAL, ".journal", "cleanup.policy", "compact", "delete" },
        { KAFKA_JOURNAL, ".journal", "retention.ms", "604800000", "-1" },
        { KAFKA_JOURNAL, ".journal", "retention.bytes", "1000000", "-1" },
        { KAFKA_JOURNAL, ".journal", "message.timestamp.type", "CreateTime", "LogAppendTime" },
        { KAFKA_JOURNAL, ".journal", "max.message.bytes", "100000", "1048588" },
        { KAFKA_JOURNAL, ".journal", "unclean.leader.election.enable", "true", "false" },
        { KAFKA_JOURNAL, ".journal", "segment.bytes", "1073741824", "67108864" },
        { KAFKA_INBOX, ".inbox", "cleanup.policy", "compact,delete", "delete" },
        { KAFKA_INBOX, ".inbox", "retention.ms", "3600000", "-1" },
        { KAFKA_INBOX, ".inbox", "message.timestamp.type", "CreateTime", "LogAppendTime" },
        { KAFKA_JOBS, ".jobs", "cleanup.policy", "delete", "compact" },
        { KAFKA_REPLIES, ".replies", "retention.ms", "1000", "3600000" },
        { KAFKA_DEAD, ".dead", "retention.ms", "3600000", "-1" },
    };
    char uri[256], text[1024];
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    kafka_make(uri, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kafka_alter_topic(uri, cases[i].topic, cases[i].setting, cases[i].wrong);
        check_says(uri, 2, cases[i].name, cases[i].setting, cases[i].wrong, cases[i].right);
        const struct log_options options = { .client_name = "test", .member = "one" };
        struct log *log = NULL;
        assert_int_equal(kafka_log_open(uri, &options, &log, text, sizeof text), 2); /* a worker does not start */
        assert_non_null(strstr(text, cases[i].setting));
        kafka_alter_topic(uri, cases[i].topic, cases[i].setting, cases[i].right);
    }
    check_says(uri, 0, "all settings are right", NULL, NULL, NULL);
}

static void test_partitions_changed(void **state)
{
    char uri[256];
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    kafka_make(uri, 2);
    kafka_add_partitions(uri, KAFKA_INBOX, 4);
    check_says(uri, 2, ".inbox", "partitions", "4", "2");
    kafka_add_partitions(uri, KAFKA_JOURNAL, 4);
    kafka_add_partitions(uri, KAFKA_JOBS, 4);
    kafka_add_partitions(uri, KAFKA_REPLIES, 4);
    check_says(uri, 2, ".journal", "Genesis", NULL, NULL); /* the new ones are empty */
    kafka_fresh_uri(uri, sizeof uri);
    kafka_make(uri, 2);
    for (int topic = 0; topic <= KAFKA_REPLIES; topic++)
        kafka_add_partitions(uri, (enum kafka_topic)topic, 3);
    check_says(uri, 2, ".journal", "partitions", "3", "power of two");
}

static void test_topic_missing(void **state)
{
    char uri[256], text[1024];
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    kafka_make(uri, 1);
    kafka_delete_topic(uri, KAFKA_REPLIES);
    check_says(uri, 2, ".replies", "missing", NULL, NULL);
    /* Nothing of it was unique: create makes it again. */
    assert_int_equal(kafka_namespace_create(uri, 1, true, text, sizeof text), 0);
    check_says(uri, 0, "all settings are right", NULL, NULL, NULL);
}

static void test_made_anew_under_our_feet(void **state)
{
    char uri[256], text[1024];
    struct heard heard;
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    kafka_make(uri, 1);
    struct log *log = kafka_open(uri, "one", &heard);
    uint64_t log_id = log->genesis.log_id;
    for (uint64_t i = 0; i < 5; i++)
        assert_int_equal(kafka_put(&heard, LOG_JOURNAL, 0, "x", i), LOG_OK);
    assert_int_equal(log->operations->follow(log, LOG_JOURNAL, 0, 0), LOG_OK);
    KAFKA_UNTIL(&heard, 10000, heard.ends[LOG_JOURNAL][0] == 6);
    kafka_delete_topic(uri, KAFKA_JOURNAL);
    if (kafka_namespace_create(uri, 1, true, text, sizeof text) != 0)
        fail_msg("%s", text);
    KAFKA_UNTIL(&heard, 60000, heard.faults[LOG_FATAL] >= 1);
    print_message("%s\n", heard.fault_text);
    assert_non_null(strstr(heard.fault_text, ".journal"));
    kafka_close_log(&heard);
    log = kafka_open(uri, "one", &heard);
    assert_true(log->genesis.log_id != log_id);
    kafka_close_log(&heard);
}

static void test_deleted_under_our_feet(void **state)
{
    char uri[256];
    struct heard heard;
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    kafka_make(uri, 1);
    struct log *log = kafka_open(uri, "one", &heard);
    assert_int_equal(log->operations->follow(log, LOG_JOURNAL, 0, 0), LOG_OK);
    KAFKA_UNTIL(&heard, 10000, heard.ends[LOG_JOURNAL][0] == 1);
    kafka_delete_topic(uri, KAFKA_JOURNAL);
    assert_int_equal(kafka_put(&heard, LOG_JOURNAL, 0, "x", 1), LOG_OK);
    KAFKA_UNTIL(&heard, 60000, heard.faults[LOG_FATAL] >= 1);
    print_message("%s\n", heard.fault_text);
    kafka_close_log(&heard);
}

static void test_no_broker(void **state)
{
    char text[1024] = "";
    const struct log_options options = { .client_name = "test" };
    struct log *log = NULL;
    (void)state;
    int64_t begin = kafka_monotonic_ms();
    assert_int_equal(kafka_log_open("kafka://127.0.0.1:9/shop", &options, &log, text, sizeof text), 5);
    assert_null(log);
    assert_non_null(strstr(text, "127.0.0.1:9"));
    print_message("%s\n", text);
    assert_true(kafka_monotonic_ms() - begin < 60000);
    assert_int_equal(kafka_namespace_create("kafka://127.0.0.1:9/shop", 1, true, text, sizeof text), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create_twice),       cmocka_unit_test(test_wrong_settings),
        cmocka_unit_test(test_partitions_changed), cmocka_unit_test(test_topic_missing),
        cmocka_unit_test(test_made_anew_under_our_feet), cmocka_unit_test(test_deleted_under_our_feet),
        cmocka_unit_test(test_no_broker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
