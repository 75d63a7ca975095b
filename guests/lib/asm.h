/*
 * asm.h -- selectors for assembly files; x86.h has the same for C.
 */
#define KERNEL_CS	0x08
#define KERNEL_DS	0x10
#define USER_CS		0x1B
#define USER_DS		0x23
