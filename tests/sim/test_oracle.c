/* The oracle on logs made by hand: what counts, what does not, and what it calls wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "oracle.h"

#define LOG_ID UINT64_C(0x1234567890abcdef)

struct chain {
    const char *job;
    uint64_t run;
    uint64_t seq;
    digest digest;
};

struct fixture {
    struct oracle oracle;
    int64_t end;
};

static struct chain chain_of(const char *job, const char *request)
{
    struct chain chain = { .job = job, .run = run_id_of(LOG_ID, job, request) };
    chain.digest = digest_of_run(chain.run);
    return chain;
}

static void header_fill(Header *header, uint32_t kind, int64_t claim, uint64_t nonce, uint64_t n)
{
    header->format = header->rule_level = header->min_reader = header->map_version = 1;
    header->log = (uint32_t)LOG_ID;
    header->kind = kind;
    header->claim = claim;
    header->nonce = nonce;
    header->n = n;
}

static int64_t put_claim(struct fixture *fixture, uint64_t nonce)
{
    Record record = PERDURE__V1__RECORD__INIT;
    Header header = PERDURE__V1__HEADER__INIT;
    Genesis genesis = PERDURE__V1__GENESIS__INIT;
    Claim claim = PERDURE__V1__CLAIM__INIT;
    struct oracle_run *run;
    header_fill(&header, PERDURE__V1__KIND__KIND_CLAIM, 0, 0, 0);
    genesis.log_id = LOG_ID;
    claim.nonce = nonce;
    record.header = &header;
    record.genesis = &genesis;
    record.claim = &claim;
    assert_int_equal(oracle_judge(&fixture->oracle, fixture->end, &record, &run), ORACLE_CLAIM);
    return fixture->end++;
}

static enum oracle_verdict put_plain(struct fixture *fixture, uint32_t kind, int64_t claim, uint64_t nonce, uint64_t n)
{
    Record record = PERDURE__V1__RECORD__INIT;
    Header header = PERDURE__V1__HEADER__INIT;
    Mark mark = PERDURE__V1__MARK__INIT;
    struct oracle_run *run;
    header_fill(&header, kind, claim, nonce, n);
    record.header = &header;
    record.mark = &mark;
    return oracle_judge(&fixture->oracle, fixture->end++, &record, &run);
}

/* One event of `chain` at seq + 1; `chain` goes on only when it counts. `value` tells forks apart. */
static enum oracle_verdict put_event(struct fixture *fixture, struct chain *chain, int64_t claim, uint64_t nonce,
                                     uint64_t n, int64_t value, bool last)
{
    Record record = PERDURE__V1__RECORD__INIT;
    Header header = PERDURE__V1__HEADER__INIT;
    Event event = PERDURE__V1__EVENT__INIT;
    Perdure__V1__Started started = PERDURE__V1__STARTED__INIT;
    Perdure__V1__Completed completed = PERDURE__V1__COMPLETED__INIT;
    Perdure__V1__TimerFired fired = PERDURE__V1__TIMER_FIRED__INIT;
    struct oracle_run *run;
    uint8_t bytes[256];
    event.seq = chain->seq + 1;
    event.t = 1000 + value;
    if (chain->seq == 0) {
        event.kind_case = PERDURE__V1__EVENT__KIND_STARTED;
        event.started = &started;
    } else if (last) {
        event.kind_case = PERDURE__V1__EVENT__KIND_COMPLETED;
        event.completed = &completed;
    } else {
        event.kind_case = PERDURE__V1__EVENT__KIND_TIMER_FIRED;
        event.timer_fired = &fired;
    }
    ProtobufCBinaryData stored = { protobuf_c_message_pack(&event.base, bytes), bytes };
    digest after = digest_next(chain->digest, bytes, stored.len), before = chain->digest;
    header_fill(&header, PERDURE__V1__KIND__KIND_EVENT, claim, nonce, n);
    header.job = (char *)(uintptr_t)chain->job;
    header.run = chain->run;
    header.seq = chain->seq + 1;
    header.count = 1;
    header.prev = (ProtobufCBinaryData){ 16, before.bytes };
    header.digest = (ProtobufCBinaryData){ 16, after.bytes };
    record.header = &header;
    record.n_events = 1;
    record.events = &stored;
    enum oracle_verdict verdict = oracle_judge(&fixture->oracle, fixture->end++, &record, &run);
    if (verdict == ORACLE_COUNTED) {
        chain->seq++;
        chain->digest = after;
    }
    return verdict;
}

static int setup(void **state)
{
    static struct fixture fixture;
    memset(&fixture, 0, sizeof fixture);
    oracle_init(&fixture.oracle, 0, LOG_ID);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    oracle_clear(&((struct fixture *)*state)->oracle);
    return 0;
}

static void test_fenced(void **state)
{
    struct fixture *f = *state;
    struct chain a = chain_of("a", "r1");
    assert_int_equal(put_event(f, &a, 0, 7, 1, 0, false), ORACLE_FENCED); /* nobody owns it */
    int64_t first = put_claim(f, 7);
    assert_int_equal(put_event(f, &a, first, 7, 1, 0, false), ORACLE_COUNTED);
    int64_t second = put_claim(f, 8);
    struct chain zombie = a;
    assert_int_equal(put_event(f, &zombie, first, 7, 2, 1, false), ORACLE_FENCED);
    assert_int_equal(put_event(f, &a, second, 8, 1, 2, false), ORACLE_COUNTED);
    assert_int_equal(oracle_find(&f->oracle, "a")->seq, 2);
}

/* The same offset with another nonce is another epoch (a truncation removed the first claim). */
static void test_nonce(void **state)
{
    struct fixture *f = *state;
    struct chain a = chain_of("a", "r1");
    int64_t claim = put_claim(f, 7);
    assert_int_equal(put_event(f, &a, claim, 9, 1, 0, false), ORACLE_FENCED);
    assert_int_equal(put_event(f, &a, claim, 7, 1, 0, false), ORACLE_COUNTED);
}

static void test_release(void **state)
{
    struct fixture *f = *state;
    struct chain a = chain_of("a", "r1");
    int64_t claim = put_claim(f, 7);
    assert_int_equal(put_plain(f, PERDURE__V1__KIND__KIND_RELEASE, claim, 7, 1), ORACLE_RELEASE);
    assert_int_equal(put_event(f, &a, claim, 7, 2, 0, false), ORACLE_FENCED);
    claim = put_claim(f, 8);
    assert_int_equal(put_plain(f, PERDURE__V1__KIND__KIND_RELEASE, claim, 9, 1), ORACLE_FENCED);
    assert_int_equal(put_event(f, &a, claim, 8, 1, 0, false), ORACLE_COUNTED);
}

static void test_fork_gap_duplicate(void **state)
{
    struct fixture *f = *state;
    struct chain a = chain_of("a", "r1");
    int64_t claim = put_claim(f, 7);
    assert_int_equal(put_event(f, &a, claim, 7, 1, 0, false), ORACLE_COUNTED);
    struct chain other = a, same = a, ahead = a;
    assert_int_equal(put_event(f, &a, claim, 7, 2, 1, false), ORACLE_COUNTED);
    assert_int_equal(put_event(f, &same, claim, 7, 2, 1, false), ORACLE_DUPLICATE);
    assert_int_equal(put_event(f, &other, claim, 7, 3, 2, false), ORACLE_REJECTED);
    ahead.seq = 5;
    assert_int_equal(put_event(f, &ahead, claim, 7, 4, 3, false), ORACLE_REJECTED);
    struct chain second = chain_of("a", "r2"); /* the first run is open */
    assert_int_equal(put_event(f, &second, claim, 7, 5, 0, false), ORACLE_REJECTED);
    assert_int_equal(oracle_find(&f->oracle, "a")->seq, 2);
    assert_string_equal(f->oracle.wrong, "");
}

static void test_runs(void **state)
{
    struct fixture *f = *state;
    struct chain a = chain_of("a", "r1"), b = chain_of("a", "r2");
    int64_t claim = put_claim(f, 7);
    assert_int_equal(put_event(f, &a, claim, 7, 1, 0, false), ORACLE_COUNTED);
    assert_int_equal(put_event(f, &a, claim, 7, 2, 1, true), ORACLE_COUNTED);
    struct chain late = a;
    assert_int_equal(put_event(f, &late, claim, 7, 3, 2, false), ORACLE_REJECTED); /* after its end */
    assert_int_equal(put_event(f, &b, claim, 7, 4, 3, false), ORACLE_COUNTED);
    assert_int_equal(oracle_find(&f->oracle, "a")->run, b.run);
    struct oracle_run *first = oracle_find_run(&f->oracle, "a", a.run);
    assert_non_null(first);
    assert_false(first->open);
    assert_int_equal(oracle_seq_at(first, 2), 1);
    assert_true(oracle_open_at(first, 2));
    assert_false(oracle_open_at(first, 3));
    assert_ptr_equal(oracle_find_at(&f->oracle, "a", 4), first);
    digest live;
    assert_int_equal(oracle_live(&f->oracle, &live), 1);
}

/* A run that was over long ago begins again: the id names another run now, so rule 2 lets it count; it is wrong. */
static void test_run_again(void **state)
{
    struct fixture *f = *state;
    struct chain a = chain_of("a", "r1"), b = chain_of("a", "r2"), again = chain_of("a", "r1");
    int64_t claim = put_claim(f, 7);
    put_event(f, &a, claim, 7, 1, 0, false);
    put_event(f, &a, claim, 7, 2, 1, true);
    put_event(f, &b, claim, 7, 3, 2, false);
    put_event(f, &b, claim, 7, 4, 3, true);
    assert_int_equal(put_event(f, &again, claim, 7, 5, 9, false), ORACLE_COUNTED);
    assert_string_not_equal(f->oracle.wrong, "");
}

static void test_late_mark(void **state)
{
    struct fixture *f = *state;
    int64_t claim = put_claim(f, 7);
    assert_int_equal(put_plain(f, PERDURE__V1__KIND__KIND_MARK, claim, 7, 1), ORACLE_MARK);
    assert_int_equal(put_plain(f, PERDURE__V1__KIND__KIND_MARK, claim, 7, 1), ORACLE_DUPLICATE);
    assert_int_equal(put_plain(f, PERDURE__V1__KIND__KIND_MARK, claim, 6, 2), ORACLE_FENCED);
}

static void test_time_goes_back(void **state)
{
    struct fixture *f = *state;
    struct chain a = chain_of("a", "r1");
    int64_t claim = put_claim(f, 7);
    put_event(f, &a, claim, 7, 1, 50, false);
    assert_int_equal(put_event(f, &a, claim, 7, 2, 40, false), ORACLE_COUNTED);
    assert_non_null(strstr(f->oracle.wrong, "t goes back"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_fenced, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nonce, setup, teardown),
        cmocka_unit_test_setup_teardown(test_release, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fork_gap_duplicate, setup, teardown),
        cmocka_unit_test_setup_teardown(test_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_run_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_late_mark, setup, teardown),
        cmocka_unit_test_setup_teardown(test_time_goes_back, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
