/*
 * scan_insn.h -- one instruction of 32-bit code: its length, its class, and how it goes on; for scan.c, inline for speed.
 *
 * The guest's processor ends with SSE2.  What younger ones have in 32-bit code and let any ring execute is SCAN_LATER, or
 * SCAN_PLAIN where it works on nothing but the registers and the memory that the guest has too; what they refuse or
 * ignore is not told apart.  A VEX, EVEX or XOP prefix behind one with which it is undefined is taken as
 * if that were not there.
 *
 * Source: Intel SDM volume 2, chapter 2 (formats, VEX, EVEX) and appendix A; AMD APM volume 3, 1.2-1.10 (XOP, 3DNow!).
 */
#ifndef RF_SCAN_INSN_H
#define RF_SCAN_INSN_H

#include "scan.h"
#include "scan_table.h"

#define MAX_LENGTH 15u

struct insn {			/* 8 bytes: it travels in a register */
	uint8_t length;		/* 0: undefined */
	uint8_t told;		/* bytes that its class follows from */
	uint16_t class;		/* enum scan_class, or 0 */
	bool stops;		/* it never runs on into the next */
	bool branches, near;	/* by a displacement, of one byte or four (not two: that clears the upper half of EIP) */
};

struct answer {			/* for an opcode marked FORM_ASK */
	uint16_t form;
	uint8_t at;		/* where ModRM or the immediate begins */
	uint8_t told;
	uint16_t class;
	bool imm32;		/* the immediate has 32 bits whatever the operand size */
};

enum prefix { PREFIX_66 = 1, PREFIX_F2 = 2, PREFIX_F3 = 4 };	/* that choose among SSE's instructions */

static inline uint32_t
prefix_bit(uint32_t prefix)
{
	return prefix == 0x66 ? PREFIX_66 : prefix == 0xf2 ? PREFIX_F2 : prefix == 0xf3 ? PREFIX_F3 : 0;
}

#define MODRM_MOD(m) ((uint32_t)(m) >> 6)
#define MODRM_REG(m) ((uint32_t)(m) >> 3 & 7)
#define MODRM_RM(m) ((uint32_t)(m) & 7)
#define MOD_REGISTER 3
#define REGS_INDEX(m) (MODRM_REG(m) + (MODRM_MOD(m) == MOD_REGISTER ? 8 : 0))	/* of undefined_regs */

/* ModRM, SIB and displacement.  [SDM 2, tables 2-1 to 2-3] */
static inline uint32_t
operand_length(const uint8_t *p, bool addr16)
{
	const uint32_t mod = MODRM_MOD(p[0]), rm = MODRM_RM(p[0]);
	const bool sib_only = mod == 0 && rm == 4;

	if (unlikely(addr16))
		return operand16[mod][rm];
	return operand32[mod][rm] + (sib_only & ((p[1] & 7) == 5)) * 4u;
}

/* The forms of an opcode of VEX and EVEX map 1 to 3, and of the maps of FP16. */
static uint16_t
vector_form(uint32_t map, uint32_t opcode)
{
	switch (map) {
	case 1:
		if (opcode == 0x77)		/* VZEROUPPER */
			return 0;
		return two_byte[opcode] & FORM_MODRM ? two_byte[opcode] & (FORM_MODRM | FORM_IB) : FORM_UNDEFINED;
	case 2:
	case 5:
	case 6:
		return FORM_MODRM;
	case 3:
		return FORM_MODRM | FORM_IB;
	default:
		return FORM_UNDEFINED;
	}
}

/* XOP maps 8, 9 and 10; the last has an immediate of 32 bits, whatever the operand size. */
static uint16_t
xop_form(uint32_t map)
{
	return map == 8 ? FORM_MODRM | FORM_IB : map == 9 ? FORM_MODRM : map == 10 ? FORM_MODRM | FORM_IZ : FORM_UNDEFINED;
}

/* What a group opcode adds: 0F 00 and 0F 01. */
static uint16_t
group_class(uint32_t opcode, uint32_t modrm)
{
	const uint32_t reg = MODRM_REG(modrm);

	if (opcode == 0x00)
		return reg < 2 ? SCAN_TABLES : reg == 4 || reg == 5 ? SCAN_RIGHTS : 0;
	if (reg == 4)
		return SCAN_TABLES;		/* SMSW */
	if (MODRM_MOD(modrm) != MOD_REGISTER)
		return reg < 2 ? SCAN_TABLES : 0;
	if (modrm == 0xc1 || modrm == 0xd0 || modrm == 0xd9)
		return SCAN_SYSTEM;		/* VMCALL, XGETBV, VMMCALL */
	if (modrm == 0xf9)
		return SCAN_TSC;		/* RDTSCP */
	/* VMFUNC, XEND, XTEST, ENCLU; SERIALIZE, RDPKRU and their row; MONITORX, MWAITX, CLZERO, RDPRU. */
	return (modrm >= 0xd4 && modrm <= 0xd7) || reg == 5 || (modrm >= 0xfa && modrm <= 0xfd) ? SCAN_LATER : 0;
}

/* 0F AE: XSAVE and its like, CLWB, CLFLUSHOPT; PTWRITE, UMONITOR, UMWAIT, TPAUSE; FXSAVE, FXRSTOR, LDMXCSR, STMXCSR. */
static uint16_t
state_class(uint32_t modrm, uint32_t prefixes)
{
	const uint32_t reg = MODRM_REG(modrm);

	if (MODRM_MOD(modrm) == MOD_REGISTER)
		return prefixes && reg >= 4 ? SCAN_LATER : 0;
	if (reg < 4)
		return SCAN_SSE;
	return reg < 7 || prefixes ? SCAN_LATER : 0;
}

/* SSE3 and SSE4a among the opcodes of SSE and SSE2. */
static uint16_t
young_sse_class(uint32_t opcode, uint32_t prefixes)
{
	const bool f2 = prefixes & PREFIX_F2, f3 = prefixes & PREFIX_F3, any = prefixes != 0;

	switch (opcode) {
	case 0x12:				/* MOVDDUP, MOVSLDUP */
	case 0x2b:				/* MOVNTSD, MOVNTSS */
		return f2 || f3 ? SCAN_PLAIN : SCAN_SSE;
	case 0x16:				/* MOVSHDUP */
		return f3 ? SCAN_PLAIN : SCAN_SSE;
	case 0xf0:				/* LDDQU */
		return f2 ? SCAN_PLAIN : any ? SCAN_SSE : 0;
	default:				/* 7C, 7D, D0: HADD, HSUB, ADDSUB */
		return any ? SCAN_PLAIN : 0;
	}
}

/* Those of undefined_regs that are instructions of a younger processor: XABORT and XBEGIN, FISTTP.  0: it is none. */
static uint16_t
later_class(uint32_t opcode, uint32_t modrm)
{
	if (opcode == 0xc6 || opcode == 0xc7)
		return modrm == 0xf8 ? SCAN_LATER : 0;
	return opcode == 0xdb || opcode == 0xdd || opcode == 0xdf ? SCAN_PLAIN : 0;
}

/* `at` is behind the opcode. */
static struct answer
ask_two_byte(uint32_t opcode, const uint8_t *p, uint32_t at, uint32_t prefixes)
{
	struct answer a = { .form = two_byte[opcode], .at = (uint8_t)at, .told = (uint8_t)at };

	switch (opcode) {
	case 0x00:
	case 0x01:
		a.told++;
		a.class = group_class(opcode, p[at]);
		break;
	case 0x02:
	case 0x03:
		a.class = SCAN_RIGHTS;
		break;
	case 0x05:
	case 0x34:
		a.class = SCAN_SYSTEM;
		break;
	case 0x12: case 0x16: case 0x2b: case 0x7c: case 0x7d: case 0xd0: case 0xf0:
		a.class = young_sse_class(opcode, prefixes);
		break;
	case 0x20: case 0x21: case 0x22: case 0x23:
		a.form = 0;			/* mod means nothing: always registers */
		a.at++;
		break;
	case 0x31:				/* RDTSC */
		a.class = SCAN_TSC;
		break;
	case 0x38:				/* SSSE3, SSE4, MOVBE, CRC32, AES, SHA, ADX ...: nothing older */
	case 0x3a:
		a.class = SCAN_PLAIN;
		a.at++;
		break;
	case 0x78:
		if (prefixes & (PREFIX_66 | PREFIX_F2)) {	/* EXTRQ, INSERTQ: two bytes; else VMREAD */
			a.form = FORM_MODRM | FORM_IW;
			a.class = SCAN_PLAIN;
		}
		break;
	case 0x79:
		a.class = prefixes & (PREFIX_66 | PREFIX_F2) ? SCAN_PLAIN : 0;	/* the same; else VMWRITE */
		break;
	case 0xae:
		a.told++;
		a.class = state_class(p[at], prefixes);
		break;
	case 0xbc:				/* TZCNT, else BSF */
		a.class = prefixes & PREFIX_F3 ? SCAN_TZCNT : 0;
		break;
	case 0xbd:				/* LZCNT, else BSR */
		a.class = prefixes & PREFIX_F3 ? SCAN_LATER : 0;
		break;
	case 0xc7:				/* RDRAND, RDSEED, RDPID, XSAVEC ...: all but CMPXCHG8B */
		a.told++;
		a.class = MODRM_REG(p[at]) == 1 && MODRM_MOD(p[at]) != MOD_REGISTER ? 0 : SCAN_LATER;
		break;
	case 0xa0:
	case 0xa8:
		a.class = SCAN_SEG_READ;
		break;
	case 0xa1:
	case 0xa9:
		a.class = SCAN_SEG_LOAD;
		break;
	case 0xa2:
		a.class = SCAN_CPUID;
		break;
	case 0xb2:
	case 0xb4:
	case 0xb5:
		a.told++;
		a.class = SCAN_SEG_LOAD;
		if (MODRM_MOD(p[at]) == MOD_REGISTER)
			a.form = FORM_UNDEFINED;
		break;
	}
	return a;
}

/* `at` is behind the opcode. */
static struct answer
ask_one_byte(uint32_t opcode, const uint8_t *p, uint32_t at)
{
	const uint32_t modrm = p[at], reg = MODRM_REG(modrm);
	const bool registers = MODRM_MOD(modrm) == MOD_REGISTER;
	struct answer a = { .form = one_byte[opcode], .at = (uint8_t)at, .told = (uint8_t)at };

	switch (opcode) {
	case 0x00:				/* two bytes of zero are padding, not ADD [EAX], AL */
		if (modrm == 0)
			a.form |= FORM_STOP;
		break;
	case 0x06: case 0x0e: case 0x16: case 0x1e:
		a.class = SCAN_SEG_READ;
		break;
	case 0x07: case 0x17: case 0x1f:
		a.class = SCAN_SEG_LOAD;
		break;
	case 0x62:				/* BOUND, or EVEX */
		if (registers) {
			a.at = (uint8_t)(at + 4);
			a.form = vector_form(modrm & 7, p[at + 3]);
			a.told++;
			a.class = SCAN_LATER;
		}
		break;
	case 0x8c:
		a.told++;
		a.class = SCAN_SEG_READ;
		break;
	case 0x8e:
		a.told++;
		a.class = SCAN_SEG_LOAD;
		break;
	case 0x8f:				/* POP, or XOP */
		if (reg != 0) {
			a.at = (uint8_t)(at + 3);
			a.imm32 = true;
			a.form = registers ? xop_form(modrm & 31) : FORM_UNDEFINED;
			a.told++;
			a.class = SCAN_LATER;
		}
		break;
	case 0x9a: case 0xca: case 0xcb: case 0xcf: case 0xea:
		a.class = SCAN_FAR;
		break;
	case 0xc4:				/* LES, or VEX of three bytes */
		a.told++;
		a.class = registers ? SCAN_LATER : SCAN_SEG_LOAD;
		if (registers) {
			a.at = (uint8_t)(at + 3);
			a.form = vector_form(modrm & 31, p[at + 2]);
		}
		break;
	case 0xc5:				/* LDS, or VEX of two bytes */
		a.told++;
		a.class = registers ? SCAN_LATER : SCAN_SEG_LOAD;
		if (registers) {
			a.at = (uint8_t)(at + 2);
			a.form = vector_form(1, p[at + 1]);
		}
		break;
	case 0xf6:				/* TEST alone has an immediate */
		if (reg < 2)
			a.form |= FORM_IB;
		break;
	case 0xf7:
		if (reg < 2)
			a.form |= FORM_IZ;
		break;
	case 0xff:
		a.told++;
		if (reg == 3 || reg == 5)
			a.class = SCAN_FAR;
		if (reg == 4 || reg == 5)
			a.form |= FORM_STOP;
		break;
	}
	return a;
}

/* The instruction at p, which has SCAN_LOOKAHEAD bytes: more than the longest takes to be known as too long. */
static inline __attribute__((always_inline)) struct insn
insn_at(const uint8_t *p)
{
	struct insn x = { 0 };
	bool size16 = false, addr16 = false, lock = false;
	uint32_t at = 0, prefixes = 0, opcode, form, undefined = 0;

	while (unlikely((form = one_byte[opcode = p[at++]]) == FORM_PREFIX)) {
		if (at == MAX_LENGTH)
			return x;
		size16 |= opcode == 0x66;
		addr16 |= opcode == 0x67;
		lock |= opcode == 0xf0;
		prefixes |= prefix_bit(opcode);
	}
	if (unlikely(opcode == 0x0f)) {
		opcode = p[at++];
		form = two_byte[opcode];
		opcode |= 0x100;
		if (form & ((prefixes ? FORM_SIMD : 0) | FORM_SSE | FORM_LATER | FORM_PLAIN)) {
			x.told = (uint8_t)at;
			x.class = lock ? 0 : form & FORM_LATER ? SCAN_LATER : form & FORM_PLAIN ? SCAN_PLAIN : SCAN_SSE;
		}
	} else {
		undefined = undefined_regs[opcode] >> REGS_INDEX(p[at]) & 1;
		if (unlikely(undefined) && (x.class = later_class(opcode, p[at])) != 0) {
			undefined = 0;
			x.told = (uint8_t)(at + 1);
			x.class = lock ? 0 : x.class;
		}
	}
	if (unlikely(form & FORM_ASK)) {
		const struct answer a = opcode & 0x100 ? ask_two_byte(opcode & 0xff, p, at, prefixes) : ask_one_byte(opcode, p, at);

		form = a.form;
		at = a.at;
		x.told = a.told;
		x.class = lock ? 0 : a.class;	/* LOCK makes them #UD */
		size16 &= !a.imm32;
	}
	at += operand_length(p + at, addr16) & -(form & FORM_MODRM);	/* no branches: they would not be foreseen */
	at += immediates[size16][addr16][form >> 1 & 15];
	if (unlikely((form & FORM_UNDEFINED) | undefined) || unlikely(at > MAX_LENGTH)) {
		x.class = 0;
		return x;
	}
	x.length = (uint8_t)at;
	x.stops = (form & FORM_STOP) != 0;
	x.branches = (form & FORM_RELATIVE) && !size16;
	x.near = (form & FORM_IB) != 0;
	return x;
}

#endif
