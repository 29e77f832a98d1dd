/*
 * Running a recorded history against a module. Nothing here knows a log or can run a step: the job gets the recorded
 * events and nothing else, and what it wants beyond them is dropped. tests/e2e/replay_isolation.sh checks the object
 * file for that.
 */
#ifndef PERDURE_REPLAYER_H
#define PERDURE_REPLAYER_H

#include "job/job.h"

enum replay_verdict {
    REPLAY_SAME,     /* every event agreed */
    REPLAY_DIVERGED, /* the module takes another path */
    REPLAY_BROKEN,   /* it could not be replayed: type missing, out of memory ... */
};

struct replay_result {
    enum replay_verdict verdict;
    size_t agreed;       /* events before the first that differs */
    bool ended;          /* the run is at its end */
    pdr_site site;       /* the await it stands at; file NULL: none */
    const char *build;   /* of the module that replayed; the registry's */
    char *report;        /* malloc'ed; NULL when it is the same */
};

void replayer_run(const struct registry *registry, const char *type, const char *job, uint64_t run,
                  const Event *const *events, size_t count, struct replay_result *result);
void replay_result_free(struct replay_result *result);

#endif
