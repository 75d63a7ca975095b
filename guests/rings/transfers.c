/*
 * transfers.c -- segment loads, transfers between rings, and pages of the supervisor.
 */
#include "attempts.h"
#include "call_gates.h"
#include "rings_checks.h"

#define STRING(x)	#x
#define NUMBER(x)	STRING(x)
#define KERNEL_MEMORY	(16u << 20)	/* how much is mapped one to one: the image and its tables */

static const uint16_t data_of_ring[4] = { KERNEL_DS, RING1_DS, RING2_DS, USER_DS };
static const uint16_t code_of_ring[4] = { KERNEL_CS, RING1_CS, RING2_CS, USER_CS };

static const char *const inner_ds[4] = { "ds_of_ring0_gp", "ds_of_ring1_gp", "ds_of_ring2_gp", "ds_of_ring3_gp" };
static const char *const outer_ds[4] = { "", "ds_of_ring1_loads", "ds_of_ring2_loads", "ds_of_ring3_loads" };
static const char *const other_ss[4] = { "ss_of_ring0_gp", "ss_of_ring1_gp", "ss_of_ring2_gp", "ss_of_ring3_gp" };

/* The selector that an attempt loads. */
static uint32_t selector;

#define LOAD_SELECTOR "pushl %%ds; movl %0, %%eax"

static uint32_t
try_load_ds(uint32_t unused)
{
	(void)unused;
	FAULT_OF(LOAD_SELECTOR, "movl %%eax, %%ds; popl %%ds", "m"(selector));
	return 0;
}

static uint32_t
try_load_ss(uint32_t unused)
{
	(void)unused;
	FAULT_OF("movl %0, %%eax; movl %%ss, %%edx", "movl %%eax, %%ss; movl %%edx, %%ss", "m"(selector));
	return 0;
}

/* A far return: the one way to name a code segment that is only known at run time. */
static uint32_t
try_return_to(uint32_t unused)
{
	(void)unused;
	FAULT_OF("pushl %0; pushl $7f", "lret; 7:", "m"(selector));
	return 0;
}

static uint32_t
try_jump_to(uint32_t unused)
{
	static struct { uint32_t offset; uint16_t selector; } __attribute__((packed)) far;

	(void)unused;
	far.selector = (uint16_t)selector;
	FAULT_OF("movl $7f, %0", "ljmp *%0; 7:", "m"(far));
	return 0;
}

ATTEMPT(ring0_only_gate, "pushl $0", "lcall $" NUMBER(GATE_TO_RING0) ", $0")
ATTEMPT(ring2_gate, "pushl $0", "lcall $" NUMBER(GATE_TO_RING1) ", $0")
ATTEMPT(jump_inward, "", "ljmp $" NUMBER(GATE_SAY) ", $0")
ATTEMPT(int_0x20, "", "int $0x20")
ATTEMPT(int3, "", "int3")

void
check_segment_loads(void)
{
	int ring, target;

	/* Data: DPL must be at or outside both CPL and RPL.  [SDM 3, 5.6] */
	for (ring = 1; ring <= 3; ring++) {
		for (target = 0; target <= 3; target++) {
			selector = data_of_ring[target];
			if (target < ring)
				expect_fault(ring, try_load_ds, inner_ds[target], VEC_GP, selector & ~RPL_MASK);
			else
				expect_allowed(ring, try_load_ds, outer_ds[target]);
		}
		/* The stack segment must be of this ring exactly.  [SDM 3, 5.7] */
		for (target = 0; target <= 3; target++) {
			selector = data_of_ring[target];
			if (target != ring)
				expect_fault(ring, try_load_ss, other_ss[target], VEC_GP, selector & ~RPL_MASK);
		}
		selector = READABLE_DS | (uint32_t)ring;
		expect_fault(ring, try_load_ss, "ss_not_writable_gp", VEC_GP, READABLE_DS);
		selector = 0;
		expect_fault(ring, try_load_ss, "ss_null_gp", VEC_GP, 0);
		expect_allowed(ring, try_load_ds, "ds_null_loads");
	}
}

void
check_transfers(void)
{
	int ring;

	for (ring = 1; ring <= 3; ring++) {
		/* RET goes outward or stays; only a gate leads inward.  [SDM 3, 5.8.6] */
		selector = code_of_ring[ring - 1];
		expect_fault(ring, try_return_to, "far_return_inward_gp", VEC_GP, selector & ~RPL_MASK);
		expect_fault(ring, try_jump_to, "far_jump_inward_gp", VEC_GP, selector & ~RPL_MASK);
		selector = code_of_ring[ring];
		expect_allowed(ring, try_return_to, "far_return_to_this_ring_runs");
		expect_allowed(ring, try_jump_to, "far_jump_to_this_ring_runs");
		if (ring < 3) {
			selector = code_of_ring[ring + 1];
			expect_fault(ring, try_jump_to, "far_jump_outward_gp", VEC_GP, selector & ~RPL_MASK);
		}
		/* JMP through a gate cannot change the ring. */
		expect_fault(ring, try_jump_inward, "jump_through_gate_inward_gp", VEC_GP, KERNEL_CS);
		expect_fault(ring, try_int_0x20, "int_to_a_gate_of_dpl0_gp", VEC_GP, VEC_IRQ * 8 + 2);
	}
	expect_fault(2, try_ring0_only_gate, "gate_of_dpl1_gp", VEC_GP, GATE_TO_RING0);
	expect_fault(3, try_ring0_only_gate, "gate_of_dpl1_gp", VEC_GP, GATE_TO_RING0);
	expect_fault(3, try_ring2_gate, "gate_of_dpl2_gp", VEC_GP, GATE_TO_RING1);
	ring_call(3, try_int3, 0);
	check("ring3_int3_is_a_trap", probe.seen.vector == VEC_BP && probe.seen.at == 1, "vector %u at +%d",
	    probe.seen.vector, (int)probe.seen.at);
}

static uint8_t secret[PAGE_SIZE] __attribute__((aligned(4096)));

static uint32_t
try_read_secret(uint32_t unused)
{
	(void)unused;
	FAULT_OF("", "movb %0, %%al", "m"(secret));
	return 0;
}

static uint32_t
try_write_secret(uint32_t unused)
{
	(void)unused;
	FAULT_OF("", "movb $1, %0", "m"(secret));
	return 0;
}

/* To the page tables there are two kinds of rings only: 3 is the user, 0 to 2 the supervisor.  [SDM 3, 4.6] */
void
check_supervisor_pages(void)
{
	page_table *directory = identity_directory(KERNEL_MEMORY, PTE_P | PTE_W | PTE_U);
	page_table *pte = pte_of(directory, (uint32_t)secret);
	int ring;

	*pte &= ~PTE_U;
	paging_on(directory);
	for (ring = 0; ring <= 2; ring++) {
		expect_allowed(ring, try_read_secret, "supervisor_page_read_runs");
		expect_allowed(ring, try_write_secret, "supervisor_page_write_runs");
	}
	expect_fault(3, try_read_secret, "supervisor_page_read_pf", VEC_PF, PF_PRESENT | PF_USER);
	check_equal("ring3_supervisor_page_cr2", probe.seen.cr2, (uint32_t)secret);
	expect_fault(3, try_write_secret, "supervisor_page_write_pf", VEC_PF, PF_PRESENT | PF_USER | PF_WRITE);

	*pte = (*pte | PTE_U) & ~PTE_W;
	invalidate_page(secret);
	expect_allowed(3, try_read_secret, "read_only_page_read_runs");
	expect_fault(3, try_write_secret, "read_only_page_write_pf", VEC_PF, PF_PRESENT | PF_USER | PF_WRITE);
	for (ring = 0; ring <= 2; ring++)
		expect_allowed(ring, try_write_secret, "read_only_page_write_without_wp_runs");
	write_cr0(read_cr0() | CR0_WP);
	for (ring = 0; ring <= 2; ring++)
		expect_fault(ring, try_write_secret, "read_only_page_write_with_wp_pf", VEC_PF, PF_PRESENT | PF_WRITE);
	write_cr0(read_cr0() & ~CR0_WP);
	paging_off();
}
