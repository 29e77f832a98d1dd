/*
 * For the tests only: what a step did to the world, told outside of the log.
 * PERDURE_EFFECT_LEDGER=FILE: each attempt appends a line `KEY PATH`. PERDURE_STEP_DELAY_MS=N: each attempt takes at
 * least so long, so that a kill finds it under way.
 */
#ifndef LEDGER_H
#define LEDGER_H

int ledger_note(const char *key, const char *path);

#endif
