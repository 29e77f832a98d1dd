/*
 * What the tests of the Kafka backend share: a namespace of their own, and a log whose handler writes down what it hears.
 */
#ifndef PERDURE_KAFKA_TEST_H
#define PERDURE_KAFKA_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "log/kafka_internal.h"

#define HEARD_PARTITIONS 16

struct heard_record {
    enum log_stream stream;
    uint32_t partition;
    int64_t offset;
    int64_t append_ms;
    size_t size;
    char text[64]; /* the record's bytes, cut off */
};

/* What a log told. */
struct heard {
    struct log *log;
    struct heard_record *records;
    size_t count, space;
    int64_t ends[2][HEARD_PARTITIONS];
    size_t reports[3];           /* by enum log_delivery */
    size_t arrived;              /* of these, log_has() them */
    uint64_t last_cookie;
    int64_t last_offset;
    enum log_delivery *by_cookie; /* of cookies below `cookies`; -1: none yet */
    size_t cookies;
    bool owned[HEARD_PARTITIONS];
    size_t assigned, revoked;
    size_t faults[LOG_FATAL + 1];
    char fault_text[640];
    size_t rows_lost, dead_lost;
    char lost_text[64];
    size_t replies;
    uint64_t last_correlation;
    char last_answer[32];
};

const char *kafka_brokers(void);                  /* $PERDURE_KAFKA */
void kafka_fresh_uri(char *uri, size_t size);     /* a namespace that nobody had before */
void kafka_make(const char *uri, uint32_t partitions);
struct log *kafka_open(const char *uri, const char *member, struct heard *heard);
void kafka_listen(struct log *log, struct heard *heard);
void kafka_close_log(struct heard *heard);
int kafka_put(struct heard *heard, enum log_stream stream, uint32_t partition, const char *text, uint64_t cookie);
/* Polls until the condition holds. It should within `ms`; ten times that, on a machine that has much else to do, is too
 * long. */
#define KAFKA_UNTIL(heard, ms, condition)                                                              \
    do {                                                                                               \
        int64_t deadline_ = kafka_monotonic_ms() + 10 * (int64_t)(ms);                                 \
        while (!(condition)) {                                                                         \
            if (kafka_monotonic_ms() > deadline_)                                                      \
                fail_msg("not within ten times %d ms: %s (%s; %zu records, reports %zu %zu %zu)", (int)(ms), #condition,     \
                         (heard)->fault_text, (heard)->count, (heard)->reports[0], (heard)->reports[1],    \
                         (heard)->reports[2]);                                                         \
            (heard)->log->operations->poll((heard)->log, 10);                                          \
        }                                                                                              \
    } while (0)
void kafka_poll_for(struct heard *heard, int64_t ms);

/* Administration, as somebody else would do it. */
void kafka_alter_topic(const char *uri, enum kafka_topic topic, const char *setting, const char *value);
void kafka_delete_topic(const char *uri, enum kafka_topic topic);
void kafka_add_partitions(const char *uri, enum kafka_topic topic, size_t count);

#endif
