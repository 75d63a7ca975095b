/*
 * parts.h -- the parts of this guest, and the ring-3 code that they run.
 */
#pragma once

#include "guest.h"

#define MAPPED		(8u << 20)
#define RW		(PTE_P | PTE_W | PTE_U)
#define HOST_CODE32	0x23	/* selectors that a 64-bit Linux host has for its programs */
#define HOST_DATA	0x2B
#define HOST_CODE64	0x33
#define HOST_TLS	0x63
#define HOST_PER_CPU	0x7B
#define HOST_CALL	0x80
#define NT_CALL		0x2E

extern page_table *directory;

/* In ring 3 with interrupts enabled, as user programs run. */
uint32_t user_call(ring_function *function, uint32_t argument);
/* The same for a function that an exception is to end: which. */
struct fault user_fault(ring_function *function, uint32_t argument);
uint32_t rounds(uint32_t usual, uint32_t quick);

void check_selectors(void);
void check_own_descriptors(void);
void check_gates(void);
void check_addresses(void);
void check_storms(void);
void check_own_tables(void);
void check_own_code(void);
void check_flags(void);
void check_middles(void);
void check_hidden(void);
void check_escape(void);

/* ---- user.c ---- */

#define STORM_BASE	0x40000000u
#define TABLES		0xFFC00000u	/* tables that map themselves: TABLES, and the directory in the last page */
#define DIRECTORY	0xFFFFF000u
#define TARGET		0x50000000u
#define NO_MEMORY	0xF0000000u	/* physical: nothing there, or a device */
#define WINDOW		0x60000000u	/* a second address of code_page */

extern uint32_t warm_rounds;		/* how long ring-3 code runs before it tries something */
extern uint32_t table_frame, frames[2];
extern uint8_t code_page[PAGE_SIZE];

ring_function user_read, user_write, user_run, user_swap, user_call_code, user_touch, user_fault_often;
ring_function user_int80, user_int2e, user_sysenter, user_sysenter_no_stack, user_syscall, user_sysexit;
ring_function user_map_target, user_read_entry, user_write_target, user_set_target_entry, user_map_many;
ring_function user_touch_no_memory, user_protect_tables, user_write_tables;
ring_function user_patch_a_loop, user_rewrite, user_rewrite_by_alias;
ring_function user_pop_flags, user_step, user_step_into_fault, user_misaligned, user_cli, user_int_with_nt;

/* ---- clean.S: the argument is an address to call; EAX is `clean_eax` then ---- */

ring_function clean_call, clean_rewrite;
extern uint32_t clean_eax;
