/*
 * The handler runs on a stack of its own, in a process that is broken: it only writes into the shared memory, and lets
 * the kernel do with the signal what it would have done without it.
 */
#include "host/crash_handler.h"

#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <unwind.h>

#include "crash/slot.h"

#define HANDLER_STACK_BYTES (64 * 1024)
#define OVERFLOW_REACH (64 * 1024) /* the guard below a stack, and what a large frame jumps into */
#define EXIT_CRASHED 70            /* EX_SOFTWARE: an exit() that a job's code called */

static struct crash_record *handler_record;
static pid_t handler_process; /* a child that a step has forked is not it */
static _Atomic int32_t handler_thread; /* the one that crashed first */

/* ---- writing it down -------------------------------------------------------------------------------------- */

static void copy_text(char *to, size_t size, const char *from)
{
    size_t i = 0;
    while (from && i + 1 < size && from[i]) {
        to[i] = from[i];
        i++;
    }
    to[i] = '\0';
}

struct walk {
    struct crash_now *now;
    uint64_t until; /* skip the frames of the handler itself: begin at this address */
    uint32_t looked;
};

static _Unwind_Reason_Code walk_frame(struct _Unwind_Context *context, void *argument)
{
    struct walk *walk = argument;
    uint64_t address = (uint64_t)_Unwind_GetIP(context);
    if (walk->until && address != walk->until && walk->looked++ < 12)
        return _URC_NO_REASON;
    uint32_t count = atomic_load(&walk->now->frames);
    if (walk->until && address != walk->until)
        return _URC_END_OF_STACK; /* the interrupted frame was never met */
    bool interrupted = walk->until != 0;
    walk->until = 0;
    if (count == CRASH_FRAMES || !address)
        return _URC_END_OF_STACK;
    if (count == 1 && interrupted) { /* it stands there already */
        return _URC_NO_REASON;
    }
    /* A return address may be the first of the next function. */
    walk->now->frame[count] = interrupted ? address : address - 1;
    atomic_store(&walk->now->frames, count + 1);
    return _URC_NO_REASON;
}

static uint64_t interrupted_at(const ucontext_t *context)
{
#if defined __x86_64__
    return (uint64_t)context->uc_mcontext.gregs[REG_RIP];
#elif defined __aarch64__
    return context->uc_mcontext.pc;
#else
    (void)context;
    return 0;
#endif
}

/* The signal's own frame is certain; what is behind it as far as it can be unwound. */
static void note_trace(struct crash_now *now, uint64_t at)
{
    if (at) {
        now->frame[0] = at;
        atomic_store(&now->frames, 1);
    }
    struct walk walk = {now, at, 0};
    _Unwind_Backtrace(walk_frame, &walk);
}

static void note_slot(struct crash_now *now, const struct crash_slot *slot)
{
    now->slot = -1;
    if (!slot || atomic_load(&slot->busy) == 0)
        return;
    now->slot = (int32_t)(slot - handler_record->slot);
    copy_text(now->name, sizeof now->name, slot->name);
    copy_text(now->build, sizeof now->build, slot->build);
    const pdr_site *site = slot->site;
    if (site) {
        copy_text(now->site_file, sizeof now->site_file, site->file);
        copy_text(now->site_function, sizeof now->site_function, site->function);
        now->site_line = (uint32_t)site->line;
    }
}

static bool is_overflow(const struct crash_slot *slot, int number, const siginfo_t *info)
{
    uint64_t address = (uint64_t)(uintptr_t)info->si_addr;
    if (number != SIGSEGV || info->si_code <= 0 || !slot || atomic_load(&slot->busy) == 0 || slot->stack_low == 0)
        return false;
    return address < slot->stack_low + 4096 && address + OVERFLOW_REACH >= slot->stack_low;
}

/* False: a crash is being written down already. If by this thread, its own handler failed: the end comes at once. */
static bool handler_is_first(int number)
{
    int32_t nobody = 0, me = (int32_t)syscall(SYS_gettid);
    if (atomic_compare_exchange_strong(&handler_thread, &nobody, me))
        return true;
    if (nobody == me) {
        signal(number, SIG_DFL);
        return false;
    }
    for (;;)
        pause(); /* the other one ends the process */
}

static void handler_note(int number, const siginfo_t *info, const void *context, enum crash_reason reason)
{
    struct crash_now *now = &handler_record->now;
    const struct crash_slot *slot = crash_slot_mine;
    now->signal = number;
    now->code = info ? info->si_code : 0;
    now->address = info ? (uint64_t)(uintptr_t)info->si_addr : 0;
    now->reason = reason;
    note_slot(now, slot);
    if (info && is_overflow(slot, number, info))
        now->reason = CRASH_OVERFLOW;
    atomic_store(&now->state, CRASH_BEGUN);
    note_trace(now, context ? interrupted_at(context) : 0);
    atomic_store(&now->state, CRASH_WHOLE);
}

static void on_crash(int number, siginfo_t *info, void *context)
{
    bool ours = getpid() == handler_process;
    if (ours && !handler_is_first(number))
        return;
    if (ours)
        handler_note(number, info, context, CRASH_SIGNAL);
    signal(number, SIG_DFL);
    /* Sent by somebody, or told behind the instruction (int3, a system call that a filter forbids): it does not come again. */
    if (info->si_code <= 0 || number == SIGTRAP || number == SIGSYS)
        raise(number);
}

/* The supervisor's watchdog asks where this thread is; it ends the process when it has the answer. */
static void on_watchdog(int number, siginfo_t *info, void *context)
{
    const struct crash_slot *slot = crash_slot_mine;
    if (atomic_load(&handler_record->watchdog) == 0) { /* not from there: what it means without us, a limit of CPU time */
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    if (!slot || atomic_load(&slot->busy) == 0) { /* it has awaited meanwhile */
        atomic_store(&handler_record->watchdog, 0);
        return;
    }
    if (!handler_is_first(number))
        return;
    handler_note(number, info, context, CRASH_WATCHDOG);
    for (;;)
        pause();
}

/* A job or a step called exit(): the process must not run its clean-ups around a job that still stands there. */
static void on_exit_called(int status, void *unused)
{
    const struct crash_slot *slot = crash_slot_mine;
    (void)unused;
    if (!slot || atomic_load(&slot->busy) == 0 || getpid() != handler_process || !handler_is_first(0))
        return;
    handler_record->now.status = status;
    handler_note(0, NULL, NULL, CRASH_EXIT);
    _exit(EXIT_CRASHED);
}

/* ---- set up ------------------------------------------------------------------------------------------------- */

/* Of each thread that runs code of jobs: a stack that is there when its own is used up. */
static void prepare_thread(void)
{
    void *memory = mmap(NULL, HANDLER_STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t stack = {.ss_sp = memory, .ss_size = HANDLER_STACK_BYTES};
    if (memory != MAP_FAILED)
        sigaltstack(&stack, NULL);
}

static struct crash_record *record_map(void)
{
    const char *text = getenv(CRASH_RECORD_ENVIRONMENT);
    struct stat status;
    if (!text)
        return NULL;
    int file = (int)strtol(text, NULL, 10);
    unsetenv(CRASH_RECORD_ENVIRONMENT);
    if (file < 3 || fstat(file, &status) != 0 || status.st_size != (off_t)sizeof(struct crash_record))
        return NULL;
    void *memory = mmap(NULL, sizeof(struct crash_record), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory == MAP_FAILED)
        return NULL;
    struct crash_record *record = memory;
    return record->magic == CRASH_RECORD_MAGIC && record->size == sizeof *record ? record : NULL;
}

bool crash_handler_begin(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS};
    handler_record = record_map();
    if (!handler_record)
        return false;
    handler_process = getpid();
    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaction(signals[i], &action, NULL);
    action.sa_sigaction = on_watchdog;
    action.sa_flags |= SA_RESTART;
    sigaction(SIGXCPU, &action, NULL);
    crash_record_attach(handler_record, prepare_thread);
    struct crash_now unused;
    memset(&unused, 0, sizeof unused);
    note_trace(&unused, 0); /* what the unwinder has to load, it loads now */
    return true;
}

static int note_module(struct dl_phdr_info *info, size_t size, void *unused)
{
    uint32_t index = atomic_load(&handler_record->modules);
    struct crash_module *module = &handler_record->module[index];
    uint64_t low = UINT64_MAX, high = 0;
    (void)size, (void)unused;
    if (index == CRASH_MODULES)
        return 1;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type != PT_LOAD)
            continue;
        uint64_t start = info->dlpi_addr + header->p_vaddr;
        low = start < low ? start : low;
        high = start + header->p_memsz > high ? start + header->p_memsz : high;
    }
    if (low >= high)
        return 0;
    module->low = low;
    module->high = high;
    module->base = info->dlpi_addr;
    ssize_t length = 0;
    if (info->dlpi_name && info->dlpi_name[0])
        copy_text(module->path, sizeof module->path, info->dlpi_name);
    else if (index == 0 && (length = readlink("/proc/self/exe", module->path, sizeof module->path - 1)) > 0)
        module->path[length] = '\0';
    else
        return 0;
    if (module->path[0] != '/') { /* relative to where the worker was started, as its supervisor was */
        char *whole = realpath(module->path, NULL);
        if (whole)
            copy_text(module->path, sizeof module->path, whole);
        free(whole);
    }
    atomic_store(&handler_record->modules, index + 1);
    return 0;
}

void crash_handler_note_modules(void)
{
    if (!handler_record)
        return;
    dl_iterate_phdr(note_module, NULL);
    on_exit(on_exit_called, NULL); /* registered after all that modules and their libraries have, it runs before that */
}

void crash_handler_leave(void)
{
    if (handler_record)
        atomic_store(&handler_record->child, CRASH_CHILD_LEAVES);
}
