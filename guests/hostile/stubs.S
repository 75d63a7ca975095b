/*
 * stubs.S -- one INT for each vector, and a far jump that anybody can see.
 */
	.text
	/* INT n; RET: four bytes each */
	.globl int_stubs
	.balign 4096
int_stubs:
	vector = 0
	.rept 256
	.byte 0xCD, vector
	ret
	nop
	vector = vector + 1
	.endr

	.globl plain_jump_33
plain_jump_33:
	ljmp $0x33, $escaped
	ret

	.section .note.GNU-stack, "", @progbits
