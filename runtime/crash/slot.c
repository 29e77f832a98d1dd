#include "crash/slot.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

__thread struct crash_slot *crash_slot_mine;
static __thread uint64_t thread_stack_low, thread_stack_high;
static __thread bool thread_is_loop; /* it runs jobs too */

#ifdef PDR_MUTATIONS
void (*crash_probe)(enum crash_kind kind, const char *job, uint64_t run);
#endif
static struct crash_record *crash_record;
static void (*crash_prepare)(void);
static uint32_t crash_limit_wanted;

void crash_record_attach(struct crash_record *record, void (*prepare)(void))
{
    crash_record = record;
    crash_prepare = prepare;
}

void crash_limit_set(uint32_t limit) { crash_limit_wanted = limit; }

uint32_t crash_limit(void) { return crash_limit_wanted; }

struct crash_record *crash_record_attached(void) { return crash_record; }

static void thread_find_stack(void)
{
    pthread_attr_t attributes;
    void *low = NULL;
    size_t size = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0)
        return;
    pthread_attr_getstack(&attributes, &low, &size);
    pthread_attr_destroy(&attributes);
    thread_stack_low = (uint64_t)(uintptr_t)low;
    thread_stack_high = thread_stack_low + size;
}

/* One that a thread has left, else a new one, which another thread may be quicker to find. The first thread is the loop's. */
static struct crash_slot *slot_take(int32_t thread)
{
    uint32_t used = atomic_load(&crash_record->slots);
    for (uint32_t i = 0; i < used && i < CRASH_THREADS; i++) {
        int32_t nobody = 0;
        if (atomic_compare_exchange_strong(&crash_record->slot[i].thread, &nobody, thread))
            return &crash_record->slot[i];
    }
    for (;;) {
        int32_t nobody = 0;
        uint32_t index = atomic_fetch_add(&crash_record->slots, 1);
        if (index >= CRASH_THREADS) {
            atomic_store(&crash_record->slots, CRASH_THREADS);
            return NULL;
        }
        if (atomic_compare_exchange_strong(&crash_record->slot[index].thread, &nobody, thread))
            return &crash_record->slot[index];
    }
}

void crash_thread_begin(void)
{
    if (!crash_record || crash_slot_mine)
        return;
    thread_find_stack();
    struct crash_slot *slot = slot_take((int32_t)syscall(SYS_gettid));
    if (!slot)
        return;
    thread_is_loop = slot == &crash_record->slot[0];
    memset(slot->job, 0, sizeof slot->job);
    crash_slot_mine = slot;
    if (crash_prepare)
        crash_prepare();
}

void crash_thread_end(void)
{
    struct crash_slot *slot = crash_slot_mine;
    if (!slot)
        return;
    crash_slot_leave();
    crash_slot_mine = NULL;
    atomic_store(&slot->thread, 0);
}

void crash_serving(void)
{
    if (crash_record)
        atomic_store(&crash_record->child, CRASH_CHILD_SERVES);
}

void crash_heartbeat(void)
{
    if (crash_record)
        atomic_fetch_add_explicit(&crash_record->heartbeat, 1, memory_order_relaxed);
}

void crash_enter_step(const char *job, uint64_t run, uint64_t op, uint32_t attempt, const char *name, const char *build)
{
    struct crash_slot *slot = crash_slot_mine;
    if (!slot)
        return;
    crash_slot_begin(thread_is_loop ? CRASH_IN_PLACE : CRASH_IN_STEP, job, run, name, build);
    slot->op = op;
    slot->attempt = attempt;
    slot->stack_low = thread_stack_low;
    slot->stack_high = thread_stack_high;
    crash_slot_commit();
}
