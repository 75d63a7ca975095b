/*
 * decode_1.c -- the one-byte opcode map: which handler runs which form.
 *
 * Source: Intel SDM volume 2, appendix A.
 */
#include "decode.h"
#include "insns.h"

static void
near_indirect(struct decoder *d, bool call)
{
	if (flat_code(d) && (!is_mem(d) || is_flat(d)) && (!call || flat_stack(d))) {
		d->op->fn = call ? (is_mem(d) ? h_call_mf : h_call_rf) : is_mem(d) ? h_jmp_mf : h_jmp_r;
		d->end = true;
	} else {
		slow_jump(d, call ? i_call_near_rm : i_jmp_near_rm);
	}
}

static void
group5(struct decoder *d)
{
	decode_modrm(d);
	switch (d->op->modrm >> 3 & 7) {
	case 0:
	case 1:
		decode_unary(d, d->op->modrm >> 3 & 7, false);
		break;
	case 2:
		near_indirect(d, true);
		break;
	case 3:
	case 5:
		if (!is_mem(d))
			undefined(d);
		else
			slow_jump(d, (d->op->modrm >> 3 & 7) == 3 ? i_call_far_m : i_jmp_far_m);
		break;
	case 4:
		near_indirect(d, false);
		break;
	case 6:
		if (flat_stack(d) && !is_mem(d)) {
			d->op->fn = h_push32_rf;
			d->facts = FACT_FAULTS;
		} else if (flat_stack(d) && is_flat(d)) {
			d->op->fn = h_push32_mf;
			d->facts = FACT_FAULTS;
		} else {
			slow(d, i_push_rm);
		}
		break;
	default:
		undefined(d);
	}
}

/* Relative branches: imm becomes the target's distance from the block's first byte. */
static void
relative(struct decoder *d, uint32_t rel)
{
	d->op->imm = d->pos + rel;
	d->end = true;
}

void
decode_jcc(struct decoder *d, uint32_t cc, uint32_t rel)
{
	struct op *prev = d->op - 1;
	const bool plain = flat_code(d) && !(d->mode & MODE_ONE) && !d->stop && !d->lock;

	relative(d, rel);
	/* A branch ahead is an exit from the middle of the block; one back is a loop's end, and the block's. */
	if (plain && !d->crossed && (int32_t)rel >= 0) {
		d->end = false;
		d->side = true;
	}
	/* One op has one set of prefixes: neither may cut EIP to 16 bits, and a LOCKed Jcc is #UD.  One that could not
	 * be fetched whole is decoded again in a block of its own. */
	if (d->prev_fuse && plain && !((prev->flags | d->op->flags) & OP_SIZE16)) {
		prev->fn = (d->side ? fused_side_table : fused_table)[cc][d->prev_fuse];
		prev->cc_imm = prev->imm;
		prev->imm = d->op->imm;
		prev->link[0] = prev->link[1] = d->e->no_block;
		prev->flags |= OP_FUSED;
		d->fused = true;
		return;
	}
	d->op->fn = d->side ? side_table[cc] : jcc_table[cc];
	d->facts = FACT_READS;
}

/* JMP rel: within the page, decoding goes on at the target. */
static void
jump_rel(struct decoder *d, uint32_t rel)
{
	const uint32_t in_page = (d->linear & (PAGE_SIZE - 1)) + d->pos + rel;

	relative(d, rel);
	d->op->fn = h_jmp;
	if (flat_code(d) && !(d->mode & MODE_ONE) && !d->stop && !d->lock && !d->crossed && !d->pending &&
	    in_page < PAGE_SIZE) {
		d->op->fn = h_nop;
		d->end = false;
		d->follow = true;
	}
}

static void
call_rel(struct decoder *d, uint32_t rel)
{
	relative(d, rel);
	if (flat_code(d) && flat_stack(d)) {
		d->op->fn = h_call_f;
	} else {
		const uint32_t target = d->op->imm;

		slow_jump(d, i_call_rel);
		d->op->imm = target;
	}
}

static void
ret_near(struct decoder *d, uint32_t bytes)
{
	d->op->imm16 = (uint16_t)bytes;
	if (flat_code(d) && flat_stack(d)) {
		d->op->fn = h_ret_f;
		d->end = true;
	} else {
		slow_jump(d, i_ret);
	}
}

static void
push_register(struct decoder *d)
{
	d->facts = FACT_FAULTS;
	if (flat_stack(d))
		d->op->fn = h_push32_rf;
	else
		slow(d, i_push_reg);
}

static void
push_immediate(struct decoder *d, uint32_t imm)
{
	d->op->imm = imm;
	d->facts = FACT_FAULTS;
	if (flat_stack(d))
		d->op->fn = h_push32_if;
	else
		slow(d, i_push_imm);
}

static void
string(struct decoder *d, slow_insn *fn, bool byte)
{
	if (d->rep)
		slow_jump(d, fn);
	else
		slow(d, fn);
	d->op->imm2 = byte ? 1 : d->size16 ? 2 : 4;
	d->op->seg = d->override >= 0 ? (uint8_t)d->override : DS;
}

static void
port(struct decoder *d, slow_insn *fn, bool byte, bool immediate)
{
	slow(d, fn);
	if (immediate)
		d->op->imm = decode_fetch8(d);
	d->op->imm2 = byte ? 1 : d->size16 ? 2 : 4;
}

static void
moffs(struct decoder *d, uint32_t opcode)
{
	struct op *op = d->op;
	const bool byte = !(opcode & 1), store = (opcode & 2) != 0;
	op->disp = d->addr16 ? decode_fetch16(d) : decode_fetch32(d);
	op->base = op->index = R_ZERO;
	op->reg = 0;
	op->seg = d->override >= 0 ? (uint8_t)d->override : DS;
	op->flags |= OP_MEM;
	if (store)
		decode_mov(d, F_RR, F_MRB, byte);
	else
		decode_mov(d, F_RR, F_RMB, byte);
}

static void
xchg_rm(struct decoder *d, bool byte)
{
	if (byte)
		decode_modrm_bytes(d);
	else
		decode_modrm(d);
	if (!is_mem(d) && !byte && !d->size16) {
		d->op->fn = h_xchg32_rr;
		return;
	}
	slow(d, i_xchg_rm);
	d->op->imm2 = byte ? 1 : d->size16 ? 2 : 4;
	d->lockable = is_mem(d);
}

void
decode_load_far(struct decoder *d, uint32_t sreg)
{
	decode_modrm(d);
	if (!is_mem(d)) {
		undefined(d);
		return;
	}
	slow_end(d, i_lxs);
	d->op->imm2 = (uint8_t)sreg;
}

static void
one_byte_low(struct decoder *d, uint32_t opcode)	/* 00-5F */
{
	struct op *op = d->op;

	switch (opcode) {
	case 0x06: case 0x0e: case 0x16: case 0x1e:
		op->reg = (uint8_t)(opcode >> 3);
		slow(d, i_push_sreg);
		break;
	case 0x07: case 0x17: case 0x1f:
		op->reg = (uint8_t)(opcode >> 3);
		slow_end(d, i_pop_sreg);
		break;
	case 0x27:
		slow(d, i_daa);
		break;
	case 0x2f:
		slow(d, i_das);
		break;
	case 0x37:
		slow(d, i_aaa);
		break;
	case 0x3f:
		slow(d, i_aas);
		break;
	default:
		if (opcode < 0x40) {	/* rm stays 0, EAX or AL, for the forms without ModRM */
			decode_alu_map(d, opcode);
			break;
		}
		op->rm = opcode & 7;
		if (opcode < 0x50)
			decode_unary(d, opcode >> 3 & 1, false);
		else if (opcode < 0x58)
			push_register(d);
		else if (flat_stack(d))
			op->fn = h_pop32_rf, d->facts = FACT_FAULTS;
		else
			slow(d, i_pop_reg);
	}
}

static void
one_byte_mid(struct decoder *d, uint32_t opcode)	/* 60-9F */
{
	struct op *op = d->op;

	switch (opcode) {
	case 0x60:
		slow(d, i_pusha);
		break;
	case 0x61:
		slow(d, i_popa);
		break;
	case 0x62:
		decode_modrm(d);
		if (is_mem(d))
			slow(d, i_bound);
		else
			undefined(d);
		break;
	case 0x63:
		decode_modrm(d);
		slow(d, i_arpl);
		break;
	case 0x68:
		push_immediate(d, decode_fetch_z(d));
		break;
	case 0x6a:
		push_immediate(d, decode_fetch_signed8(d));
		break;
	case 0x69:
	case 0x6b:
		decode_modrm(d);
		op->imm = opcode == 0x69 ? decode_fetch_z(d) : decode_fetch_signed8(d);
		if (!d->size16 && !is_mem(d)) {
			op->fn = h_imul32_rri;
			d->dead = h_imul32_dead_rri;
			d->facts = FACT_KILLS;
		} else {
			slow(d, i_imul_rmi);
		}
		break;
	case 0x6c:
	case 0x6d:
		string(d, i_ins, opcode == 0x6c);
		break;
	case 0x6e:
	case 0x6f:
		string(d, i_outs, opcode == 0x6e);
		break;
	case 0x80: case 0x81: case 0x82: case 0x83: {
		const bool byte = !(opcode & 1);

		if (byte)
			decode_modrm_bytes(d);
		else
			decode_modrm(d);
		op->imm = byte ? decode_fetch8(d) : opcode == 0x81 ? decode_fetch_z(d) : decode_fetch_signed8(d);
		decode_alu_rm_imm(d, op->modrm >> 3 & 7, byte);
		break;
	}
	case 0x84:
	case 0x85:
		decode_alu_rm_reg(d, 8, opcode == 0x84);
		break;
	case 0x86:
	case 0x87:
		xchg_rm(d, opcode == 0x86);
		break;
	case 0x88:
		decode_modrm_bytes(d);
		decode_mov(d, F_RR, F_MRB, true);
		break;
	case 0x89:
		decode_modrm(d);
		decode_mov(d, F_RR, F_MRB, false);
		break;
	case 0x8a:
	case 0x8b:
		decode_mov_reg_rm(d, opcode == 0x8a);
		break;
	case 0x8c:
		decode_modrm(d);
		if (op->reg > GS) {
			undefined(d);
		} else {
			slow(d, i_mov_from_sreg);
		}
		break;
	case 0x8d:
		decode_modrm(d);
		if (!is_mem(d))
			undefined(d);
		else
			op->fn = d->size16 || d->addr16 ? h_lea_g : h_lea32;
		break;
	case 0x8e:
		decode_modrm(d);
		if (op->reg > GS || op->reg == CS)
			undefined(d);
		else
			slow_end(d, i_mov_sreg);
		break;
	case 0x8f:
		decode_modrm(d);
		if (op->reg != 0)
			undefined(d);
		else
			slow(d, i_pop_rm);
		break;
	case 0x90:
		op->fn = h_nop;
		if (d->rep == OP_REP && d->e->m->vcpus > 1)
			slow(d, i_pause);
		break;
	case 0x98:
		slow(d, i_cbw);
		break;
	case 0x99:
		if (d->size16)
			slow(d, i_cwd);
		else
			op->fn = h_cdq;
		break;
	case 0x9a:
		op->imm = decode_fetch_z(d);
		op->imm16 = (uint16_t)decode_fetch16(d);
		slow_jump(d, i_call_far);
		break;
	case 0x9b:
		slow(d, i_fwait);
		break;
	case 0x9c:
		slow(d, i_pushf);
		break;
	case 0x9d:
		slow_end(d, i_popf);
		break;
	case 0x9e:
		slow(d, i_sahf);
		break;
	case 0x9f:
		slow(d, i_lahf);
		break;
	default:
		if (opcode >= 0x70 && opcode < 0x80) {
			decode_jcc(d, opcode & 15, decode_fetch_signed8(d));
		} else if (opcode > 0x90 && opcode < 0x98) {
			op->rm = opcode & 7;
			op->reg = EAX;
			if (d->size16) {
				slow(d, i_xchg_rm);
				op->imm2 = 2;
			} else {
				op->fn = h_xchg32_rr;
			}
		} else {
			undefined(d);
		}
	}
}

static void
one_byte_high(struct decoder *d, uint32_t opcode)	/* A0-FF */
{
	struct op *op = d->op;

	switch (opcode) {
	case 0xa0: case 0xa1: case 0xa2: case 0xa3:
		moffs(d, opcode);
		break;
	case 0xa4:
	case 0xa5:
		string(d, i_movs, opcode == 0xa4);
		break;
	case 0xa6:
	case 0xa7:
		string(d, i_cmps, opcode == 0xa6);
		break;
	case 0xa8:
		op->imm = decode_fetch8(d);
		decode_alu(d, 8, F_RI, true);
		break;
	case 0xa9:
		op->imm = decode_fetch_z(d);
		decode_alu(d, 8, F_RI, false);
		break;
	case 0xaa:
	case 0xab:
		string(d, i_stos, opcode == 0xaa);
		break;
	case 0xac:
	case 0xad:
		string(d, i_lods, opcode == 0xac);
		break;
	case 0xae:
	case 0xaf:
		string(d, i_scas, opcode == 0xae);
		break;
	case 0xc0: case 0xc1: case 0xd0: case 0xd1: case 0xd2: case 0xd3:
		decode_shift_group(d, opcode);
		break;
	case 0xc2:
		ret_near(d, decode_fetch16(d));
		break;
	case 0xc3:
		ret_near(d, 0);
		break;
	case 0xc4:
		decode_load_far(d, ES);
		break;
	case 0xc5:
		decode_load_far(d, DS);
		break;
	case 0xc6:
	case 0xc7:
		if (opcode == 0xc6)
			decode_modrm_bytes(d);
		else
			decode_modrm(d);
		op->imm = opcode == 0xc6 ? decode_fetch8(d) : decode_fetch_z(d);
		if (op->modrm >> 3 & 7)
			undefined(d);
		else
			decode_mov(d, F_RI, F_MIB, opcode == 0xc6);
		break;
	case 0xc8:
		op->imm16 = (uint16_t)decode_fetch16(d);
		op->imm2 = decode_fetch8(d) & 31;
		slow(d, i_enter);
		break;
	case 0xc9:
		if (flat_stack(d)) {
			op->fn = h_leave32_f;
			d->facts = FACT_FAULTS;
		} else {
			slow(d, i_leave);
		}
		break;
	case 0xca:
		op->imm16 = (uint16_t)decode_fetch16(d);
		slow_jump(d, i_retf_imm);
		break;
	case 0xcb:
		slow_jump(d, i_retf);
		break;
	case 0xcc:
		slow_jump(d, i_int3);
		break;
	case 0xcd:
		op->imm = decode_fetch8(d);
		slow_jump(d, i_int);
		break;
	case 0xce:
		slow_jump(d, i_into);
		break;
	case 0xcf:
		slow_jump(d, i_iret);
		break;
	case 0xd4:
		op->imm = decode_fetch8(d);
		slow(d, i_aam);
		break;
	case 0xd5:
		op->imm = decode_fetch8(d);
		slow(d, i_aad);
		break;
	case 0xd6:
		slow(d, i_salc);
		break;
	case 0xd7:
		op->seg = d->override >= 0 ? (uint8_t)d->override : DS;
		slow(d, i_xlat);
		break;
	case 0xe0: case 0xe1: case 0xe2: case 0xe3:
		relative(d, decode_fetch_signed8(d));
		op->imm2 = opcode & 3;
		op->fn = h_loop;
		break;
	case 0xe4:
	case 0xe5:
		port(d, i_in_imm, opcode == 0xe4, true);
		break;
	case 0xe6:
	case 0xe7:
		port(d, i_out_imm, opcode == 0xe6, true);
		break;
	case 0xe8:
		call_rel(d, d->size16 ? SX16(decode_fetch_z(d)) : decode_fetch_z(d));
		break;
	case 0xe9:
		jump_rel(d, d->size16 ? SX16(decode_fetch_z(d)) : decode_fetch_z(d));
		break;
	case 0xea:
		op->imm = decode_fetch_z(d);
		op->imm16 = (uint16_t)decode_fetch16(d);
		slow_jump(d, i_jmp_far);
		break;
	case 0xeb:
		jump_rel(d, decode_fetch_signed8(d));
		break;
	case 0xec:
	case 0xed:
		port(d, i_in_dx, opcode == 0xec, false);
		break;
	case 0xee:
	case 0xef:
		port(d, i_out_dx, opcode == 0xee, false);
		break;
	case 0xf1:
		slow_jump(d, i_icebp);
		break;
	case 0xf4:
		slow_end(d, i_hlt);
		break;
	case 0xf5:
		slow(d, i_cmc);
		break;
	case 0xf6:
	case 0xf7:
		decode_group3(d, opcode == 0xf6);
		break;
	case 0xf8:
		slow(d, i_clc);
		break;
	case 0xf9:
		slow(d, i_stc);
		break;
	case 0xfa:
		slow(d, i_cli);
		break;
	case 0xfb:
		slow_end(d, i_sti);
		break;
	case 0xfc:
		slow(d, i_cld);
		break;
	case 0xfd:
		slow(d, i_std);
		break;
	case 0xfe:
		decode_modrm_bytes(d);
		if ((op->modrm >> 3 & 7) > 1)
			undefined(d);
		else
			decode_unary(d, op->modrm >> 3 & 7, true);
		break;
	case 0xff:
		group5(d);
		break;
	default:
		if (opcode >= 0xb0 && opcode < 0xb8) {
			op->rm = byte_reg(opcode & 7);
			op->imm = decode_fetch8(d);
			op->fn = mov_table[F_RI][0];
		} else if (opcode >= 0xb8 && opcode < 0xc0) {
			op->rm = opcode & 7;
			op->imm = decode_fetch_z(d);
			op->fn = mov_table[F_RI][size_index(d, false)];
		} else if (opcode >= 0xd8 && opcode < 0xe0) {
			decode_modrm(d);
			op->opcode = (uint8_t)opcode;
			decode_fpu(d, opcode);
		} else {
			undefined(d);
		}
	}
}

void
decode_fpu(struct decoder *d, uint32_t opcode)
{
	decode_forms(d, fpu_lookup(opcode, d->op->modrm));
	d->op->imm = x87_note(d->op);
}

void
decode_one_byte(struct decoder *d, uint32_t opcode)
{
	if (opcode < 0x60)
		one_byte_low(d, opcode);
	else if (opcode < 0xa0)
		one_byte_mid(d, opcode);
	else
		one_byte_high(d, opcode);
}
