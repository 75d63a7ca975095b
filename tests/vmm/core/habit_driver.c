/*
 * habit_driver.c -- a guest whose bursts have given lengths, for test_habit.py: world_habit.c decides, the clock is counted.
 *
 * One address space, one code page at a time.
 */
#include <string.h>

#include "world_direct.h"

#include "direct.h"

struct load {
	uint32_t insns;			/* of a burst */
	uint32_t interpreted_ps, direct_ps;	/* an instruction takes */
	uint32_t stay_ns;		/* entering and leaving, as this load's stays end */
	uint32_t fault_ns;		/* what each stay asks for besides */
};

struct outcome {
	uint64_t direct;		/* bursts that went direct */
	uint64_t interpreted_ns, direct_ns;
	uint64_t longer, shorter, retrials;
	uint32_t wait;
};

/* Of hostclock.h and shadow.h, which are not linked. */
uint64_t
host_ns(void)
{
	return 0;
}

static struct engine engine;
static struct vcpu vcpu;
static struct direct direct;
static struct control control;

/* A machine that has measured what stays cost; nothing is known of any code. */
void
habit_reset(uint32_t stay_ns)
{
	memset(&engine, 0, sizeof engine);
	memset(&vcpu, 0, sizeof vcpu);
	memset(&direct, 0, sizeof direct);
	memset(&control, 0, sizeof control);
	engine.v = &vcpu;
	engine.ctl = &control;
	engine.direct = &direct;
	for (uint32_t i = 0; i < STAY_KINDS; i++)
		direct.costs[i] = (struct stay_cost){ stay_ns, stay_ns + stay_ns / 4 };
}

/* `count` bursts in the code page `page`; a stay of number `disturbed` takes `extra_ns` more, in its faults. */
void
habit_bursts(const struct load *load, uint32_t page, uint32_t count, uint32_t disturbed, uint64_t extra_ns,
    struct outcome *o)
{
	memset(o, 0, sizeof *o);
	vcpu.cpl = 3;
	vcpu.cr3 = 0x1000;
	vcpu.eip = page << PAGE_SHIFT;
	for (uint32_t i = 0; i < count; i++) {
		engine.budget = 1 << 24;
		engine.direct_held = 0;
		direct_burst_begins(&engine);
		const uint64_t wait = engine.direct_wait > 0 ? (uint64_t)engine.direct_wait : 0;
		const uint64_t before = wait < load->insns ? wait : load->insns, left = load->insns - before;

		o->interpreted_ns += before * load->interpreted_ps / 1000;
		engine.direct_wait -= (int64_t)before;
		if (left == 0)
			continue;
		const uint64_t ns = left * load->direct_ps / 1000 + load->stay_ns;
		const uint64_t fault_ns = load->fault_ns + (i == disturbed ? extra_ns : 0);

		habit_way_begins(&engine);
		habit_begins(&direct, direct.began_ns);
		habit_stay(&direct, STAY_TRAP, ns, fault_ns);
		habit_after(&engine);
		o->direct_ns += ns + fault_ns;
		o->direct++;
	}
	o->longer = control.stats.direct_longer;
	o->shorter = control.stats.direct_shorter;
	o->retrials = control.stats.direct_retrials;
	o->wait = direct.habit->wait;
}
