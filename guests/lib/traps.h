/*
 * traps.h -- exceptions and interrupts reach C here; and FAULT_OF, which runs one instruction and says what it raised.
 */
#pragma once

#include "x86.h"

/*
 * What a handler sees.  A selector counts in its low 16 bits only: PUSH may leave the others as they were.  ESP and SS
 * are there only if the processor changed rings, the rest only out of V86 mode.
 */
struct trap_frame {
	uint32_t gs, fs, es, ds;
	uint32_t edi, esi, ebp, unused_esp, ebx, edx, ecx, eax;
	uint32_t vector, error;
	uint32_t eip, cs, eflags;
	uint32_t esp, ss;
	uint32_t v86_es, v86_ds, v86_fs, v86_gs;
};

typedef void trap_handler(struct trap_frame *frame);

/* A handler takes precedence over FAULT_OF.  Null takes it away. */
void on_trap(int vector, trap_handler *handler);
void traps_init(void);

/* The stub for one vector: what the IDT's gates point at. */
uint32_t trap_stub(int vector);

/* What FAULT_OF saw.  `at` is EIP less the address of the instruction: 0 for a fault; its length for a trap. */
struct fault {
	bool raised;
	uint32_t vector, error, eip, at, cr2, cs, eflags, esp;
};

/* Filled by FAULT_OF before the instruction runs, read by the trap handler. */
struct probe {
	uint32_t recovery, expected_eip;
	uint32_t esp;
	uint16_t ss;
	uint32_t ebx, esi, edi, ebp;
	struct fault seen;
};
extern struct probe probe;

/*
 * Run `setup`, then `code`, in assembly, in whatever ring the caller is; an exception ends it.  Both may use every
 * register and leave things on the stack; DS and ES must be left as they were if nothing is raised.  Inputs follow.
 */
#define FAULT_OF(setup, code, ...) ({								\
	probe.seen = (struct fault){ 0 };							\
	__asm__ volatile(									\
	    "movl %%esp, probe+8; mov %%ss, probe+12; movl %%ebx, probe+16; movl %%esi, probe+20\n\t"	\
	    "movl %%edi, probe+24; movl %%ebp, probe+28; movl $9f, probe+4; movl $8f, probe\n\t"	\
	    setup "\n9:\t" code "\n8:\t"							\
	    "lss %%cs:probe+8, %%esp; movl probe+16, %%ebx; movl probe+20, %%esi\n\t"		\
	    "movl probe+24, %%edi; movl probe+28, %%ebp; movl $0, probe"			\
	    : : __VA_ARGS__ : "eax", "ecx", "edx", "memory", "cc");				\
	probe.seen;										\
})

#define NO_ERROR	0xFFFFFFFFu	/* for check_fault: this vector pushes no error code */

/* The fault has this vector and error code, EIP at the instruction itself, and RF set in the pushed EFLAGS. */
bool check_fault(const char *name, struct fault fault, enum vector vector, uint32_t error);
/* check_fault where one emulator is known to be wrong; see check_silicon. */
bool check_fault_silicon(const char *name, struct fault fault, enum vector vector, uint32_t error,
    const char *emulator_does);
bool check_no_fault(const char *name, struct fault fault);
bool is_fault(struct fault fault, enum vector vector, uint32_t error);
