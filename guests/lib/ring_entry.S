/*
 * ring_entry.S -- into an outer ring and back.
 */
#include "asm.h"

	.text
	/* uint32_t ring_enter(uint32_t cs, uint32_t ss, uint32_t esp, uint32_t eflags, ring_function *function); */
	.globl ring_enter
ring_enter:
	pushl %ebp
	pushl %ebx
	pushl %esi
	pushl %edi
	pushl %fs
	pushl %gs
	pushfl
	movl %esp, ring_saved_esp
	movl %esp, main_tss + 4		/* ESP0 */
	movl 48(%esp), %eax		/* function, called by the outer ring */
	movl 36(%esp), %edx		/* ss: for data too */
	movl 44(%esp), %ebx
	movl 40(%esp), %ecx
	movl 32(%esp), %esi
	pushl %edx
	pushl %ecx
	pushl %ebx
	pushl %esi
	pushl $ring_start
	movl %edx, %ds
	movl %edx, %es
	iret

	/* In the outer ring; the argument lies at ESP. */
ring_start:
	call *%eax
	int $0x81

	/* Gate 81h: in ring 0 again, EAX is the result. */
	.globl ring_return_stub
ring_return_stub:
	movl $KERNEL_DS, %edx
	movl %edx, %ds
	movl %edx, %es
	jmp 1f

	/* void ring_leave(uint32_t value): the same for a ring that did not return by itself. */
	.globl ring_leave
ring_leave:
	movl 4(%esp), %eax
1:	cld
	movl ring_saved_esp, %esp
	movl $0, ring_saved_esp
	popfl
	popl %gs
	popl %fs
	popl %edi
	popl %esi
	popl %ebx
	popl %ebp
	ret

	.bss
	.globl ring_saved_esp
	.balign 4
ring_saved_esp:
	.long 0

	.section .note.GNU-stack, "", @progbits
