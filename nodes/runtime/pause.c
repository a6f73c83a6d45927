/* The process that holds a pod's namespaces: it waits, reaps what is orphaned to it, and ends on
 * SIGTERM or SIGINT. No libc, so that the image is one file of a few kilobytes.
 *
 * All signals are blocked and taken one by one, so there is no handler and no race.
 */
#include <asm/unistd.h>
#include <signal.h>

void _start(void);

#if defined(__x86_64__)
static long pause_call(long number, long a, long b, long c, long d)
{
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
static long pause_call(long number, long a, long b, long c, long d)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}
#else
#error "add the system call instruction of this machine"
#endif

void _start(void)
{
    const unsigned long all = ~0ul;
    pause_call(__NR_rt_sigprocmask, SIG_BLOCK, (long)&all, 0, sizeof all);
    for (;;) {
        const long number = pause_call(__NR_rt_sigtimedwait, (long)&all, 0, 0, sizeof all);
        if (number == SIGTERM || number == SIGINT) {
            pause_call(__NR_exit_group, 0, 0, 0, 0);
        }
        while (number == SIGCHLD && pause_call(__NR_wait4, -1, 0, 1 /* WNOHANG */, 0) > 0) {
        }
    }
}
