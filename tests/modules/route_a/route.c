/*
 * Two builds of one module: this one, and that of route_b, which takes another path after the first signal. Both do the
 * same for a job that has not come that far.
 */
#include <perdure/perdure.h>

#ifndef ROUTE_SECOND
#define ROUTE_SECOND paint
#endif

PDR_JOB(route, pdr_text, pdr_text)
PDR_STEP(prepare, pdr_text, pdr_text)
PDR_STEP(paint, pdr_text, pdr_text)
PDR_STEP(polish, pdr_text, pdr_text)
PDR_STEP(deliver, pdr_text, pdr_text)
PDR_SIGNAL(go, pdr_text)

int route(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *got;
    PDR_TRY(pdr_await(job, prepare, in, &got));
    PDR_TRY(pdr_await(job, ROUTE_SECOND, got, &got));
    PDR_TRY(pdr_receive(job, go, NULL));
    PDR_TRY(pdr_await(job, deliver, got, &got));
    out->chars = got->chars;
    return PDR_OK;
}

static int add(pdr_attempt *attempt, const pdr_text *in, pdr_text *out, const char *what)
{
    out->chars = pdr_attempt_format(attempt, "%s %s", in->chars, what);
    return out->chars != NULL ? PDR_OK : PDR_NO_MEMORY;
}

int prepare(pdr_attempt *attempt, const pdr_text *in, pdr_text *out) { return add(attempt, in, out, "prepared"); }
int paint(pdr_attempt *attempt, const pdr_text *in, pdr_text *out) { return add(attempt, in, out, "painted"); }
int polish(pdr_attempt *attempt, const pdr_text *in, pdr_text *out) { return add(attempt, in, out, "polished"); }
int deliver(pdr_attempt *attempt, const pdr_text *in, pdr_text *out) { return add(attempt, in, out, "delivered"); }

PDR_MODULE(route, PDR_RUNS(route), PDR_RUNS(prepare), PDR_RUNS(paint), PDR_RUNS(polish), PDR_RUNS(deliver));
