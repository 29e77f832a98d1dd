/*
 * Three small steps in a row. They are declared short (`in_place`), so that they cost nothing but the log: this is what
 * the figures are measured with.
 */
#include <perdure/perdure.h>

PDR_JOB(hello, pdr_text, pdr_text)
PDR_STEP(look_up, pdr_text, pdr_text, .in_place = true)
PDR_STEP(translate, pdr_text, pdr_text, .in_place = true)
PDR_STEP(sign, pdr_text, pdr_text, .in_place = true)

int hello(pdr_job *job, const pdr_text *name, pdr_text *out)
{
    pdr_text *greeting, *translated, *signed_off;

    PDR_TRY(pdr_await(job, look_up, name, &greeting));
    PDR_TRY(pdr_await(job, translate, greeting, &translated));
    PDR_TRY(pdr_await(job, sign, translated, &signed_off));
    *out = *signed_off;
    return PDR_OK;
}

int look_up(pdr_attempt *attempt, const pdr_text *name, pdr_text *out)
{
    out->chars = pdr_attempt_format(attempt, "Hello, %s", name->chars);
    return PDR_OK;
}

int translate(pdr_attempt *attempt, const pdr_text *greeting, pdr_text *out)
{
    out->chars = pdr_attempt_format(attempt, "%s! Bonjour!", greeting->chars);
    return PDR_OK;
}

int sign(pdr_attempt *attempt, const pdr_text *letter, pdr_text *out)
{
    out->chars = pdr_attempt_format(attempt, "%s Yours, %s.", letter->chars, pdr_attempt_job_id(attempt));
    return PDR_OK;
}

PDR_MODULE(hello, PDR_RUNS(hello), PDR_RUNS(look_up), PDR_RUNS(translate), PDR_RUNS(sign));
