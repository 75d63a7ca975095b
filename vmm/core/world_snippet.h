/*
 * world_snippet.h -- a few instructions run as guest code is, below 4 GiB, until one faults.
 */
#ifndef RF_WORLD_SNIPPET_H
#define RF_WORLD_SNIPPET_H

#include <stdint.h>

#include "world.h"

enum { USER_CS = 0x33, USER32_CS = 0x23, TRAP_GP = 13, MARK = 0x1234 };

/* A page of code with data in its upper half, and a page of stack. */
#define LOW 0x10000000
#define LOW_DATA 0x10000800
#define LOW_STACK 0x10002000

/* The code to be copied to LOW, and where in it each snippet begins. */
#define SNIPPET(name) HIDDEN extern const uint8_t probe_##name[]
SNIPPET(code); SNIPPET(run32); SNIPPET(resume); SNIPPET(rounds); SNIPPET(ldt); SNIPPET(ldt_limit); SNIPPET(int80);
SNIPPET(sysenter); SNIPPET(syscall32); SNIPPET(cpuid); SNIPPET(rdtsc); SNIPPET(sgdt); SNIPPET(syscall64); SNIPPET(code_end);
#undef SNIPPET

/* What the last signal of a snippet found. */
struct seen { uint32_t signal, code, trap, cs, ip, eax, ebx, esp, on_its_stack; };
HIDDEN extern struct seen seen;

/* Handlers for every fault, on a stack of their own. */
HIDDEN void snippets_begin(void);

/*
 * Run the code at cs:ip with this stack pointer and DS and ES flat.  The first `resumes` faults set
 * EBX to MARK and go on behind a one-byte instruction; the next one ends it.
 */
HIDDEN void snippet(uint32_t cs, uint32_t ip, uint32_t sp, uint32_t resumes);

/* The same for 32-bit code with a stack of its own. */
HIDDEN void snippet32(const uint8_t *code, uint32_t resumes);

/* Did the instruction there refuse to run? */
HIDDEN int faulted_at(uint32_t ip);

HIDDEN void seen_nothing(void);

static inline uint32_t
offset_of(const uint8_t *code)
{
	return (uint32_t)(code - probe_code);
}

static inline uint32_t
address_of(const uint8_t *code)
{
	return LOW + offset_of(code);
}

#endif
