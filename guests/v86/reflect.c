/*
 * reflect.c -- INT in virtual-8086 mode: through the IDT, or to a monitor that acts as the 8086 would; and VME, with
 * which the processor does that itself.  [SDM 3, 20.3 and 20.5]
 */
#include "parts.h"

#define VECTOR		0x81
#define SERVICE		0x60
#define CPUID_VME	(1u << 1)	/* leaf 1, EDX */
#define REDIRECTION	32		/* bytes, one bit for each vector, below the I/O bitmap */

static uint32_t interrupts;

static void
by_idt(struct trap_frame *frame)
{
	v86_end = v86_frame(frame);
	ring_call_end((struct fault){ .raised = true, .vector = frame->vector });
}

static volatile uint16_t *
low_words(void)
{
	volatile uint16_t *words = (volatile uint16_t *)0;

	__asm__("" : "+r"(words));
	return words;
}

static void
set_vector(uint32_t vector, const char *handler)
{
	low_words()[vector * 2] = (uint16_t)v86_offset(handler);
	low_words()[vector * 2 + 1] = V86_SEGMENT;
}

static void
check_through_idt(void)
{
	uint64_t saved = idt[VECTOR];

	idt[VECTOR] = gate(KERNEL_CS, trap_stub(VECTOR), TYPE_INT32, 3, 0);
	on_trap(VECTOR, by_idt);
	v86_run(prog_int, EFL_IOPL(3));
	check("iopl3_int_goes_through_the_idt", v86_end.vector == VECTOR && v86_end.eflags & EFL_VM, "vector %u",
	    v86_end.vector);
	idt[VECTOR] = gate(KERNEL_CS, trap_stub(VECTOR), TYPE_INT32, 0, 0);
	v86_run(prog_int, EFL_IOPL(3));
	check("iopl3_int_to_a_gate_of_dpl0_gp", v86_end.vector == VEC_GP && v86_end.error == VECTOR * 8 + 2,
	    "vector %u error %x", v86_end.vector, v86_end.error);
	idt[VECTOR] = gate(RING1_CS, trap_stub(VECTOR), TYPE_INT32, 3, 0);
	v86_run(prog_int, EFL_IOPL(3));
	check_silicon("iopl3_int_to_ring1_gp", v86_end.vector == VEC_GP && v86_end.error == (RING1_CS & ~RPL_MASK),
	    "lets V86 mode interrupt to ring 1");
	idt[VECTOR] = saved;

	/* INT3 and INTO do not ask for IOPL. */
	v86_run(prog_int3, 0);
	check("iopl0_int3_goes_through_the_idt", v86_end.vector == VEC_BP && v86_end.eip == v86_offset(int3_next),
	    "vector %u at %x", v86_end.vector, v86_end.eip);
	v86_run(prog_into, 0);
	check_equal("iopl0_into_goes_through_the_idt", v86_end.vector, VEC_OF);
}

/* A monitor in a few lines: INT, IRET and PUSHF as an 8086 does them. */
static void
monitor(struct trap_frame *frame)
{
	const uint8_t *code = (const uint8_t *)(((frame->cs & 0xFFFF) << 4) + frame->eip);
	volatile uint16_t *stack = (volatile uint16_t *)(((frame->ss & 0xFFFF) << 4) + (frame->esp & 0xFFFF));

	switch (code[0]) {
	case OP_INT:
		interrupts++;
		stack[-1] = (uint16_t)frame->eflags;
		stack[-2] = (uint16_t)frame->cs;
		stack[-3] = (uint16_t)(frame->eip + 2);
		frame->esp -= 6;
		frame->eip = low_words()[code[1] * 2];
		frame->cs = low_words()[code[1] * 2 + 1];
		break;
	case OP_IRET:
		frame->eip = stack[0];
		frame->cs = stack[1];
		frame->eflags = (frame->eflags & 0xFFFF0000) | stack[2];
		frame->esp += 6;
		break;
	case OP_PUSHF:
		stack[-1] = (uint16_t)frame->eflags;
		frame->esp -= 2;
		frame->eip++;
		break;
	default:
		by_idt(frame);
	}
}

void
check_interrupts(void)
{
	uint16_t saved[2] = { low_words()[SERVICE * 2], low_words()[SERVICE * 2 + 1] };

	check_through_idt();
	set_vector(SERVICE, prog_service);
	interrupts = 0;
	on_trap(VEC_GP, monitor);
	v86_run(prog_reflect, 0);
	check("reflected_int_ends_at_the_hlt", v86_halted() && interrupts == 1, "vector %u at %x", v86_end.vector,
	    v86_end.eip);
	check_equal("reflected_int_is_served", v86_word(saw_service), 1235);
	check("reflected_iret_restores_flags", v86_word(saw_flags) & EFL_CF, "FLAGS %x", v86_word(saw_flags));
	v86_init();
	low_words()[SERVICE * 2] = saved[0];
	low_words()[SERVICE * 2 + 1] = saved[1];
}

void
check_vme(void)
{
	uint16_t saved[2] = { low_words()[SERVICE * 2], low_words()[SERVICE * 2 + 1] };

	if (!(cpuid(1).edx & CPUID_VME)) {
		skip("vme", "CPUID does not announce VME");
		return;
	}
	write_cr4(read_cr4() | CR4_VME);
	/* With IOPL below 3 the interrupt flag that the program sees is VIF; PUSHF shows IOPL 3. */
	v86_run(prog_vme_flags, EFL_VIF | EFL_IF);
	check("vme_cli_and_sti_run_with_iopl0", v86_halted(), "vector %u at %x", v86_end.vector, v86_end.eip);
	check("vme_cli_clears_vif", !(v86_word(saw_flags) & EFL_IF), "FLAGS %x", v86_word(saw_flags));
	check("vme_sti_sets_vif", v86_word(saw_flags2) & EFL_IF, "FLAGS %x", v86_word(saw_flags2));
	check_equal("vme_pushf_shows_iopl3", v86_word(saw_flags) & EFL_IOPL(3), EFL_IOPL(3));
	check("vme_leaves_if_alone", v86_end.eflags & EFL_IF && v86_end.eflags & EFL_VIF, "EFLAGS %x", v86_end.eflags);
	v86_run(prog_vme_sti, EFL_VIP);
	check("vme_sti_with_vip_gp", v86_end.vector == VEC_GP && v86_end.eip == v86_offset(prog_vme_sti),
	    "vector %u at %x", v86_end.vector, v86_end.eip);

	/* The redirection bitmap: a clear bit sends the INT to the program's own table. */
	memset(main_tss.io_map, 0xFF, REDIRECTION);
	main_tss.io_map[SERVICE / 8] &= (uint8_t)~(1u << SERVICE % 8);
	main_tss.tss.io_map_base = offsetof(struct main_tss, io_map) + REDIRECTION;
	set_vector(SERVICE, prog_service);
	v86_run(prog_vme_int, EFL_VIF);
	check("vme_redirects_int", v86_halted() && v86_word(saw_service) == 1235, "vector %u error %x at %x, AX %u",
	    v86_end.vector, v86_end.error, v86_end.eip, v86_word(saw_service));
	main_tss.io_map[SERVICE / 8] |= (uint8_t)(1u << SERVICE % 8);
	v86_run(prog_vme_int, 0);
	check("vme_int_not_redirected_gp", v86_end.vector == VEC_GP && !v86_halted(), "vector %u at %x", v86_end.vector,
	    v86_end.eip);
	main_tss.tss.io_map_base = NO_IO_MAP;
	write_cr4(read_cr4() & ~CR4_VME);
	low_words()[SERVICE * 2] = saved[0];
	low_words()[SERVICE * 2 + 1] = saved[1];
}
