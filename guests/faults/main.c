/*
 * faults -- every exception that software can provoke, and which comes first when there are two reasons.
 *
 * A fault points at the instruction and can be repaired; a trap points behind it; an abort (#DF) points anywhere.
 * [SDM 3, 6.5]  Not here: NMI (2), the coprocessor overrun of the 386 (9), machine check (18).
 */
#include "faults.h"

#define MAPPED	(16u << 20)

bool
check_trap(const char *name, struct fault fault, enum vector vector, uint32_t length)
{
	if (!fault.raised || fault.vector != vector)
		return check(name, false, "vector %u error %x, expected vector %u", fault.vector, fault.error, vector);
	return check(name, fault.at == length, "EIP is %d bytes on, expected %u", (int)fault.at, length);
}

page_table *
fault_directory(void)
{
	static page_table *directory;

	if (!directory) {
		directory = identity_directory(MAPPED, PTE_P | PTE_W | PTE_U);
		map_page(directory, HOLE, 0, 0);
	}
	return directory;
}

/*
 * A fault pushes EFLAGS with RF set, so that IRET can step over a breakpoint on the same instruction. [SDM 3,
 * 17.3.1.1]
 */
static void
check_resume_flag(void)
{
	struct fault fault = FAULT_OF("", "ud2"), trap = FAULT_OF("", "int3");

	check_silicon("fault_pushes_rf", fault.eflags & EFL_RF, "pushes RF as it was");
	check("trap_pushes_no_rf", !(trap.eflags & EFL_RF), "EFLAGS is %x", trap.eflags);
}

void
guest_main(void)
{
	check_resume_flag();
	check_arithmetic();
	check_debug();
	check_invalid();
	check_coprocessor();
	check_selectors();
	check_limits();
	check_pages();
	check_page_order();
	check_priorities();
	check_double_fault();
	check_silicon_habits();
}
