/*
 * stubs.S -- what the tasks run.  Each loops, for a task resumes behind the instruction that left it.
 */
#define MAIN_TSS	0x48

	.text
	.globl entered_by_call, entered_by_jump, entered_with_error, in_ring3, back_to_main, fault_task
entered_by_call:
	call save_visit
	iret				/* NT is set: to the task in the back link */
	jmp entered_by_call

entered_by_jump:
	call save_visit
	ljmp $MAIN_TSS, $0
	jmp entered_by_jump

entered_with_error:
	popl visit_error
	call save_visit
	iret
	jmp entered_with_error

in_ring3:
	incl visit_ring3_count
	int $0x94
	jmp in_ring3

back_to_main:
	ljmp $MAIN_TSS, $0
	addl $20, %esp			/* resumed: drop the frame of the last visit */
	jmp back_to_main

	/* A task that takes a fault; EBX of its TSS is the vector.  */
fault_task:
	popl fault_error
	movl %ebx, fault_vector
	call fault_task_body
	ljmp $MAIN_TSS, $0
	jmp fault_task

	/* The registers as the switch loaded them. */
save_visit:
	movl %eax, visit_registers
	movl %ebx, visit_registers+4
	movl %ecx, visit_registers+8
	movl %edx, visit_registers+12
	movl %ebp, visit_registers+16
	movl %esi, visit_registers+20
	movl %edi, visit_registers+24
	pushfl
	popl visit_eflags
	jmp task_visited		/* in C; returns to our caller */

	.globl task16_entry, task16_again
task16_entry:				/* IP = 0: the segment begins here.  The stack is 16-bit: no C. */
	movw %ax, task16_saw
	movw %bx, task16_saw+2
	movw %bp, task16_saw+4
	movw %di, task16_saw+6
	str task16_saw+8
	pushfw
	popw task16_saw+10
	movl %cr3, %eax
	movl %eax, task16_saw+12
	iret
task16_again:

	.bss
	.balign 4
	.globl visit_registers, visit_eflags, visit_error, visit_ring3_count, fault_error, fault_vector, task16_saw
visit_registers:
	.skip 28
visit_eflags:
	.long 0
visit_error:
	.long 0
visit_ring3_count:
	.long 0
fault_error:
	.long 0
fault_vector:
	.long 0
task16_saw:
	.skip 16

	.section .note.GNU-stack, "", @progbits
