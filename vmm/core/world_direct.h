/*
 * world_direct.h -- the parts of direct execution and what they share.
 *
 *   world_direct.c   may it run directly, going in, coming out, what the exit means
 *   world_enter.S    the way in and out
 *   world_setup.c    signals, system calls and the time stamp counter, once
 *   world_crew.c     the processes of a world, a window each
 *   world_segment.c  guest segments as host selectors
 *   world_window.c   the user window
 *   world_habit.c    whether it pays
 *   world_cost.c     what a stay costs that does nothing
 */
#ifndef RF_WORLD_DIRECT_H
#define RF_WORLD_DIRECT_H

#include "scan.h"
#include "shadow.h"
#include "window.h"
#include "world.h"
#include "world_enter.h"

/* ---- window ---- */

#define WINDOW_PAGES 16384u	/* areas of a process are limited too: vm.max_map_count */
#define WINDOW_STALE 128u
#define WINDOW_PPNS 4096u
#define WINDOW_VPNS (1u << 20)
#define PROT_READ 1u
#define PROT_WRITE 2u
#define PROT_EXEC 4u

struct window_page {
	uint32_t vpn;
	uint32_t ppn;		/* NO_PPN: device memory */
	uint32_t stamp;		/* PROT_EXEC: of the page when it was scanned */
	uint16_t next;		/* with the same ppn % WINDOW_PPNS */
	uint8_t prot;
	uint8_t stale;
};

struct window_range { uint32_t first, count; };	/* VPNs */

struct window {
	uint32_t space;		/* of shadow.c; GLOBAL_SPACE: the window is empty */
	uint32_t view;
	uint32_t used;		/* pages[1..used] */
	uint32_t free;		/* list through `next` */
	uint32_t executable;	/* pages with PROT_EXEC */
	uint32_t stale_count;
	uint32_t stale_all;
	uint32_t full;		/* the host had no more areas */
	uint64_t entered;	/* direct.entries at the last entry */
	uint64_t epoch;		/* shadow.epoch at which the space's leaves were last found true */
	uint64_t changes;	/* machine.changes as of the last look at the stamps of executable pages */
	struct window_range stale[WINDOW_STALE];
	uint16_t heads[WINDOW_PPNS];
	uint16_t page_of[WINDOW_VPNS];
	struct window_page pages[WINDOW_PAGES + 1];
	uint32_t longing;	/* instructions to interpret before a hand-over to it: learnt; 0: nothing is known */
};

/* ---- segments ---- */

#define LDT_SLOTS 64u

struct ldt_slot { uint32_t base, limit, attr, used; };

/* ---- code pages ---- */

#define CODE_PAGES 2048u
#define STUB_CALLS 8u		/* so many system calls, and never seen at work: a system-call stub */
#define STUB_WORK 512u		/* instructions of one burst: what is met again so much later is no stub */

/* code_page.trust, where it is settled: it has SCAN_PLAIN instructions and nothing else that the host would answer. */
enum trust { TRUSTED = 0xfffe, NEVER_TRUSTED = 0xffff };

enum code_known { KNOWN = 1, KNOWN_SSE = 2 };	/* SCAN_SSE: looked for only where it is needed */

/* What is known of a page of code, at one stamp. */
struct code_page {
	uint32_t ppn;
	uint32_t stamp;
	uint32_t found;		/* enum scan_class */
	uint32_t known;		/* enum code_known; 0: the entry holds nothing */
	uint16_t tail;		/* as in scan_result */
	uint16_t calls;		/* system calls made from it directly */
	uint16_t work;		/* times that the clock found direct execution in it */
	uint16_t stub;		/* nothing but system calls come out of it: it is interpreted */
	uint16_t trust;		/* enum trust, or times that it was kept from the host for SCAN_PLAIN alone */
	uint64_t doubted_ns;	/* host ns as of the first */
	uint32_t met, met_at;	/* direct.begun and the count of instructions when it was declined as one */
};

/* ---- habits ---- */

#define HABITS 1024u

struct habit {
	uint32_t cr3, page;	/* linear address of the code page >> 12 */
	uint32_t wait;		/* instructions to interpret first */
	uint32_t idle;		/* interpreted in bursts that ended within the wait, since it was last another */
	uint32_t spent, useful;	/* ns of the bursts of late, as in `direct`: older ones count half, a quarter, ... */
	uint8_t patience;	/* so many retrials have failed, one after another */
	uint8_t retried;	/* the wait was shortened to see whether bursts pay by now */
};

/* How a stay ended: the host's ways out cost differently. */
enum stay_kind { STAY_PAGE, STAY_TRAP, STAY_CALL, STAY_KINDS };

/* What a stay costs that does nothing, in ns. */
struct stay_cost { uint64_t ns, most; };

/* ---- the crew ---- */

#define CREW 4u			/* processes of a world, itself included: so many windows */

/* What a process has for itself. */
struct member {
	uint32_t awake;		/* futex: 1 when it is to go on */
	int32_t timer;
	int32_t pidfd;		/* the world's descriptor of it */
	uint32_t ldt_next;
	uint64_t armed;		/* host ns at which its timer will fire; 0: it is not set */
	struct ldt_slot ldt[LDT_SLOTS];
	struct window window;
};

/* Shared by the crew, as the engine is. */
struct direct {
	struct passage *passage;	/* at this address in each process, and private to it */
	uint32_t active;	/* who runs */
	uint32_t crew;		/* how many there are */
	int32_t ending;		/* exit status of a member that ended because of a defect */
	uint64_t entries;	/* times that guest code was entered in another window than before */
	uint32_t vcpu;
	int32_t ram_fd, dev_fd;
	uint32_t eager;		/* DIRECT_EAGER */
	uint32_t tsc_met;	/* times that a page was interpreted for its RDTSC alone, since ... */
	uint64_t tsc_since;	/* ... host ns; or since when RDTSC traps instead */
	uint32_t sensitive;	/* enum scan_class: what this host does not trap; SCAN_SSE while the guest has OSFXSR clear */
	uint32_t ldt_round;	/* counts entries: slots of this one may not be taken */
	uint16_t loaded[6];	/* host selectors by enum sreg, as they were loaded */
	uint32_t unknown;	/* bits by enum sreg: the guest loaded a selector of the host's */
	uint64_t left_ns;	/* host ns as of the end of the last stay */
	struct stay_cost costs[STAY_KINDS];
	uint64_t stays;		/* how many there were */
	uint64_t began_ns;	/* host ns as of the first step of the way to the running burst, a hand-over included */
	uint64_t began_calls;	/* mappings that had been changed by then */
	uint64_t way_ns;	/* what changing the process took */
	uint32_t handed;	/* it was changed for this burst */
	uint64_t spent, useful;	/* ns of the running burst: all, and in guest code */
	uint32_t wanted;	/* CR3 of the space that would run in another process's window */
	uint32_t longing;	/* instructions that it was interpreted for because of that */
	struct habit *habit;	/* of the burst that is running */
	int64_t wait_set;	/* engine.direct_wait as it was last set */
	uint32_t begun;		/* times that an outer ring was entered */
	struct code_page code_pages[CODE_PAGES];
	struct habit habits[HABITS];
	struct member members[CREW];
};

static inline struct member *
me(struct direct *d)
{
	return &d->members[d->active];
}

/* The window of the process that runs. */
static inline struct window *
window_here(struct engine *e)
{
	return &me(e->direct)->window;
}

/* world_setup.c: false where the host refuses something that is needed. */
HIDDEN bool direct_setup(struct engine *e, struct direct *d, int32_t ram_fd, int32_t dev_fd);
/* In a new process of the crew: what it did not inherit. */
HIDDEN bool direct_setup_member(struct direct *d, struct member *m);
HIDDEN void direct_arm(struct direct *d, uint64_t now, uint64_t until);

/* world_crew.c */
HIDDEN uint32_t crew_muster(struct engine *e);
HIDDEN void crew_join(struct engine *e, uint32_t n);
HIDDEN void crew_lost(struct engine *e);
HIDDEN void crew_hand_over(struct engine *e, uint32_t to);
HIDDEN uint32_t crew_choose(struct engine *e, uint32_t view);
HIDDEN void crew_forward(struct direct *d);

/* world_window.c */
enum window_result { WINDOW_MAPPED, WINDOW_EMULATE, WINDOW_REFUSED };
HIDDEN void window_prepare(struct engine *e);
HIDDEN enum window_result window_map(struct engine *e, uint32_t linear, uint32_t acc, bool begins);
HIDDEN bool window_has(const struct engine *e, uint32_t linear, uint32_t prot);
HIDDEN struct code_page *code_page(struct engine *e, uint32_t linear);
HIDDEN bool is_kept_away(struct engine *e, struct code_page *c, uint32_t found);

/* world_segment.c */
HIDDEN bool segments_load(struct engine *e, struct direct *d);	/* false: the host cannot express them */
HIDDEN void segments_enter(struct direct *d);
HIDDEN uint32_t segments_store(struct engine *e, struct direct *d);	/* direct.unknown */

/* world_habit.c */
HIDDEN void habit_declined(struct engine *e, uint32_t wait);
HIDDEN bool habit_stays_here(struct engine *e, uint32_t to);
HIDDEN void habit_way_begins(struct engine *e);
HIDDEN void habit_begins(struct direct *d, uint64_t now);
HIDDEN void habit_stay(struct direct *d, enum stay_kind kind, uint64_t ns, uint64_t fault_ns);
HIDDEN bool habit_is_bad(const struct direct *d);
HIDDEN void habit_after(struct engine *e);

/* world_cost.c: before the first guest code; the window must be empty. */
HIDDEN void costs_measure(struct direct *d);
HIDDEN enum stay_kind stay_kind(const struct passage *p);

#endif
