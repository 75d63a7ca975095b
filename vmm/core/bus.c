/*
 * bus.c -- ports and MMIO: answered by the core (interrupts.h) or by leaving run().
 *
 * An access that Python answers leaves before its instruction has committed anything.  At the
 * next run() the answer joins the replay log, the instruction is executed again alone, and meets
 * its answers in order; the log is dropped when the instruction is done.
 */
#include "engine.h"
#include "fpu.h"
#include "insns.h"
#include "operand.h"

/* The next answer in the log, if it is the one of this access. */
static const struct replay_entry *
replay_take(struct engine *e, uint64_t address, uint32_t width, bool is_port, bool write)
{
	struct replay *r = &e->replay;
	const struct replay_entry *entry = &r->log[r->cursor];

	if (r->cursor >= r->count || entry->address != address || entry->width != width ||
	    (entry->is_port != 0) != is_port || (entry->write != 0) != write)
		return NULL;
	r->cursor++;
	return entry;
}

static uint64_t
width_mask(uint32_t size)
{
	return size >= 8 ? ~0ull : (1ull << (8 * size)) - 1;
}

static void
request(struct engine *e, uint64_t address, uint32_t size, uint32_t count, bool write, uint64_t value)
{
	struct exit_info *x = &e->ctl->exit;

	x->address = address;
	x->width = size;
	x->count = count;
	x->write = write;
	x->string = 0;
	x->data[0] = value;
	x->data[1] = 0;
}

void
kick_vcpus(struct engine *e, uint32_t mask)
{
	uint32_t i;

	for (i = 0; i < RF_VCPUS; i++)
		if (mask >> i & 1)
			control_kick_by(e->ctl_of[i], e->v->vcpu_id, ATTN_INTERRUPT);
	if (mask >> e->v->vcpu_id & 1)
		poll_soon(e);	/* our own: at the end of this block */
}

/* ---- MMIO ------------------------------------------------------------------------------- */

uint64_t
mmio_read(struct engine *e, uint64_t gpa, uint32_t size)
{
	const struct replay_entry *entry;
	uint32_t value;

	if (size <= 4 && intr_mmio_read(e->intr, e->v->vcpu_id, e->v->msr_apic_base, gpa, size, &value))
		return value & width_mask(size);
	if (slot_find(e, (uint32_t)(gpa >> PAGE_SHIFT)) == NULL)
		return width_mask(size);	/* nothing decodes it */
	entry = replay_take(e, gpa, size, false, false);
	if (entry)
		return entry->data[0] & width_mask(size);
	request(e, gpa, size, 1, false, 0);
	leave(e, EXIT_MMIO);
}

void
mmio_write(struct engine *e, uint64_t gpa, uint32_t size, uint64_t value)
{
	uint32_t kick = 0;

	value &= width_mask(size);
	if (size <= 4 &&
	    intr_mmio_write(e->intr, e->v->vcpu_id, e->v->msr_apic_base, gpa, size, (uint32_t)value, &kick)) {
		kick_vcpus(e, kick);
		return;
	}
	if (slot_find(e, (uint32_t)(gpa >> PAGE_SHIFT)) == NULL || replay_take(e, gpa, size, false, true))
		return;
	request(e, gpa, size, 1, true, value);
	leave(e, EXIT_MMIO);
}

/* ---- ports ---------------------------------------------------------------------------------- */

/* I/O breakpoints are traps: SDM 3B, 17.2.4, R/Wn = 10b with CR4.DE. */
static void
note_port(struct engine *e, uint32_t port, uint32_t size)
{
	static const uint8_t lengths[4] = { 1, 2, 8, 4 };
	const struct vcpu *v = e->v;
	uint32_t i;

	if (likely(!e->data_watch) || !(v->cr4 & CR4_DE))
		return;
	for (i = 0; i < 4; i++) {
		const uint32_t length = lengths[v->dr[7] >> (18 + 4 * i) & 3], first = v->dr[i] & ~(length - 1);

		if ((v->dr[7] >> (2 * i) & 3) && (v->dr[7] >> (16 + 4 * i) & 3) == 2 &&
		    (port - first < length || first - port < size))
			e->data_hits |= 1u << i;
	}
}

static void
port_passed(struct engine *e, uint32_t port, uint32_t size, uint32_t value, bool write)
{
	note_port(e, port, size);
	if (unlikely(e->ctl->trace_mask & TRACE_IO))
		trace(e, TRACE_IO, port, value, size | (uint32_t)write << 8);
}

uint32_t
port_in(struct engine *e, uint32_t port, uint32_t size)
{
	const struct replay_entry *entry;
	uint32_t value, kick = 0;

	if (!intr_port_read(e->intr, e->v->vcpu_id, port, size, &value)) {
		entry = replay_take(e, port, size, true, false);
		if (entry) {
			value = (uint32_t)entry->data[0];
		} else if (nic_port_read(e->intr, e->v->vcpu_id, port, size, &value, &kick)) {
			kick_vcpus(e, kick);
		} else {
			request(e, port, size, 1, false, 0);
			leave(e, EXIT_IO);
		}
	}
	value &= (uint32_t)width_mask(size);
	port_passed(e, port, size, value, false);
	return value;
}

void
port_out(struct engine *e, uint32_t port, uint32_t size, uint32_t value)
{
	uint32_t kick = 0;

	value &= (uint32_t)width_mask(size);
	if ((port & ~1u) == 0xf0) {	/* the coprocessor's error latch is the processor's own */
		x87_port_f0(e);
		return;
	}
	if (intr_port_write(e->intr, e->v->vcpu_id, port, size, value, &kick)) {
		kick_vcpus(e, kick);
	} else if (!replay_take(e, port, size, true, true)) {
		if (!nic_port_write(e->intr, e->v->vcpu_id, port, size, value, &kick)) {
			request(e, port, size, 1, true, value);
			leave(e, EXIT_IO);
		}
		kick_vcpus(e, kick);
	}
	port_passed(e, port, size, value, true);
}

/* A batch that was answered: its data is in e->string_data, *n says how many units. */
bool
port_string_done(struct engine *e, uint32_t port, uint32_t size, uint32_t *n, bool write)
{
	const struct replay_entry *entry = replay_take(e, port, size, true, write);

	if (!entry)
		return false;
	note_port(e, port, size);
	*n = entry->units;
	return true;
}

/* A batch of n units: answered by the core at once, or leaves run(). */
void
port_string(struct engine *e, uint32_t port, uint32_t size, uint32_t n, const uint8_t *data, bool write)
{
	uint32_t i, kick = 0;

	if (intr_port_owned(port, e->intr)) {
		note_port(e, port, size);
		for (i = 0; i < n; i++) {
			uint32_t x = 0;

			if (write) {
				__builtin_memcpy(&x, data + i * size, size);
				intr_port_write(e->intr, e->v->vcpu_id, port, size, x, &kick);
			} else {
				intr_port_read(e->intr, e->v->vcpu_id, port, size, &x);
				__builtin_memcpy(e->string_data + i * size, &x, size);
			}
		}
		kick_vcpus(e, kick);
		return;
	}
	request(e, port, size, n, write, 0);
	e->ctl->exit.string = 1;
	if (write)
		__builtin_memcpy(e->ctl->exit.buffer, data, n * size);
	if (n == 1 && write)
		__builtin_memcpy(&e->ctl->exit.data[0], data, size);
	leave(e, EXIT_IO);
}

bool
hypercall_done(struct engine *e)
{
	const bool done = e->hypercall_answered;

	e->hypercall_answered = false;
	return done;
}

/* The exit that the last run() ended with has been answered: remember the answer. */
void
replay_collect(struct engine *e)
{
	const struct exit_info *x = &e->ctl->exit;
	struct replay *r = &e->replay;
	struct replay_entry *entry;

	if (!e->answer_due)
		return;
	e->answer_due = false;
	if (e->left_by == EXIT_HYPERCALL) {
		e->hypercall_answered = true;
		return;
	}
	if (r->count == REPLAYS)	/* no instruction makes so many accesses: start it again */
		r->count = 0;
	entry = &r->log[r->count++];
	/* What was asked is known here; only the data comes from outside. */
	entry->address = e->asked.address;
	entry->width = e->asked.width;
	entry->write = e->asked.write;
	entry->is_port = e->left_by == EXIT_IO;
	entry->units = e->asked.units;
	entry->data[0] = x->data[0];
	entry->data[1] = x->data[1];
	if (e->asked.string && !e->asked.write) {
		__builtin_memcpy(e->string_data, x->buffer, RF_IO_BUFFER);
		if (e->asked.units == 1)
			__builtin_memcpy(e->string_data, &x->data[0], 4);
	}
}

/* Called by leave(): what the answer will be to. */
void
replay_expect(struct engine *e, uint32_t exit_kind)
{
	const struct exit_info *x = &e->ctl->exit;

	e->left_by = exit_kind;
	e->answer_due = exit_kind == EXIT_IO || exit_kind == EXIT_MMIO || exit_kind == EXIT_HYPERCALL;
	e->asked.address = x->address;
	e->asked.width = x->width;
	e->asked.write = x->write;
	e->asked.units = x->count;
	e->asked.string = x->string;
}
