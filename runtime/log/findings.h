/*
 * What `perdure check` finds: one thing after the other, each with what to do about it.
 */
#ifndef PERDURE_LOG_FINDINGS_H
#define PERDURE_LOG_FINDINGS_H

#include <stddef.h>

enum finding_level {
    FINDING_RIGHT,
    FINDING_NOTE, /* good to know */
    FINDING_SLOW, /* costs speed */
    FINDING_LOSS, /* would lose data, or stops work */
};
#define FINDING_LEVELS 4

struct findings {
    void (*tell)(void *context, enum finding_level level, const char *subject, const char *text, const char *repair);
    void *context;
    size_t counts[FINDING_LEVELS];
};

/* `repair`: a command or an advice; NULL: none is needed. */
void finding_tell(struct findings *findings, enum finding_level level, const char *subject, const char *repair,
                  const char *format, ...) __attribute__((format(printf, 5, 6)));

/* findings.c: what is so on any log */
void findings_of_sqlite_library(struct findings *findings);
void findings_of_disk(struct findings *findings, const char *subject, const char *path);
/* A SQLite file: is it whole, and who can read it. One that somebody writes now is left alone. */
void findings_of_database(struct findings *findings, const char *subject, const char *path, const char *repair);

/* kafka_check.c and sqlite_check.c: everything about one log. 0: all of it is told; else why it cannot be looked at is in
 * `error`: 2 refused, 3 there is none, 5 not reachable. */
struct check_options {
    int dev;   /* one broker, for trials */
    int write; /* may write one answer that nobody waits for */
};
int kafka_check(const char *uri, const struct check_options *options, struct findings *findings, char *error,
                size_t error_size);
int sqlite_check(const char *path, struct findings *findings, char *error, size_t error_size);

#endif
