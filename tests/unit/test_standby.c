/*
 * Which partitions a standby follows, against the ones that the `range` assignor gives it when a member goes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "worker/worker.h"

#define PARTITIONS_MOST 64

static struct log some_log;
static struct worker_partition slots[PARTITIONS_MOST];
static bool wanted[PARTITIONS_MOST];

struct row {
    uint32_t begin, end;
};

/* KIP-480 and librdkafka's rdkafka_range_assignor.c: the first P mod N members have one more. */
static struct row row_of(uint32_t partitions, uint32_t members, uint32_t member)
{
    uint32_t each = partitions / members, more = partitions % members;
    uint32_t begin = member * each + (member < more ? member : more);
    return (struct row){ begin, begin + each + (member < more) };
}

static bool in_row(struct row row, uint32_t partition) { return partition >= row.begin && partition < row.end; }

static void choose(uint32_t partitions, struct row own, int standby)
{
    char name[] = "worker";
    struct pdr_worker worker = { .log = &some_log, .name = name, .partitions = slots, .partition_count = partitions };
    worker.options.standby = standby;
    memset(slots, 0, sizeof slots);
    memset(wanted, 0, sizeof wanted);
    for (uint32_t p = own.begin; p < own.end; p++)
        slots[p].assigned = true;
    assert_true(worker_standby_choose(&worker, wanted));
}

static int chosen(void)
{
    int count = 0;
    for (uint32_t p = 0; p < PARTITIONS_MOST; p++)
        count += wanted[p];
    return count;
}

/* What a member gets when another goes lies on one side of its row or on both, without a gap: with as many on each side as
 * it gets at most, it has them all. One that has nothing gets the last. */
static void a_member_that_goes(uint32_t partitions, uint32_t members, uint32_t gone)
{
    for (uint32_t i = 0; i < members; i++) {
        if (i == gone)
            continue;
        struct row old = row_of(partitions, members, i), next = row_of(partitions, members - 1, i < gone ? i : i - 1);
        int gains = 0;
        for (uint32_t p = next.begin; p < next.end; p++)
            gains += !in_row(old, p);
        choose(partitions, old, old.begin == old.end ? gains : 2 * gains);
        for (uint32_t p = next.begin; p < next.end; p++)
            if (!in_row(old, p) && !wanted[p])
                fail_msg("%u partitions, %u members, %u goes: %u gets %u, which it did not follow", partitions, members,
                         gone, i, p);
    }
}

static void follows_what_it_will_get(void **state)
{
    (void)state;
    some_log.deals_rows = true;
    for (uint32_t partitions = 1; partitions <= PARTITIONS_MOST; partitions *= 2)
        for (uint32_t members = 2; members <= partitions + 3; members++)
            for (uint32_t gone = 0; gone < members; gone++)
                a_member_that_goes(partitions, members, gone);
}

static void the_nearest_first(void **state)
{
    (void)state;
    some_log.deals_rows = true;
    choose(16, (struct row){ 4, 8 }, 3);
    assert_int_equal(chosen(), 3);
    assert_true(wanted[3] && wanted[8] && wanted[2]);
    choose(16, (struct row){ 0, 16 }, 3);
    assert_int_equal(chosen(), 0);
    choose(4, (struct row){ 1, 2 }, 4096);
    assert_int_equal(chosen(), 3);
}

/* Where anything may come, two workers do not follow the same. */
static void a_share_where_anything_may_come(void **state)
{
    (void)state;
    some_log.deals_rows = false;
    choose(64, (struct row){ 60, 64 }, 8);
    assert_int_equal(chosen(), 8);
    for (uint32_t p = 60; p < 64; p++)
        assert_false(wanted[p]);
    choose(64, (struct row){ 0, 0 }, 64);
    assert_int_equal(chosen(), 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(follows_what_it_will_get),
        cmocka_unit_test(the_nearest_first),
        cmocka_unit_test(a_share_where_anything_may_come),
    };
    cmocka_set_test_filter(getenv("PERDURE_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
