#include "worker/queue_options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "constants.h"

struct queue_options {
    struct queue_options *next;
    double per_second; /* 0: no limit */
    size_t limit;      /* 0: the default */
    double tokens;
    int64_t filled_ms; /* 0: never */
    char queue[QUEUE_NAME_LIMIT_BYTES + 1];
};

static struct queue_options *options_of(struct queue_options *options, const char *queue)
{
    while (options && strcmp(options->queue, queue) != 0)
        options = options->next;
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

/* One of "gpu=5/s" or "gpu=100". NULL: it is neither. */
static struct queue_options *options_read_one(struct queue_options **all, const char *item, size_t length, bool rate)
{
    const char *equals = memchr(item, '=', length);
    char text[32], *end = NULL;
    size_t name = equals ? (size_t)(equals - item) : 0, digits = length - name - 1;
    if (name == 0 || name > QUEUE_NAME_LIMIT_BYTES || digits == 0 || digits >= sizeof text)
        return NULL;
    memcpy(text, equals + 1, digits);
    text[digits] = '\0';
    double number = strtod(text, &end);
    bool whole = rate ? strcmp(end, "/s") == 0 && number >= 0.001 && number <= 1e6
                      : *end == '\0' && number >= 1 && number <= 1e6 && floor(number) == number;
    if (end == text || !whole)
        return NULL;
    char queue[QUEUE_NAME_LIMIT_BYTES + 1];
    memcpy(queue, item, name);
    queue[name] = '\0';
    struct queue_options *options = options_of(*all, queue);
    if (!options && (options = calloc(1, sizeof *options))) {
        memcpy(options->queue, queue, name + 1);
        options->next = *all;
        *all = options;
    }
    if (options && rate)
        options->per_second = number;
    else if (options)
        options->limit = (size_t)number;
    return options;
}

static bool options_read(struct queue_options **all, const char *text, bool rate, char *error, size_t error_size)
{
    while (text && *text) {
        size_t length = strcspn(text, ",");
        if (!options_read_one(all, text, length, rate)) {
            snprintf(error, error_size, rate ? "queue rate \"%.*s\": write QUEUE=N/s, as gpu=5/s or gpu=0.2/s"
                                             : "queue limit \"%.*s\": write QUEUE=N with N from 1 to 1000000, as gpu=100",
                     (int)(length < 100 ? length : 100), text);
            return false;
        }
        text += length + (text[length] == ',');
    }
    return true;
}

bool queue_options_read(const char *rates, const char *limits, struct queue_options **out, char *error, size_t error_size)
{
    *out = NULL;
    if (options_read(out, rates, true, error, error_size) && options_read(out, limits, false, error, error_size))
        return true;
    queue_options_free(*out);
    *out = NULL;
    return false;
}

bool queue_options_take(void *all, const char *queue, int64_t now_ms, int64_t *again_ms)
{
    struct queue_options *options = options_of(all, queue);
    if (!options || options->per_second == 0)
        return true;
    double most = options->per_second > 1 ? options->per_second : 1;
    if (options->filled_ms == 0)
        options->tokens = 1; /* a worker that starts again and again does not get round it */
    else
        options->tokens += (double)(now_ms - options->filled_ms) * options->per_second / 1000;
    options->tokens = options->tokens < most ? options->tokens : most;
    options->filled_ms = now_ms > 0 ? now_ms : 1;
    if (options->tokens >= 1 - 1e-9) {
        options->tokens -= 1;
        return true;
    }
    *again_ms = now_ms + (int64_t)ceil((1 - options->tokens) * 1000 / options->per_second);
    return false;
}

size_t queue_options_limit(void *all, const char *queue)
{
    const struct queue_options *options = options_of(all, queue);
    return options ? options->limit : 0;
}
