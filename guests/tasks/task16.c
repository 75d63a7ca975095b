/*
 * task16.c -- a 286 task: a TSS of 44 bytes, which holds the low halves only.  [SDM 3, 7.6]
 */
#include "parts.h"

#define STACK16		0x8F00u		/* in low memory: SP has 16 bits */
#define LIMIT16		0x2Bu

extern char task16_entry[], task16_again[];
extern volatile uint16_t task16_saw[8];

void
check_16_bit(void)
{
	static struct tss16 tss;
	uint32_t cr3 = read_cr3();

	prepare_task(entered_by_call);
	tss = (struct tss16){
		.ip = 0, .flags = EFL_ONE | EFL_CF, .ax = 0x1111, .bx = 0x2222, .bp = 0x3333, .di = 0x4444,
		    .sp = STACK16,
		.cs = TASK16_CS, .ss = TASK16_SS, .ds = KERNEL_DS, .es = KERNEL_DS,
	};
	set_gdt(TASK16_CS, descriptor((uint32_t)task16_entry, 0xFFFF, DESC_CODE | DESC_B));
	set_gdt(TASK16_SS, descriptor(0, 0xFFFF, DESC_DATA));
	set_gdt(TASK16, tss_descriptor(&tss, LIMIT16, TYPE_TSS16, 0));
	__asm__ volatile("lcall %0, $0; clts" : : "i"(TASK16) : "memory", "cc");
	check("task16_loads_16_bit_registers", task16_saw[0] == 0x1111 && task16_saw[1] == 0x2222 &&
	    task16_saw[2] == 0x3333 && task16_saw[3] == 0x4444, "AX %x BX %x BP %x DI %x", task16_saw[0], task16_saw[1],
	    task16_saw[2], task16_saw[3]);
	check_equal("task16_loads_tr", task16_saw[4], TASK16);
	check("task16_loads_flags_and_nt", (task16_saw[5] & (EFL_CF | EFL_NT)) == (EFL_CF | EFL_NT), "FLAGS %x",
	    task16_saw[5]);
	check_equal("task16_keeps_cr3", task16_saw[6] | (uint32_t)task16_saw[7] << 16, cr3);
	check_equal("task16_links_back", tss.back_link, MAIN_TSS);
	check_equal("task16_saves_ip", tss.ip, (uint32_t)(task16_again - task16_entry));
	check_equal("task16_saves_sp", tss.sp, STACK16);
	check_equal("task16_returns", task_type(TASK16), TYPE_TSS16);
	set_gdt(TASK16, tss_descriptor(&tss, LIMIT16 - 1, TYPE_TSS16, 0));
	check_fault("task16_short_tss_ts", FAULT_OF("", "lcall %0, $0", "i"(TASK16)), VEC_TS, TASK16);
}
