/*
 * run.h -- between run.c (the loop) and state.c (what the vCPU's state means to the engine).
 */
#ifndef RF_RUN_H
#define RF_RUN_H

#include "engine.h"

#define FAULT_CHAIN_MAX 64
#define APIC_BASE_BSP 0x100u

/* v was changed from outside, or restored: take over lazy flags, slots and mode. */
void engine_state_loaded(struct engine *e);
/* INIT: as RESET#, but the FPU, MTRRs and the TSC stay.  SDM 3A, table 9-1. */
void vcpu_init_signal(struct vcpu *v, const struct cpuid_leaf *leaves);

/* The rest of engine_run(), from the loop on.  worlds: world_crew.c */
int engine_continue(struct engine *e);

#endif
