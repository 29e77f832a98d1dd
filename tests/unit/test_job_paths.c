/*
 * How a job can end, and how it can differ from its history: cancellation, compensation, clean-up, children, messages,
 * limits of payloads, divergence of every kind with its text.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "constants.h"
#include "job_trial.h"

#define K(name) PERDURE__V1__EVENT__KIND_##name

PDR_STEP(take, pdr_text, pdr_text, .max_attempts = 3)
PDR_STEP(give_back, pdr_text, pdr_none, .max_attempts = 2)
PDR_SIGNAL(go, pdr_text)
PDR_JOB(child, pdr_text, pdr_text)

static int given_back;
static const char *break_on = "";

int take(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    if (strncmp(in->chars, "never", 5) == 0)
        return pdr_attempt_give_up(attempt, "Never", "%s is not to be had", in->chars);
    if (strcmp(in->chars, "later") == 0 && pdr_attempt_number(attempt) < 3)
        return pdr_attempt_fail(attempt, "Later", "attempt %d", pdr_attempt_number(attempt));
    if (strcmp(in->chars, "silent") == 0)
        return PDR_FAILED;
    if (strcmp(in->chars, "huge") == 0) {
        char *text = pdr_attempt_alloc(attempt, PAYLOAD_LIMIT_BYTES + 2);
        memset(text, 'x', PAYLOAD_LIMIT_BYTES + 1);
        out->chars = text;
        return PDR_OK;
    }
    out->chars = pdr_attempt_format(attempt, "%s!", in->chars);
    return PDR_OK;
}

int give_back(pdr_attempt *attempt, const pdr_text *in, pdr_none *out)
{
    (void)out;
    given_back = given_back * 10 + in->chars[0] - 'a' + 1;
    if (strcmp(in->chars, break_on) == 0)
        return pdr_attempt_give_up(attempt, "Stuck", "cannot give %s back", in->chars);
    return PDR_OK;
}

int child(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    (void)job;
    *out = *in;
    return PDR_OK;
}

static int take_one(pdr_job *job, const char *what)
{
    pdr_text in = {what}, *out;
    PDR_TRY(pdr_await(job, take, &in, &out));
    pdr_compensate(job, give_back, out);
    return PDR_OK;
}

/* Takes a, b, c, waits for a signal, sleeps, and does what the input says. */
PDR_JOB(saga, pdr_text, pdr_text)
static int cleaned;
static void clean(void *argument)
{
    cleaned++;
    free(argument);
}
int saga(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    void *kept = malloc(100);
    pdr_text *signal;
    pdr_defer(job, clean, kept);
    PDR_TRY(take_one(job, "a"));
    PDR_TRY(take_one(job, "b"));
    pdr_defer(job, clean, strdup("more"));
    PDR_TRY(pdr_receive(job, go, &signal, .timeout_ms = PDR_HOUR));
    PDR_TRY(take_one(job, "c"));
    PDR_TRY(pdr_sleep(job, PDR_MINUTE));
    if (strcmp(in->chars, "fail") == 0)
        return pdr_fail(job, "Told", "as told by %s", signal->chars);
    PDR_TRY(take_one(job, in->chars));
    out->chars = pdr_format(job, "%s %s", in->chars, signal->chars);
    return PDR_OK;
}

/* What a wrong job pointer, a wrong place, a wrong value give. */
PDR_JOB(misuse, pdr_text, pdr_text)
static pdr_job *foreign;
static int in_clean_up;
static void await_in_clean_up(void *argument)
{
    pdr_text in = {"x"}, *out = (pdr_text *)1;
    in_clean_up = pdr_await((pdr_job *)argument, take, &in, &out);
    if (out != NULL)
        in_clean_up = 99;
}
int misuse(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *result;
    pdr_defer(job, await_in_clean_up, job);
    int wrong_job = pdr_await(foreign, take, in, &result);
    int no_job = pdr_sleep(NULL, 5);
    int null_input = pdr_await(job, take, (const pdr_text *)NULL, &result);
    const char *type = pdr_error(job)->type;
    pdr_future(take) never = {{0}}, far = {{12345}};
    int bad_future = pdr_join(job, take, never, &result);
    int far_future = pdr_join(job, take, far, &result);
    out->chars = pdr_format(job, "%d %d %d %s %d %d", wrong_job, no_job, null_input, type, bad_future, far_future);
    return PDR_OK;
}

/* Children and messages. */
PDR_JOB(parent, pdr_text, pdr_text)
int parent(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *first, *second = NULL;
    pdr_future(child) named = pdr_start(job, child, in, .id = "the-child");
    PDR_TRY(pdr_await(job, child, in, &first));
    PDR_TRY(pdr_send(job, go, "the-child", first));
    int code = pdr_join(job, child, named, &second);
    const pdr_failure *why = pdr_error(job);
    int no_id = pdr_send(job, go, "", first);
    out->chars = pdr_format(job, "%s %d %s %d", first->chars, code, why != NULL ? why->type : "-", no_id);
    return PDR_OK;
}

PDR_JOB(sizes, pdr_text, pdr_text)
int sizes(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    char *big = pdr_alloc(job, PAYLOAD_LIMIT_BYTES + 2);
    memset(big, 'x', PAYLOAD_LIMIT_BYTES + 1);
    pdr_text large = {big}, *result, name = {"huge"};
    int input = pdr_await(job, take, &large, &result);
    const char *first = pdr_error(job)->type;
    int step = pdr_await(job, take, &name, &result);
    const char *second = pdr_error(job)->type;
    if (strcmp(in->chars, "out") == 0) {
        out->chars = big;
        return PDR_OK;
    }
    out->chars = pdr_format(job, "%d %s %d %s", input, first, step, second);
    return PDR_OK;
}

/* Ids that no owner could read in a command. */
PDR_JOB(bad_ids, pdr_text, pdr_text)
int bad_ids(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    static const char *const ids[] = {"two\nlines", "\x7f", "half a letter \xc3", ""};
    for (size_t i = 0; i < sizeof(ids) / sizeof(*ids); i++) {
        if (pdr_await(job, child, in, NULL, .id = ids[i]) != PDR_FAILED || strcmp(pdr_error(job)->type, "BadId") != 0)
            return pdr_fail(job, "Child", "id %zu was taken", i);
        if (pdr_send(job, go, ids[i], in) != PDR_FAILED || strcmp(pdr_error(job)->type, "BadId") != 0)
            return pdr_fail(job, "Signal", "id %zu was taken", i);
    }
    *out = *in;
    return PDR_OK;
}

PDR_MODULE(paths, PDR_RUNS(take), PDR_RUNS(give_back), PDR_RUNS(child), PDR_RUNS(saga), PDR_RUNS(misuse),
           PDR_RUNS(parent), PDR_RUNS(sizes), PDR_RUNS(bad_ids));

/* ---- ends ---------------------------------------------------------------------------------------------------- */

static struct job_trial *saga_from(const char *input, bool replay_always)
{
    given_back = cleaned = 0;
    break_on = "";
    struct job_trial *trial = job_trial_new(&pdr_module_paths, NULL, "saga", replay_always);
    job_trial_start(trial, input);
    return trial;
}

/* `cut`: cancelled when so many events stand; 0: not. */
static struct job_trial *saga_run(const char *input, size_t cut, bool replay_always)
{
    struct job_trial *trial = saga_from(input, replay_always);
    bool signalled = false;
    while (job_state_of(trial->job) == JOB_WAITING) {
        if (cut != 0 && trial->count >= cut) {
            job_trial_cancel(trial, "enough");
            cut = 0;
        } else if (!signalled && trial->count >= 4) {
            signalled = true;
            job_trial_signal(trial, "go", "bob");
        } else if (!job_trial_next(trial)) {
            break;
        }
    }
    assert_string_equal(trial->complaint, "");
    return trial;
}

static void ends_well(void **state)
{
    (void)state;
    for (int replay = 0; replay < 2; replay++) {
        struct job_trial *trial = saga_run("d", 0, replay);
        assert_string_equal(job_trial_result(trial), "d bob");
        assert_int_equal(given_back, 0);
        char *story = job_trial_story(trial);
        assert_string_equal(story, "started step_completed:paths/take step_completed:paths/take timer_started:timeout "
                                   "signal_received:go step_completed:paths/take timer_started:sleep timer_fired "
                                   "step_completed:paths/take completed");
        free(story);
        job_trial_free(trial);
    }
}

static void compensates_in_reverse(void **state)
{
    (void)state;
    for (int replay = 0; replay < 2; replay++) {
        struct job_trial *trial = saga_run("fail", 0, replay);
        const Error *error = job_trial_error(trial);
        assert_non_null(error);
        assert_string_equal(error->type, "Told");
        assert_string_equal(error->message, "as told by bob");
        assert_int_equal(given_back, 321);
        job_trial_free(trial);
    }
}

static void a_failed_step_fails_the_job(void **state)
{
    (void)state;
    struct job_trial *trial = saga_run("never", 0, true);
    const Error *error = job_trial_error(trial);
    assert_string_equal(error->type, "Never");
    assert_string_equal(error->message, "never is not to be had");
    assert_true(error->final);
    assert_non_null(error->site);
    assert_string_equal(error->site->function, "take_one");
    assert_int_equal(given_back, 321);
    job_trial_free(trial);
}

/* What a history keeps as text is UTF-8, or readers in other languages refuse the whole record. */
static void a_message_of_any_bytes(void **state)
{
    (void)state;
    struct job_trial *trial = saga_run("never \xff\xc3\xa9\xe2\x82", 0, true);
    assert_string_equal(job_trial_error(trial)->message, "never ?\xc3\xa9?? is not to be had");
    job_trial_free(trial);
}

static void a_failed_compensation_is_told(void **state)
{
    (void)state;
    struct job_trial *trial = saga_from("fail", true);
    break_on = "b!";
    while (trial->count < 4)
        job_trial_next(trial);
    job_trial_signal(trial, "go", "bob");
    assert_int_equal(job_trial_run(trial), JOB_ENDED);
    const Error *error = job_trial_error(trial);
    assert_string_equal(error->type, "CompensationFailed");
    assert_string_equal(error->message, "paths/give_back: Stuck: cannot give b! back");
    assert_string_equal(error->cause->type, "Told");
    assert_int_equal(given_back, 321); /* a! after b! all the same */
    job_trial_free(trial);
}

static void retries_and_timeouts(void **state)
{
    (void)state;
    struct job_trial *trial = saga_run("later", 0, true);
    assert_string_equal(job_trial_result(trial), "later bob");
    char *story = job_trial_story(trial);
    assert_non_null(
        strstr(story, "attempt_failed:paths/take attempt_failed:paths/take step_completed:paths/take completed"));
    free(story);
    job_trial_free(trial);
    trial = saga_run("silent", 0, true);
    assert_string_equal(job_trial_error(trial)->type, "Failed");
    assert_string_equal(job_trial_error(trial)->message,
                        "the step function returned -1: a step, a child job or the job itself failed");
    job_trial_free(trial);
    trial = saga_from("d", true); /* nobody signals */
    assert_int_equal(job_trial_run(trial), JOB_ENDED);
    assert_string_equal(job_trial_error(trial)->type, "TimedOut");
    assert_int_equal(job_trial_error(trial)->code, PDR_TIMED_OUT);
    assert_int_equal(given_back, 21);
    job_trial_free(trial);
}

/* Cancelled after every event: what was taken by then is given back, the last first. */
static void cancelled_anywhere(void **state)
{
    (void)state;
    static const int given[] = {0, 0, 1, 21, 21, 21, 321, 321, 321};
    for (size_t cut = 1; cut <= 8; cut++) {
        for (int replay = 0; replay < 2; replay++) {
            struct job_trial *trial = saga_run("d", cut, replay);
            assert_int_equal(job_state_of(trial->job), JOB_ENDED);
            const Event *last = job_trial_last(trial);
            assert_int_equal(last->kind_case, K(CANCELLED));
            assert_string_equal(last->cancelled->reason, "enough");
            assert_int_equal(given_back, given[cut]);
            size_t count = trial->count;
            job_trial_free(trial);
            assert_true(cleaned % 2 == 0 || count < 6 || replay); /* what was deferred ran */
        }
    }
}

static void cleans_up_whatever_happens(void **state)
{
    (void)state;
    struct job_trial *trial = saga_run("d", 0, false);
    assert_int_equal(cleaned >= 2, true); /* on return, and in the replays that job_trial_attempt() throws away */
    job_trial_free(trial);
    trial = saga_from("d", false);
    while (trial->count < 3)
        job_trial_next(trial);
    int before = cleaned;
    job_trial_free(trial); /* evicted */
    assert_int_equal(cleaned, before + 2);
}

static void misuse_is_caught(void **state)
{
    (void)state;
    struct job_trial *other = saga_from("d", false);
    foreign = other->job;
    struct job_trial *trial = job_trial_new(&pdr_module_paths, NULL, "misuse", false);
    job_trial_start(trial, "x");
    assert_int_equal(job_state_of(trial->job), JOB_ENDED);
    assert_string_equal(job_trial_result(trial), "-5 -5 -1 Misuse -5 -5");
    assert_int_equal(in_clean_up, PDR_MISUSE);
    assert_int_equal(pdr_sleep(trial->job, 5), PDR_MISUSE);
    assert_null(pdr_alloc(trial->job, 5));
    job_trial_free(trial);
    job_trial_free(other);
}

static void children_and_messages(void **state)
{
    (void)state;
    struct job_trial *trial = job_trial_new(&pdr_module_paths, NULL, "parent", true);
    job_trial_start(trial, "x");
    assert_int_equal(trial->count, 3);
    assert_string_equal(trial->events[1]->child_requested->job, "the-child");
    assert_string_equal(trial->events[1]->child_requested->type, "paths/child");
    assert_string_equal(trial->events[2]->child_requested->job, "job-1/2");
    job_trial_child_ended(trial, 2, "completed", "fine");
    assert_int_equal(job_trial_last(trial)->kind_case, K(SIGNAL_SENT));
    assert_string_equal(job_trial_last(trial)->signal_sent->target, "the-child");
    job_trial_child_ended(trial, 1, "cancelled", NULL);
    assert_string_equal(job_trial_result(trial), "fine -1 Cancelled -1");
    assert_string_equal(trial->complaint, "");
    job_trial_free(trial);
}

static void bad_ids_never_leave(void **state)
{
    (void)state;
    struct job_trial *trial = job_trial_new(&pdr_module_paths, NULL, "bad_ids", true);
    job_trial_start(trial, "x");
    assert_int_equal(job_state_of(trial->job), JOB_ENDED);
    assert_string_equal(job_trial_result(trial), "x");
    assert_int_equal(trial->count, 2); /* started, completed: nothing was sent */
    assert_string_equal(trial->complaint, "");
    job_trial_free(trial);
}

static void sizes_are_limited(void **state)
{
    (void)state;
    struct job_trial *trial = job_trial_new(&pdr_module_paths, NULL, "sizes", true);
    job_trial_start(trial, "in");
    job_trial_run(trial);
    assert_string_equal(job_trial_result(trial), "-1 TooLarge -1 TooLarge");
    job_trial_free(trial);
    trial = job_trial_new(&pdr_module_paths, NULL, "sizes", true);
    job_trial_start(trial, "out");
    job_trial_run(trial);
    assert_string_equal(job_trial_error(trial)->type, "TooLarge");
    job_trial_free(trial);
}

static void a_bad_input_ends_it(void **state)
{
    (void)state;
    struct job_trial *trial = job_trial_new(&pdr_module_paths, NULL, "saga", true);
    job_trial_start(trial, NULL); /* no text at all */
    assert_int_equal(job_state_of(trial->job), JOB_ENDED);
    assert_string_equal(job_trial_error(trial)->type, "BadInput");
    job_trial_free(trial);
}

static void signals_wait_in_order(void **state)
{
    (void)state;
    struct job_trial *trial = saga_from("d", true);
    job_trial_signal(trial, "go", "first");
    job_trial_signal(trial, "other", "x");
    job_trial_signal(trial, "go", "second");
    assert_int_equal(job_trial_run(trial), JOB_ENDED);
    assert_string_equal(job_trial_result(trial), "d first");
    const uint64_t *seqs;
    assert_int_equal(job_unconsumed(trial->job, &seqs), 2);
    assert_int_equal(seqs[0], 3);
    assert_int_equal(seqs[1], 4);
    job_trial_free(trial);
}

static void says_what_it_waits_for(void **state)
{
    (void)state;
    const Waiting *const *waiting;
    struct job_trial *trial = saga_from("d", true);
    assert_int_equal(job_waiting(trial->job, &waiting), 1);
    assert_string_equal(waiting[0]->kind, "step");
    assert_string_equal(waiting[0]->name, "paths/take");
    assert_string_equal(waiting[0]->site->function, "take_one");
    while (trial->count < 4)
        job_trial_next(trial);
    assert_int_equal(job_waiting(trial->job, &waiting), 1);
    assert_string_equal(waiting[0]->kind, "signal");
    assert_string_equal(waiting[0]->name, "go");
    assert_true(waiting[0]->until == trial->events[3]->timer_started->fire_at);
    assert_string_equal(job_site(trial->job)->function, "saga");
    assert_true(job_bytes(trial->job) < 10 * 1024);
    job_trial_free(trial);
}

/* ---- divergence ------------------------------------------------------------------------------------------------- */

/* A second build of the same job: does what `path` says. */
static const char *path = "";
static int other_saga(void *context, const void *input, void *output)
{
    pdr_job *job = context;
    const pdr_text *in = input;
    pdr_text *out = output, *signal, b = {"b"};
    if (strcmp(path, "timer first") == 0)
        PDR_TRY(pdr_sleep(job, 5));
    PDR_TRY(take_one(job, strcmp(path, "input") == 0 ? "z" : "a"));
    if (strcmp(path, "name") == 0)
        PDR_TRY(pdr_await(job, give_back, &b, NULL));
    else
        PDR_TRY(take_one(job, "b"));
    if (strcmp(path, "end") == 0) {
        out->chars = "early";
        return PDR_OK;
    }
    if (strcmp(path, "fail") == 0)
        return pdr_fail(job, "Early", "it is %s", "over");
    if (strcmp(path, "no timeout") == 0)
        PDR_TRY(pdr_receive(job, go, &signal));
    else
        PDR_TRY(pdr_receive(job, go, &signal, .timeout_ms = strcmp(path, "timeout") == 0 ? 5 : PDR_HOUR));
    if (strcmp(path, "child") == 0)
        PDR_TRY(pdr_await(job, child, &b, &signal));
    PDR_TRY(take_one(job, "c"));
    if (strcmp(path, "no sleep") != 0)
        PDR_TRY(pdr_sleep(job, strcmp(path, "sleep") == 0 ? 7 : PDR_MINUTE));
    PDR_TRY(take_one(job, in->chars));
    if (strcmp(path, "one more") == 0)
        PDR_TRY(take_one(job, "e"));
    out->chars = strcmp(path, "result") == 0 ? "else" : pdr_format(job, "%s %s", in->chars, signal->chars);
    return PDR_OK;
}

static const pdr_entry other_entries[] = {
    PDR_RUNS(take), PDR_RUNS(give_back), PDR_RUNS(child), {&pdr_decl_saga, other_saga}};
static const pdr_module other_module = {sizeof(pdr_module), "paths", other_entries, 4, PDR_HEADER_VERSION};

/* Replays the first `count` events (0: all) of a history made by saga() with other_saga(). */
static char *replay_other(const char *which, size_t count, enum job_state *state)
{
    struct job_trial *trial = saga_run("d", 0, false);
    struct registry *registry = registry_new();
    char error[256];
    assert_int_equal(registry_add(registry, &other_module, "0ther", error, sizeof(error)), PDR_OK);
    path = which;
    free(trial->events[0]->started->build);
    trial->events[0]->started->build = strdup("f1rst");
    pdr_job *job = job_new(registry, registry_job(registry, "saga"), "job-1", trial->run, NULL);
    *state = job_replay(job, (const Event *const *)trial->events, count != 0 ? count : trial->count);
    char *report = job_report(job) != NULL ? strdup(job_report(job)) : NULL;
    struct job_command command;
    if (*state == JOB_DIVERGED)
        assert_false(job_take(job, &command) && command.kind == JOB_STEP);
    job_free(job);
    registry_free(registry);
    job_trial_free(trial);
    return report;
}

static void diverges(const char *which, const char *const *lines)
{
    enum job_state state;
    char *report = replay_other(which, 0, &state);
    if (state != JOB_DIVERGED || report == NULL)
        fail_msg("'%s' did not diverge: state %d, %s", which, state, report != NULL ? report : "");
    for (; *lines != NULL; lines++) {
        if (strstr(report, *lines) == NULL)
            fail_msg("'%s' lacks \"%s\":\n%s", which, *lines, report);
    }
    free(report);
}
#define DIVERGES(which, ...) diverges(which, (const char *const[]){__VA_ARGS__, NULL})

static void tells_each_difference(void **state)
{
    (void)state;
    DIVERGES("timer first", "recorded:  step \"paths/take\"", "attempted: timer \"sleep\" of 5 ms, at ",
             "difference: kind", "operation 1", "recorded by build f1rst, attempted by build 0ther");
    DIVERGES("input", "operation 1", "recorded:  step \"paths/take\", input ", "attempted: step \"paths/take\", input ",
             "(take_one)", "difference: input", "event 2");
    DIVERGES("name", "operation 2", "recorded:  step \"paths/take\"", "attempted: step \"paths/give_back\"",
             "difference: name", "event 1: started", "event 2: step_completed paths/take, operation 1");
    DIVERGES("timeout", "operation 4", "recorded:  timer \"timeout\" of 3600000 ms, at ", "test_job_paths.c",
             "attempted: timer \"timeout\" of 5 ms", "difference: duration");
    DIVERGES("no timeout", "operation 4", "recorded:  timer \"timeout\"", "attempted: step \"paths/take\"",
             "difference: kind");
    DIVERGES("sleep", "operation 6", "difference: duration");
    DIVERGES("no sleep", "operation 6", "recorded:  timer \"sleep\" of 60000 ms", "attempted: step \"paths/take\"");
    DIVERGES("child", "operation 5", "recorded:  step \"paths/take\"",
             "attempted: child \"paths/child\" to job \"job-1/5\"");
    DIVERGES("end", "operation 3", "recorded:  timer \"timeout\" of 3600000 ms", "operation 4\n",
             "attempted: end \"completed\", result ", "difference: operation");
    DIVERGES("fail", "operation 5", "attempted: never; the job stands at step \"paths/give_back\"");
    DIVERGES("one more", "operation 8", "recorded:  end \"completed\"", "attempted: step \"paths/take\"",
             "difference: kind");
    DIVERGES("result", "recorded:  end \"completed\"", "attempted: end \"completed\"", "difference: result");
}

static void another_build_that_agrees_is_fine(void **state)
{
    (void)state;
    enum job_state end;
    char *report = replay_other("same", 0, &end);
    assert_int_equal(end, JOB_ENDED);
    assert_null(report);
    report = replay_other("result", 6, &end); /* not yet there */
    assert_int_equal(end, JOB_WAITING);
    assert_null(report);
}

static void never_attempted(void **state)
{
    (void)state;
    struct job_trial *trial = saga_run("d", 0, false);
    trial->events[1]->op = 40; /* the result of a step that nobody asked for */
    pdr_job *job = job_trial_replay(trial, 3);
    assert_int_equal(job_state_of(job), JOB_DIVERGED);
    assert_non_null(strstr(job_report(job), "attempted: never; the job stands at step \"paths/take\""));
    assert_non_null(strstr(job_report(job), "recorded:  step \"paths/take\", input"));
    job_free(job);
    trial->events[1]->op = 1;
    trial->events[6]->op = 41; /* a timer */
    job = job_trial_replay(trial, 7);
    assert_int_equal(job_state_of(job), JOB_DIVERGED);
    job_free(job);
    job_trial_free(trial);
}

static void history_after_the_end(void **state)
{
    (void)state;
    struct job_trial *trial = saga_run("d", 0, false);
    job_trial_signal(trial, "go", "late");
    pdr_job *job = job_trial_replay(trial, trial->count);
    assert_int_equal(job_state_of(job), JOB_DIVERGED);
    assert_non_null(strstr(job_report(job), "has a history that goes on after its end"));
    job_free(job);
    job_trial_free(trial);
}

static void damaged_histories(void **state)
{
    (void)state;
    struct job_trial *trial = saga_run("d", 0, false);
    trial->events[3]->seq = 7;
    pdr_job *job = job_trial_replay(trial, trial->count);
    assert_int_equal(job_state_of(job), JOB_BROKEN);
    assert_string_equal(job_report(job), "event 7 stands where event 4 belongs");
    job_free(job);
    trial->events[3]->seq = 4;
    Event unknown = PERDURE__V1__EVENT__INIT;
    unknown.seq = 3;
    Event *kept = trial->events[2];
    trial->events[2] = &unknown;
    job = job_trial_replay(trial, trial->count);
    assert_int_equal(job_state_of(job), JOB_BROKEN); /* rule 32 */
    assert_string_equal(job_report(job), "event 3 is of a kind that this version does not know");
    job_free(job);
    trial->events[2] = kept;
    job = job_new(trial->registry, trial->callable, "x", 1, NULL);
    assert_int_equal(job_replay(job, (const Event *const *)&trial->events[0], 0), JOB_WAITING);
    job_free(job);
    job_trial_free(trial);
}

/* ---- live differences ---------------------------------------------------------------------------------------- */

static void a_result_of_something_else(void **state)
{
    (void)state;
    struct job_trial *trial = saga_from("d", false);
    Event *event = job_trial_event(K(STEP_COMPLETED), 1);
    event->step_completed = malloc(sizeof(*event->step_completed));
    perdure__v1__step_completed__init(event->step_completed);
    event->step_completed->name = strdup("paths/else");
    assert_int_equal(job_trial_feed(trial, event), JOB_DIVERGED);
    assert_non_null(strstr(job_report(trial->job), "recorded:  step \"paths/else\""));
    assert_non_null(strstr(job_report(trial->job), "event 1: started"));
    job_trial_free(trial);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_well),
        cmocka_unit_test(compensates_in_reverse),
        cmocka_unit_test(a_failed_step_fails_the_job),
        cmocka_unit_test(a_message_of_any_bytes),
        cmocka_unit_test(a_failed_compensation_is_told),
        cmocka_unit_test(retries_and_timeouts),
        cmocka_unit_test(cancelled_anywhere),
        cmocka_unit_test(cleans_up_whatever_happens),
        cmocka_unit_test(misuse_is_caught),
        cmocka_unit_test(children_and_messages),
        cmocka_unit_test(bad_ids_never_leave),
        cmocka_unit_test(sizes_are_limited),
        cmocka_unit_test(a_bad_input_ends_it),
        cmocka_unit_test(signals_wait_in_order),
        cmocka_unit_test(says_what_it_waits_for),
        cmocka_unit_test(tells_each_difference),
        cmocka_unit_test(another_build_that_agrees_is_fine),
        cmocka_unit_test(never_attempted),
        cmocka_unit_test(history_after_the_end),
        cmocka_unit_test(damaged_histories),
        cmocka_unit_test(a_result_of_something_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
