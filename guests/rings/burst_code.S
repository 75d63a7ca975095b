/*
 * burst_code.S -- a long burst of work that any ring can do.
 *
 * It has pages to itself: a monitor that runs outer rings on the processor itself looks for instructions that only
 * trap in ring 0, and takes a page with some for one that it must not run.
 */
#include "burst_code.h"

	.section .text.burst, "ax"
	.balign 4096
	/* uint32_t burst_work(struct burst *burst): the checksum; see bursts.c for the same in C */
	.globl burst_work
burst_work:
	pushl %ebp
	pushl %ebx
	pushl %esi
	pushl %edi
	movl 20(%esp), %ebp
1:	movl BURST_PAGE(%ebp), %esi
	xorl %eax, %eax
	xorl %edi, %edi
	movl $BURST_STEPS, %ecx
2:	roll $3, %eax
	xorl (%esi,%edi), %eax
	addl %ecx, %eax
	movl %eax, BURST_HALF(%esi,%edi)
	addl $4, %edi
	andl $(BURST_HALF - 4), %edi
	decl %ecx
	jnz 2b
	incl BURST_ROUNDS(%ebp)
	cmpl BURST_EXPECTED(%ebp), %eax
	jne 3f
	cmpl $BURST_MOST_ROUNDS, BURST_ROUNDS(%ebp)
	jae 3f
	movl BURST_TICKS(%ebp), %ebx
	cmpl BURST_UNTIL(%ebp), %ebx
	jb 1b
3:	popl %edi
	popl %esi
	popl %ebx
	popl %ebp
	ret
	.balign 4096

	.section .note.GNU-stack, "", @progbits
