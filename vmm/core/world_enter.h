/*
 * world_enter.h -- what the assembler and C know of each other: where things lie in struct passage.
 *
 * The passage lies at the bottom of the alternate signal stack, which is aligned to its size: so a
 * signal handler finds it by its stack pointer, whatever the guest has left in the other registers.
 */
#ifndef RF_WORLD_ENTER_H
#define RF_WORLD_ENTER_H

#define PASSAGE_STACK 65536

#define PASSAGE_HOST_RSP 0
#define PASSAGE_IN_GUEST 8
#define PASSAGE_LATE 13
#define PASSAGE_R 16		/* EAX ECX EDX EBX ESP EBP ESI EDI */
#define PASSAGE_EIP 48
#define PASSAGE_EFLAGS 52
#define PASSAGE_CS 56
#define PASSAGE_SS 58
#define PASSAGE_DS 60
#define PASSAGE_ES 62
#define PASSAGE_FS 64
#define PASSAGE_GS 66
#define PASSAGE_FX 72

#ifndef __ASSEMBLER__

#include <stddef.h>
#include <stdint.h>

struct engine;

struct passage {
	uint64_t host_rsp;
	uint32_t in_guest;	/* from before the first guest register is loaded until the monitor has its stack again */
	uint8_t dispatch;	/* syscall user dispatch's selector: "block", but while the monitor asks the vDSO */
	uint8_t late;		/* a timer or kick has come while no guest code ran: do not go there before looking again */
	uint8_t reserved[2];
	uint32_t r[8];		/* enum gpr; the guest's, on the way in and out */
	uint32_t eip;
	uint32_t eflags;
	uint16_t cs, ss, ds, es, fs, gs;	/* host selectors */
	uint32_t reserved2;
	void *fx;		/* the guest's FXSAVE image */

	/* why it left */
	uint32_t signal;
	int32_t code;		/* si_code */
	uint32_t trap;		/* vector */
	uint32_t error;
	uint32_t where;		/* enum passage_where */
	uint64_t address;	/* CR2 */
	uint64_t rip;
	struct engine *engine;
	uint32_t member;	/* of the crew, 0 the first: this process */
};

enum passage_where {
	LEFT_GUEST,		/* 32-bit guest code */
	LEFT_ENTRY,		/* the way in: nothing of the guest has run */
	LEFT_ESCAPED		/* 64-bit code that is not the monitor's: the guest has left its segments */
};

_Static_assert(offsetof(struct passage, in_guest) == PASSAGE_IN_GUEST, "world_enter.h");
_Static_assert(offsetof(struct passage, late) == PASSAGE_LATE, "world_enter.h");
_Static_assert(offsetof(struct passage, r) == PASSAGE_R, "world_enter.h");
_Static_assert(offsetof(struct passage, eip) == PASSAGE_EIP, "world_enter.h");
_Static_assert(offsetof(struct passage, eflags) == PASSAGE_EFLAGS, "world_enter.h");
_Static_assert(offsetof(struct passage, cs) == PASSAGE_CS, "world_enter.h");
_Static_assert(offsetof(struct passage, gs) == PASSAGE_GS, "world_enter.h");
_Static_assert(offsetof(struct passage, fx) == PASSAGE_FX, "world_enter.h");

#define ENTER_HIDDEN __attribute__((visibility("hidden")))

/* Load the guest's state and go; comes back when a signal has ended the stay. */
ENTER_HIDDEN void passage_enter(struct passage *p);
/* The instructions at which the guest's state is being loaded. */
ENTER_HIDDEN extern const char passage_enter_begin[], passage_enter_end[];
/* A signal handler; and the function that it calls: 1 leaves the guest, 0 goes on where it was. */
ENTER_HIDDEN void passage_signal(int signal, void *info, void *context);
ENTER_HIDDEN int passage_taken(int signal, void *info, void *context, struct passage *p);
/* What a handler returns to. */
ENTER_HIDDEN void passage_restorer(void);

#endif
#endif
