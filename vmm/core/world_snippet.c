/*
 * world_snippet.c -- runs a few instructions below 4 GiB, as guest code is run, and tells how they ended.
 *
 * The code is copied there by whoever runs it, and uses no address of its own.  Invariants:
 *
 *   S1  it ends by a signal: HLT, which faults in every outer ring, or a fault of its own;
 *   S2  a signal outside snippet() is not ours and ends the process.
 *
 * Source: Linux, Documentation/x86/entry_64 and arch/x86/include/asm/segment.h (selectors), sigaltstack(2),
 * arch/x86/include/uapi/asm/sigcontext.h.
 */
#include <asm/sigcontext.h>
#include <asm/siginfo.h>
#include <asm/signal.h>
#include <asm/ucontext.h>
#include <stddef.h>
#include <stdint.h>

#include "sysraw.h"
#include "world_snippet.h"

enum { SIGNAL_STACK = 0x10000 };

#define TEXT(x) #x
#define VALUE(x) TEXT(x)

/* ---- the code ---------------------------------------------------------------------------------- */

__asm__(
	".irp name, code, run32, resume, rounds, ldt, ldt_limit, int80, sysenter, syscall32, cpuid, rdtsc, sgdt, syscall64, "
	"code_end\n"
	".globl probe_\\name\n"
	".hidden probe_\\name\n"
	".endr\n"
	".pushsection .rodata\n"
	"probe_code:\n"
	".code32\n"
	"probe_run32:	movl $0x100, %eax\n"
	"	.byte 0x40, 0x40, 0x40\n"		/* INC EAX thrice; 64-bit code has prefixes there */
	"	pushl $5\n"
	"	popl %ebx\n"
	"	hlt\n"
	"probe_resume:	hlt\n"
	"	incl %ebx\n"
	"	hlt\n"
	"probe_rounds:	hlt\n"
	"	jmp probe_rounds\n"
	"probe_ldt:	movl $0xf, %eax\n"
	"	movl %eax, %ds\n"
	"	movl 0, %ebx\n"
	"probe_ldt_limit:	movl 4, %ecx\n"
	"	hlt\n"
	"probe_int80:	int $0x80\n"
	"	hlt\n"
	"probe_sysenter:	sysenter\n"
	"	hlt\n"
	"probe_syscall32:	syscall\n"
	"	hlt\n"
	"probe_cpuid:	cpuid\n"
	"	hlt\n"
	"probe_rdtsc:	rdtsc\n"
	"	hlt\n"
	"probe_sgdt:	sgdt " VALUE(LOW_DATA) "\n"
	"	hlt\n"
	".code64\n"
	"probe_syscall64:	syscall\n"
	"	hlt\n"
	"probe_code_end:\n"
	".popsection\n");

/* ---- running one ------------------------------------------------------------------------------------ */

struct seen seen;

static uint32_t resumes_left;
static uint32_t armed;
static uint8_t signal_stack[SIGNAL_STACK] __attribute__((aligned(16)));

HIDDEN extern uint64_t probe_stack_pointer;
HIDDEN extern const uint8_t probe_left[];
HIDDEN void probe_enter(uint64_t cs, uint64_t ip, uint64_t sp);
HIDDEN void probe_restorer(void);

/*
 * IRET to rdi:rsi with the stack pointer rdx; the signal that ends it returns at probe_left.  EAX is
 * the number of a call that changes nothing, 24: getuid in 32-bit code, sched_yield in 64-bit code.
 * EBP points to what SYSENTER reads.
 */
__asm__(
	".pushsection .bss\n"
	".balign 8\n"
	"probe_stack_pointer:	.skip 8\n"
	".popsection\n"
	".pushsection .text\n"
	".type probe_enter, @function\n"
	"probe_enter:\n"
	"	pushq %rbx\n	pushq %rbp\n	pushq %r12\n	pushq %r13\n	pushq %r14\n	pushq %r15\n"
	"	movq %rsp, probe_stack_pointer(%rip)\n"
	"	movl %ss, %eax\n"
	"	movl %eax, %ds\n"
	"	movl %eax, %es\n"
	"	pushq %rax\n	pushq %rdx\n	pushfq\n	pushq %rdi\n	pushq %rsi\n"
	"	movl $" VALUE(LOW_DATA) ", %ebp\n"
	"	movl $24, %eax\n"
	"	xorl %ebx, %ebx\n"
	"	xorl %ecx, %ecx\n"
	"	iretq\n"
	"probe_left:\n"
	"	popq %r15\n	popq %r14\n	popq %r13\n	popq %r12\n	popq %rbp\n	popq %rbx\n"
	"	ret\n"
	".type probe_restorer, @function\n"
	"probe_restorer:\n"
	"	movl $15, %eax\n"			/* rt_sigreturn */
	"	syscall\n"
	".popsection\n");

static void
set_handler(uint32_t number, __sighandler_t handler)
{
	struct sigaction action = { 0 };

	action.sa_handler = handler;
	action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTORER;
	action.sa_restorer = probe_restorer;
	sys_call6(SYS_rt_sigaction, number, (uint64_t)(uintptr_t)&action, 0, sizeof action.sa_mask, 0, 0);
}

static void
on_signal(int number, siginfo_t *info, void *context)
{
	struct sigcontext *m = &((struct ucontext *)context)->uc_mcontext;
	const uint64_t here = (uint64_t)(uintptr_t)&m - (uint64_t)(uintptr_t)signal_stack;

	if (!armed) {
		set_handler((uint32_t)number, NULL);	/* S2: it comes again at once */
		return;
	}
	seen = (struct seen) {
		.signal = (uint32_t)number, .code = (uint32_t)info->si_code, .trap = (uint32_t)m->trapno, .cs = m->cs,
		.ip = (uint32_t)m->rip, .eax = (uint32_t)m->rax, .ebx = (uint32_t)m->rbx, .esp = (uint32_t)m->rsp,
		.on_its_stack = here < SIGNAL_STACK
	};
	if (resumes_left && number == SIGSEGV) {
		resumes_left--;
		m->rip++;
		m->rbx = MARK;
		return;
	}
	m->cs = USER_CS;
	m->rip = (uint64_t)(uintptr_t)probe_left;
	m->rsp = probe_stack_pointer;
}

void
snippets_begin(void)
{
	static const uint32_t numbers[] = { SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGSYS };
	stack_t stack = { .ss_sp = signal_stack, .ss_size = SIGNAL_STACK };
	uint32_t i;

	sys_call3(SYS_sigaltstack, (uint64_t)(uintptr_t)&stack, 0, 0);
	for (i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
		set_handler(numbers[i], (__sighandler_t)(uintptr_t)on_signal);
}

void
snippet(uint32_t cs, uint32_t ip, uint32_t sp, uint32_t resumes)
{
	seen_nothing();
	resumes_left = resumes;
	armed = 1;
	probe_enter(cs, ip, sp);
	armed = 0;
}

void
snippet32(const uint8_t *code, uint32_t resumes)
{
	snippet(USER32_CS, address_of(code), LOW_STACK, resumes);
}

void
seen_nothing(void)
{
	seen = (struct seen) { 0 };
}

int
faulted_at(uint32_t ip)
{
	return seen.signal == SIGSEGV && seen.trap == TRAP_GP && seen.ip == ip;
}
