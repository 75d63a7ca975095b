/*
 * locks.c -- locked instructions of all processors on one word: nothing may be lost.  [SDM 3, 8.1.2]
 */
#include "parts.h"

static volatile uint32_t plain, xadds, xadd_sum, cmpxchgs, spinlock, guarded[2], claims;
static volatile uint64_t wide __attribute__((aligned(8)));
static volatile uint16_t small[2];
static uint32_t *bitmap;
static uint32_t bits;

static void
count_inc(uint32_t n)
{
	meet();
	while (n--) {
		__asm__ volatile("lock incl %0" : "+m"(plain) : : "memory", "cc");
		__asm__ volatile("lock addw $1, %0; lock subw $1, %1" : "+m"(small[0]), "+m"(small[1]) : : "memory", "cc");
	}
}

static void
count_xadd(uint32_t n)
{
	uint32_t sum = 0, old;

	meet();
	while (n--) {
		old = 1;
		__asm__ volatile("lock xaddl %0, %1" : "+r"(old), "+m"(xadds) : : "memory", "cc");
		sum += old;
	}
	__asm__ volatile("lock addl %1, %0" : "+m"(xadd_sum) : "r"(sum) : "memory", "cc");
}

static void
count_cmpxchg(uint32_t n)
{
	meet();
	while (n--) {
		uint32_t old = cmpxchgs, seen;

		for (;;) {
			__asm__ volatile("lock cmpxchgl %2, %1" : "=a"(seen), "+m"(cmpxchgs) : "r"(old + 1), "0"(old) :
			    "memory", "cc");
			if (seen == old)
				break;
			old = seen;
		}
	}
}

static void
count_cmpxchg8b(uint32_t n)
{
	meet();
	while (n--) {
		uint64_t old = 0, seen;

		for (;;) {
			uint64_t new = old + 0x100000001ull;

			__asm__ volatile("lock cmpxchg8b %1" : "=A"(seen), "+m"(wide) : "0"(old), "b"((uint32_t)new),
			    "c"((uint32_t)(new >> 32)) : "memory", "cc");
			if (seen == old)
				break;
			old = seen;
		}
	}
}

/* XCHG is locked without the prefix. */
static void
count_guarded(uint32_t n)
{
	meet();
	while (n--) {
		uint32_t taken;

		for (;;) {
			taken = 1;
			__asm__ volatile("xchgl %0, %1" : "+r"(taken), "+m"(spinlock) : : "memory");
			if (!taken)
				break;
			while (spinlock)
				relax();
		}
		guarded[0]++;
		guarded[1] -= 2;
		spinlock = 0;
	}
}

/* Everybody wants every bit. */
static void
claim_bits(uint32_t unused)
{
	uint32_t bit, got = 0;
	uint8_t was;

	(void)unused;
	meet();
	for (bit = 0; bit < bits; bit++) {
		__asm__ volatile("lock btsl %2, %1; setc %0" : "=q"(was), "+m"(*bitmap) : "r"(bit) : "memory", "cc");
		got += !was;
	}
	__asm__ volatile("lock addl %1, %0" : "+m"(claims) : "r"(got) : "memory", "cc");
}

/* ---- the processor's own locked store to a descriptor ---- */

#define FIRST_WORD_BITS	32
#define ACCESSED_BIT	(40 - FIRST_WORD_BITS)
#define WRITABLE_BIT	(41 - FIRST_WORD_BITS)

static volatile uint32_t stop_toggling, toggles;

static uint32_t *
descriptor_high(void)
{
	return (uint32_t *)&gdt[FIRST_FREE / 8] + 1;
}

static void
toggle_writable(uint32_t unused)
{
	(void)unused;
	while (!stop_toggling) {
		__asm__ volatile("lock btcl %1, %0" : "+m"(*descriptor_high()) : "i"(WRITABLE_BIT) : "memory", "cc");
		toggles++;
	}
}

static void
check_descriptor(void)
{
	uint32_t n = rounds(20000), i, lost = 0;

	set_gdt(FIRST_FREE, descriptor(0, 0xFFFFF, DESC_DATA | DESC_FLAT));
	stop_toggling = toggles = 0;
	begin_work(1, toggle_writable, 0);
	WAIT_FOR(toggles);
	for (i = 0; i < n; i++) {
		__asm__ volatile("lock btrl %1, %0" : "+m"(*descriptor_high()) : "i"(ACCESSED_BIT) : "memory", "cc");
		__asm__ volatile("mov %w0, %%fs" : : "r"(FIRST_FREE) : "memory");
		lost += !(*descriptor_high() >> ACCESSED_BIT & 1);
	}
	stop_toggling = 1;
	end_work(1);
	__asm__ volatile("mov %w0, %%fs" : : "r"(0));
	check_silicon("accessed_bit_undoes_no_locked_store",
	    !lost && (*descriptor_high() >> WRITABLE_BIT & 1) == (1 ^ (toggles & 1)), "sets it by a plain store");
}

void
check_locks(void)
{
	uint32_t n = rounds(100000), all = n * cpu_count;

	work_everywhere(count_inc, n);
	check_equal("locked_inc_loses_nothing", plain, all);
	check("locked_words_lose_nothing", small[0] == (all & 0xFFFF) && small[1] == (-all & 0xFFFF), "%x and %x",
	    small[0], small[1]);
	work_everywhere(count_xadd, n);
	check_equal("locked_xadd_loses_nothing", xadds, all);
	check_equal("locked_xadd_gives_each_value_once", xadd_sum, (uint32_t)((uint64_t)all * (all - 1) / 2));
	work_everywhere(count_cmpxchg, n);
	check_equal("locked_cmpxchg_loses_nothing", cmpxchgs, all);
	work_everywhere(count_cmpxchg8b, n);
	check("locked_cmpxchg8b_loses_nothing", wide == ((uint64_t)all << 32 | all), "%llx", (unsigned long long)wide);
	work_everywhere(count_guarded, n);
	check("xchg_makes_a_spinlock", guarded[0] == all && guarded[1] == -2 * all, "%u and %x", guarded[0], guarded[1]);
	bits = n;
	bitmap = allocate_pages(n / 8 / PAGE_SIZE + 1);
	work_everywhere(claim_bits, 0);
	check_equal("locked_bts_gives_each_bit_once", claims, bits);
	check_descriptor();
}
