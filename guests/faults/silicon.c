/*
 * silicon.c -- points where emulators are known to differ from every processor.
 *
 * Some are in the manual (a 16-bit gate has a 16-bit offset), some only in the silicon (F6 /1 is TEST again).  Here
 * the processor is right, and an emulator that differs is named.
 */
#include "faults.h"

#define GATE_VECTOR	0x91
#define CALL_GATE_16	0x88
#define LOW_MEMORY	0x10000u	/* a 16-bit offset reaches this far */

extern char misled_code[], landed_code[], landed_code_end[];
extern uint32_t landing;

/*
 * Two pieces of code whose addresses have the same low 16 bits: `misled_code`, and a copy of `landed_code` in low
 * memory.  Both leave by the recovery, which restores the stack.
 */
__asm__(
    ".text; .balign 4096; .skip 2048\n"
    "misled_code: movl $1, landing; jmp *probe\n"
    "landed_code: movl $2, landing; jmp *probe\n"
    "landed_code_end:\n"
    ".bss; .balign 4; landing: .skip 4; .text\n");

/* A 286 gate has 16 bits of offset; the upper word is not part of it.  [SDM 3, 21.2] */
static void
check_286_gates(void)
{
	uint8_t *low = (uint8_t *)((uint32_t)misled_code % LOW_MEMORY);
	static uint8_t saved[64];
	size_t size = (size_t)(landed_code_end - landed_code);

	memcpy(saved, low, size);
	memcpy(low, landed_code, size);
	idt[GATE_VECTOR] = gate(KERNEL_CS, (uint32_t)misled_code, TYPE_INT16, 0, 0);
	landing = 0;
	FAULT_OF("", "int $0x91");
	check_silicon("interrupt_gate_286_has_16_offset_bits", landing == 2, "uses 32 offset bits of a 286 gate");
	set_gdt(CALL_GATE_16, gate(KERNEL_CS, (uint32_t)misled_code, TYPE_CALL16, 0, 0));
	landing = 0;
	FAULT_OF("", "lcall %0, $0", "i"(CALL_GATE_16));
	check_silicon("call_gate_286_has_16_offset_bits", landing == 2, "uses 32 offset bits of a 286 gate");
	memcpy(low, saved, size);
}

/* Compare EDX:EAX = `compare` with `value` under CMPXCHG8B and return EFLAGS, which were `flags` before. */
static uint32_t
flags_of_cmpxchg8b(uint64_t value, uint64_t compare, uint32_t flags)
{
	static uint64_t memory;		/* not on the stack, which the assembly moves */
	uint32_t result = flags;

	memory = value;
	__asm__ volatile("pushl %%ebx; pushl %%ecx; popfl; cmpxchg8b %2; pushfl; popl %%ecx; popl %%ebx"
	    : "+c"(result), "+A"(compare), "+m"(memory) : : "cc");
	return result;
}

/* CMPXCHG8B changes ZF only.  [SDM 2, CMPXCHG8B] */
static void
check_cmpxchg8b_flags(void)
{
	const uint32_t others = EFL_CF | EFL_PF | EFL_AF | EFL_SF | EFL_OF;
	uint32_t unequal = flags_of_cmpxchg8b(1, 2, others | EFL_ZF), equal = flags_of_cmpxchg8b(1, 1, others);

	check("cmpxchg8b_unequal_clears_zf", !(unequal & EFL_ZF), "EFLAGS %x", unequal);
	check("cmpxchg8b_equal_sets_zf", equal & EFL_ZF, "EFLAGS %x", equal);
	check_silicon("cmpxchg8b_unequal_keeps_the_other_flags", (unequal & others) == others, "clears PF");
	check_silicon("cmpxchg8b_equal_keeps_the_other_flags", (equal & others) == others, "clears PF");
	unequal = flags_of_cmpxchg8b(1, 2, 0);
	check("cmpxchg8b_sets_no_other_flag", !(unequal & others), "EFLAGS %x", unequal);
}

/* Group 3 /1 has no name, and is TEST on every Intel processor. */
static void
check_test_alias(void)
{
	uint32_t flags = 0;
	struct fault fault;

	fault = FAULT_OF("xorl %%eax, %%eax", ".byte 0xF6, 0xC8, 0xFF; pushfl; popl %0", "m"(flags));
	check_silicon("group3_f6_1_is_test", !fault.raised && flags & EFL_ZF, "raises #UD");
	fault = FAULT_OF("", ".byte 0xF7, 0xC8, 1, 0, 0, 0");
	check_silicon("group3_f7_1_is_test", !fault.raised, "raises #UD");
}

/* BSWAP of 16 bits is undefined; the processors give 0. */
static void
check_bswap16(void)
{
	uint32_t value = 0x12345678;

	__asm__(".byte 0x66; bswap %0" : "+a"(value));
	check_silicon("bswap16_gives_0", value == 0x12340000, "swaps as if it were 32 bits, or leaves the register");
}

/* BSF of zero is undefined in the manual; every processor sets ZF and leaves the destination. */
static void
check_bsf_of_zero(void)
{
	uint32_t value = 0x12345678, flags;

	__asm__ volatile("bsfl %2, %0; pushfl; popl %1" : "+r"(value), "=r"(flags) : "r"(0) : "cc");
	check_silicon("bsf_of_zero_keeps_the_destination", value == 0x12345678 && flags & EFL_ZF,
	    "changes the destination");
}

void
check_silicon_habits(void)
{
	check_286_gates();
	check_cmpxchg8b_flags();
	check_test_alias();
	check_bswap16();
	check_bsf_of_zero();
}
