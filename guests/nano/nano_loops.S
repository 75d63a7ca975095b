/*
 * nano_loops.S -- the measured loops.  Each ends with the DECL and JNZ of loop_empty, whose cost is taken off.
 */
	.set ABSENT, 0x40000000
	.set PORT, 0x80

	.macro repeat name, setup, body
	.globl \name
\name:
	pushl %ebx
	movl 8(%esp), %ebx
	\setup
1:	\body
	decl %ebx
	jnz 1b
	popl %ebx
	ret
	.endm

	.text
	.balign 16
	repeat loop_empty
	repeat loop_in, , "inb $PORT, %al"
	repeat loop_cr3, "movl %cr3, %eax", "movl %eax, %cr3"
	repeat loop_callret, , "call leaf"
	repeat loop_pgfault, "movl $ABSENT, %edx", "movl (%edx), %eax"
	repeat loop_divzero, "xorl %ecx, %ecx", "divl %ecx"
	/* Bit 9 of an entry is the system's own: changing it changes the entry and nothing else. */
	repeat loop_ptemod, "movl nano_pte, %edx", "xorl $0x200, (%edx)"
	repeat loop_ptemod_use, "movl nano_pte, %edx", "xorl $0x200, (%edx); invlpg ABSENT+4096; movl ABSENT+4096, %eax"

leaf:
	ret

	/* Both faulting instructions are two bytes long. */
	.globl step_over_pgfault, step_over_divzero
step_over_pgfault:
	addl $4, %esp			/* the error code */
step_over_divzero:
	incl %ss:nano_faults
	addl $2, (%esp)
	iret

	.bss
	.balign 4
	.globl nano_faults, nano_pte
nano_faults:
	.long 0
nano_pte:
	.long 0

	.section .note.GNU-stack, "", @progbits
