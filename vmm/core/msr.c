/*
 * msr.c -- CPUID, RDTSC, RDPMC and the model-specific registers of a P6.
 *
 * A register that we do not know, a reserved bit or an undefined memory type is #GP(0), as the
 * processor does it: guests probe for registers with a handler in place.  Machine-check banks and
 * performance counters exist and read as zero.  LBR and BTF of DEBUGCTL are stored without effect.
 *
 * Source: Intel SDM 2A "CPUID"; 2B "RDMSR", "RDPMC", "RDTSC"; 3A 11.11 (MTRR), 11.12 (PAT); 4, table of
 * the P6 family.
 */
#include "segment.h"
#include "slow.h"

enum msr {
	MSR_TSC = 0x10, MSR_PLATFORM_ID = 0x17, MSR_APIC_BASE = 0x1b, MSR_EBL_CR_POWERON = 0x2a, MSR_BIOS_UPDT_TRIG = 0x79,
	MSR_BIOS_SIGN_ID = 0x8b,
	MSR_PERFCTR0 = 0xc1, MSR_PERFCTR1 = 0xc2, MSR_MTRRCAP = 0xfe, MSR_SYSENTER_CS = 0x174, MSR_SYSENTER_ESP = 0x175,
	MSR_SYSENTER_EIP = 0x176, MSR_MCG_CAP = 0x179, MSR_MCG_STATUS = 0x17a, MSR_EVNTSEL0 = 0x186, MSR_EVNTSEL1 = 0x187,
	MSR_MISC_ENABLE = 0x1a0, MSR_DEBUGCTL = 0x1d9, MSR_LASTBRANCHFROM = 0x1db, MSR_LASTINTTO = 0x1de,
	MSR_MTRR_VAR = 0x200, MSR_MTRR_FIX64K = 0x250, MSR_MTRR_FIX16K = 0x258, MSR_MTRR_FIX4K = 0x268, MSR_PAT = 0x277,
	MSR_MTRR_DEF = 0x2ff, MSR_MC0_CTL = 0x400
};
#define MSR_EFER 0xc0000080u

#define MTRR_VARS 16u		/* base and mask of each of 8 */
#define MTRRCAP (8u | 1u << 8 | 1u << 10)	/* VCNT, FIX, WC */
#define MTRR_VAR_VALID (1u << 11)
#define MTRR_DEF_BITS 0xcffu	/* E, FE and the type */
#define MC_BANKS 5u
#define MC_REGS (4u * MC_BANKS)
#define APIC_BASE_BSP (1u << 8)
#define APIC_BASE_ENABLE (1u << 11)
#define DEBUGCTL_BITS 0x7fu
#define MCG_STATUS_BITS 7u
#define CPUID_APIC (1u << 9)

/* ---- CPUID ------------------------------------------------------------------------------------------- */

static const struct cpuid_leaf *
cpuid_find(const struct cpu_model *m, uint32_t leaf, uint32_t subleaf)
{
	for (uint32_t i = 0; i < m->count && i < RF_CPUID_LEAVES; i++)
		if (m->leaves[i].leaf == leaf && (m->leaves[i].subleaf == 0xffffffffu || m->leaves[i].subleaf == subleaf))
			return &m->leaves[i];
	return NULL;
}

/* "If a value entered for CPUID.EAX is higher than the maximum input value for basic or extended
 * function for that processor then the data for the highest basic information leaf is returned". */
static struct cpuid_leaf
cpuid_answer(const struct cpu_model *m, uint32_t leaf, uint32_t subleaf)
{
	static const struct cpuid_leaf zero = { 0, 0, 0, 0, 0, 0 };
	const struct cpuid_leaf *group = cpuid_find(m, leaf & 0xffff0000u, 0), *found = cpuid_find(m, leaf, subleaf);

	if (!found && (!group || leaf > group->eax)) {
		group = cpuid_find(m, 0, 0);
		found = group ? cpuid_find(m, group->eax, subleaf) : NULL;
	}
	return found ? *found : zero;
}

void
i_cpuid(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t leaf = v->r[EAX];
	struct cpuid_leaf a = cpuid_answer(&e->model, leaf, v->r[ECX]);

	(void)op;
	if (leaf == 1) {
		a.ebx = (a.ebx & 0x00ffffff) | v->vcpu_id << 24;	/* initial APIC ID */
		if (!(v->msr_apic_base & APIC_BASE_ENABLE))
			a.edx &= ~CPUID_APIC;
		v->msr_microcode = 0;	/* "CPUID loads the update signature": no update */
	}
	v->r[EAX] = a.eax;
	v->r[EBX] = a.ebx;
	v->r[ECX] = a.ecx;
	v->r[EDX] = a.edx;
}

/* ---- reading -------------------------------------------------------------------------------------------- */

/* The 11 fixed-range MTRRs: 250h; 258h, 259h; 268h to 26Fh.  NULL when `n` is none of them. */
static uint64_t *
mtrr_fixed(struct vcpu *v, uint32_t n)
{
	if (n == MSR_MTRR_FIX64K)
		return &v->msr_mtrr_fix[0];
	if (n - MSR_MTRR_FIX16K < 2)
		return &v->msr_mtrr_fix[1 + n - MSR_MTRR_FIX16K];
	if (n - MSR_MTRR_FIX4K < 8)
		return &v->msr_mtrr_fix[3 + n - MSR_MTRR_FIX4K];
	return NULL;
}

/* Registers that always read as zero. */
static bool
msr_zero(uint32_t n)
{
	return n == MSR_PERFCTR0 || n == MSR_PERFCTR1 || n == MSR_EVNTSEL0 || n == MSR_EVNTSEL1 ||
	    (n >= MSR_LASTBRANCHFROM && n <= MSR_LASTINTTO) || n - MSR_MC0_CTL < MC_REGS;
}

static bool
msr_read_system(const struct vcpu *v, uint32_t n, uint64_t *value)
{
	switch (n) {
	case MSR_PLATFORM_ID:	/* bits 52:50 choose among updates, of which there are none */
		*value = 0;
		return true;
	case MSR_APIC_BASE:
		*value = v->msr_apic_base;
		return true;
	case MSR_EBL_CR_POWERON:
		*value = v->msr_ebl_cr_poweron;
		return true;
	case MSR_BIOS_SIGN_ID:
		*value = v->msr_microcode;
		return true;
	case MSR_SYSENTER_CS:
		*value = v->msr_sysenter_cs;
		return true;
	case MSR_SYSENTER_ESP:
		*value = v->msr_sysenter_esp;
		return true;
	case MSR_SYSENTER_EIP:
		*value = v->msr_sysenter_eip;
		return true;
	case MSR_MCG_CAP:
		*value = MC_BANKS;
		return true;
	case MSR_MCG_STATUS:
		*value = v->msr_mcg_status;
		return true;
	case MSR_MISC_ENABLE:
		*value = v->msr_misc_enable;
		return true;
	case MSR_DEBUGCTL:
		*value = v->msr_debugctl;
		return true;
	case MSR_EFER:
		*value = v->efer;
		return true;
	default:
		return false;
	}
}

static bool
msr_read(struct engine *e, uint32_t n, uint64_t *value)
{
	struct vcpu *v = e->v;
	const uint64_t *fixed = mtrr_fixed(v, n);

	*value = 0;
	if (msr_zero(n) || msr_read_system(v, n, value))
		return true;
	if (fixed)
		*value = *fixed;
	else if (n - MSR_MTRR_VAR < MTRR_VARS)
		*value = v->msr_mtrr_var[n - MSR_MTRR_VAR];
	else if (n == MSR_TSC)
		*value = tsc_now(e);
	else if (n == MSR_MTRRCAP)
		*value = MTRRCAP;
	else if (n == MSR_MTRR_DEF)
		*value = v->msr_mtrr_def;
	else if (n == MSR_PAT)
		*value = v->msr_pat;
	else
		return false;
	return true;
}

/* ---- writing -------------------------------------------------------------------------------------------- */

/* Each byte of `value` is a memory type: UC, WC, WT, WP, WB, and UC- in the PAT. */
static bool
types_valid(uint64_t value, uint32_t count, bool pat)
{
	const uint32_t valid = 1u << 0 | 1u << 1 | 1u << 4 | 1u << 5 | 1u << 6 | (pat ? 1u << 7 : 0);

	for (uint32_t i = 0; i < count; i++, value >>= 8)
		if ((value & 0xff) > 7 || !(valid >> (value & 7) & 1))
			return false;
	return true;
}

static bool
write_var_mtrr(struct engine *e, uint32_t n, uint64_t value)
{
	const uint64_t address = (~0ull << e->model.max_phys_bits) ^ ~0xfffull;	/* bits 12 to the width */

	if (n & 1 ? value & ~(address | MTRR_VAR_VALID) : (value & ~(address | 0xff)) || !types_valid(value & 0xff, 1, false))
		return false;
	e->v->msr_mtrr_var[n] = value;
	return true;
}

static bool
msr_write_memory_types(struct engine *e, uint32_t n, uint64_t value)
{
	struct vcpu *v = e->v;
	uint64_t *fixed = mtrr_fixed(v, n);

	if (n - MSR_MTRR_VAR < MTRR_VARS)
		return write_var_mtrr(e, n - MSR_MTRR_VAR, value);
	if (fixed && types_valid(value, 8, false))
		*fixed = value;
	else if (n == MSR_PAT && types_valid(value, 8, true))
		v->msr_pat = value;
	else if (n == MSR_MTRR_DEF && !(value & ~(uint64_t)MTRR_DEF_BITS) && types_valid(value & 0xff, 1, false))
		v->msr_mtrr_def = value;
	else
		return false;
	return true;
}

/* The BSP bit is not the guest's to change. */
static bool
write_apic_base(struct engine *e, uint64_t value)
{
	struct vcpu *v = e->v;
	const uint64_t address = (~0ull << e->model.max_phys_bits) ^ ~0xfffull;

	if (value & ~(address | APIC_BASE_ENABLE | APIC_BASE_BSP))
		return false;
	v->msr_apic_base = (value & ~(uint64_t)APIC_BASE_BSP) | (v->msr_apic_base & APIC_BASE_BSP);
	kick_vcpus(e, intr_set_apic_base(e->intr, v->vcpu_id, v->msr_apic_base));
	shadow_mode_changed(e);		/* the APIC's page moved */
	return true;
}

/* SYSCALL does not exist outside long mode here, so NXE is the only bit. */
static bool
write_efer(struct engine *e, uint64_t value)
{
	if (value & ~(uint64_t)EFER_NXE)
		return false;
	if (e->v->efer != value) {
		e->v->efer = value;
		shadow_mode_changed(e);
	}
	return true;
}

static bool
msr_write_system(struct engine *e, uint32_t n, uint64_t value)
{
	struct vcpu *v = e->v;

	switch (n) {
	case MSR_TSC:
		v->msr_tsc_offset += value - tsc_now(e);
		return true;
	case MSR_APIC_BASE:
		return write_apic_base(e, value);
	case MSR_EBL_CR_POWERON:
		v->msr_ebl_cr_poweron = value;
		return true;
	case MSR_BIOS_UPDT_TRIG:	/* no update is ever loaded */
		return true;
	case MSR_BIOS_SIGN_ID:
		v->msr_microcode = value;
		return true;
	case MSR_SYSENTER_CS:
		v->msr_sysenter_cs = (uint32_t)value;
		return true;
	case MSR_SYSENTER_ESP:
		v->msr_sysenter_esp = (uint32_t)value;
		return true;
	case MSR_SYSENTER_EIP:
		v->msr_sysenter_eip = (uint32_t)value;
		return true;
	case MSR_MCG_STATUS:
		v->msr_mcg_status = value & MCG_STATUS_BITS;
		return true;
	case MSR_MISC_ENABLE:
		v->msr_misc_enable = value;
		return true;
	case MSR_DEBUGCTL:
		if (value & ~(uint64_t)DEBUGCTL_BITS)
			return false;
		v->msr_debugctl = value;
		return true;
	case MSR_EFER:
		return write_efer(e, value);
	default:
		return false;
	}
}

/* MCi_STATUS may only be written with zero. */
static bool
msr_write_zero(uint32_t n, uint64_t value)
{
	const bool status = n - MSR_MC0_CTL < MC_REGS && (n & 3) == 1;

	return msr_zero(n) && !(status && value);
}

/* ---- instructions ------------------------------------------------------------------------------------------ */

static void
put_edx_eax(struct vcpu *v, uint64_t value)
{
	v->r[EAX] = (uint32_t)value;
	v->r[EDX] = (uint32_t)(value >> 32);
}

void
i_rdmsr(struct engine *e, const struct op *op)
{
	uint64_t value;

	(void)op;
	require_cpl0(e);
	if (!msr_read(e, e->v->r[ECX], &value))
		raise_gp0(e);
	put_edx_eax(e->v, value);
}

void
i_wrmsr(struct engine *e, const struct op *op)
{
	const struct vcpu *v = e->v;
	const uint64_t value = (uint64_t)v->r[EDX] << 32 | v->r[EAX];
	const uint32_t n = v->r[ECX];

	(void)op;
	require_cpl0(e);
	if (!msr_write_system(e, n, value) && !msr_write_memory_types(e, n, value) && !msr_write_zero(n, value))
		raise_gp0(e);
	trace_cr(e, n, (uint32_t)value);
}

void
i_rdtsc(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;

	(void)op;
	if ((v->cr4 & CR4_TSD) && v->cpl != 0)
		raise_gp0(e);
	put_edx_eax(v, tsc_now(e));
}

/* Two counters, which do not count. */
void
i_rdpmc(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;

	(void)op;
	if ((!(v->cr4 & CR4_PCE) && v->cpl != 0) || v->r[ECX] > 1)
		raise_gp0(e);
	put_edx_eax(v, 0);
}
