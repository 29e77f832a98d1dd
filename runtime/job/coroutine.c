/*
 * Coroutines on Boost.Context's two functions; sanitizers and valgrind are told of every switch.
 */
#include "job/coroutine.h"

#include <stdint.h>
#include <string.h>

#if defined __has_feature
#if __has_feature(address_sanitizer)
#define COROUTINE_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define COROUTINE_TSAN 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define COROUTINE_ASAN 1
#endif
#ifdef __SANITIZE_THREAD__
#define COROUTINE_TSAN 1
#endif

#ifdef COROUTINE_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef COROUTINE_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(start, end) 0
#define VALGRIND_STACK_DEREGISTER(id) ((void)(id))
#endif

/* Boost.Context, which has no C header. */
typedef struct transfer {
    void *context;
    void *data;
} transfer;
extern transfer jump_fcontext(void *to, void *data);
extern void *make_fcontext(void *stack_end, size_t size, void (*run)(transfer));

/* `leaving_for_good`: its fake stack goes too. */
static void coroutine_announce_leave(struct coroutine *coroutine, bool leaving_for_good)
{
    (void)coroutine, (void)leaving_for_good;
#ifdef COROUTINE_ASAN
    __sanitizer_start_switch_fiber(leaving_for_good ? NULL : &coroutine->fake_stack, coroutine->back_bottom,
                                   coroutine->back_size);
#endif
#ifdef COROUTINE_TSAN
    __tsan_switch_to_fiber(coroutine->back_fiber, 0);
#endif
}

static void coroutine_announce_arrival(struct coroutine *coroutine)
{
    (void)coroutine;
#ifdef COROUTINE_ASAN
    __sanitizer_finish_switch_fiber(coroutine->fake_stack, &coroutine->back_bottom, &coroutine->back_size);
#endif
}

static void coroutine_main(transfer from)
{
    struct coroutine *coroutine = from.data;
    coroutine->back = from.context;
    coroutine_announce_arrival(coroutine);
    coroutine->run(coroutine->argument);
    coroutine->ended = true;
    coroutine_announce_leave(coroutine, true);
    jump_fcontext(coroutine->back, NULL);
}

bool coroutine_init(struct coroutine *coroutine, size_t size, void (*run)(void *), void *argument)
{
    memset(coroutine, 0, sizeof(*coroutine));
    coroutine->size = stack_round(size);
    coroutine->top = stack_take(coroutine->size);
    if (coroutine->top == NULL)
        return false;
    coroutine->run = run;
    coroutine->argument = argument;
    coroutine->context = make_fcontext(coroutine->top, coroutine->size - 64, coroutine_main);
    coroutine->stack_id = VALGRIND_STACK_REGISTER((char *)coroutine->top - coroutine->size + 64, coroutine->top);
#ifdef COROUTINE_TSAN
    coroutine->fiber = __tsan_create_fiber(0);
#endif
    return true;
}

void *coroutine_resume(struct coroutine *coroutine)
{
#ifdef COROUTINE_ASAN
    void *fake_stack = NULL;
    __sanitizer_start_switch_fiber(&fake_stack, (char *)coroutine->top - coroutine->size + 64, coroutine->size - 64);
#endif
#ifdef COROUTINE_TSAN
    coroutine->back_fiber = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(coroutine->fiber, 0);
#endif
    transfer from = jump_fcontext(coroutine->context, coroutine);
#ifdef COROUTINE_ASAN
    __sanitizer_finish_switch_fiber(fake_stack, NULL, NULL);
#endif
    coroutine->context = from.context;
    if (coroutine->ended)
        coroutine_release(coroutine);
    return from.data;
}

void coroutine_suspend(struct coroutine *coroutine, void *message)
{
    coroutine_announce_leave(coroutine, false);
    transfer from = jump_fcontext(coroutine->back, message);
    coroutine->back = from.context;
    coroutine_announce_arrival(coroutine);
}

void coroutine_release(struct coroutine *coroutine)
{
    if (coroutine->top == NULL)
        return;
#ifdef COROUTINE_TSAN
    __tsan_destroy_fiber(coroutine->fiber);
#endif
    VALGRIND_STACK_DEREGISTER(coroutine->stack_id);
    stack_give(coroutine->top, coroutine->size);
    coroutine->top = NULL;
}
