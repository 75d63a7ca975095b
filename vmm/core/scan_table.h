/*
 * scan_table.h -- the opcode maps of 32-bit code, as far as lengths go; for scan.c.
 *
 * Source: Intel SDM volume 2, appendix A, tables; AMD APM volume 3, appendix A (3DNow!, SSE4a, XOP).
 */
#ifndef RF_SCAN_TABLE_H
#define RF_SCAN_TABLE_H

#include <stdint.h>

enum form {
	FORM_MODRM = 1,
	FORM_IB = 2,		/* an immediate byte */
	FORM_IW = 4,		/* an immediate word */
	FORM_IZ = 8,		/* an immediate or offset of operand size */
	FORM_O = 16,		/* an offset of address size */
	FORM_ASK = 32,		/* more is in the code: a class, a group, another map */
	FORM_PREFIX = 64,
	FORM_UNDEFINED = 128,
	FORM_RELATIVE = 256,	/* the immediate is the displacement of a branch */
	FORM_STOP = 512,	/* never runs on into the next instruction */
	FORM_SSE = 1024,	/* works on XMM registers */
	FORM_SIMD = 2048,	/* the same with a prefix of 66, F2 or F3; without it on MMX registers, or on none */
	FORM_LATER = 4096,	/* SCAN_LATER, whatever the prefixes */
	FORM_PLAIN = 8192	/* SCAN_PLAIN likewise */
};

#define o 0
#define M FORM_MODRM
#define B FORM_IB
#define W FORM_IW
#define Z FORM_IZ
#define A FORM_O
#define P FORM_PREFIX
#define Q FORM_ASK
#define U FORM_UNDEFINED
#define MB (FORM_MODRM | FORM_IB)
#define MZ (FORM_MODRM | FORM_IZ)
#define MQ (FORM_MODRM | FORM_ASK)
#define MBQ (FORM_MODRM | FORM_IB | FORM_ASK)
#define WB (FORM_IW | FORM_IB)
#define X (FORM_MODRM | FORM_SSE)
#define XB (X | FORM_IB)
#define V (FORM_MODRM | FORM_SIMD)
#define VB (V | FORM_IB)
#define XQ (X | FORM_ASK)
#define VQ (V | FORM_ASK)
#define L FORM_LATER
#define ML (FORM_MODRM | FORM_LATER)
#define MN (FORM_MODRM | FORM_PLAIN)
#define BL (FORM_MODRM | FORM_IB | FORM_LATER)
#define J (FORM_IB | FORM_RELATIVE)
#define JZ (FORM_IZ | FORM_RELATIVE)
#define S FORM_STOP
#define JS (J | FORM_STOP)
#define JZS (JZ | FORM_STOP)
#define WS (FORM_IW | FORM_STOP)
#define QS (FORM_ASK | FORM_STOP)
#define WQS (FORM_IW | FORM_ASK | FORM_STOP)
#define ZWQ (FORM_IZ | FORM_IW | FORM_ASK)
#define ZWQS (ZWQ | FORM_STOP)

static const uint16_t one_byte[256] = {
/*	 0    1    2    3    4    5    6    7    8    9    a    b    c    d    e    f */
	MQ,   M,   M,   M,   B,   Z,   Q,   Q,   M,   M,   M,   M,   B,   Z,   Q,   Q,	/* 0_ */
	 M,   M,   M,   M,   B,   Z,   Q,   Q,   M,   M,   M,   M,   B,   Z,   Q,   Q,	/* 1_ */
	 M,   M,   M,   M,   B,   Z,   P,   o,   M,   M,   M,   M,   B,   Z,   P,   o,	/* 2_ */
	 M,   M,   M,   M,   B,   Z,   P,   o,   M,   M,   M,   M,   B,   Z,   P,   o,	/* 3_ */
	 o,   o,   o,   o,   o,   o,   o,   o,   o,   o,   o,   o,   o,   o,   o,   o,	/* 4_ */
	 o,   o,   o,   o,   o,   o,   o,   o,   o,   o,   o,   o,   o,   o,   o,   o,	/* 5_ */
	 o,   o,  MQ,   M,   P,   P,   P,   P,   Z,  MZ,   B,  MB,   o,   o,   o,   o,	/* 6_ */
	 J,   J,   J,   J,   J,   J,   J,   J,   J,   J,   J,   J,   J,   J,   J,   J,	/* 7_ */
	MB,  MZ,  MB,  MB,   M,   M,   M,   M,   M,   M,   M,   M,  MQ,   M,  MQ,  MQ,	/* 8_ */
	 o,   o,   o,   o,   o,   o,   o,   o,   o,   o, ZWQ,   o,   o,   o,   o,   o,	/* 9_ */
	 A,   A,   A,   A,   o,   o,   o,   o,   B,   Z,   o,   o,   o,   o,   o,   o,	/* a_ */
	 B,   B,   B,   B,   B,   B,   B,   B,   Z,   Z,   Z,   Z,   Z,   Z,   Z,   Z,	/* b_ */
	MB,  MB,  WS,   S,  MQ,  MQ,  MB,  MZ,  WB,   o, WQS,  QS,   o,   B,   o,  QS,	/* c_ */
	 M,   M,   M,   M,   B,   B,   o,   o,   M,   M,   M,   M,   M,   M,   M,   M,	/* d_ */
	 J,   J,   J,   J,   B,   B,   B,   B,  JZ, JZS,ZWQS,  JS,   o,   o,   o,   o,	/* e_ */
	 P,   o,   P,   P,   o,   o,  MQ,  MQ,   o,   o,   o,   o,   o,   o,   M,  MQ	/* f_ */
};

/* 0F xx; 0F 38 and 0F 3A are taken as maps without holes. */
static const uint16_t two_byte[256] = {
/*	 0    1    2    3    4    5    6    7    8    9    a    b    c    d    e    f */
	MQ,  MQ,  MQ,  MQ,   U,   Q,   o,   o,   o,   o,   U,   S,   U,   M,   L,  BL,	/* 0_ */
	 X,   X,  XQ,   X,   X,   X,  XQ,   X,   M,   M,   M,   M,   M,   M,   M,   M,	/* 1_ */
	MQ,  MQ,  MQ,  MQ,   U,   U,   U,   U,   X,   X,   X,  XQ,   X,   X,   X,   X,	/* 2_ */
	 o,   Q,   o,   o,   o,   o,   U,   L,  MQ,   U, MBQ,   U,   U,   U,   U,   U,	/* 3_ */
	 M,   M,   M,   M,   M,   M,   M,   M,   M,   M,   M,   M,   M,   M,   M,   M,	/* 4_ */
	 X,   X,   X,   X,   X,   X,   X,   X,   X,   X,   X,   X,   X,   X,   X,   X,	/* 5_ */
	 V,   V,   V,   V,   V,   V,   V,   V,   V,   V,   V,   V,   V,   V,   V,   V,	/* 6_ */
	VB,  VB,  VB,  VB,   V,   V,   V,   o,  MQ,  MQ,   U,   U,  VQ,  VQ,   V,   V,	/* 7_ */
	JZ,  JZ,  JZ,  JZ,  JZ,  JZ,  JZ,  JZ,  JZ,  JZ,  JZ,  JZ,  JZ,  JZ,  JZ,  JZ,	/* 8_ */
	 M,   M,   M,   M,   M,   M,   M,   M,   M,   M,   M,   M,   M,   M,   M,   M,	/* 9_ */
	 Q,   Q,   Q,   M,  MB,   M,  ML,  ML,   Q,   Q,   o,   M,  MB,   M,  MQ,   M,	/* a_ */
	 M,   M,  MQ,   M,  MQ,  MQ,   M,   M,  MN,   M,  MB,   M,  MQ,  MQ,   M,   M,	/* b_ */
	 M,   M,  XB,   M,  VB,  VB,  XB,  MQ,   o,   o,   o,   o,   o,   o,   o,   o,	/* c_ */
	VQ,   V,   V,   V,   V,   V,   V,   V,   V,   V,   V,   V,   V,   V,   V,   V,	/* d_ */
	 V,   V,   V,   V,   V,   V,   V,   V,   V,   V,   V,   V,   V,   V,   V,   V,	/* e_ */
	VQ,   V,   V,   V,   V,   V,   V,   V,   V,   V,   V,   V,   V,   V,   V,   M	/* f_ */
};

#undef o
#undef M
#undef B
#undef W
#undef Z
#undef A
#undef P
#undef Q
#undef U
#undef MB
#undef MZ
#undef MQ
#undef MBQ
#undef WB
#undef X
#undef XB
#undef V
#undef VB
#undef XQ
#undef VQ
#undef L
#undef ML
#undef MN
#undef BL
#undef J
#undef JZ
#undef S
#undef JS
#undef JZS
#undef WS
#undef QS
#undef WQS
#undef ZWQ
#undef ZWQS

/*
 * By opcode: the values of ModRM.reg that are undefined on the guest's processor, with a memory operand (low byte) and with a
 * register; scan_insn.h, later_class(), knows which of them are defined on a younger one.
 */
#define REGS(memory, registers) ((memory) | (registers) << 8)
static const uint16_t undefined_regs[256] = {
	[0x8c] = REGS(0xc0, 0xc0),		/* MOV from Sreg 6, 7 */
	[0x8d] = REGS(0x00, 0xff),		/* LEA of a register */
	[0x8e] = REGS(0xc2, 0xc2),		/* MOV to CS, Sreg 6, 7 */
	[0xc6] = REGS(0xfe, 0xfe),
	[0xc7] = REGS(0xfe, 0xfe),
	[0xdb] = REGS(0x02, 0x00),		/* FISTTP */
	[0xdd] = REGS(0x02, 0x00),
	[0xdf] = REGS(0x02, 0x00),
	[0xfe] = REGS(0xfc, 0xfc),
	[0xff] = REGS(0x80, 0xa8)		/* far CALL and JMP through a register */
};
#undef REGS

/* The bytes of immediates, by FORM_IB to FORM_O, for operand and address sizes of 32 bits, then 16. */
#define IMMEDIATES(z, o) { \
	0, 1, 2, 3, z, z + 1, z + 2, z + 3, o, o + 1, o + 2, o + 3, o + z, o + z + 1, o + z + 2, o + z + 3 }
static const uint8_t immediates[2][2][16] = {
	{ IMMEDIATES(4, 4), IMMEDIATES(4, 2) },
	{ IMMEDIATES(2, 4), IMMEDIATES(2, 2) }
};
#undef IMMEDIATES

/* ModRM, SIB and displacement, by mod and rm; with SIB.base 5 and mod 0 there are four bytes more. */
static const uint8_t operand32[4][8] = {
	{ 1, 1, 1, 1, 2, 5, 1, 1 }, { 2, 2, 2, 2, 3, 2, 2, 2 }, { 5, 5, 5, 5, 6, 5, 5, 5 }, { 1, 1, 1, 1, 1, 1, 1, 1 }
};
static const uint8_t operand16[4][8] = {
	{ 1, 1, 1, 1, 1, 1, 3, 1 }, { 2, 2, 2, 2, 2, 2, 2, 2 }, { 3, 3, 3, 3, 3, 3, 3, 3 }, { 1, 1, 1, 1, 1, 1, 1, 1 }
};

#endif
