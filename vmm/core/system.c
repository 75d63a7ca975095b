/*
 * system.c -- control and debug registers, HLT, INVLPG, cache control, and the instructions that only fault.
 *
 * Hidden CPUID features still work, so the writable bits do not depend on the CPU model.
 *
 * Source: Intel SDM 2A "CLTS", "HLT", "INVLPG", "LMSW", "MOV (control registers)", "MOV (debug
 * registers)"; 2B "SMSW"; 3A 2.5 and 4.4.1 (PDPTE registers); 3B 17.2.
 */
#include "segment.h"
#include "slow.h"

#define CR0_WRITABLE (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)
#define CR4_WRITABLE (CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | \
	CR4_OSFXSR | CR4_OSXMMEXCPT)
#define LMSW_BITS (CR0_PE | CR0_MP | CR0_EM | CR0_TS)
#define DR6_WRITABLE (DR6_B | DR6_BD | DR6_BS | DR6_BT)
#define DR6_ONES 0xffff0ff0u
#define DR7_WRITABLE 0xffff23ffu
#define DR7_ONES 0x400u
#define DR7_GD (1u << 13)
#define PDPTE_P 1u
#define PDPTE_RESERVED 0x1e6u	/* bits 1-2 and 5-8; above them all past the physical address width */

void
pdptes_read(struct engine *e, uint32_t cr3, uint64_t pdpte[4])
{
	const uint64_t reserved = ~0ull << e->model.max_phys_bits | PDPTE_RESERVED;

	for (uint32_t i = 0; i < 4; i++) {
		pdpte[i] = phys_read64(e, ((cr3 & ~31u) + i * 8) & e->v->a20_mask);
		if ((pdpte[i] & PDPTE_P) && (pdpte[i] & reserved))
			raise_gp0(e);
	}
}

/* ---- control registers --------------------------------------------------------------------------- */

/* Writes that change one of these bits load the PDPTEs when PAE paging is on after them. */
#define CR0_LOADS_PDPTES (CR0_PG | CR0_CD | CR0_NW)
#define CR4_LOADS_PDPTES (CR4_PAE | CR4_PGE | CR4_PSE)

static void
reload_pdptes(struct engine *e, bool wanted)
{
	uint64_t pdpte[4];

	if (!wanted)
		return;
	pdptes_read(e, e->v->cr3, pdpte);
	__builtin_memcpy(e->v->pdpte, pdpte, sizeof pdpte);
}

static void
write_cr0(struct engine *e, uint32_t value)
{
	struct vcpu *v = e->v;
	uint32_t changed;

	value = (value & CR0_WRITABLE) | CR0_ET;
	changed = value ^ v->cr0;
	if ((value & CR0_PG) && !(value & CR0_PE))
		raise_gp0(e);
	if ((value & CR0_NW) && !(value & CR0_CD))
		raise_gp0(e);
	reload_pdptes(e, (value & CR0_PG) && (v->cr4 & CR4_PAE) && (changed & CR0_LOADS_PDPTES));
	v->cr0 = value;
	trace_cr(e, 0, value);
	if (changed & (CR0_PG | CR0_WP))
		shadow_mode_changed(e);
	state_changed(e);
}

static void
write_cr3(struct engine *e, uint32_t value)
{
	struct vcpu *v = e->v;
	uint64_t pdpte[4];

	if ((v->cr0 & CR0_PG) && (v->cr4 & CR4_PAE)) {
		pdptes_read(e, value, pdpte);
		__builtin_memcpy(v->pdpte, pdpte, sizeof pdpte);
	}
	v->cr3 = value;
	trace_cr(e, 3, value);
	shadow_load_cr3(e);
}

static void
write_cr4(struct engine *e, uint32_t value)
{
	struct vcpu *v = e->v;
	const uint32_t changed = value ^ v->cr4;

	if (value & ~(uint32_t)CR4_WRITABLE)
		raise_gp0(e);
	reload_pdptes(e, (v->cr0 & CR0_PG) && (value & CR4_PAE) && (changed & CR4_LOADS_PDPTES));
	v->cr4 = value;
	trace_cr(e, 4, value);
	if (changed & CR4_LOADS_PDPTES)
		shadow_mode_changed(e);
	state_changed(e);
}

void
i_mov_from_cr(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	uint32_t value;

	if (op->reg != 0 && (op->reg < 2 || op->reg > 4))
		raise_ud(e);
	require_cpl0(e);
	value = op->reg == 0 ? v->cr0 : op->reg == 2 ? v->cr2 : op->reg == 3 ? v->cr3 : v->cr4;
	v->r[op->rm & 7] = value;
}

void
i_mov_to_cr(struct engine *e, const struct op *op)
{
	const uint32_t value = e->v->r[op->rm & 7];

	if (op->reg != 0 && (op->reg < 2 || op->reg > 4))
		raise_ud(e);
	require_cpl0(e);
	switch (op->reg) {
	case 0:
		write_cr0(e, value);
		break;
	case 2:
		e->v->cr2 = value;
		break;
	case 3:
		write_cr3(e, value);
		break;
	default:
		write_cr4(e, value);
	}
}

/* A 32-bit register receives all of CR0; memory always receives 16 bits. */
void
i_smsw(struct engine *e, const struct op *op)
{
	if (op->flags & OP_MEM)
		mem_write(e, op_linear(e, op, 2, PF_W), 2, e->v->cr0 & 0xffff);
	else
		reg_put(e->v, op->rm, op_bytes(op), e->v->cr0);
}

/* "The LMSW instruction can be used to set the PE flag but not to clear it". */
void
i_lmsw(struct engine *e, const struct op *op)
{
	const struct vcpu *v = e->v;
	uint32_t value;

	require_cpl0(e);
	value = rm_get(e, op, 2) & LMSW_BITS;
	write_cr0(e, (v->cr0 & (~(uint32_t)LMSW_BITS | CR0_PE)) | value);
}

void
i_clts(struct engine *e, const struct op *op)
{
	(void)op;
	require_cpl0(e);
	e->v->cr0 &= ~(uint32_t)CR0_TS;
	trace_cr(e, 0, e->v->cr0);
	state_changed(e);
}

/* The operand's address is not checked against its segment. */
void
i_invlpg(struct engine *e, const struct op *op)
{
	require_cpl0(e);
	shadow_invlpg(e, e->v->seg[op->seg].base + op_ea(e, op));
}

/* ---- debug registers ------------------------------------------------------------------------------ */

/* DR4 and DR5 are DR6 and DR7 unless CR4.DE makes them #UD; any access with GD set is a #DB. */
static uint32_t
debug_register(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const bool alias = op->reg == 4 || op->reg == 5;

	if (alias && (v->cr4 & CR4_DE))
		raise_ud(e);
	require_cpl0(e);
	if (v->dr[7] & DR7_GD) {
		v->dr[6] |= DR6_BD;
		v->eflags |= FL_RF;	/* a fault, unlike most #DBs: the image shows RF */
		raise_noerr(e, V_DB);
	}
	return alias ? op->reg + 2u : op->reg & 7u;
}

void
i_mov_from_dr(struct engine *e, const struct op *op)
{
	const uint32_t n = debug_register(e, op);

	e->v->r[op->rm & 7] = e->v->dr[n];
}

void
i_mov_to_dr(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t n = debug_register(e, op), value = v->r[op->rm & 7];

	if (n == 6)
		v->dr[6] = (value & DR6_WRITABLE) | DR6_ONES;
	else if (n == 7)
		v->dr[7] = (value & DR7_WRITABLE) | DR7_ONES;
	else
		v->dr[n] = value;
	state_changed(e);
}

/* ---- the rest ---------------------------------------------------------------------------------------- */

void
i_hlt(struct engine *e, const struct op *op)
{
	(void)op;
	require_cpl0(e);
	e->v->activity = ACT_HALTED;
}

/* Whoever spins waits for another vCPU, which may be waiting for our host CPU. */
void
i_pause(struct engine *e, const struct op *op)
{
	(void)op;
	if (++e->pauses == PAUSES_BEFORE_YIELD)
		poll_soon(e);
}

/* No cache is modelled: there is nothing to write back or to lose. */
void
i_wbinvd(struct engine *e, const struct op *op)
{
	(void)op;
	require_cpl0(e);
}

void
i_invd(struct engine *e, const struct op *op)
{
	i_wbinvd(e, op);
}

void
i_ud(struct engine *e, const struct op *op)
{
	(void)op;
	raise_ud(e);
}

void
i_gp(struct engine *e, const struct op *op)
{
	(void)op;
	raise_gp0(e);
}
