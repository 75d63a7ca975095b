/*
 * debug.c -- #DB and #BP: single step, breakpoints in code and data, and the guard of the debug registers.
 *
 * DR6 says which it was; the processor sets its bits and never clears them.  [SDM 3, 17.2, 17.3]
 */
#include "faults.h"

#define DR6_B0		(1u << 0)
#define DR6_BD		(1u << 13)
#define DR6_BS		(1u << 14)
#define DR7_L0		(1u << 0)
#define DR7_GD		(1u << 13)
#define DR7_WRITE	(1u << 16)	/* of breakpoint 0 */
#define DR7_ACCESS	(3u << 16)
#define DR7_4_BYTES	(3u << 18)
#define SET_TF		"pushfl; orl $0x100, (%%esp); popfl"

extern char code_breakpoint[];
extern volatile uint32_t watched[2];
volatile uint32_t watched[2];	/* named in assembly, so that the lengths below are sure */

static void
dr6_clear(void)
{
	write_dr6(0);
}

static void
check_single_step(void)
{
	struct fault fault;

	dr6_clear();
	check_trap("single_step_after_one_instruction", FAULT_OF(SET_TF, "nop"), VEC_DB, 1);
	check("single_step_sets_bs", read_dr6() & DR6_BS, "DR6 is %x", read_dr6());

	fault = FAULT_OF(SET_TF, "ud2");
	check("single_step_yields_to_the_fault", fault.vector == VEC_UD, "vector %u", fault.vector);
	/* MOV SS holds back the trap on itself: it comes after the next instruction.  [SDM 3, 6.8.3] */
	check_trap("single_step_skips_mov_ss", FAULT_OF("movl %%ss, %%eax; " SET_TF, "movl %%eax, %%ss; nop"), VEC_DB,
	    3);
	/* POPF that clears TF still traps: TF was set when it began. */
	check_trap("popf_that_clears_tf_traps", FAULT_OF("pushfl; " SET_TF, "popfl"), VEC_DB, 1);
	/* Every repetition of a string instruction is a step of its own. */
	check_trap("single_step_per_repetition", FAULT_OF("movl $3, %%ecx; movl $watched, %%edi;"
	    SET_TF, "rep stosb"), VEC_DB, 0);
}

static __attribute__((noinline, noclone)) struct fault
run_breakpoint(void)
{
	return FAULT_OF("", ".globl code_breakpoint; code_breakpoint: ud2");
}

static void
check_breakpoints(void)
{
	struct fault fault;

	check_trap("int3_is_a_trap", FAULT_OF("", "int3"), VEC_BP, 1);
	check_trap("int_3_is_a_trap", FAULT_OF("", ".byte 0xCD, 3"), VEC_BP, 2);
	fault = FAULT_OF("", ".byte 0xF1");
	check_silicon("int1_is_a_trap", is_fault(fault, VEC_DB, NO_ERROR) && fault.at == 1, "raises #UD");

	dr6_clear();
	write_dr0((uint32_t)code_breakpoint);
	write_dr7(DR7_L0);
	fault = run_breakpoint();
	write_dr7(0);
	check("code_breakpoint_before_the_instruction", fault.vector == VEC_DB && fault.at == 0, "vector %u at +%d",
	    fault.vector, (int)fault.at);
	check("code_breakpoint_sets_b0", read_dr6() & DR6_B0, "DR6 is %x", read_dr6());

	dr6_clear();
	write_dr0((uint32_t)&watched[0]);
	write_dr7(DR7_L0 | DR7_WRITE | DR7_4_BYTES);
	check_trap("write_watchpoint_after_the_write", FAULT_OF("", "movl $5, watched"), VEC_DB, 10);
	check("watchpoint_sets_b0", read_dr6() & DR6_B0, "DR6 is %x", read_dr6());
	check("watched_write_is_done", watched[0] == 5, "it is %u", watched[0]);
	check_trap("write_watchpoint_sees_one_byte", FAULT_OF("", "movb $5, watched+3"),
	    VEC_DB, 7);
	check_no_fault("write_watchpoint_ignores_reads", FAULT_OF("", "movl watched, %%eax"));
	check_no_fault("write_watchpoint_ignores_neighbours", FAULT_OF("", "movl $5, watched+4"));
	write_dr7(DR7_L0 | DR7_ACCESS | DR7_4_BYTES);
	check_trap("access_watchpoint_sees_reads", FAULT_OF("", "movl watched, %%ecx"), VEC_DB, 6);
	write_dr7(0);
}

static void
check_guard(void)
{
	dr6_clear();
	write_dr7(DR7_GD);
	check_fault_silicon("guarded_debug_register_db", FAULT_OF("", "movl %%db0, %%eax"), VEC_DB, NO_ERROR,
	    "ignores GD");
	/* Entering the handler clears GD, or the handler could not read DR6. */
	check_silicon("guard_sets_bd", read_dr6() & DR6_BD, "ignores GD");
	check_silicon("guard_is_cleared_by_the_fault", !(read_dr7() & DR7_GD), "ignores GD");
	write_dr7(0);
	write_cr4(read_cr4() | CR4_DE);
	check_fault("dr4_with_de_ud", FAULT_OF("", "movl %%db4, %%eax"), VEC_UD, NO_ERROR);
	write_cr4(read_cr4() & ~CR4_DE);
	check_no_fault("dr4_without_de_is_dr6", FAULT_OF("", "movl %%db4, %%eax"));
}

void
check_debug(void)
{
	check_single_step();
	check_breakpoints();
	check_guard();
}
