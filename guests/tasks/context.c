/*
 * context.c -- what a switch saves and loads beside EIP: registers, segments, LDTR, CR3; and the debug trap.
 */
#include "parts.h"

#define DR6_BT	(1u << 15)

static void
check_registers(void)
{
	uint32_t ebx, esi, edi;

	prepare_task(entered_by_call);
	__asm__ volatile("movl $0x0B0B0B0B, %%ebx; movl $0x51515151, %%esi; movl $0xD1D1D1D1, %%edi; stc;"
	    "lcall %3, $0" : "=&b"(ebx), "=&S"(esi), "=&D"(edi) : "i"(TASK) : "eax", "ecx", "edx", "memory", "cc");
	__asm__ volatile("clts");
	check("switch_loads_the_registers", visit.eax == 0xAAAA0001 && visit.ebx == 0xBBBB0002 &&
	    visit.ecx == 0xCCCC0003 &&
	    visit.edx == 0xDDDD0004 && visit.ebp == 0xEEEE0005 && visit.esi == 0x11110006 && visit.edi == 0x22220007,
	    "EAX %x EBX %x ECX %x EDX %x", visit.eax, visit.ebx, visit.ecx, visit.edx);
	check("switch_saves_the_registers", main_tss.tss.ebx == 0x0B0B0B0B && main_tss.tss.esi == 0x51515151,
	    "EBX %x ESI %x", main_tss.tss.ebx, main_tss.tss.esi);
	check_silicon("switch_saves_the_flags", main_tss.tss.eflags & EFL_CF, "saves stale arithmetic flags");
	check("switch_saves_the_selectors", main_tss.tss.cs == KERNEL_CS && main_tss.tss.ss == KERNEL_DS &&
	    main_tss.tss.ds == KERNEL_DS, "CS %x SS %x DS %x", main_tss.tss.cs, main_tss.tss.ss, main_tss.tss.ds);
	check("return_restores_the_registers", ebx == 0x0B0B0B0B && esi == 0x51515151 && edi == 0xD1D1D1D1,
	    "EBX %x ESI %x EDI %x", ebx, esi, edi);
}

static void
check_tables(void)
{
	static uint64_t ldt[2];
	uint32_t cr3 = read_cr3();

	prepare_task(entered_by_call);
	set_gdt(TASK_LDT, descriptor((uint32_t)ldt, sizeof(ldt) - 1, DESC_LDT));
	task_tss.ldt = TASK_LDT;
	task_tss.cr3 = (uint32_t)other_directory;
	__asm__ volatile("lcall %0, $0; clts" : : "i"(TASK) : "memory", "cc");
	check_equal("switch_loads_ldtr", visit.ldtr, TASK_LDT);
	check_equal("switch_loads_cr3", visit.cr3, (uint32_t)other_directory);
	check_equal("return_loads_cr3_again", read_cr3(), cr3);
	/* CR3 and LDTR are loaded from a TSS and never saved into one. */
	check_equal("switch_saves_no_cr3", main_tss.tss.cr3, cr3);
}

static struct fault debug_trap;
static uint32_t debug_dr6, debug_tr;

static void
debug_trapped(struct trap_frame *frame)
{
	debug_trap = (struct fault){ .raised = true, .vector = frame->vector, .eip = frame->eip };
	debug_dr6 = read_dr6();
	__asm__ volatile("str %0" : "=r"(debug_tr));
}

/* The T bit of a TSS: a trap after the switch, before the first instruction. */
static void
check_debug_trap(void)
{
	static const char never[] = "ignores the T bit of a TSS";

	prepare_task(entered_by_call);
	task_tss.trap = 1;
	write_dr6(0);
	on_trap(VEC_DB, debug_trapped);
	__asm__ volatile("lcall %0, $0; clts" : : "i"(TASK) : "memory", "cc");
	on_trap(VEC_DB, NULL);
	check_silicon("t_bit_traps", debug_trap.raised, never);
	check_silicon("t_bit_traps_before_the_first_instruction", debug_trap.eip == (uint32_t)entered_by_call, never);
	check_silicon("t_bit_traps_in_the_new_task", (debug_tr & 0xFFFF) == TASK, never);
	check_silicon("t_bit_sets_bt", debug_dr6 & DR6_BT, never);
	check_equal("t_bit_runs_the_task_all_the_same", visit.count, 1);
}

void
check_context(void)
{
	check_registers();
	check_tables();
	check_debug_trap();
}
