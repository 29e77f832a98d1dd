/* Reading and writing a namespace of a real Kafka. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kafka_test.h"

static void test_produce_and_read_back(void **state)
{
    char uri[256];
    struct heard heard;
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    kafka_make(uri, 4);
    struct log *log = kafka_open(uri, "one", &heard);
    assert_int_equal(log->genesis.partitions, 4);
    assert_true(log->genesis.log_id != 0);
    int64_t start, end;
    assert_int_equal(log->operations->bounds(log, LOG_JOURNAL, 2, &start, &end), LOG_OK);
    assert_int_equal(start, 0);
    assert_int_equal(end, 1);
    assert_int_equal(log->operations->follow(log, LOG_JOURNAL, 2, 0), LOG_OK);
    KAFKA_UNTIL(&heard, 10000, heard.ends[LOG_JOURNAL][2] == 1);
    assert_int_equal(heard.count, 1); /* Genesis */
    int64_t before = kafka_wall_ms();
    assert_int_equal(kafka_put(&heard, LOG_JOURNAL, 2, "hello", 7), LOG_OK);
    KAFKA_UNTIL(&heard, 10000, heard.count == 2 && heard.reports[LOG_PERSISTED] == 1 && heard.ends[LOG_JOURNAL][2] == 2);
    assert_int_equal(heard.last_cookie, 7);
    assert_int_equal(heard.last_offset, 1);
    assert_string_equal(heard.records[1].text, "hello");
    assert_int_equal(heard.records[1].offset, 1);
    assert_true(heard.records[1].append_ms >= before - 1000 && heard.records[1].append_ms < before + 10000);
    assert_int_equal(kafka_put(&heard, LOG_INBOX, 3, "signal", 8), LOG_OK);
    KAFKA_UNTIL(&heard, 10000, heard.reports[LOG_PERSISTED] == 2);
    assert_int_equal(log->operations->follow(log, LOG_INBOX, 3, 0), LOG_OK);
    KAFKA_UNTIL(&heard, 10000, heard.count == 3 && heard.ends[LOG_INBOX][3] == 1);
    /* Again from the beginning, while following. */
    assert_int_equal(log->operations->follow(log, LOG_JOURNAL, 2, 0), LOG_OK);
    KAFKA_UNTIL(&heard, 10000, heard.count == 5 && heard.ends[LOG_JOURNAL][2] == 2);
    assert_int_equal(heard.records[3].offset, 0);
    assert_int_equal(log->operations->unfollow(log, LOG_JOURNAL, 2), LOG_OK);
    assert_int_equal(kafka_put(&heard, LOG_JOURNAL, 2, "unheard", 9), LOG_OK);
    kafka_poll_for(&heard, 300);
    assert_int_equal(heard.count, 5);
    kafka_close_log(&heard);
}

static void test_order_and_budget(void **state)
{
    char uri[256], text[32];
    struct heard heard;
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    kafka_make(uri, 2);
    struct log *log = kafka_open(uri, "one", &heard);
    for (uint32_t p = 0; p < 2; p++)
        assert_int_equal(log->operations->follow(log, LOG_JOURNAL, p, 1), LOG_OK);
    size_t full = 0, sent = 0;
    const size_t wanted = 40000;
    while (sent < wanted) {
        snprintf(text, sizeof text, "%zu", sent);
        int result = kafka_put(&heard, LOG_JOURNAL, (uint32_t)(sent % 2), text, sent);
        if (result == LOG_OK)
            sent++;
        else
            assert_int_equal(result, LOG_FULL);
        if (result == LOG_FULL && ++full)
            log->operations->poll(log, 10);
    }
    assert_true(full > 0); /* more than two lanes hold */
    KAFKA_UNTIL(&heard, 30000, heard.reports[LOG_PERSISTED] == wanted && heard.count == wanted);
    size_t next[2] = { 0, 1 };
    for (size_t i = 0; i < wanted; i++) {
        struct heard_record *record = &heard.records[i];
        snprintf(text, sizeof text, "%zu", next[record->partition]);
        assert_string_equal(record->text, text);
        next[record->partition] += 2;
    }
    KAFKA_UNTIL(&heard, 5000, heard.ends[LOG_JOURNAL][0] == (int64_t)wanted / 2 + 1);
    kafka_close_log(&heard);
}

/* Following again from another place while records stream in: nothing is skipped, nothing comes out of order. */
static void test_follow_again(void **state)
{
    char uri[256], text[32];
    struct heard heard;
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    kafka_make(uri, 1);
    struct log *log = kafka_open(uri, "one", &heard);
    const size_t wanted = 20000;
    for (size_t sent = 0; sent < wanted;) {
        snprintf(text, sizeof text, "%zu", sent);
        if (kafka_put(&heard, LOG_JOURNAL, 0, text, sent) == LOG_OK)
            sent++;
        else
            log->operations->poll(log, 10);
    }
    KAFKA_UNTIL(&heard, 30000, heard.reports[LOG_PERSISTED] == wanted);
    for (int round = 0; round < 20; round++) {
        int64_t from = 1 + (int64_t)(kafka_random() % wanted);
        size_t begin = heard.count;
        size_t enough = begin + kafka_random() % 3000;
        assert_int_equal(log->operations->follow(log, LOG_JOURNAL, 0, from), LOG_OK);
        int64_t last = (int64_t)wanted + 1;
        KAFKA_UNTIL(&heard, 10000, heard.count > enough || heard.ends[LOG_JOURNAL][0] == last);
        for (size_t i = begin; i < heard.count; i++)
            assert_int_equal(heard.records[i].offset, from + (int64_t)(i - begin));
        heard.ends[LOG_JOURNAL][0] = -1;
    }
    kafka_close_log(&heard);
}

static void test_oversize(void **state)
{
    char uri[256];
    struct heard heard;
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    kafka_make(uri, 1);
    struct log *log = kafka_open(uri, "one", &heard);
    char *big = malloc(RECORD_LIMIT_BYTES + 2);
    memset(big, 'x', RECORD_LIMIT_BYTES + 2);
    big[RECORD_LIMIT_BYTES + 1] = '\0';
    assert_int_equal(kafka_put(&heard, LOG_INBOX, 0, big, 1), LOG_FAILED);
    assert_non_null(strstr(log->error, "1000001"));
    big[RECORD_LIMIT_BYTES] = '\0';
    assert_int_equal(kafka_put(&heard, LOG_INBOX, 0, big, 2), LOG_OK);
    KAFKA_UNTIL(&heard, 10000, heard.reports[LOG_PERSISTED] == 1);
    assert_int_equal(log->operations->follow(log, LOG_INBOX, 0, 0), LOG_OK);
    KAFKA_UNTIL(&heard, 10000, heard.count == 1);
    assert_int_equal(heard.records[0].size, RECORD_LIMIT_BYTES);
    free(big);
    kafka_close_log(&heard);
}

static void test_wake(void **state)
{
    char uri[256];
    struct heard heard;
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    kafka_make(uri, 1);
    struct log *log = kafka_open(uri, NULL, &heard);
    kafka_poll_for(&heard, 200);
    int64_t before = kafka_monotonic_ms();
    log->operations->wake(log);
    log->operations->poll(log, 60000);
    assert_true(kafka_monotonic_ms() - before < 50000);
    before = kafka_monotonic_ms();
    log->operations->poll(log, 300);
    assert_true(kafka_monotonic_ms() - before >= 250);
    kafka_close_log(&heard);
}

static void test_replies(void **state)
{
    char uri[256];
    struct heard worker, client, other;
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    kafka_make(uri, 4);
    struct log *log = kafka_open(uri, "one", &worker);
    struct log *asks = kafka_open(uri, NULL, &client);
    struct log *listens = kafka_open(uri, NULL, &other);
    ReplyTo to = PERDURE__V1__REPLY_TO__INIT, elsewhere = PERDURE__V1__REPLY_TO__INIT;
    assert_int_equal(asks->operations->reply_address(asks, &to), LOG_OK);
    assert_int_equal(listens->operations->reply_address(listens, &elsewhere), LOG_OK);
    assert_true(to.client != 0 && to.client != elsewhere.client);
    to.correlation = 42;
    Reply reply = PERDURE__V1__REPLY__INIT;
    reply.answer = (char *)"accepted";
    assert_int_equal(log->operations->reply(log, &to, &reply), LOG_OK);
    KAFKA_UNTIL(&client, 10000, (log->operations->poll(log, 0), client.replies == 1));
    assert_int_equal(client.last_correlation, 42);
    assert_string_equal(client.last_answer, "accepted");
    kafka_poll_for(&other, 200);
    assert_int_equal(other.replies, 0);
    to.partition = 99;
    assert_int_equal(log->operations->reply(log, &to, &reply), LOG_FAILED);
    kafka_close_log(&client);
    kafka_close_log(&other);
    kafka_close_log(&worker);
}

static bool count_status(void *context, const char *key, const void *data, size_t size)
{
    char *all = context;
    snprintf(all + strlen(all), 256 - strlen(all), "%s=%.*s ", key, (int)size, (const char *)data);
    return true;
}

static void test_statuses(void **state)
{
    char uri[256], all[256] = "";
    struct heard heard;
    void *data;
    size_t size;
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    kafka_make(uri, 4);
    struct log *log = kafka_open(uri, "one", &heard);
    assert_int_equal(log->operations->get_status(log, "a", &data, &size), LOG_NOT_FOUND);
    assert_int_equal(log->operations->put_status(log, "a", "1", 1, NULL), LOG_OK);
    assert_int_equal(log->operations->put_status(log, "b", "2", 1, NULL), LOG_OK);
    assert_int_equal(log->operations->put_status(log, "a", "3", 1, NULL), LOG_OK);
    assert_int_equal(log->operations->put_status(log, "type:shop:1", "module", 6, NULL), LOG_OK);
    KAFKA_UNTIL(&heard, 10000, !kafka_has_aside(kafka_log_of(log)));
    assert_int_equal(log->operations->get_status(log, "a", &data, &size), LOG_OK);
    assert_int_equal(size, 1);
    assert_memory_equal(data, "3", 1);
    free(data);
    assert_int_equal(log->operations->each_status(log, "", count_status, all), LOG_OK);
    assert_string_equal(all, "a=3 b=2 ");
    all[0] = '\0';
    assert_int_equal(log->operations->each_status(log, "type:", count_status, all), LOG_OK);
    assert_string_equal(all, "type:shop:1=module ");
    kafka_close_log(&heard);
}

static void put_status_of(struct log *log, const char *state, int64_t claim, int64_t updated, uint64_t events)
{
    Status status = PERDURE__V1__STATUS__INIT;
    uint8_t bytes[128];
    status.id = (char *)"job";
    status.state = (char *)(uintptr_t)state;
    status.claim = claim;
    status.updated = updated;
    status.events = events;
    size_t size = perdure__v1__status__pack(&status, bytes);
    assert_int_equal(log->operations->put_status(log, "job", bytes, size, NULL), LOG_OK);
}

static bool show_state(void *context, const char *key, const void *data, size_t size)
{
    Status *status = status_decode(data, size);
    (void)key;
    assert_non_null(status);
    snprintf(context, 64, "%s", status->state);
    status_free(status);
    return true;
}

static void assert_seen(struct heard *heard, const char *state)
{
    char seen[64] = "";
    void *data;
    size_t size;
    KAFKA_UNTIL(heard, 10000, !kafka_has_aside(kafka_log_of(heard->log)));
    assert_int_equal(heard->log->operations->get_status(heard->log, "job", &data, &size), LOG_OK);
    show_state(seen, "job", data, size);
    free(data);
    assert_string_equal(seen, state);
}

/* H26: a worker that was stopped wakes up and sends what it had to say before another went on with the job. */
static void test_late_status(void **state)
{
    char uri[256], listed[64] = "";
    struct heard heard;
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    kafka_make(uri, 1);
    struct log *log = kafka_open(uri, "one", &heard);
    put_status_of(log, "waiting", 7, 1000, 0);
    put_status_of(log, "completed", 9, 2000, 0);
    put_status_of(log, "running", 7, 1500, 0);
    assert_seen(&heard, "completed");
    assert_int_equal(log->operations->each_status(log, "", show_state, listed), LOG_OK);
    assert_string_equal(listed, "completed");
    /* A journal that was cut off begins again with lower claims: what is later is newer. */
    put_status_of(log, "waiting", 3, 3000, 0);
    assert_seen(&heard, "waiting");
    /* Its slot moved: the claims are those of two journals. */
    put_status_of(log, "completed", 1, 4000, 9);
    put_status_of(log, "running", 500, 3500, 7);
    assert_seen(&heard, "completed");
    kafka_close_log(&heard);
}

static void test_dead_and_trim(void **state)
{
    char uri[256], text[32];
    struct heard heard;
    int64_t start, end;
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    kafka_make(uri, 1);
    struct log *log = kafka_open(uri, "one", &heard);
    for (uint64_t i = 0; i < 10; i++) {
        snprintf(text, sizeof text, "%d", (int)i);
        assert_int_equal(kafka_put(&heard, LOG_INBOX, 0, text, i), LOG_OK);
    }
    const struct log_record bad = { .stream = LOG_INBOX, .offset = 3, .data = "3", .size = 1 };
    assert_int_equal(log->operations->dead(log, &bad, "cannot be read"), LOG_OK);
    KAFKA_UNTIL(&heard, 10000, heard.reports[LOG_PERSISTED] == 10);
    assert_int_equal(log->operations->trim(log, LOG_INBOX, 0, 4), LOG_OK);
    assert_int_equal(log->operations->trim(log, LOG_INBOX, 0, 7), LOG_OK);
    KAFKA_UNTIL(&heard, 10000, log->operations->bounds(log, LOG_INBOX, 0, &start, &end) == LOG_OK && start == 7);
    assert_int_equal(end, 10);
    assert_int_equal(log->operations->follow(log, LOG_INBOX, 0, 2), LOG_OK);
    KAFKA_UNTIL(&heard, 10000, heard.faults[LOG_OUT_OF_RANGE] == 1);
    assert_int_equal(heard.count, 0);
    assert_int_equal(log->operations->follow(log, LOG_INBOX, 0, 7), LOG_OK);
    KAFKA_UNTIL(&heard, 10000, heard.count == 3);
    /* Above the end: somebody cut it off. */
    assert_int_equal(log->operations->follow(log, LOG_JOURNAL, 0, 1000), LOG_OK);
    KAFKA_UNTIL(&heard, 10000, heard.faults[LOG_TRUNCATED] == 1);
    /* An inbox is just shorter: where it ends is told. */
    heard.ends[LOG_INBOX][0] = -1;
    assert_int_equal(log->operations->follow(log, LOG_INBOX, 0, 1000), LOG_OK);
    KAFKA_UNTIL(&heard, 10000, heard.ends[LOG_INBOX][0] == 10);
    assert_int_equal(heard.faults[LOG_TRUNCATED], 1);
    kafka_close_log(&heard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_produce_and_read_back), cmocka_unit_test(test_order_and_budget),
        cmocka_unit_test(test_follow_again),          cmocka_unit_test(test_oversize),
        cmocka_unit_test(test_wake),                  cmocka_unit_test(test_replies),
        cmocka_unit_test(test_statuses),              cmocka_unit_test(test_late_status),
        cmocka_unit_test(test_dead_and_trim),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
