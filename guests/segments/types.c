/*
 * types.c -- all 16 types of code and data, all 16 of system descriptors: which register takes which.
 * [SDM 3, tables 3-1 and 3-2]
 */
#include "parts.h"

#define CODE		0x8	/* type bits of code and data */
#define CONFORMING	0x4
#define EXPAND_DOWN	0x4
#define READABLE	0x2
#define WRITABLE	0x2

static struct fault
load_ds(void)
{
	return FAULT_OF("pushl %%ds; movl %0, %%eax", "movl %%eax, %%ds; popl %%ds", "i"(SLOT));
}

static struct fault
load_ss(void)
{
	return FAULT_OF("movl %%ss, %%ecx; movl %0, %%eax", "movl %%eax, %%ss; movl %%ecx, %%ss", "i"(SLOT));
}

static struct fault
jump(void)
{
	return FAULT_OF("", "ljmp %0, $7f; 7: ljmp %1, $7f; 7:", "i"(SLOT), "i"(KERNEL_CS));
}

/* One line for 16 descriptors: the first that is wrong is named. */
static void
check_all(const char *name, struct fault (*load)(void), uint32_t s, uint32_t allowed)
{
	uint32_t type;

	for (type = 0; type < 16; type++) {
		bool may = allowed >> type & 1;
		struct fault fault;

		set_gdt(SLOT, descriptor(0, 0xFFFFF, DESC_P | s | DESC_TYPE(type) | DESC_FLAT));
		fault = load();
		if (may ? fault.raised : !is_fault(fault, VEC_GP, SLOT)) {
			fail(name, "type %x: vector %u error %x", type, fault.vector, fault.error);
			return;
		}
	}
	pass(name);
}

static uint32_t
types_where(bool (*predicate)(uint32_t type))
{
	uint32_t type, set = 0;

	for (type = 0; type < 16; type++)
		set |= (uint32_t)predicate(type) << type;
	return set;
}

static bool
is_readable(uint32_t type)
{
	return !(type & CODE) || type & READABLE;
}

static bool
is_writable(uint32_t type)
{
	return !(type & CODE) && type & WRITABLE;
}

/* Type 8 to 15.  With the limit of the slot an expand-down segment would hold nothing; it is loaded all the same. */
static bool
is_code(uint32_t type)
{
	return type & CODE;
}

static void
check_accessed(void)
{
	set_gdt(SLOT, descriptor(0, 0xFFFFF, DESC_DATA | DESC_FLAT));
	load_ds();
	check("load_sets_accessed", gdt[SLOT / 8] >> 32 & DESC_TYPE(TYPE_ACCESSED), "descriptor %llx", gdt[SLOT / 8]);
	set_gdt(SLOT, descriptor(0, 0xFFFFF, DESC_CODE | DESC_FLAT));
	jump();
	check_silicon("jump_sets_accessed", gdt[SLOT / 8] >> 32 & DESC_TYPE(TYPE_ACCESSED),
	    "leaves the accessed bit of code clear");
	set_gdt(SLOT, descriptor(0, 0xFFFFF, (DESC_DATA | DESC_FLAT) & ~DESC_P));
	load_ds();
	check("refused_load_leaves_accessed_clear", !(gdt[SLOT / 8] >> 32 & DESC_TYPE(TYPE_ACCESSED)),
	    "descriptor %llx",
	    gdt[SLOT / 8]);
}

void
check_types(void)
{
	check_all("ds_takes_data_and_readable_code", load_ds, DESC_S, types_where(is_readable));
	check_all("ss_takes_writable_data", load_ss, DESC_S, types_where(is_writable));
	check_all("jump_takes_code", jump, DESC_S, types_where(is_code));
	check_all("ds_takes_no_system_descriptor", load_ds, 0, 0);
	check_all("ss_takes_no_system_descriptor", load_ss, 0, 0);
	check_accessed();
}
