/*
 * bare_gates.S -- ring 0's side does nothing but return; ring 3's side counts.
 */
	.text
	.globl bare_iret, bare_lret, bare_sysexit
bare_iret:
	iret
bare_lret:
	lret
bare_sysexit:
	sti			/* SYSENTER cleared IF; STI lets SYSEXIT pass */
	sysexit			/* to EDX, with ESP = ECX */

	.globl round_trips_int
round_trips_int:
	movl 4(%esp), %ecx
1:	int $0x80
	decl %ecx
	jnz 1b
	ret

	.globl round_trips_call
round_trips_call:
	movl 4(%esp), %ecx
1:	lcall $0x1F8, $0
	decl %ecx
	jnz 1b
	ret

	.globl round_trips_sysenter
round_trips_sysenter:
	pushl %ebx
	movl 8(%esp), %ebx
	movl %esp, %ecx
	movl $2f, %edx
1:	sysenter
2:	decl %ebx
	jnz 1b
	popl %ebx
	ret

	.section .note.GNU-stack, "", @progbits
