/*
 * Reports of takeovers: a line for people, a struct for programs.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "worker/worker.h"

static const char *cause_text(const struct engine_takeover *takeover, char *text, size_t size)
{
    switch (takeover->cause) {
    case TAKEOVER_FIRST:
        return "the first owner";
    case TAKEOVER_RESTART:
        return "it was ours before";
    case TAKEOVER_PLANNED:
        snprintf(text, size, "given up by %s", takeover->previous);
        return text;
    case TAKEOVER_UNPLANNED:
        snprintf(text, size, "%s does not answer", takeover->previous);
        return text;
    }
    return "";
}

static const char *cause_name(enum engine_takeover_cause cause)
{
    static const char *const names[] = { [TAKEOVER_FIRST] = "first", [TAKEOVER_RESTART] = "restart",
                                         [TAKEOVER_PLANNED] = "planned", [TAKEOVER_UNPLANNED] = "unplanned" };
    return names[cause];
}

static double ms(int64_t us) { return (double)us / 1000.0; }

void worker_taken_over(struct pdr_worker *worker, uint32_t partition, const struct engine_takeover *takeover)
{
    char cause[200], silent[64] = "", progress[64] = "nothing to do";
    if (takeover->silent_ms >= 0 && takeover->cause != TAKEOVER_FIRST)
        snprintf(silent, sizeof silent, ", last heard of %.1f s before", (double)takeover->silent_ms / 1000.0);
    if (takeover->progress_us >= 0)
        snprintf(progress, sizeof progress, "first progress %.1f ms later", ms(takeover->progress_us));
    worker_notice(worker, PDR_INFO,
                  "partition %u taken over: %s%s; read %" PRIu64 " records, %" PRIu64 " bytes%s in %.1f ms, waited %.1f ms, "
                  "claimed in %.1f ms, %s",
                  partition, cause_text(takeover, cause, sizeof cause), silent, takeover->records, takeover->bytes,
                  takeover->warm ? " (it was followed)" : "", ms(takeover->read_us), ms(takeover->wait_us),
                  ms(takeover->claim_us), progress);
    if (!worker->options.takeover)
        return;
    pdr_takeover told = {
        .size = sizeof told,
        .partition = partition,
        .cause = cause_name(takeover->cause),
        .previous = takeover->previous,
        .silent_ms = takeover->silent_ms,
        .followed = takeover->warm,
        .records = takeover->records,
        .bytes = takeover->bytes,
        .read_us = takeover->read_us,
        .wait_us = takeover->wait_us,
        .claim_us = takeover->claim_us,
        .progress_us = takeover->progress_us,
    };
    worker->options.takeover(worker->options.notice_context, &told);
}
