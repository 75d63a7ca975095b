/*
 * real.S -- real mode, copied to low memory and entered from ring 0.
 *
 * On the way in, CS becomes a 16-bit segment, PE is cleared, and a far jump loads CS the real way.  The other segment
 * registers keep the limits they had: that is "unreal" mode.  [SDM 3, 9.9.2]
 */
#include "asm.h"

#define CODE16		0x70
#define DATA16		0x78
#define REAL_BASE	0x7000
#define REAL_SEGMENT	0x0700
#define REAL_STACK	0x0F00	/* in the same segment */
#define INT_VECTOR	0x40
#define AT(label)	((label) - real_start)

	.text
	/* void real_enter(void): needs the copy at REAL_BASE, CODE16 and DATA16. */
	.globl real_enter
real_enter:
	pushal
	sidt protected_idt
	movl %esp, protected_esp
	lidt real_idt
	ljmp $CODE16, $AT(enter16)

	.code16
	.globl real_start, real_end
	.balign 16
real_start:
enter16:
	movw $DATA16, %ax
	movw %ax, %ss			/* 64 KiB limits for SS and ES; DS keeps its 4 GiB */
	movw %ax, %es
	movl %cr0, %eax
	andl $0xFFFFFFFE, %eax
	movl %eax, %cr0
	ljmp $REAL_SEGMENT, $AT(real_mode)
real_mode:
	movw $REAL_SEGMENT, %ax
	movw %ax, %ss
	movl $REAL_STACK, %esp

	/* DS still has the base 0 and 4 GiB of the protected mode. */
	movl $real_far, %ebx
	movl (%ebx), %eax
	movl %eax, %cs:AT(saw_far)
	/* A load in real mode sets the base and leaves the limit. */
	movw $0x0010, %ax
	movw %ax, %ds
	subl $0x100, %ebx
	movl (%ebx), %eax
	movl %eax, %cs:AT(saw_far_again)

	/* INT pushes FLAGS, CS, IP, two bytes each; the vector is four bytes at 4 * n. */
	xorw %ax, %ax
	movw %ax, %ds
	movw $AT(handler), INT_VECTOR * 4
	movw $REAL_SEGMENT, INT_VECTOR * 4 + 2
	stc
	int $INT_VECTOR
after_int:
	/* Selectors are shifted, not looked up; FFFF:0010 lies at 1 MiB with A20 on. */
	movw $0xFFFF, %ax
	movw %ax, %es
	movl %es:0x10, %eax
	movl %eax, %cs:AT(saw_megabyte)

	/* Segment limits hold here too: a word at FFFFh of a 64 KiB segment is #GP, vector 13, no error code. */
	movw $AT(gp_handler), 13 * 4
	movw $REAL_SEGMENT, 13 * 4 + 2
	xorl %ebx, %ebx
	movw $0xFFFF, %bx
	movw %es:(%bx), %ax
gp_resume:
	/* And back. */
	movl %cr0, %eax
	orl $1, %eax
	movl %eax, %cr0
	ljmpl $KERNEL_CS, $protected_again

handler:
	movw %sp, %bp
	movw (%bp), %ax
	subw $AT(after_int), %ax	/* 0 if IP is right */
	movw %ax, %cs:AT(saw_ip)
	movw 2(%bp), %ax
	movw %ax, %cs:AT(saw_cs)
	movw 4(%bp), %ax
	movw %ax, %cs:AT(saw_flags)
	movw %sp, %cs:AT(saw_sp)
	iret
gp_handler:
	incw %cs:AT(saw_gp)
	addw $6, %sp
	jmp gp_resume

	.balign 4
	.globl saw_far, saw_far_again, saw_megabyte, saw_ip, saw_cs, saw_flags, saw_sp, saw_gp
saw_far:	.long 0
saw_far_again:	.long 0
saw_megabyte:	.long 0
saw_ip:		.word 0xFFFF
saw_cs:		.word 0
saw_flags:	.word 0
saw_sp:		.word 0
saw_gp:		.word 0
real_end:

	.code32
protected_again:
	movl $KERNEL_DS, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movl protected_esp, %esp
	lidt protected_idt
	popal
	ret

	.data
	.globl real_far
	.balign 4
real_far:
	.long 0xFA57FA57		/* above 1 MiB, where real mode should not see it */
real_idt:
	.word 0x3FF
	.long 0
protected_idt:
	.skip 6
	.balign 4
protected_esp:
	.long 0

	.section .note.GNU-stack, "", @progbits
