/*
 * invalid.c -- #UD: opcodes that are none, operands that cannot be, LOCK where it means nothing; and the length limit.
 */
#include "faults.h"

#define LOCK_IGNORED "ignores LOCK here"

static uint32_t word;
static uint32_t quad[2];

static void
check_undefined(void)
{
	check_fault("ud2_ud", FAULT_OF("", "ud2"), VEC_UD, NO_ERROR);
	check_fault("mov_to_cs_ud", FAULT_OF("movl %%cs, %%eax", ".byte 0x8E, 0xC8"), VEC_UD, NO_ERROR);
	check_fault("mov_from_segment_6_ud", FAULT_OF("", ".byte 0x8C, 0xF0"), VEC_UD, NO_ERROR);
	check_fault("lea_of_a_register_ud", FAULT_OF("", ".byte 0x8D, 0xC0"), VEC_UD, NO_ERROR);
	check_fault("bound_of_a_register_ud", FAULT_OF("", ".byte 0x62, 0xC0"), VEC_UD, NO_ERROR);
	check_fault("far_call_of_a_register_ud", FAULT_OF("", ".byte 0xFF, 0xD8"), VEC_UD, NO_ERROR);
	check_fault("far_jump_of_a_register_ud", FAULT_OF("", ".byte 0xFF, 0xE8"), VEC_UD, NO_ERROR);
	check_fault("group5_7_ud", FAULT_OF("", ".byte 0xFF, 0xF8"), VEC_UD, NO_ERROR);
	check_fault("group4_2_ud", FAULT_OF("", ".byte 0xFE, 0xD0"), VEC_UD, NO_ERROR);
	check_fault("mov_from_cr1_ud", FAULT_OF("", ".byte 0x0F, 0x20, 0xC8"), VEC_UD, NO_ERROR);
	check_fault("mov_from_test_register_ud", FAULT_OF("", ".byte 0x0F, 0x24, 0xF0"), VEC_UD, NO_ERROR);
	check_fault("sgdt_of_a_register_ud", FAULT_OF("", ".byte 0x0F, 0x01, 0xC0"), VEC_UD, NO_ERROR);
	check_fault("invlpg_of_a_register_ud", FAULT_OF("", ".byte 0x0F, 0x01, 0xFA"), VEC_UD, NO_ERROR);
	check_fault("cmpxchg8b_of_a_register_ud", FAULT_OF("", ".byte 0x0F, 0xC7, 0xC8"), VEC_UD, NO_ERROR);
}

/* LOCK goes with a read-modify-write of memory and with nothing else.  [SDM 2, LOCK] */
static void
check_lock(void)
{
	check_no_fault("lock_add_memory_runs", FAULT_OF("", "lock; addl $1, %0", "m"(word)));
	check_no_fault("lock_xchg_memory_runs", FAULT_OF("", "lock; xchgl %%eax, %0", "m"(word)));
	check_no_fault("lock_cmpxchg8b_memory_runs", FAULT_OF("", "lock; cmpxchg8b %0", "m"(quad)));
	check_fault("lock_nop_ud", FAULT_OF("", ".byte 0xF0, 0x90"), VEC_UD, NO_ERROR);
	check_fault("lock_add_register_ud", FAULT_OF("", ".byte 0xF0, 0x01, 0xC0"), VEC_UD, NO_ERROR);
	check_fault("lock_add_to_register_ud", FAULT_OF("", ".byte 0xF0; addl %0, %%eax", "m"(word)), VEC_UD, NO_ERROR);
	check_fault("lock_cmp_memory_ud", FAULT_OF("", ".byte 0xF0; cmpl %%eax, %0", "m"(word)), VEC_UD, NO_ERROR);
	check_fault("lock_cmp_immediate_ud", FAULT_OF("", ".byte 0xF0; cmpl $1, %0", "m"(word)), VEC_UD, NO_ERROR);
	check_fault_silicon("lock_mov_memory_ud", FAULT_OF("", ".byte 0xF0; movl %%eax, %0", "m"(word)), VEC_UD,
	    NO_ERROR, LOCK_IGNORED);
	check_fault_silicon("lock_bt_memory_ud", FAULT_OF("", ".byte 0xF0; btl $1, %0", "m"(word)), VEC_UD, NO_ERROR,
	    LOCK_IGNORED);
	check_fault("lock_inc_register_ud", FAULT_OF("", ".byte 0xF0, 0x40"), VEC_UD, NO_ERROR);
	check_fault_silicon("lock_shl_memory_ud", FAULT_OF("", ".byte 0xF0; shll $1, %0", "m"(word)), VEC_UD, NO_ERROR,
	    LOCK_IGNORED);
	/* The sequence that once hung the Pentium. */
	check_fault("lock_cmpxchg8b_register_ud", FAULT_OF("", ".byte 0xF0, 0x0F, 0xC7, 0xC8"), VEC_UD, NO_ERROR);
}

/* An instruction has 15 bytes at most; one more is #GP(0), whatever the bytes mean.  [SDM 3, 6.15, #GP] */
static void
check_length(void)
{
	check_no_fault("fifteen_bytes_run", FAULT_OF("", ".fill 14, 1, 0x66; nop"));
	check_fault("sixteen_bytes_gp", FAULT_OF("", ".fill 15, 1, 0x66; nop"), VEC_GP, 0);
	check_fault("sixteen_bytes_of_mov_gp", FAULT_OF("", ".fill 11, 1, 0x3E; .byte 0xB8, 0, 0, 0, 0"), VEC_GP, 0);
}

void
check_invalid(void)
{
	check_undefined();
	check_lock();
	check_length();
}
