/*
 * Numbers that are fixed for ever: checksums, digests, ids, slots. The XXH3 values were computed from the text of
 * docs/format.md with another language; those of murmur2 are Kafka's own (its UtilsTest), those of CRC32C RFC 3720's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "constants.h"
#include "wire/wire.h"

#define RUN UINT64_C(0x0123456789abcdef)

static void assert_digest(digest actual, const char *hex)
{
    char text[33];
    for (size_t i = 0; i < 16; i++)
        snprintf(text + 2 * i, 3, "%02x", actual.bytes[i]);
    assert_string_equal(text, hex);
}

static void crc32c_vectors(void **state)
{
    (void)state;
    uint8_t bytes[32];
    assert_int_equal(crc32c("123456789", 9), 0xE3069283u);
    assert_int_equal(crc32c("", 0), 0);
    memset(bytes, 0, sizeof(bytes));
    assert_int_equal(crc32c(bytes, 32), 0x8A9136AAu);
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(crc32c(bytes, 32), 0x62A8AB43u);
    for (uint8_t i = 0; i < 32; i++)
        bytes[i] = i;
    assert_int_equal(crc32c(bytes, 32), 0x46DD794Eu);
    for (uint8_t i = 0; i < 32; i++)
        bytes[i] = (uint8_t)(31 - i);
    assert_int_equal(crc32c(bytes, 32), 0x113FDB5Cu);
}

static void murmur2_vectors(void **state)
{
    (void)state;
    static const uint8_t six[] = {12, 42, 56, 24, 109, 111};
    static const struct {
        const char *text;
        int32_t hash;
    } vectors[] = {
        {"21", -973932308},
        {"foobar", -790332482},
        {"a-little-bit-long-string", -985981536},
        {"a-little-bit-longer-string", -1486304829},
        {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
        {"abc", 479470107},
        {"", 275646681},
    };
    assert_int_equal((int32_t)murmur2(six, sizeof(six)), 274204207);
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
        assert_int_equal((int32_t)murmur2(vectors[i].text, strlen(vectors[i].text)), vectors[i].hash);
}

static void slots_follow_the_default_partitioner(void **state)
{
    (void)state;
    assert_int_equal(slot_of("foobar"), (uint32_t)(-790332482 & 0x7fffffff) % SLOT_COUNT);
    for (uint32_t partitions = 1; partitions <= SLOT_COUNT; partitions *= 2)
        assert_int_equal(partition_of("foobar", partitions), (uint32_t)(-790332482 & 0x7fffffff) % partitions);
}

static void digest_chain(void **state)
{
    (void)state;
    uint8_t big[5000]; /* longer than what is hashed in one piece */
    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (uint8_t)(i % 251);
    digest chain = digest_of_run(RUN);
    assert_digest(chain, "efcdab89674523010000000000000000");
    chain = digest_next(chain, "first", 5);
    assert_digest(chain, "71b0187348e84b03b0fd29957a47268c");
    chain = digest_next(chain, "", 0);
    assert_digest(chain, "5a6bfde6620d37ed75c3fa404c9f2da1");
    chain = digest_next(chain, big, sizeof(big));
    assert_digest(chain, "3c422953958c26c98deccb0ab1905f74");
}

static void digest_comparison(void **state)
{
    (void)state;
    digest a = digest_of_run(1), b = digest_of_run(2), zero = {{0}};
    assert_true(digest_equal(a, a));
    assert_false(digest_equal(a, b));
    assert_true(digest_equal(digest_from_bytes((ProtobufCBinaryData){.len = 16, .data = a.bytes}), a));
    assert_true(digest_equal(digest_from_bytes((ProtobufCBinaryData){.len = 15, .data = a.bytes}), zero));
    assert_true(digest_equal(digest_from_bytes((ProtobufCBinaryData){0}), zero));
}

static void payload_digests(void **state)
{
    (void)state;
    uint8_t big[5000];
    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (uint8_t)(i % 251);
    assert_true(payload_digest("text", "Ada", 3) == UINT64_C(0x5f81d004731f4df1));
    assert_true(payload_digest("none", NULL, 0) == UINT64_C(0xba261bf194cae289));
    assert_true(payload_digest("bytes", big, sizeof(big)) == UINT64_C(0xfcecabc89daa59c6));
    assert_true(hash64("", 0) == UINT64_C(0x2d06800538d394c2));
}

static void run_ids(void **state)
{
    (void)state;
    char job[256], request[2001];
    memset(job, 'j', 255);
    memset(request, 'r', 2000);
    job[255] = request[2000] = '\0';
    assert_true(run_id_of(UINT64_C(0xfeedfacecafebeef), "order-17", "req-1") == UINT64_C(0xc1008267bea057d2));
    assert_true(run_id_of(1, job, request) == UINT64_C(0x92be50c0b7529abe));
    /* The prefixes matter: the same letters, cut elsewhere, are another run. */
    assert_false(run_id_of(1, "ab", "c") == run_id_of(1, "a", "bc"));
}

static void live_hashes(void **state)
{
    (void)state;
    digest first = digest_next(digest_of_run(RUN), "first", 5);
    digest second = digest_next(first, "", 0);
    digest a = live_hash_of("order-17", RUN, 3, first), b = live_hash_of("b", 2, 1, second);
    assert_digest(a, "9b1f15a570556eeecca6b0aec0519e21");
    assert_digest(b, "5015c24e2a288b6ccc5956e0f966feed");
    digest sum = {{0}}, zero = {{0}};
    live_hash_add(&sum, a);
    live_hash_add(&sum, b);
    assert_digest(sum, "eb34d7f39a7df95a9900078fbab89c0f"); /* carries over both halves */
    live_hash_subtract(&sum, a);
    assert_true(digest_equal(sum, b));
    live_hash_subtract(&sum, b);
    assert_true(digest_equal(sum, zero));
    live_hash_subtract(&sum, a);
    live_hash_add(&sum, a);
    assert_true(digest_equal(sum, zero));
}

static void job_ids(void **state)
{
    (void)state;
    char longest[JOB_ID_LIMIT_BYTES + 1];
    memset(longest, 'x', sizeof(longest));
    assert_true(job_id_valid(longest, JOB_ID_LIMIT_BYTES));
    assert_false(job_id_valid(longest, JOB_ID_LIMIT_BYTES + 1));
    static const struct {
        const char *bytes;
        size_t size;
        bool valid;
    } ids[] = {
        {"order-17", 8, true},
        {"", 0, false},
        {"a\0b", 3, false},
        {"a\nb", 3, false},
        {"\x7f", 1, false},
        {"gr\xc3\xbc\xc3\x9f", 6, true},
        {"\xe2\x82\xac", 3, true},
        {"\xf0\x9f\x98\x80", 4, true},
        {"\xf4\x8f\xbf\xbf", 4, true},
        {"\xc3", 1, false},             /* cut off */
        {"\xe2\x82", 2, false},
        {"\x80", 1, false},             /* no lead */
        {"\xc0\x80", 2, false},         /* overlong NUL */
        {"\xe0\x80\xaf", 3, false},     /* overlong */
        {"\xf0\x80\x80\xaf", 4, false}, /* overlong */
        {"\xed\xa0\x80", 3, false},     /* surrogate */
        {"\xf4\x90\x80\x80", 4, false}, /* above U+10FFFF */
        {"\xf5\x80\x80\x80", 4, false},
        {"\xff", 1, false},
    };
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
        assert_int_equal(job_id_valid(ids[i].bytes, ids[i].size), ids[i].valid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_vectors),
        cmocka_unit_test(murmur2_vectors),
        cmocka_unit_test(slots_follow_the_default_partitioner),
        cmocka_unit_test(digest_chain),
        cmocka_unit_test(digest_comparison),
        cmocka_unit_test(payload_digests),
        cmocka_unit_test(run_ids),
        cmocka_unit_test(live_hashes),
        cmocka_unit_test(job_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
