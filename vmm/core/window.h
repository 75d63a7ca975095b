/*
 * window.h -- the user window: what of one guest address space is mapped at host addresses 0 to 4 GiB.
 *
 * Ring 1-3 code runs directly in the window of its address space and view, so the window is a TLB
 * that the host's own page tables implement.  It shows what the shadow page table holds, and no more:
 *
 *   W1  a page is in the window only while the shadow page table has an entry for it in the window's
 *	 space (or the global one) and view; entries that are forgotten make their pages stale, and
 *	 stale pages leave the window before guest code runs again;
 *   W2  a page is writable there only once the guest's D bit is set, and never while it is a traced
 *	 page table, or has bits in the codemap: then each store must be seen;
 *   W3  a page is executable there only after its bytes have been scanned for instructions that answer
 *	 wrongly outside ring 0; such a page has the whole codemap set, so W2 keeps it unwritten, and one
 *	 whose stamp has moved leaves the window;
 *   W4  PG_WINDOW << vCPU is set for each PPN that the vCPU's window maps writable.
 *
 * In the extension there is no window: these functions do nothing there.
 */
#ifndef RF_WINDOW_H
#define RF_WINDOW_H

#include "shadow.h"

#ifdef RF_WORLD

/* window_forget_range() where some window may show them. */
void window_forget_shown(struct engine *e, uint32_t space, uint32_t view, uint32_t linear, uint32_t count);

/* Entries of the shadow page table for `count` neighbouring pages are forgotten: space and view say whose. */
static inline void
window_forget_range(struct engine *e, uint32_t space, uint32_t view, uint32_t linear, uint32_t count)
{
	const uint64_t any = view == VIEW_USER ? 0xaaaaaaaaaaaaaaaa : 0x5555555555555555;

	if (e->windows_show & (space == GLOBAL_SPACE ? any : 1ull << (2 * space + view) % 64))
		window_forget_shown(e, space, view, linear, count);
}

static inline void
window_forget(struct engine *e, uint32_t space, uint32_t view, uint32_t linear)
{
	window_forget_range(e, space, view, linear, 1);
}

/* Stores to ppn must be seen from now on. */
void window_protect(struct engine *e, uint32_t ppn);
/* The code in ppn has changed. */
void window_code_changed(struct engine *e, uint32_t ppn);
/* Another vCPU runs code from pages that may be writable here: V1 of watch.h. */
void window_obey(struct engine *e);
/* Whatever the shadow page table says of spaces, they mean something else now. */
void window_forget_all(struct engine *e);

#else

static inline void window_forget(struct engine *e, uint32_t space, uint32_t view, uint32_t linear)
{ (void)e, (void)space, (void)view, (void)linear; }
static inline void window_forget_range(struct engine *e, uint32_t space, uint32_t view, uint32_t linear, uint32_t count)
{ (void)e, (void)space, (void)view, (void)linear, (void)count; }
static inline void window_protect(struct engine *e, uint32_t ppn) { (void)e, (void)ppn; }
static inline void window_code_changed(struct engine *e, uint32_t ppn) { (void)e, (void)ppn; }
static inline void window_obey(struct engine *e) { (void)e; }
static inline void window_forget_all(struct engine *e) { (void)e; }

#endif
#endif
