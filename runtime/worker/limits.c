/*
 * The limits of a worker on attempts of steps that run in it, "charge=5/s" and "charge=3" of its options, and on runs of a job
 * type that begin in it, "checkout=20/s". Those by key stand in the jobs' code.
 */
#include "engine/limits.h"
#include "worker/limit_list.h"
#include "worker/worker.h"

static bool take_rate(void *limits, const char *step, double number)
{
    return limits_set(limits, LIMIT_STEP_RATE, step, number);
}

static bool take_limit(void *limits, const char *step, double number)
{
    return limits_set(limits, LIMIT_STEP_COUNT, step, number);
}

static bool take_job_rate(void *limits, const char *type, double number)
{
    return limits_set(limits, LIMIT_JOB_RATE, type, number);
}

int worker_read_limits(struct pdr_worker *worker)
{
    static const struct limit_list rate = { "step rate", "STEP", "charge", LIMIT_NAME_BYTES, true };
    static const struct limit_list limit = { "step limit", "STEP", "charge", LIMIT_NAME_BYTES, false };
    static const struct limit_list job_rate = { "job rate", "TYPE", "checkout", LIMIT_NAME_BYTES, true };
    worker->limits = limits_new();
    if (!worker->limits)
        return PDR_NO_MEMORY;
    bool good = limit_list_read(worker->options.step_rates, &rate, take_rate, worker->limits, worker->error,
                                sizeof worker->error) &&
                limit_list_read(worker->options.step_limits, &limit, take_limit, worker->limits, worker->error,
                                sizeof worker->error) &&
                limit_list_read(worker->options.job_rates, &job_rate, take_job_rate, worker->limits, worker->error,
                                sizeof worker->error);
    return good ? PDR_OK : PDR_INVALID;
}

static bool limited_is_known(struct pdr_worker *worker, enum limit_kind kind, const char *name)
{
    static const char *const options[] = { [LIMIT_STEP_RATE] = "step rate", [LIMIT_STEP_COUNT] = "step limit",
                                           [LIMIT_JOB_RATE] = "job rate" };
    const struct registry *registry = worker->registry;
    bool job = kind == LIMIT_JOB_RATE;
    char steps[600];
    if (job ? registry_job(registry, name) : registry_step(registry, name))
        return true;
    worker_fail(worker, PDR_INVALID, "%s of \"%s\": no module of this worker %s, or several have; known here: %s", options[kind],
                name, job ? "has that job type" : "has that step and runs it",
                job ? registry_job_names(registry) : registry_step_names(registry, steps, sizeof steps));
    return false;
}

/* One that is mistyped would let all of them begin. */
bool worker_knows_limited(struct pdr_worker *worker)
{
    static const enum limit_kind kinds[] = { LIMIT_STEP_RATE, LIMIT_STEP_COUNT, LIMIT_JOB_RATE };
    const char *name;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (size_t i = 0; (name = limits_name(worker->limits, kinds[k], i)); i++)
            if (!limited_is_known(worker, kinds[k], name))
                return false;
    return true;
}
