/*
 * parts.h -- the 8086 programs of this guest, and how they are run.
 *
 * They are assembled in this image, copied to V86_BASE, and run with all segments at V86_SEGMENT.  Each ends with HLT,
 * which is privileged: the #GP brings it back.
 */
#pragma once

#include "guest.h"

#define V86_BASE	0x7000u
#define V86_SEGMENT	0x0700u
#define V86_STACK	0x0FF0u		/* SP */
#define OP_HLT		0xF4
#define OP_INT		0xCD
#define OP_IRET		0xCF
#define OP_PUSHF	0x9C

/* The exception or interrupt that ended the last run. */
extern struct trap_frame v86_end;

struct trap_frame v86_frame(const struct trap_frame *frame);

void v86_init(void);
/* Run from `program` with these EFLAGS (VM and bit 1 are added) until an exception. */
void v86_run(const char *program, uint32_t eflags);
bool v86_halted(void);			/* it reached its HLT */
uint16_t v86_word(const char *label);	/* a variable of the programs */
/* The offset of a label in the segment. */
uint32_t v86_offset(const char *label);

/* programs.S */
extern char v86_start[], v86_stop[];
extern char prog_addresses[], prog_cli[], prog_sti[], prog_pushf[], prog_popf[], prog_int[], prog_iret[], prog_int3[];
extern char prog_hlt[], prog_out8[], prog_out16[], prog_arpl[], prog_lar[], prog_sldt[], prog_str[], prog_verr[];
extern char prog_mov_cr0[], prog_limit[], prog_offset32[], prog_reflect[], prog_service[], prog_flags[];
extern char prog_vme_flags[], prog_vme_sti[], prog_vme_int[], prog_nop[], prog_into[], prog_segments[];
extern char saw_cs[], saw_flags[], saw_marker[], saw_service[], saw_flags2[], int3_next[];

void check_entry(void);
void check_iopl(void);
void check_ports(void);
void check_interrupts(void);
void check_protected_only(void);
void check_task_entry(void);
void check_vme(void);
