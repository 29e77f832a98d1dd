/*
 * What runs out: stacks, memory, the patience of the loader. And speed and size of many jobs.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "job_trial.h"

#define K(name) PERDURE__V1__EVENT__KIND_##name

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SANITIZED 1
#elif defined __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* ---- malloc that refuses ---------------------------------------------------------------------------------------- */

static long refuse_after = -1; /* allocations until the next one fails; -1: none fails */
static bool refuse_all;        /* and so do all that follow */
static long allocations;

#if !SANITIZED
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);

static bool refused(void)
{
    allocations++;
    if (refuse_after < 0)
        return false;
    if (refuse_after > 0) {
        refuse_after--;
        return false;
    }
    if (!refuse_all)
        refuse_after = -1;
    return true;
}

void *malloc(size_t size)
{
    return refused() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return refused() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    return refused() ? NULL : __libc_realloc(memory, size);
}
#endif

/* ---- jobs ------------------------------------------------------------------------------------------------------- */

PDR_STEP(tick, pdr_text, pdr_text, .max_attempts = 3)
PDR_STEP(undo, pdr_text, pdr_none)
PDR_SIGNAL(poke, pdr_text)
PDR_JOB(all_of_it, pdr_text, pdr_text)
PDR_JOB(endless, pdr_none, pdr_none)
PDR_JOB(deep, pdr_none, pdr_none)

int tick(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    if (strcmp(in->chars, "twice") == 0 && pdr_attempt_number(attempt) == 1)
        return pdr_attempt_fail(attempt, "Once", "not yet");
    out->chars = pdr_attempt_format(attempt, "%s+", in->chars);
    return PDR_OK;
}

int undo(pdr_attempt *attempt, const pdr_text *in, pdr_none *out)
{
    (void)attempt, (void)in, (void)out;
    return PDR_OK;
}

static void nothing(void *argument)
{
    (void)argument;
}

int all_of_it(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *one, *two, *signal, twice = {"twice"};
    pdr_limit *limit = pdr_limit_new(job, 1);
    pdr_defer(job, nothing, job);
    PDR_TRY(pdr_await(job, tick, in, &one, .label = "first"));
    pdr_compensate(job, undo, one);
    pdr_future(tick) left = pdr_start(job, tick, &twice, .limit = limit);
    pdr_future(tick) right = pdr_start(job, tick, one, .limit = limit);
    pdr_future(all_of_it) child = pdr_start(job, all_of_it, one);
    PDR_TRY(pdr_all(job, left.any, right.any));
    PDR_TRY(pdr_join(job, tick, right, &two));
    PDR_TRY(pdr_receive(job, poke, &signal, .timeout_ms = 1000));
    PDR_TRY(pdr_send(job, poke, "somebody", signal));
    int late = pdr_join(job, all_of_it, child, &one, .timeout_ms = 1000);
    if (late != PDR_TIMED_OUT)
        return late;
    pdr_log(job, PDR_INFO, "here");
    PDR_TRY(pdr_sleep(job, 1000));
    out->chars = pdr_format(job, "%s %s %s", two->chars, signal->chars, pdr_uuid(job));
    return strcmp(in->chars, "fail") == 0 ? pdr_fail(job, "Told", "so") : PDR_OK;
}

int endless(pdr_job *job, const pdr_none *in, pdr_none *out)
{
    pdr_text text = {"0123456789"}, *result;
    (void)in, (void)out;
    for (;;)
        PDR_TRY(pdr_await(job, tick, &text, &result));
}

static int dig(pdr_job *job, volatile char *above)
{
    volatile char here[512];
    here[0] = above[0];
    return here[0] == 0 ? 0 : dig(job, here) + here[0];
}
int deep(pdr_job *job, const pdr_none *in, pdr_none *out)
{
    volatile char first[1] = {1};
    (void)in, (void)out;
    return dig(job, first);
}

PDR_MODULE(limits, PDR_RUNS(tick), PDR_RUNS(undo), PDR_RUNS(all_of_it), PDR_RUNS(endless), PDR_RUNS(deep));

/* ---- memory ------------------------------------------------------------------------------------------------------- */

static struct job_trial *whole_history(const char *input)
{
    struct job_trial *trial = job_trial_new(&pdr_module_limits, NULL, "all_of_it", false);
    job_trial_start(trial, input);
    job_trial_signal(trial, "poke", "hey");
    assert_int_equal(job_trial_run(trial), JOB_ENDED);
    return trial;
}

/* The N-th allocation fails, and alone or with all that follow: the job is given up or says why, and nothing leaks. */
static void sweep(struct job_trial *trial, bool live, bool all)
{
    bool failed = true;
    long n = 0;
    for (; failed && n < 100000; n++) {
        refuse_all = all;
        refuse_after = n;
        pdr_job *job = job_new(trial->registry, trial->callable, trial->id, trial->run, NULL);
        failed = job == NULL;
        enum job_state state = JOB_WAITING;
        if (job != NULL && !live)
            state = job_replay(job, (const Event *const *)trial->events, trial->count);
        else if (job != NULL)
            state = job_replay(job, (const Event *const *)trial->events, 1);
        struct job_command command;
        for (size_t i = 1; live && job != NULL && i < trial->count && state == JOB_WAITING; i++) {
            state = job_feed(job, trial->events[i]);
            while (job_take(job, &command))
                event_free(command.event);
        }
        refuse_after = -1;
        refuse_all = false;
        if (job != NULL) {
            failed = state != JOB_ENDED;
            if (failed) {
                assert_int_equal(state, JOB_BROKEN);
                assert_non_null(strstr(job_report(job), "memory"));
            }
        }
        job_free(job);
    }
    assert_in_range(n, 15, 99999);
    print_message("%ld allocations refused\n", n);
}

static void no_memory(void **state)
{
    (void)state;
    if (SANITIZED)
        skip();
    for (int i = 0; i < 8; i++) {
        struct job_trial *trial = whole_history(i & 1 ? "fail" : "well");
        sweep(trial, i & 2, i & 4);
        job_trial_free(trial);
    }
}

static void no_memory_in_a_step(void **state)
{
    (void)state;
    if (SANITIZED)
        skip();
    struct registry *registry = registry_new();
    char error[256];
    assert_int_equal(registry_add(registry, &pdr_module_limits, "b", error, sizeof(error)), PDR_OK);
    Payload *input = job_trial_text("x");
    struct attempt_request request = {
        .callable = registry_step(registry, "tick"), .job = "j", .run = 1, .op = 2, .attempt = 1, .input = input};
    struct attempt_outcome outcome = {.code = PDR_FAILED};
    for (long n = 0; outcome.code != PDR_OK && n < 1000; n++) {
        refuse_after = n;
        attempt_run(&request, &outcome);
        refuse_after = -1;
        assert_true(outcome.code == PDR_OK || outcome.error != NULL);
        if (outcome.code == PDR_OK)
            assert_memory_equal(outcome.result->data.data, "x+", 2);
        else
            assert_false(outcome.error->final);
        payload_free(outcome.result);
        error_free(outcome.error);
    }
    assert_int_equal(outcome.code, PDR_OK);
    payload_free(input);
    registry_free(registry);
}

static void no_memory_in_the_registry(void **state)
{
    (void)state;
    if (SANITIZED)
        skip();
    int code = PDR_NO_MEMORY;
    for (long n = 0; code != PDR_OK && n < 1000; n++) {
        char error[256] = "";
        refuse_after = n;
        struct registry *registry = registry_new();
        code =
            registry != NULL ? registry_add(registry, &pdr_module_limits, NULL, error, sizeof(error)) : PDR_NO_MEMORY;
        if (code == PDR_OK)
            registration_free(registry_registration(registry, 0));
        if (refuse_after >= 0 && code == PDR_OK) {
            refuse_after = -1;
        } else if (code == PDR_OK) {
            code = PDR_NO_MEMORY; /* the registration had none: on */
        }
        refuse_after = -1;
        registry_free(registry);
    }
    assert_int_equal(code, PDR_OK);
}

/* ---- stacks -------------------------------------------------------------------------------------------------------- */

static void overflow_hits_the_guard(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL);
        struct job_trial *trial = job_trial_new(&pdr_module_limits, NULL, "deep", false);
        job_trial_start(trial, NULL);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (SANITIZED)
        assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
    else
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

static long resident_kib(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%*d %ld", &pages) != 1)
        pages = 0;
    if (file != NULL)
        fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* A paused job costs less than 10 KiB, stack and all. */
static void many_paused_jobs(void **state)
{
    (void)state;
    enum { COUNT = SANITIZED ? 2000 : 10000 }; /* ThreadSanitizer has about 8,000 fibers in all */
    struct job_trial *trial = job_trial_new(&pdr_module_limits, NULL, "all_of_it", false);
    job_trial_start(trial, "x");
    static pdr_job *jobs[COUNT];
    long before = resident_kib();
    double begin = seconds();
    for (size_t i = 0; i < COUNT; i++) {
        jobs[i] = job_new(trial->registry, trial->callable, "some-job", i, NULL);
        assert_non_null(jobs[i]);
        assert_int_equal(job_replay(jobs[i], (const Event *const *)trial->events, 1), JOB_WAITING);
    }
    double each = (double)(resident_kib() - before) / COUNT;
    print_message("a paused job: %.2f KiB by the kernel, %zu B by its own account, %.2f us to make\n", each,
                  job_bytes(jobs[0]), (seconds() - begin) * 1e6 / COUNT);
    if (!SANITIZED)
        assert_true(each < 10.0);
    for (size_t i = 0; i < COUNT; i++)
        job_free(jobs[i]);
    begin = seconds();
    for (size_t i = 0; i < COUNT; i++) {
        pdr_job *job = job_new(trial->registry, trial->callable, "some-job", i, NULL);
        job_replay(job, (const Event *const *)trial->events, 1);
        job_free(job);
    }
    print_message("made, started and freed from the pool: %.2f us\n", (seconds() - begin) * 1e6 / COUNT);
    job_trial_free(trial);
}

static void replay_is_fast(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    struct job_trial *trial = job_trial_new(&pdr_module_limits, NULL, "endless", false);
    job_trial_start(trial, NULL);
    Payload *in = job_trial_text("0123456789");
    uint64_t digest = payload_digest("text", in->data.data, in->data.len);
    const Event **events = malloc((COUNT + 1) * sizeof(*events));
    events[0] = trial->events[0];
    for (uint64_t i = 1; i <= COUNT; i++) {
        Event *event = job_trial_event(K(STEP_COMPLETED), i);
        event->seq = i + 1;
        event->t = events[0]->t + (int64_t)i;
        event->step_completed = malloc(sizeof(*event->step_completed));
        perdure__v1__step_completed__init(event->step_completed);
        event->step_completed->name = strdup("limits/tick");
        event->step_completed->input_digest = digest;
        event->step_completed->result = job_trial_text("0123456789+");
        events[i] = event;
    }
    allocations = 0;
    double begin = seconds();
    pdr_job *job = job_new(trial->registry, trial->callable, "j", 1, NULL);
    assert_int_equal(job_replay(job, events, COUNT + 1), JOB_WAITING);
    double took = seconds() - begin;
    print_message("replay: %.0f events a second, %.2f allocations an event, %zu B held\n", COUNT / took,
                  (double)allocations / COUNT, job_bytes(job));
    if (!SANITIZED)
        assert_true(COUNT / took > 200000); /* a slow machine's floor; the aim is 1,000,000 */
    job_free(job);
    payload_free(in);
    for (size_t i = 1; i <= COUNT; i++)
        event_free((Event *)(uintptr_t)events[i]);
    free(events);
    job_trial_free(trial);
}

/* ---- the registry ---------------------------------------------------------------------------------------------------- */

static void refuses(const pdr_module *module, const char *text)
{
    struct registry *registry = registry_new();
    char error[512] = "";
    assert_int_equal(registry_add(registry, &pdr_module_limits, "b", error, sizeof(error)), PDR_OK);
    assert_int_equal(registry_add(registry, module, "b", error, sizeof(error)), PDR_INVALID);
    if (strstr(error, text) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", error, text);
    assert_string_equal(registry_job_names(registry), "limits/all_of_it, limits/endless, limits/deep");
    registry_free(registry);
}

static void modules_are_checked(void **state)
{
    (void)state;
    pdr_module module = pdr_module_limits;
    refuses(&module, "there is a module 'limits' already (build b)");
    module.header_version = 7;
    refuses(&module, "built for version 7 of the interface, this library has 1");
    module = pdr_module_limits;
    module.size = 8;
    refuses(&module, "built for version 0");
    module = pdr_module_limits;
    module.name = "a/b";
    refuses(&module, "no '/' in it");
    module.name = "other";
    module.entry_count = 0;
    refuses(&module, "module 'other' runs nothing");
    static const pdr_entry twice[] = {PDR_RUNS(tick), PDR_RUNS(undo), PDR_RUNS(tick)};
    module.entries = twice;
    module.entry_count = 3;
    refuses(&module, "module 'other' runs 'tick' twice");
    static const pdr_entry hollow[] = {{&pdr_decl_tick, NULL}};
    module.entries = hollow;
    module.entry_count = 1;
    refuses(&module, "'tick' has no function to run");
    static const pdr_entry signal[] = {{&pdr_decl_poke, tick_pdr_run}};
    module.entries = signal;
    refuses(&module, "'poke' is neither a job nor a step");
    static const pdr_decl typeless = {sizeof(pdr_decl), PDR_KIND_STEP, "typeless", NULL, NULL, NULL};
    static const pdr_entry no_type[] = {{&typeless, tick_pdr_run}};
    module.entries = no_type;
    refuses(&module, "the input of 'typeless' has no type");
    refuses(NULL, "no module given");
}

static void files_are_checked(void **state)
{
    (void)state;
    struct registry *registry = registry_new();
    char error[512] = "";
    assert_int_equal(registry_load(registry, "nowhere.so", error, sizeof(error)), PDR_INVALID);
    assert_non_null(strstr(error, "nowhere.so does not load: "));
    assert_int_equal(registry_load(registry, "/lib/x86_64-linux-gnu/libm.so.6", error, sizeof(error)), PDR_INVALID);
    assert_non_null(strstr(error, "is no module: it has no PDR_MODULE(...)"));
    registry_free(registry);
}

static void names_are_found(void **state)
{
    (void)state;
    struct registry *registry = registry_new();
    char error[512] = "";
    assert_int_equal(registry_add(registry, &pdr_module_limits, NULL, error, sizeof(error)), PDR_OK);
    assert_non_null(registry_job(registry, "deep"));
    assert_ptr_equal(registry_job(registry, "deep"), registry_job(registry, "limits/deep"));
    assert_null(registry_job(registry, "tick"));
    assert_null(registry_job(registry, "other/deep"));
    assert_non_null(registry_step(registry, "limits/tick"));
    assert_true(strlen(registry_job(registry, "deep")->build) >= 32); /* from the note */
    pdr_module module = pdr_module_limits;
    module.name = "second";
    assert_int_equal(registry_add(registry, &module, "b", error, sizeof(error)), PDR_OK);
    assert_null(registry_job(registry, "deep")); /* two have it */
    assert_non_null(registry_job(registry, "second/deep"));
    Registration *registration = registry_registration(registry, 1);
    assert_string_equal(registration->module, "second");
    assert_int_equal(registration->n_jobs, 3);
    assert_string_equal(registration->jobs[0], "second/all_of_it");
    assert_int_equal(registration->n_callables, 5);
    assert_string_equal(registration->callables[0]->input, "text");
    registration_free(registration);
    registry_free(registry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_memory),
        cmocka_unit_test(no_memory_in_a_step),
        cmocka_unit_test(no_memory_in_the_registry),
        cmocka_unit_test(overflow_hits_the_guard),
        cmocka_unit_test(many_paused_jobs),
        cmocka_unit_test(replay_is_fast),
        cmocka_unit_test(modules_are_checked),
        cmocka_unit_test(files_are_checked),
        cmocka_unit_test(names_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
