/*
 * stress.h -- what the trials share.
 *
 * A trial notes what happened, in words. The words make its checksum, and with verbose=1 they are printed, so two
 * machines that disagree can be compared line by line. What may differ between two right machines (addresses that a
 * kernel chooses, selectors, numbers of signals, times) is never noted.
 */
#ifndef STRESS_H
#define STRESS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PAGE		4096u
#define SEED		2463534242u

struct trial {
	const char *name;
	void (*run)(void);
};

/* Each ends with a trial without a name. */
extern const struct trial process_trials[], signal_trials[], memory_trials[], float_trials[], code_trials[];
extern const struct trial thread_trials[], segment_trials[], call_trials[], string_trials[], trace_trials[];

/* How many times the least amount of work a trial is to do. */
extern unsigned scale;

void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void note_bytes(const char *what, const void *data, size_t length);
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define REQUIRE(condition)									\
	do {											\
		if (!(condition))								\
			fail("%s:%d: %s", __FILE_NAME__, __LINE__, #condition);			\
	} while (0)

uint32_t fold(uint32_t sum, const void *data, size_t length);
uint32_t next_random(uint32_t *state);

/* Memory of its own, readable and writable. */
void *map_pages(unsigned pages);
void write_all(int file, const void *data, size_t length);
size_t read_all(int file, void *data, size_t length);

/* Waits for a child that is to exit with this status. */
void expect_exit(pid_t child, int status);

/* Runs work(0..count-1) in as many processes at once; results[i] is what work(i) returned. */
void at_once(unsigned count, uint32_t (*work)(unsigned), uint32_t *results);

/* What this program does when it was executed as `stress stage WORD [NUMBER...]`: its exit status. */
int run_stage(int argc, char **argv);

/* faults.c: exceptions as signals, handled on a stack of their own. */

struct caught {
	int signal, code;
	uint32_t trap, error;		/* the exception's vector and error code */
	uint32_t address;		/* si_addr */
	uint32_t eax, ebx, ecx, edx, esi, edi, ebp, esp, eip, flags;
};

extern volatile struct caught caught;	/* the last one */
extern volatile unsigned caught_count;
extern volatile uint32_t faulting_eip, resume_eip;

/* Handles exceptions: the program goes on at resume_eip, if that is set, otherwise after fix has mended things. */
void catch_faults(void (*fix)(void));
int faults_on_read(const volatile void *at);
int faults_on_write(volatile void *at);

/* An instruction that may fault, and what to execute before and after it; then operands, as asm has them. */
#define FAULTING(before, instruction, after, ...)						\
	asm volatile("movl $771f, faulting_eip\n\tmovl $772f, resume_eip\n\t" before "\n"	\
		     "771:\t" instruction "\n772:\t" after "\n\tmovl $0, resume_eip" __VA_ARGS__)

/* registers.S */

struct held {
	uint32_t wrong;			/* turns in which a general register or the carry had changed */
	uint8_t x87[4][10];
	uint8_t xmm[8][16];
};

void hold_registers(uint32_t turns, struct held *held);
/* Routines that write their own next instruction; they are copied to where that is possible. */
extern const char self_writing[], self_writing_end[], self_writing_straight[], self_writing_straight_end[];
/* Stepped through by ptrace; stores to `watched`. */
extern const char stepped[], stepped_end[];
extern uint32_t watched;

#endif
