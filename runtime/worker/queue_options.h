/*
 * How fast a worker dispatches tasks of a queue, and how many of them may wait: "gpu=5/s,mail=100/s" and "gpu=100".
 */
#ifndef PERDURE_QUEUE_OPTIONS_H
#define PERDURE_QUEUE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct queue_options;

/* NULL texts are fine. `*out` is NULL where nothing is limited, or after a failure: `error` says what is wrong. */
bool queue_options_read(const char *rates, const char *limits, struct queue_options **out, char *error, size_t error_size);
void queue_options_free(struct queue_options *options);
/* For struct engine_config: a token bucket that holds one second's worth, shared by the partitions of the worker. */
bool queue_options_take(void *options, const char *queue, int64_t now_ms, int64_t *again_ms);
size_t queue_options_limit(void *options, const char *queue); /* 0: the default */
/* A queue that is limited and is not `queue`; NULL: there is none. */
const char *queue_options_other(const struct queue_options *options, const char *queue);

#endif
