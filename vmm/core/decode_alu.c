/*
 * decode_alu.c -- forms of the arithmetic, MOV, shift and one-operand groups of the one-byte map.
 *
 * Source: Intel SDM volume 2, appendix A, tables.
 */
#include "decode.h"
#include "insns.h"

static void
locked_alu(struct decoder *d, uint32_t what, bool byte, bool from_register)
{
	slow(d, i_locked_alu);
	d->op->imm2 = (uint8_t)(what << 4 | (from_register ? 4 : 0) | size_index(d, byte));
	d->lockable = true;
}

/* By ADD OR ADC SBB AND SUB XOR CMP TEST: what a Jcc behind the form is fused with. */
static const uint8_t fuse_rr[9] = { FUSE_ADD_RR, FUSE_OR_RR, 0, 0, FUSE_AND_RR, FUSE_SUB_RR, 0, FUSE_CMP32_RR, FUSE_TEST32_RR };
static const uint8_t fuse_ri[9] = { FUSE_ADD_RI, 0, 0, 0, FUSE_AND_RI, FUSE_SUB_RI, 0, FUSE_CMP32_RI, FUSE_TEST32_RI };

static uint8_t
fuse_kind(uint32_t what, uint32_t form, bool byte)
{
	const bool cmp = what == 7;

	switch (form) {
	case F_RR:
		return !byte ? fuse_rr[what] : cmp ? FUSE_CMP8_RR : what == 8 ? FUSE_TEST8_RR : FUSE_NONE;
	case F_RI:
		return !byte ? fuse_ri[what] : cmp ? FUSE_CMP8_RI : what == 8 ? FUSE_TEST8_RI : FUSE_NONE;
	case F_RMB:
	case F_RMF:
		return !cmp ? FUSE_NONE : byte ? FUSE_CMP8_RM : FUSE_CMP32_RM;
	case F_MRB:
	case F_MRF:
		return !cmp ? FUSE_NONE : byte ? FUSE_CMP8_MR : FUSE_CMP32_MR;
	case F_MIB:
	case F_MIF:
		return cmp ? (byte ? FUSE_CMP8_MI : FUSE_CMP32_MI) : what == 8 && byte ? FUSE_TEST8_MI : FUSE_NONE;
	default:
		return FUSE_NONE;
	}
}

void
decode_alu(struct decoder *d, uint32_t what, uint32_t form, bool byte)
{
	d->op->fn = alu_table[what][form][size_index(d, byte)];
	d->facts |= FACT_KILLS;
	if (what == 2 || what == 3)
		d->facts |= FACT_READS;
	if (byte || !d->size16)
		d->fuse = fuse_kind(what, form, byte);
	if (!byte && !d->size16)
		d->dead = form == F_RR ? alu_dead_table[what][0] : form == F_RMB ? alu_dead_table[what][1] :
		    form == F_RMF ? alu_dead_table[what][2] : form == F_RI ? alu_dead_table[what][3] : NULL;
}

void
decode_alu_rm_reg(struct decoder *d, uint32_t what, bool byte)
{
	if (byte)
		decode_modrm_bytes(d);
	else
		decode_modrm(d);
	if (!is_mem(d)) {
		decode_alu(d, what, F_RR, byte);
	} else if (d->lock && what < 7) {
		locked_alu(d, what, byte, true);
	} else {
		decode_alu(d, what, mem_form(d, F_MRB, F_MRF, F_MRG), byte);
		d->facts |= FACT_FAULTS;
	}
}

static void
alu_reg_rm(struct decoder *d, uint32_t what, bool byte)
{
	if (byte)
		decode_modrm_bytes(d);
	else
		decode_modrm(d);
	if (!is_mem(d)) {	/* the same handler, operands exchanged */
		const uint8_t reg = d->op->reg;

		d->op->reg = d->op->rm;
		d->op->rm = reg;
		decode_alu(d, what, F_RR, byte);
	} else {
		decode_alu(d, what, mem_form(d, F_RMB, F_RMF, F_RMG), byte);
		d->facts |= FACT_FAULTS;
	}
}

void
decode_alu_rm_imm(struct decoder *d, uint32_t what, bool byte)
{
	if (!is_mem(d)) {
		decode_alu(d, what, F_RI, byte);
	} else if (d->lock && what < 7) {
		locked_alu(d, what, byte, false);
	} else {
		decode_alu(d, what, mem_form(d, F_MIB, F_MIF, F_MIG), byte);
		d->facts |= FACT_FAULTS;
	}
}

void
decode_alu_map(struct decoder *d, uint32_t opcode)
{
	const uint32_t what = opcode >> 3;

	switch (opcode & 7) {
	case 0:
	case 1:
		decode_alu_rm_reg(d, what, !(opcode & 1));
		break;
	case 2:
	case 3:
		alu_reg_rm(d, what, !(opcode & 1));
		break;
	case 4:
		d->op->imm = decode_fetch8(d);
		decode_alu(d, what, F_RI, true);
		break;
	default:
		d->op->imm = decode_fetch_z(d);
		decode_alu(d, what, F_RI, false);
		break;
	}
}

void
decode_mov(struct decoder *d, enum form reg_form, enum form based, bool byte)
{
	/* The general form follows the flat one, which follows the one without index. */
	const uint32_t form = is_mem(d) ? mem_form(d, based, based + 1, based + 2) : reg_form;

	d->op->fn = mov_table[form][size_index(d, byte)];
	if (is_mem(d))
		d->facts |= FACT_FAULTS;
}

void
decode_mov_reg_rm(struct decoder *d, bool byte)
{
	if (byte)
		decode_modrm_bytes(d);
	else
		decode_modrm(d);
	if (!is_mem(d)) {
		const uint8_t reg = d->op->reg;

		d->op->reg = d->op->rm;
		d->op->rm = reg;
	}
	decode_mov(d, F_RR, F_RMB, byte);
}

void
decode_unary(struct decoder *d, uint32_t what, bool byte)
{
	const uint32_t s = size_index(d, byte);

	if (d->lock && is_mem(d)) {
		slow(d, i_locked_unary);
		d->op->imm2 = (uint8_t)((8 + what) << 4 | s);
		d->lockable = true;
		return;
	}
	pick(d, unary_table[what][U_R][s], unary_table[what][U_MF][s], unary_table[what][U_MG][s]);
	d->facts |= what == 2 ? 0 : what == 3 ? FACT_KILLS : FACT_READS;	/* INC and DEC keep CF */
	if (what < 2 && s == 2 && !is_mem(d))
		d->fuse = what ? FUSE_DEC : FUSE_INC;
	if (s == 2 && !is_mem(d))
		d->dead = unary_dead_table[what];
}

void
decode_shift_group(struct decoder *d, uint32_t opcode)
{
	const bool byte = !(opcode & 1), by_cl = (opcode & 0xfe) == 0xd2;
	uint32_t what, s = size_index(d, byte);

	if (byte)
		decode_modrm_bytes(d);
	else
		decode_modrm(d);
	what = d->op->modrm >> 3 & 7;
	if (opcode < 0xd0)
		d->op->imm = decode_fetch8(d);
	else if (!by_cl)
		d->op->imm = 1;
	pick(d, shift_table[what][by_cl][0][s], shift_table[what][by_cl][1][s], shift_table[what][by_cl][2][s]);
	if (!by_cl && (d->op->imm & 31)) {
		d->facts |= what >= 4 ? FACT_KILLS : FACT_READS;
		if (s == 2 && !is_mem(d))
			d->dead = shift_dead_table[what];
	} else {
		d->facts |= FACT_READS;
	}
}

void
decode_group3(struct decoder *d, bool byte)
{
	static slow_insn *const multiply[4] = { i_mul, i_imul, i_div, i_idiv };
	uint32_t what;

	if (byte)
		decode_modrm_bytes(d);
	else
		decode_modrm(d);
	what = d->op->modrm >> 3 & 7;
	if (what < 2) {		/* /1 is an alias of TEST */
		d->op->imm = byte ? decode_fetch8(d) : decode_fetch_z(d);
		decode_alu_rm_imm(d, 8, byte);
	} else if (what < 4) {
		decode_unary(d, what, byte);
	} else {
		slow(d, multiply[what - 4]);
		d->op->imm2 = byte ? 1 : d->size16 ? 2 : 4;
	}
}
