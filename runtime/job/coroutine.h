/*
 * Stackful coroutines: a function on a stack of its own, entered and left at will by one thread at a time. Dropping one
 * that has not ended is fine: its stack goes back to the pool, nothing on it is unwound.
 */
#ifndef PERDURE_COROUTINE_H
#define PERDURE_COROUTINE_H

#include <stdbool.h>
#include <stddef.h>

struct coroutine {
    void *context; /* where to go on: Boost.Context's */
    void *back;    /* where its caller goes on */
    void *top;     /* end of its stack; NULL: it has none */
    size_t size;   /* of the stack, without the guard page */
    void (*run)(void *argument);
    void *argument;
    bool ended; /* `run` has returned; the stack is gone */
    /* What sanitizers and valgrind know it by. */
    void *fake_stack;
    const void *back_bottom;
    size_t back_size;
    void *fiber;
    void *back_fiber;
    unsigned stack_id;
};

/* False: no memory or no address space. `size` is rounded up to whole pages. */
bool coroutine_init(struct coroutine *coroutine, size_t size, void (*run)(void *), void *argument);
/* Enters it; returns when it suspends or ends. Returns what it handed to coroutine_suspend(), NULL at the end. */
void *coroutine_resume(struct coroutine *coroutine);
/* From inside: leaves it. */
void coroutine_suspend(struct coroutine *coroutine, void *message);
void coroutine_release(struct coroutine *coroutine);

/* Stacks by size, kept for the next one. Any thread. NULL: none to be had. Returns the end (highest address). */
void *stack_take(size_t size);
void stack_give(void *top, size_t size);
size_t stack_round(size_t size);

#endif
