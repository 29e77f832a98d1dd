/*
 * Code of jobs that crashes its worker. A curse lies on one run, or on one step of it, for a few crashes: each time that
 * code begins, the worker dies as if it had died in it, so nothing that its engine wanted by then leaves; the next
 * incarnation is told, as a supervisor would. What is quarantined is resumed by clients.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crash/slot.h"
#include "world.h"

#define CURSES 6
#define NOTES 64

struct curse { /* left 0: none */
    char job[64];
    uint64_t run, op;
    unsigned left;
};

struct note { /* of a crash, until the engine says that it is in the journal */
    int worker; /* -1: free */
    char job[64];
    uint64_t run, op, id;
    uint32_t attempt;
    bool counts;
};

struct crashes {
    struct rng rng; /* of its own: runs without curses stay what they were */
    bool enabled;
    bool listening; /* an engine runs: what jobs begin is of that worker */
    struct curse curses[CURSES];
    struct note notes[NOTES];
    bool crashed;   /* code began that ends its worker */
    char job[64];
    uint64_t run;
    uint64_t asked[16]; /* runs whose quarantine was answered, with how many events */
    size_t asked_count;
};

static struct crashes *crashes_of_world(void) { return world ? world->crashes : NULL; }

static struct curse *curse_find(struct crashes *crashes, const char *job, uint64_t run, uint64_t op)
{
    for (size_t i = 0; i < CURSES; i++)
        if (crashes->curses[i].left > 0 && crashes->curses[i].run == run && crashes->curses[i].op == op &&
            strcmp(crashes->curses[i].job, job) == 0)
            return &crashes->curses[i];
    return NULL;
}

/* Does this code crash, now that it begins? */
static bool curse_strikes(struct crashes *crashes, const char *job, uint64_t run, uint64_t op, unsigned chance)
{
    struct curse *curse = curse_find(crashes, job, run, op);
    if (!curse && rng_chance(&crashes->rng, chance)) {
        curse = &crashes->curses[rng_below(&crashes->rng, CURSES)];
        snprintf(curse->job, sizeof curse->job, "%s", job);
        curse->run = run;
        curse->op = op;
        curse->left = 1 + (unsigned)rng_below(&crashes->rng, 4);
    }
    if (!curse)
        return false;
    curse->left--;
    return true;
}

static void note_add(struct crashes *crashes, const struct worker *worker, const char *job, uint64_t run, uint64_t op,
                     uint32_t attempt)
{
    for (size_t i = 0; i < NOTES; i++) {
        struct note *note = &crashes->notes[i];
        if (note->worker >= 0)
            continue;
        *note = (struct note){ .worker = worker->id, .run = run, .op = op, .attempt = attempt };
        snprintf(note->job, sizeof note->job, "%s", job);
        note->id = rng_next(&crashes->rng) | 1;
        note->counts = op != 0 || !rng_chance(&crashes->rng, 1000);
        fault_count(op ? FAULT_STEP_CRASHED : FAULT_JOB_CRASHED);
        trace("%s: %s op %llu crashes it", worker->name, job, (unsigned long long)op);
        return;
    }
}

static void on_code_begins(enum crash_kind kind, const char *job, uint64_t run)
{
    struct crashes *crashes = crashes_of_world();
    if (!crashes || !crashes->listening || world->quiet || kind != CRASH_IN_JOB || crashes->crashed ||
        !curse_strikes(crashes, job, run, 0, 60))
        return;
    crashes->crashed = true;
    crashes->run = run;
    snprintf(crashes->job, sizeof crashes->job, "%s", job);
}

void crashes_begin(void)
{
    struct crashes *crashes = world->crashes = calloc(1, sizeof *crashes);
    if (!crashes)
        abort();
    rng_seed(&crashes->rng, world->options.seed, 5);
    crashes->enabled = !world->options.no_faults && rng_below(&crashes->rng, 3) == 0;
    for (size_t i = 0; i < NOTES; i++)
        crashes->notes[i].worker = -1;
    crash_probe = crashes->enabled ? on_code_begins : NULL;
}

void crashes_end(void)
{
    crash_probe = NULL;
    free(world->crashes);
    world->crashes = NULL;
}

void crashes_run(struct worker *worker, struct engine *engine, bool bring_back)
{
    struct crashes *crashes = world->crashes;
    crashes->listening = true;
    crashes->crashed = false;
    engine_run(engine, bring_back);
    crashes->listening = false;
    if (!crashes->crashed)
        return;
    note_add(crashes, worker, crashes->job, crashes->run, 0, 0);
    worker->restarting = true;
}

bool crashes_in_step(struct worker *worker, const struct task *task)
{
    struct crashes *crashes = world->crashes;
    if (!crashes->enabled || world->quiet || !curse_strikes(crashes, task->job, task->run, task->op, 100))
        return false;
    note_add(crashes, worker, task->job, task->run, task->op, task->attempt);
    worker->restarting = true;
    return true;
}

/* No note: the step worker tells its owner, once it is back. */
bool crashes_in_task(const Perdure__V1__Task *task)
{
    struct crashes *crashes = world->crashes;
    if (!crashes->enabled || world->quiet || !curse_strikes(crashes, task->job, task->run, task->op, 1500))
        return false;
    fault_count(FAULT_TASK_CRASHED);
    return true;
}

void crashes_tell(const struct worker *worker, uint32_t partition, struct engine *engine)
{
    for (size_t i = 0; i < NOTES; i++) {
        const struct note *note = &world->crashes->notes[i];
        if (note->worker != worker->id || partition_of(note->job, world->profile.partitions) != partition)
            continue;
        Event event = PERDURE__V1__EVENT__INIT;
        Perdure__V1__JobCrashed crash = PERDURE__V1__JOB_CRASHED__INIT;
        crash.crash = note->id;
        crash.reason = (char *)"SIGSEGV at address 0x0";
        crash.count = note->counts;
        crash.attempt = note->attempt;
        event.op = note->op;
        event.kind_case = PERDURE__V1__EVENT__KIND_JOB_CRASHED;
        event.job_crashed = &crash;
        engine_on_crashed(engine, note->job, note->run, &event);
    }
}

void crashes_done(const struct worker *worker, uint64_t id)
{
    for (size_t i = 0; i < NOTES; i++)
        if (world->crashes->notes[i].worker == worker->id && world->crashes->notes[i].id == id)
            world->crashes->notes[i].worker = -1;
}

/* ---- clients let quarantined jobs try again ------------------------------------------------------------------ */

static bool run_is_aside(const struct oracle_run *run)
{
    for (uint64_t i = run->seq; run->open && i-- > 0;) {
        const Event *event = run->events[i].event;
        if (event->kind_case == PERDURE__V1__EVENT__KIND_RESUMED)
            return false;
        if (event->kind_case == PERDURE__V1__EVENT__KIND_JOB_CRASHED && event->job_crashed->quarantined)
            return true;
    }
    return false;
}

static bool asked_before(struct crashes *crashes, uint64_t key)
{
    for (size_t i = 0; i < crashes->asked_count && i < 16; i++)
        if (crashes->asked[i] == key)
            return true;
    crashes->asked[crashes->asked_count++ % 16] = key;
    return false;
}

static bool is_to_be_resumed(const struct oracle_run *run)
{
    return run->left_at < 0 && run_is_aside(run) && !(world->unknown_job && strcmp(run->job, world->unknown_job) == 0);
}

/* When somebody looks again whether one is still put aside. */
int64_t crashes_next(void)
{
    for (uint32_t p = 0; p < world->profile.partitions; p++)
        for (const struct oracle_run *run = world->oracles[p].all; run; run = run->next)
            if (world->crashes->enabled && is_to_be_resumed(run))
                return (world->now / 60000 + 1) * 60000;
    return INT64_MAX;
}

/* In the end all of them, each once a minute while it is put aside: where slots move, what is asked may die on its way
 * (rule 14). True: somebody was asked. */
bool crashes_resume(bool all)
{
    struct crashes *crashes = world->crashes;
    bool any = false;
    if (!crashes->enabled || (!all && !rng_chance(&crashes->rng, 200)))
        return false;
    for (uint32_t p = 0; p < world->profile.partitions; p++)
        for (const struct oracle_run *run = world->oracles[p].all; run; run = run->next) {
            if (!is_to_be_resumed(run))
                continue;
            if (all && asked_before(crashes, run->run ^ run->seq ^ (uint64_t)(world->now / 60000) << 32))
                continue;
            client_resume(run->job);
            fault_count(FAULT_RESUMED);
            any = true;
        }
    return any;
}
