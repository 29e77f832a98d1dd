/*
 * perdure check
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command/session.h"
#include "command/show.h"
#include "log/findings.h"

static const struct flag check_flags[] = {
    {"data", "DIR", "also look at this data directory of a worker", false},
    {"dev", NULL, "for a single broker: nothing is replicated", false},
    {"write", NULL, "Kafka: write one answer that nobody waits for, to compare the clocks", false},
    {"quiet", NULL, "leave out what is right", false},
    {NULL, NULL, NULL, false},
};

struct check_page {
    struct buffer out;
    bool json, quiet, any;
};

static void check_tell(void *context, enum finding_level level, const char *subject, const char *text,
                       const char *repair)
{
    static const char *const words[FINDING_LEVELS] = {"right", "note", "slow", "LOSS"};
    static const char *const names[FINDING_LEVELS] = {"right", "note", "slow", "loss"};
    struct check_page *page = context;
    if (page->quiet && level == FINDING_RIGHT)
        return;
    if (page->json) {
        buffer_text(&page->out, page->any ? ",{" : "{");
        show_string(&page->out, "level", names[level]);
        show_string(&page->out, "subject", subject);
        show_string(&page->out, "text", text);
        show_string(&page->out, "repair", repair ? repair : "");
        buffer_byte(&page->out, '}');
    } else {
        buffer_format(&page->out, "%-6s %-18s ", words[level], subject);
        show_plain(&page->out, text);
        if (repair) {
            buffer_format(&page->out, "\n%26s-> ", "");
            show_plain(&page->out, repair);
        }
        buffer_byte(&page->out, '\n');
    }
    page->any = true;
}

static void check_data(struct findings *findings, const char *folder)
{
    char store[4200];
    findings_of_disk(findings, "data", folder);
    snprintf(store, sizeof store, "%s/store.db", folder);
    if (access(store, F_OK) == 0)
        findings_of_database(findings, "data", store,
                             "delete it: it is a cache, and the worker rebuilds it from the journal");
    else if (access(folder, F_OK) == 0)
        finding_tell(findings, FINDING_NOTE, "data", NULL, "%s: no store yet; a worker makes it", folder);
}

static int check_print(const struct arguments *arguments, struct check_page *page, const struct findings *findings)
{
    size_t loss = findings->counts[FINDING_LOSS], slow = findings->counts[FINDING_SLOW];
    struct buffer out = {0};
    if (page->json) {
        buffer_byte(&out, '{');
        show_string(&out, "log", arguments->log);
        show_bool(&out, "right", loss == 0);
        show_uint(&out, "loss", loss);
        show_uint(&out, "slow", slow);
        show_key(&out, "findings");
        buffer_byte(&out, '[');
    }
    buffer_add(&out, page->out.data, page->out.size);
    out.failed = out.failed || page->out.failed;
    if (page->json)
        buffer_text(&out, "]}");
    else if (loss == 0)
        buffer_format(&out, "Nothing would lose data or stop work%s.", slow > 0 ? "; something costs speed" : "");
    else
        buffer_format(&out, "%zu thing%s would lose data or stop work.", loss, loss == 1 ? "" : "s");
    int code = session_print(arguments, &out);
    return code != EXIT_OK ? code : loss > 0 ? EXIT_JOB_FAILED : EXIT_OK;
}

static int check_run(struct arguments *arguments)
{
    struct check_page page = {.json = arguments->json, .quiet = arguments_get(arguments, "quiet") != NULL};
    struct findings findings = {.tell = check_tell, .context = &page};
    struct check_options options = {.dev = arguments_get(arguments, "dev") != NULL,
                                    .write = arguments_get(arguments, "write") != NULL};
    const char *data = arguments_get(arguments, "data");
    char error[1200] = "";
    bool file = strncmp(arguments->log, "sqlite:", 7) == 0;
    int code = file ? sqlite_check(arguments->log + 7, &findings, error, sizeof error)
                    : kafka_check(arguments->log, &options, &findings, error, sizeof error);
    if (code == EXIT_OK && data)
        check_data(&findings, data);
    if (code == EXIT_OK && !file)
        findings_of_sqlite_library(&findings);
    code = code == EXIT_OK ? check_print(arguments, &page, &findings) : session_fail(arguments, code, "%s", error);
    buffer_free(&page.out);
    return code;
}

const struct verb verb_check = {
    .name = "check",
    .synopsis = "[--data DIR] [--write] [--dev] [--quiet]",
    .summary = "look for what would lose data or cost speed",
    .help =
        "Looks at the log: on Kafka at every setting of every topic, replication now, Genesis, clocks, settings of "
        "the\n"
        "client and known bugs of its library; on a file at its place, lock and content. Each thing found stands with\n"
        "what repairs it. Nothing is changed. Exit codes: 0 nothing would lose data or stop work, 1 something would,\n"
        "2 refused, 3 no such log, 5 it cannot be reached.",
    .flags = check_flags,
    .run = check_run,
};
