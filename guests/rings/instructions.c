/*
 * instructions.c -- privileged instructions, port access and the interrupt flag, ring by ring.
 */
#include "attempts.h"
#include "rings_checks.h"

#define DELAY_PORT	0x80	/* the POST port: writing it disturbs nothing */

extern struct table_register table_image_for_rings;
struct table_register table_image_for_rings;	/* named in assembly */

/* Privileged: CPL must be 0.  [SDM 3, 5.9] */
ATTEMPT(hlt, "", "hlt")
ATTEMPT(clts, "", "clts")
ATTEMPT(lgdt, "", "lgdt table_image_for_rings")
ATTEMPT(lidt, "", "lidt table_image_for_rings")
ATTEMPT(lldt, "xorl %%eax, %%eax", "lldt %%ax")
ATTEMPT(ltr, "movl $0x48, %%eax", "ltr %%ax")
ATTEMPT(lmsw, "xorl %%eax, %%eax", "lmsw %%ax")
ATTEMPT(read_cr0, "", "movl %%cr0, %%eax")
ATTEMPT(write_cr3, "xorl %%eax, %%eax", "movl %%eax, %%cr3")
ATTEMPT(read_cr4, "", "movl %%cr4, %%eax")
ATTEMPT(write_dr7, "xorl %%eax, %%eax", "movl %%eax, %%db7")
ATTEMPT(invlpg, "", "invlpg 0")
ATTEMPT(wbinvd, "", "wbinvd")
ATTEMPT(rdmsr, "movl $0x174, %%ecx", "rdmsr")
ATTEMPT(wrmsr, "movl $0x174, %%ecx; xorl %%eax, %%eax; xorl %%edx, %%edx", "wrmsr")

/* Not privileged, though they read the kernel's registers: the reason why a monitor needs more than traps. */
ATTEMPT(sgdt, "", "sgdt table_image_for_rings")
ATTEMPT(sidt, "", "sidt table_image_for_rings")
ATTEMPT(sldt, "", "sldt %%eax")
ATTEMPT(str, "", "str %%eax")
ATTEMPT(smsw, "", "smsw %%eax")
ATTEMPT(cpuid, "xorl %%eax, %%eax", "cpuid")
ATTEMPT(rdtsc, "", "rdtsc")

/* IOPL-sensitive: CPL must not be above IOPL.  [SDM 1, 18.5.1] */
ATTEMPT(cli, "", "cli")
ATTEMPT(sti, "", "sti; cli")
ATTEMPT(out8, "movl $0x80, %%edx", "outb %%al, %%dx")
ATTEMPT(out16, "movl $0x80, %%edx", "outw %%ax, %%dx")
ATTEMPT(out32, "movl $0x80, %%edx", "outl %%eax, %%dx")
ATTEMPT(out_imm, "", "outb %%al, $0x80")
ATTEMPT(in8, "movl $0x80, %%edx", "inb %%dx, %%al")
ATTEMPT(outs, "movl $table_image_for_rings, %%esi; movl $0x80, %%edx", "outsb")


static const struct {
	const char *name;
	ring_function *attempt;
} privileged[] = {
	{ "hlt_gp", try_hlt }, { "clts_gp", try_clts }, { "lgdt_gp", try_lgdt }, { "lidt_gp", try_lidt },
	{ "lldt_gp", try_lldt }, { "ltr_gp", try_ltr }, { "lmsw_gp", try_lmsw }, { "read_cr0_gp", try_read_cr0 },
	{ "write_cr3_gp", try_write_cr3 }, { "read_cr4_gp", try_read_cr4 }, { "write_dr7_gp", try_write_dr7 },
	{ "invlpg_gp", try_invlpg }, { "wbinvd_gp", try_wbinvd }, { "rdmsr_gp", try_rdmsr }, { "wrmsr_gp", try_wrmsr },
}, unprivileged[] = {
	{ "sgdt_runs", try_sgdt }, { "sidt_runs", try_sidt }, { "sldt_runs", try_sldt }, { "str_runs", try_str },
	{ "smsw_runs", try_smsw }, { "cpuid_runs", try_cpuid }, { "rdtsc_runs", try_rdtsc },
};

void
check_privileged_instructions(void)
{
	int ring;
	size_t i;

	for (ring = 1; ring <= 3; ring++) {
		for (i = 0; i < sizeof(privileged) / sizeof(privileged[0]); i++)
			expect_fault(ring, privileged[i].attempt, privileged[i].name, VEC_GP, 0);
		for (i = 0; i < sizeof(unprivileged) / sizeof(unprivileged[0]); i++)
			expect_allowed(ring, unprivileged[i].attempt, unprivileged[i].name);
	}
	write_cr4(read_cr4() | CR4_TSD);
	for (ring = 1; ring <= 3; ring++)
		expect_fault(ring, try_rdtsc, "rdtsc_with_tsd_gp", VEC_GP, 0);
	expect_allowed(0, try_rdtsc, "rdtsc_with_tsd_runs");
	write_cr4(read_cr4() & ~CR4_TSD);
}

static void
allow_port(uint32_t port, bool allowed)
{
	uint8_t bit = (uint8_t)(1u << (port & 7));

	if (allowed)
		main_tss.io_map[port / 8] &= (uint8_t)~bit;
	else
		main_tss.io_map[port / 8] |= bit;
}

void
check_ports(void)
{
	int ring;

	for (ring = 1; ring <= 3; ring++) {
		uint32_t enough = EFL_IOPL(ring), too_little = EFL_IOPL(ring - 1);

		expect_fault_flags(ring, try_out8, "out_above_iopl_gp", VEC_GP, 0, too_little);
		expect_fault_flags(ring, try_in8, "in_above_iopl_gp", VEC_GP, 0, too_little);
		expect_fault_flags(ring, try_out_imm, "out_immediate_above_iopl_gp", VEC_GP, 0, too_little);
		expect_fault_flags(ring, try_outs, "outs_above_iopl_gp", VEC_GP, 0, too_little);
		expect_allowed_flags(ring, try_out8, "out_within_iopl_runs", enough);

		/* Every bit of the access's width must be clear in the map.  [SDM 1, 18.5.2] */
		main_tss.tss.io_map_base = offsetof(struct main_tss, io_map);
		expect_fault(ring, try_out8, "out_with_map_bit_set_gp", VEC_GP, 0);
		allow_port(DELAY_PORT, true);
		expect_allowed(ring, try_out8, "out_with_map_bit_clear_runs");
		expect_allowed(ring, try_outs, "outs_with_map_bit_clear_runs");
		expect_fault(ring, try_out16, "out16_with_one_bit_clear_gp", VEC_GP, 0);
		allow_port(DELAY_PORT + 1, true);
		expect_allowed(ring, try_out16, "out16_with_two_bits_clear_runs");
		expect_fault(ring, try_out32, "out32_with_two_bits_clear_gp", VEC_GP, 0);
		allow_port(DELAY_PORT, false);
		allow_port(DELAY_PORT + 1, false);
		main_tss.tss.io_map_base = NO_IO_MAP;
	}
}

/* POPF never faults in protected mode: it leaves alone what the ring may not change.  [SDM 2, POPF] */
static uint32_t
set_flags(uint32_t flags)
{
	uint32_t result;

	write_eflags(flags | EFL_ONE);
	result = read_eflags();
	write_eflags(result & ~EFL_IF);
	return result;
}

void
check_interrupt_flag(void)
{
	int ring;

	for (ring = 1; ring <= 3; ring++) {
		uint32_t flags;

		expect_fault_flags(ring, try_cli, "cli_above_iopl_gp", VEC_GP, 0, EFL_IOPL(ring - 1));
		expect_fault_flags(ring, try_sti, "sti_above_iopl_gp", VEC_GP, 0, EFL_IOPL(ring - 1));
		expect_allowed_flags(ring, try_cli, "cli_within_iopl_runs", EFL_IOPL(ring));
		flags = ring_call_flags(ring, set_flags, EFL_IF, EFL_IOPL(ring - 1));
		check(ring_name(ring, "popf_above_iopl_keeps_if"), !(flags & EFL_IF), "EFLAGS is %x", flags);
		flags = ring_call_flags(ring, set_flags, EFL_IF, EFL_IOPL(ring));
		check(ring_name(ring, "popf_within_iopl_sets_if"), flags & EFL_IF, "EFLAGS is %x", flags);
		flags = ring_call_flags(ring, set_flags, EFL_IOPL(3), 0);
		check(ring_name(ring, "popf_keeps_iopl"), !(flags & EFL_IOPL(3)), "EFLAGS is %x", flags);
	}
}
