/*
 * The distributed log: a namespace of topics in Kafka.
 *
 *     kafka://host:port[,host:port]/NAMESPACE[?dev=1&security.protocol=ssl&...]
 *
 * Topics: NAMESPACE.inbox, .journal, .jobs (statuses), .replies, .dead, and .tasks.QUEUE for each queue. After `?` stand
 * options: dev=1 (a namespace that one broker keeps, for trials), and librdkafka's own, unless they are secrets. Those come
 * from a file or the environment, as any other may: kafka_settings.h.
 */
#ifndef PERDURE_LOG_KAFKA_H
#define PERDURE_LOG_KAFKA_H

#include "log/log.h"

/* Opens a namespace; what log_open() calls for kafka:// (see there). Members read and check every setting of every
 * topic, clients only what they need: partition count and log id. */
int kafka_log_open(const char *uri, const struct log_options *options, struct log **out, char *error,
                   size_t error_size);

/*
 * Creates the topics of a namespace and writes the Genesis records. `partitions`: 0 for what is there, or the default. `dev`: for one broker, nothing is replicated. Running
 * it again is harmless: it goes on with what is missing. The result is an exit code: 0 done (`text` says whether the
 * namespace was there before), 2 something is there that differs, 5 no broker answers.
 */
int kafka_namespace_create(const char *uri, uint32_t partitions, bool dev, char *text, size_t text_size);

/*
 * More partitions for a namespace that is there. Running it again goes on with what is missing. The workers move the slots
 * (rule 25) when they hear of it: see Grow in docs/format.md.
 */
struct kafka_growth {
    /* Asked before anything is done, unless an earlier growth is only finished: 0, or an exit code and `text`. */
    int (*may_begin)(const struct kafka_growth *growth, char *text, size_t text_size);
    void *context;
    uint32_t before, version_before; /* partitions and map version as found */
    uint32_t grown_from, partitions, version; /* of the new map */
    bool begun; /* by an earlier call */
};
int kafka_namespace_grow(const char *uri, uint32_t partitions, bool dev, struct kafka_growth *growth, char *text,
                         size_t text_size);

/* Compares every setting of every topic with what Perdure needs. 0; 2 (`text` names topic, setting, value found and value
 * needed), 3 no such namespace, 5 no broker answers. `dev`: as above. */
int kafka_namespace_check(const char *uri, bool dev, char *text, size_t text_size);

/*
 * Queues of remote steps. Makes the topic of one with the settings it needs, or adds partitions to it. 0: done, or was so
 * before (`text` says which); 2 refused; 3 no such namespace; 5 no broker answers. `partitions` 0: the default.
 */
#define KAFKA_QUEUE_PARTITIONS 8
#define KAFKA_QUEUE_NAME_LIMIT 100
bool kafka_queue_name_valid(const char *queue);
int kafka_queue_create(const char *uri, const char *queue, uint32_t partitions, bool dev, char *text, size_t text_size);

/* A queue of remote steps, as the brokers tell of it. */
struct kafka_queue_state {
    const char *queue;
    int partitions;
    int64_t waiting; /* tasks that no worker has reported yet: those that run and those that nobody has taken */
    char **workers;  /* step workers in its group: client id and address */
    size_t worker_count;
};
/* Each queue of the namespace; `visit` returns false to stop. The exit code, and the text of what is wrong. */
int kafka_queues_each(const char *uri, bool (*visit)(void *context, const struct kafka_queue_state *state), void *context,
                      char *text, size_t text_size);

/* The address, as it was typed, holds a secret: says so in `text`, without it. */
bool kafka_address_has_secret(const char *uri, char *text, size_t size);
/* Where settings come from besides the address. The command's flags set the first two, so that what it starts has them. */
#define KAFKA_CONFIG_VARIABLE "PERDURE_KAFKA_CONFIG"
#define KAFKA_PLAINTEXT_VARIABLE "PERDURE_ALLOW_PLAINTEXT"
#define KAFKA_VARIABLE_PREFIX "PERDURE_KAFKA_"
/* The file of settings that PERDURE_KAFKA_CONFIG names holds a secret and everybody may read it: says so in `text`. */
bool kafka_config_exposed(char *text, size_t size);

#endif
