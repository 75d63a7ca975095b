/*
 * interrupts.h -- the interrupt page: interrupt controllers, timers, and the one guest clock.
 *
 * struct interrupts is a section of the state file: all guest-visible state of the 8259 pair with
 * ELCR, the local APICs, the I/O APIC, the 8254 with port 61h, the counters behind the RTC's
 * interrupts, the ACPI PM timer with its event registers, ports 80h and EDh, the busiest registers
 * of the PCnets, and the clock that drives them.  No pointers.  Like core.h: plain structs, enums and prototypes only.
 *
 * Any process that maps the page may call any function here; `lock` orders them (intr.c).
 * Fields marked [output] follow from the others and are recomputed by every entry.
 *
 * Source: Intel 8259A, 8254, 82093AA, 82371AB data sheets; Intel SDM 3A, chapter 10.
 */
#ifndef RF_INTERRUPTS_H
#define RF_INTERRUPTS_H

#ifndef RF_CDEF
#include <stdint.h>
#endif

#define RF_INTERRUPTS_VERSION 2
#define RF_APICS 4
#define RF_IOAPIC_PINS 24
#define RF_NICS 5
#define RF_PIT_HZ 1193182
#define RF_PM_HZ 3579545
#define RF_RTC_HZ 32768
#define RF_APIC_BUS_HZ 100000000

/* What a vCPU must look at: intr_pending. */
enum intr_event { INTR_EXT = 1, INTR_NMI = 2, INTR_INIT = 4, INTR_SIPI = 8 };

/* One 8259A.  Levels and masks have bit n for IRn. */
struct pic {
	uint32_t lines;		/* input levels; the master's IR2 follows the slave's INT */
	uint32_t edges;		/* latched low-to-high transitions: IRR of the edge-triggered inputs */
	uint32_t isr;
	uint32_t imr;
	uint32_t elcr;		/* 1: level-triggered */
	uint32_t base;		/* ICW2, bits 7:3 of the vector */
	uint32_t icw3;
	uint32_t icw_next;	/* the ICW that the odd port expects: 2, 3, 4; 0 when initialised */
	uint32_t icw1;
	uint32_t icw4;
	uint32_t lowest;	/* the input that has the lowest priority: 7 after ICW1 */
	uint32_t rotate_aeoi;
	uint32_t special_mask;
	uint32_t read_isr;	/* the even port reads ISR, not IRR */
	uint32_t poll;		/* the next read is a poll */
	uint32_t reserved;
};

/* One 8254 counter.  The counting element is computed from the tick it was loaded at. */
struct pit_channel {
	uint64_t start;		/* PIT tick at which `count` was or will be loaded */
	uint64_t switch_tick;	/* modes 2, 3: tick at which `next_count` replaces `count` */
	uint64_t held;		/* modes 0, 4 with GATE low: ticks counted so far */
	uint32_t count;		/* N in effect, 1..65536; 0 not loaded */
	uint32_t next_count;	/* waits for switch_tick (modes 2, 3) or a trigger (1, 5); 0 none */
	uint32_t mode;		/* 0..5 */
	uint32_t bcd;
	uint32_t access;	/* RW1:RW0, 1..3 */
	uint32_t write_high;	/* the low byte has come, the high one is next */
	uint32_t write_low;	/* that low byte */
	uint32_t read_high;
	uint32_t latched;	/* a count is latched */
	uint32_t latched_count;
	uint32_t status_latched;
	uint32_t status;
	uint32_t gate;
	uint32_t idle;		/* the counting element while nothing is loaded */
	uint32_t out_before;	/* OUT until `start` */
	uint32_t reserved;
};

struct pit {
	struct pit_channel channel[3];
	uint64_t irq_tick;	/* channel 0: rising edges of OUT up to here were delivered */
	uint32_t line;		/* level of IRQ 0 */
	uint32_t backlog;	/* ticks that still have to be delivered */
	uint32_t lost;		/* ticks beyond the backlog's bound; statistics */
	uint32_t port61;	/* bits 3:0 as written */
};

enum lvt { LVT_TIMER, LVT_THERMAL, LVT_PMC, LVT_LINT0, LVT_LINT1, LVT_ERROR };

/* One local APIC, and the event latches of its vCPU. */
struct lapic {
	uint64_t base;		/* mirror of MSR 1Bh */
	uint64_t timer_next_ns;	/* guest time at which the count reaches 0; UINT64_MAX stopped */
	uint32_t id;		/* register image, bits 31:24 */
	uint32_t tpr;
	uint32_t ldr;
	uint32_t dfr;
	uint32_t svr;
	uint32_t esr;		/* as latched by the last write */
	uint32_t errors;	/* since then */
	uint32_t icr_low;
	uint32_t icr_high;
	uint32_t lvt[6];	/* enum lvt */
	uint32_t timer_initial;
	uint32_t timer_divide;
	uint32_t timer_backlog;	/* periodic ticks that still have to be delivered */
	uint32_t latches;	/* INTR_NMI, INTR_INIT, INTR_SIPI */
	uint32_t sipi_vector;
	uint32_t wait_sipi;	/* the vCPU is stopped until a SIPI */
	uint32_t reserved[3];
	uint32_t isr[8];
	uint32_t tmr[8];
	uint32_t irr[8];
};

/* 82093AA.  Mask, trigger and remote IRR of the pins are kept as bit masks, the rest in low/high. */
struct ioapic {
	uint32_t id;
	uint32_t select;	/* IOREGSEL */
	uint32_t pins;		/* levels of the wires, 1 asserted */
	uint32_t masked;
	uint32_t level;
	uint32_t remote_irr;
	uint32_t low[RF_IOAPIC_PINS];	/* bits 13, 11:0 */
	uint32_t high[RF_IOAPIC_PINS];	/* destination, 31:24 */
};

enum rtc_bit { RTC_SET = 0x80, RTC_PF = 0x40, RTC_AF = 0x20, RTC_UF = 0x10 };	/* registers B and C */

/* What the RTC's interrupts need; its registers are the RTC model's. */
struct rtc_timers {
	uint64_t periodic_tick;	/* 32768 Hz ticks accounted for */
	uint64_t second_ns;	/* guest time of the last accounted update */
	uint64_t alarm_ns;	/* guest time of the next alarm; UINT64_MAX none */
	uint64_t alarm_period_ns;	/* from one alarm to the next; 0: once */
	uint32_t rate;		/* register A, bits 3:0 */
	uint32_t enable;	/* register B: SET, PIE, AIE, UIE */
	uint32_t flags;		/* register C: PF, AF, UF */
	uint32_t backlog;	/* periodic interrupts that still have to be delivered */
};

enum pm1_bit { PM1_TMR = 1 << 0, PM1_GBL = 1 << 5, PM1_PWRBTN = 1 << 8, PM1_RTC = 1 << 10, PM1_WAK = 1 << 15 };

struct pm_timer {
	uint64_t toggles;	/* changes of bit 23 accounted for */
	uint32_t base;		/* I/O port of the block; 0 not decoded */
	uint32_t status;	/* PM1a_STS */
	uint32_t enable;	/* PM1a_EN */
	uint32_t sci_enable;	/* mirror of PM1a_CNT.SCI_EN */
};

enum clock_mode { CLOCK_HOST, CLOCK_COUNTED };

struct guest_clock {
	uint64_t frozen_ns;	/* guest time while stunned, and always when counted */
	uint64_t offset_ns;	/* CLOCK_MONOTONIC - guest time; true on one boot of one host only */
	uint64_t tsc_hz;
	uint32_t mode;		/* enum clock_mode */
	uint32_t stunned;
	uint32_t ns_per_1000;	/* counted: guest ns per 1000 retired instructions */
	uint32_t remainder;	/* counted: thousandths of a ns not yet added */
};

/* Causes of a PCnet's interrupt that are not in CSR0; NIC_SYSTEM whatever IENA is. */
enum nic_cause { NIC_NONE, NIC_PLAIN, NIC_SYSTEM };

/* Descriptor rings of a PCnet that nic_rings.c walks. */
enum nic_rings { NIC_TRANSMIT = 1, NIC_RECEIVE = 2 };

/* A PCnet's registers that its driver uses at each interrupt.  While `port` is set, here and not in the device. */
struct nic_front {
	uint32_t port;		/* I/O port of RDP; 0: no access is answered here */
	uint32_t width;		/* 2 or 4 bytes: of an access, and from RDP to RAP */
	uint32_t lines;		/* inputs that INTA# drives, as `lines` below */
	uint32_t held;		/* the device works on them: it answers */
	uint32_t rap;
	uint32_t csr0;		/* without ERR and INTR */
	uint32_t csr3;
	uint32_t others;	/* enum nic_cause */
	uint32_t careful;	/* writes of CSR0 do more than here is known of */
	uint32_t unsaid;	/* so many frames were sent of which TINT does not tell yet */
	uint32_t attended;	/* the driver has been interrupted and has not allowed it again */
	uint32_t waits;		/* frames wait until it does.  Set by any thread, without the lock */
	uint32_t asserted;	/* [output] INTA# */
	uint32_t rings;		/* enum nic_rings: rings that are walked while nobody holds this.  TDMD rings `nic_bell` */
};

struct interrupts {
	uint32_t version;	/* RF_INTERRUPTS_VERSION */
	uint32_t vcpus;
	uint32_t lock;		/* generation << 2 | waiters << 1 | held */
	uint32_t lines;		/* inputs 0..23 as devices drive them: 0..15 ISA IRQs, 16..23 I/O APIC only */
	uint32_t events[RF_APICS];	/* [output] enum intr_event, and where EXT comes from */
	uint32_t sampled[RF_APICS];	/* events as its runner last saw them */
	uint64_t next_ns[RF_APICS];	/* [output] next deadline of each runner */
	struct guest_clock clock;
	struct pic pic[2];
	struct pit pit;
	struct ioapic ioapic;
	struct lapic lapic[RF_APICS];
	struct rtc_timers rtc;
	struct pm_timer pm;
	uint32_t pic_out;	/* [output] INTR of the master 8259 */
	uint32_t lowest_last;	/* the APIC that took the last lowest-priority interrupt */
	uint32_t port80;
	uint32_t portED;
	uint32_t owed_kicks;	/* vCPUs that gained an event when another one took its own: intr_owed() */
	uint32_t nic_lines;	/* [output] inputs that PCnets assert */
	uint32_t nic_bell;	/* counts what drivers want to have looked at: the futex of whoever walks rings */
	uint32_t nic_sleeps;	/* whoever does sleeps there */
	uint32_t nic_starved;	/* a bit for each front: frames wait in front of a full receive ring */
	uint32_t reserved[3];
	struct nic_front nic[RF_NICS];
};

/* ---- the guest clock (clock.c) -------------------------------------------------- */

uint64_t clock_now(const struct interrupts *i);		/* guest ns */
uint64_t clock_tsc(const struct interrupts *i);		/* guest time in units of 1 / tsc_hz */
/* Stop the clock (1) or let it go on from where it stopped (0).  After a resume: 0. */
void clock_stun(struct interrupts *i, uint32_t stunned);
/* Counted clocks only: time passes, ns, or as much as that many retired instructions take. */
void clock_advance(struct interrupts *i, uint64_t ns);
void clock_retired(struct interrupts *i, uint64_t insns);
/* Choose who drives the clock; guest time goes on from its present value. */
void clock_set_mode(struct interrupts *i, uint32_t mode, uint32_t ns_per_1000);

/* ---- for runners (intr.c) --------------------------------------------------------- */

/* Power-on: everything, lines and clock included (stunned, at 0, host mode). */
void intr_power_on(struct interrupts *i, uint32_t vcpus, uint64_t tsc_hz);
/* RESET#: power-on state, but the clock, the lines that devices drive and pm.base stay. */
void intr_reset(struct interrupts *i, uint32_t vcpus);
/* What PC firmware leaves: the boot vCPU's APIC enabled as virtual wire, LINT0 ExtINT, LINT1 NMI. */
void intr_virtual_wire(struct interrupts *i);

/* Is this port the core's? */
uint32_t intr_port_owned(uint32_t port, const struct interrupts *i);
/* Ports of the table that does not move (without those at pm.base); returns how many there are. */
uint32_t intr_port_list(uint32_t *ports, uint32_t room);

/* Port and memory accesses: 1 when owned.  *kick gets the vCPUs that need attention, `cpu` among them. */
uint32_t intr_port_read(struct interrupts *i, uint32_t cpu, uint32_t port, uint32_t size, uint32_t *value);
uint32_t intr_port_write(struct interrupts *i, uint32_t cpu, uint32_t port, uint32_t size, uint32_t value, uint32_t *kick);
uint32_t intr_mmio_read(struct interrupts *i, uint32_t cpu, uint64_t apic_base_msr, uint64_t gpa, uint32_t size, uint32_t *value);
uint32_t intr_mmio_write(struct interrupts *i, uint32_t cpu, uint64_t apic_base_msr, uint64_t gpa, uint32_t size, uint32_t value, uint32_t *kick);
/* The same for those of a PCnet that need not leave the guest (nic.c). */
uint32_t nic_port_read(struct interrupts *i, uint32_t cpu, uint32_t port, uint32_t size, uint32_t *value, uint32_t *kick);
uint32_t nic_port_write(struct interrupts *i, uint32_t cpu, uint32_t port, uint32_t size, uint32_t value, uint32_t *kick);
/* MSR 1Bh was written: the value, and 1 in bit 11 when the APIC is enabled.  Returns vCPUs to kick. */
uint32_t intr_set_apic_base(struct interrupts *i, uint32_t cpu, uint64_t msr);

uint32_t intr_pending(struct interrupts *i, uint32_t cpu);	/* enum intr_event; no lock */
/* INTA: the vector, -1 if nothing asks and nothing was seen asking. */
int32_t intr_acknowledge(struct interrupts *i, uint32_t cpu);
/* Consume a latch: INTR_NMI, INTR_INIT (resets the APIC), INTR_SIPI.  The SIPI vector, or 0. */
uint32_t intr_take(struct interrupts *i, uint32_t cpu, uint32_t event);
/* After either: vCPUs that need attention because of it, once. */
uint32_t intr_owed(struct interrupts *i);
/* Expire what is due for this runner; the next deadline in guest ns, UINT64_MAX if none. */
uint64_t intr_timers(struct interrupts *i, uint32_t cpu, uint64_t now, uint32_t *kick);

/* ---- for devices: any thread, any process.  Each returns the vCPUs to kick. --------- */

uint32_t intr_set_line(struct interrupts *i, uint32_t line, uint32_t level);	/* 0..15 ISA IRQ, 16..23 I/O APIC pin */
uint32_t intr_raise_nmi(struct interrupts *i);			/* the chipset's NMI: LINT1 */
/* A PCnet takes its registers, and gives them back: in between it may change all of its struct nic_front. */
void nic_hold(struct interrupts *i, uint32_t number);
uint32_t nic_give(struct interrupts *i, uint32_t number);
/* RTC registers A, B; the guest time of its last full second; its next alarm and the distance to the one after. */
uint32_t rtc_program(struct interrupts *i, uint32_t reg_a, uint32_t reg_b, uint64_t second_ns, uint64_t alarm_ns, uint64_t alarm_period_ns);
uint32_t rtc_read_c(struct interrupts *i, uint32_t *kick);	/* register C: read clears, IRQ 8 drops */
uint32_t pm_set_base(struct interrupts *i, uint32_t port);	/* 0: not decoded */
uint32_t pm_event(struct interrupts *i, uint32_t bits);	/* set PM1a_STS bits */
uint32_t pm_set_sci_enable(struct interrupts *i, uint32_t on);

#endif
