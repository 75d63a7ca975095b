/*
 * shootdown.c -- page tables that one processor changes and others use.  [SDM 3, 4.10.5, 8.1.4, 4.8]
 */
#include "parts.h"

#define WINDOW		0x40000000u
#define WINDOW_TEXT	"0x40000000"
#define FRAMES		8u
#define AVL_BIT		9	/* of a PTE: the processor leaves it alone */
#define D_BIT		6

static page_table *directory;
static uint32_t frames[FRAMES];
static volatile uint32_t generation, flushed[MAX_CPUS], stale, stop_reading;

static volatile uint32_t *
window(void)
{
	return (volatile uint32_t *)WINDOW;
}

static void
flush(struct trap_frame *frame)
{
	(void)frame;
	invalidate_page((void *)WINDOW);
	flushed[my_id()] = generation;
	apic_eoi();
}

static void
shoot_down(void)
{
	uint32_t id;

	generation++;
	invalidate_page((void *)WINDOW);
	send_ipi(ICR_OTHERS | VEC_FLUSH, 0);
	for (id = 1; id < cpu_count; id++)
		WAIT_FOR(flushed[id] == generation);
}

static void
set_window(uint32_t pte)
{
	*(volatile page_table *)pte_of(directory, WINDOW) = pte;
}

static void
turn_paging_on(uint32_t unused)
{
	(void)unused;
	write_cr0(read_cr0() | CR0_WP);
	paging_on(directory);
}

static void
turn_paging_off(uint32_t unused)
{
	(void)unused;
	paging_off();
}

/* The frame of generation g holds g: nobody who has flushed for g may see less. */
static void
read_window(uint32_t unused)
{
	uint32_t me = my_id(), least, found;

	(void)unused;
	interrupts_on();
	while (!stop_reading) {
		least = flushed[me];
		found = *window();
		if (found < least)
			__asm__ volatile("lock incl %0" : "+m"(stale) : : "memory");
		relax();
	}
	interrupts_off();
}

static void
check_remapping(void)
{
	uint32_t n = rounds(2000), i, id;

	generation = 0;
	for (id = 0; id < MAX_CPUS; id++)
		flushed[id] = 0;
	*(volatile uint32_t *)frames[0] = 0;
	set_window(frames[0] | PTE_P | PTE_W);
	stop_reading = 0;
	for (id = 1; id < cpu_count; id++)
		begin_work(id, read_window, 0);
	for (i = 1; i <= n; i++) {
		*(volatile uint32_t *)frames[i % FRAMES] = generation + 1;
		set_window(frames[i % FRAMES] | PTE_P | PTE_W);
		shoot_down();
	}
	stop_reading = 1;
	for (id = 1; id < cpu_count; id++)
		end_work(id);
	check("remapped_page_is_seen_after_shootdown", !stale, "%u reads of the old frame", stale);
}

/* ---- rights taken away ---- */

static struct fault seen;

static void
try_read(uint32_t unused)
{
	(void)unused;
	seen = FAULT_OF("", "movl " WINDOW_TEXT ", %%eax");
}

static void
try_write(uint32_t unused)
{
	(void)unused;
	seen = FAULT_OF("", "movl $1, " WINDOW_TEXT);
}

static void
on_last(work *function)
{
	begin_work(cpu_count - 1, function, 0);
	end_work(cpu_count - 1);
}

/* Waiting processors take the flush while they idle. */
static void
check_rights(void)
{
	set_window(frames[0] | PTE_P | PTE_W);
	shoot_down();
	on_last(try_write);
	check("mapped_page_can_be_written", !seen.raised, "vector %u", seen.vector);
	set_window(frames[0] | PTE_P);
	shoot_down();
	on_last(try_write);
	check("write_protected_page_faults_elsewhere", is_fault(seen, VEC_PF, PF_PRESENT | PF_WRITE), "vector %u error %x",
	    seen.vector, seen.error);
	set_window(0);
	shoot_down();
	on_last(try_read);
	check("unmapped_page_faults_elsewhere", is_fault(seen, VEC_PF, 0), "vector %u error %x", seen.vector, seen.error);
	set_window(frames[1] | PTE_P | PTE_W);
	on_last(try_read);	/* an entry that was not present is not cached: no flush */
	check("mapped_again_needs_no_shootdown", !seen.raised, "vector %u", seen.vector);
}

/* ---- the processor's own stores to an entry, against another's locked ones ---- */

static volatile uint32_t toggles, lost;

static void
toggle_entry(uint32_t unused)
{
	page_table *pte = pte_of(directory, WINDOW);

	(void)unused;
	while (!stop_reading) {
		__asm__ volatile("lock btcl %1, %0" : "+m"(*pte) : "i"(AVL_BIT) : "memory", "cc");
		toggles++;
	}
}

static void
check_dirty(void)
{
	page_table *pte = pte_of(directory, WINDOW);
	uint32_t n = rounds(20000), i;

	set_window(frames[0] | PTE_P | PTE_W);
	shoot_down();
	stop_reading = toggles = 0;
	begin_work(1, toggle_entry, 0);
	WAIT_FOR(toggles);
	for (i = 0; i < n; i++) {
		__asm__ volatile("lock btrl %1, %0" : "+m"(*pte) : "i"(D_BIT) : "memory", "cc");
		invalidate_page((void *)WINDOW);
		*window() = i;
		lost += !(*(volatile page_table *)pte & PTE_D);
	}
	stop_reading = 1;
	end_work(1);
	check("dirty_bit_is_never_lost", !lost, "%u of %u", lost, n);
	check("dirty_bit_undoes_no_locked_store", (*pte >> AVL_BIT & 1) == (toggles & 1), "%u toggles, the entry is %x",
	    toggles, *pte);
}

void
check_shootdown(void)
{
	uint32_t i;

	directory = identity_directory(16u << 20, PTE_P | PTE_W);
	map_page(directory, APIC_BASE, APIC_BASE, PTE_P | PTE_W);
	map_page(directory, WINDOW, 0, 0);
	for (i = 0; i < FRAMES; i++)
		frames[i] = (uint32_t)allocate_pages(1);
	on_trap(VEC_FLUSH, flush);
	work_everywhere(turn_paging_on, 0);
	check_remapping();
	check_rights();
	check_dirty();
	work_everywhere(turn_paging_off, 0);
}
