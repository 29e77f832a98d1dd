/*
 * The limits of a worker on attempts of steps that run in it: "charge=5/s" and "charge=3" of its options. Those by key stand in
 * the jobs' code.
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

int worker_read_step_limits(struct pdr_worker *worker)
{
    static const struct limit_list rate = { "step rate", "STEP", "charge", LIMIT_NAME_BYTES, true };
    static const struct limit_list limit = { "step limit", "STEP", "charge", LIMIT_NAME_BYTES, false };
    worker->limits = limits_new();
    if (!worker->limits)
        return PDR_NO_MEMORY;
    bool good = limit_list_read(worker->options.step_rates, &rate, take_rate, worker->limits, worker->error,
                                sizeof worker->error) &&
                limit_list_read(worker->options.step_limits, &limit, take_limit, worker->limits, worker->error,
                                sizeof worker->error);
    return good ? PDR_OK : PDR_INVALID;
}
