/*
 * Preloaded into user-mode Linux on processors with AMX; scripts/lab-kernel compiles it.
 *
 * User-mode Linux 6.12 keeps 2,696 bytes of its processes' extended registers, which ends before
 * AMX's tiles. The host takes them back only as a whole (xstateregs_set() in
 * arch/x86/kernel/fpu/regset.c) and answers EFAULT otherwise: "ptrace set fp regs failed, errno =
 * 14", and the first process is killed. So what is missing is filled in from the process itself.
 * Without a libc's headers, as a compiler alone has none.
 */

typedef unsigned long size_t;

struct iovec {
    void *base;
    size_t length;
};

enum {
    PTRACE_PEEKTEXT = 1,
    PTRACE_PEEKUSER = 3,
    NT_X86_XSTATE = 0x202,
    SYSTEM_CALL_PTRACE = 101,
};
static const long PTRACE_GETREGSET = 0x4204, PTRACE_SETREGSET = 0x4205;

int *__errno_location(void);
void *memcpy(void *to, const void *from, size_t count);
long syscall(long number, ...);

long ptrace(unsigned request, long pid, long address, void *data)
{
    static char registers[1 << 16];
    struct iovec whole = {registers, sizeof registers};
    struct iovec *given = data;
    int is_peek = request >= PTRACE_PEEKTEXT && request <= PTRACE_PEEKUSER;
    long word, result;

    if (request == PTRACE_SETREGSET && address == NT_X86_XSTATE &&
        syscall(SYSTEM_CALL_PTRACE, PTRACE_GETREGSET, pid, address, &whole) == 0 &&
        given->length < whole.length) {
        memcpy(registers, given->base, given->length);
        data = &whole;
    }
    result = syscall(SYSTEM_CALL_PTRACE, (long)request, pid, address, is_peek ? &word : data);
    if (!is_peek || result < 0)
        return result;
    *__errno_location() = 0;
    return word;
}
