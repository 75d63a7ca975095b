/*
 * x86.h -- the processor's own names: selectors, vectors, flag bits, and the instructions that C cannot say.
 *
 * Numbers are those of the Intel manual, volume 3 ("SDM 3"): 2.3 EFLAGS, 2.5 control registers, 3.4.5 descriptors,
 * 4.7 page-fault codes, 6.3 vectors, 7.2 task-state segment.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The GDT that every guest starts with.  Ring 0 and ring 3 lie in the order that SYSENTER and SYSEXIT require. */
#define KERNEL_CS	0x08
#define KERNEL_DS	0x10
#define USER_CS		0x1B
#define USER_DS		0x23
#define RING1_CS	0x29
#define RING1_DS	0x31
#define RING2_CS	0x3A
#define RING2_DS	0x42
#define MAIN_TSS	0x48
#define DF_TSS		0x50
#define FIRST_FREE	0x58	/* from here on the descriptors belong to the guest */
#define GDT_ENTRIES	64

#define RPL_MASK	3u
#define TI_LDT		4u

enum vector {
	VEC_DE = 0, VEC_DB = 1, VEC_NMI = 2, VEC_BP = 3, VEC_OF = 4, VEC_BR = 5, VEC_UD = 6, VEC_NM = 7, VEC_DF = 8,
	VEC_TS = 10, VEC_NP = 11, VEC_SS = 12, VEC_GP = 13, VEC_PF = 14, VEC_MF = 16, VEC_AC = 17, VEC_MC = 18,
	VEC_XM = 19,
	VEC_IRQ = 0x20,		/* where the guests put IRQ 0..15 */
	VEC_RING_RETURN = 0x81,
};

#define EFL_CF		(1u << 0)
#define EFL_ONE		(1u << 1)
#define EFL_PF		(1u << 2)
#define EFL_AF		(1u << 4)
#define EFL_ZF		(1u << 6)
#define EFL_SF		(1u << 7)
#define EFL_TF		(1u << 8)
#define EFL_IF		(1u << 9)
#define EFL_DF		(1u << 10)
#define EFL_OF		(1u << 11)
#define EFL_IOPL(n)	((uint32_t)(n) << 12)
#define EFL_NT		(1u << 14)
#define EFL_RF		(1u << 16)
#define EFL_VM		(1u << 17)
#define EFL_AC		(1u << 18)
#define EFL_VIF		(1u << 19)
#define EFL_VIP		(1u << 20)
#define EFL_ID		(1u << 21)

#define CR0_PE		(1u << 0)
#define CR0_MP		(1u << 1)
#define CR0_EM		(1u << 2)
#define CR0_TS		(1u << 3)
#define CR0_NE		(1u << 5)
#define CR0_WP		(1u << 16)
#define CR0_AM		(1u << 18)
#define CR0_NW		(1u << 29)
#define CR0_CD		(1u << 30)
#define CR0_PG		(1u << 31)

#define CR4_VME		(1u << 0)
#define CR4_PVI		(1u << 1)
#define CR4_TSD		(1u << 2)
#define CR4_DE		(1u << 3)
#define CR4_PSE		(1u << 4)
#define CR4_PAE		(1u << 5)
#define CR4_PGE		(1u << 7)
#define CR4_OSFXSR	(1u << 9)
#define CR4_OSXMMEXCPT	(1u << 10)

/* Descriptor attributes, as they lie in the second doubleword. */
#define DESC_TYPE(t)	((uint32_t)(t) << 8)
#define DESC_S		(1u << 12)	/* code or data, not a system descriptor */
#define DESC_DPL(n)	((uint32_t)(n) << 13)
#define DESC_P		(1u << 15)
#define DESC_B		(1u << 22)	/* 32-bit; for code the D bit */
#define DESC_G		(1u << 23)	/* limit in pages */
#define DESC_DATA	(DESC_P | DESC_S | DESC_TYPE(0x2))	/* writable, expand-up */
#define DESC_CODE	(DESC_P | DESC_S | DESC_TYPE(0xA))	/* readable, non-conforming */
#define DESC_CONFORMING	(DESC_P | DESC_S | DESC_TYPE(0xE))
#define DESC_EXPAND_DOWN (DESC_P | DESC_S | DESC_TYPE(0x6))
#define DESC_FLAT	(DESC_B | DESC_G)
#define DESC_LDT	(DESC_P | DESC_TYPE(0x2))
#define TYPE_ACCESSED	0x1

enum system_type {
	TYPE_TSS16 = 1, TYPE_LDT = 2, TYPE_TSS16_BUSY = 3, TYPE_CALL16 = 4, TYPE_TASK_GATE = 5, TYPE_INT16 = 6,
	TYPE_TRAP16 = 7, TYPE_TSS32 = 9, TYPE_TSS32_BUSY = 11, TYPE_CALL32 = 12, TYPE_INT32 = 14, TYPE_TRAP32 = 15,
};

/* Page-fault error code. */
#define PF_PRESENT	(1u << 0)
#define PF_WRITE	(1u << 1)
#define PF_USER		(1u << 2)
#define PF_RESERVED	(1u << 3)
#define PF_FETCH	(1u << 4)

#define PAGE_SIZE	4096u

#define MSR_SYSENTER_CS	0x174
#define MSR_SYSENTER_ESP 0x175
#define MSR_SYSENTER_EIP 0x176
#define MSR_EFER	0xC0000080u
#define EFER_NXE	(1u << 11)

struct tss32 {
	uint32_t back_link;
	uint32_t esp0, ss0, esp1, ss1, esp2, ss2;
	uint32_t cr3, eip, eflags;
	uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi;
	uint32_t es, cs, ss, ds, fs, gs;
	uint32_t ldt;
	uint16_t trap, io_map_base;
};
_Static_assert(sizeof(struct tss32) == 104, "SDM 3, figure 7-2");

struct tss16 {
	uint16_t back_link;
	uint16_t sp0, ss0, sp1, ss1, sp2, ss2;
	uint16_t ip, flags;
	uint16_t ax, cx, dx, bx, sp, bp, si, di;
	uint16_t es, cs, ss, ds;
	uint16_t ldt;
};
_Static_assert(sizeof(struct tss16) == 44, "SDM 3, figure 7-10");

struct table_register {
	uint16_t limit;
	uint32_t base;
} __attribute__((packed));

static inline uint8_t
in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %w1, %b0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline uint16_t
in16(uint16_t port)
{
	uint16_t value;

	__asm__ volatile("inw %w1, %w0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline uint32_t
in32(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %w1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline void
out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %b0, %w1" : : "a"(value), "Nd"(port));
}

static inline void
out16(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %w0, %w1" : : "a"(value), "Nd"(port));
}

static inline void
out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %w1" : : "a"(value), "Nd"(port));
}

#define DEFINE_REGISTER(name, insn_name)						\
	static inline uint32_t								\
	read_##name(void)								\
	{										\
		uint32_t value;								\
											\
		__asm__ volatile("movl %%" insn_name ", %0" : "=r"(value) : : "memory");	\
		return value;								\
	}										\
	static inline void								\
	write_##name(uint32_t value)							\
	{										\
		__asm__ volatile("movl %0, %%" insn_name : : "r"(value) : "memory");	\
	}

DEFINE_REGISTER(cr0, "cr0")
DEFINE_REGISTER(cr2, "cr2")
DEFINE_REGISTER(cr3, "cr3")
DEFINE_REGISTER(cr4, "cr4")
DEFINE_REGISTER(dr0, "db0")
DEFINE_REGISTER(dr6, "db6")
DEFINE_REGISTER(dr7, "db7")

static inline uint32_t
read_eflags(void)
{
	uint32_t value;

	__asm__ volatile("pushfl; popl %0" : "=r"(value) : : "memory");
	return value;
}

static inline void
write_eflags(uint32_t value)
{
	__asm__ volatile("pushl %0; popfl" : : "r"(value) : "memory", "cc");
}

static inline void
interrupts_on(void)
{
	__asm__ volatile("sti" : : : "memory");
}

static inline void
interrupts_off(void)
{
	__asm__ volatile("cli" : : : "memory");
}

/* STI holds interrupts back for one instruction, so nothing can slip in between it and HLT.  [SDM 2, STI] */
static inline void
wait_for_interrupt(void)
{
	__asm__ volatile("sti; hlt; cli" : : : "memory");
}

static inline uint64_t
read_tsc(void)
{
	uint64_t value;

	__asm__ volatile("rdtsc" : "=A"(value));
	return value;
}

static inline uint64_t
read_msr(uint32_t msr)
{
	uint64_t value;

	__asm__ volatile("rdmsr" : "=A"(value) : "c"(msr));
	return value;
}

static inline void
write_msr(uint32_t msr, uint64_t value)
{
	__asm__ volatile("wrmsr" : : "A"(value), "c"(msr));
}

static inline void
invalidate_page(const void *address)
{
	__asm__ volatile("invlpg %0" : : "m"(*(const char *)address) : "memory");
}

struct cpuid {
	uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid
cpuid(uint32_t leaf)
{
	struct cpuid r;

	__asm__ volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(0));
	return r;
}
