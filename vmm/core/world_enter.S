/*
 * world_enter.S -- into guest code and out of it.
 *
 * In: passage_enter() keeps the monitor's stack pointer, loads the guest's FPU, segment and general
 * registers, and IRETQ does the rest.  Out: a signal runs passage_signal() on the alternate stack.
 * Where the stay ends, its frame is abandoned and passage_enter() returns: the handlers are
 * installed with SA_NODEFER, so no signal mask needs to be restored.
 *
 * Source: System V ABI, AMD64 supplement, 3.2.1 "Registers"; AMD64 Architecture Programmer's Manual 2,
 * 8.9.4 "Returning From Interrupt Procedures"; Linux, sigaltstack(2), sigreturn(2).
 */
#include "world_enter.h"

	.text
	.globl	passage_enter
	.hidden	passage_enter
	.type	passage_enter, @function
passage_enter:
	pushq	%rbp
	pushq	%rbx
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rsp, PASSAGE_HOST_RSP(%rdi)
	.globl	passage_enter_begin
	.hidden	passage_enter_begin
passage_enter_begin:
	movl	$1, PASSAGE_IN_GUEST(%rdi)
	cmpb	$0, PASSAGE_LATE(%rdi)	/* from here on a signal ends the stay */
	jne	passage_leave
	movq	PASSAGE_FX(%rdi), %rax
	fxrstor	(%rax)
	movw	PASSAGE_DS(%rdi), %ds
	movw	PASSAGE_ES(%rdi), %es
	movw	PASSAGE_FS(%rdi), %fs
	movw	PASSAGE_GS(%rdi), %gs
	movzwl	PASSAGE_SS(%rdi), %eax
	pushq	%rax
	movl	PASSAGE_R + 16(%rdi), %eax
	pushq	%rax
	movl	PASSAGE_EFLAGS(%rdi), %eax
	pushq	%rax
	movzwl	PASSAGE_CS(%rdi), %eax
	pushq	%rax
	movl	PASSAGE_EIP(%rdi), %eax
	pushq	%rax
	movl	PASSAGE_R(%rdi), %eax
	movl	PASSAGE_R + 4(%rdi), %ecx
	movl	PASSAGE_R + 8(%rdi), %edx
	movl	PASSAGE_R + 12(%rdi), %ebx
	movl	PASSAGE_R + 20(%rdi), %ebp
	movl	PASSAGE_R + 24(%rdi), %esi
	xorl	%r8d, %r8d	/* the monitor's addresses are none of the guest's business */
	xorl	%r9d, %r9d
	xorl	%r10d, %r10d
	xorl	%r11d, %r11d
	xorl	%r12d, %r12d
	xorl	%r13d, %r13d
	xorl	%r14d, %r14d
	xorl	%r15d, %r15d
	movl	PASSAGE_R + 28(%rdi), %edi
	iretq
	.globl	passage_enter_end
	.hidden	passage_enter_end
passage_enter_end:
	.size	passage_enter, . - passage_enter

/* (signal, info, context); the guest's DS, ES, FS and GS are not in the context. */
	.globl	passage_signal
	.hidden	passage_signal
	.type	passage_signal, @function
passage_signal:
	pushq	$2		/* AC, NT and the rest are the guest's */
	popfq
	movq	%rsp, %rcx
	andq	$-PASSAGE_STACK, %rcx
	cmpl	$0, PASSAGE_IN_GUEST(%rcx)
	je	1f
	movw	%ds, PASSAGE_DS(%rcx)
	movw	%es, PASSAGE_ES(%rcx)
	movw	%fs, PASSAGE_FS(%rcx)
	movw	%gs, PASSAGE_GS(%rcx)
1:	pushq	%rcx
	call	passage_taken
	popq	%rdi
	testl	%eax, %eax
	jne	2f
	ret
2:
passage_leave:
	movq	PASSAGE_HOST_RSP(%rdi), %rsp
	movl	$0, PASSAGE_IN_GUEST(%rdi)
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbx
	popq	%rbp
	ret
	.size	passage_signal, . - passage_signal

	.globl	passage_restorer
	.hidden	passage_restorer
	.type	passage_restorer, @function
passage_restorer:
	movl	$15, %eax	/* rt_sigreturn */
	syscall
	ud2			/* user dispatch looks at the address behind it, which must be the monitor's too */
	.size	passage_restorer, . - passage_restorer

	.section .note.GNU-stack, "", @progbits
