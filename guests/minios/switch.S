/*
 * switch.S -- from one kernel stack to another.  A new process's stack is laid out as if it had called this.
 */
	.text
	/* void switch_stacks(uint32_t *old, uint32_t new); */
	.globl switch_stacks
switch_stacks:
	movl 4(%esp), %eax
	movl 8(%esp), %edx
	pushl %ebp
	pushl %ebx
	pushl %esi
	pushl %edi
	movl %esp, (%eax)
	movl %edx, %esp
	popl %edi
	popl %esi
	popl %ebx
	popl %ebp
	ret

	.section .note.GNU-stack, "", @progbits
