/*
 * faults.c -- exceptions as signals: what the kernel says of them, and two ways to go on.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <ucontext.h>

#include "stress.h"

volatile struct caught caught;
volatile unsigned caught_count;
volatile uint32_t faulting_eip, resume_eip;

static void (*mend)(void);
static uint8_t stack[16 * PAGE];

static void
handle(int signal, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;

	caught.signal = signal;
	caught.code = info->si_code;
	caught.trap = (uint32_t)regs[REG_TRAPNO];
	caught.error = (uint32_t)regs[REG_ERR];
	caught.address = (uint32_t)info->si_addr;
	caught.eax = (uint32_t)regs[REG_EAX];
	caught.ebx = (uint32_t)regs[REG_EBX];
	caught.ecx = (uint32_t)regs[REG_ECX];
	caught.edx = (uint32_t)regs[REG_EDX];
	caught.esi = (uint32_t)regs[REG_ESI];
	caught.edi = (uint32_t)regs[REG_EDI];
	caught.ebp = (uint32_t)regs[REG_EBP];
	caught.esp = (uint32_t)regs[REG_ESP];
	caught.eip = (uint32_t)regs[REG_EIP];
	caught.flags = (uint32_t)regs[REG_EFL];
	caught_count++;
	if (resume_eip)
		regs[REG_EIP] = (greg_t)resume_eip;
	else if (mend)
		mend();
	else
		fail("signal %d, trap %u, error %#x, address %#x, eip %#x", signal, caught.trap, caught.error,
		     caught.address, caught.eip);
}

void
catch_faults(void (*fix)(void))
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
	const stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
	struct sigaction action = { .sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	mend = fix;
	REQUIRE(sigaltstack(&alternate, NULL) == 0);
	for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
		REQUIRE(sigaction(signals[i], &action, NULL) == 0);
}

int
faults_on_read(const volatile void *at)
{
	const unsigned before = caught_count;

	FAULTING("", "movb (%0), %%al", "", : : "r"(at) : "eax", "memory");
	return caught_count != before;
}

/* The byte keeps its value. */
int
faults_on_write(volatile void *at)
{
	const unsigned before = caught_count;

	FAULTING("", "lock orb $0, (%0)", "", : : "r"(at) : "cc", "memory");
	return caught_count != before;
}
