/* What is printed: violations as they are met, at the end the summary; or all of it as one JSON object. */
#include <jansson.h>
#include <stdlib.h>
#include <time.h>

#include "verify.h"

struct report {
    FILE *out;
    FILE *told; /* what was found, until the end: the check may have to begin again */
    char *text;
    size_t size;
    json_t *violations; /* NULL: plain text */
    json_t *unchecked;
};

enum { SHOWN = 1000 }; /* one cause can break very many records */

static const char *const verdict_names[VERDICTS] = {"counted",  "fenced",     "duplicates",
                                                    "rejected", "unreadable", "unjudged"};
static const char *const skip_names[SKIPS] = {"duplicates", "expired", "watches", "unreadable",
                                              "foreign",    "refused", "dropped",  "to_partition", "forwarded"};
static const char *const state_names[RUN_STATES] = {"open", "completed", "failed", "cancelled", "terminated"};
static const char *const kind_names[32] = {
    [0] = "unknown", [1] = "genesis", [2] = "claim",    [3] = "release", [4] = "mark",     [5] = "event",
    [6] = "copy",    [7] = "stub",    [8] = "slot_out", [9] = "slot_in", [16] = "command", [17] = "forwarded",
};

struct report *pv_report_new(bool json, FILE *out)
{
    struct report *r = pv_must_alloc(sizeof *r);
    r->out = out;
    r->told = open_memstream(&r->text, &r->size);
    if (!r->told)
        abort();
    r->violations = json ? json_array() : NULL;
    r->unchecked = json ? json_array() : NULL;
    return r;
}

void pv_report_free(struct report *r)
{
    json_decref(r->violations);
    json_decref(r->unchecked);
    fclose(r->told);
    free(r->text);
    free(r);
}

void pv_report_told(struct report *r)
{
    fflush(r->told);
    fwrite(r->text, 1, r->size, r->out);
    rewind(r->told);
}

static json_t *hex(uint64_t run)
{
    return json_sprintf("%016" PRIx64, run);
}

/* Bytes of a job id that are no UTF-8 must not cost the whole report. */
static json_t *text(const char *bytes)
{
    json_t *string = json_string(bytes);
    return string ? string : json_string("(not UTF-8)");
}

static json_t *place_json(const struct where *w, const char *message)
{
    json_t *v = json_pack("{s:s, s:i, s:I}", "stream", w->stream == JOURNAL ? "journal" : "inbox", "partition",
                          (int)w->partition, "offset", (json_int_t)w->offset);
    if (w->job)
        json_object_set_new(v, "job", text(w->job));
    if (w->run)
        json_object_set_new(v, "run", hex(w->run));
    if (w->seq)
        json_object_set_new(v, "seq", json_integer((json_int_t)w->seq));
    json_object_set_new(v, "text", text(message));
    return v;
}

static void add_json(struct report *r, int rule, const struct where *w, const char *message)
{
    json_t *v = place_json(w, message);
    json_object_set_new(v, "rule", json_integer(rule));
    json_array_append_new(r->violations, v);
}

/* A job id comes from outside: it must not speak to the terminal. */
static void put_plain(FILE *out, const char *bytes)
{
    for (; *bytes; bytes++)
        fputc((unsigned char)*bytes < ' ' || *bytes == 127 ? '?' : *bytes, out);
}

static void put_place(FILE *out, const struct where *w, const char *message)
{
    fprintf(out, "%s %" PRIu32, w->stream == JOURNAL ? "journal" : "inbox", w->partition);
    if (w->offset >= 0)
        fprintf(out, " at %" PRId64, w->offset);
    if (w->job) {
        fputs(", job '", out);
        put_plain(out, w->job);
        fputc('\'', out);
    }
    if (w->run)
        fprintf(out, ", run %016" PRIx64, w->run);
    if (w->seq)
        fprintf(out, ", seq %" PRIu64, w->seq);
    fputs(": ", out);
    put_plain(out, message);
    fputc('\n', out);
}

static void add_text(const struct report *r, int rule, const struct where *w, const char *message)
{
    if (rule == EVENT_TABLE)
        fputs("VIOLATION event table: ", r->told);
    else
        fprintf(r->told, "VIOLATION rule %d: ", rule);
    put_place(r->told, w, message);
}

bool pv_hold(struct check *c, bool ok, int rule, const struct where *w, const char *format, ...)
{
    c->totals.checks[rule]++;
    if (ok)
        return true;
    if (++c->totals.violations > SHOWN)
        return false;
    char message[512];
    va_list values;
    va_start(values, format);
    vsnprintf(message, sizeof message, format, values);
    va_end(values);
    if (c->report->violations)
        add_json(c->report, rule, w, message);
    else
        add_text(c->report, rule, w, message);
    return false;
}

void pv_unchecked(struct check *c, const struct where *w, const char *format, ...)
{
    if (++c->totals.unchecked > SHOWN)
        return;
    char message[512];
    va_list values;
    va_start(values, format);
    vsnprintf(message, sizeof message, format, values);
    va_end(values);
    if (c->report->unchecked) {
        json_array_append_new(c->report->unchecked, place_json(w, message));
        return;
    }
    fputs("not checked: ", c->report->told);
    put_place(c->report->told, w, message);
}

static uint32_t partitions_seen(const struct check *c)
{
    uint32_t seen = 0;
    for (uint32_t i = 0; i < c->partition_count; i++)
        seen += c->partitions[i].seen;
    return seen;
}

static uint64_t checks_made(const struct check *c)
{
    uint64_t sum = 0;
    for (int i = 0; i < RULES; i++)
        sum += c->totals.checks[i];
    return sum;
}

static void count_states(const struct check *c, uint64_t states[RUN_STATES])
{
    for (size_t i = 0; i < c->run_count; i++)
        states[c->runs[i].state]++;
}

static json_t *numbers(const char *const *names, const uint64_t *values, int count, bool zeros)
{
    json_t *object = json_object();
    for (int i = 0; i < count; i++) {
        if (names[i] && (zeros || values[i]))
            json_object_set_new(object, names[i], json_integer((json_int_t)values[i]));
    }
    return object;
}

static json_t *rules_json(const struct check *c)
{
    json_t *object = json_object();
    for (int i = 0; i < RULES; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        if (c->totals.checks[i])
            json_object_set_new(object, name, json_integer((json_int_t)c->totals.checks[i]));
    }
    return object;
}

static json_t *jobs_json(const struct check *c)
{
    json_t *list = json_array();
    for (size_t i = 0; i < c->run_count; i++) {
        const struct run *run = &c->runs[i];
        const struct job *job = &c->jobs[run->job];
        json_array_append_new(list, json_pack("{s:o, s:o, s:o, s:s, s:I, s:i, s:I, s:I}", "id", text(job->id), "run",
                                              hex(run->id), "type", text(c->types[run->type]), "state",
                                              state_names[run->state], "events", (json_int_t)run->seq, "partition",
                                              (int)job->partition, "first", (json_int_t)run->first, "last",
                                              (json_int_t)run->last));
    }
    return list;
}

/* How far a growth is, by the partitions that must have settled it. */
struct growth {
    uint32_t version, partitions, from;
    uint32_t settled, left; /* partitions: whose moves are over; old ones that have appended SlotOut */
    uint64_t moves, in, open, closed;
};

/* False: no growth made this map. */
static bool growth_of(const struct check *c, uint32_t version, struct growth *g)
{
    *g = (struct growth){.version = version, .partitions = c->maps[version], .from = c->maps[version - 1]};
    if (!g->partitions || !g->from)
        return false;
    for (uint32_t i = 0; i < g->partitions && i < c->partition_count; i++) {
        const struct partition *p = &c->partitions[i];
        g->settled += p->has_genesis && (p->settled >= version || p->map_version > version);
        g->left += i < g->from && p->has_genesis && p->map_version >= version;
    }
    for (size_t i = 0; i < c->move_count; i++) {
        const struct move *m = &c->moves[i];
        if (m->version != version)
            continue;
        g->moves++;
        g->in += m->in >= 0;
        g->open += m->open;
        g->closed += m->closed;
    }
    return true;
}

static json_t *growths_json(const struct check *c)
{
    json_t *list = json_array();
    struct growth g;
    for (uint32_t version = 2; version < MAPS; version++) {
        if (growth_of(c, version, &g))
            json_array_append_new(
                list, json_pack("{s:i, s:i, s:i, s:b, s:i, s:i, s:I, s:I, s:I, s:I}", "map_version", (int)version,
                                "partitions", (int)g.partitions, "grown_from", (int)g.from, "settled",
                                g.settled == g.partitions, "partitions_settled", (int)g.settled, "handed_over",
                                (int)g.left, "moves", (json_int_t)g.moves, "moves_in", (json_int_t)g.in, "open_moved",
                                (json_int_t)g.open, "closed_moved", (json_int_t)g.closed));
    }
    return list;
}

static void print_growths(const struct check *c, FILE *out)
{
    struct growth g;
    for (uint32_t version = 2; version < MAPS; version++) {
        if (!growth_of(c, version, &g))
            continue;
        fprintf(out, "map %-7" PRIu32 " from %" PRIu32 " to %" PRIu32 " partitions: ", version, g.from, g.partitions);
        if (g.settled == g.partitions)
            fputs("settled", out);
        else
            fprintf(out, "under way, %" PRIu32 " of %" PRIu32 " have handed over, %" PRIu32 " of %" PRIu32 " have settled",
                    g.left, g.from, g.settled, g.partitions);
        fprintf(out, "; %" PRIu64 " open and %" PRIu64 " closed runs moved\n", g.open, g.closed);
    }
}

static void end_json(const struct check *c, const char *log, bool jobs)
{
    const struct totals *t = &c->totals;
    uint64_t states[RUN_STATES] = {0};
    count_states(c, states);
    json_t *inbox = numbers(skip_names, t->skips, SKIPS, true);
    json_object_set_new(inbox, "absorbed", json_integer((json_int_t)t->absorbed));
    json_object_set_new(inbox, "waiting", json_integer((json_int_t)t->waiting));
    json_object_set_new(inbox, "records", json_integer((json_int_t)t->inbox));
    json_t *journal = numbers(verdict_names, t->verdicts, VERDICTS, true);
    json_object_set_new(journal, "records", json_integer((json_int_t)t->journal));
    json_object_set_new(journal, "events", json_integer((json_int_t)t->events));
    json_t *all = json_pack(
        "{s:o, s:b, s:i, s:o, s:o, s:o, s:o, s:I, s:o, s:I, s:O}", "log", text(log), "ok", !t->violations, "partitions",
        (int)partitions_seen(c), "kinds", numbers(kind_names, t->kinds, 32, false), "journal", journal, "inbox", inbox,
        "runs", numbers(state_names, states, RUN_STATES, true), "checks", (json_int_t)checks_made(c), "checks_by_rule",
        rules_json(c), "violation_count", (json_int_t)t->violations, "violations", c->report->violations);
    if (c->has_ledger)
        json_object_set_new(
            all, "ledger",
            json_pack("{s:I, s:I}", "effects", (json_int_t)t->effects, "without_step", (json_int_t)t->strange_effects));
    if (c->as_of)
        json_object_set_new(all, "as_of",
                            json_pack("{s:I, s:I, s:I}", "time", (json_int_t)c->as_of * 1000, "later",
                                      (json_int_t)t->later, "heads_cut", (json_int_t)t->heads_cut));
    json_object_set_new(all, "growths", growths_json(c));
    json_object_set(all, "unchecked", c->report->unchecked);
    json_object_set_new(all, "unchecked_count", json_integer((json_int_t)t->unchecked));
    if (jobs)
        json_object_set_new(all, "jobs", jobs_json(c));
    json_dumpf(all, c->report->out, JSON_COMPACT | JSON_ENSURE_ASCII);
    fputc('\n', c->report->out);
    json_decref(all);
}

static void print_numbers(FILE *out, const char *title, const char *const *names, const uint64_t *values, int count)
{
    fprintf(out, "%-11s", title);
    const char *comma = "";
    for (int i = 0; i < count; i++) {
        if (!names[i] || !values[i])
            continue;
        fprintf(out, "%s %" PRIu64 " %s", comma, values[i], names[i]);
        comma = ",";
    }
    fputs(*comma ? "\n" : " none\n", out);
}

static void print_jobs(const struct check *c, FILE *out)
{
    for (size_t i = 0; i < c->run_count; i++) {
        const struct run *run = &c->runs[i];
        const struct job *job = &c->jobs[run->job];
        fprintf(out,
                "job %s  run %016" PRIx64 "  %s  %s  events %" PRIu64 "  journal %" PRIu32 " at %" PRId64 "..%" PRId64
                "\n",
                job->id, run->id, c->types[run->type], state_names[run->state], run->seq, job->partition, run->first,
                run->last);
    }
}

static void print_as_of(const struct check *c, FILE *out)
{
    char text[32] = "";
    time_t when = (time_t)c->as_of;
    struct tm utc;
    if (gmtime_r(&when, &utc))
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &utc);
    fprintf(out, "as of       %s UTC; what was written later is not checked (%" PRIu64 " journal records of it were read)\n",
            text, c->totals.later);
    if (c->totals.heads_cut)
        fprintf(out, "            %" PRIu64 " heads were cut while they were read: what stood there is not checked\n",
                c->totals.heads_cut);
}

static void end_text(const struct check *c, const char *log, bool jobs)
{
    const struct totals *t = &c->totals;
    FILE *out = c->report->out;
    uint64_t states[RUN_STATES] = {0};
    count_states(c, states);
    if (jobs)
        print_jobs(c, out);
    if (t->violations > SHOWN)
        fprintf(out, "... and %" PRIu64 " more\n", t->violations - SHOWN);
    fprintf(out, "log         %s, %" PRIu32 " partitions\n", log, partitions_seen(c));
    if (c->as_of)
        print_as_of(c, out);
    print_numbers(out, "records", kind_names, t->kinds, 32);
    fprintf(out, "journal     %" PRIu64 " records, %" PRIu64 " events:", t->journal, t->events);
    print_numbers(out, "", verdict_names, t->verdicts, VERDICTS);
    fprintf(out, "inbox       %" PRIu64 " records: %" PRIu64 " absorbed, %" PRIu64 " waiting\n", t->inbox, t->absorbed,
            t->waiting);
    print_numbers(out, "skipped", skip_names, t->skips, SKIPS);
    print_numbers(out, "runs", state_names, states, RUN_STATES);
    print_growths(c, out);
    if (c->has_ledger)
        fprintf(out, "ledger      %" PRIu64 " effects, %" PRIu64 " of them without a completed step\n", t->effects,
                t->strange_effects);
    fprintf(out, "checks      %" PRIu64 " made, %" PRIu64 " violations\n", checks_made(c), t->violations);
    if (t->unchecked)
        fprintf(out, "not checked %" PRIu64 " things, see above: the log does not hold what they would be compared with\n",
                t->unchecked);
    fputs(t->violations ? "The log is NOT sound.\n" : "The log is sound.\n", out);
}

void pv_report_end(struct check *c, const char *log, bool jobs)
{
    pv_report_told(c->report);
    if (c->report->violations)
        end_json(c, log, jobs);
    else
        end_text(c, log, jobs);
}
