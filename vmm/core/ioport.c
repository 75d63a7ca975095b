/*
 * ioport.c -- IN and OUT, and the I/O permission bitmap.
 *
 * The backdoor works at any privilege: IN or OUT of 32 bits through DX with the magic in EAX is a
 * hypercall, not a port access, so neither IOPL nor the bitmap is asked.
 *
 * Source: Intel SDM 1, chapter 18 (18.5.2, "I/O Permission Bit Map"); VMware open-vm-tools 2008.02.13,
 * backdoor_def.h.
 */
#include "segment.h"
#include "slow.h"

#define BACKDOOR_MAGIC 0x564d5868u
#define BACKDOOR_PORT 0x5658u
#define BACKDOOR_HB_PORT 0x5659u

/* "The processor always reads two bytes from the I/O permission map", both within the limit. */
static bool
bitmap_allows(struct engine *e, uint32_t port, uint32_t size)
{
	const struct segment *tr = &e->v->seg[TR];
	uint32_t offset, bits;

	if (!tss32(e->v) || tr->limit < TSS32_LIMIT)
		return false;
	offset = sys_read(e, tr->base + TSS32_IO_BASE, 2) + port / 8;
	if (offset + 1 > tr->limit)
		return false;
	bits = sys_read(e, tr->base + offset, 2) >> (port & 7);
	return (bits & ((1u << size) - 1)) == 0;
}

void
check_io(struct engine *e, uint32_t port, uint32_t size)
{
	const struct vcpu *v = e->v;

	if (!(v->cr0 & CR0_PE) || (!v86_mode(v) && v->cpl <= iopl(v)))
		return;
	if (!bitmap_allows(e, port, size))
		raise_gp0(e);
}

/* True when the instruction was a hypercall and has been answered: the registers hold the answer. */
static bool
hypercall(struct engine *e, uint32_t size, bool write)
{
	const struct vcpu *v = e->v;
	const uint32_t port = v->r[EDX] & 0xffff;

	if (hypercall_done(e))
		return true;
	if (size != 4 || v->r[EAX] != BACKDOOR_MAGIC || (port != BACKDOOR_PORT && port != BACKDOOR_HB_PORT))
		return false;
	e->ctl->exit.address = port;
	e->ctl->exit.write = write;
	leave(e, EXIT_HYPERCALL);
}

static void
input(struct engine *e, uint32_t port, uint32_t size)
{
	check_io(e, port, size);
	reg_put(e->v, EAX, size, port_in(e, port, size));
}

static void
output(struct engine *e, uint32_t port, uint32_t size)
{
	check_io(e, port, size);
	port_out(e, port, size, reg_get(e->v, EAX, size));
}

void
i_in_imm(struct engine *e, const struct op *op)
{
	input(e, op->imm & 0xff, op->imm2);
}

void
i_out_imm(struct engine *e, const struct op *op)
{
	output(e, op->imm & 0xff, op->imm2);
}

void
i_in_dx(struct engine *e, const struct op *op)
{
	if (!hypercall(e, op->imm2, false))
		input(e, e->v->r[EDX] & 0xffff, op->imm2);
}

void
i_out_dx(struct engine *e, const struct op *op)
{
	if (!hypercall(e, op->imm2, true))
		output(e, e->v->r[EDX] & 0xffff, op->imm2);
}
