/*
 * perdure namespace grow: makes the partitions, tells the owners of the old ones, and waits until the slots have moved
 * (rules 24, 25).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "command/duration.h"
#include "command/namespace.h"
#include "command/session.h"
#include "command/show.h"
#include "constants.h"
#include "log/kafka.h"

#define GROW_TIMEOUT_MS (10 * 60 * 1000)
#define ASK_TIMEOUT_MS 5000
#define ASK_AGAIN_MS 300

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

enum moved { SILENT, MOVING, MOVED };

/* Is what left each partition where it belongs? Their owners hear of the new map by the same command. All are asked at
 * once: none can end before the others have begun. */
static bool partitions_ask(struct client *client, uint32_t count, uint32_t version, int64_t patience_ms, enum moved *moved)
{
    Command command = PERDURE__V1__COMMAND__INIT;
    Perdure__V1__Grow grow = PERDURE__V1__GROW__INIT;
    struct question **questions = calloc(count, sizeof *questions);
    grow.map_version = version;
    command.kind_case = PERDURE__V1__COMMAND__KIND_GROW;
    command.grow = &grow;
    if (!questions)
        return false;
    for (uint32_t p = 0; p < count; p++)
        if (moved[p] != MOVED)
            questions[p] = client_ask_partition(client, p, &command);
    int64_t deadline = now_ms() + patience_ms;
    for (uint32_t p = 0; p < count; p++) {
        struct question *question = questions[p];
        int64_t left = deadline - now_ms();
        if (!question)
            continue;
        moved[p] = SILENT;
        if (client_wait(client, question, left > 0 ? left : 0, patience_ms) == CLIENT_ANSWERED)
            moved[p] = strcmp(question->answer->answer, "accepted") == 0 ? MOVED : MOVING;
    }
    for (uint32_t p = 0; p < count; p++)
        client_forget(client, questions[p]);
    free(questions);
    return true;
}

/* A growth is over everywhere before the next may begin. */
static int may_begin(const struct kafka_growth *growth, char *text, size_t text_size)
{
    struct client_options options = {.name = "perdure"};
    struct client *client;
    const struct arguments *arguments = growth->context;
    if (growth->version_before <= 1)
        return EXIT_OK;
    enum moved *moved = calloc(growth->before, sizeof *moved);
    int code = moved ? client_open(arguments->log, &options, &client, text, text_size) : EXIT_UNREACHABLE;
    if (code == EXIT_OK)
        partitions_ask(client, growth->before, growth->version_before, ASK_TIMEOUT_MS, moved);
    for (uint32_t p = 0; code == EXIT_OK && p < growth->before; p++) {
        if (moved[p] == MOVED)
            continue;
        code = moved[p] == MOVING ? EXIT_USAGE : EXIT_TIMED_OUT;
        snprintf(text, text_size, moved[p] == MOVING
                 ? "partition %u: slots still move to make %u partitions; run `perdure namespace grow --partitions %u` and "
                   "wait for its end first"
                 : "partition %u has no owner that answers, so nobody knows whether the growth to %u partitions is over; "
                   "start a worker, then `perdure namespace grow --partitions %u`", p, growth->before, growth->before);
    }
    if (client)
        client_close(client);
    free(moved);
    return code;
}

static void grow_progress(const struct arguments *arguments, uint32_t done, uint32_t all)
{
    if (!arguments->json)
        fprintf(stderr, "%u of %u partitions have handed over what leaves them\n", done, all);
}

/* Waits for the owners of all old partitions. */
static int grow_wait(const struct arguments *arguments, struct client *client, const struct kafka_growth *growth,
                     int64_t timeout_ms, char *text, size_t text_size)
{
    int64_t deadline = now_ms() + timeout_ms, patience_ms = ASK_TIMEOUT_MS;
    uint32_t all = growth->grown_from, told = UINT32_MAX;
    enum moved *moved = calloc(all, sizeof *moved);
    for (;;) {
        uint32_t done = 0, waits = all;
        bool silent = false;
        if (!moved || !partitions_ask(client, all, growth->version, patience_ms, moved)) {
            snprintf(text, text_size, "out of memory");
            free(moved);
            return EXIT_UNREACHABLE;
        }
        for (uint32_t p = all; p-- > 0;) {
            done += moved[p] == MOVED;
            waits = moved[p] == MOVED ? waits : p;
            silent = silent || moved[p] == SILENT;
        }
        if (silent && patience_ms < (deadline - now_ms()) / 2) /* perhaps its inbox is long: the question waits in it */
            patience_ms *= 2;
        if (done != told)
            grow_progress(arguments, told = done, all);
        if (done < all && now_ms() > deadline)
            snprintf(text, text_size, "partition %u: %s; %u of %u have handed over. Nothing is lost: run it again to go on",
                     waits, moved[waits] == MOVING ? "its slots still move" : "no owner answers: is a worker running?", done,
                     all);
        if (done == all || now_ms() > deadline) {
            free(moved);
            return done == all ? EXIT_OK : EXIT_TIMED_OUT;
        }
        nanosleep(&(struct timespec){ .tv_nsec = ASK_AGAIN_MS * 1000 * 1000L }, NULL);
    }
}

int namespace_grow(struct arguments *arguments)
{
    struct client_options options = {.name = "perdure"};
    struct kafka_growth growth = {.may_begin = may_begin, .context = arguments};
    struct client *client = NULL;
    int64_t partitions, timeout_ms;
    char text[2000] = "";
    if (strncmp(arguments->log, "kafka:", 6) != 0)
        return arguments_wrong(arguments, "grow: an embedded log has 1 partition; a namespace in Kafka can grow");
    if (!arguments_number(arguments, "partitions", 1, SLOT_COUNT, 0, &partitions) ||
        !arguments_duration(arguments, "timeout", GROW_TIMEOUT_MS, &timeout_ms))
        return EXIT_USAGE;
    if (partitions < 2 || (partitions & (partitions - 1)) != 0)
        return arguments_wrong(arguments, "grow: name the new number with --partitions N, a power of two up to %d", SLOT_COUNT);
    int code = kafka_namespace_grow(arguments->log, (uint32_t)partitions, arguments_get(arguments, "dev"), &growth, text,
                                    sizeof text);
    if (code == EXIT_OK && growth.version > 1)
        code = client_open(arguments->log, &options, &client, text, sizeof text);
    if (code == EXIT_OK && client)
        code = grow_wait(arguments, client, &growth, timeout_ms, text, sizeof text);
    if (client)
        client_close(client);
    if (code == EXIT_OK && growth.version > 1)
        snprintf(text, sizeof text, "namespace has %u partitions, slot map %u; all jobs are where they belong",
                 growth.partitions, growth.version);
    else if (code == EXIT_OK)
        snprintf(text, sizeof text, "namespace has %u partitions already; nothing was changed", growth.partitions);
    return namespace_done(arguments, code, text);
}
