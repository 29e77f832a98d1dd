/* Who should own which partition: workers that come, leave, come back, and take one another's name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kafka_test.h"

static size_t owned(const struct heard *heard)
{
    size_t count = 0;
    for (size_t p = 0; p < HEARD_PARTITIONS; p++)
        count += heard->owned[p];
    return count;
}

/* Each partition has one owner of the two, and both have some. */
static bool shared(struct heard *one, struct heard *two, size_t partitions)
{
    one->log->operations->poll(one->log, 0);
    two->log->operations->poll(two->log, 0);
    for (size_t p = 0; p < partitions; p++)
        if (one->owned[p] == two->owned[p])
            return false;
    return owned(one) > 0 && owned(two) > 0;
}

static void join_worker(const char *uri, const char *member, struct heard *heard)
{
    struct log *log = kafka_open(uri, member, heard);
    assert_int_equal(log->operations->join(log), LOG_OK);
}

static void test_share_and_leave(void **state)
{
    char uri[256];
    struct heard one, two;
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    kafka_make(uri, 8);
    join_worker(uri, "one", &one);
    KAFKA_UNTIL(&one, 20000, owned(&one) == 8);
    join_worker(uri, "two", &two);
    KAFKA_UNTIL(&one, 20000, shared(&one, &two, 8));
    /* What stayed was never revoked in between. */
    assert_int_equal(one.revoked, 8 - owned(&one));
    assert_int_equal(two.log->operations->leave(two.log, true), LOG_OK);
    KAFKA_UNTIL(&two, 10000, owned(&two) == 0);
    kafka_close_log(&two);
    int64_t begin = kafka_monotonic_ms();
    KAFKA_UNTIL(&one, 20000, owned(&one) == 8);
    assert_true(kafka_monotonic_ms() - begin < 25000); /* below the session timeout of 30 s: it did leave */
    kafka_close_log(&one);
}

static void test_restart_keeps_the_place(void **state)
{
    char uri[256];
    struct heard one, two;
    bool had[HEARD_PARTITIONS];
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    kafka_make(uri, 8);
    join_worker(uri, "one", &one);
    KAFKA_UNTIL(&one, 20000, owned(&one) == 8);
    join_worker(uri, "two", &two);
    KAFKA_UNTIL(&one, 20000, shared(&one, &two, 8));
    memcpy(had, two.owned, sizeof had);
    size_t before = one.assigned;
    assert_int_equal(two.log->operations->leave(two.log, false), LOG_OK);
    kafka_close_log(&two);
    kafka_poll_for(&one, 1000);
    int64_t begin = kafka_monotonic_ms();
    join_worker(uri, "two", &two);
    KAFKA_UNTIL(&two, 20000, (one.log->operations->poll(one.log, 0), memcmp(had, two.owned, sizeof had) == 0));
    print_message("static member back after %d ms\n", (int)(kafka_monotonic_ms() - begin));
    assert_int_equal(one.assigned, before); /* nobody else noticed */
    kafka_close_log(&two);
    kafka_close_log(&one);
}

static void test_two_with_one_name(void **state)
{
    char uri[256];
    struct heard one, two;
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    kafka_make(uri, 4);
    join_worker(uri, "same", &one);
    KAFKA_UNTIL(&one, 20000, owned(&one) == 4);
    join_worker(uri, "same", &two);
    KAFKA_UNTIL(&two, 20000, owned(&two) == 4);
    /* The older one is told, joins again, and so does the newer one then; the fourth time is no accident. */
    KAFKA_UNTIL(&one, 60000, (two.log->operations->poll(two.log, 0), one.faults[LOG_MEMBERSHIP_TAKEN] == 1));
    assert_int_equal(one.faults[LOG_UNREACHABLE], 3);
    assert_int_equal(two.faults[LOG_UNREACHABLE], 3);
    KAFKA_UNTIL(&two, 60000, owned(&two) == 4);
    assert_non_null(strstr(one.fault_text, "same"));
    kafka_poll_for(&one, 1500);
    assert_int_equal(one.faults[LOG_MEMBERSHIP_TAKEN], 1);
    assert_int_equal(two.faults[LOG_MEMBERSHIP_TAKEN], 0);
    kafka_close_log(&one);
    kafka_close_log(&two);
}

/* A request to join under our id, of nobody: as one of our own that a cut network held back. We come back by ourselves. */
static void test_a_late_request_of_our_own(void **state)
{
    char uri[256];
    struct heard one, ghost;
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    kafka_make(uri, 4);
    join_worker(uri, "same", &one);
    KAFKA_UNTIL(&one, 20000, owned(&one) == 4);
    for (size_t i = 1; i <= 2; i++) { /* while the network comes and goes, one after the other */
        join_worker(uri, "same", &ghost);
        KAFKA_UNTIL(&ghost, 20000, owned(&ghost) == 4);
        kafka_close_log(&ghost); /* the group still takes it for the member */
        KAFKA_UNTIL(&one, 60000, one.faults[LOG_UNREACHABLE] == i);
        KAFKA_UNTIL(&one, 60000, one.assigned == 4 * (i + 1) && owned(&one) == 4); /* given back, and had again */
    }
    assert_int_equal(one.faults[LOG_MEMBERSHIP_TAKEN], 0);
    kafka_close_log(&one);
}

static void test_clients_do_not_join(void **state)
{
    char uri[256];
    struct heard heard;
    (void)state;
    kafka_fresh_uri(uri, sizeof uri);
    kafka_make(uri, 1);
    struct log *log = kafka_open(uri, NULL, &heard);
    assert_int_equal(log->operations->join(log), LOG_FAILED);
    kafka_close_log(&heard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share_and_leave),
        cmocka_unit_test(test_restart_keeps_the_place),
        cmocka_unit_test(test_two_with_one_name),
        cmocka_unit_test(test_a_late_request_of_our_own),
        cmocka_unit_test(test_clients_do_not_join),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
