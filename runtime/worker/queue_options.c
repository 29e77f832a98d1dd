#include "worker/queue_options.h"

#include <stdlib.h>
#include <string.h>

#include "constants.h"
#include "engine/limits.h"
#include "worker/limit_list.h"

struct queue_options {
    struct queue_options *next;
    struct rate rate;
    size_t limit; /* 0: the default */
    char queue[QUEUE_NAME_LIMIT_BYTES + 1];
};

static struct queue_options *options_of(struct queue_options *options, const char *queue)
{
    while (options && strcmp(options->queue, queue) != 0)
        options = options->next;
    return options;
}

static struct queue_options *options_add(struct queue_options **all, const char *queue)
{
    struct queue_options *options = options_of(*all, queue);
    if (!options && (options = calloc(1, sizeof *options))) {
        strcpy(options->queue, queue);
        options->next = *all;
        *all = options;
    }
    return options;
}

void queue_options_free(struct queue_options *options)
{
    while (options) {
        struct queue_options *next = options->next;
        free(options);
        options = next;
    }
}

static bool take_rate(void *all, const char *queue, double number)
{
    struct queue_options *options = options_add(all, queue);
    if (options)
        options->rate.per_second = number;
    return options != NULL;
}

static bool take_limit(void *all, const char *queue, double number)
{
    struct queue_options *options = options_add(all, queue);
    if (options)
        options->limit = (size_t)number;
    return options != NULL;
}

bool queue_options_read(const char *rates, const char *limits, struct queue_options **out, char *error, size_t error_size)
{
    static const struct limit_list rate = { "queue rate", "QUEUE", "gpu", QUEUE_NAME_LIMIT_BYTES, true };
    static const struct limit_list limit = { "queue limit", "QUEUE", "gpu", QUEUE_NAME_LIMIT_BYTES, false };
    *out = NULL;
    if (limit_list_read(rates, &rate, take_rate, out, error, error_size) &&
        limit_list_read(limits, &limit, take_limit, out, error, error_size))
        return true;
    queue_options_free(*out);
    *out = NULL;
    return false;
}

bool queue_options_take(void *all, const char *queue, int64_t now_ms, int64_t *again_ms)
{
    struct queue_options *options = options_of(all, queue);
    return !options || rate_take(&options->rate, now_ms, again_ms);
}

size_t queue_options_limit(void *all, const char *queue)
{
    const struct queue_options *options = options_of(all, queue);
    return options ? options->limit : 0;
}

const char *queue_options_other(const struct queue_options *options, const char *queue)
{
    for (; options; options = options->next)
        if (strcmp(options->queue, queue) != 0)
            return options->queue;
    return NULL;
}
