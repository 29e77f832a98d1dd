/*
 * The jobs that the simulated workers run, written as any user would, with the public header. Inputs and results are
 * texts of numbers. Each result of a step ends with a token that no other attempt ever gets, so that two attempts never
 * look the same in a history; what follows from the input alone comes first, so that a fault-free run is known.
 */
#include <perdure/perdure.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

PDR_STEP(work, pdr_text, pdr_text, .backoff_ms = 50, .backoff_max_ms = 400)
PDR_STEP(quick, pdr_text, pdr_text, .in_place = true, .backoff_ms = 20, .backoff_max_ms = 100)
PDR_STEP(undo, pdr_text, pdr_none, .backoff_ms = 50, .backoff_max_ms = 200)
PDR_STEP(hang, pdr_text, pdr_text, .timeout_ms = 300, .backoff_ms = 50, .backoff_max_ms = 200)
PDR_STEP(far, pdr_text, pdr_text, .queue = "far", .heartbeat_ms = 3000, .backoff_ms = 50, .backoff_max_ms = 200)
PDR_STEP(asked, pdr_text, pdr_text, .backoff_ms = 50)
PDR_SIGNAL(go, pdr_text)
PDR_SIGNAL(poke, pdr_text)
PDR_SIGNAL(stop, pdr_text)
PDR_JOB(chain, pdr_text, pdr_text)
PDR_JOB(family, pdr_text, pdr_text)
PDR_JOB(leaf, pdr_text, pdr_text)
PDR_JOB(race, pdr_text, pdr_text)
PDR_JOB(gather, pdr_text, pdr_text)
PDR_JOB(sleeper, pdr_text, pdr_text)
PDR_JOB(saga, pdr_text, pdr_text)
PDR_JOB(mailbox, pdr_text, pdr_text)
PDR_JOB(dicer, pdr_text, pdr_text)
PDR_JOB(poster, pdr_text, pdr_text)
PDR_JOB(sink, pdr_text, pdr_text)
PDR_JOB(errand, pdr_text, pdr_text)

/* ---- the outside ----------------------------------------------------------------------------------------- */

static unsigned mix(unsigned value) { return (value * 31u + 7u) % 100003u; }

/* Input "VALUE FAILURES HOPELESS": the first FAILURES attempts fail; with HOPELESS the last of them is final. */
static int act(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    unsigned value = 0, failures = 0, hopeless = 0;
    if (sscanf(in->chars, "%u %u %u", &value, &failures, &hopeless) < 1)
        return pdr_attempt_give_up(attempt, "BadInput", "%s", in->chars);
    if (hopeless && (unsigned)pdr_attempt_number(attempt) > failures)
        return pdr_attempt_give_up(attempt, "Hopeless", "value %u", value);
    if ((unsigned)pdr_attempt_number(attempt) <= failures) {
        fault_count(FAULT_STEP_FAILED);
        return pdr_attempt_fail(attempt, "NotYet", "attempt %d", pdr_attempt_number(attempt));
    }
    if (out)
        out->chars = pdr_attempt_format(attempt, "%u %llu", mix(value), (unsigned long long)effect_begin());
    return PDR_OK;
}

int work(pdr_attempt *attempt, const pdr_text *in, pdr_text *out) { return act(attempt, in, out); }
int quick(pdr_attempt *attempt, const pdr_text *in, pdr_text *out) { return act(attempt, in, out); }
int hang(pdr_attempt *attempt, const pdr_text *in, pdr_text *out) { return act(attempt, in, out); }

int far(pdr_attempt *attempt, const pdr_text *in, pdr_text *out) { return act(attempt, in, out); }

/* Somebody outside has the answer. */
int asked(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    unsigned value = 0;
    (void)out;
    sscanf(in->chars, "%u", &value);
    people_ask(pdr_attempt_token(attempt), in->chars, mix(value));
    return PDR_LATER;
}

int undo(pdr_attempt *attempt, const pdr_text *in, pdr_none *out)
{
    (void)out;
    return act(attempt, in, NULL);
}

static unsigned value_of(const pdr_text *text)
{
    unsigned value = 0;
    return text && sscanf(text->chars, "%u", &value) == 1 ? value : 0;
}

/* ---- jobs --------------------------------------------------------------------------------------------------- */

/* "VALUE COUNT FAILURES": one step after another. */
int chain(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    unsigned value = 0, count = 1, failures = 0;
    sscanf(in->chars, "%u %u %u", &value, &count, &failures);
    for (unsigned i = 0; i < count; i++) {
        pdr_text *done, input = { pdr_format(job, "%u %u", value, i == 1 ? failures : 0) };
        if (i % 3 == 2)
            PDR_TRY(pdr_await(job, quick, &input, &done));
        else if (i % 4 == 3)
            PDR_TRY(pdr_await(job, far, &input, &done));
        else if (i % 5 == 4)
            PDR_TRY(pdr_await(job, hang, &input, &done));
        else
            PDR_TRY(pdr_await(job, work, &input, &done, .max_attempts = 8, .concurrency_key = "mixed"));
        value = value_of(done);
    }
    out->chars = pdr_format(job, "%u", value);
    return PDR_OK;
}

/* "VALUE CHILD": a child in another partition, signalled and awaited. */
int family(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    unsigned value = 0;
    char child[48] = "";
    sscanf(in->chars, "%u %47s", &value, child);
    pdr_text *done, *result, input = { pdr_format(job, "%u", value) };
    PDR_TRY(pdr_await(job, work, &input, &done));
    pdr_text next = { pdr_format(job, "%u", value_of(done)) };
    pdr_future(leaf) baby = pdr_start(job, leaf, &next, .id = child);
    PDR_TRY(pdr_send(job, go, child, &next));
    int code = pdr_join(job, leaf, baby, &result);
    if (code == PDR_CANCELLED)
        return code;
    if (code != PDR_OK)
        return pdr_fail(job, "NoChild", "%s", child);
    out->chars = pdr_format(job, "%u", mix(value_of(result)));
    return PDR_OK;
}

/* "VALUE": waits for its parent's word. */
int leaf(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *first, *word, *last, input = { pdr_format(job, "%u", value_of(in)) };
    PDR_TRY(pdr_await(job, quick, &input, &first));
    int code = pdr_receive(job, go, &word, .timeout_ms = 20 * PDR_MINUTE);
    if (code == PDR_TIMED_OUT)
        return pdr_fail(job, "NoWord", "the parent said nothing");
    PDR_TRY(code);
    pdr_text next = { pdr_format(job, "%u", value_of(first) + value_of(word)) };
    PDR_TRY(pdr_await(job, work, &next, &last));
    out->chars = pdr_format(job, "%u", value_of(last));
    return PDR_OK;
}

/* "VALUE DELAY": whichever comes first. */
int race(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    unsigned value = 0, delay = 100;
    sscanf(in->chars, "%u %u", &value, &delay);
    for (int round = 0; round < 3; round++) {
        pdr_text *done, *word, input = { pdr_format(job, "%u %d", value, round == 1) };
        pdr_future(work) step = pdr_start(job, work, &input);
        pdr_future(poke) signal = pdr_expect(job, poke);
        pdr_future late = pdr_timer(job, (int64_t)delay);
        PDR_TRY(pdr_any(job, step.any, signal.any, late));
        if (pdr_ready(job, step.any)) {
            PDR_TRY(pdr_join(job, work, step, &done));
            value = value_of(done);
        } else if (pdr_ready(job, signal.any)) {
            PDR_TRY(pdr_join(job, poke, signal, &word));
            value += value_of(word);
        } else {
            value++;
        }
    }
    out->chars = pdr_format(job, "%u", value);
    return PDR_OK;
}

/* "VALUE COUNT FAILURES": several at once, at most two of them at a time, then all. */
int gather(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    unsigned value = 0, count = 3, failures = 0, sum = 0;
    sscanf(in->chars, "%u %u %u", &value, &count, &failures);
    pdr_limit *two = pdr_limit_new(job, 2);
    pdr_future(work) *steps = pdr_array(job, pdr_future(work), count);
    for (unsigned i = 0; i < count; i++) {
        pdr_text input = { pdr_format(job, "%u %u", value + i, i == 0 ? failures : 0) };
        steps[i] = pdr_start(job, work, &input, .limit = two);
    }
    PDR_TRY(pdr_all(job, steps[0].any, steps[count - 1].any));
    for (unsigned i = 0; i < count; i++) {
        pdr_text *done;
        PDR_TRY(pdr_join(job, work, steps[i], &done));
        sum += value_of(done);
    }
    out->chars = pdr_format(job, "%u", sum % 100003u);
    return PDR_OK;
}

/* "VALUE DELAY": sleeps, and looks at the clock. */
int sleeper(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    unsigned value = 0, delay = 100;
    sscanf(in->chars, "%u %u", &value, &delay);
    for (int round = 0; round < 3; round++) {
        int64_t before = pdr_now(job);
        PDR_TRY(pdr_sleep(job, (int64_t)delay));
        if (pdr_now(job) < before + (int64_t)delay)
            return pdr_fail(job, "TimeWentBack", "by %lld ms", (long long)(before + (int64_t)delay - pdr_now(job)));
        pdr_text *done, input = { pdr_format(job, "%u", value) };
        PDR_TRY(pdr_await(job, quick, &input, &done));
        value = value_of(done);
    }
    out->chars = pdr_format(job, "%u", value);
    return PDR_OK;
}

/* "VALUE COUNT HOPELESS": what was done is undone when the last step fails. */
int saga(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    unsigned value = 0, count = 2, hopeless = 0;
    sscanf(in->chars, "%u %u %u", &value, &count, &hopeless);
    for (unsigned i = 0; i < count; i++) {
        pdr_text *done, input = { pdr_format(job, "%u 0 %u", value, hopeless && i + 1 == count) };
        PDR_TRY(pdr_await(job, work, &input, &done));
        pdr_text back = { pdr_format(job, "%u %u", value_of(done), i & 1u) };
        PDR_TRY(pdr_compensate(job, undo, &back));
        value = value_of(done);
    }
    out->chars = pdr_format(job, "%u", value);
    return PDR_OK;
}

/* "VALUE COUNT": receives what comes, each within a time. */
int mailbox(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    unsigned value = 0, count = 3;
    sscanf(in->chars, "%u %u", &value, &count);
    for (unsigned i = 0; i < count; i++) {
        pdr_text *word, *done;
        int code = pdr_receive(job, poke, &word, .timeout_ms = 1500);
        if (code != PDR_OK && code != PDR_TIMED_OUT)
            return code;
        pdr_text input = { pdr_format(job, "%u", value + (code == PDR_OK ? value_of(word) : 1)) };
        PDR_TRY(pdr_await(job, work, &input, &done));
        value = value_of(done);
    }
    out->chars = pdr_format(job, "%u", value);
    return PDR_OK;
}

/* "VALUE": what is random must be the same at every rebuild, or the inputs of the steps differ. */
int dicer(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    unsigned value = value_of(in), sum = 0;
    for (int i = 0; i < 3; i++) {
        pdr_text *done, input = { pdr_format(job, "%u", (unsigned)(pdr_random(job) % 1000) + value) };
        PDR_TRY(pdr_await(job, work, &input, &done));
        sum += value_of(done);
        if (pdr_random(job) % 2)
            PDR_TRY(pdr_sleep(job, (int64_t)(pdr_random(job) % 300)));
    }
    out->chars = pdr_format(job, "%u", sum);
    return PDR_OK;
}

/* "VALUE TARGET COUNT": signals another job, which may be unknown or over. */
int poster(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    unsigned value = 0, count = 1;
    char target[48] = "";
    sscanf(in->chars, "%u %47s %u", &value, target, &count);
    for (unsigned i = 0; i < count; i++) {
        pdr_text *done, input = { pdr_format(job, "%u", value) };
        PDR_TRY(pdr_send(job, poke, target, &input));
        PDR_TRY(pdr_await(job, work, &input, &done));
        value = value_of(done);
    }
    out->chars = pdr_format(job, "%u", value);
    return PDR_OK;
}

/* Takes pokes until it is told to stop: whatever was accepted for it must be in its history. */
int sink(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    unsigned value = value_of(in);
    pdr_future(stop) end = pdr_expect(job, stop);
    for (;;) {
        pdr_text *word;
        pdr_future(poke) next = pdr_expect(job, poke);
        PDR_TRY(pdr_any(job, next.any, end.any));
        if (!pdr_ready(job, next.any))
            break;
        PDR_TRY(pdr_join(job, poke, next, &word));
        value = mix(value + value_of(word));
    }
    out->chars = pdr_format(job, "%u", value);
    return PDR_OK;
}

/* "VALUE COUNT FAILURES": errands for others: all at once, of different worth; then one after another, the last asked of
 * somebody. */
int errand(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    unsigned value = 0, count = 3, failures = 0, sum = 0;
    sscanf(in->chars, "%u %u %u", &value, &count, &failures);
    pdr_future(far) *steps = pdr_array(job, pdr_future(far), count);
    for (unsigned i = 0; i < count; i++) {
        pdr_text input = { pdr_format(job, "%u %u", value + i, i == 0 ? failures : 0) };
        steps[i] = pdr_start(job, far, &input, .priority = (int)i, .timeout_ms = i == 1 ? 4000 : 0);
    }
    for (unsigned i = 0; i < count; i++) {
        pdr_text *done;
        PDR_TRY(pdr_join(job, far, steps[i], &done));
        sum += value_of(done);
    }
    pdr_text *last, input = { pdr_format(job, "%u", sum % 1000) };
    PDR_TRY(pdr_await(job, asked, &input, &last));
    out->chars = pdr_format(job, "%u", value_of(last));
    return PDR_OK;
}

PDR_MODULE(sim, PDR_RUNS(chain), PDR_RUNS(family), PDR_RUNS(leaf), PDR_RUNS(race), PDR_RUNS(gather), PDR_RUNS(sleeper),
           PDR_RUNS(saga), PDR_RUNS(mailbox), PDR_RUNS(dicer), PDR_RUNS(poster), PDR_RUNS(sink), PDR_RUNS(work),
           PDR_RUNS(quick), PDR_RUNS(undo), PDR_RUNS(hang), PDR_RUNS(errand), PDR_RUNS(far), PDR_RUNS(asked));

const pdr_module *sim_module(void) { return &pdr_module_sim; }

uint64_t effect_begin(void) { return world ? ++world->token : 0; }

/* ---- what a fault-free run gives, computed without the runtime ------------------------------------------------ */

static unsigned mix_times(unsigned value, unsigned count)
{
    while (count-- > 0)
        value = mix(value);
    return value;
}

bool job_expected(const char *type, const char *input, uint64_t *value)
{
    unsigned a = 0, b = 0, c = 0;
    char word[48] = "";
    if (strcmp(type, "sim/chain") == 0) {
        sscanf(input, "%u %u %u", &a, &b, &c);
        *value = mix_times(a, b);
    } else if (strcmp(type, "sim/gather") == 0) {
        unsigned sum = 0;
        sscanf(input, "%u %u %u", &a, &b, &c);
        for (unsigned i = 0; i < b; i++)
            sum += mix(a + i);
        *value = sum % 100003u;
    } else if (strcmp(type, "sim/errand") == 0) {
        unsigned sum = 0;
        sscanf(input, "%u %u %u", &a, &b, &c);
        for (unsigned i = 0; i < b; i++)
            sum += mix(a + i);
        *value = mix(sum % 1000);
    } else if (strcmp(type, "sim/sleeper") == 0) {
        sscanf(input, "%u %u", &a, &b);
        *value = mix_times(a, 3);
    } else if (strcmp(type, "sim/saga") == 0) {
        sscanf(input, "%u %u %u", &a, &b, &c);
        *value = mix_times(a, b);
    } else if (strcmp(type, "sim/poster") == 0) {
        sscanf(input, "%u %47s %u", &a, word, &b);
        *value = mix_times(a, b);
    } else if (strcmp(type, "sim/family") == 0) {
        sscanf(input, "%u", &a);
        a = mix(a); /* the child gets this, twice: as input and as word */
        *value = mix(mix(mix(a) + a));
    } else {
        return false;
    }
    return true;
}
