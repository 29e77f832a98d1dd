/*
 * The limits of a worker on attempts of steps that run in it: "charge=5/s" and "charge=3" of its options, and on runs of a job
 * type that begin in it: "checkout=20/s". Those by key stand in the jobs' code.
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

int worker_read_step_limits(struct pdr_worker *worker)
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

/* One that is mistyped would let all of them begin. */
bool worker_knows_limited_jobs(struct pdr_worker *worker)
{
    const char *type;
    for (size_t i = 0; (type = limits_name(worker->limits, LIMIT_JOB_RATE, i)); i++)
        if (!registry_job(worker->registry, type)) {
            worker_fail(worker, PDR_INVALID, "job rate of \"%s\": no module of this worker has that job type, or several have; "
                        "known here: %s", type, registry_job_names(worker->registry));
            return false;
        }
    return true;
}
