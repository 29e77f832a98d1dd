/*
 * Command lines: each verb declares its flags in a table, from which parsing and --help are made.
 */
#ifndef PERDURE_COMMAND_ARGUMENTS_H
#define PERDURE_COMMAND_ARGUMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct flag {
    const char *name;     /* without the dashes */
    const char *argument; /* "ID"; NULL: a switch */
    const char *help;
    bool repeats;
};

struct arguments;

struct verb {
    const char *name;
    const char *synopsis; /* "TYPE --id ID --input JSON|@FILE"; lines after the first are further forms */
    const char *summary;  /* one line, for the list of verbs */
    const char *help;     /* paragraphs, laid out by hand */
    const struct flag *flags; /* ends with a NULL name; --log, --json, --help are everybody's */
    size_t least, most;   /* positional arguments */
    int (*run)(struct arguments *arguments);
};

#define ARGUMENTS_FLAGS 48
#define ARGUMENTS_REPEATS 64

struct arguments {
    const struct verb *verb;
    const char *log; /* --log, $PERDURE_LOG or the default */
    bool json;
    int argc;    /* as they came, from the verb on */
    char **argv;
    size_t count;
    char **positional;
    const char *values[ARGUMENTS_FLAGS]; /* NULL: not given; switches: "" */
    size_t repeat_count;                 /* of the one flag that repeats */
    const char *repeats[ARGUMENTS_REPEATS];
};

/* Runs the verb: its exit code, or 2 with a message. */
int arguments_run(const struct verb *verb, int argc, char **argv);
/* NULL: not given. */
const char *arguments_get(const struct arguments *arguments, const char *name);
/* Prints "perdure VERB: ..." and where the help is; returns 2. */
int arguments_wrong(const struct arguments *arguments, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A duration flag; `otherwise` when it is not given. False: said what is wrong. */
bool arguments_duration(const struct arguments *arguments, const char *name, int64_t otherwise, int64_t *ms);
/* One within bounds that are written as durations too. */
bool arguments_duration_within(const struct arguments *arguments, const char *name, const char *lowest, const char *highest,
                               int64_t otherwise, int64_t *ms);
bool arguments_number(const struct arguments *arguments, const char *name, int64_t lowest, int64_t highest,
                      int64_t otherwise, int64_t *number);
/* JSON, or the content of the file after @ ("@-": standard input); malloc'ed. NULL: said what is wrong. */
char *arguments_input(const struct arguments *arguments, const char *name);
/* The whole of a file, NUL behind it; malloc'ed. NULL: `error`. */
char *arguments_read_file(const char *path, size_t limit, size_t *size, char *error, size_t error_size);

#endif
