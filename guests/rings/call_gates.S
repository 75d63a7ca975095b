/*
 * call_gates.S -- the far side of the call gates.
 *
 * A call through a gate to an inner ring switches to that ring's stack and copies the parameters, so all these find,
 * from EBP up: EBP, EIP, CS, parameters, and the caller's ESP and SS.  [SDM 3, 5.8.5]
 */
#include "asm.h"
#include "call_gates.h"

#define FIRST_PARAMETER	12	/* from EBP */

	.text
	/* say(depth, text): DS and ES are still the caller's, which ring 0 need not trust. */
	.globl gate_say
gate_say:
	pushl %ebp
	movl %esp, %ebp
	pushl %ds
	pushl %es
	pushl FIRST_PARAMETER+4(%ebp)
	pushl FIRST_PARAMETER(%ebp)
	movl $KERNEL_DS, %eax
	movl %eax, %ds
	movl %eax, %es
	call kernel_say
	addl $8, %esp
	popl %es
	popl %ds
	popl %ebp
	lret $8

	/* sum(a, b, c, d, e) */
	.globl gate_sum
gate_sum:
	pushl %ebp
	movl %esp, %ebp
	movl FIRST_PARAMETER(%ebp), %eax
	addl FIRST_PARAMETER+4(%ebp), %eax
	addl FIRST_PARAMETER+8(%ebp), %eax
	addl FIRST_PARAMETER+12(%ebp), %eax
	addl FIRST_PARAMETER+16(%ebp), %eax
	movl FIRST_PARAMETER+20(%ebp), %edx	/* the caller's ESP, above its parameters */
	movl %edx, gate_saw_esp
	popl %ebp
	lret $20

	/*
	 * Three steps inward; each tells where it is, calls the next gate, tells that it is back, and returns
	 * outward.
	 */
	.macro step name, next
	.globl \name
\name:
	pushl %ebp
	movl %esp, %ebp
	call going_in
	pushl FIRST_PARAMETER(%ebp)
	.ifnb \next
	lcall $\next, $0
	.else
	call innermost
	addl $4, %esp
	.endif
	pushl %eax
	call coming_out
	popl %eax
	popl %ebp
	lret $4
	.endm

	step step_ring2, GATE_TO_RING1
	step step_ring1, GATE_TO_RING0
	step step_ring0

	.globl conforming_ring
conforming_ring:
	movl %cs, %eax
	lret

	.bss
	.globl gate_saw_esp
	.balign 4
gate_saw_esp:
	.long 0

	.section .note.GNU-stack, "", @progbits
