/*
 * The worker program under its supervisor: takes over the memory they share, and writes down there what a crash was.
 */
#ifndef PERDURE_HOST_CRASH_HANDLER_H
#define PERDURE_HOST_CRASH_HANDLER_H

#include <stdbool.h>

/* Executes the supervisor of `argv` ("worker", ...) in place of this process. Returns only if that cannot be done, -1
 * with `why`. */
int supervisor_execute(int argc, char **argv, long long watchdog_ms, bool json, bool quiet, char *why, unsigned size);

/* Under a supervisor: true, and from here on crashes are written down. */
bool crash_handler_begin(void);
/* All modules are loaded: their addresses are known. */
void crash_handler_note_modules(void);
/* What follows is no crash: the exit code is meant. */
void crash_handler_leave(void);

#endif
