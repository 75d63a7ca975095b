/*
 * gates.c -- opening the shortest ways into ring 0.
 */
#include "gates.h"
#include "cpu.h"

#define CPUID_SEP	(1u << 11)	/* leaf 1, EDX */
#define SYSENTER_STACK	1024

extern char bare_iret[], bare_lret[], bare_sysexit[];

bool
has_sysenter(void)
{
	return cpuid(1).edx & CPUID_SEP;
}

void
bare_gates_init(void)
{
	static uint8_t stack[SYSENTER_STACK];

	idt[VEC_BARE] = gate(KERNEL_CS, (uint32_t)bare_iret, TYPE_INT32, 3, 0);
	set_gdt(BARE_GATE, gate(KERNEL_CS, (uint32_t)bare_lret, TYPE_CALL32, 3, 0));
	if (!has_sysenter())
		return;
	write_msr(MSR_SYSENTER_CS, KERNEL_CS);
	write_msr(MSR_SYSENTER_ESP, (uint32_t)stack + sizeof(stack));
	write_msr(MSR_SYSENTER_EIP, (uint32_t)bare_sysexit);
}
