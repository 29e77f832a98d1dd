/* What the files of `perdure namespace` share. */
#ifndef PERDURE_COMMAND_NAMESPACE_H
#define PERDURE_COMMAND_NAMESPACE_H

#include "command/arguments.h"

int namespace_done(const struct arguments *arguments, int code, const char *text);
int namespace_grow(struct arguments *arguments);

#endif
