#include "log/fork_guard.h"

#include <pthread.h>
#include <stddef.h>
#include <unistd.h>

#define GUARDED_LIMIT 256
static pthread_mutex_t guard_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t guard_once = PTHREAD_ONCE_INIT;
static int guarded[GUARDED_LIMIT];
static size_t guarded_count;

static void guard_prepare(void) { pthread_mutex_lock(&guard_mutex); }
static void guard_parent(void) { pthread_mutex_unlock(&guard_mutex); }

static void guard_child(void)
{
    for (size_t i = 0; i < guarded_count; i++)
        close(guarded[i]);
    guarded_count = 0;
    pthread_mutex_unlock(&guard_mutex);
}

static void guard_install(void) { pthread_atfork(guard_prepare, guard_parent, guard_child); }

void fork_guard(int fd)
{
    pthread_once(&guard_once, guard_install);
    pthread_mutex_lock(&guard_mutex);
    if (guarded_count < GUARDED_LIMIT)
        guarded[guarded_count++] = fd;
    pthread_mutex_unlock(&guard_mutex);
}

void fork_release(int fd)
{
    pthread_mutex_lock(&guard_mutex);
    for (size_t i = 0; i < guarded_count; i++)
        if (guarded[i] == fd) {
            guarded[i] = guarded[--guarded_count];
            break;
        }
    pthread_mutex_unlock(&guard_mutex);
}
