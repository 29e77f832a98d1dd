/*
 * perdure list
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command/duration.h"
#include "command/session.h"
#include "command/show.h"

static const struct flag list_flags[] = {
    {"state", "STATE", "only these: running waiting completed failed cancelled terminated diverged quarantined", false},
    {"type", "TYPE", "only jobs of this type: MODULE/JOB or JOB", false},
    {"limit", "N", "at most so many, the newest ones", false},
    {NULL, NULL, NULL, false},
};

struct list {
    struct session session;
    const char *state;
    const char *type;
    size_t count, capacity;
    Status **items;
    bool failed;
};

static bool list_type_fits(const char *wanted, const char *type)
{
    const char *slash = strrchr(type, '/');
    return strcmp(wanted, type) == 0 || (!strchr(wanted, '/') && slash && strcmp(wanted, slash + 1) == 0);
}

static bool list_visit(void *context, const Status *status)
{
    struct list *list = context;
    if ((list->state && strcmp(list->state, status->state) != 0) ||
        (list->type && !list_type_fits(list->type, status->type)))
        return true;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 256;
        Status **grown = realloc(list->items, capacity * sizeof *grown);
        list->failed = !grown;
        if (!grown)
            return false;
        list->items = grown;
        list->capacity = capacity;
    }
    list->items[list->count] = status_copy(status);
    list->failed = !list->items[list->count];
    list->count += !list->failed;
    return !list->failed;
}

static int list_newest_first(const void *a, const void *b)
{
    const Status *left = *(Status *const *)a, *right = *(Status *const *)b;
    if (left->created != right->created)
        return left->created < right->created ? 1 : -1;
    return strcmp(left->id, right->id);
}

/* Why it ended or stands still, or what it waits for, in a few words. */
static void list_reason(const Status *status, int64_t now, char *text, size_t size)
{
    char until[80];
    text[0] = '\0';
    if (status->error && strcmp(status->state, "failed") != 0) /* cancelled or terminated: the reason that was given */
        snprintf(text, size, "%s", status->error->message);
    else if (status->error)
        snprintf(text, size, "%s: %s", status->error->type, status->error->message);
    else if (strcmp(status->state, "quarantined") == 0 || strcmp(status->state, "diverged") == 0)
        snprintf(text, size, "%.*s", (int)strcspn(status->report, "\n"), status->report);
    if (status->n_waiting == 0 || *text)
        return;
    const Waiting *waiting = status->waiting[0];
    int length = snprintf(text, size, "%s %s", waiting->kind, waiting->name);
    if (waiting->until && length > 0 && (size_t)length < size)
        length += snprintf(text + length, size - (size_t)length, ", %s",
                           time_relative(waiting->until, now, until, sizeof until));
    if (*waiting->limit && length > 0 && (size_t)length < size)
        length += snprintf(text + length, size - (size_t)length, ", no room in %s", waiting->limit);
    if (status->n_waiting > 1 && length > 0 && (size_t)length < size)
        snprintf(text + length, size - (size_t)length, " and %zu more", status->n_waiting - 1);
}

static void list_table(const struct list *list, size_t count, struct buffer *out)
{
    static const char *const heading[] = {"ID", "TYPE", "STATE", "EVENTS", "CREATED", "WHY"};
    struct table table = {.columns = sizeof heading / sizeof *heading};
    int64_t now = client_wall_ms();
    for (size_t i = 0; i < table.columns; i++)
        table_cell(&table, heading[i]);
    for (size_t i = 0; i < count; i++) {
        const Status *status = list->items[i];
        char events[30], created[80], reason[160];
        snprintf(events, sizeof events, "%" PRIu64, status->events);
        list_reason(status, now, reason, sizeof reason);
        table_cell(&table, status->id);
        table_cell(&table, status->type);
        table_cell(&table, status->state);
        table_cell(&table, events);
        table_cell(&table, time_relative(status->created, now, created, sizeof created));
        table_cell(&table, reason);
    }
    table_print(&table, out);
}

static int list_print(const struct list *list, size_t count)
{
    struct buffer out = {0};
    bool done = true;
    if (!list->session.arguments->json) {
        list_table(list, count, &out);
        done = show_print(&out);
    }
    for (size_t i = 0; i < count && done && list->session.arguments->json; i++) {
        show_status(&out, &list->session.catalog, list->items[i]);
        done = show_print(&out);
    }
    buffer_free(&out);
    return done ? EXIT_OK : session_output_failed(list->session.arguments);
}

static bool list_state_is_known(const char *state)
{
    static const char *const states[] = {"running",   "waiting",    "completed", "failed",
                                         "cancelled", "terminated", "diverged",  "quarantined"};
    for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        if (strcmp(states[i], state) == 0)
            return true;
    return false;
}

static int list_run(struct arguments *arguments)
{
    struct list list = {.state = arguments_get(arguments, "state"), .type = arguments_get(arguments, "type")};
    int64_t limit;
    if (list.state && !list_state_is_known(list.state))
        return arguments_wrong(arguments, strcmp(list.state, "queued") == 0
                                              ? "--state: a job that is still \"%s\" has no status record, and is not listed; "
                                                "`perdure describe ID` finds it"
                                              : "--state: there is no state \"%s\"", list.state);
    if (!arguments_number(arguments, "limit", 1, INT64_MAX, INT64_MAX, &limit))
        return EXIT_USAGE;
    int code = session_open(arguments, SESSION_READS, &list.session);
    if (code != EXIT_OK)
        return code;
    if (arguments->json && (code = session_catalog(&list.session)) != EXIT_OK) {
        session_close(&list.session);
        return code;
    }
    if (client_list(list.session.client, list_visit, &list) != EXIT_OK) {
        code = session_client_failed(&list.session);
    } else if (list.failed) {
        code = session_fail(arguments, EXIT_UNREACHABLE, "out of memory");
    } else {
        if (list.count > 0)
            qsort(list.items, list.count, sizeof *list.items, list_newest_first);
        code = list_print(&list, (uint64_t)limit < list.count ? (size_t)limit : list.count);
    }
    for (size_t i = 0; i < list.count; i++)
        status_free(list.items[i]);
    free(list.items);
    session_close(&list.session);
    return code;
}

const struct verb verb_list = {
    .name = "list",
    .synopsis = "[--state STATE] [--type TYPE] [--limit N] [--json]",
    .summary = "list jobs",
    .help = "Lists jobs, the newest first, as their status records stand; they are kept by the workers.\n\n"
            "--json prints one object a line, like `describe --json`.",
    .flags = list_flags,
    .run = list_run,
};
