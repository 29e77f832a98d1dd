/*
 * Stacks for coroutines, cut from slabs so that a new job costs no mmap, each with a guard at its low end.
 */
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "job/coroutine.h"

#if defined __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define STACK_CLEAN(start, bytes) __asan_unpoison_memory_region((start), (bytes))
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#define STACK_CLEAN(start, bytes) __asan_unpoison_memory_region((start), (bytes))
#endif
#endif
#ifndef STACK_CLEAN
#define STACK_CLEAN(start, bytes) ((void)0)
#endif

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13: a guard without a mapping of its own */
#endif

#define STACKS_A_SLAB 64
/* Address space only. As wide as the largest frame that must not jump over it into the stack below. */
#define STACK_GUARD_BYTES ((size_t)64 * 1024)
/* A stack in the pool keeps this much of its touched memory, so that the next job faults nothing in. */
#define STACK_WARM_BYTES ((size_t)16 * 1024)
/* So many are kept so; beyond, all memory goes back: a burst of jobs must not be held for ever. */
#define STACKS_WARM 1024

/* Stands at the very end of a free stack, in the page that any use touches. */
struct free_stack {
    struct free_stack *next;
    void *unused[3];
};

struct stack_pool {
    size_t size;
    struct free_stack *warm; /* taken first */
    struct free_stack *cold; /* without memory, but for the page that holds the link of this list */
    size_t warm_count;
};

/* One size in a program, as a rule: that of jobs. */
#define STACK_SIZES 8
static struct stack_pool stack_pools[STACK_SIZES];
static pthread_mutex_t stack_lock = PTHREAD_MUTEX_INITIALIZER;

static size_t stack_page(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

size_t stack_round(size_t size)
{
    size_t page = stack_page();
    size_t least = 4 * page;
    if (size < least)
        size = least;
    return (size + page - 1) / page * page;
}

static struct stack_pool *stack_pool_of(size_t size)
{
    for (size_t i = 0; i < STACK_SIZES; i++) {
        if (stack_pools[i].size == 0)
            stack_pools[i].size = size;
        if (stack_pools[i].size == size)
            return &stack_pools[i];
    }
    return NULL; /* not pooled */
}

static bool stack_guard(char *start)
{
    if (madvise(start, STACK_GUARD_BYTES, MADV_GUARD_INSTALL) == 0)
        return true;
    return mprotect(start, STACK_GUARD_BYTES, PROT_NONE) == 0; /* ends near vm.max_map_count / 2 stacks */
}

static char *stack_map(size_t bytes)
{
    void *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED)
        return NULL;
    madvise(start, bytes, MADV_NOHUGEPAGE); /* a huge page would make each stack cost 2 MiB */
    return start;
}

static struct free_stack *stack_end(char *start, size_t size)
{
    return (struct free_stack *)(void *)(start + STACK_GUARD_BYTES + size) - 1;
}

/* Maps a slab and puts its stacks into the pool. False: not even one. */
static bool stack_pool_grow(struct stack_pool *pool)
{
    size_t each = pool->size + STACK_GUARD_BYTES;
    size_t stacks = STACKS_A_SLAB;
    char *slab = stack_map(each * stacks);
    if (slab == NULL) {
        stacks = 1;
        slab = stack_map(each);
        if (slab == NULL)
            return false;
    }
    for (size_t i = stacks; i-- > 0;) {
        char *start = slab + i * each;
        if (!stack_guard(start)) {
            munmap(start, each);
            continue;
        }
        struct free_stack *end = stack_end(start, pool->size);
        end->next = pool->cold;
        pool->cold = end;
    }
    return pool->cold != NULL;
}

void *stack_take(size_t size)
{
    pthread_mutex_lock(&stack_lock);
    struct stack_pool *pool = stack_pool_of(size);
    struct free_stack *end = NULL;
    if (pool != NULL && pool->warm != NULL) {
        end = pool->warm;
        pool->warm = end->next;
        pool->warm_count--;
    } else if (pool != NULL && (pool->cold != NULL || stack_pool_grow(pool))) {
        end = pool->cold;
        pool->cold = end->next;
    }
    pthread_mutex_unlock(&stack_lock);
    if (end != NULL)
        return end;
    if (pool != NULL)
        return NULL;
    char *start = stack_map(size + STACK_GUARD_BYTES);
    if (start == NULL)
        return NULL;
    if (!stack_guard(start)) {
        munmap(start, size + STACK_GUARD_BYTES);
        return NULL;
    }
    return stack_end(start, size);
}

void stack_give(void *top, size_t size)
{
    struct free_stack *end = top;
    char *start = (char *)(end + 1) - size;
    STACK_CLEAN(start, size); /* frames that were never left */
    pthread_mutex_lock(&stack_lock);
    struct stack_pool *pool = stack_pool_of(size);
    bool warm = pool != NULL && pool->warm_count < STACKS_WARM;
    if (warm)
        pool->warm_count++;
    pthread_mutex_unlock(&stack_lock);
    if (pool == NULL) {
        munmap(start - STACK_GUARD_BYTES, size + STACK_GUARD_BYTES);
        return;
    }
    size_t keep = warm ? STACK_WARM_BYTES : 0;
    madvise(start, size - keep, MADV_DONTNEED);
    pthread_mutex_lock(&stack_lock);
    struct free_stack **list = warm ? &pool->warm : &pool->cold;
    end->next = *list;
    *list = end;
    pthread_mutex_unlock(&stack_lock);
}
