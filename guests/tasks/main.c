/*
 * tasks -- the hardware's own task switch: a TSS is saved, another loaded, all in one instruction.  [SDM 3, chapter 7]
 *
 *		old task		new task		NT	back link
 *	JMP	becomes available	becomes busy		clear	-
 *	CALL	stays busy		becomes busy		set	the old task
 *	INT	stays busy		becomes busy		set	the old task
 *	IRET	becomes available	stays busy		-	-
 */
#include "parts.h"

#define MAPPED		(16u << 20)

struct tss32 task_tss;
page_table *other_directory;
struct visit visit;

extern uint32_t visit_registers[7], visit_eflags, visit_error;
extern char back_to_main[];
void task_visited(void);

static uint8_t stacks[2][4096];

enum system_type
task_type(uint16_t selector)
{
	return (enum system_type)(gdt[selector / 8] >> 40 & 0xF);
}

/* In the task under test. */
void
task_visited(void)
{
	uint32_t tr, ldtr;

	__asm__ volatile("str %0; sldt %1" : "=r"(tr), "=r"(ldtr));
	visit = (struct visit){
		.count = visit.count + 1, .eflags = visit_eflags, .tr = tr & 0xFFFF, .ldtr = ldtr & 0xFFFF,
		.cr0 = read_cr0(), .cr3 = read_cr3(), .eax = visit_registers[0], .ebx = visit_registers[1],
		.ecx = visit_registers[2], .edx = visit_registers[3], .ebp = visit_registers[4],
		.esi = visit_registers[5], .edi = visit_registers[6], .back_link = task_tss.back_link,
		.main_busy = task_type(MAIN_TSS) == TYPE_TSS32_BUSY, .task_busy = task_type(TASK) == TYPE_TSS32_BUSY,
		.error = visit_error,
	};
	if (visit_error)	/* it came by a fault: do not run that instruction again */
		main_tss.tss.eip = probe.recovery;
}

void
prepare_task(const void *entry)
{
	task_tss = (struct tss32){
		.esp0 = (uint32_t)stacks[0] + sizeof(stacks[0]), .ss0 = KERNEL_DS, .cr3 = read_cr3(),
		.eip = (uint32_t)entry, .eflags = EFL_ONE, .esp = (uint32_t)stacks[1] + sizeof(stacks[1]) - 16,
		.eax = 0xAAAA0001, .ebx = 0xBBBB0002, .ecx = 0xCCCC0003, .edx = 0xDDDD0004, .ebp = 0xEEEE0005,
		.esi = 0x11110006, .edi = 0x22220007, .cs = KERNEL_CS, .ss = KERNEL_DS, .ds = KERNEL_DS,
		    .es = KERNEL_DS,
		.io_map_base = NO_IO_MAP,
	};
	main_tss.tss.cr3 = read_cr3();
	visit = (struct visit){ 0 };
	visit_error = 0;
	set_gdt(TASK, tss_descriptor(&task_tss, sizeof(task_tss) - 1, TYPE_TSS32, 0));
	set_gdt(TASK_GATE, gate(TASK, 0, TYPE_TASK_GATE, 3, 0));
	idt[VEC_TASK] = gate(TASK, 0, TYPE_TASK_GATE, 3, 0);
	idt[VEC_BACK] = gate(KERNEL_CS, (uint32_t)back_to_main, TYPE_INT32, 3, 0);
}

void
guest_main(void)
{
	page_table *directory = identity_directory(MAPPED, PTE_P | PTE_W | PTE_U);

	other_directory = identity_directory(MAPPED, PTE_P | PTE_W | PTE_U);
	paging_on(directory);
	check_switches();
	check_context();
	check_16_bit();
	check_bad_tasks();
	paging_off();
}
