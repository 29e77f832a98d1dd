/*
 * A job in C whose step runs in Python: statistics of the numbers in a file, one a line. The Python side is beside this file.
 *
 *     perdure worker --module build/samples/survey.so --log kafka://127.0.0.1:9092/demo
 *     python3 workers/python/step_worker.py --queue python --module workers/samples/survey/survey.py --log kafka://127.0.0.1:9092/demo
 *     perdure start survey/summary --id heights --input '"/srv/heights.txt"' --log kafka://127.0.0.1:9092/demo
 */
#include <perdure/perdure.h>

PDR_STEP(statistics, pdr_text, pdr_json, .queue = "python", .timeout_ms = 10 * PDR_MINUTE, .max_attempts = 5)
PDR_STEP(publish, pdr_json, pdr_text)
PDR_JOB(summary, pdr_text, pdr_text)

int summary(pdr_job *job, const pdr_text *path, pdr_text *out)
{
    pdr_json *found;
    pdr_text *published;
    PDR_TRY(pdr_await(job, statistics, path, &found)); /* some machine with Python does it */
    PDR_TRY(pdr_await(job, publish, found, &published)); /* this one */
    out->chars = published->chars;
    return PDR_OK;
}

int publish(pdr_attempt *attempt, const pdr_json *found, pdr_text *out)
{
    out->chars = pdr_attempt_format(attempt, "published: %s", found->chars);
    return PDR_OK;
}

PDR_MODULE(survey, PDR_RUNS(summary), PDR_RUNS(publish), PDR_CALLS(statistics));
