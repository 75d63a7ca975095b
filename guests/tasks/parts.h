/*
 * parts.h -- the parts of this guest, and the tasks that they switch to.
 */
#pragma once

#include "guest.h"

#define TASK		0x58	/* the task under test */
#define TASK_GATE	0x60	/* a gate to it, DPL 3 */
#define TASK16		0x68
#define TASK16_CS	0x70
#define TASK16_SS	0x78
#define CONFORMING_CS	0x80
#define ABSENT		0x88	/* an absent data segment */
#define ABSENT_CODE	0x90
#define TASK_LDT	0x98
#define FAULT_TASK	0xA0	/* and the next three: they take #TS, #NP, #SS and #GP */
#define VEC_TASK	0x93	/* a task gate to TASK */
#define VEC_BACK	0x94	/* from ring 3 of a task back to the main task */
#define BEYOND_GDT	(GDT_ENTRIES * 8)

extern struct tss32 task_tss;
extern page_table *other_directory;

/* What the task under test saw when it ran.  */
struct visit {
	uint32_t count;
	uint32_t eflags, tr, ldtr, cr0, cr3;
	uint32_t eax, ebx, ecx, edx, ebp, esi, edi;
	uint32_t back_link;
	bool main_busy, task_busy;
	uint32_t error;		/* from the stack, if it expected one */
};
extern struct visit visit;

/* Make TASK available again, to start at `entry`; ring 0, or ring 3 with USER_CS. */
extern char entered_by_call[], entered_by_jump[], entered_with_error[], in_ring3[];
void prepare_task(const void *entry);
enum system_type task_type(uint16_t selector);

void check_switches(void);
void check_context(void);
void check_16_bit(void);
void check_bad_tasks(void);
