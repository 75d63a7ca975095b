/*
 * coprocessor.c -- #NM, #MF and #XM of the two floating-point units, and #AC.
 */
#include "faults.h"

#define CPUID_SSE	(1u << 25)	/* leaf 1, EDX */
#define MXCSR_DEFAULT	0x1F80u
#define MXCSR_ZM	0x0200u		/* masks division by zero */
#define FCW_DEFAULT	0x037Fu
#define FCW_ZM		0x0004u

static const float zero = 0.0f, one = 1.0f;
static uint32_t words[2];

static void
check_not_available(void)
{
	uint32_t cr0 = read_cr0();

	write_cr0(cr0 | CR0_TS);
	check_fault("x87_with_ts_nm", FAULT_OF("", "fld1"), VEC_NM, NO_ERROR);
	check_fault("wait_with_mp_and_ts_nm", FAULT_OF("", "fwait"), VEC_NM, NO_ERROR);
	write_cr0((cr0 | CR0_TS) & ~CR0_MP);
	check_no_fault("wait_with_ts_alone_runs", FAULT_OF("", "fwait"));
	write_cr0(cr0 | CR0_EM);
	check_fault("x87_with_em_nm", FAULT_OF("", "fld1"), VEC_NM, NO_ERROR);
	check_no_fault("wait_with_em_alone_runs", FAULT_OF("", "fwait"));
	write_cr0(cr0 | CR0_TS);
	__asm__ volatile("clts");
	check("clts_clears_ts", !(read_cr0() & CR0_TS), "CR0 is %x", read_cr0());
	write_cr0(cr0);
}

/* With CR0.NE an unmasked x87 exception is raised by the next waiting instruction, not by the one that caused it. */
static void
check_x87_error(void)
{
	uint16_t unmasked = FCW_DEFAULT & ~FCW_ZM;
	struct fault fault;

	fault = FAULT_OF("fninit; fldcw %0; fld1; fdivs %1", "fwait", "m"(unmasked), "m"(zero));
	check_fault("x87_error_at_wait_mf", fault, VEC_MF, NO_ERROR);
	__asm__ volatile("fninit");
	fault = FAULT_OF("fninit; fldcw %0; fld1; fdivs %1", "fld1", "m"(unmasked), "m"(zero));
	check_fault_silicon("x87_error_at_next_instruction_mf", fault, VEC_MF, NO_ERROR, "raises #MF at WAIT only");
	__asm__ volatile("fninit");
	check_no_fault("fnclex_does_not_wait", FAULT_OF("fninit; fldcw %0; fld1; fdivs %1", "fnclex; fwait",
	    "m"(unmasked), "m"(zero)));
	check_no_fault("masked_x87_error_runs", FAULT_OF("fninit; fld1; fdivs %0", "fwait", "m"(zero)));
	__asm__ volatile("fninit");
}

static struct fault
divide_by_zero_in_sse(uint32_t mxcsr)
{
	uint32_t saved = MXCSR_DEFAULT;

	return FAULT_OF("ldmxcsr %0; movss %1, %%xmm0; movss %2, %%xmm1", "divss %%xmm1, %%xmm0; ldmxcsr %3",
	    "m"(mxcsr), "m"(one), "m"(zero), "m"(saved));
}

static void
check_sse(void)
{
	uint32_t mxcsr = MXCSR_DEFAULT, reserved = 0xFFFF0000u;
	struct fault fault;

	if (!(cpuid(1).edx & CPUID_SSE)) {
		skip("sse_faults", "CPUID does not announce SSE");
		return;
	}
	check_fault("sse_without_osfxsr_ud", FAULT_OF("", "xorps %%xmm0, %%xmm0"), VEC_UD, NO_ERROR);
	write_cr4(read_cr4() | CR4_OSFXSR);
	check_no_fault("sse_with_osfxsr_runs", FAULT_OF("", "xorps %%xmm0, %%xmm0"));
	write_cr0(read_cr0() | CR0_TS);
	check_fault("sse_with_ts_nm", FAULT_OF("", "xorps %%xmm0, %%xmm0"), VEC_NM, NO_ERROR);
	write_cr0(read_cr0() | CR0_EM);
	check_fault_silicon("sse_with_em_ud", FAULT_OF("", "xorps %%xmm0, %%xmm0"), VEC_UD, NO_ERROR,
	    "looks at TS first");
	write_cr0(read_cr0() & ~(CR0_EM | CR0_TS));

	fault = divide_by_zero_in_sse(MXCSR_DEFAULT & ~MXCSR_ZM);
	check_silicon("sse_error_without_osxmmexcpt_ud", is_fault(fault, VEC_UD, NO_ERROR) && !fault.at,
	    "raises nothing for unmasked SSE exceptions");
	write_cr4(read_cr4() | CR4_OSXMMEXCPT);
	fault = divide_by_zero_in_sse(MXCSR_DEFAULT & ~MXCSR_ZM);
	check_silicon("sse_error_xm", is_fault(fault, VEC_XM, NO_ERROR) && !fault.at,
	    "raises nothing for unmasked SSE exceptions");
	check_no_fault("masked_sse_error_runs", divide_by_zero_in_sse(MXCSR_DEFAULT));
	check_fault_silicon("ldmxcsr_reserved_bits_gp", FAULT_OF("", "ldmxcsr %0", "m"(reserved)), VEC_GP, 0,
	    "accepts reserved bits of MXCSR");
	fault = FAULT_OF("", "movaps words_odd, %%xmm0");
	check_silicon("movaps_misaligned_gp", is_fault(fault, VEC_GP, 0) && !fault.at, "does not check the alignment");
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	write_cr4(read_cr4() & ~(CR4_OSFXSR | CR4_OSXMMEXCPT));
}

__asm__(".bss; .balign 16; .byte 0; words_odd: .skip 31; .text");

static uint32_t
read_misaligned(uint32_t address)
{
	FAULT_OF("", "movl (%0), %%eax", "r"(address));
	return 0;
}

/* Ring 3 only, and only with both CR0.AM and EFLAGS.AC.  [SDM 3, 6.15, #AC] */
static void
check_alignment(void)
{
	uint32_t odd = (uint32_t)words + 1;
	const char *not_checked = "does not check alignment";

	write_cr0(read_cr0() | CR0_AM);
	ring_call_flags(3, read_misaligned, odd, EFL_AC);
	check_silicon("ring3_misaligned_read_ac", is_fault(probe.seen, VEC_AC, 0), not_checked);
	ring_call_flags(3, read_misaligned, odd, 0);
	check_no_fault("misaligned_read_without_ac_runs", probe.seen);
	ring_call_flags(3, read_misaligned, (uint32_t)words, EFL_AC);
	check_no_fault("aligned_read_with_ac_runs", probe.seen);
	ring_call_flags(2, read_misaligned, odd, EFL_AC);
	check_no_fault("ring2_misaligned_read_runs", probe.seen);
	write_cr0(read_cr0() & ~CR0_AM);
	ring_call_flags(3, read_misaligned, odd, EFL_AC);
	check_no_fault("misaligned_read_without_am_runs", probe.seen);
}

void
check_coprocessor(void)
{
	check_not_available();
	check_x87_error();
	check_sse();
	check_alignment();
}
