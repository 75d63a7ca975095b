/*
 * fuzz_core.c -- feeds the C core whatever bytes it is given: a processor state, tables, memory and
 * code, and answers to the exits that follow.
 *
 * Built with clang and libFuzzer (run.py), or with RF_FUZZ_MAIN as a program that replays files.
 * The maps lie between pages that nobody may touch, so an access outside of them is a crash;
 * guest time counts instructions, so a run depends on nothing but its input and ends.
 *
 * Input: one byte chooses a template (what mode the processor is in), one says how many patches
 * follow (enum patch); the rest is code, and its end the answers.  Bytes that are missing are 0.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core.h"
#include "interrupts.h"

#define PAGE 4096u
#define RAM_PAGES 256u
#define DEV_PAGES 32u
#define ARENA_BYTES RF_ARENA_MIN
#define EXITS_MAX 40
#define QUANTA_MAX 1
#define QUANTUM_US 100
#define NS_PER_1000 20000
#define FILL 0xf4	/* HLT: code that runs off its end stops, instead of storing into itself for ever */

enum place { GDT = 0x1000, IDT = 0x2000, LDT = 0x3000, TSS = 0x4000, TSS16 = 0x4400, HANDLERS = 0x5000, STACK = 0x9000,
	DIRECTORY = 0x10000, TABLE = 0x11000, PDPT = 0x14000, PAE_DIRECTORY = 0x15000, PAE_TABLE = 0x16000, CODE = 0x20000 };

enum patch { PATCH_STATE, PATCH_MEMORY, PATCH_PMAP, PATCH_TABLE, PATCH_GDT, PATCH_IDT, PATCH_CONTROL, PATCH_BREAKPOINT,
	PATCH_TSS, PATCH_FX, PATCH_KINDS };

enum template { REAL, FLAT, PAGING, PAE, USER, V86, PROTECTED16, ANY_STATE, TEMPLATES };

static struct {
	uint8_t *ram, *dev, *pages, *arena;
	struct interrupts *interrupts;
	struct vcpu *vcpu;
	struct control *control;
	uint64_t pages_bytes;
} maps;

struct input { const uint8_t *at, *end; };

static uint32_t
take(struct input *in, uint32_t bytes)
{
	uint32_t x = 0, i;

	for (i = 0; i < bytes; i++)
		if (in->at < in->end)
			x |= (uint32_t)*in->at++ << (8 * i);
	return x;
}

#define CHECK(x) do { if (!(x)) { fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #x); abort(); } } while (0)

/* ---- maps ------------------------------------------------------------------------------------ */

/* Between two pages that fault. */
static void *
guarded(uint64_t bytes)
{
	const uint64_t size = (bytes + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	uint8_t *p = mmap(NULL, size + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(p != MAP_FAILED && mprotect(p + PAGE, size, PROT_READ | PROT_WRITE) == 0);
	return p + PAGE;
}

static void
map_all(void)
{
	if (maps.ram)
		return;
	maps.pages_bytes = PAGE + RAM_PAGES * (4 + 8 + 1 + 8) + DEV_PAGES;
	maps.ram = guarded(RAM_PAGES * PAGE);
	maps.dev = guarded(DEV_PAGES * PAGE);
	maps.pages = guarded(maps.pages_bytes);
	maps.arena = guarded(ARENA_BYTES);
	maps.interrupts = guarded(sizeof *maps.interrupts);
	maps.vcpu = guarded(sizeof *maps.vcpu);
	maps.control = guarded(sizeof *maps.control);
}

static void
put_slot(struct machine *m, uint32_t first, uint32_t pages, uint32_t kind, uint32_t in_dev, uint64_t file_page, uint64_t dirty)
{
	m->slots[m->slot_count++] = (struct slot){ first, pages, kind, in_dev, file_page, dirty };
}

/* RAM, a framebuffer, MMIO, ROM and a hole, as a PC has them below 1 MiB. */
static void
describe_machine(void)
{
	struct machine *m = (struct machine *)(void *)maps.pages;

	memset(maps.pages, 0, maps.pages_bytes);
	m->version = RF_MACHINE_VERSION;
	m->vcpus = 1;
	m->ram_pages = RAM_PAGES;
	m->dev_pages = DEV_PAGES;
	m->codemap = PAGE;
	m->pmap = m->codemap + RAM_PAGES * 8;
	m->stamps = m->pmap + RAM_PAGES * 8;
	m->flags = m->stamps + RAM_PAGES * 4;
	put_slot(m, 0, 0xa0, SLOT_RAM, 0, 0, 0);
	put_slot(m, 0xa0, 0x10, SLOT_FRAMEBUFFER, 1, 0, m->flags + RAM_PAGES);
	put_slot(m, 0xc0, 8, SLOT_MMIO, 0, 0, 0);
	put_slot(m, 0xd0, 8, SLOT_RAM, 0, 0xd0, 0);
	put_slot(m, 0xf0, 0x10, SLOT_ROM, 1, 0x10, 0);
}

/* ---- templates --------------------------------------------------------------------------------- */

static void
put32(uint32_t at, uint32_t value)
{
	memcpy(maps.ram + at % (RAM_PAGES * PAGE - 4), &value, 4);
}

static void
put64(uint32_t at, uint64_t value)
{
	put32(at, (uint32_t)value);
	put32(at + 4, (uint32_t)(value >> 32));
}

static uint64_t
descriptor(uint32_t base, uint32_t limit, uint32_t access, uint32_t flags)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 |
	    (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)flags << 52 | (uint64_t)(base >> 24) << 56;
}

static uint64_t
gate(uint32_t selector, uint32_t offset, uint32_t access)
{
	return (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)access << 40 | (uint64_t)(offset >> 16) << 48;
}

/* Selector n * 8: 8 code, 10h data, 18h and 20h the same at DPL 3, then a collection. */
static void
put_tables(void)
{
	uint32_t i;

	memset(maps.ram + GDT, 0, 0x4000);
	memset(maps.ram + DIRECTORY, 0, PAE_TABLE + PAGE - DIRECTORY);
	put64(GDT + 0x08, descriptor(0, 0xfffff, 0x9b, 0xc));
	put64(GDT + 0x10, descriptor(0, 0xfffff, 0x93, 0xc));
	put64(GDT + 0x18, descriptor(0, 0xfffff, 0xfb, 0xc));
	put64(GDT + 0x20, descriptor(0, 0xfffff, 0xf3, 0xc));
	put64(GDT + 0x28, descriptor(TSS, 0x300, 0x8b, 0));
	put64(GDT + 0x30, descriptor(TSS16, 0x2b, 0x81, 0));
	put64(GDT + 0x38, descriptor(LDT, 0xff, 0x82, 0));
	put64(GDT + 0x40, descriptor(CODE, 0xffff, 0x9b, 0));
	put64(GDT + 0x48, descriptor(0, 0xffff, 0x93, 0));
	put64(GDT + 0x50, gate(0x08, HANDLERS, 0xec));
	put64(GDT + 0x58, gate(0x28, 0, 0xe5));
	put64(GDT + 0x60, descriptor(0, 0xfffff, 0x9f, 0xc));
	put64(GDT + 0x68, descriptor(0, 0x8000, 0xf7, 0x4));
	put64(LDT + 0x08, descriptor(0, 0xfffff, 0xf3, 0xc));
	for (i = 0; i < 256; i++) {
		put64(IDT + i * 8, gate(0x08, HANDLERS + i * 4, 0xee));
		maps.ram[HANDLERS + i * 4] = i & 1 && i != 13 ? 0xcf : 0x90;	/* IRET, or NOP and HLT */
		put32(i * 4, 0x0f000000 | (HANDLERS + i * 4));
	}
	put32(TSS + 4, STACK - 0x800);
	put32(TSS + 8, 0x10);
	put32(TSS + 0x1c, DIRECTORY);
	put32(TSS + 0x64, 0x680000);
	for (i = 0; i < 1024; i++)
		put32(TABLE + i * 4, i << 12 | 7);
	put32(DIRECTORY, TABLE | 7);
	put32(DIRECTORY + 4, TABLE | 0x67);
	put32(DIRECTORY + 8, 0x87);
	put64(PDPT, PAE_DIRECTORY | 1);
	put64(PDPT + 24, PAE_DIRECTORY | 1);
	put64(PAE_DIRECTORY, PAE_TABLE | 7);
	put64(PAE_DIRECTORY + 8, 0x87);
	for (i = 0; i < 256; i++)
		put64(PAE_TABLE + i * 8, (uint64_t)i << 12 | 7);
}

static void
flat(struct vcpu *v, uint32_t code, uint32_t data, uint32_t dpl)
{
	uint32_t i;

	for (i = 0; i < 6; i++)
		v->seg[i] = (struct segment){ data | dpl, 0, 0xffffffffu, 0xc093 | dpl << 5 };
	v->seg[CS] = (struct segment){ code | dpl, 0, 0xffffffffu, 0xc09b | dpl << 5 };
	v->cpl = dpl;
}

static void
real_segments(struct vcpu *v, uint32_t access)
{
	uint32_t i;

	for (i = 0; i < 6; i++)
		v->seg[i] = (struct segment){ 0x100 * i, 0x1000 * i, 0xffff, access };
	v->seg[CS] = (struct segment){ CODE >> 4, CODE, 0xffff, access };
	v->eip = 0;
}

static void
put_template(struct vcpu *v, enum template template)
{
	vcpu_reset(v, 0, 0x683);
	v->gdtr = (struct dtable){ GDT, 0x7f };
	v->idtr = (struct dtable){ IDT, 0x7ff };
	v->seg[TR] = (struct segment){ 0x28, TSS, 0x300, 0x8b };
	v->seg[LDTR] = (struct segment){ 0x38, LDT, 0xff, 0x82 };
	v->eip = CODE;
	v->eflags = 2;
	v->r[ESP] = STACK;
	v->cr0 = CR0_PE | CR0_ET | CR0_NE;
	v->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_PSE | CR4_PGE;
	v->cr3 = DIRECTORY;
	flat(v, 8, 0x10, 0);
	switch (template) {
	case REAL:
		v->cr0 = CR0_ET;
		v->idtr = (struct dtable){ 0, 0x3ff };
		real_segments(v, 0x93);
		break;
	case PAGING:
		v->cr0 |= (int)CR0_PG | CR0_WP;
		break;
	case PAE:
		v->cr4 |= CR4_PAE;
		v->cr3 = PDPT;
		v->efer = EFER_NXE;
		v->pdpte[0] = v->pdpte[3] = PAE_DIRECTORY | 1;
		v->cr0 |= (int)CR0_PG | CR0_WP;
		break;
	case USER:
		v->cr0 |= (int)CR0_PG | CR0_WP | CR0_AM;
		v->eflags |= FL_IF;
		flat(v, 0x18, 0x20, 3);
		break;
	case V86:
		v->eflags |= FL_VM | FL_IF;
		real_segments(v, 0xf3);
		v->cpl = 3;
		break;
	case PROTECTED16:
		v->seg[CS] = (struct segment){ 0x40, CODE, 0xffff, 0x9b };
		v->seg[SS] = v->seg[DS] = (struct segment){ 0x48, 0, 0xffff, 0x93 };
		v->eip = 0;
		break;
	default:
		break;
	}
}

/* ---- patches --------------------------------------------------------------------------------------- */

static void
patch(struct input *in, enum patch kind)
{
	struct machine *m = (struct machine *)(void *)maps.pages;
	uint32_t at, n;

	switch (kind) {
	case PATCH_STATE:
		at = take(in, 2) % (offsetof(struct vcpu, fx) / 4);
		((uint32_t *)(void *)maps.vcpu)[at] = take(in, 4);
		break;
	case PATCH_FX:
		at = take(in, 2) % (sizeof maps.vcpu->fx / 4);
		((uint32_t *)(void *)maps.vcpu->fx)[at] = take(in, 4);
		break;
	case PATCH_MEMORY:
		at = take(in, 4) % (RAM_PAGES * PAGE);
		for (n = take(in, 1); n; n--, at++)
			maps.ram[at % (RAM_PAGES * PAGE)] = (uint8_t)take(in, 1);
		break;
	case PATCH_PMAP:
		at = take(in, 1) % RAM_PAGES;
		((uint64_t *)(void *)(maps.pages + m->pmap))[at] = take(in, 1) % 5;
		break;
	case PATCH_TABLE:
		at = take(in, 2) % 0x6000;
		put32(DIRECTORY + at, take(in, 4));
		break;
	case PATCH_GDT:
		at = take(in, 1) % 16;
		put32(GDT + at * 8, take(in, 4));
		put32(GDT + at * 8 + 4, take(in, 4));
		break;
	case PATCH_IDT:
		at = take(in, 1);
		put32(IDT + at * 8, take(in, 4));
		put32(IDT + at * 8 + 4, take(in, 4));
		break;
	case PATCH_TSS:
		at = take(in, 2) % 0x800;
		put32(TSS + at, take(in, 4));
		break;
	case PATCH_CONTROL:
		maps.control->attention = take(in, 1) & 7;
		maps.control->single_step = take(in, 1) & 1;
		maps.control->trace_mask = take(in, 1);
		break;
	case PATCH_BREAKPOINT:
		at = take(in, 4);
		engine_set_breakpoint(maps.arena, at, 1 + take(in, 1) % 8, take(in, 1) % 3);
		break;
	default:
		break;
	}
}

/* What no state file may say: enums and flags outside of their range. */
static void
tidy(struct vcpu *v)
{
	v->cpl &= 3;
	v->activity %= ACT_SHUTDOWN;
	v->inhibit &= INHIBIT_STI | INHIBIT_SS;
	v->nmi_pending &= 1;
	v->nmi_blocked &= 1;
	v->init_pending &= 1;
	v->vcpu_id = 0;
	v->a20_mask = v->a20_mask & 1 ? 0xffffffffu : 0xffefffffu;
	v->r[R_ZERO] = 0;
	if (v->eflags & FL_VM)
		v->cpl = 3;
	else if (!(v->cr0 & CR0_PE))
		v->cpl = 0;
}

/* ---- running ------------------------------------------------------------------------------------------ */

static void
check_exit(int kind)
{
	const struct exit_info *x = &maps.control->exit;

	CHECK(kind > EXIT_NONE && kind < RF_EXIT_KINDS && x->kind == (uint32_t)kind);
	CHECK(maps.vcpu->r[R_ZERO] == 0);
	CHECK(maps.vcpu->cpl <= 3 && (maps.vcpu->eflags & FL_1));
	CHECK(maps.control->running == 0);
	if (kind == EXIT_IO) {
		CHECK(x->width == 1 || x->width == 2 || x->width == 4);
		CHECK(x->address <= 0xffff && x->count >= 1 && x->count * x->width <= RF_IO_BUFFER);
	} else if (kind == EXIT_MMIO) {
		CHECK(x->width >= 1 && x->width <= 16);
	}
}

/* True: go on. */
static int
answer(struct input *in, int kind)
{
	struct machine *m = (struct machine *)(void *)maps.pages;
	struct exit_info *x = &maps.control->exit;
	uint32_t i;

	switch (kind) {
	case EXIT_IO:
	case EXIT_MMIO:
		if (x->write)
			return 1;
		x->data[0] = (uint64_t)take(in, 4) << 32 | take(in, 4);
		x->data[1] = ~x->data[0];
		for (i = 0; x->count > 1 && i < x->count * x->width; i++)
			x->buffer[i] = (uint8_t)take(in, 1);
		return 1;
	case EXIT_FAULT_PPN:
		CHECK(x->address < m->ram_pages);
		((uint64_t *)(void *)(maps.pages + m->pmap))[x->address] = PMAP_PRIVATE;
		return 1;
	case EXIT_HLT:
		return x->interruptible;
	case EXIT_DEBUG:
		maps.control->resume_breakpoint = 1;
		return 1;
	case EXIT_HYPERCALL:
	case EXIT_QUANTUM:
	case EXIT_KICK:
		return 1;
	default:
		return 0;
	}
}

static void
power_on(void)
{
	static const struct cpu_model model = { 2, 36, { 0, 0 }, {
		{ 0, 0xffffffffu, 2, 0x756e6547, 0x6c65746e, 0x49656e69 }, { 1, 0xffffffffu, 0x683, 0, 0, 0x0783fbff } } };
	struct engine_map map = { .ram = maps.ram, .dev = maps.dev, .pages = maps.pages, .interrupts = maps.interrupts,
		.vcpu = maps.vcpu, .control = maps.control, .ram_bytes = RAM_PAGES * PAGE, .dev_bytes = DEV_PAGES * PAGE,
		.pages_bytes = maps.pages_bytes };

	map.control_of[0] = maps.control;
	map.vcpu_of[0] = maps.vcpu;
	memset(maps.ram, FILL, RAM_PAGES * PAGE);
	memset(maps.dev, 0, DEV_PAGES * PAGE);
	memset(maps.control, 0, sizeof *maps.control);
	CHECK(madvise(maps.arena, ARENA_BYTES, MADV_DONTNEED) == 0);
	describe_machine();
	intr_power_on(maps.interrupts, 1, 1000000000);
	clock_set_mode(maps.interrupts, CLOCK_COUNTED, NS_PER_1000);
	clock_stun(maps.interrupts, 0);
	CHECK(engine_init(maps.arena, ARENA_BYTES, &map, &model) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, data + size };
	uint32_t n, at, quanta = 0;
	int kind;

	map_all();
	power_on();
	put_tables();
	put_template(maps.vcpu, take(&in, 1) % TEMPLATES);
	for (n = take(&in, 1) % 32; n; n--)
		patch(&in, take(&in, 1) % PATCH_KINDS);
	tidy(maps.vcpu);
	at = CODE;
	for (n = (uint32_t)(in.end - in.at) / 4 * 3; n; n--)
		maps.ram[at++ % (RAM_PAGES * PAGE)] = (uint8_t)take(&in, 1);
	for (n = 0; n < EXITS_MAX; n++) {
		kind = engine_run(maps.arena, QUANTUM_US);
		check_exit(kind);
		if (!answer(&in, kind) || (kind == EXIT_QUANTUM && ++quanta == QUANTA_MAX))
			break;
	}
	return 0;
}

#ifdef RF_FUZZ_MAIN
int
main(int argc, char **argv)
{
	static uint8_t buffer[1 << 16];
	int i;

	for (i = 1; i < argc; i++) {
		FILE *f = fopen(argv[i], "rb");

		CHECK(f != NULL);
		const size_t size = fread(buffer, 1, sizeof buffer, f);

		fclose(f);
		LLVMFuzzerTestOneInput(buffer, size);
	}
	printf("%d inputs\n", argc - 1);
	return 0;
}
#endif
