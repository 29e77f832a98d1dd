/*
 * What the two floors on Kafka share.
 */
#ifndef PERDURE_BENCH_FLOOR_KAFKA_H
#define PERDURE_BENCH_FLOOR_KAFKA_H

#include <librdkafka/rdkafka.h>

#include "bench.h"

rd_kafka_t *floor_producer(const char *brokers, const char *linger);
rd_kafka_t *floor_consumer(const char *brokers);
void floor_create_topic(rd_kafka_t *client, const char *name, int partitions);
void floor_produce(rd_kafka_t *producer, rd_kafka_topic_t *topic, int32_t partition, const struct row *row,
                   const void *data, void *opaque);
void floor_delete_topics(const char *brokers, const char *const *names, size_t count);
/* From offset 0 on. */
void floor_assign(rd_kafka_t *consumer, const char *const *topics, const int *partitions, size_t count);

#endif
