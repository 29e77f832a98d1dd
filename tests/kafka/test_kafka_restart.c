/* Brokers that die and come back under load: what was acknowledged is there, in order. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kafka_test.h"

#define PARTITIONS 4
#define IN_FLIGHT 400

static char folder[64] = "/tmp/perdure-kafka-XXXXXX";
static char brokers[256];

static int cluster(const char *verb, const char *argument)
{
    char command[1024];
    const char *source = getenv("PERDURE_SOURCE");
    snprintf(command, sizeof command, "bash %s/tests/kafka/cluster %s %s %s >%s/said 2>%s/complained", source ? source : ".",
             verb, folder, argument, folder, folder);
    return system(command);
}

static int start_cluster(void **state)
{
    char path[128];
    (void)state;
    if (!mkdtemp(folder) || cluster("start", "--brokers 3") != 0)
        return -1;
    snprintf(path, sizeof path, "%s/said", folder);
    FILE *said = fopen(path, "r");
    if (!said || !fgets(brokers, sizeof brokers, said))
        return -1;
    fclose(said);
    brokers[strcspn(brokers, "\n")] = '\0';
    return 0;
}

static int stop_cluster(void **state)
{
    char command[128];
    (void)state;
    cluster("stop", "");
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

struct load {
    struct heard heard;
    uint64_t sent;
};

static void load_for(struct load *load, int64_t ms)
{
    char text[32];
    int64_t deadline = kafka_monotonic_ms() + ms;
    while (kafka_monotonic_ms() < deadline) {
        const size_t *reports = load->heard.reports;
        while (load->sent - (reports[0] + reports[1] + reports[2]) < IN_FLIGHT) {
            snprintf(text, sizeof text, "%" PRIu64, load->sent);
            if (kafka_put(&load->heard, LOG_JOURNAL, (uint32_t)(load->sent % PARTITIONS), text, load->sent) != LOG_OK)
                break;
            load->sent++;
        }
        load->heard.log->operations->poll(load->heard.log, 5);
    }
}

/* Everything acknowledged is there, once and in order, as long as the producer was not replaced. */
static void check_complete(struct load *load)
{
    struct heard *heard = &load->heard;
    bool *there = calloc(load->sent, sizeof *there);
    int64_t last[PARTITIONS] = { -1, -1, -1, -1 };
    for (size_t i = 0; i < heard->count; i++) {
        if (strncmp(heard->records[i].text, "PDR", 3) == 0)
            continue;
        int64_t number = strtoll(heard->records[i].text, NULL, 10);
        assert_in_range(number, 0, load->sent - 1);
        if (heard->faults[LOG_PRODUCER_REPLACED] == 0)
            assert_true(number > last[heard->records[i].partition]);
        last[heard->records[i].partition] = number;
        there[number] = true;
    }
    for (uint64_t i = 0; i < load->sent; i++)
        if (heard->by_cookie[i] == LOG_PERSISTED && !there[i])
            fail_msg("append %" PRIu64 " was acknowledged and is not there", i);
    free(there);
}

static void test_brokers_die_under_load(void **state)
{
    struct load load = { .sent = 0 };
    char uri[320], text[1024];
    (void)state;
    snprintf(uri, sizeof uri, "kafka://%s/shop", brokers);
    if (kafka_namespace_create(uri, PARTITIONS, false, text, sizeof text) != 0)
        fail_msg("%s", text);
    struct log *log = kafka_open(uri, "one", &load.heard);
    for (uint32_t p = 0; p < PARTITIONS; p++)
        assert_int_equal(log->operations->follow(log, LOG_JOURNAL, p, 0), LOG_OK);
    load_for(&load, 1000);
    for (int broker = 1; broker <= 3; broker++) {
        char name[8];
        snprintf(name, sizeof name, "%d", broker);
        assert_int_equal(cluster("kill", name), 0);
        load_for(&load, 2000);
        assert_int_equal(cluster("restart", name), 0);
        load_for(&load, 3000);
    }
    KAFKA_UNTIL(&load.heard, 60000, load.heard.reports[0] + load.heard.reports[1] + load.heard.reports[2] == load.sent);
    int64_t start, end;
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        assert_int_equal(log->operations->bounds(log, LOG_JOURNAL, p, &start, &end), LOG_OK);
        KAFKA_UNTIL(&load.heard, 30000, load.heard.ends[LOG_JOURNAL][p] == end);
    }
    check_complete(&load);
    print_message("%" PRIu64 " appended, %zu persisted, %zu not, %zu possibly; %zu read; producer replaced %zu times\n",
                  load.sent, load.heard.reports[0], load.heard.reports[1], load.heard.reports[2], load.heard.count,
                  load.heard.faults[LOG_PRODUCER_REPLACED]);
    assert_true(load.heard.reports[LOG_PERSISTED] > 1000);
    assert_int_equal(load.heard.faults[LOG_TRUNCATED] + load.heard.faults[LOG_FATAL], 0);
    kafka_close_log(&load.heard);
}

/* All of them gone for a while: told once, nothing fails, nothing is lost. */
static void test_all_brokers_gone(void **state)
{
    struct load load = { .sent = 0 };
    char uri[320];
    (void)state;
    snprintf(uri, sizeof uri, "kafka://%s/shop2", brokers);
    char text[1024];
    if (kafka_namespace_create(uri, PARTITIONS, false, text, sizeof text) != 0)
        fail_msg("%s", text);
    struct log *log = kafka_open(uri, "one", &load.heard);
    for (uint32_t p = 0; p < PARTITIONS; p++)
        assert_int_equal(log->operations->follow(log, LOG_JOURNAL, p, 0), LOG_OK);
    load_for(&load, 500);
    assert_int_equal(cluster("stop", ""), 0);
    load_for(&load, 3000);
    assert_int_equal(load.heard.faults[LOG_UNREACHABLE], 1);
    assert_int_equal(cluster("start", ""), 0);
    load_for(&load, 3000);
    KAFKA_UNTIL(&load.heard, 60000, load.heard.reports[LOG_PERSISTED] == load.sent);
    KAFKA_UNTIL(&load.heard, 30000, load.heard.count >= load.sent + PARTITIONS);
    check_complete(&load);
    kafka_close_log(&load.heard);
}

/* What one broker alone would keep is not good enough for a cluster of three. */
static void test_profile(void **state)
{
    char uri[320], text[1024];
    (void)state;
    snprintf(uri, sizeof uri, "kafka://%s/trial", brokers);
    if (kafka_namespace_create(uri, 1, true, text, sizeof text) != 0)
        fail_msg("%s", text);
    assert_int_equal(kafka_namespace_check(uri, true, text, sizeof text), 0);
    assert_int_equal(kafka_namespace_check(uri, false, text, sizeof text), 2);
    assert_non_null(strstr(text, "replication factor is 1"));
    snprintf(uri, sizeof uri, "kafka://%s/shop", brokers);
    kafka_alter_topic(uri, KAFKA_JOURNAL, "min.insync.replicas", "1");
    assert_int_equal(kafka_namespace_check(uri, false, text, sizeof text), 2);
    assert_non_null(strstr(text, "min.insync.replicas is 1, must be at least 2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_brokers_die_under_load),
        cmocka_unit_test(test_all_brokers_gone),
        cmocka_unit_test(test_profile),
    };
    return cmocka_run_group_tests(tests, start_cluster, stop_cluster);
}
