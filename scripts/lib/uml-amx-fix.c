/* Preloaded into user-mode Linux on processors with AMX; scripts/lab-kernel compiles it.
 *
 * User-mode Linux 6.12 keeps 2,696 bytes of its processes' extended registers, which ends before
 * AMX's tiles. The host takes them back only as a whole (xstateregs_set() in
 * arch/x86/kernel/fpu/regset.c) and answers EFAULT otherwise: "ptrace set fp regs failed, errno =
 * 14", and the first process is killed. So this fills in the missing bytes from the process itself.
 * It includes no headers, since tcc alone comes without those of a libc.
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
    static function *libc_ptrace;
    static char registers[1 << 16];
    struct iovec all = {registers, sizeof registers}, *argument = data;

    if (!libc_ptrace)
        libc_ptrace = (function *)dlsym((void *)-1, "ptrace"); /* RTLD_NEXT */
    if (request == PTRACE_SETREGSET && address == NT_X86_XSTATE &&
        libc_ptrace(PTRACE_GETREGSET, pid, address, &all) == 0 && argument->length < all.length) {
        memcpy(registers, argument->base, argument->length);
        data = &all;
    }
    return libc_ptrace(request, pid, address, data);
}
