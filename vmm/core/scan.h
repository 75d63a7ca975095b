/*
 * scan.h -- instructions of outer-ring code that the host would answer itself, without a trap: scan.c.
 */
#ifndef RF_SCAN_H
#define RF_SCAN_H

#include <stdint.h>

#include "engine.h"

/* What the host shows instead of the guest's own state. */
enum scan_class {
	SCAN_CPUID = 1,		/* CPUID, where the host cannot make it fault */
	SCAN_TABLES = 2,	/* SGDT SIDT SLDT STR SMSW */
	SCAN_RIGHTS = 4,	/* LAR LSL VERR VERW */
	SCAN_SEG_READ = 8,	/* PUSH Sreg, MOV r/m,Sreg */
	SCAN_SEG_LOAD = 16,	/* POP Sreg, MOV Sreg,r/m, LDS LES LFS LGS LSS */
	SCAN_FAR = 32,		/* far CALL and JMP, RETF, IRET */
	SCAN_SYSTEM = 64,	/* SYSCALL, SYSENTER, XGETBV, VMCALL, VMMCALL */
	SCAN_SSE = 128,		/* what CR4.OSFXSR is about: XMM registers, MXCSR, FXSAVE and FXRSTOR */
	SCAN_LATER = 256,	/* what processors have that are younger than the guest's, where it is #UD, or LZCNT: BSR there */
	SCAN_TZCNT = 512,	/* the guest's has TZCNT: where the host takes it for BSF */
	SCAN_TSC = 1024,	/* RDTSC, RDTSCP, where they do not trap */
	SCAN_PLAIN = 2048	/* younger as well, but with no state or effect that the guest's lacks: SSE3 to SSE4, AES, POPCNT, MOVBE ... */
};

#define SCAN_CLASSES 12
#define SCAN_LOOKAHEAD 24u	/* bytes of the next page that may be read */

struct scan_result {
	uint16_t first[SCAN_CLASSES];	/* by bit of scan_class: the offset of the first; PAGE_SIZE when there is none */
	/*
	 * Where the code that runs on from the entry meets the page's end: the instruction at `tail` ends in the next page
	 * (PAGE_SIZE: none does), and at `carry` in the next page another begins (PAGE_SIZE: not known).
	 */
	uint16_t tail, carry;
};

/*
 * The classes found in a page of 32-bit code.  An instruction is known to begin at `entry` (PAGE_SIZE: nowhere).
 * `next` is the page that follows in linear memory, or NULL: then an instruction that ends there counts if the bytes
 * here tell its class.  Both must not change meanwhile, or the answer is of no use; nothing else happens then.
 * SCAN_SSE is looked for only where `sse` says so.
 */
uint32_t scan_page(const uint8_t page[PAGE_SIZE], uint32_t entry, const uint8_t *next, bool sse, struct scan_result *r);

/*
 * What `page` and then `next` hold in the instruction that lies across them, if bytes of both tell it.  `tail` is the
 * page's in scan_result: where it is known that instruction counts, else N3 and N4 hold.
 */
uint32_t scan_seam(const uint8_t page[PAGE_SIZE], const uint8_t next[PAGE_SIZE], uint32_t tail);

/* The length of the 32-bit instruction at `bytes`; 0 when it is undefined or `available` bytes are not all of it. */
uint32_t insn_length32(const uint8_t *bytes, uint32_t available);

/* Its class, or 0: none, or not told by so few bytes. */
uint32_t insn_class32(const uint8_t *bytes, uint32_t available);

#endif
