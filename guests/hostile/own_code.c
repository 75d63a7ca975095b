/*
 * own_code.c -- ring-3 code that rewrites itself, sets flags it should not, and jumps into the middle of instructions.
 */
#include "parts.h"

/* A system call that does nothing. */
static void
nothing(struct trap_frame *frame)
{
	(void)frame;
}

void
check_own_code(void)
{
	uint32_t count = rounds(20000, 1000);
	uint64_t closed = idt[HOST_CALL];

	check_equal("loop_that_patches_itself", user_call(user_patch_a_loop, count), count * (count + 1) / 2);
	check_equal("code_rewritten_in_place", user_call(user_rewrite, count), count);
	map_page(directory, WINDOW, (uint32_t)code_page, RW);
	invalidate_page((void *)WINDOW);
	idt[HOST_CALL] = gate(KERNEL_CS, trap_stub(HOST_CALL), TYPE_INT32, 3, 0);
	on_trap(HOST_CALL, nothing);
	check_equal("code_rewritten_by_an_alias", user_call(user_rewrite_by_alias, count), count);
	on_trap(HOST_CALL, NULL);
	idt[HOST_CALL] = closed;
}

/* ---- flags ---- */

static uint32_t
try_nested_return(uint32_t unused)
{
	(void)unused;
	FAULT_OF("pushl $0x4202; popfl; pushl $0x202; pushl $0x1B; pushl $8f", "iret");
	return 0;
}

extern char user_stepped[];

void
check_flags(void)
{
	uint32_t flags = user_call(user_pop_flags, EFL_IOPL(3) | EFL_ONE);
	struct fault fault;

	check("popf_changes_neither_iopl_nor_if", (flags & (EFL_IOPL(3) | EFL_IF)) == EFL_IF, "EFLAGS is %x", flags);
	flags = user_call(user_pop_flags, EFL_VM | EFL_RF | EFL_VIF | EFL_VIP | EFL_IF | EFL_ONE);
	check("popf_sets_no_vm_rf_vif_vip", !(flags & (EFL_VM | EFL_RF | EFL_VIF | EFL_VIP)), "EFLAGS is %x", flags);
	flags = user_call(user_pop_flags, EFL_NT | EFL_AC | EFL_ID | EFL_IF | EFL_ONE);
	check("popf_sets_nt_ac_id", (flags & (EFL_NT | EFL_AC | EFL_ID)) == (EFL_NT | EFL_AC | EFL_ID), "EFLAGS is %x",
	    flags);
	fault = user_fault(user_step, 0);
	check("popf_tf_steps", fault.vector == VEC_DB && fault.eip == (uint32_t)user_stepped, "vector %u at %x", fault.vector,
	    fault.eip);
	fault = user_fault(user_step_into_fault, 0);
	check("fault_comes_before_the_step", is_fault(fault, VEC_UD, NO_ERROR), "vector %u", fault.vector);
	user_call(try_nested_return, 0);
	check_fault("iret_with_nt_to_no_task_ts", probe.seen, VEC_TS, 0);
	fault = user_fault(user_int_with_nt, 0);
	check_fault("int_with_nt_is_no_task_return", fault, VEC_GP, 0x82 * 8 + 2);
	check("nt_is_seen_in_the_frame", fault.eflags & EFL_NT, "EFLAGS is %x", fault.eflags);
	check_fault("popf_iopl_does_not_let_cli", user_fault(user_cli, 0), VEC_GP, 0);
	fault = user_fault(user_misaligned, (uint32_t)code_page + 1);
	check("ac_without_am_reads", !fault.raised, "vector %u", fault.vector);
	write_cr0(read_cr0() | CR0_AM);
	fault = user_fault(user_misaligned, (uint32_t)code_page + 1);
	check_silicon("ac_with_am_ac", is_fault(fault, VEC_AC, 0), "does not check alignment");
	write_cr0(read_cr0() & ~CR0_AM);
}

/* ---- instructions inside others ---- */

extern char hidden_hlt[], hidden_cli[], hidden_int80[], hidden_ud2[], hidden_in[], hidden_inc[];
extern char hidden_load_es[], hidden_load_gs[], hidden_read_cs[], hidden_read_ss[], hidden_push_cs[], hidden_str[];
extern char hidden_smsw[], hidden_jump_23[], hidden_jump_1b[];

static void
check_inside(const char *name, char *at, enum vector vector, uint32_t error)
{
	struct fault fault = user_fault(clean_call, (uint32_t)at);

	check(name, is_fault(fault, vector, error) && fault.eip == (uint32_t)at, "vector %u error %x at %x, expected %u at %x",
	    fault.vector, fault.error, fault.eip, vector, (uint32_t)at);
}

void
check_middles(void)
{
	clean_eax = 0;
	check_inside("hidden_hlt_gp", hidden_hlt, VEC_GP, 0);
	check_inside("hidden_cli_gp", hidden_cli, VEC_GP, 0);
	check_inside("hidden_in_gp", hidden_in, VEC_GP, 0);
	check_inside("hidden_int80_gp", hidden_int80, VEC_GP, HOST_CALL * 8 + 2);
	check_inside("hidden_ud2_ud", hidden_ud2, VEC_UD, NO_ERROR);
	check_equal("hidden_code_runs", user_call(clean_call, (uint32_t)hidden_inc), 2);
}

static void
check_load(const char *name, char *load, uint32_t selector)
{
	clean_eax = selector;
	check_inside(name, load, VEC_GP, selector & ~RPL_MASK);
}

static void
check_read(const char *name, char *read, uint32_t expected)
{
	check_equal(name, user_call(clean_call, (uint32_t)read) & 0xFFFF, expected);
}

/* What a monitor that looks for such instructions beforehand may miss. */
void
check_hidden(void)
{
	check_load("hidden_load_of_2bh_gp", hidden_load_es, HOST_DATA);
	check_load("hidden_load_of_7bh_gp", hidden_load_gs, HOST_PER_CPU);
	check_load("hidden_load_of_33h_gp", hidden_load_gs, HOST_CODE64);
	clean_eax = USER_DS;
	user_call(clean_call, (uint32_t)hidden_load_es);
	check("hidden_load_of_own_segment_runs", !ring_fault().raised, "vector %u", ring_fault().vector);
	check_read("hidden_read_of_cs", hidden_read_cs, USER_CS);
	check_read("hidden_read_of_ss", hidden_read_ss, USER_DS);
	check_read("hidden_push_of_cs", hidden_push_cs, USER_CS);
	check_read("hidden_str", hidden_str, MAIN_TSS);
	check_read("hidden_smsw", hidden_smsw, read_cr0() & 0xFFFF);
	check_inside("hidden_jump_to_23h_gp", hidden_jump_23, VEC_GP, HOST_CODE32 & ~RPL_MASK);
	user_call(clean_call, (uint32_t)hidden_jump_1b);
	check("hidden_jump_to_own_code_runs", !ring_fault().raised, "vector %u error %x", ring_fault().vector,
	    ring_fault().error);
}
