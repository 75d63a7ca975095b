/*
 * double_fault_task.S -- the task behind gate 8.  Each double fault resumes it behind its IRET.
 */
	.text
	.globl double_fault_task
double_fault_task:
	popl double_fault_error
	incl double_fault_count
	call double_fault_seen
	iret				/* NT is set: back to the task that was interrupted */
	jmp double_fault_task

	.bss
	.balign 4
	.globl double_fault_error, double_fault_count
double_fault_error:
	.long 0
double_fault_count:
	.long 0

	.section .note.GNU-stack, "", @progbits
