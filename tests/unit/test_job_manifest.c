/*
 * The sample `manifest` against sha256sum, byte for byte, replayed after every event; names as files really have them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "job_trial.h"

#define K(name) PERDURE__V1__EVENT__KIND_##name

static char folder[] = "/tmp/perdure-manifest-XXXXXX";

static void shell(const char *format, ...)
{
    char command[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    assert_int_equal(system(command), 0);
}

static const pdr_module *manifest_module(struct registry **registry)
{
    const char *build = getenv("PERDURE_BUILD");
    char path[4096], error[512] = "";
    snprintf(path, sizeof(path), "%s/samples/manifest.so", build != NULL ? build : ".");
    if (access(path, R_OK) != 0)
        skip();
    *registry = registry_new();
    if (registry_load(*registry, path, error, sizeof(error)) != PDR_OK)
        fail_msg("%s", error);
    return registry_job(*registry, "manifest")->module;
}

/* Field 1 and 2 of files.Request, by hand: the test does not link the sample's messages. */
static Payload *request(const char *directory, const char *output)
{
    Payload *payload = job_trial_text("");
    free(payload->type);
    payload->type = strdup("files.Request");
    size_t left = strlen(directory), right = strlen(output);
    assert_true(left < 128 && right < 128);
    uint8_t *data = malloc(left + right + 4);
    data[0] = 0x0a;
    data[1] = (uint8_t)left;
    memcpy(data + 2, directory, left);
    data[left + 2] = 0x12;
    data[left + 3] = (uint8_t)right;
    memcpy(data + left + 4, output, right);
    payload->data.data = data;
    payload->data.len = left + right + 4;
    return payload;
}

static void manifest_of(const char *name, bool replay_always)
{
    struct registry *registry = NULL;
    const pdr_module *module = manifest_module(&registry);
    char directory[256], output[256];
    snprintf(directory, sizeof(directory), "%s/%s", folder, name);
    snprintf(output, sizeof(output), "%s/%s.out", folder, name);
    struct job_trial *trial = job_trial_new(module, NULL, "manifest", replay_always);
    Event *started = job_trial_event(K(STARTED), 0);
    started->started = malloc(sizeof(*started->started));
    perdure__v1__started__init(started->started);
    started->started->type = strdup("files/manifest");
    started->started->build = strdup("b");
    started->started->input = request(directory, output);
    trial->job = job_new(trial->registry, trial->callable, trial->id, trial->run, NULL);
    job_trial_feed(trial, started);
    assert_int_equal(job_trial_run(trial), JOB_ENDED);
    assert_string_equal(trial->complaint, "");
    assert_int_equal(job_trial_last(trial)->kind_case, K(COMPLETED));
    shell("cd '%s' && find . -type f | sed 's#^\\./##' | LC_ALL=C sort | xargs -d '\\n' sha256sum > '%s.sum'",
          directory, output);
    shell("cmp '%s' '%s.sum'", output, output);
    shell("test $(ls '%s' | grep -c '^%s.out') = 2", folder, name); /* nothing left beside it */
    job_trial_free(trial);
    registry_free(registry);
}

static void names_of_all_kinds(void **state)
{
    (void)state;
    static const char *const names[] = {"back\\slash", "end\\",    "z\r",     "a b",     "\377\376", "a/b/c",
                                        "a.b/c",       "A",        "quo\"te", "it's",    "tab\t",    "star*",
                                        "$(x)",        "\303\244", "#",       ".hidden", "a/-"};
    shell("mkdir -p '%s/odd/a/b' '%s/odd/a.b' '%s/odd/empty'", folder, folder, folder);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[512];
        snprintf(path, sizeof(path), "%s/odd/%s", folder, names[i]);
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        fprintf(file, "%zu", i);
        fclose(file);
    }
    shell("cd '%s/odd' && : > nothing && ln -s a/b/c link && mkfifo pipe && head -c 300000 /dev/zero > zero", folder);
    manifest_of("odd", true);
}

static void an_empty_tree(void **state)
{
    (void)state;
    shell("mkdir -p '%s/none/deep'", folder);
    manifest_of("none", true);
}

static void many_files(void **state)
{
    (void)state;
    shell(
        "mkdir -p '%s/many' && cd '%s/many' && for d in 1 2 3 4 5; do mkdir $d; seq 100 | split -l 1 -a 3 - $d/f; done",
        folder, folder);
    manifest_of("many", false);
}

static int begin(void **state)
{
    (void)state;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    shell("rm -rf '%s'", folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_all_kinds),
        cmocka_unit_test(an_empty_tree),
        cmocka_unit_test(many_files),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
