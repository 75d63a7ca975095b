/*
 * apic.c -- the local APIC: access, and what one processor can find out alone.  [SDM 3, chapter 10]
 */
#include "parts.h"

#define CPUID_APIC	(1u << 9)	/* leaf 1, EDX */
#define MSR_APIC_BASE	0x1B
#define APIC_GLOBAL	(1u << 11)
#define SVR_ENABLE	0x100u
#define SPURIOUS	0xFFu
#define VEC_SELF	0x51
#define VEC_HELD	0x52

bool
has_apic(void)
{
	return cpuid(1).edx & CPUID_APIC && read_msr(MSR_APIC_BASE) & APIC_GLOBAL;
}

uint32_t
apic_read(uint32_t reg)
{
	return *(volatile uint32_t *)(APIC_BASE + reg);
}

void
apic_write(uint32_t reg, uint32_t value)
{
	*(volatile uint32_t *)(APIC_BASE + reg) = value;
}

void
apic_eoi(void)
{
	apic_write(APIC_EOI, 0);
}

uint32_t
my_id(void)
{
	return apic_read(APIC_ID) >> 24;
}

/* Flat logical destinations: bit n is processor n. */
void
apic_enable(void)
{
	apic_write(APIC_SVR, SVR_ENABLE | SPURIOUS);
	apic_write(APIC_TPR, 0);
	apic_write(APIC_DFR, ~0u);
	apic_write(APIC_LDR, 1u << (24 + my_id()));
}

void
send_ipi(uint32_t icr, uint32_t destination)
{
	apic_write(APIC_ICR_HIGH, destination << 24);
	apic_write(APIC_ICR, icr);
	while (apic_read(APIC_ICR) & ICR_PENDING)
		relax();
}

/* ---- alone ---- */

static volatile uint32_t seen[8], seen_count;

static void
note(struct trap_frame *frame)
{
	seen[seen_count++ & 7] = frame->vector;
	apic_eoi();
}

static void
open_window(void)
{
	interrupts_on();
	__asm__ volatile("nop; nop");
	interrupts_off();
}

static void
check_taken_once(const char *name, uint32_t icr, uint32_t destination)
{
	seen_count = 0;
	send_ipi(icr | VEC_SELF, destination);
	open_window();
	check(name, seen_count == 1 && seen[0] == VEC_SELF, "%u taken, the first is %x", seen_count, seen[0]);
}

void
check_self(void)
{
	uint32_t early;

	on_trap(VEC_SELF, note);
	on_trap(VEC_HELD, note);
	on_trap(VEC_COUNT_HIGH, note);
	check_equal("apic_is_an_integrated_one", apic_read(APIC_VERSION) & 0xF0, 0x10);
	check_equal("apic_id_is_cpuids", my_id(), cpuid(1).ebx >> 24);

	seen_count = 0;
	send_ipi(ICR_SELF | VEC_SELF, 0);
	early = seen_count;
	open_window();
	check("ipi_waits_for_if", early == 0 && seen_count == 1, "%u taken before, %u after", early, seen_count);
	check_taken_once("ipi_to_self_by_shorthand", ICR_SELF, 0);
	check_taken_once("ipi_to_self_by_physical_destination", ICR_FIXED, my_id());
	check_taken_once("ipi_to_self_by_logical_destination", ICR_LOGICAL, 1u << my_id());

	seen_count = 0;
	send_ipi(ICR_SELF | VEC_SELF, 0);
	send_ipi(ICR_SELF | VEC_COUNT_HIGH, 0);
	open_window();
	check("higher_vector_comes_first", seen_count == 2 && seen[0] == VEC_COUNT_HIGH && seen[1] == VEC_SELF,
	    "%u taken: %x, %x", seen_count, seen[0], seen[1]);

	seen_count = 0;
	apic_write(APIC_TPR, 0x50);
	send_ipi(ICR_SELF | VEC_HELD, 0);
	send_ipi(ICR_SELF | VEC_COUNT_HIGH, 0);
	open_window();
	early = seen_count;
	apic_write(APIC_TPR, 0);
	open_window();
	check("task_priority_holds_its_class_back", early == 1 && seen[0] == VEC_COUNT_HIGH && seen_count == 2,
	    "%u taken before TPR is lowered, %u after", early, seen_count);
	on_trap(VEC_COUNT_HIGH, NULL);
}
