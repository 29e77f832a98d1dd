#include "engine/limits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/wire.h"

#define KEY_BUCKETS 1024

struct limit_gate {
    struct limit_gate *next;
    enum limit_kind kind;
    size_t most; /* at once; of a key: as each who comes says; of a job rate: let through and not begun */
    size_t inside;
    size_t users; /* of a key: those inside and in line */
    struct rate rate;
    int64_t again_ms; /* the rate allows nobody before */
    struct limit_line line;
    char name[];
};

struct limits {
    struct limit_gate *named;
    struct limit_gate *keys[KEY_BUCKETS];
};

bool rate_take(struct rate *rate, int64_t now_ms, int64_t *again_ms)
{
    double most = rate->per_second > 1 ? rate->per_second : 1;
    if (rate->per_second == 0)
        return true;
    if (rate->filled_ms == 0)
        rate->tokens = 1; /* a worker that starts again and again does not get round it */
    else
        rate->tokens += (double)(now_ms - rate->filled_ms) * rate->per_second / 1000;
    rate->tokens = rate->tokens < most ? rate->tokens : most;
    rate->filled_ms = now_ms > 0 ? now_ms : 1;
    if (rate->tokens >= 1 - 1e-9) {
        rate->tokens -= 1;
        return true;
    }
    *again_ms = now_ms + (int64_t)ceil((1 - rate->tokens) * 1000 / rate->per_second);
    return false;
}

/* ---- the gates --------------------------------------------------------------------------------------------------- */

struct limits *limits_new(void) { return calloc(1, sizeof(struct limits)); }

static struct limit_gate *gate_new(struct limit_gate **list, enum limit_kind kind, const char *name)
{
    size_t size = strlen(name) + 1;
    struct limit_gate *gate = calloc(1, sizeof *gate + size);
    if (!gate)
        return NULL;
    gate->kind = kind;
    memcpy(gate->name, name, size);
    gate->next = *list;
    return *list = gate;
}

static void gates_free(struct limit_gate *gate)
{
    while (gate) {
        struct limit_gate *next = gate->next;
        free(gate);
        gate = next;
    }
}

void limits_free(struct limits *limits)
{
    if (!limits)
        return;
    gates_free(limits->named);
    for (size_t i = 0; i < KEY_BUCKETS; i++)
        gates_free(limits->keys[i]);
    free(limits);
}

bool limits_set(struct limits *limits, enum limit_kind kind, const char *name, double number)
{
    struct limit_gate *gate = gate_new(&limits->named, kind, name);
    if (!gate)
        return false;
    if (kind != LIMIT_STEP_COUNT)
        gate->rate.per_second = number;
    if (kind != LIMIT_STEP_RATE)
        gate->most = number > 1 ? (size_t)number : 1;
    return true;
}

struct limit_gate *limits_find(const struct limits *limits, enum limit_kind kind, const char *name)
{
    const char *slash = strrchr(name, '/');
    for (struct limit_gate *gate = limits->named; gate; gate = gate->next)
        if (gate->kind == kind && (strcmp(gate->name, name) == 0 || (slash && strcmp(gate->name, slash + 1) == 0)))
            return gate;
    return NULL;
}

const char *limits_name(const struct limits *limits, enum limit_kind kind, size_t index)
{
    for (const struct limit_gate *gate = limits->named; gate; gate = gate->next)
        if (gate->kind == kind && index-- == 0)
            return gate->name;
    return NULL;
}

static struct limit_gate **key_list(struct limits *limits, const char *key)
{
    return &limits->keys[hash64(key, strlen(key)) % KEY_BUCKETS];
}

struct limit_gate *limits_key(struct limits *limits, const char *key)
{
    struct limit_gate **list = key_list(limits, key);
    for (struct limit_gate *gate = *list; gate; gate = gate->next)
        if (strcmp(gate->name, key) == 0)
            return gate;
    return gate_new(list, LIMIT_KEY, key);
}

static void key_drop_unused(struct limits *limits, struct limit_gate *gate)
{
    struct limit_gate **link = key_list(limits, gate->name);
    if (gate->users > 0)
        return;
    while (*link != gate)
        link = &(*link)->next;
    *link = gate->next;
    free(gate);
}

/* ---- passing ----------------------------------------------------------------------------------------------------- */

static bool gate_has_room(struct limit_gate *gate, const struct limit_waiter *waiter, int64_t now_ms)
{
    switch (gate->kind) {
    case LIMIT_KEY:
        return gate->inside < waiter->key_limit;
    case LIMIT_STEP_COUNT:
        return gate->inside < gate->most;
    case LIMIT_STEP_RATE:
        return rate_take(&gate->rate, now_ms, &gate->again_ms);
    case LIMIT_JOB_RATE:
        return gate->inside < gate->most && rate_take(&gate->rate, now_ms, &gate->again_ms);
    }
    return true;
}

/* Else who leaves lets the next one in. */
static bool gate_waits_for_time(const struct limit_gate *gate)
{
    return gate->line.head && gate->rate.per_second > 0 && (gate->kind != LIMIT_JOB_RATE || gate->inside < gate->most);
}

static void line_push(struct limit_line *line, struct limit_waiter *waiter)
{
    waiter->line = line;
    waiter->next = NULL;
    waiter->before = line->tail;
    if (line->tail)
        line->tail->next = waiter;
    else
        line->head = waiter;
    line->tail = waiter;
}

static void line_remove(struct limit_waiter *waiter)
{
    struct limit_line *line = waiter->line;
    if (!line)
        return;
    if (waiter->before)
        waiter->before->next = waiter->next;
    else
        line->head = waiter->next;
    if (waiter->next)
        waiter->next->before = waiter->before;
    else
        line->tail = waiter->before;
    waiter->next = waiter->before = NULL;
    waiter->line = NULL;
}

void limit_wait(struct limit_line *line, struct limit_waiter *waiter)
{
    if (!waiter->line)
        line_push(line, waiter);
}

void limit_wait_no_more(struct limit_waiter *waiter) { line_remove(waiter); }

struct limit_waiter *limit_take_ready(struct limit_line *line)
{
    struct limit_waiter *first = line->head;
    if (first)
        line_remove(first);
    return first;
}

static void limit_pass(struct limit_waiter *waiter)
{
    if (waiter->gates[waiter->stage])
        waiter->gates[waiter->stage]->inside++;
    waiter->stage++;
}

/* On through the gates that have room; false: it is in line. */
static bool limit_go_on(struct limit_waiter *waiter, int64_t now_ms)
{
    while (waiter->stage < LIMIT_STAGES) {
        struct limit_gate *gate = waiter->gates[waiter->stage];
        if (gate && (gate->line.head || !gate_has_room(gate, waiter, now_ms))) {
            line_push(&gate->line, waiter);
            return false;
        }
        limit_pass(waiter);
    }
    return true;
}

bool limit_enter(struct limit_waiter *waiter, int64_t now_ms)
{
    if (waiter->line || waiter->stage != LIMIT_STAGE_KEY)
        return waiter->stage == LIMIT_STAGES;
    if (waiter->gates[LIMIT_STAGE_KEY])
        waiter->gates[LIMIT_STAGE_KEY]->users++;
    return limit_go_on(waiter, now_ms);
}

/* Who stands first and has room goes on, to the next gate or through. */
static void gate_serve(struct limit_gate *gate, int64_t now_ms)
{
    while (gate->line.head && gate_has_room(gate, gate->line.head, now_ms)) {
        struct limit_waiter *first = gate->line.head;
        line_remove(first);
        limit_pass(first);
        if (limit_go_on(first, now_ms))
            line_push(first->ready, first);
    }
}

/* Of a job rate that was full nothing is saved up for the time that it was. */
static void gate_let_go(struct limit_gate *gate, int64_t now_ms)
{
    if (gate->kind == LIMIT_JOB_RATE && gate->inside == gate->most)
        gate->rate.filled_ms = now_ms;
    gate->inside--;
}

void limit_leave(struct limits *limits, struct limit_waiter *waiter, int64_t now_ms)
{
    struct limit_gate *gates[LIMIT_STAGES];
    enum limit_stage passed = waiter->stage;
    bool entered = waiter->line || passed > LIMIT_STAGE_KEY;
    memcpy(gates, waiter->gates, sizeof gates);
    line_remove(waiter);
    waiter->stage = LIMIT_STAGE_KEY;
    memset(waiter->gates, 0, sizeof waiter->gates);
    if (!entered)
        return;
    for (size_t i = LIMIT_STAGES; i-- > 0;) {
        if (!gates[i])
            continue;
        if (i < passed)
            gate_let_go(gates[i], now_ms);
        gate_serve(gates[i], now_ms);
    }
    if (gates[LIMIT_STAGE_KEY]) {
        gates[LIMIT_STAGE_KEY]->users--;
        key_drop_unused(limits, gates[LIMIT_STAGE_KEY]);
    }
}

void limits_pump(struct limits *limits, int64_t now_ms)
{
    for (struct limit_gate *gate = limits->named; gate; gate = gate->next)
        if (gate_waits_for_time(gate) && gate->again_ms <= now_ms)
            gate_serve(gate, now_ms);
}

int64_t limits_next(const struct limits *limits)
{
    int64_t next = INT64_MAX;
    for (const struct limit_gate *gate = limits->named; gate; gate = gate->next)
        if (gate_waits_for_time(gate) && gate->again_ms < next)
            next = gate->again_ms;
    return next;
}

const char *limit_text(const struct limit_waiter *waiter, char *text, size_t size)
{
    static const char *const options[] = { [LIMIT_STEP_RATE] = "step-rate", [LIMIT_STEP_COUNT] = "step-limit",
                                           [LIMIT_KEY] = "concurrency key", [LIMIT_JOB_RATE] = "job-rate" };
    const struct limit_gate *gate = waiter->line && waiter->stage < LIMIT_STAGES ? waiter->gates[waiter->stage] : NULL;
    if (!gate)
        return NULL; /* it stands in no line, or in one of its owner's */
    if (gate->rate.per_second > 0)
        snprintf(text, size, "%s %s=%g/s", options[gate->kind], gate->name, gate->rate.per_second);
    else
        snprintf(text, size, "%s %s=%zu", options[gate->kind], gate->name,
                 gate->kind == LIMIT_KEY ? waiter->key_limit : gate->most);
    return text;
}
