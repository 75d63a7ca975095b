/*
 * host_offers.h -- what a probe found out about the host, in a page that it shares with Python.
 *
 * A shared header as core.h is; vmm/host_offers_spec.py mirrors the structures.
 */
#ifndef RF_HOST_OFFERS_H
#define RF_HOST_OFFERS_H

#ifndef RF_CDEF
#include <stdint.h>
#endif

#define RF_HOST_OFFERS_VERSION 1

/* The experiments, in the order in which they are made. */
enum host_offer {
	OFFER_CODE32,		/* 32-bit code runs through the host's own selector */
	OFFER_SIGNALS,		/* its faults are signals on another stack, and returning from them resumes it */
	OFFER_LDT,		/* modify_ldt's code and data segments have base and limit */
	OFFER_DISPATCH,		/* system calls from below 4 GiB can be caught, by every gate that exists */
	OFFER_CPUID_FAULT,	/* CPUID can be made to fault */
	OFFER_TSC_FAULT,	/* RDTSC can be made to fault */
	OFFER_UMIP,		/* SGDT does not tell where the host's table lies */
	OFFER_COSTS,		/* the measurements */
	OFFER_FILTER		/* system calls can be filtered; last, for it cannot be undone */
};
#define RF_HOST_OFFERS 9

enum host_verdict { VERDICT_UNTESTED, VERDICT_YES, VERDICT_NO };

/* Ways into the host's kernel, and what 32-bit code meets there while calls are to be caught. */
enum host_gate { GATE_SYSCALL64, GATE_INT80, GATE_SYSENTER, GATE_SYSCALL32 };
#define RF_HOST_GATES 4
enum host_gate_state { GATE_UNTESTED, GATE_CAUGHT, GATE_ABSENT, GATE_OPEN };	/* absent: it faults */

struct host_finding {
	uint32_t verdict;	/* enum host_verdict */
	int32_t error;		/* NO: the negative errno with which the host refused, or none */
	uint32_t signal;	/* the last signal that came, or 0, */
	uint32_t trap;		/* and its trap number */
};

struct host_offers {
	uint32_t version;
	uint32_t under_test;	/* enum host_offer; RF_HOST_OFFERS when all is done */
	struct host_finding found[RF_HOST_OFFERS];
	uint32_t gate[RF_HOST_GATES];	/* enum host_gate_state */
	uint64_t system_call_ns;
	uint64_t signal_ns;	/* #GP in 32-bit code, its handler, and back */
	uint64_t map_page_ns;	/* one page of a file, populated */
};

#endif
