/* Errors that a real broker makes rarely, by librdkafka's broker inside the process. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kafka_test.h"

#include <librdkafka/rdkafka_mock.h> /* wants rdkafka.h before it */

#define PRODUCE_REQUEST 0

struct mock {
    rd_kafka_t *client;
    rd_kafka_mock_cluster_t *cluster;
    struct kafka_uri uri;
    struct heard heard;
};

/* Opens a log on one mock broker; `timeout_ms` stands for the five minutes that a message has. */
static void mock_open(struct mock *mock, const char *timeout_ms)
{
    char error[512] = "", text[600];
    memset(mock, 0, sizeof *mock);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "log_level", "0", NULL, 0);
    mock->client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
    assert_non_null(mock->client);
    mock->cluster = rd_kafka_mock_cluster_new(mock->client, 1);
    assert_non_null(mock->cluster);
    snprintf(text, sizeof text, "kafka://%s/mock", rd_kafka_mock_cluster_bootstraps(mock->cluster));
    assert_true(kafka_uri_parse(&mock->uri, text, error, sizeof error));
    assert_true(kafka_settings_force(mock->uri.settings, "message.timeout.ms", timeout_ms));
    struct kafka_shape shape = { .brokers = 1 };
    for (int topic = 0; topic < KAFKA_TOPICS; topic++) {
        char name[KAFKA_TOPIC_NAME_BYTES];
        kafka_topic_name(&mock->uri, (enum kafka_topic)topic, name, sizeof name);
        assert_int_equal(rd_kafka_mock_topic_create(mock->cluster, name, 2, 1), RD_KAFKA_RESP_ERR_NO_ERROR);
        shape.partitions[topic] = 2;
    }
    Genesis genesis = PERDURE__V1__GENESIS__INIT;
    genesis.log_id = 1;
    genesis.partitions = 2;
    const struct log_options options = { .client_name = "test", .member = "one" };
    struct kafka_log *log = NULL;
    if (kafka_log_open_as(&mock->uri, &options, &genesis, &shape, &log, error, sizeof error) != 0)
        fail_msg("%s", error);
    kafka_listen(&log->base, &mock->heard);
}

static void mock_close(struct mock *mock)
{
    kafka_close_log(&mock->heard);
    rd_kafka_mock_cluster_destroy(mock->cluster);
    rd_kafka_destroy(mock->client);
    kafka_uri_free(&mock->uri);
}

static struct kafka_log *mock_log(struct mock *mock)
{
    return kafka_log_of(mock->heard.log);
}

static void test_passing_errors(void **state)
{
    struct mock mock;
    struct heard *heard = &mock.heard;
    char text[16];
    (void)state;
    mock_open(&mock, "300000");
    assert_int_equal(heard->log->operations->follow(heard->log, LOG_JOURNAL, 0, 0), LOG_OK);
    static const rd_kafka_resp_err_t errors[] = {
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR__TRANSPORT,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    };
    /* One at a time: the mock does not refuse a batch behind a failed one, as brokers do. */
    for (uint64_t i = 0; i < 4; i++) {
        rd_kafka_mock_push_request_errors_array(mock.cluster, PRODUCE_REQUEST, 1, &errors[i]);
        snprintf(text, sizeof text, "%d", (int)i);
        assert_int_equal(kafka_put(heard, LOG_JOURNAL, 0, text, i), LOG_OK);
        KAFKA_UNTIL(heard, 20000, heard->reports[LOG_PERSISTED] == i + 1 && heard->count == i + 1);
        assert_string_equal(heard->records[i].text, text);
    }
    mock_close(&mock);
}

/* The broker has it, but the producer cannot know: its retry was called a duplicate. */
static void test_duplicate_has_no_offset(void **state)
{
    struct mock mock;
    struct heard *heard = &mock.heard;
    (void)state;
    mock_open(&mock, "300000");
    assert_int_equal(kafka_put(heard, LOG_JOURNAL, 0, "first", 1), LOG_OK);
    KAFKA_UNTIL(heard, 10000, heard->reports[LOG_PERSISTED] == 1);
    assert_int_equal(heard->last_offset, 0);
    rd_kafka_mock_push_request_errors(mock.cluster, PRODUCE_REQUEST, 1, RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER);
    assert_int_equal(kafka_put(heard, LOG_JOURNAL, 0, "second", 2), LOG_OK);
    KAFKA_UNTIL(heard, 10000, heard->reports[LOG_PERSISTED] == 2);
    assert_int_equal(heard->last_offset, -1);
    mock_close(&mock);
}

/* H35. The first batch fails, a leader that knows nothing of its producer takes the second (the mock judges no sequence, as a
 * real one judges none of a producer that is new to it), and librdkafka concludes that the first was persisted. */
static void test_acknowledged_and_lost(void **state)
{
    struct mock mock;
    struct heard *heard = &mock.heard;
    (void)state;
    mock_open(&mock, "300000");
    assert_int_equal(heard->log->operations->follow(heard->log, LOG_INBOX, 0, 0), LOG_OK);
    rd_kafka_mock_broker_set_rtt(mock.cluster, 1, 300);
    rd_kafka_mock_push_request_errors(mock.cluster, PRODUCE_REQUEST, 1, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION);
    assert_int_equal(kafka_put(heard, LOG_INBOX, 0, "first", 1), LOG_OK);
    kafka_poll_for(heard, 100);
    assert_int_equal(kafka_put(heard, LOG_INBOX, 0, "second", 2), LOG_OK);
    KAFKA_UNTIL(heard, 15000, heard->reports[LOG_PERSISTED] == 2);
    assert_int_equal(heard->arrived, 1);
    KAFKA_UNTIL(heard, 15000, heard->ends[LOG_INBOX][0] == 1);
    assert_int_equal(heard->count, 1);
    assert_string_equal(heard->records[0].text, "second");
    rd_kafka_mock_broker_set_rtt(mock.cluster, 1, 0);
    mock_close(&mock);
}

/* Sent, and no answer within the time that a message has. */
static void test_timeout_in_flight_is_doubt(void **state)
{
    struct mock mock;
    struct heard *heard = &mock.heard;
    (void)state;
    mock_open(&mock, "1500");
    assert_int_equal(kafka_put(heard, LOG_JOURNAL, 0, "first", 1), LOG_OK);
    KAFKA_UNTIL(heard, 10000, heard->reports[LOG_PERSISTED] == 1);
    rd_kafka_mock_broker_set_rtt(mock.cluster, 1, 6000);
    assert_int_equal(kafka_put(heard, LOG_JOURNAL, 0, "second", 2), LOG_OK);
    KAFKA_UNTIL(heard, 15000, heard->reports[LOG_POSSIBLY_PERSISTED] == 1);
    assert_int_equal(heard->reports[LOG_NOT_PERSISTED], 0);
    assert_int_equal(heard->last_offset, -1);
    rd_kafka_mock_broker_set_rtt(mock.cluster, 1, 0);
    mock_close(&mock);
}

static void test_never_sent_is_not_persisted(void **state)
{
    struct mock mock;
    struct heard *heard = &mock.heard;
    (void)state;
    mock_open(&mock, "1500");
    assert_int_equal(kafka_put(heard, LOG_JOURNAL, 0, "first", 1), LOG_OK);
    KAFKA_UNTIL(heard, 10000, heard->reports[LOG_PERSISTED] == 1);
    rd_kafka_mock_broker_set_down(mock.cluster, 1);
    KAFKA_UNTIL(heard, 10000, heard->faults[LOG_UNREACHABLE] == 1);
    assert_int_equal(kafka_put(heard, LOG_JOURNAL, 0, "second", 2), LOG_OK);
    KAFKA_UNTIL(heard, 15000, heard->reports[LOG_NOT_PERSISTED] == 1);
    mock_close(&mock);
}

/* All of a partition are shown again at the first that is lost: it is told once for each. */
static void test_lost_statuses(void **state)
{
    struct mock mock;
    struct heard *heard = &mock.heard;
    (void)state;
    mock_open(&mock, "3000"); /* longer than it takes to put all */
    struct log *log = heard->log;
    assert_int_equal(kafka_put(heard, LOG_JOURNAL, 0, "first", 1), LOG_OK);
    KAFKA_UNTIL(heard, 10000, heard->reports[LOG_PERSISTED] == 1);
    rd_kafka_mock_broker_set_down(mock.cluster, 1);
    KAFKA_UNTIL(heard, 10000, heard->faults[LOG_UNREACHABLE] == 1);
    for (int64_t i = 0; i < 6; i++) {
        const struct log_place of = { (uint32_t)(i % 2), 20 - i };
        assert_int_equal(log->operations->put_status(log, "job", "x", 1, &of), LOG_OK);
        kafka_poll_for(heard, 300); /* they time out one after the other */
    }
    assert_int_equal(log->operations->put_status(log, "gone", NULL, 0, NULL), LOG_OK);
    assert_int_equal(log->operations->unshown(log, 0), 16);
    assert_int_equal(log->operations->unshown(log, 1), 15);
    KAFKA_UNTIL(heard, 15000, !mock_log(&mock)->unshown);
    assert_int_equal(heard->faults[LOG_STATUS_LOST], 2);
    assert_int_equal(heard->rows_lost, 1);
    assert_string_equal(heard->lost_text, "gone");
    const struct log_record letter = { .stream = LOG_INBOX, .partition = 1, .offset = 7, .data = "bytes", .size = 5 };
    assert_int_equal(log->operations->dead(log, &letter, "why"), LOG_OK);
    KAFKA_UNTIL(heard, 15000, heard->dead_lost == 1);
    assert_string_equal(heard->lost_text, "1/7 bytes why");
    assert_int_equal(log->operations->unshown(log, 0), INT64_MAX);
    mock_close(&mock);
}

/* The next leader is chosen a while after the client has heard of the dead one. */
static void *leader_moves(void *cluster)
{
    usleep(1500000);
    rd_kafka_mock_partition_set_leader(cluster, "leads", 0, 1);
    return NULL;
}

/* A client that comes when a broker has just died is told of it as the leader; it asks the next one. */
static void test_leader_has_just_died(void **state)
{
    struct kafka_uri uri;
    struct kafka_notes notes;
    char error[512] = "", text[600];
    int64_t end = -1;
    pthread_t mover;
    (void)state;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "log_level", "0", NULL, 0);
    rd_kafka_t *client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
    rd_kafka_mock_cluster_t *cluster = rd_kafka_mock_cluster_new(client, 2);
    assert_int_equal(rd_kafka_mock_topic_create(cluster, "leads", 1, 2), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_mock_partition_set_leader(cluster, "leads", 0, 2);
    rd_kafka_mock_broker_set_down(cluster, 2);
    snprintf(text, sizeof text, "kafka://%s/mock", rd_kafka_mock_cluster_bootstraps(cluster));
    assert_true(kafka_uri_parse(&uri, text, error, sizeof error));
    kafka_notes_init(&notes);
    rd_kafka_t *scanner = kafka_scanner_new(&uri, &notes, error, sizeof error);
    assert_non_null(scanner);
    assert_int_equal(pthread_create(&mover, NULL, leader_moves, cluster), 0);
    assert_int_equal(kafka_ask_offset(scanner, "leads", 0, RD_KAFKA_OFFSET_END, true, 20000, &end), RD_KAFKA_RESP_ERR_NO_ERROR);
    assert_int_equal(end, 0);
    pthread_join(mover, NULL);
    rd_kafka_destroy_flags(scanner, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(client);
    kafka_notes_free(&notes);
    kafka_uri_free(&uri);
}

static void test_unreachable_is_told_once(void **state)
{
    struct mock mock;
    struct heard *heard = &mock.heard;
    (void)state;
    mock_open(&mock, "300000");
    assert_int_equal(heard->log->operations->follow(heard->log, LOG_JOURNAL, 0, 0), LOG_OK);
    for (uint64_t round = 1; round <= 3; round++) {
        assert_int_equal(kafka_put(heard, LOG_JOURNAL, 0, "up", 2 * round), LOG_OK);
        KAFKA_UNTIL(heard, 10000, heard->reports[LOG_PERSISTED] == 2 * round - 1 && heard->count == 2 * round - 1);
        rd_kafka_mock_broker_set_down(mock.cluster, 1);
        KAFKA_UNTIL(heard, 10000, heard->faults[LOG_UNREACHABLE] == round);
        assert_non_null(strstr(heard->fault_text, mock.uri.brokers));
        assert_int_equal(kafka_put(heard, LOG_JOURNAL, 0, "down", 2 * round + 1), LOG_OK);
        kafka_poll_for(heard, 2500);
        assert_int_equal(heard->faults[LOG_UNREACHABLE], round);
        rd_kafka_mock_broker_set_up(mock.cluster, 1);
        KAFKA_UNTIL(heard, 10000, heard->reports[LOG_PERSISTED] == 2 * round && heard->count == 2 * round);
    }
    mock_close(&mock);
}

/* Hazard 10: with appends in flight the producer fails for good. */
static void test_producer_replaced(void **state)
{
    struct mock mock;
    struct heard *heard = &mock.heard;
    (void)state;
    mock_open(&mock, "300000");
    assert_int_equal(kafka_put(heard, LOG_JOURNAL, 0, "first", 1), LOG_OK);
    KAFKA_UNTIL(heard, 10000, heard->reports[LOG_PERSISTED] == 1);
    rd_kafka_mock_broker_set_rtt(mock.cluster, 1, 3000);
    for (uint64_t i = 2; i < 7; i++)
        assert_int_equal(kafka_put(heard, LOG_JOURNAL, i % 2, "x", i), LOG_OK);
    assert_int_equal(heard->log->operations->put_status(heard->log, "gone", NULL, 0, NULL), LOG_OK);
    kafka_poll_for(heard, 300);
    rd_kafka_test_fatal_error(mock_log(&mock)->producer, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "for the test");
    KAFKA_UNTIL(heard, 10000, heard->faults[LOG_PRODUCER_REPLACED] == 1);
    rd_kafka_mock_broker_set_rtt(mock.cluster, 1, 0);
    KAFKA_UNTIL(heard, 10000, heard->reports[LOG_POSSIBLY_PERSISTED] + heard->reports[LOG_NOT_PERSISTED] == 5);
    assert_true(heard->reports[LOG_POSSIBLY_PERSISTED] > 0);
    assert_null(mock_log(&mock)->in_flight);
    assert_null(mock_log(&mock)->unshown);
    assert_int_equal(heard->rows_lost, 1);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(mock_log(&mock)->lanes[i].count, 0);
    assert_int_equal(kafka_put(heard, LOG_JOURNAL, 0, "again", 8), LOG_OK);
    KAFKA_UNTIL(heard, 15000, heard->reports[LOG_PERSISTED] == 2);
    assert_int_equal(heard->faults[LOG_PRODUCER_REPLACED], 1);
    mock_close(&mock);
}

/* The broker says that sequence numbers are out of order: whatever librdkafka makes of it, each append has one report
 * and the log goes on. */
static void test_out_of_order_sequence(void **state)
{
    struct mock mock;
    struct heard *heard = &mock.heard;
    (void)state;
    mock_open(&mock, "300000");
    assert_int_equal(kafka_put(heard, LOG_JOURNAL, 0, "first", 0), LOG_OK);
    KAFKA_UNTIL(heard, 10000, heard->reports[LOG_PERSISTED] == 1);
    rd_kafka_mock_push_request_errors(mock.cluster, PRODUCE_REQUEST, 1, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    for (uint64_t i = 1; i < 6; i++)
        assert_int_equal(kafka_put(heard, LOG_JOURNAL, 0, "x", i), LOG_OK);
    KAFKA_UNTIL(heard, 30000, heard->reports[0] + heard->reports[1] + heard->reports[2] == 6);
    assert_int_equal(heard->reports[LOG_PERSISTED] < 6, heard->faults[LOG_PRODUCER_REPLACED] == 1);
    assert_int_equal(kafka_put(heard, LOG_JOURNAL, 0, "again", 8), LOG_OK);
    KAFKA_UNTIL(heard, 15000, heard->by_cookie[8] == LOG_PERSISTED);
    mock_close(&mock);
}

/* One partition without answers must not take the room of the other (H28, hazard 21). */
static void test_budget_of_a_partition(void **state)
{
    struct mock mock;
    struct heard *heard = &mock.heard;
    (void)state;
    mock_open(&mock, "300000");
    rd_kafka_mock_broker_set_down(mock.cluster, 1);
    int result = LOG_OK;
    uint64_t sent = 0;
    for (; result == LOG_OK; sent++)
        result = kafka_put(heard, LOG_JOURNAL, 0, "x", sent);
    assert_int_equal(result, LOG_FULL);
    assert_int_equal(sent - 1, APPENDS_IN_FLIGHT_LIMIT);
    assert_int_equal(kafka_put(heard, LOG_JOURNAL, 1, "x", sent), LOG_OK);
    rd_kafka_mock_broker_set_up(mock.cluster, 1);
    KAFKA_UNTIL(heard, 20000, heard->reports[LOG_PERSISTED] == sent);
    assert_int_equal(kafka_put(heard, LOG_JOURNAL, 0, "x", sent + 1), LOG_OK);
    mock_close(&mock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_passing_errors),
        cmocka_unit_test(test_duplicate_has_no_offset),
        cmocka_unit_test(test_acknowledged_and_lost),
        cmocka_unit_test(test_timeout_in_flight_is_doubt),
        cmocka_unit_test(test_never_sent_is_not_persisted),
        cmocka_unit_test(test_lost_statuses),
        cmocka_unit_test(test_leader_has_just_died),
        cmocka_unit_test(test_unreachable_is_told_once),
        cmocka_unit_test(test_producer_replaced),
        cmocka_unit_test(test_out_of_order_sequence),
        cmocka_unit_test(test_budget_of_a_partition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
