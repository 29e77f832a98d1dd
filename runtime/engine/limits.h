/*
 * Limits on attempts of steps that run here and on runs that begin, shared by the partitions of a worker: how many of a step,
 * or with a key, run at the same time; how many of a step, or of a job type, begin in a second. Whoever finds no room waits
 * in line, in the order of arrival, whichever partition it is of. No clock, no thread: the engines tell the time, the worker's
 * loop runs them all.
 */
#ifndef PERDURE_LIMITS_H
#define PERDURE_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A token bucket that holds one second's worth. */
struct rate {
    double per_second; /* 0: no limit */
    double tokens;
    int64_t filled_ms; /* 0: never */
};
/* False: again at `*again_ms`. */
bool rate_take(struct rate *rate, int64_t now_ms, int64_t *again_ms);

enum limit_kind { LIMIT_STEP_RATE, LIMIT_STEP_COUNT, LIMIT_KEY, LIMIT_JOB_RATE };

/* What is passed in turn: first the key's, so that who waits for another limit holds up only those of its own key. */
enum limit_stage { LIMIT_STAGE_KEY, LIMIT_STAGE_COUNT, LIMIT_STAGE_RATE, LIMIT_STAGES };

struct limit_gate;
struct limit_waiter;
struct limit_line {
    struct limit_waiter *head, *tail;
};
struct limit_waiter {
    struct limit_gate *gates[LIMIT_STAGES]; /* NULL: not limited */
    size_t key_limit;
    enum limit_stage stage;                 /* up to this one, all are passed */
    struct limit_line *line;                /* that of gates[stage], or `ready`; NULL: it stands in none */
    struct limit_line *ready;               /* its owner's: of those who passed the last gate in another's call */
    struct limit_waiter *next, *before;
};

struct limits;
struct limits *limits_new(void); /* NULL: no memory */
void limits_free(struct limits *limits);
/* Once for each kind and name, before anybody waits. `name`: "charge" or "shop/charge". False: no memory. */
bool limits_set(struct limits *limits, enum limit_kind kind, const char *name, double number);
/* Of "shop/charge": by that name or by "charge". NULL: none. */
struct limit_gate *limits_find(const struct limits *limits, enum limit_kind kind, const char *name);
/* The names that were set for a kind, one after the other; NULL: there are no more. */
const char *limits_name(const struct limits *limits, enum limit_kind kind, size_t index);
/* Of a key: made where it is not there, gone with the last who uses it. NULL: no memory. */
struct limit_gate *limits_key(struct limits *limits, const char *key);

/* True: it has passed all its gates, and holds what it counts for until limit_leave(). False: it waits. */
bool limit_enter(struct limit_waiter *waiter, int64_t now_ms);
/* It is over, or given up. Those who have room now pass. */
void limit_leave(struct limits *limits, struct limit_waiter *waiter, int64_t now_ms);
/* Puts who has passed all gates into another line of its owner's, at its end. In one already: it stays. */
void limit_wait(struct limit_line *line, struct limit_waiter *waiter);
void limit_wait_no_more(struct limit_waiter *waiter); /* out of the line it stands in, if any */
/* The first of a line of the owner's, taken out of it; NULL: there is none. */
struct limit_waiter *limit_take_ready(struct limit_line *line);
/* Lets pass whom the rates allow by now. */
void limits_pump(struct limits *limits, int64_t now_ms);
int64_t limits_next(const struct limits *limits); /* when to pump next; INT64_MAX: never */
/* What it waits for: "step-limit charge=3". NULL: nothing. */
#define LIMIT_TEXT_BYTES 300
const char *limit_text(const struct limit_waiter *waiter, char *text, size_t size);

#endif
