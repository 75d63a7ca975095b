/*
 * addresses.c -- places where a host keeps things of its own, and storms of faults.
 */
#include "parts.h"

#define TOP_PAGE	0xFFFFF000u
#define STORM_FRAMES	8
#define OP_MOV_EAX	0xB8
#define OP_RET		0xC3

/* Nobody maps these: the ends, a host program's text, libraries, stack, vDSO and 32-bit kernel. */
static const uint32_t nowhere[] = {
	0, 4, 0xFFC, MAPPED, 0x08048000, 0x3FFFFFFC, 0x56555000, 0x7FFFFFFC, 0x80000000, 0xBFFFFFFC, 0xC0000000, 0xF7FF0000,
	0xFFFFD000, 0xFFFFE000, TOP_PAGE, 0xFFFFFFFC,
};

static void
check_nowhere(const char *name, ring_function *access, uint32_t error)
{
	struct fault seen = { 0 };
	size_t i;

	for (i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]); i++) {
		seen = user_fault(access, nowhere[i]);
		if (!is_fault(seen, VEC_PF, error) || seen.cr2 != nowhere[i])
			break;
	}
	check(name, i == sizeof(nowhere) / sizeof(nowhere[0]), "at %x: vector %u, error %x, CR2 %x", nowhere[i],
	    seen.vector, seen.error, seen.cr2);
}

/* The same places with a page there: the guest's, and no other. */
static void
check_mapped(void)
{
	static const struct {
		uint32_t address;
		const char *run, *store;
	} places[] = {
		{ 0, "code_in_page_0_runs", "store_in_page_0_arrives" },
		{ 0xF000, "code_below_64k_runs", "store_below_64k_arrives" },
		{ 0x08048000, "code_at_a_host_programs_address_runs", "store_at_a_host_programs_address_arrives" },
		{ TOP_PAGE, "code_in_the_last_page_runs", "store_in_the_last_page_arrives" },
	};
	uint8_t *frame = allocate_pages(1);
	size_t i;

	for (i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		uint32_t value = 0x01020300 + i, linear = places[i].address;

		frame[0] = OP_MOV_EAX;
		memcpy(frame + 1, &value, 4);
		frame[5] = OP_RET;
		*(uint32_t *)(frame + 64) = value;
		map_page(directory, linear, (uint32_t)frame, RW);
		invalidate_page((void *)(uintptr_t)linear);
		check_equal(places[i].run, user_call(user_call_code, linear), value);
		user_call(user_swap, linear + 64);
		check_equal(places[i].store, *(uint32_t *)(frame + 64), value + 1);
		map_page(directory, linear, 0, 0);
		invalidate_page((void *)(uintptr_t)linear);
	}
}

void
check_addresses(void)
{
	map_page(directory, 0, 0, 0);
	invalidate_page(NULL);
	check_nowhere("nothing_to_read_there_pf", user_read, PF_USER);
	check_nowhere("nothing_to_write_there_pf", user_write, PF_USER | PF_WRITE);
	check_nowhere("nothing_to_run_there_pf", user_run, PF_USER);
	check_mapped();
}

/* ---- storms ---- */

static uint32_t other_faults, storm_faults, storm_wrong, storm_pages;
static uint8_t *storm_frames;

static void
map_on_fault(struct trap_frame *frame)
{
	uint32_t cr2 = read_cr2(), page = (cr2 - STORM_BASE) / PAGE_SIZE;

	if (cr2 < STORM_BASE || page >= storm_pages)
		stop("storm_stays_in_its_pages", "CR2 is %x, EIP %x", cr2, frame->eip);
	storm_wrong += frame->error != (PF_USER | PF_WRITE);
	storm_faults++;
	map_page(directory, cr2, (uint32_t)storm_frames + page % STORM_FRAMES * PAGE_SIZE, RW);
}

/* CLI and HLT are one byte, UD2 and DIV ECX two. */
static void
skip_fault(struct trap_frame *frame)
{
	other_faults++;
	frame->eip += frame->vector == VEC_GP ? 1 : 2;
}

void
check_storms(void)
{
	uint32_t pass, i, count = rounds(5000, 300);

	storm_pages = rounds(4096, 512);
	storm_frames = allocate_pages(STORM_FRAMES);
	on_trap(VEC_PF, map_on_fault);
	for (pass = 0; pass < 3; pass++) {
		user_call(user_touch, storm_pages);
		for (i = 0; i < storm_pages; i++)
			map_page(directory, STORM_BASE + i * PAGE_SIZE, 0, 0);
		write_cr3(read_cr3());
	}
	on_trap(VEC_PF, NULL);
	check_equal("storm_of_page_faults", storm_faults, 3 * storm_pages);
	check_equal("storm_of_page_faults_has_its_error_codes", storm_wrong, 0);

	on_trap(VEC_GP, skip_fault);
	on_trap(VEC_UD, skip_fault);
	on_trap(VEC_DE, skip_fault);
	user_call(user_fault_often, count);
	on_trap(VEC_GP, NULL);
	on_trap(VEC_UD, NULL);
	on_trap(VEC_DE, NULL);
	check_equal("storm_of_other_faults", other_faults, 4 * count);
}
