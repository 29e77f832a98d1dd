/*
 * The events of a history as a table for people: what `history` and `replay` print.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "command/duration.h"
#include "command/show.h"

void timeline_begin(struct table *table)
{
    static const char *const heading[] = {"SEQ", "TIME", "EVENT", "NAME", "SITE", "VALUE"};
    *table = (struct table){.columns = sizeof heading / sizeof *heading};
    for (size_t i = 0; i < table->columns; i++)
        table_cell(table, heading[i]);
}

void timeline_event(struct table *table, const struct catalog *catalog, const char *job_type, const char *build,
                    const Event *event, const char *mark)
{
    char seq[40], clock[40];
    struct buffer site = {0}, value = {0};
    snprintf(seq, sizeof seq, "%s%" PRIu64, mark, event->seq);
    show_site_text(&site, event->site);
    show_event_text(&value, catalog, job_type, build, event);
    char *where = buffer_take(&site), *what = buffer_take(&value);
    table_cell(table, seq);
    table_cell(table, time_clock(event->t, clock, sizeof clock));
    table_cell(table, event_kind_name(event));
    table_cell(table, event_name(event));
    table_cell(table, where ? where : "");
    table_cell(table, what ? what : "");
    free(where);
    free(what);
}
