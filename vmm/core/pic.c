/*
 * pic.c -- the 8259A pair at ports 20h, 21h, A0h, A1h, with ELCR at 4D0h and 4D1h.
 *
 * Invariants:
 *
 *   P1  INTR and the cascade input are functions of the registers, recomputed by pic_update;
 *   P2  a request is served in the step that acknowledges it: IRR is sampled at INTA;
 *   P3  an edge-triggered request is latched, and forgotten when its input falls before INTA.
 *
 * As in the 82371AB, ICW1.LTIM has no effect (ELCR takes its place), and the master's IR2 follows
 * the slave's INT.  8080 mode (ICW4 bit 0 clear) is stored; the processor always runs two INTA cycles.
 * Source: Intel 8259A data sheet [ds], cited by section; Intel 82371AB data sheet, ELCR1, ELCR2.
 */
#include "controllers.h"

enum icw1 { ICW1_IC4 = 0x01, ICW1_SNGL = 0x02, ICW1_SELECT = 0x10 };
enum icw4 { ICW4_AEOI = 0x02, ICW4_SFNM = 0x10 };
enum ocw2 { OCW2_LEVEL = 0x07, OCW2_COMMAND_SHIFT = 5 };
enum ocw2_command {
	ROTATE_AEOI_CLEAR, EOI, NO_OPERATION, EOI_SPECIFIC, ROTATE_AEOI_SET, ROTATE_EOI, SET_PRIORITY, ROTATE_EOI_SPECIFIC
};
enum ocw3 { OCW3_RIS = 0x01, OCW3_RR = 0x02, OCW3_POLL = 0x04, OCW3_SELECT = 0x08, OCW3_SMM = 0x20, OCW3_ESMM = 0x40 };

/* IRQ 0, 1, 2 and 8, 13 are always edge-triggered. */
static const uint32_t ELCR_WRITABLE[2] = { 0xf8, 0xde };

void
pic_reset(struct pic *p)
{
	const uint32_t lines = p->lines;

	zero_bytes(p, sizeof *p);
	p->lines = lines;
	p->imr = 0xff;		/* UNKNOWN at power-on: no initialised chip asks before its ICWs */
	p->lowest = 7;
}

void
pic_set_input(struct pic *p, uint32_t n, uint32_t level)
{
	const uint32_t bit = 1u << (n & 7);

	if (level && !(p->lines & bit))
		p->edges |= bit;
	if (!level)
		p->edges &= ~bit;	/* P3 */
	p->lines = level ? p->lines | bit : p->lines & ~bit;
}

static uint32_t
is_master(const struct interrupts *i, const struct pic *p)
{
	return p == &i->pic[MASTER];
}

/* The interrupt request register.  The cascade input is as good as level-triggered. */
static uint32_t
request_register(const struct interrupts *i, const struct pic *p)
{
	const uint32_t level = p->elcr | (is_master(i, p) ? 1u << CASCADE : 0);

	return (p->lines & level) | (p->edges & ~level);
}

/* The input that INT is on account of, or -1.  [ds: Fully Nested Mode, Special Mask Mode, SFNM] */
static int32_t
requesting(const struct interrupts *i, const struct pic *p)
{
	const uint32_t requests = request_register(i, p) & ~p->imr;
	const uint32_t in_service = p->special_mask ? p->isr & ~p->imr : p->isr;
	uint32_t k, n;

	if (p->icw_next || !requests)
		return -1;
	for (k = 1; k <= 8; k++) {
		n = (p->lowest + k) & 7;
		if (in_service >> n & 1) {
			/* "further interrupts requests from higher priority IR's within the slave will be recognized" */
			if (n == CASCADE && (p->icw4 & ICW4_SFNM) && is_master(i, p) && (requests >> n & 1))
				return CASCADE;
			return -1;
		}
		if (requests >> n & 1)
			return (int32_t)n;
	}
	return -1;
}

uint32_t
pic_update(struct interrupts *i)
{
	pic_set_input(&i->pic[MASTER], CASCADE, requesting(i, &i->pic[SLAVE]) >= 0);
	return requesting(i, &i->pic[MASTER]) >= 0;
}

uint32_t
pic_from_slave(const struct interrupts *i)
{
	return requesting(i, &i->pic[MASTER]) == CASCADE;
}

/* The ISR part of an INTA sequence for input n. */
static void
acknowledge(struct pic *p, uint32_t n)
{
	p->edges &= ~(1u << n);
	if (!(p->icw4 & ICW4_AEOI))
		p->isr |= 1u << n;
	else if (p->rotate_aeoi)
		p->lowest = n;
}

/* "the 8259A will issue an interrupt level 7 ... IS bit is not set" [ds: Interrupt Sequence] */
uint32_t
pic_spurious(struct interrupts *i, uint32_t from_slave)
{
	if (!from_slave)
		return i->pic[MASTER].base | 7;
	acknowledge(&i->pic[MASTER], CASCADE);	/* the master saw a request: it wants an EOI */
	return i->pic[SLAVE].base | 7;
}

uint32_t
pic_inta(struct interrupts *i)
{
	const int32_t n = requesting(i, &i->pic[MASTER]);
	int32_t s;

	if (n < 0)
		return pic_spurious(i, 0);
	if (n != CASCADE) {
		acknowledge(&i->pic[MASTER], (uint32_t)n);
		return i->pic[MASTER].base | (uint32_t)n;
	}
	s = requesting(i, &i->pic[SLAVE]);
	if (s < 0)
		return pic_spurious(i, 1);
	acknowledge(&i->pic[MASTER], CASCADE);
	acknowledge(&i->pic[SLAVE], (uint32_t)s);
	return i->pic[SLAVE].base | (uint32_t)s;
}

/* The in-service input of highest priority that a non-specific EOI resets, or -1. */
static int32_t
in_service_highest(const struct pic *p)
{
	/* "an IS bit that is masked by an IMR bit will not be cleared by a non-specific EOI" in special mask mode */
	const uint32_t isr = p->special_mask ? p->isr & ~p->imr : p->isr;
	uint32_t k, n;

	for (k = 1; k <= 8; k++) {
		n = (p->lowest + k) & 7;
		if (isr >> n & 1)
			return (int32_t)n;
	}
	return -1;
}

static void
write_ocw2(struct pic *p, uint32_t value)
{
	const uint32_t level = value & OCW2_LEVEL;
	const int32_t highest = in_service_highest(p);

	switch ((enum ocw2_command)(value >> OCW2_COMMAND_SHIFT)) {
	case EOI:
	case ROTATE_EOI:
		if (highest < 0)
			break;
		p->isr &= ~(1u << highest);
		if (value >> OCW2_COMMAND_SHIFT == ROTATE_EOI)
			p->lowest = (uint32_t)highest;
		break;
	case ROTATE_EOI_SPECIFIC:
		p->lowest = level;
		p->isr &= ~(1u << level);
		break;
	case EOI_SPECIFIC:
		p->isr &= ~(1u << level);
		break;
	case SET_PRIORITY:
		p->lowest = level;
		break;
	case ROTATE_AEOI_SET:
	case ROTATE_AEOI_CLEAR:
		p->rotate_aeoi = value >> OCW2_COMMAND_SHIFT == ROTATE_AEOI_SET;
		break;
	case NO_OPERATION:
		break;
	}
}

static void
write_ocw3(struct pic *p, uint32_t value)
{
	if (value & OCW3_ESMM)
		p->special_mask = (value & OCW3_SMM) != 0;
	if (value & OCW3_POLL)		/* "P = 1 ... overrides the read command" */
		p->poll = 1;
	else if (value & OCW3_RR)
		p->read_isr = value & OCW3_RIS;
}

/* [ds: Initialization Command Words 1 and 2, effects a to f] */
static void
write_icw1(struct pic *p, uint32_t value)
{
	p->icw1 = value;
	p->edges = 0;		/* "an interrupt request input must make a low-to-high transition" */
	p->imr = 0;
	p->isr = 0;
	p->lowest = 7;
	p->special_mask = 0;
	p->read_isr = 0;
	p->poll = 0;
	p->rotate_aeoi = 0;
	if (!(value & ICW1_IC4))
		p->icw4 = 0;
	p->icw_next = 2;
}

static void
write_odd(struct pic *p, uint32_t value)
{
	const uint32_t after_icw3 = p->icw1 & ICW1_IC4 ? 4 : 0;

	switch (p->icw_next) {
	case 2:
		p->base = value & 0xf8;
		p->icw_next = p->icw1 & ICW1_SNGL ? after_icw3 : 3;
		break;
	case 3:
		p->icw3 = value;
		p->icw_next = after_icw3;
		break;
	case 4:
		p->icw4 = value;
		p->icw_next = 0;
		break;
	default:
		p->imr = value;
		break;
	}
}

/* "The 8259A treats the next RD pulse as an interrupt acknowledge" [ds: Poll Command] */
static uint32_t
poll(struct interrupts *i, struct pic *p)
{
	const int32_t n = requesting(i, p);

	p->poll = 0;
	if (n < 0)
		return 0;
	acknowledge(p, (uint32_t)n);
	return 0x80 | (uint32_t)n;
}

uint32_t
pic_read(struct interrupts *i, uint32_t port)
{
	struct pic *p = &i->pic[port & 0x80 ? SLAVE : MASTER];

	if (port >= 0x4d0)
		return i->pic[port & 1].elcr;
	if (p->poll)
		return poll(i, p);
	if (port & 1)
		return p->imr;
	return p->read_isr ? p->isr : request_register(i, p);
}

void
pic_write(struct interrupts *i, uint32_t port, uint32_t value)
{
	struct pic *p = &i->pic[port & 0x80 ? SLAVE : MASTER];

	value &= 0xff;
	if (port >= 0x4d0)
		i->pic[port & 1].elcr = value & ELCR_WRITABLE[port & 1];
	else if (port & 1)
		write_odd(p, value);
	else if (value & ICW1_SELECT)
		write_icw1(p, value);
	else if (value & OCW3_SELECT)
		write_ocw3(p, value);
	else
		write_ocw2(p, value);
}
