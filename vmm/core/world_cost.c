/*
 * world_cost.c -- what a stay in guest code costs that does nothing: measured once, before the guest runs.
 *
 * It cannot be learnt from the guest's own stays: a guest all of whose stays are long looks like a host on which they
 * are dear.  The ways out differ, a system call being the dearest, so three instructions are measured, each on a page of
 * our own in the empty window, and each several times: of a host that has other work the fastest counts.
 */
#include "world_direct.h"

#include "hostclock.h"
#include "sysraw.h"
#include "world_signal.h"

#define TIMES 12u
#define ROOM 0x10000000u	/* linear address of the page, above any vm.mmap_min_addr; the one behind it stays empty */
#define HOST_CODE32 0x23
#define HOST_DATA 0x2b
#define FX_BYTES 512u

enum { WRITE_ALSO = 3, READ_AND_EXECUTE = 5, MAP_PRIVATE = 2, MAP_FIXED = 0x10, MAP_ANONYMOUS = 0x20 };
enum { FLAGS_IF = 0x202 };

static const uint8_t hlt[] = { 0xf4 }, int80[] = { 0xcd, 0x80 };

enum stay_kind
stay_kind(const struct passage *p)
{
	if (p->signal == SIGNAL_SYS)
		return STAY_CALL;
	return p->signal == SIGNAL_SEGV && p->trap == V_PF ? STAY_PAGE : STAY_TRAP;
}

static uint64_t
time_stay(struct passage *p, uint32_t eip)
{
	const uint64_t since = host_ns();

	p->where = LEFT_ENTRY;
	p->eip = eip;
	p->eflags = FLAGS_IF;
	p->cs = HOST_CODE32;
	p->ss = p->ds = p->es = HOST_DATA;
	p->fs = p->gs = 0;
	passage_enter(p);
	return host_ns() - since;
}

/* How it ends is the host's business: one without 32-bit system calls refuses INT 80h like any other. */
static struct stay_cost
measure(struct passage *p, uint32_t eip)
{
	uint64_t least = ~0ull;
	uint32_t i;

	for (i = 0; i < TIMES; i++) {
		const uint64_t ns = time_stay(p, eip);

		p->late = 0;		/* a kick has kept it out: whoever runs the guest looks for what it means */
		if (p->where == LEFT_GUEST && ns < least)
			least = ns;
	}
	return (struct stay_cost){ least, least + least / 4 };	/* as much as a host may become slower later */
}

/* False where the host does not let us have it. */
static bool
make_page(void)
{
	uint8_t *page = (uint8_t *)(uintptr_t)ROOM;

	if (sys_mmap(ROOM, PAGE_SIZE, WRITE_ALSO, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0) != (int64_t)ROOM)
		return false;
	__builtin_memcpy(page, hlt, sizeof hlt);
	__builtin_memcpy(page + sizeof hlt, int80, sizeof int80);
	return sys_call3(SYS_mprotect, ROOM, PAGE_SIZE, READ_AND_EXECUTE) == 0;
}

void
costs_measure(struct direct *d)
{
	uint8_t fx[FX_BYTES] __attribute__((aligned(16)));

	__asm__ volatile("fxsave %0" : "=m"(fx));
	d->passage->fx = fx;
	d->costs[STAY_PAGE] = d->costs[STAY_TRAP] = d->costs[STAY_CALL] = measure(d->passage, ROOM + PAGE_SIZE);
	if (make_page()) {
		d->costs[STAY_TRAP] = measure(d->passage, ROOM);
		d->costs[STAY_CALL] = measure(d->passage, ROOM + sizeof hlt);
	}
	sys_call3(SYS_munmap, ROOM, PAGE_SIZE, 0);
	d->passage->fx = NULL;
}
