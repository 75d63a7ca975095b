/*
 * decode_0f.c -- the two-byte opcode map (0F xx).
 *
 * What the P6 map leaves empty is #UD; 0F 18..1F and 0F 0D are hints, executed as no-ops.  F3 0F BC is TZCNT, which CPUID
 * does not announce: nearly all hosts have it, and direct execution could not take it for BSF.
 * Source: Intel SDM volume 2, appendix A.
 */
#include "decode.h"
#include "insns.h"

static void
group6(struct decoder *d)
{
	decode_modrm(d);
	switch (d->op->modrm >> 3 & 7) {
	case 0:
		slow(d, i_sldt);
		break;
	case 1:
		slow(d, i_str);
		break;
	case 2:
		slow_end(d, i_lldt);
		break;
	case 3:
		slow_end(d, i_ltr);
		break;
	case 4:
		slow(d, i_verr);
		break;
	case 5:
		slow(d, i_verw);
		break;
	default:
		undefined(d);
	}
}

static void
group7(struct decoder *d)
{
	decode_modrm(d);
	const uint32_t what = d->op->modrm >> 3 & 7;

	if (!is_mem(d) && what != 4 && what != 6) {
		undefined(d);
		return;
	}
	switch (what) {
	case 0:
		slow(d, i_sgdt);
		break;
	case 1:
		slow(d, i_sidt);
		break;
	case 2:
		slow_last(d, i_lgdt);
		break;
	case 3:
		slow_last(d, i_lidt);
		break;
	case 4:
		slow(d, i_smsw);
		break;
	case 6:
		slow_last(d, i_lmsw);
		break;
	case 7:
		slow_last(d, i_invlpg);
		break;
	default:
		undefined(d);
	}
}

/* MOV CR, MOV DR: mod is ignored, the operand is a register of 32 bits. */
static void
move_special(struct decoder *d, slow_insn *fn, bool to)
{
	struct op *op = d->op;
	const uint8_t modrm = decode_fetch8(d);

	op->modrm = modrm;
	op->reg = modrm >> 3 & 7;
	op->rm = modrm & 7;
	if (to)
		slow_last(d, fn);
	else
		slow(d, fn);
}

static void
bit_test_reg(struct decoder *d, uint32_t what)
{
	decode_modrm(d);
	slow(d, i_bt_reg);
	d->op->imm2 = (uint8_t)what;
	d->lockable = what && is_mem(d);
}

static void
group8(struct decoder *d)
{
	decode_modrm(d);
	const uint32_t what = d->op->modrm >> 3 & 7;

	d->op->imm = decode_fetch8(d);
	if (what < 4) {
		undefined(d);
		return;
	}
	slow(d, i_bt_imm);
	d->op->imm2 = (uint8_t)(what - 4);
	d->lockable = what > 4 && is_mem(d);
}

static void
double_shift(struct decoder *d, slow_insn *fn, bool immediate)
{
	decode_modrm(d);
	if (immediate)
		d->op->imm = decode_fetch8(d);
	slow(d, fn);
}

static void
exchange(struct decoder *d, slow_insn *fn, bool byte)
{
	if (byte)
		decode_modrm_bytes(d);
	else
		decode_modrm(d);
	slow(d, fn);
	d->op->imm2 = byte ? 1 : d->size16 ? 2 : 4;
	d->lockable = is_mem(d);
}

static void
extend(struct decoder *d, bool sign, bool from16)
{
	const uint32_t to = d->size16 ? 0 : 1;
	struct op *op;

	decode_modrm(d);
	op = d->op;
	if (!is_mem(d) && !from16)
		op->rm = byte_reg(op->rm);
	d->op->fn = movx_table[sign][from16][is_mem(d) ? mem_form(d, X_MB, X_MF, X_MG) : X_R][to];
	if (is_mem(d))
		d->facts |= FACT_FAULTS;
}

static void
cmov(struct decoder *d, uint32_t cc)
{
	decode_modrm(d);
	if (d->size16) {
		slow(d, i_cmov);
		d->op->imm2 = (uint8_t)cc;
	} else {
		pick(d, cmov_table[cc][0], cmov_table[cc][1], cmov_table[cc][2]);
	}
	d->facts |= FACT_READS;
}

static void
setcc(struct decoder *d, uint32_t cc)
{
	decode_modrm_bytes(d);
	pick(d, setcc_table[cc][0], setcc_table[cc][1], setcc_table[cc][2]);
	d->facts |= FACT_READS;
}

static void
imul(struct decoder *d)
{
	decode_modrm(d);
	if (!d->size16 && !is_mem(d)) {
		d->op->fn = h_imul32_rr;
		d->dead = h_imul32_dead_rr;
		d->facts = FACT_KILLS;
	} else if (!d->size16 && is_flat(d)) {
		d->op->fn = h_imul32_rmf;
		d->facts = FACT_FAULTS | FACT_KILLS;
	} else {
		slow(d, i_imul_rm);
	}
}

static bool
has_immediate(uint32_t opcode)
{
	return (opcode >= 0x70 && opcode <= 0x73) || opcode == 0xc2 || (opcode >= 0xc4 && opcode <= 0xc6);
}

static void
simd(struct decoder *d, uint32_t opcode)
{
	const uint32_t prefix = d->rep == OP_REP ? 0xf3 : d->rep == OP_REPNE ? 0xf2 : d->prefix66 ? 0x66 : 0;
	struct forms forms;

	if (opcode != 0x77)	/* EMMS has no ModRM */
		decode_modrm(d);
	d->op->prefix = (uint8_t)prefix;
	d->op->xmm_reg = xmm_offset(d->op->reg);
	d->op->xmm_rm = xmm_offset(d->op->rm);
	forms = simd_lookup(opcode, prefix, d->op->modrm);
	if (forms.slow && has_immediate(opcode))
		d->op->imm = decode_fetch8(d);
	decode_forms(d, forms);
	if (forms.slow && !d->first && !d->stop && !d->lock) {
		handler *both = simd_pair(d->op - 1, d->op);

		if (both)
			d->op[-1].fn = both;
	}
}

static void
system_low(struct decoder *d, uint32_t opcode)	/* 00-3F */
{
	switch (opcode) {
	case 0x00:
		group6(d);
		break;
	case 0x01:
		group7(d);
		break;
	case 0x02:
		decode_modrm(d);
		slow(d, i_lar);
		break;
	case 0x03:
		decode_modrm(d);
		slow(d, i_lsl);
		break;
	case 0x06:
		slow_last(d, i_clts);
		break;
	case 0x08:
		slow_end(d, i_invd);
		break;
	case 0x09:
		slow_end(d, i_wbinvd);
		break;
	case 0x0d: case 0x18: case 0x19: case 0x1a: case 0x1b: case 0x1c: case 0x1d: case 0x1e: case 0x1f:
		decode_modrm(d);
		d->op->fn = h_nop;
		break;
	case 0x20:
		move_special(d, i_mov_from_cr, false);
		break;
	case 0x21:
		move_special(d, i_mov_from_dr, false);
		break;
	case 0x22:
		move_special(d, i_mov_to_cr, true);
		break;
	case 0x23:
		move_special(d, i_mov_to_dr, true);
		break;
	case 0x30:
		slow_end(d, i_wrmsr);
		break;
	case 0x31:
		slow(d, i_rdtsc);
		break;
	case 0x32:
		slow(d, i_rdmsr);
		break;
	case 0x33:
		slow(d, i_rdpmc);
		break;
	case 0x34:
		slow_jump(d, i_sysenter);
		break;
	case 0x35:
		slow_jump(d, i_sysexit);
		break;
	case 0x10: case 0x11: case 0x12: case 0x13: case 0x14: case 0x15: case 0x16: case 0x17:
	case 0x28: case 0x29: case 0x2a: case 0x2b: case 0x2c: case 0x2d: case 0x2e: case 0x2f:
		simd(d, opcode);
		break;
	default:
		undefined(d);
	}
}

static uint32_t
fetch_relative(struct decoder *d)
{
	const uint32_t x = decode_fetch_z(d);

	return d->size16 ? SX16(x) : x;
}

void
decode_two_byte(struct decoder *d)
{
	const uint32_t opcode = decode_fetch8(d);

	d->op->opcode = (uint8_t)opcode;
	if (opcode < 0x40) {
		system_low(d, opcode);
		return;
	}
	if (opcode < 0x50) {
		cmov(d, opcode & 15);
		return;
	}
	switch (opcode) {
	case 0x80: case 0x81: case 0x82: case 0x83: case 0x84: case 0x85: case 0x86: case 0x87:
	case 0x88: case 0x89: case 0x8a: case 0x8b: case 0x8c: case 0x8d: case 0x8e: case 0x8f:
		decode_jcc(d, opcode & 15, fetch_relative(d));
		break;
	case 0x90: case 0x91: case 0x92: case 0x93: case 0x94: case 0x95: case 0x96: case 0x97:
	case 0x98: case 0x99: case 0x9a: case 0x9b: case 0x9c: case 0x9d: case 0x9e: case 0x9f:
		setcc(d, opcode & 15);
		break;
	case 0xa0:
	case 0xa8:
		d->op->reg = opcode == 0xa0 ? FS : GS;
		slow(d, i_push_sreg);
		break;
	case 0xa1:
	case 0xa9:
		d->op->reg = opcode == 0xa1 ? FS : GS;
		slow_end(d, i_pop_sreg);
		break;
	case 0xa2:
		slow_end(d, i_cpuid);
		break;
	case 0xa3:
		bit_test_reg(d, 0);
		break;
	case 0xab:
		bit_test_reg(d, 1);
		break;
	case 0xb3:
		bit_test_reg(d, 2);
		break;
	case 0xbb:
		bit_test_reg(d, 3);
		break;
	case 0xa4:
		double_shift(d, i_shld, true);
		break;
	case 0xa5:
		double_shift(d, i_shld_cl, false);
		break;
	case 0xac:
		double_shift(d, i_shrd, true);
		break;
	case 0xad:
		double_shift(d, i_shrd_cl, false);
		break;
	case 0xaf:
		imul(d);
		break;
	case 0xb0:
	case 0xb1:
		exchange(d, i_cmpxchg, opcode == 0xb0);
		break;
	case 0xb2:
		decode_load_far(d, SS);
		break;
	case 0xb4:
		decode_load_far(d, FS);
		break;
	case 0xb5:
		decode_load_far(d, GS);
		break;
	case 0xb6:
		extend(d, false, false);
		break;
	case 0xb7:
		extend(d, false, true);
		break;
	case 0xbe:
		extend(d, true, false);
		break;
	case 0xbf:
		extend(d, true, true);
		break;
	case 0xba:
		group8(d);
		break;
	case 0xbc:
		decode_modrm(d);
		slow(d, d->rep == OP_REP ? i_tzcnt : i_bsf);
		break;
	case 0xbd:
		decode_modrm(d);
		slow(d, i_bsr);
		break;
	case 0xc0:
	case 0xc1:
		exchange(d, i_xadd, opcode == 0xc0);
		break;
	case 0xc7:
		decode_modrm(d);
		if ((d->op->modrm >> 3 & 7) == 1 && is_mem(d)) {
			slow(d, i_cmpxchg8b);
			d->lockable = true;
		} else {
			undefined(d);
		}
		break;
	case 0xc8: case 0xc9: case 0xca: case 0xcb: case 0xcc: case 0xcd: case 0xce: case 0xcf:
		d->op->rm = opcode & 7;
		if (d->size16)
			slow(d, i_bswap);
		else
			d->op->fn = h_bswap32;
		break;
	case 0xb9:
	case 0xff:
		decode_modrm(d);
		undefined(d);
		break;
	case 0xaa:
		undefined(d);
		break;
	default:
		simd(d, opcode);
	}
}
