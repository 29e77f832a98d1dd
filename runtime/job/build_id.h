/*
 * The build id of a loaded object: which code a job ran with.
 */
#ifndef PERDURE_BUILD_ID_H
#define PERDURE_BUILD_ID_H

#include <stdbool.h>
#include <stddef.h>

#define BUILD_ID_TEXT_BYTES 129

/* Hex text of the build id of the object that `address` lies in. False: it has none. */
bool build_id_of(const void *address, char *text, size_t size);

#endif
