/*
 * queries.c -- LAR, LSL, VERR, VERW and ARPL: asking about a selector without loading it.  ZF is the answer.
 */
#include "parts.h"

#define LAR_MASK	0x00F0FF00u	/* bits 19:16 are undefined */

/* LAR, SDM 2: code, data, and these; LSL only those that have a limit. */
#define LAR_SYSTEM	(1 << TYPE_TSS16 | 1 << TYPE_LDT | 1 << TYPE_TSS16_BUSY | 1 << TYPE_CALL16 | \
    1 << TYPE_TASK_GATE | 1 << TYPE_TSS32 | 1 << TYPE_TSS32_BUSY | 1 << TYPE_CALL32)
#define LSL_SYSTEM	(1 << TYPE_TSS16 | 1 << TYPE_LDT | 1 << TYPE_TSS16_BUSY | 1 << TYPE_TSS32 | \
    1 << TYPE_TSS32_BUSY)

#define DEFINE_QUERY(name, code)								\
	static bool										\
	name(uint32_t selector, uint32_t *result)						\
	{											\
		uint32_t value = 0xDEADBEEF;							\
		uint8_t zf;									\
												\
		__asm__ volatile(code "; setz %1" : "+r"(value), "=q"(zf) : "r"(selector) : "cc");	\
		if (result)									\
			*result = value;							\
		return zf;									\
	}

DEFINE_QUERY(lar, "larl %2, %0")
DEFINE_QUERY(lsl, "lsll %2, %0")
DEFINE_QUERY(verr, "verr %w2")
DEFINE_QUERY(verw, "verw %w2")

static void
check_system_types(const char *name, bool (*query)(uint32_t, uint32_t *), uint32_t valid)
{
	uint32_t type, wrong = 0;

	for (type = 0; type < 16; type++) {
		set_gdt(SLOT, descriptor(0, 0x1234, DESC_P | DESC_TYPE(type)));
		if (query(SLOT, NULL) != (valid >> type & 1))
			wrong |= 1u << type;
	}
	check(name, !wrong, "wrong for the types %04x", wrong);
}

static void
check_access_rights(void)
{
	uint32_t value;
	bool ok;

	set_gdt(SLOT, descriptor(0, 0xFFFFF, DESC_CODE | DESC_FLAT | DESC_DPL(2)));
	ok = lar(SLOT, &value);
	check("lar_gives_the_attributes", ok && (value & LAR_MASK) == (DESC_CODE | DESC_FLAT | DESC_DPL(2)),
	    "ZF %d, %x",
	    ok, value);
	ok = lar(SLOT | 3, &value);
	check("lar_refuses_an_outer_rpl", !ok && value == 0xDEADBEEF, "ZF %d, %x", ok, value);
	set_gdt(SLOT, descriptor(0, 0xFFFFF, DESC_CONFORMING | DESC_FLAT | DESC_DPL(0)));
	check("lar_accepts_conforming_code_for_all", lar(SLOT | 3, NULL), "ZF is clear");
	check("lar_refuses_null", !lar(0, NULL), "ZF is set");
	check("lar_refuses_beyond_the_table", !lar(GDT_ENTRIES * 8, NULL), "ZF is set");
	set_gdt(SLOT, descriptor(0, 0xFFFFF, (DESC_DATA | DESC_FLAT) & ~DESC_P));
	check("lar_does_not_mind_absence", lar(SLOT, NULL), "ZF is clear");
	check("lar_sets_no_accessed_bit", !(gdt[SLOT / 8] >> 32 & DESC_TYPE(TYPE_ACCESSED)), "it is set");
	check_system_types("lar_knows_the_system_types", lar, LAR_SYSTEM);
}

static void
check_segment_limit(void)
{
	uint32_t value = 0;

	set_gdt(SLOT, descriptor(0, 0x12345, DESC_DATA | DESC_B));
	lsl(SLOT, &value);
	check_equal("lsl_in_bytes", value, 0x12345);
	set_gdt(SLOT, descriptor(0, 0x12345, DESC_DATA | DESC_FLAT));
	lsl(SLOT, &value);
	check_equal("lsl_in_pages_is_scaled", value, 0x12345FFF);
	check_system_types("lsl_knows_the_system_types", lsl, LSL_SYSTEM);
}

static void
check_verify(void)
{
	set_gdt(SLOT, descriptor(0, 0xFFFFF, DESC_DATA | DESC_FLAT));
	check("verr_of_data", verr(SLOT, NULL), "ZF is clear");
	check("verw_of_writable_data", verw(SLOT, NULL), "ZF is clear");
	check("verr_of_an_outer_rpl", !verr(SLOT | 3, NULL), "ZF is set");
	set_gdt(SLOT, descriptor(0, 0xFFFFF, DESC_P | DESC_S | DESC_TYPE(0) | DESC_FLAT));
	check("verw_of_read_only_data", !verw(SLOT, NULL), "ZF is set");
	set_gdt(SLOT, descriptor(0, 0xFFFFF, DESC_CODE | DESC_FLAT));
	check("verr_of_readable_code", verr(SLOT, NULL), "ZF is clear");
	check("verw_of_code", !verw(SLOT, NULL), "ZF is set");
	set_gdt(SLOT, descriptor(0, 0xFFFFF, DESC_P | DESC_S | DESC_TYPE(8) | DESC_FLAT));
	check("verr_of_execute_only_code", !verr(SLOT, NULL), "ZF is set");
	set_gdt(SLOT, descriptor(0, 0xFFFFF, DESC_CONFORMING | DESC_FLAT));
	check("verr_of_conforming_code_for_all", verr(SLOT | 3, NULL), "ZF is clear");
	check("verr_of_a_system_descriptor", !verr(MAIN_TSS, NULL), "ZF is set");
	check("verr_of_null", !verr(0, NULL), "ZF is set");
}

static void
check_arpl(void)
{
	uint32_t selector;
	uint8_t zf;

	selector = 0xABC0;
	__asm__("arpl %w2, %w0; setz %1" : "+r"(selector), "=q"(zf) : "r"(3) : "cc");
	check("arpl_raises_the_rpl", selector == 0xABC3 && zf, "%x ZF %d", selector, zf);
	selector = 0xABC3;
	__asm__("arpl %w2, %w0; setz %1" : "+r"(selector), "=q"(zf) : "r"(1) : "cc");
	check("arpl_lowers_nothing", selector == 0xABC3 && !zf, "%x ZF %d", selector, zf);
}

void
check_queries(void)
{
	check_access_rights();
	check_segment_limit();
	check_verify();
	check_arpl();
}
