/*
 * trampoline.S -- where a processor begins after a startup IPI: real mode, CS = page << 8, IP = 0.
 *
 * The code is copied to pages below 1 MiB; it addresses its data by CS.  [MultiProcessor Specification 1.4, B.4]
 */
#include "asm.h"

#define CR0_PE		0x00000001
#define CR0_CACHES	0x60000000	/* CD, NW */
#define APIC_ID		0xFEE00020
#define STACK_SHIFT	13

	.text
	.code16
	.globl trampoline, trampoline_gdt, trampoline_end
trampoline:
	cli
	cld
	movw %cs, %bx
	movw %bx, %ds
	lgdtl trampoline_gdt - trampoline
	movl %cr0, %eax
	andl $~CR0_CACHES, %eax
	orl $CR0_PE, %eax
	movl %eax, %cr0
	ljmpl $KERNEL_CS, $arrive
	.balign 4
trampoline_gdt:
	.word 0			/* limit and base: copy_trampoline() */
	.long 0
trampoline_end:

	.code32
arrive:
	movl $KERNEL_DS, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	xorl %eax, %eax
	movl %eax, %fs
	movl %eax, %gs
	movl APIC_ID, %eax
	shrl $24, %eax
	andl $7, %eax
	movl %eax, %ecx
	incl %ecx
	shll $STACK_SHIFT, %ecx
	leal processor_stacks(%ecx), %esp
	xorl %ebp, %ebp
	movzwl %bx, %ebx
	pushl %ebx
	pushl %eax
	call processor_main
0:	cli
	hlt
	jmp 0b

	.bss
	.balign 4096
processor_stacks:
	.skip 8 << STACK_SHIFT

	.section .note.GNU-stack, "", @progbits
