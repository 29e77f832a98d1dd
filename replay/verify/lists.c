/* What the world outside says: commands that were acknowledged (--acked), effects that were made (--ledger). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "verify.h"

static uint64_t acked_key(bool signal, uint32_t job, const char *request)
{
    return pv_hash_three(signal, job, pv_hash_text(request));
}

static bool add_acked(struct check *c, const char *kind, const char *request, const char *job, uint32_t line)
{
    bool signal = !strcmp(kind, "signal");
    if (!signal && strcmp(kind, "start"))
        return false;
    bool fresh;
    uint32_t *index = pv_table_put(&c->acked_index, acked_key(signal, pv_check_job(c, job), request), &fresh);
    if (!fresh)
        return true; /* acknowledged twice is acknowledged */
    c->acked = pv_must_grow(c->acked, c->acked_count, &c->acked_room, sizeof *c->acked);
    c->acked[c->acked_count++] =
        (struct acked){.request = pv_must_copy(request), .job = pv_check_job(c, job), .line = line, .signal = signal};
    *index = (uint32_t)c->acked_count;
    return true;
}

static bool add_effect(struct check *c, const char *key)
{
    char *end;
    errno = 0;
    uint64_t run = strtoull(key, &end, 16);
    if (errno || end - key != 16 || *end != '-' || !end[1])
        return false;
    uint64_t op = strtoull(end + 1, &end, 10);
    if (errno || *end)
        return false;
    struct effect *effect = pv_table_put(&c->effects, pv_hash_two(run, op), NULL);
    *effect = (struct effect){.run = run, .op = op};
    c->totals.effects++;
    return true;
}

static bool complain(const char *path, const char *what, unsigned line)
{
    fprintf(stderr, "perdure-verify: %s:%u: %s\n", path, line, what);
    return false;
}

/* Reads line by line; `acked` tells which of the two lists it is. */
static bool read_list(struct check *c, const char *path, bool acked)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        fprintf(stderr, "perdure-verify: %s: %s\n", path, strerror(errno));
        return false;
    }
    char *line = NULL, *rest;
    size_t room = 0;
    bool ok = true;
    for (uint32_t number = 1; ok && getline(&line, &room, file) >= 0; number++) {
        line[strcspn(line, "\n")] = '\0';
        if (!*line || *line == '#')
            continue;
        const char *first = strtok_r(line, " ", &rest), *second = strtok_r(NULL, " ", &rest);
        if (acked)
            ok = (first && second && rest && *rest && add_acked(c, first, second, rest, number)) ||
                 complain(path, "expected: start REQUEST JOB, or: signal REQUEST JOB", number);
        else
            ok = (first && add_effect(c, first)) ||
                 complain(path, "expected: RUN-OP NAME, RUN as 16 hex digits", number);
    }
    free(line);
    fclose(file);
    return ok;
}

bool pv_lists_acked(struct check *c, const char *path)
{
    return read_list(c, path, true);
}

bool pv_lists_ledger(struct check *c, const char *path)
{
    c->has_ledger = true;
    return read_list(c, path, false);
}

void pv_lists_event(struct check *c, const struct run *run, const event_pb *event)
{
    bool signal = event->kind_case == PERDURE__V1__EVENT__KIND_SIGNAL_RECEIVED;
    if (!c->acked_count || (!signal && event->kind_case != PERDURE__V1__EVENT__KIND_STARTED))
        return;
    const char *request = signal ? event->signal_received->request : event->started->request;
    const uint32_t *index = pv_table_find(&c->acked_index, acked_key(signal, run->job, request));
    if (index)
        c->acked[*index - 1].times++;
}

void pv_lists_stub(struct check *c, uint32_t job, const char *request)
{
    for (int signal = 0; c->acked_count && signal < 2; signal++) {
        const uint32_t *index = pv_table_find(&c->acked_index, acked_key(signal, job, request));
        if (index && c->acked[*index - 1].times == 0)
            c->acked[*index - 1].times = 1;
    }
}

/* A step that is recorded as completed has had its effect. */
void pv_lists_step(struct check *c, const struct where *w, const struct run *run, uint64_t op)
{
    if (!c->has_ledger)
        return;
    struct effect *effect = pv_table_find(&c->effects, pv_hash_two(run->id, op));
    pv_hold(c, effect != NULL, EVENT_TABLE, w, "a completed step that the ledger lacks: %016" PRIx64 "-%" PRIu64,
            run->id, op);
    if (effect)
        effect->known = true;
}

void pv_lists_finish(struct check *c)
{
    for (size_t i = 0; i < c->acked_count; i++) {
        const struct acked *a = &c->acked[i];
        const struct job *job = &c->jobs[a->job];
        struct where w = {.stream = INBOX, .partition = job->partition, .offset = -1, .job = job->id};
        if (a->times == 0 && pv_was_cut(c, job->id))
            continue; /* it may have been, and be forgotten */
        pv_hold(c, a->times == 1, 13, &w, "the %s '%s' was acknowledged, and is absorbed %" PRIu64 " times",
                a->signal ? "signal" : "start", a->request, a->times);
    }
    /* An effect without a completed step is one attempt that was cut off: no violation, but worth a number. */
    const struct effect *effect;
    for (size_t at = 0; (effect = pv_table_next(&c->effects, &at, NULL));)
        c->totals.strange_effects += !effect->known;
}
