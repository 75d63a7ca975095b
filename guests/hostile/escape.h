/*
 * escape.h -- offsets into struct host_call and its kinds, for C and assembly.
 */
#define NUMBER		0
#define ARGUMENTS	4
#define HOW		24
#define ARRIVED		28
#define ANSWER		32

#define HOW_SYSCALL	0
#define HOW_INT80	1
#define HOW_READ	2
#define HOW_SPIN	3
