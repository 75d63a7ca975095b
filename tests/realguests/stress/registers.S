/*
 * registers.S -- routines whose every register, or every byte, is known.
 */

#define TURNS	20		/* the first argument, after four registers were pushed */

	.section .note.GNU-stack, "", @progbits
	.text

/*
 * void hold_registers(uint32_t turns, struct held *held)
 *
 * Holds known values in all general registers, the carry, four x87 registers and all SSE registers for so many turns.
 * Every turn checks the general ones, which a push and a pop also takes through the stack.
 */
	.globl hold_registers
hold_registers:
	pushl %ebp
	pushl %ebx
	pushl %esi
	pushl %edi
	movl TURNS(%esp), %eax
	movl TURNS+4(%esp), %ecx
	movl %eax, turns_left
	movl %ecx, held_at
	movl $0, (%ecx)
	fninit
	fldpi
	fldl2e
	fldln2
	fldlg2
	movdqu patterns, %xmm0
	movdqu patterns+16, %xmm1
	movdqu patterns+32, %xmm2
	movdqu patterns+48, %xmm3
	movdqa %xmm0, %xmm4
	paddd %xmm1, %xmm4
	movdqa %xmm1, %xmm5
	paddd %xmm2, %xmm5
	movdqa %xmm2, %xmm6
	paddd %xmm3, %xmm6
	movdqa %xmm3, %xmm7
	psubd %xmm0, %xmm7
	movl $0x11111111, %eax
	movl $0x22222222, %ebx
	movl $0x33333333, %ecx
	movl $0x44444444, %edx
	movl $0x55555555, %esi
	movl $0x66666666, %edi
	movl $0x77777777, %ebp
turn:
	pushl %eax
	stc
	movl $0x11111111, %eax
	movl %eax, %eax
	jnc wrong
	popl %eax
	cmpl $0x11111111, %eax
	jne wrong_popped
	cmpl $0x22222222, %ebx
	jne wrong_popped
	cmpl $0x33333333, %ecx
	jne wrong_popped
	cmpl $0x44444444, %edx
	jne wrong_popped
	cmpl $0x55555555, %esi
	jne wrong_popped
	cmpl $0x66666666, %edi
	jne wrong_popped
	cmpl $0x77777777, %ebp
	jne wrong_popped
	decl turns_left
	jnz turn
	jmp held
wrong:
	popl %eax
wrong_popped:
	movl held_at, %ecx
	incl (%ecx)
held:
	movl held_at, %ecx
	fstpt 4+30(%ecx)
	fstpt 4+20(%ecx)
	fstpt 4+10(%ecx)
	fstpt 4(%ecx)
	movdqu %xmm0, 44(%ecx)
	movdqu %xmm1, 60(%ecx)
	movdqu %xmm2, 76(%ecx)
	movdqu %xmm3, 92(%ecx)
	movdqu %xmm4, 108(%ecx)
	movdqu %xmm5, 124(%ecx)
	movdqu %xmm6, 140(%ecx)
	movdqu %xmm7, 156(%ecx)
	popl %edi
	popl %esi
	popl %ebx
	popl %ebp
	ret

/* uint32_t (uint32_t turns): adds what it has written into the instruction just before it gets there. */
.macro writes_itself name, through
	.globl \name, \name\()_end
\name:
	movl 4(%esp), %ecx
	pushl %ebx
	call 1f
1:	popl %ebx
	xorl %eax, %eax
2:	movl %ecx, 4f - 1b(%ebx)
	\through
3:	.byte 0x05			/* addl $imm32, %eax */
4:	.long 0
	decl %ecx
	jnz 2b
	popl %ebx
	ret
\name\()_end:
.endm

	writes_itself self_writing, "jmp 3f"
	writes_itself self_writing_straight, ""

/*
 * uint32_t stepped(void)
 *
 * No flag is read that its instruction leaves undefined. No POPF: a kernel that steps over one takes the trap flag to
 * be the program's own from then on.
 */
	.globl stepped, stepped_end
stepped:
	pushl %esi
	pushl %edi
	movl $stepped_from, %esi
	movl $stepped_to, %edi
	movl $5, %ecx
	cld
	rep movsb
	movl $3, %ecx
	xorl %eax, %eax
1:	addl stepped_from(,%ecx,4), %eax
	loop 1b
	movl %eax, watched
	cmpl $0, %eax
	lahf
	andl $0xd500, %eax
	sahf
	call 2f
	int3
2:	leal 4(%esp), %esp		/* no flags, which would depend on where the stack is */
	movl $20, %eax			/* getpid */
	int $0x80
	movl $0x12345678, %eax
	bswap %eax
	jc 3f
	nop
3:	movl %eax, watched
	popl %edi
	popl %esi
	ret
stepped_end:

	.data
	.balign 16
patterns:
	.long 0x01234567, 0x89abcdef, 0x02468ace, 0x13579bdf
	.long 0xdeadbeef, 0xfeedface, 0x0badf00d, 0x8badf00d
	.long 0x00000001, 0x00000100, 0x00010000, 0x01000000
	.long 0xffffffff, 0x7fffffff, 0x80000000, 0x55555555
turns_left:
	.long 0
held_at:
	.long 0
stepped_from:
	.long 0x04030201, 0x08070605, 0x0c0b0a09, 0x100f0e0d
stepped_to:
	.long 0, 0, 0, 0
	.globl watched
watched:
	.long 0
