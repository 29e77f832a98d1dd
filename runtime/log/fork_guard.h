/*
 * Descriptors that a forked child without exec must not keep (H29): a lock would be held, and a connection stay open, for as long
 * as a process lives that a step has left behind.
 */
#ifndef PERDURE_FORK_GUARD_H
#define PERDURE_FORK_GUARD_H

void fork_guard(int fd);
void fork_release(int fd); /* before the descriptor is closed */

#endif
