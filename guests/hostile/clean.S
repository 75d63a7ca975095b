/*
 * clean.S -- a page of ring-3 code that a monitor has no reason to be careful with, as long as it looks at instructions
 * where they begin: the bad ones begin inside others.  And the 64-bit code that nobody should reach.
 */
#include "escape.h"

	.text
	.balign 4096
	/* uint32_t clean_call(uint32_t address) */
	.globl clean_call
clean_call:
	movl 4(%esp), %edx
	movl warm_rounds, %ecx
1:	decl %ecx
	jnz 1b
	movl $0, host_call+ARRIVED	/* the page is mapped from here on */
	movl clean_eax, %eax
	call *%edx
	ret

	/* uint32_t clean_rewrite(uint32_t address): code that has run often becomes a far jump, by a store there. */
	.globl clean_rewrite
clean_rewrite:
	pushl %ebx
	movl 8(%esp), %ebx
	movl warm_rounds, %ecx
1:	call rewritten
	decl %ecx
	jnz 1b
	movl $0, host_call+ARRIVED
	movl hidden_jump_33, %eax
	movl hidden_jump_33+3, %edx
	movl %edx, 3(%ebx)
	movl %eax, (%ebx)
	call rewritten
	popl %ebx
	ret

	/* MOV EAX, imm32 holds the bytes; RET follows. */
	.macro inside name, a, b=0x90, c=0x90, d=0x90
	.byte 0xB8
	.globl \name
\name:
	.byte \a, \b, \c, \d
	ret
	.endm

	inside hidden_hlt, 0xF4
	inside hidden_cli, 0xFA
	inside hidden_int80, 0xCD, 0x80
	inside hidden_ud2, 0x0F, 0x0B
	inside hidden_in, 0xE4, 0x80
	inside hidden_inc, 0x40, 0x40
	inside hidden_load_es, 0x8E, 0xC0		/* MOV ES, AX */
	inside hidden_load_gs, 0x8E, 0xE8
	inside hidden_read_cs, 0x8C, 0xC8		/* MOV EAX, CS */
	inside hidden_read_ss, 0x8C, 0xD0
	inside hidden_push_cs, 0x0E, 0x58		/* PUSH CS; POP EAX */
	inside hidden_str, 0x0F, 0x00, 0xC8
	inside hidden_smsw, 0x0F, 0x01, 0xE0

	/* MOV DWORD [disp32], imm32 holds a far jump of seven bytes. */
	.macro inside_far name, selector, target
	.byte 0xC7, 0x05
	.globl \name
\name:
	.byte 0xEA
	.long \target
	.word \selector
	.byte 0x90
	ret
	.endm

	inside_far hidden_jump_23, 0x23, far_landing
	inside_far hidden_jump_33, 0x33, escaped
	inside_far hidden_jump_1b, 0x1B, far_landing	/* the guest's own */

	.globl far_landing
far_landing:
	ret

	/*
	 * Who is here runs on the host's descriptors: make the host call that is asked for, keep what it answered, and go
	 * back to 32-bit code.  SYSCALL and the far return are hidden too.
	 */
	.code64
	.globl escaped
escaped:
	movl $host_call, %ebx
	movl $1, ARRIVED(%rbx)
	movl NUMBER(%rbx), %eax
	movl ARGUMENTS(%rbx), %edi
	movl ARGUMENTS+4(%rbx), %esi
	movl ARGUMENTS+8(%rbx), %edx
	movl ARGUMENTS+12(%rbx), %r10d
	movl ARGUMENTS+16(%rbx), %r8d
	xorl %r9d, %r9d
	movl HOW(%rbx), %ecx
	cmpl $HOW_INT80, %ecx
	je 2f
	cmpl $HOW_READ, %ecx
	je 3f
	cmpl $HOW_SPIN, %ecx
	je 5f
	jmp 1f+1
1:	.byte 0xB9, 0x0F, 0x05, 0x90, 0x90	/* SYSCALL */
6:	movl $host_call, %ebx
	movq %rax, ANSWER(%rbx)
	pushq $0x23
	movl $far_landing, %ecx
	pushq %rcx
	jmp 7f+1
7:	.byte 0xB9, 0x48, 0xCB, 0x90, 0x90	/* LRETQ */
2:	movl %edi, %ebx
	movl %esi, %ecx
	int $0x80
	jmp 6b
	/* From the top of what a host's program may have. */
3:	movabsq $0x7FFFFFFFF000, %rbx
	movl $0x100000, %ecx
4:	subq $0x1000, %rbx
	decl %ecx
	jz 6b
	movq (%rbx), %rax
	jmp 4b
5:	jmp 5b
	.code32

	/* NOPs that become a far jump. */
	.balign 4096
	.globl rewritten
rewritten:
	.skip 32, 0x90
	ret
	.balign 4096

	.section .note.GNU-stack, "", @progbits
