/*
 * selectors.c -- every selector into every segment register, and far jumps to them: only the guest's descriptors count.
 */
#include "parts.h"

#define SELECTORS	0x10000u
#define ALL_BELOW	0x200u		/* every one of these, even when quick */
#define STRIDE		61u
#define USABLE		0xFFFFFFFFu

static uint32_t bad_selector, bad_vector, bad_error;

/* The vector and error code of loading it in ring 3, as vector << 16 | error; or USABLE.  [SDM 2, MOV] */
static uint32_t
expected_load(uint32_t selector, bool stack)
{
	uint32_t error = selector & ~RPL_MASK, high;
	bool code, writable, readable;

	if (!error)
		return stack ? VEC_GP << 16 : USABLE;
	if (selector & TI_LDT || selector / 8 >= GDT_ENTRIES)
		return VEC_GP << 16 | error;
	high = (uint32_t)(gdt[selector / 8] >> 32);
	code = high & DESC_TYPE(8);
	readable = !code || high & DESC_TYPE(2);
	writable = !code && high & DESC_TYPE(2);
	if (!(high & DESC_S) || !readable || (high & DESC_DPL(3)) != DESC_DPL(3))
		return VEC_GP << 16 | error;
	if (stack && (!writable || (selector & RPL_MASK) != 3))
		return VEC_GP << 16 | error;
	if (!(high & DESC_P))
		return (stack ? VEC_SS : VEC_NP) << 16 | error;
	return USABLE;
}

/* No code of ring 3 but the one that runs; no gates, no tasks of ring 3.  [SDM 3, 5.8.1] */
static uint32_t
expected_jump(uint32_t selector)
{
	if ((selector & ~RPL_MASK) == (USER_CS & ~RPL_MASK))
		return USABLE;
	return VEC_GP << 16 | (selector & ~RPL_MASK);
}

static void
judge(uint32_t selector, uint32_t expected)
{
	uint32_t seen = probe.seen.raised ? probe.seen.vector << 16 | probe.seen.error : USABLE;

	if (seen == expected || bad_selector != SELECTORS)
		return;
	bad_selector = selector;
	bad_vector = probe.seen.raised ? probe.seen.vector : 0xFF;
	bad_error = probe.seen.error;
}

#define EVERY_SELECTOR(name, expected, setup, code)					\
	static uint32_t									\
	name(uint32_t stride)								\
	{										\
		uint32_t selector;							\
											\
		for (selector = 0; selector < SELECTORS; selector += selector < ALL_BELOW ? 1 : stride) {	\
			FAULT_OF("movl %0, %%eax;" setup, code, "r"(selector));		\
			judge(selector, expected);					\
		}									\
		return 0;								\
	}

extern uint32_t far_target[2];
uint32_t far_target[2];		/* named in assembly */

EVERY_SELECTOR(into_es, expected_load(selector, false), "", "movl %%eax, %%es; movl %%ss, %%ecx; movl %%ecx, %%es")
EVERY_SELECTOR(into_ds, expected_load(selector, false), "", "movl %%eax, %%ds; movl %%ss, %%ecx; movl %%ecx, %%ds")
EVERY_SELECTOR(into_fs, expected_load(selector, false), "", "movl %%eax, %%fs; xorl %%ecx, %%ecx; movl %%ecx, %%fs")
EVERY_SELECTOR(into_gs, expected_load(selector, false), "pushl %%eax", "popl %%gs; xorl %%ecx, %%ecx; movl %%ecx, %%gs")
EVERY_SELECTOR(into_ss, expected_load(selector, true), "movl %%ss, %%ecx", "movl %%eax, %%ss; movl %%ecx, %%ss")
EVERY_SELECTOR(into_cs, expected_jump(selector), "movl $8f, far_target; movl %%eax, far_target+4",
    "ljmp *far_target")

static void
check_every(const char *name, ring_function *all)
{
	bad_selector = SELECTORS;
	user_call(all, rounds(1, STRIDE));
	check(name, bad_selector == SELECTORS, "selector %x: vector %u, error %x", bad_selector, bad_vector, bad_error);
}

void
check_selectors(void)
{
	check_every("every_selector_into_es", into_es);
	check_every("every_selector_into_ds", into_ds);
	check_every("every_selector_into_fs", into_fs);
	check_every("every_selector_into_gs", into_gs);
	check_every("every_selector_into_ss", into_ss);
	check_every("far_jump_to_every_selector", into_cs);
}

/* ---- the same numbers with descriptors of the guest's own ---- */

static uint32_t words[4] = { 0x11111111, 0x22222222, 0x33333333, 0x44444444 };

#define READ_BY(name, register, load)							\
	static uint32_t									\
	name(uint32_t selector)								\
	{										\
		uint32_t value;								\
											\
		__asm__ volatile(load "; movl %%" register ":0, %0; xorl %%ecx, %%ecx; movl %%ecx, %%" register :	\
		    "=r"(value) : "a"(selector) : "ecx");				\
		return value;								\
	}

READ_BY(read_by_fs, "fs", "movl %%eax, %%fs")
READ_BY(read_by_gs, "gs", "pushl %%eax; popl %%gs")

static uint32_t
write_beyond_gs(uint32_t selector)
{
	FAULT_OF("movl %0, %%gs", "movb $1, %%gs:8", "r"(selector));
	__asm__ volatile("movl %0, %%gs" : : "r"(0));
	return 0;
}

/* Returns CS as the code behind the jump sees it. */
static uint32_t
jump_to_own_code(uint32_t unused)
{
	uint32_t cs;

	(void)unused;
	__asm__ volatile("ljmp %1, $1f; 1: movl %%cs, %0; ljmp %2, $2f; 2:" : "=r"(cs) : "i"(HOST_CODE64), "i"(USER_CS));
	return cs;
}

static uint32_t
write_by_es(uint32_t selector)
{
	__asm__ volatile("movl %%eax, %%es; movl %1, %%es:words_for_es; movl %%ss, %%eax; movl %%eax, %%es" :
	    "+a"(selector) : "r"(0x5555) : "memory");
	return 0;
}

extern uint32_t words_for_es;
uint32_t words_for_es;		/* named in assembly */

void
check_own_descriptors(void)
{
	uint64_t ring1_ds = gdt[HOST_CODE64 / 8];

	set_gdt(HOST_TLS, descriptor((uint32_t)&words[1], 7, DESC_DATA | DESC_B | DESC_DPL(3)));
	set_gdt(HOST_PER_CPU, descriptor((uint32_t)&words[2], 7, DESC_DATA | DESC_B | DESC_DPL(3)));
	check_equal("own_descriptor_at_63h_by_fs", user_call(read_by_fs, HOST_TLS), words[1]);
	check_equal("own_descriptor_at_63h_by_gs", user_call(read_by_gs, HOST_TLS), words[1]);
	check_equal("own_descriptor_at_7bh_by_fs", user_call(read_by_fs, HOST_PER_CPU), words[2]);
	check_equal("own_descriptor_at_7bh_by_gs", user_call(read_by_gs, HOST_PER_CPU), words[2]);
	user_call(write_beyond_gs, HOST_TLS);
	check_fault_silicon("limit_of_own_descriptor_gp", probe.seen, VEC_GP, 0, "checks no segment limits");
	user_call(write_by_es, HOST_CODE32);	/* here it is the guest's flat data segment */
	check_equal("own_data_segment_at_23h_is_writable", words_for_es, 0x5555);

	set_gdt(HOST_CODE64, descriptor(0, 0xFFFFF, DESC_CODE | DESC_FLAT | DESC_DPL(3)));
	check_equal("own_code_segment_at_33h_is_32_bit", user_call(jump_to_own_code, 0) & 0xFFFF, HOST_CODE64);
	check("own_code_segment_at_33h_faults_not", !probe.seen.raised && !ring_fault().raised, "vector %u error %x",
	    ring_fault().vector, ring_fault().error);
	gdt[HOST_CODE64 / 8] = ring1_ds;
	set_gdt(HOST_TLS, 0);
	set_gdt(HOST_PER_CPU, 0);
}
