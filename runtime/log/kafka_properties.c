/*
 * What is special about some of librdkafka's properties: the secret ones, and those that only Perdure may set.
 */
#include <string.h>

#include "log/kafka_settings.h"

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text), end_size = strlen(end);
    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

bool kafka_property_is_secret(const char *name)
{
    return strstr(name, "password") || strstr(name, "secret") || strstr(name, "private.key") ||
           (strstr(name, "key") && ends_with(name, ".pem")) || strcmp(name, "sasl.jaas.config") == 0 ||
           strcmp(name, "sasl.oauthbearer.config") == 0;
}

static const struct {
    const char *name;
    const char *reason;
} properties_fixed[] = {
#define REASON_BROKERS "the brokers stand in the address of the log"
    { "bootstrap.servers", REASON_BROKERS },
    { "metadata.broker.list", REASON_BROKERS },
#define REASON_GROUP "the group is the namespace's: workers of one namespace must be in the same one, and clients in none"
    { "group.id", REASON_GROUP },
    { "group.instance.id", "the member id is the worker's name (--name)" },
    { "group.protocol", "membership is built on the classic protocol, static members and the strategies it has" },
    { "group.remote.assignor", "membership is built on the classic protocol, static members and the strategies it has" },
    { "partition.assignment.strategy", "all workers of a namespace need the same strategy, one without the known bugs" },
    { "session.timeout.ms", "it is --session-timeout of the worker" },
    { "heartbeat.interval.ms", "it follows from --session-timeout of the worker" },
    { "max.poll.interval.ms", "it follows from --session-timeout of the worker" },
#define REASON_OFFSETS "positions stand in the journal: an offset committed or reset by the client would skip or repeat records"
    { "enable.auto.commit", REASON_OFFSETS },
    { "auto.commit.enable", REASON_OFFSETS },
    { "enable.auto.offset.store", REASON_OFFSETS },
    { "auto.offset.reset", REASON_OFFSETS },
    { "enable.partition.eof", "the end of a partition must be told, or a reader would never know that it has read all" },
    { "isolation.level", "a foreign open transaction would keep a worker from reading back what it wrote" },
    { "check.crcs", "a record damaged on its way must be noticed" },
#define REASON_ACKS "a record counts as written when all in-sync replicas have it, once and in order"
    { "acks", REASON_ACKS },
    { "request.required.acks", REASON_ACKS },
    { "enable.idempotence", REASON_ACKS },
    { "enable.gapless.guarantee", REASON_ACKS },
    { "max.in.flight", REASON_ACKS },
    { "max.in.flight.requests.per.connection", REASON_ACKS },
    { "retries", REASON_ACKS },
    { "message.send.max.retries", REASON_ACKS },
    { "queuing.strategy", REASON_ACKS },
    { "produce.offset.report", REASON_ACKS },
    { "transactional.id", "Perdure needs no transactions: ownership and order stand in the journal" },
#define REASON_TIMEOUT "when an append is in doubt is a rule of the protocol (rule 5)"
    { "message.timeout.ms", REASON_TIMEOUT },
    { "delivery.timeout.ms", REASON_TIMEOUT },
#define REASON_SIZE "a batch that the topics refuse must not be built, and no record may be too large to append"
    { "message.max.bytes", REASON_SIZE },
    { "batch.size", REASON_SIZE },
#define REASON_BUDGET "memory for what is not yet sent is shared out to the partitions by Perdure"
    { "queue.buffering.max.messages", REASON_BUDGET },
    { "queue.buffering.max.kbytes", REASON_BUDGET },
    { "allow.auto.create.topics", "a topic that was deleted must not come back by itself, with other settings" },
    { "api.version.request", "headers and idempotence need to know what the broker can do" },
    { "log.queue", "Perdure reads what librdkafka says itself" },
    { "enabled_events", "Perdure reads what librdkafka says itself" },
};

const char *kafka_property_fixed(const char *name)
{
    for (size_t i = 0; i < sizeof properties_fixed / sizeof *properties_fixed; i++)
        if (strcmp(properties_fixed[i].name, name) == 0)
            return properties_fixed[i].reason;
    return NULL;
}
