/*
 * host.c -- runs test cases on the host processor itself, in 32-bit compatibility mode at CPL 3.
 *
 * A freestanding 64-bit program.  Every case ends in an exception, which is a signal; its handler
 * writes the result and puts the next case into the same frame, so one signal is one case.  The
 * batch, its template of data memory and its results are a file on standard input, mapped shared;
 * a byte on the socket that is standard output starts a batch, and one sent back ends it.
 *
 * The code under test is arbitrary: a seccomp filter leaves it, and us, only what the loop needs,
 * and turns any system call from 32-bit code into a result.  Nothing here may use FS, GS, the x87
 * or SSE units, or rely on EFLAGS.AC being clear before the first instruction of the handler.
 */
#include <stddef.h>
#include <linux/signal.h>
#include <asm/ldt.h>
#include <asm/sigcontext.h>
#include <asm/ucontext.h>
#include <asm/unistd_64.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <linux/time.h>

#include "batch.h"

#define BATCH_FD 0
#define CONTROL_FD 1
#define TICK_US 20000
#define FX_MXCSR_MASK 28		/* the kernel's, not ours */

struct shared {
	uint32_t count, ldt_entries;
	struct user_desc ldt[32];
	uint64_t results_at;		/* bytes from the start of the file */
	uint64_t file_bytes;
	uint8_t data[DATA_BYTES];
	struct test_case cases[];
};

static struct shared *batch;
static struct result *results;
static struct arena memory;
static uint8_t code_before[CODE_BYTES] __attribute__((aligned(8)));
static uint8_t alternate_stack[65536] __attribute__((aligned(64)));
static struct sigcontext_64 start;
static volatile uint32_t current, ticked, running;

static long
syscall6(long n, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall" : "=a"(ret) : "0"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
	    : "rcx", "r11", "memory");
	return ret;
}
#define SYS(n, a, b, c, d) syscall6((n), (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)

static void
die(int status)
{
	for (;;)
		SYS(__NR_exit_group, status, 0, 0, 0);
}

void *memset(void *to, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);

void *
memset(void *to, int c, size_t n)
{
	uint8_t *p = to;

	while (n--)
		*p++ = (uint8_t)c;
	return to;
}

void *
memcpy(void *to, const void *from, size_t n)
{
	uint8_t *p = to;
	const uint8_t *q = from;

	while (n--)
		*p++ = *q++;
	return to;
}

/* ---- a case in a signal frame ------------------------------------------------------------------- */

static void
load_case(struct ucontext *uc)
{
	const struct test_case *c = &batch->cases[current];
	struct sigcontext_64 *s = (struct sigcontext_64 *)&uc->uc_mcontext;
	uint8_t *fx = (uint8_t *)s->fpstate;

	put_code(&memory, c, 0);
	s->ax = c->r[0];
	s->cx = c->r[1];
	s->dx = c->r[2];
	s->bx = c->r[3];
	s->sp = c->r[4];
	s->bp = c->r[5];
	s->si = c->r[6];
	s->di = c->r[7];
	s->ip = c->eip;
	s->flags = c->eflags;
	s->cs = (uint16_t)c->sel[1];
	s->ss = (uint16_t)c->sel[2];
	memcpy(fx, c->fx, FX_MXCSR_MASK);
	memcpy(fx + 32, c->fx + 32, FX_BYTES - 32);
	*(uint64_t *)(fx + 512) |= 3;		/* XSTATE_BV: x87 and SSE are in the image */
	__asm__ volatile("mov %0, %%es" : : "r"(c->sel[0]));
	__asm__ volatile("mov %0, %%ds" : : "r"(c->sel[3]));
	__asm__ volatile("mov %0, %%fs" : : "r"(c->sel[4]));
	__asm__ volatile("mov %0, %%gs" : : "r"(c->sel[5]));
}

static void
save_result(const struct ucontext *uc, uint32_t trap)
{
	const struct test_case *c = &batch->cases[current];
	struct result *out = &results[current];
	const struct sigcontext_64 *s = (const struct sigcontext_64 *)&uc->uc_mcontext;

	out->r[0] = (uint32_t)s->ax;
	out->r[1] = (uint32_t)s->cx;
	out->r[2] = (uint32_t)s->dx;
	out->r[3] = (uint32_t)s->bx;
	out->r[4] = (uint32_t)s->sp;
	out->r[5] = (uint32_t)s->bp;
	out->r[6] = (uint32_t)s->si;
	out->r[7] = (uint32_t)s->di;
	out->eip = (uint32_t)s->ip;
	out->eflags = (uint32_t)s->flags;
	__asm__ volatile("mov %%es, %0" : "=r"(out->sel[0]));
	out->sel[1] = s->cs;
	out->sel[2] = s->ss;
	__asm__ volatile("mov %%ds, %0" : "=r"(out->sel[3]));
	__asm__ volatile("mov %%fs, %0" : "=r"(out->sel[4]));
	__asm__ volatile("mov %%gs, %0" : "=r"(out->sel[5]));
	out->trap = trap;
	out->error = (uint32_t)s->err;
	out->cr2 = trap == 14 ? (uint32_t)s->cr2 : 0;
	memcpy(out->fx, (const void *)s->fpstate, FX_BYTES);
	collect(&memory, c, out);
}

void on_signal(int number, const struct siginfo *info, struct ucontext *uc);

void
on_signal(int number, const struct siginfo *info, struct ucontext *uc)
{
	struct sigcontext_64 *s = (struct sigcontext_64 *)&uc->uc_mcontext;
	uint32_t trap = (uint32_t)s->trapno;

	(void)info;
	if (s->cs == 0x33 && running && number != SIGVTALRM)
		trap = TRAP_OTHER;	/* the code under test found its way to 64-bit mode */
	else if (number == SIGVTALRM) {
		if (!running || ticked != current) {
			ticked = current;
			return;
		}
		trap = TRAP_TIMEOUT;
	} else if (number == SIGSYS) {
		trap = TRAP_SYSCALL;
	}
	if (!running) {
		start = *s;
		start.ip += 2;		/* UD2 */
		running = 1;
		current = 0;
	} else {
		save_result(uc, trap);
		current++;
	}
	if (current < batch->count) {
		load_case(uc);
		return;
	}
	running = 0;
	start.fpstate = s->fpstate;
	*s = start;
}

/* AC, NT and ID are still the guest's here, and would be those of the next case too; the stack is aligned. */
__asm__(
	".globl signal_entry\nsignal_entry:\n"
	"	pushfq\n	andq $~0x244000, (%rsp)\n	popfq\n	cld\n"
	"	subq $8, %rsp\n	call on_signal\n	addq $8, %rsp\n	ret\n"
	".globl signal_return\nsignal_return:\n	mov $15, %eax\n	syscall\n"
	".globl _start\n_start:\n	xor %ebp, %ebp\n	andq $-16, %rsp\n	call run_batches\n	hlt\n");
extern char signal_entry[], signal_return[];

/* ---- set-up ------------------------------------------------------------------------------------------ */

static void
map_fixed(uint32_t at, uint32_t bytes, long protection)
{
	const long flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE;

	if (syscall6(__NR_mmap, at, bytes, protection, flags, -1, 0) != (long)at)
		die(4);
}

static void
map_memory(void)
{
	const long rw = PROT_READ | PROT_WRITE;

	map_fixed(CODE_BASE, CODE_BYTES, rw | PROT_EXEC);
	map_fixed(DATA_BASE, DATA_BYTES, rw);
	memory = (struct arena){ (uint64_t *)(uintptr_t)CODE_BASE, (uint64_t *)(uintptr_t)DATA_BASE,
	    (uint64_t *)(void *)code_before, (uint64_t *)(void *)batch->data, 0 };
	memset(memory.code, CODE_FILL, CODE_BYTES);
	memset(code_before, CODE_FILL, CODE_BYTES);
}

static void
reload_data(void)
{
	const long page = DATA_BASE + DATA_READ_ONLY * 4096, absent = DATA_BASE + DATA_ABSENT * 4096;

	SYS(__NR_mprotect, page, 8192, PROT_READ | PROT_WRITE, 0);
	memcpy(memory.data, batch->data, DATA_BYTES);
	SYS(__NR_mprotect, page, 4096, PROT_READ, 0);
	SYS(__NR_mprotect, absent, 4096, PROT_NONE, 0);
}

static void
install_handlers(void)
{
	static const int signals[] = { SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGBUS, SIGVTALRM, SIGSYS };
	const stack_t stack = { alternate_stack, 0, sizeof alternate_stack };
	struct { void *handler; unsigned long flags; void *restorer; uint64_t mask; } action = {
		signal_entry, SA_SIGINFO | SA_ONSTACK | SA_RESTART | 0x04000000 /* SA_RESTORER */, signal_return, ~0ull };
	uint32_t i;

	SYS(__NR_sigaltstack, &stack, 0, 0, 0);
	for (i = 0; i < sizeof signals / sizeof *signals; i++)
		if (SYS(__NR_rt_sigaction, signals[i], &action, 0, 8) != 0)
			die(5);
}

static void
set_ldt(void)
{
	uint32_t i;

	for (i = 0; i < batch->ldt_entries; i++)
		if (SYS(__NR_modify_ldt, 0x11, &batch->ldt[i], sizeof batch->ldt[i], 0) != 0)
			die(6);
}

static void
confine(void)
{
#define ALLOW(n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (n), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
	static struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(__NR_rt_sigreturn), ALLOW(__NR_read), ALLOW(__NR_write), ALLOW(__NR_mprotect),
		ALLOW(__NR_exit_group),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
	};
	static const struct sock_fprog program = { sizeof rules / sizeof *rules, rules };

	if (SYS(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0) != 0 ||
	    SYS(__NR_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0) != 0)
		die(7);
}

void run_batches(void);

void
run_batches(void)
{
	static const struct __kernel_old_itimerval every = { { 0, TICK_US }, { 0, TICK_US } };
	struct { uint64_t bytes; } head;
	char byte;

	if (SYS(__NR_pread64, BATCH_FD, &head, 8, offsetof(struct shared, file_bytes)) != 8)
		die(1);
	batch = (struct shared *)syscall6(__NR_mmap, 0, (long)head.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, BATCH_FD, 0);
	if ((unsigned long)batch > -4096ul)
		die(2);
	map_memory();
	install_handlers();
	set_ldt();
	SYS(__NR_setitimer, 1 /* ITIMER_VIRTUAL */, &every, 0, 0);
	confine();
	while (SYS(__NR_read, CONTROL_FD, &byte, 1, 0) == 1) {
		results = (struct result *)(void *)((uint8_t *)batch + batch->results_at);
		reload_data();
		__asm__ volatile("ud2" : : : "memory");
		if (SYS(__NR_write, CONTROL_FD, &byte, 1, 0) != 1)
			break;
	}
	die(0);
}
