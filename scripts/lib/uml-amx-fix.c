/* Preloaded into user-mode Linux on processors with AMX; scripts/lab-kernel compiles it.
 *
 * User-mode Linux 6.12 keeps 2,696 bytes of its processes' extended registers, which ends before
 * AMX's tiles. The host takes them back only as a whole (xstateregs_set() in
 * arch/x86/kernel/fpu/regset.c) and answers EFAULT otherwise: "ptrace set fp regs failed, errno =
 * 14", and the first process is killed. So what is missing is filled in from the process itself.
 * Without a libc's headers, as a compiler alone has none.
 */
struct iovec {
    void *base;
    unsigned long length;
};

enum { NT_X86_XSTATE = 0x202, PTRACE_GETREGSET = 0x4204, PTRACE_SETREGSET = 0x4205 };

typedef long function(unsigned request, long pid, long address, void *data);

void *dlsym(void *library, const char *name);
void *memcpy(void *to, const void *from, unsigned long count);

long ptrace(unsigned request, long pid, long address, void *data)
{
    static function *next;
    static char registers[1 << 16];
    struct iovec whole = {registers, sizeof registers}, *given = data;

    if (!next)
        next = (function *)dlsym((void *)-1, "ptrace"); /* RTLD_NEXT */
    if (request == PTRACE_SETREGSET && address == NT_X86_XSTATE &&
        next(PTRACE_GETREGSET, pid, address, &whole) == 0 && given->length < whole.length) {
        memcpy(registers, given->base, given->length);
        data = &whole;
    }
    return next(request, pid, address, data);
}
