/*
 * strings.c -- instructions that fault in the middle: repeated string instructions, whose registers say how far they
 * came, and others that reach into a second page, which have changed nothing.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "stress.h"

#define REGION_PAGES	4u
/* From and to pages that can be touched: which of two operands faults first is not defined. */
#define COUNT_BYTES	(3 * PAGE + 200)
#define FLAG_CF		1u

static uint8_t *from, *to;

static void
allow_and_tell(void)
{
	uint8_t *page = (uint8_t *)(caught.address & ~(PAGE - 1));
	const int in_source = page >= from && page < from + REGION_PAGES * PAGE;
	const uint32_t offset = caught.address - (uint32_t)(in_source ? from : to);

	REQUIRE(caught.signal == SIGSEGV && offset < REGION_PAGES * PAGE);
	note("%s page %u, error %#x, ecx %u, esi %+d, edi %+d", in_source ? "source" : "destination", offset / PAGE,
	     caught.error, caught.ecx, (int)(caught.esi - (uint32_t)from), (int)(caught.edi - (uint32_t)to));
	REQUIRE(mprotect(page, PAGE, PROT_READ | PROT_WRITE) == 0);
}

static void
prepare(void)
{
	uint32_t state = SEED;

	REQUIRE(mprotect(from, REGION_PAGES * PAGE, PROT_READ | PROT_WRITE) == 0);
	REQUIRE(mprotect(to, REGION_PAGES * PAGE, PROT_READ | PROT_WRITE) == 0);
	for (unsigned i = 0; i < REGION_PAGES * PAGE; i++)
		to[i] = from[i] = (uint8_t)(next_random(&state) | 1);
	REQUIRE(mprotect(from + PAGE, PAGE, PROT_NONE) == 0 && mprotect(from + 2 * PAGE, PAGE, PROT_NONE) == 0);
	REQUIRE(mprotect(to + PAGE, PAGE, PROT_READ) == 0 && mprotect(to + 2 * PAGE, PAGE, PROT_NONE) == 0);
}

/* One repeated instruction over the regions, upwards or downwards, its elements across the pages' ends or not. */
#define REPEATED(name, instruction, width)							\
	for (unsigned down = 0; down < 2; down++)						\
		for (unsigned skew = 0; skew < 2; skew++) {					\
			uint32_t eax = 0, ecx = COUNT_BYTES / (width);				\
			uint8_t *esi = from + 301 * skew + (down ? COUNT_BYTES : 0);		\
			uint8_t *edi = to + 77 + (down ? COUNT_BYTES : 0);			\
												\
			prepare();								\
			note("%s %s, skew %u", name, down ? "down" : "up", skew);		\
			if (down)								\
				asm volatile("std\n\t" instruction "\n\tcld"			\
					     : "+a"(eax), "+c"(ecx), "+S"(esi), "+D"(edi) : : "cc", "memory");	\
			else									\
				asm volatile(instruction					\
					     : "+a"(eax), "+c"(ecx), "+S"(esi), "+D"(edi) : : "cc", "memory");	\
			note("%#x %u %d %d", eax, ecx, (int)(esi - from), (int)(edi - to));	\
			mprotect(from, REGION_PAGES * PAGE, PROT_READ);				\
			mprotect(to, REGION_PAGES * PAGE, PROT_READ);				\
			note_bytes("destination", to, REGION_PAGES * PAGE);			\
		}

static void
string_faults(void)
{
	from = map_pages(REGION_PAGES);
	to = map_pages(REGION_PAGES);
	catch_faults(allow_and_tell);
	REPEATED("movsb", "rep movsb", 1)
	REPEATED("movsw", "rep movsw", 2)
	REPEATED("movsl", "rep movsl", 4)
	REPEATED("stosb", "rep stosb", 1)
	REPEATED("stosl", "rep stosl", 4)
	REPEATED("lodsl", "rep lodsl", 4)
	REPEATED("scasb", "repne scasb", 1)
	REPEATED("cmpsl", "repe cmpsl", 4)
}

static uint8_t *operand;
static const char *trying;
static const uint32_t known[] = { 0x11223344, 0x55667788, 0x99aabbcc, 0x0000000d, 0x01020304, 0x0a0b0c0d };

static void
allow_if_unchanged(void)
{
	uint8_t *page = (uint8_t *)(caught.address & ~(PAGE - 1));

	REQUIRE(caught.trap == 14 && page == from + PAGE);
	if (caught.eip != faulting_eip || caught.eax != known[0] || caught.ebx != known[1] || caught.ecx != known[2] ||
	    caught.edx != known[3] || caught.esi != (uint32_t)operand || caught.edi != (uint32_t)operand)
		fail("%s has changed a register before it faulted", trying);
	if (!(caught.flags & FLAG_CF))
		fail("%s has changed the flags before it faulted", trying);
	note("%s: error %#x", trying, caught.error);
	REQUIRE(mprotect(page, PAGE, PROT_READ | PROT_WRITE) == 0);
}

/* The operand begins `before` bytes before the second page, which cannot be written, or not be touched at all. */
#define RESTARTED(name, before, instruction)						\
	for (unsigned protection = 0; protection < 2; protection++) {				\
		uint32_t a = known[0], b = known[1], c = known[2], d = known[3];		\
		uint8_t *s, *t;									\
												\
		trying = name;									\
		REQUIRE(mprotect(from, 2 * PAGE, PROT_READ | PROT_WRITE) == 0);			\
		memset(from, 0x21, 2 * PAGE);							\
		s = t = operand = from + PAGE - (before);					\
		REQUIRE(mprotect(from + PAGE, PAGE, protection ? PROT_READ : PROT_NONE) == 0);	\
		asm volatile("fninit\n\tfldpi\n\tpxor %%xmm0, %%xmm0\n\tmovl $771f, faulting_eip\n\tstc\n"	\
			     "771:\t" instruction "\n\tcld"					\
			     : "+a"(a), "+b"(b), "+c"(c), "+d"(d), "+S"(s), "+D"(t)		\
			     : : "cc", "memory", "xmm0", "xmm1");				\
		note("%08x %08x %08x %08x %+d %+d", a, b, c, d, (int)(s - operand), (int)(t - operand));	\
		note_bytes("pages", from, 2 * PAGE);						\
	}

/* The same with ESP at the operand. */
#define RESTARTED_STACK(name, before, instruction)						\
	RESTARTED(name, before, "movl %%esp, restarted_esp\n\tmovl %%edi, %%esp\n\tstc\n\t"	\
		  "movl $772f, faulting_eip\n772:\t" instruction "\n\tmovl %%esp, %%edi\n\t"	\
		  "movl restarted_esp, %%esp")

uint32_t restarted_esp;

static void
restarted_instructions(void)
{
	from = map_pages(2);
	catch_faults(allow_if_unchanged);
	RESTARTED("load", 2, "movl (%%edi), %%eax")
	RESTARTED("store", 1, "movl %%eax, (%%edi)")
	RESTARTED("add to", 3, "addl %%eax, (%%edi)")
	RESTARTED("add from", 3, "addl (%%edi), %%eax")
	RESTARTED("adc to", 2, "adcl %%eax, (%%edi)")
	RESTARTED("inc", 2, "incl (%%edi)")
	RESTARTED("neg", 1, "negw (%%edi)")
	RESTARTED("not", 2, "notl (%%edi)")
	RESTARTED("rcl", 2, "rcll $3, (%%edi)")
	RESTARTED("shld", 2, "shldl $7, %%eax, (%%edi)")
	RESTARTED("xchg", 2, "xchgl %%eax, (%%edi)")
	RESTARTED("lock xadd", 2, "lock xaddl %%eax, (%%edi)")
	RESTARTED("lock or", 0, "lock orl %%eax, (%%edi)")
	RESTARTED("cmpxchg, other", 2, "cmpxchgl %%ebx, (%%edi)")
	RESTARTED("cmpxchg8b, other", 4, "cmpxchg8b (%%edi)")
	RESTARTED("bts far away", 2, "btsl %%ecx, 214608008(%%edi)")	/* 0x99aabbcc / 32 * 4, as a signed number */
	RESTARTED("mul", 2, "mull (%%edi)")
	RESTARTED("div", 2, "divl (%%edi)")
	RESTARTED("setc", 0, "setc (%%edi)")
	RESTARTED("movsl", 2, "movsl")
	RESTARTED("lodsl", 2, "lodsl")
	RESTARTED("stosl", 2, "stosl")
	RESTARTED("movdqu load", 7, "movdqu (%%edi), %%xmm0\n\tmovd %%xmm0, %%edx")
	RESTARTED("movdqu store", 9, "movdqu %%xmm0, (%%edi)")
	RESTARTED("fstpt", 5, "fstpt (%%edi)")
	RESTARTED_STACK("push", -2, "pushl %%ebx")
	RESTARTED_STACK("push of memory", 2, "pushl (%%edi)")
	RESTARTED_STACK("pop", 2, "popl %%ebx")
	RESTARTED_STACK("call", -2, "call 773f\n773:")
}

const struct trial string_trials[] = {
	{ "string_faults", string_faults }, { "restarted_instructions", restarted_instructions }, { NULL, NULL },
};
