/*
 * perdure replay: fetches histories, closes the log, then runs them.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "command/session.h"
#include "command/show.h"
#include "history_file.h"
#include "replayer.h"

#define REPLAY_FILE_LIMIT ((size_t)1 << 30)

static const struct flag replay_flags[] = {
    {"module", "FILE.so", "the module to run it against", true},
    {"quiet", NULL, "print verdicts only, not the timelines", false},
    {NULL, NULL, NULL, false},
};

struct replay {
    const struct arguments *arguments;
    struct registry *registry;
    struct registrations modules; /* of the registry: their schemas show the values */
    size_t count, same;
    int exit_code; /* the worst so far */
};

/* A job's events in one row, with what is needed to show them. */
struct replay_run {
    const struct history *history;
    struct catalog catalog;
    const char *type, *build;
    const Event **events;
    size_t count;
};

static void replay_worse(struct replay *replay, int exit_code)
{
    if (replay->exit_code == EXIT_OK || replay->exit_code == EXIT_JOB_FAILED)
        replay->exit_code = exit_code != EXIT_OK ? exit_code : replay->exit_code;
}

/* ---- showing ------------------------------------------------------------------------------------ */

static void replay_timeline(const struct replay_run *run, const struct replay_result *result, bool json,
                            struct buffer *out)
{
    struct table table;
    size_t shown = result->verdict == REPLAY_DIVERGED && result->agreed < run->count ? result->agreed + 1 : run->count;
    if (!json)
        timeline_begin(&table);
    for (size_t i = 0; i < shown; i++) {
        if (!json) {
            timeline_event(&table, &run->catalog, run->type, run->build, run->events[i],
                           i >= result->agreed ? ">" : "");
        } else {
            show_event(out, &run->catalog, run->type, run->build, run->events[i]);
            buffer_byte(out, '\n');
        }
    }
    if (!json) {
        table_print(&table, out);
        buffer_byte(out, '\n');
    }
}

static void replay_verdict_json(const struct replay_run *run, const struct replay_result *result, struct buffer *out)
{
    static const char *const names[] = {"same", "diverged", "broken"};
    struct buffer object = {0};
    Site site = PERDURE__V1__SITE__INIT;
    buffer_byte(&object, '{');
    show_string(&object, "verdict", names[result->verdict]);
    show_string(&object, "id", run->history->job);
    show_string(&object, "type", run->type);
    show_uint(&object, "events", run->count);
    show_uint(&object, "agreed", result->agreed);
    show_bool(&object, "ended", result->ended);
    show_string(&object, "recorded_build", run->build);
    show_string(&object, "build", result->build ? result->build : "");
    if (result->site.file) {
        site.file = (char *)result->site.file;
        site.function = (char *)result->site.function;
        site.line = (uint32_t)result->site.line;
    }
    show_site(&object, "site", result->site.file ? &site : NULL);
    if (result->report)
        show_string(&object, "report", result->report);
    buffer_byte(&object, '}');
    out->failed |= object.failed;
    buffer_add(out, object.data, object.size);
    buffer_free(&object);
}

static void replay_verdict_text(const struct replay_run *run, const struct replay_result *result, struct buffer *out)
{
    show_plain(out, run->history->job);
    buffer_text(out, " (");
    show_plain(out, run->type);
    switch (result->verdict) {
    case REPLAY_SAME:
        buffer_format(out, "): same: all %zu events agreed; ", run->count);
        if (result->ended)
            buffer_text(out, "the job has ended");
        else if (result->site.file)
            buffer_format(out, "the job stands at %s:%d", result->site.file, result->site.line);
        else
            buffer_text(out, "the job has not ended");
        break;
    case REPLAY_DIVERGED:
        buffer_format(out, "): DIFFERENT after %zu of %zu events\n%s", result->agreed, run->count, result->report);
        break;
    default:
        buffer_format(out, "): cannot be replayed: %s", result->report ? result->report : "out of memory");
        break;
    }
    if (strcmp(run->build, result->build ? result->build : "") != 0)
        buffer_format(out, "\nrecorded by build %s, replayed with build %s", run->build,
                      result->build ? result->build : "(none)");
    while (out->size > 0 && out->data[out->size - 1] == '\n')
        out->size--;
}

/* ---- one history -------------------------------------------------------------------------------- */

/* Schemas of the module given here first, then those that came with the history. */
static bool replay_catalog(const struct replay *replay, const struct registrations *own, struct catalog *catalog)
{
    size_t count = replay->modules.count + own->count;
    Registration **items = calloc(count + 1, sizeof *items);
    if (!items)
        return false;
    memcpy(items, replay->modules.items, replay->modules.count * sizeof *items);
    if (own->count > 0)
        memcpy(items + replay->modules.count, own->items, own->count * sizeof *items);
    catalog->registrations = (struct registrations){count, items};
    return true;
}

static bool replay_collect(const struct replay *replay, const struct history *history, const struct registrations *own,
                           struct replay_run *run)
{
    size_t capacity = 0;
    *run = (struct replay_run){.history = history};
    for (size_t i = 0; i < history->count; i++)
        capacity += history->records[i].record->n_events;
    run->events = calloc(capacity + 1, sizeof *run->events);
    if (!run->events || !replay_catalog(replay, own, &run->catalog))
        return false;
    for (size_t i = 0; i < history->count; i++)
        for (size_t j = 0; j < history->records[i].record->n_events; j++)
            run->events[run->count++] = history->records[i].events[j];
    const Event *first = run->events[0];
    bool started = first && first->kind_case == PERDURE__V1__EVENT__KIND_STARTED;
    run->type = started ? first->started->type : history->records[0].record->header->type;
    run->build = started ? first->started->build : history->records[0].record->header->build;
    return true;
}

static void replay_history(struct replay *replay, const struct history *history, const struct registrations *own)
{
    struct replay_run run;
    struct replay_result result = {0};
    struct buffer out = {0};
    char error[300];
    replay->count++;
    if (!history_is_whole(history, error, sizeof error)) {
        replay_worse(replay, session_fail(replay->arguments, EXIT_USAGE, "%s: %s", history->job, error));
        return;
    }
    if (!replay_collect(replay, history, own, &run)) {
        replay_worse(replay, session_fail(replay->arguments, EXIT_UNREACHABLE, "out of memory"));
    } else {
        bool json = replay->arguments->json;
        replayer_run(replay->registry, run.type, history->job, history->run, run.events, run.count, &result);
        if (!arguments_get(replay->arguments, "quiet"))
            replay_timeline(&run, &result, json, &out);
        if (json)
            replay_verdict_json(&run, &result, &out);
        else
            replay_verdict_text(&run, &result, &out);
        replay->same += result.verdict == REPLAY_SAME;
        replay_worse(replay, result.verdict == REPLAY_SAME       ? EXIT_OK
                             : result.verdict == REPLAY_DIVERGED ? EXIT_JOB_FAILED
                                                                 : EXIT_USAGE);
        if (!show_print(&out))
            replay_worse(replay, session_output_failed(replay->arguments));
    }
    replay_result_free(&result);
    buffer_free(&out);
    free(run.events);
    free(run.catalog.registrations.items);
}

/* ---- where histories come from ------------------------------------------------------------------ */

static void replay_file(struct replay *replay, const char *path)
{
    struct history_file file;
    char error[600];
    size_t size;
    char *data = arguments_read_file(path, REPLAY_FILE_LIMIT, &size, error, sizeof error);
    if (!data) {
        replay_worse(replay, session_fail(replay->arguments, EXIT_NOT_FOUND, "%s", error));
        return;
    }
    int code = history_file_read(data, size, &file, error, sizeof error);
    free(data);
    if (code != EXIT_OK) {
        replay_worse(replay, session_fail(replay->arguments, code, "%s: %s", path, error));
        return;
    }
    replay_history(replay, file.history, &file.registrations);
    history_file_free(&file);
}

/* The log is open for reading only, and closed before any code of the job runs. */
static void replay_job(struct replay *replay, const char *id)
{
    struct session session;
    struct history *history = NULL;
    int code = session_open(replay->arguments, SESSION_READS, &session);
    if (code != EXIT_OK) {
        replay_worse(replay, code);
        return;
    }
    if (client_history(session.client, id, &history) != EXIT_OK)
        replay_worse(replay, session_client_failed(&session));
    else
        replay_worse(replay, session_catalog(&session)); /* values of an old build's messages can be shown all the same */
    struct registrations registrations = session.catalog.registrations;
    session.catalog.registrations = (struct registrations){0};
    session_close(&session);
    if (history)
        replay_history(replay, history, &registrations);
    history_free(history);
    registrations_free(&registrations);
}

static int replay_no_dots(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void replay_folder(struct replay *replay, const char *path)
{
    struct dirent **entries;
    int count = scandir(path, &entries, replay_no_dots, alphasort);
    size_t found = 0;
    if (count < 0) {
        replay_worse(replay, session_fail(replay->arguments, EXIT_NOT_FOUND, "%s: %s", path, strerror(errno)));
        return;
    }
    for (int i = 0; i < count; i++) {
        char file[4600];
        struct stat status;
        snprintf(file, sizeof file, "%s/%s", path, entries[i]->d_name);
        if (stat(file, &status) == 0 && S_ISREG(status.st_mode)) {
            replay_file(replay, file);
            found++;
        }
        free(entries[i]);
    }
    free(entries);
    if (found == 0)
        replay_worse(replay, session_fail(replay->arguments, EXIT_NOT_FOUND, "%s: no files in it", path));
}

static void replay_argument(struct replay *replay, const char *argument)
{
    struct stat status;
    if (stat(argument, &status) != 0)
        replay_job(replay, argument);
    else if (S_ISDIR(status.st_mode))
        replay_folder(replay, argument);
    else
        replay_file(replay, argument);
}

/* ---- the verb ----------------------------------------------------------------------------------- */

static bool replay_modules(struct replay *replay)
{
    char error[1000], path[4200];
    for (size_t i = 0; i < replay->arguments->repeat_count; i++) {
        const char *given = replay->arguments->repeats[i];
        snprintf(path, sizeof path, "%s%s", strchr(given, '/') ? "" : "./", given);
        if (registry_load(replay->registry, path, error, sizeof error) != PDR_OK) {
            session_fail(replay->arguments, EXIT_USAGE, "%s", error);
            return false;
        }
    }
    size_t count = registry_count(replay->registry);
    replay->modules.items = calloc(count + 1, sizeof *replay->modules.items);
    for (size_t i = 0; replay->modules.items && i < count; i++) {
        Registration *registration = registry_registration(replay->registry, i);
        if (registration)
            replay->modules.items[replay->modules.count++] = registration;
    }
    return replay->modules.items && replay->modules.count == count;
}

static int replay_run(struct arguments *arguments)
{
    struct replay replay = {.arguments = arguments};
    if (arguments->repeat_count == 0)
        return arguments_wrong(arguments, "--module is missing: against which module should it run?");
    replay.registry = registry_new();
    if (!replay.registry)
        return session_fail(arguments, EXIT_UNREACHABLE, "out of memory");
    if (!replay_modules(&replay)) {
        replay.exit_code = EXIT_USAGE;
    } else {
        for (size_t i = 0; i < arguments->count; i++)
            replay_argument(&replay, arguments->positional[i]);
        if (replay.count > 1 && !arguments->json)
            printf("%zu of %zu histories are the same\n", replay.same, replay.count);
    }
    registrations_free(&replay.modules);
    registry_free(replay.registry);
    return replay.exit_code;
}

const struct verb verb_replay = {
    .name = "replay",
    .synopsis = "--module FILE.so (ID | FILE | FOLDER)... [--json]",
    .summary = "run recorded histories against a module",
    .help = "Runs the histories of jobs (from the log, from files of `perdure export`, from all files in a folder)\n"
            "against the module and touches nothing: no step runs, nothing is appended. Prints the timeline with\n"
            "sites and values and whether the module takes the same path; exits with 1 where it does not, and\n"
            "prints what was recorded and what was attempted.\n\n"
            "--json prints the events like `history --json`, then per history one object\n"
            "{\"verdict\":\"same\"|\"diverged\"|\"broken\",id,type,events,agreed,ended,recorded_build,build,site,report}.",
    .flags = replay_flags,
    .least = 1,
    .most = SIZE_MAX,
    .run = replay_run,
};
