/*
 * parts.h -- what the files of this guest share.
 */
#pragma once

#include "guest.h"

#define MAX_CPUS	8

/* ---- apic.c: the local APIC of whoever calls ---- */

#define APIC_BASE	0xFEE00000u
#define APIC_ID		0x020
#define APIC_VERSION	0x030
#define APIC_TPR	0x080
#define APIC_EOI	0x0B0
#define APIC_LDR	0x0D0
#define APIC_DFR	0x0E0
#define APIC_SVR	0x0F0
#define APIC_ISR	0x100
#define APIC_ICR	0x300
#define APIC_ICR_HIGH	0x310

#define ICR_FIXED	0x000u
#define ICR_LOWEST	0x100u
#define ICR_NMI		0x400u
#define ICR_INIT	0x500u
#define ICR_STARTUP	0x600u
#define ICR_LOGICAL	0x800u
#define ICR_PENDING	0x1000u
#define ICR_ASSERT	0x4000u
#define ICR_LEVEL	0x8000u
#define ICR_SELF	0x40000u
#define ICR_ALL		0x80000u
#define ICR_OTHERS	0xC0000u

bool has_apic(void);
void apic_enable(void);
uint32_t apic_read(uint32_t reg);
void apic_write(uint32_t reg, uint32_t value);
void apic_eoi(void);
uint32_t my_id(void);
/* Send, and wait until the message has left. */
void send_ipi(uint32_t icr, uint32_t destination);

/* ---- start.c: processors and work for them ---- */

enum ipi_vector { VEC_WAKE = 0x40, VEC_COUNT = 0x50, VEC_COUNT_HIGH = 0x61, VEC_FLUSH = 0x70, VEC_NOTICE = 0x71 };

typedef void work(uint32_t argument);

/* By APIC ID. */
struct cpu {
	volatile uint32_t arrivals;	/* times it came through the trampoline */
	volatile uint32_t arrival_cs;
	work *volatile work;
	volatile uint32_t argument;
	volatile uint32_t taken;	/* VEC_COUNT */
	volatile uint32_t nmis;
	uint32_t pad[10];		/* a cache line each */
};
extern struct cpu cpus[MAX_CPUS];
extern uint32_t cpu_count;		/* with the one that booted; the IDs are 0 and up */

void find_processors(void);
void copy_trampoline(uint32_t address);
void begin_work(uint32_t id, work *function, uint32_t argument);
void end_work(uint32_t id);
/* On all processors at once, ours included; returns when all are done. */
void work_everywhere(work *function, uint32_t argument);
void meet(void);			/* in such work: nobody goes on before all are here */

void relax(void);			/* PAUSE */
void delay_us(uint32_t us);
/* Wait for something that another processor does; too long ends the guest. */
#define WAIT_FOR(condition) do {								\
	uint64_t until_ = wait_limit();								\
	uint32_t spins_ = 0;									\
	while (!(condition)) {									\
		relax();									\
		if (!(++spins_ & 0xFFF) && read_tsc() > until_)					\
			stop("others_answer", "%s: not after %u s", #condition, WAIT_LIMIT_S);	\
	}											\
} while (0)
#define WAIT_LIMIT_S	30u
uint64_t wait_limit(void);

/* How often; a tenth of it when quick. */
uint32_t rounds(uint32_t usual);

/* ---- the checks ---- */

void check_self(void);
void check_start(void);
void check_restart(void);
void check_ipis(void);
void check_nmi(void);
void check_locks(void);
void check_order(void);
void check_code(void);
void check_shootdown(void);
