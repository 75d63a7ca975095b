/*
 * kernel.h -- the parts of minios.
 *
 *	main.c		brings the machine up and starts the shell
 *	process.c	processes: address spaces, the scheduler, the end of a process
 *	system_calls.c	what a program may ask for, by INT 80h
 *	programs.c	the programs, which run in ring 3
 *	serial.c	characters received on COM1, by interrupt
 *	shell.c		the commands
 *
 * The kernel is not preemptible: a switch happens when the timer interrupts ring 3, when a process waits or ends, and
 * when the shell waits for a character.
 */
#pragma once

#include "guest.h"

#define TICKS_PER_S	100
#define MAX_PROCESSES	8

/* Every address space is alike: the kernel's memory one to one, and from here the process's own pages. */
#define PRIVATE_BASE	0x40000000u
#define PRIVATE_PAGES	4
#define PRIVATE_TOP	(PRIVATE_BASE + PRIVATE_PAGES * PAGE_SIZE)

/* process.c */
enum process_state { FREE, READY, ASLEEP };

struct process {
	enum process_state state;
	uint32_t pid;
	const char *name;
	uint32_t kernel_esp;		/* while it does not run */
	uint32_t kernel_stack_top;
	page_table *directory;
	uint32_t wake_tick;
	uint32_t ticks, switches;	/* timer ticks it was charged; how often it was resumed */
};

extern struct process processes[MAX_PROCESSES];	/* the first is the shell */
extern struct process *current;
extern volatile uint32_t uptime_ticks;
#define SHELL (&processes[0])

void processes_init(void);
struct process *process_start(const char *name, void (*program)(void));	/* null: too many */
struct process *process_by_pid(uint32_t pid);
uint32_t processes_alive(void);			/* the shell not counted */
bool processes_ready(void);
void process_end(struct process *process);	/* does not return if it is the current one */
void process_sleep(uint32_t ticks);
/* Let others run; returns when it is our turn again. */
void yield(void);
bool user_readable(uint32_t address);

/* switch.S: save this stack in `*old`, continue on `new`. */
void switch_stacks(uint32_t *old, uint32_t new);

/* system_calls.c */
#define VEC_SYSTEM_CALL	0x80
enum system_call { SYS_WRITE, SYS_EXIT, SYS_SLEEP, SYS_PID, SYS_UPTIME };
void system_calls_init(void);

/* programs.c */
struct program {
	const char *name;
	void (*run)(void);
	const char *what;
};
extern const struct program programs[];
extern const size_t programs_count;

/* What the programs and the tour through the rings ask the kernel with. */
static inline uint32_t
system_call(enum system_call number, uint32_t argument)
{
	uint32_t result;

	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(argument) : "memory");
	return result;
}

/* serial.c */
#define CTRL_C	3
#define CTRL_D	4
void serial_init(void);
void serial_poll(void);
int serial_take(void);			/* a character, or -1 */
bool serial_waiting(void);
bool serial_interrupted(void);		/* a Ctrl-C waits; it is taken, with what came before it */

/* tour.c */
void tour_rings(void);

/* shell.c */
void shell(void) __attribute__((noreturn));
