/*
 * rings -- four rings of protection, walked through one by one.
 *
 * Ring 0 starts programs in rings 1, 2 and 3.  They print by a call gate, for the serial port is not theirs.  A call
 * travels from ring 3 through rings 2 and 1 to ring 0 and back.  Then each ring tries what it may not do.
 */
#include "guest.h"
#include "call_gates.h"
#include "rings_checks.h"

void kernel_say(uint32_t depth, const char *text);
void going_in(void);
void coming_out(void);
uint32_t innermost(uint32_t value);
extern char gate_say[], gate_sum[], step_ring2[], step_ring1[], step_ring0[], conforming_ring[];
extern uint32_t gate_saw_esp;

#define CHAIN_VALUE	0x1234

static uint8_t rings_seen[8];
static uint32_t rings_count;

/* In ring 0, whoever called. */
void
kernel_say(uint32_t depth, const char *text)
{
	uint32_t i;

	for (i = 0; i < depth; i++)
		put_text("    ");
	print("ring %u: %s\n", depth, text);
}

static void
say(const char *text)
{
	__asm__ volatile("pushl %1; pushl %0; lcall %2, $0" : : "r"(current_ring()), "r"(text), "i"(GATE_SAY) :
	    "eax", "ecx", "edx", "memory");
}

void
going_in(void)
{
	rings_seen[rings_count++] = (uint8_t)current_ring();
	say("called from the next outer ring");
}

void
coming_out(void)
{
	rings_seen[rings_count++] = (uint8_t)current_ring();
	say("the inner ring has returned");
}

uint32_t
innermost(uint32_t value)
{
	say("the innermost: it doubles the number it was given");
	return value * 2;
}

static uint32_t
introduce(uint32_t expected_ring)
{
	say("here; CS says so in its low two bits");
	return (uint32_t)current_ring() == expected_ring;
}

static uint32_t
call_chain(uint32_t value)
{
	uint32_t doubled;

	say("I call ring 2 by its gate");
	__asm__ volatile("pushl %1; lcall %2, $0" : "=a"(doubled) : "r"(value), "i"(GATE_TO_RING2) :
	    "ecx", "edx", "memory");
	say("back in ring 3");
	return doubled;
}

/* Returns the sum, or 0 if ESP is not what it was; LRET n must drop the parameters from both stacks. */
static uint32_t
call_sum(uint32_t a)
{
	uint32_t sum, lost;

	__asm__ volatile("movl %%esp, %%ebx; pushl $1000; pushl $300; pushl $70; pushl $6; pushl %2; lcall %3, $0;"
	    "subl %%esp, %%ebx" : "=a"(sum), "=&b"(lost) : "r"(a), "i"(GATE_SUM) : "ecx", "edx", "memory");
	return lost ? 0 : sum;
}

static uint32_t
call_conforming(uint32_t unused)
{
	uint32_t cs;

	(void)unused;
	__asm__ volatile("lcall %1, $conforming_ring" : "=a"(cs) : "i"(CONFORMING_CS) : "ecx", "edx", "memory");
	return cs;
}

static void
open_gates(void)
{
	set_gdt(GATE_SAY, gate(KERNEL_CS, (uint32_t)gate_say, TYPE_CALL32, 3, 2));
	set_gdt(GATE_SUM, gate(KERNEL_CS, (uint32_t)gate_sum, TYPE_CALL32, 3, 5));
	set_gdt(GATE_TO_RING2, gate(RING2_CS, (uint32_t)step_ring2, TYPE_CALL32, 3, 1));
	set_gdt(GATE_TO_RING1, gate(RING1_CS, (uint32_t)step_ring1, TYPE_CALL32, 2, 1));
	set_gdt(GATE_TO_RING0, gate(KERNEL_CS, (uint32_t)step_ring0, TYPE_CALL32, 1, 1));
	set_gdt(CONFORMING_CS, descriptor(0, 0xFFFFF, DESC_CONFORMING | DESC_FLAT | DESC_DPL(0)));
	set_gdt(READABLE_DS, descriptor(0, 0xFFFFF, DESC_P | DESC_S | DESC_TYPE(0) | DESC_FLAT | DESC_DPL(3)));
	main_tss.tss.ss1 = RING1_DS;
	main_tss.tss.esp1 = ring_stack(1);
	main_tss.tss.ss2 = RING2_DS;
	main_tss.tss.esp2 = ring_stack(2);
}

static void
walk_rings(void)
{
	static const char *const names[] = { "", "program_in_ring1", "program_in_ring2", "program_in_ring3" };
	int ring;

	for (ring = 1; ring <= 3; ring++) {
		kernel_say(0, "starting a program by IRET");
		check(names[ring], ring_call(ring, introduce, (uint32_t)ring), "CPL is wrong");
	}
	check("back_in_ring0", current_ring() == 0, "CPL is %d", current_ring());
}

static void
walk_gates(void)
{
	static const uint8_t expected[] = { 2, 1, 0, 0, 1, 2 };
	int ring;

	kernel_say(0, "a program in ring 3 calls inward through three gates");
	check_equal("gates_carry_the_value", ring_call(3, call_chain, CHAIN_VALUE), 2 * CHAIN_VALUE);
	check("gates_pass_every_ring", rings_count == sizeof(expected) &&
	    !memcmp(rings_seen, expected, sizeof(expected)), "%u stops", rings_count);

	check_equal("gate_copies_five_parameters", ring_call(3, call_sum, 50000), 51376);
	check("gate_saves_the_callers_esp", gate_saw_esp > ring_stack(3) - 256 && gate_saw_esp < ring_stack(3),
	    "it is %x", gate_saw_esp);
	check_equal("gate_from_ring0_keeps_the_stack", call_sum(50000), 51376);

	for (ring = 1; ring <= 3; ring++)
		if (ring_call(ring, call_conforming, 0) != (uint32_t)(CONFORMING_CS | ring))
			break;
	check("conforming_code_keeps_the_ring", ring == 4, "not in ring %d", ring);
}

void
guest_main(void)
{
	open_gates();
	kernel_say(0, "the kernel");
	walk_rings();
	walk_gates();
	kernel_say(0, "now what each ring may not do");
	check_privileged_instructions();
	check_ports();
	check_interrupt_flag();
	check_segment_loads();
	check_transfers();
	check_supervisor_pages();
	kernel_say(0, "and how they work when nobody disturbs them but the timer");
	check_bursts();
}
