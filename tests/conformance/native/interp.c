/*
 * interp.c -- runs a batch of test cases on the interpreter.
 *
 * The guest is set up by harness.py: protected mode with PAE paging, the memory of batch.h at
 * fixed guest physical pages, descriptor tables like the host kernel's, and an interrupt gate
 * for every vector, to a handler of 16 bytes that halts in ring 0.
 */
#include "batch.h"
#include "core.h"

#define HANDLER_BYTES 16
#define QUANTUM_US 20000
#define INSNS_MAX 1000000	/* a case that retires more does not end */

struct driver {
	int (*run)(void *engine, uint32_t quantum_us);
	void *engine;
	struct vcpu *vcpu;
	struct control *control;
	uint8_t *pages;
	uint8_t *ram;
	uint64_t *code_before, *data_before;
	uint64_t instructions;
	uint32_t code_gpa, data_gpa;
	uint32_t handlers;		/* linear address of vector 0's */
	uint32_t stack_linear, stack_gpa;	/* ring 0's: where the handler's frame is */
	uint32_t protected_mode;	/* 0: real mode, where the IVT leads to the handlers */
	struct vcpu base;		/* everything a case does not say */
	struct segment segments[64];	/* by selector >> 2 */
};

static uint32_t
has_error(uint32_t vector)
{
	return (0x27d00u >> vector & 1) != 0;	/* 8, 10-14, 17 */
}

static void
load(struct driver *d, const struct test_case *c)
{
	struct vcpu *v = d->vcpu;
	uint32_t *stamps = (uint32_t *)(void *)(d->pages + ((struct machine *)(void *)d->pages)->stamps);
	uint32_t i;

	*v = d->base;
	for (i = 0; i < 8; i++)
		v->r[i] = c->r[i];
	v->eip = c->eip;
	v->eflags = c->eflags;
	for (i = 0; i < 6; i++) {
		if (d->protected_mode) {
			v->seg[i] = d->segments[c->sel[i] >> 2 & 63];
			v->seg[i].selector = c->sel[i];
			if ((c->sel[i] & 0xfffc) == 0)
				v->seg[i].attr = SEG_UNUSABLE;
		} else {
			v->seg[i].selector = c->sel[i];
			v->seg[i].base = c->sel[i] << 4;
		}
	}
	__builtin_memcpy(v->fx, c->fx, 28);	/* MXCSR_MASK stays */
	__builtin_memcpy(v->fx + 32, c->fx + 32, FX_BYTES - 32);
	for (i = 0; i < CODE_BYTES / 4096; i++)
		stamps[d->code_gpa / 4096 + i]++;
}

static void
save_common(const struct driver *d, struct result *out)
{
	const struct vcpu *v = d->vcpu;
	uint32_t i;

	for (i = 0; i < 8; i++)
		out->r[i] = v->r[i];
	for (i = 0; i < 6; i++)
		out->sel[i] = v->seg[i].selector;
	out->error = 0;
	out->cr2 = 0;
}

/* The interrupted state: from the frame that delivery pushed. */
static void
save(struct driver *d, struct result *out)
{
	const struct vcpu *v = d->vcpu;
	const uint32_t at = v->eip - 1 - d->handlers;
	const uint32_t *frame = (const uint32_t *)(const void *)(d->ram + d->stack_gpa + (v->r[ESP] - d->stack_linear));

	save_common(d, out);
	out->trap = at / HANDLER_BYTES;
	if (out->trap < 32 && has_error(out->trap))
		out->error = *frame++;
	out->eip = frame[0];
	out->sel[CS] = frame[1];
	out->eflags = frame[2];
	out->r[ESP] = frame[3];
	out->sel[SS] = frame[4];
	out->cr2 = out->trap == V_PF ? v->cr2 : 0;
}

/* In real mode the frame is on the case's own stack, where its memory is: taken back. */
static void
save_real(struct driver *d, const struct arena *memory, struct result *out)
{
	struct vcpu *v = d->vcpu;
	uint16_t frame[3];
	uint32_t i;

	save_common(d, out);
	out->trap = (v->eip - 1 - d->handlers) / HANDLER_BYTES;
	for (i = 0; i < 3; i++) {
		const uint32_t linear = v->seg[SS].base + ((v->r[ESP] + 2 * i) & 0xffff);

		__builtin_memcpy(&frame[i], d->ram + linear, 2);
		if (linear - d->data_gpa < DATA_BYTES - 1)
			__builtin_memcpy(d->ram + linear, (uint8_t *)memory->data_before + (linear - d->data_gpa), 2);
	}
	out->eip = frame[0];
	out->sel[CS] = frame[1];
	out->eflags = (v->eflags & 0xffff0000u) | frame[2];
	out->r[ESP] = (v->r[ESP] & 0xffff0000u) | ((v->r[ESP] + 6) & 0xffff);
}

static void
save_elsewhere(struct driver *d, struct result *out, uint32_t trap, uint32_t why)
{
	save_common(d, out);
	out->eip = d->vcpu->eip;
	out->eflags = d->vcpu->eflags;
	out->trap = trap;
	out->error = why;
}

/* A quantum is host time, which says little on a busy host: a case ends by its instructions. */
static int
run_case(struct driver *d)
{
	const uint64_t end = d->control->stats.insns + INSNS_MAX;
	int kind;

	do
		kind = d->run(d->engine, QUANTUM_US);
	while (kind == EXIT_QUANTUM && d->control->stats.insns < end);
	return kind;
}

void run_cases(struct driver *d, const struct test_case *cases, struct result *results, uint32_t count);

void
run_cases(struct driver *d, const struct test_case *cases, struct result *results, uint32_t count)
{
	const struct arena memory = { (uint64_t *)(void *)(d->ram + d->code_gpa), (uint64_t *)(void *)(d->ram + d->data_gpa),
	    d->code_before, d->data_before, !d->protected_mode };
	uint32_t n;

	for (n = 0; n < count; n++) {
		struct result *out = &results[n];
		int kind;

		put_code(&memory, &cases[n], 0);
		load(d, &cases[n]);
		kind = run_case(d);
		if (kind == EXIT_HLT && d->vcpu->cpl == 0 && d->vcpu->eip - 1 - d->handlers < 256 * HANDLER_BYTES)
			d->protected_mode ? save(d, out) : save_real(d, &memory, out);
		else
			save_elsewhere(d, out, kind == EXIT_QUANTUM ? TRAP_TIMEOUT : TRAP_OTHER, (uint32_t)kind);
		__builtin_memcpy(out->fx, d->vcpu->fx, FX_BYTES);
		collect(&memory, &cases[n], out);
	}
}
