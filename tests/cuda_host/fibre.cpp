/* fibre.cpp - stacks for the threads of a block, and the switch between two of them: a few instructions of
 * assembly for x86-64 and aarch64, ucontext elsewhere (or with -DUP_FIBRE_UCONTEXT). */
#include "executor.h"

#include <sys/mman.h>
#include <unistd.h>

#if !defined(UP_FIBRE_UCONTEXT) && !defined(__x86_64__) && !defined(__aarch64__)
#define UP_FIBRE_UCONTEXT
#endif

namespace {
constexpr size_t STACK = 128 << 10, GUARD = 64 << 10, ROOM = STACK + GUARD; /* pages are at most 64 KiB */
constexpr size_t FIBRES = 1025; /* a block's threads, and one that begins as they end */
char *stacks;
size_t created;
} // namespace

/* Each fibre's frames begin at another place of their page, so that they do not share the same lines of the
 * cache. */
static void place_stack(up_fibre *f) {
    if (!stacks) {
        void *room =
            mmap(nullptr, FIBRES * ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (room == MAP_FAILED) up_report("no memory for the stacks of a block");
        stacks = static_cast<char *>(room);
    }
    if (created == FIBRES) up_report("more fibres than threads of a block");
    f->low = stacks + created * ROOM + GUARD;
    if (mprotect(f->low, STACK, PROT_READ | PROT_WRITE)) up_report("no memory for a stack");
    f->high = f->low + STACK - created % 32 * 128;
    created++;
}

bool up_is_fibre_guard(const void *at) {
    const char *p = static_cast<const char *>(at);
    return stacks && p >= stacks && p < stacks + created * ROOM && (size_t)(p - stacks) % ROOM < GUARD;
}

#ifdef UP_FIBRE_UCONTEXT
#include <ucontext.h>

up_fibre *up_fibre_create(void (*entry)()) {
    up_fibre *f = new up_fibre{new ucontext_t, nullptr, nullptr};
    if (!entry) return f;
    place_stack(f);
    ucontext_t *context = static_cast<ucontext_t *>(f->context);
    getcontext(context);
    context->uc_stack.ss_sp = f->low;
    context->uc_stack.ss_size = (size_t)(f->high - f->low);
    context->uc_link = nullptr;
    makecontext(context, entry, 0);
    return f;
}

void up_fibre_switch(up_fibre *from, up_fibre *to) {
    swapcontext(static_cast<ucontext_t *>(from->context), static_cast<ucontext_t *>(to->context));
}

#else
/* Saves what a called function must leave as it was, and the stack pointer at *from; then the same the other
 * way. */
extern "C" void up_fibre_jump(void **from, void *to);
#ifdef __x86_64__
__asm__(".text\n.p2align 4\n.globl up_fibre_jump\n.hidden up_fibre_jump\n.type up_fibre_jump,@function\n"
        "up_fibre_jump:\n"
        "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp, (%rdi)\nmov %rsi, %rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n"
        ".size up_fibre_jump, .-up_fibre_jump\n");
constexpr size_t SAVED = 8, RETURN = 6; /* words: six registers, the return address, one to align the frame */
#else
__asm__(
    ".text\n.p2align 4\n.globl up_fibre_jump\n.hidden up_fibre_jump\n.type up_fibre_jump,%function\n"
    "up_fibre_jump:\n"
    "sub sp, sp, #160\n"
    "stp x19, x20, [sp]\nstp x21, x22, [sp, #16]\nstp x23, x24, [sp, #32]\nstp x25, x26, [sp, #48]\n"
    "stp x27, x28, [sp, #64]\nstp x29, x30, [sp, #80]\n"
    "stp d8, d9, [sp, #96]\nstp d10, d11, [sp, #112]\nstp d12, d13, [sp, #128]\nstp d14, d15, [sp, #144]\n"
    "mov x9, sp\nstr x9, [x0]\nmov sp, x1\n"
    "ldp x19, x20, [sp]\nldp x21, x22, [sp, #16]\nldp x23, x24, [sp, #32]\nldp x25, x26, [sp, #48]\n"
    "ldp x27, x28, [sp, #64]\nldp x29, x30, [sp, #80]\n"
    "ldp d8, d9, [sp, #96]\nldp d10, d11, [sp, #112]\nldp d12, d13, [sp, #128]\nldp d14, d15, [sp, #144]\n"
    "add sp, sp, #160\nret\n"
    ".size up_fibre_jump, .-up_fibre_jump\n");
constexpr size_t SAVED = 20, RETURN = 11; /* words: x19 to x30, d8 to d15; x30 is where `ret` goes */
#endif

up_fibre *up_fibre_create(void (*entry)()) {
    up_fibre *f = new up_fibre{nullptr, nullptr, nullptr};
    if (!entry) return f;
    place_stack(f);
    void **frame = reinterpret_cast<void **>(f->high) - SAVED;
    for (size_t i = 0; i < SAVED; i++) frame[i] = nullptr;
    frame[RETURN] = reinterpret_cast<void *>(entry);
    f->context = frame;
    return f;
}

void up_fibre_switch(up_fibre *from, up_fibre *to) {
    up_fibre_jump(&from->context, to->context);
}
#endif
