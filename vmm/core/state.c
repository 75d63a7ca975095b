/*
 * state.c -- laying out an engine, reset, and what the vCPU's state means to the engine.
 */
#include "codecache.h"
#include "flags.h"
#include "fpu.h"
#include "run.h"
#include "sysraw.h"

/* ---- mode ------------------------------------------------------------------------------------ */

static bool
flat_data(const struct segment *s)
{
	const uint32_t mask = SEG_UNUSABLE | SEG_P | SEG_S | SEG_CODE | SEG_E | SEG_W;

	return s->base == 0 && s->limit == 0xffffffffu && (s->attr & mask) == (SEG_P | SEG_S | SEG_W);
}

static uint32_t
mode_of(const struct engine *e)
{
	const struct vcpu *v = e->v;
	const struct segment *cs = &v->seg[CS];
	uint32_t mode = 0;

	if (cs->attr & SEG_DB)
		mode |= MODE_CS32;
	if (v->seg[SS].attr & SEG_DB)
		mode |= MODE_SS32;
	if (flat_data(&v->seg[DS]) && flat_data(&v->seg[ES]) && flat_data(&v->seg[SS]))
		mode |= MODE_FLAT;
	if (cs->base == 0 && cs->limit == 0xffffffffu)
		mode |= MODE_CSFLAT;
	if ((v->eflags & (FL_TF | FL_RF)) || v->inhibit || (v->dr[7] & 0xff) || e->one_shot || e->data_watch ||
	    e->ctl->single_step || e->ctl->resume_breakpoint || e->replay.count || e->hypercall_answered)
		mode |= MODE_ONE;
	return mode;
}

/* Does some breakpoint watch data? */
static bool
data_watched(const struct engine *e)
{
	const uint32_t dr7 = e->v->dr[7];
	uint32_t i;

	if (likely(!(dr7 & 0xff) && e->breakpoint_count == 0))
		return false;
	for (i = 0; i < 4; i++)
		if ((dr7 >> (2 * i) & 3) && (dr7 >> (16 + 4 * i) & 3))	/* memory or ports */
			return true;
	for (i = 0; i < e->breakpoint_count; i++)
		if (e->breakpoints[i].kind != 0)
			return true;
	return false;
}

void
state_changed(struct engine *e)
{
	const struct vcpu *v = e->v;

	e->data_watch = data_watched(e);
	e->mode = mode_of(e);
	if (e->data_watch || ((v->cr0 & CR0_AM) && (v->eflags & FL_AC) && v->cpl == 3))
		e->tlb_cur = e->tlb_off;
	else
		e->tlb_cur = e->tlb[v->cpl == 3 ? VIEW_USER : VIEW_SUPERVISOR];
	if (e->counted_cpl != v->cpl)
		count_insns(e);
	fpu_changed(e);
	code_context_select(e);
}

uint32_t
eflags_get(struct engine *e)
{
	return (e->v->eflags & ~(uint32_t)FL_ARITH) | lf_get(e) | FL_1;
}

void
eflags_set(struct engine *e, uint32_t value, uint32_t mask)
{
	struct vcpu *v = e->v;

	if (mask & FL_ARITH)
		lf_put(e, (lf_get(e) & ~mask) | (value & mask));
	mask &= ~(uint32_t)FL_ARITH;
	v->eflags = ((v->eflags & ~mask) | (value & mask) | FL_1) & ~(uint32_t)FL_ARITH;
	state_changed(e);
}

void
engine_state_loaded(struct engine *e)
{
	struct vcpu *v = e->v;

	lf_put(e, v->eflags);
	v->eflags &= ~(uint32_t)FL_ARITH;
	v->eflags |= FL_1;
	v->r[R_ZERO] = 0;
	e->counted_cpl = v->cpl;
	if (e->slot_generation != __atomic_load_n(&e->m->slot_generation, __ATOMIC_ACQUIRE)) {
		e->slot_generation = e->m->slot_generation;
		engine_flush(e);
	}
	state_changed(e);
}

void
engine_flush(void *arena)
{
	struct engine *e = arena;

	shadow_mode_changed(e);
	tlb_flush(e);
	code_flush(e);
}

/* ---- layout ------------------------------------------------------------------------------------ */

static uint64_t
align_page(uint64_t x)
{
	return (x + PAGE_SIZE - 1) & ~(uint64_t)(PAGE_SIZE - 1);
}

static void
map_machine(struct engine *e, const struct engine_map *map)
{
	uint32_t i;

	e->v = map->vcpu;
	e->ctl = map->control;
	e->intr = map->interrupts;
	e->ram = map->ram;
	e->dev = map->dev;
	e->pages = map->pages;
	e->m = map->pages;
	e->stamps = (uint32_t *)(void *)(e->pages + e->m->stamps);
	e->codemap = (uint64_t *)(void *)(e->pages + e->m->codemap);
	e->page_flags = e->pages + e->m->flags;
	e->pmap = (uint64_t *)(void *)(e->pages + e->m->pmap);
	for (i = 0; i < RF_VCPUS; i++) {
		e->ctl_of[i] = map->control_of[i];
		e->vcpu_of[i] = map->vcpu_of[i];
	}
}

/* A quarter of the arena for the shadow page table, the rest for code. */
static void
divide_arena(struct engine *e, uint64_t bytes)
{
	uint64_t at = align_page(sizeof *e);

	e->arena_bytes = bytes;
	e->hash_start = at;
	at = align_page(at + CODE_HASH * sizeof(uint32_t));
	e->shadow_start = at;
	e->shadow_end = at = align_page(at + bytes / 4);
	e->code_start = e->code_next = at;
	e->code_end = bytes < 0xffffffffu ? bytes : 0xffffffffu;
}

int
engine_init(void *arena, uint64_t arena_bytes, const struct engine_map *map, const struct cpu_model *model)
{
	struct engine *e = arena;
	const struct machine *m = map->pages;

	if (arena_bytes < RF_ARENA_MIN)
		return -ERR_ARENA_FULL;
	if ((uintptr_t)map->vcpu % 16)	/* SSE operands in v->fx */
		return -ERR_BAD_STATE;
#ifndef __x86_64__
	if (m->vcpus > 1)	/* guest loads and stores are the host's, and the guest counts on their order */
		return -ERR_MEMORY_ORDER;
#endif
	if (m->version != RF_MACHINE_VERSION || m->ram_pages * PAGE_SIZE > map->ram_bytes ||
	    m->dev_pages * PAGE_SIZE > map->dev_bytes || m->slot_count > RF_SLOTS ||
	    m->pmap + m->ram_pages * sizeof(uint64_t) > map->pages_bytes)
		return -ERR_BAD_STATE;
	map_machine(e, map);
	e->model = *model;
	divide_arena(e, arena_bytes);
	e->one_stamp = 1;
	tlb_init(e);
	e->tlb_cur = e->tlb[VIEW_SUPERVISOR];
	e->slot_generation = m->slot_generation;
	shadow_init(e);
	engine_flush(e);
	return 0;
}

/* ---- reset ---------------------------------------------------------------------------------------- */

static void
reset_segments(struct vcpu *v)
{
	uint32_t i;

	for (i = 0; i < 8; i++)
		v->seg[i] = (struct segment){ 0, 0, 0xffff, SEG_P | SEG_S | SEG_W | SEG_A };
	v->seg[CS] = (struct segment){ 0xf000, 0xffff0000u, 0xffff, SEG_P | SEG_S | SEG_CODE | SEG_R | SEG_A };
	/* A null LDT and task register: nothing may be read through them. */
	v->seg[LDTR] = (struct segment){ 0, 0, 0xffff, SEG_P | 2 | SEG_UNUSABLE };
	v->seg[TR] = (struct segment){ 0, 0, 0xffff, SEG_P | 11 | SEG_UNUSABLE };
	v->gdtr = v->idtr = (struct dtable){ 0, 0xffff };
}

void
vcpu_reset(struct vcpu *v, uint32_t vcpu_id, uint32_t signature)
{
	__builtin_memset(v, 0, sizeof *v);
	v->vcpu_id = vcpu_id;
	v->r[EDX] = signature;
	v->eip = 0xfff0;
	v->eflags = FL_1;
	reset_segments(v);
	v->idtr.limit = 0x3ff;
	v->cr0 = CR0_CD | CR0_NW | CR0_ET;
	v->dr[6] = 0xffff0ff0u;
	v->dr[7] = 0x400;
	v->a20_mask = 0xffffffffu;
	v->msr_apic_base = 0xfee00000u | 0x800 | (vcpu_id == 0 ? APIC_BASE_BSP : 0);
	v->msr_pat = 0x0007040600070406ull;
	v->activity = vcpu_id == 0 ? ACT_RUNNING : ACT_WAIT_SIPI;
	fpu_reset(v);
}

void
vcpu_init_signal(struct vcpu *v, const struct cpuid_leaf *leaves)
{
	const struct vcpu old = *v;

	vcpu_reset(v, old.vcpu_id, leaves[0].leaf == 1 ? leaves[0].eax : leaves[1].eax);
	__builtin_memcpy(v->fx, old.fx, sizeof v->fx);
	__builtin_memcpy(v->msr_mtrr_fix, old.msr_mtrr_fix, sizeof v->msr_mtrr_fix);
	__builtin_memcpy(v->msr_mtrr_var, old.msr_mtrr_var, sizeof v->msr_mtrr_var);
	v->msr_mtrr_def = old.msr_mtrr_def;
	v->msr_pat = old.msr_pat;
	v->msr_tsc_offset = old.msr_tsc_offset;
	v->msr_apic_base = old.msr_apic_base;
	v->a20_mask = old.a20_mask;	/* a pin, which INIT does not touch */
	v->cr0 = (old.cr0 & (CR0_CD | CR0_NW)) | CR0_ET;
}

/* ---- for other threads, and for the debugger ------------------------------------------------------ */

void
control_kick_by(struct control *ctl, uint32_t who, uint32_t bits)
{
	__atomic_fetch_or(&ctl->attention, bits, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&ctl->halted, __ATOMIC_SEQ_CST))
		sys_futex_wake(&ctl->attention, 1);
	if (unlikely(__atomic_load_n(&ctl->direct, __ATOMIC_SEQ_CST)))
		sys_pidfd_signal(ctl->kick_fd[who], RF_KICK_SIGNAL);
}

void
control_kick(struct control *ctl, uint32_t bits)
{
	control_kick_by(ctl, RF_VCPUS, bits);
}

void
machine_bump(struct machine *m, uint64_t first_ppn, uint64_t count)
{
	uint32_t *stamps = (uint32_t *)(void *)((uint8_t *)m + m->stamps);
	uint64_t i;

	for (i = 0; i < count && first_ppn + i < m->ram_pages; i++)
		__atomic_fetch_add(&stamps[first_ppn + i], 1, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&m->changes, 1, __ATOMIC_SEQ_CST);
}

int
engine_set_breakpoint(void *arena, uint32_t linear, uint32_t length, uint32_t kind)
{
	struct engine *e = arena;

	if (e->breakpoint_count == BREAKPOINTS || length == 0 || kind > 2)
		return -1;
	e->breakpoints[e->breakpoint_count++] = (struct breakpoint){ linear, length, kind, 1 };
	code_flush(e);
	return 0;
}

int
engine_clear_breakpoint(void *arena, uint32_t linear, uint32_t length, uint32_t kind)
{
	struct engine *e = arena;
	uint32_t i;

	for (i = 0; i < e->breakpoint_count; i++) {
		const struct breakpoint *b = &e->breakpoints[i];

		if (b->linear == linear && b->length == length && b->kind == kind) {
			e->breakpoints[i] = e->breakpoints[--e->breakpoint_count];
			code_flush(e);
			return 0;
		}
	}
	return -1;
}

int
engine_translate(void *arena, uint32_t linear, uint64_t *gpa)
{
	return shadow_peek(arena, linear, gpa) ? 0 : -1;
}
