/*
 * perdure: one program, one verb a call.
 */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command/session.h"

static int main_version(struct arguments *arguments)
{
    if (arguments->json)
        printf("{\"version\":\"%s\",\"library\":\"%s\"}\n", PERDURE_VERSION, pdr_version());
    else
        printf("perdure %s\n", PERDURE_VERSION);
    return EXIT_OK;
}

static const struct verb verb_version = {
    .name = "version",
    .synopsis = "",
    .summary = "print the version",
    .help = "Prints the version of the program and, with --json, that of the library.",
    .run = main_version,
};

static const struct verb *const main_verbs[] = {
    &verb_dev,     &verb_worker,  &verb_start,     &verb_signal, &verb_complete, &verb_cancel,  &verb_terminate,
    &verb_resume,  &verb_result,  &verb_describe,  &verb_list,   &verb_workers,  &verb_queues,  &verb_history,
    &verb_export,  &verb_replay,  &verb_namespace, &verb_check,  &verb_version,
};
#define MAIN_VERBS (sizeof main_verbs / sizeof *main_verbs)

static const char *const main_later[] = {"query", "update", "debug", "fork",
                                         "reset",  "schedule", "top"};

static int main_help(FILE *out)
{
    fputs("usage: perdure VERB [arguments]\n\n"
          "Durable jobs in C. The log is --log, else $PERDURE_LOG, else sqlite:perdure.db.\n\nverbs:\n",
          out);
    for (size_t i = 0; i < MAIN_VERBS; i++)
        fprintf(out, "  %-11s %s\n", main_verbs[i]->name, main_verbs[i]->summary);
    fprintf(out, "  %-11s %s\n", "verify", "check a whole log, independently of the runtime");
    fputs("\n`perdure help VERB` tells more. Exit codes: 0 done, 1 the job failed, 2 wrong usage or refused,\n"
          "3 not found, 4 timed out, 5 the log cannot be reached.\n",
          out);
    return out == stdout ? EXIT_OK : EXIT_USAGE;
}

/* The checker shares no code with this program: it stands beside it. */
static int main_verify(char **argv)
{
    char self[PATH_MAX], path[PATH_MAX + 20];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length > 0) {
        self[length] = '\0';
        snprintf(path, sizeof path, "%s/perdure-verify", dirname(self));
        argv[0] = path;
        execv(path, argv);
    }
    fprintf(stderr, "perdure verify: cannot run %s: %s\n", length > 0 ? path : "perdure-verify", strerror(errno));
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    char *about[] = {argv[0], argc > 2 ? argv[2] : NULL, (char[]){"--help"}, NULL};
    const char *name = argc > 1 ? argv[1] : "";
    if (!*name)
        return main_help(stderr);
    if (strcmp(name, "help") == 0 && argc == 3) { /* `help VERB` is `VERB --help` */
        name = about[1];
        argv = about;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0)
        return main_help(stdout);
    if (strcmp(name, "--version") == 0)
        name = "version";
    if (strcmp(name, "verify") == 0)
        return main_verify(argv + 1);
    for (size_t i = 0; i < MAIN_VERBS; i++) {
        if (strcmp(main_verbs[i]->name, name) != 0)
            continue;
        int code = arguments_run(main_verbs[i], argc - 1, argv + 1);
        if (fflush(stdout) == 0 && !ferror(stdout))
            return code;
        fprintf(stderr, "perdure %s: cannot write the output: %s\n", name, strerror(errno));
        return code ? code : EXIT_UNREACHABLE;
    }
    for (size_t i = 0; i < sizeof main_later / sizeof *main_later; i++)
        if (strcmp(main_later[i], name) == 0) {
            fprintf(stderr, "perdure: `%s` is not in this version\n", name);
            return EXIT_USAGE;
        }
    fprintf(stderr, "perdure: there is no verb \"%s\"; `perdure --help` lists them\n", name);
    return EXIT_USAGE;
}
