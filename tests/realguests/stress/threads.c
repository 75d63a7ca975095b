/*
 * threads.c -- threads with storage of their own through GS, contended locks, and atomic operations whose totals are
 * exact.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>

#include "stress.h"

#define THREADS		6
#define COUNTS		1500u
#define ROUNDS		60u
#define GENERATIONS	12u

static unsigned
rounds(unsigned count)
{
	return count * scale;
}

static void
in_threads(void *(*work)(void *))
{
	pthread_t threads[THREADS];

	for (uintptr_t i = 0; i < THREADS; i++)
		REQUIRE(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
	for (unsigned i = 0; i < THREADS; i++) {
		void *answer;

		REQUIRE(pthread_join(threads[i], &answer) == 0 && answer == NULL);
	}
}

static volatile uint32_t counter, swapped, bits[8], locked_total;
static volatile uint64_t wide;

static void *
count_atomically(void *argument)
{
	const uint32_t who = (uint32_t)(uintptr_t)argument;

	for (unsigned i = 0; i < rounds(COUNTS); i++) {
		uint64_t before = wide;
		uint32_t old = swapped;

		asm volatile("lock incl %0" : "+m"(counter) : : "cc");
		__atomic_fetch_add(&counter, who, __ATOMIC_SEQ_CST);			/* lock xadd */
		while (!__atomic_compare_exchange_n(&swapped, &old, old * 5 + 1, 0, __ATOMIC_SEQ_CST,
						    __ATOMIC_SEQ_CST))
			;
		while (!__sync_bool_compare_and_swap(&wide, before, before + 0x100000001ull))	/* lock cmpxchg8b */
			before = wide;
		asm volatile("lock btcl %1, %0" : "+m"(bits[0]) : "r"(i % 256) : "cc", "memory");
	}
	return NULL;
}

static void
atomic_counters(void)
{
	const uint32_t each = rounds(COUNTS), steps = each * THREADS;
	uint32_t expected = 0;

	in_threads(count_atomically);
	for (uint32_t i = 0; i < steps; i++)
		expected = expected * 5 + 1;
	REQUIRE(counter == steps + each * (THREADS * (THREADS - 1) / 2));
	REQUIRE(swapped == expected);
	REQUIRE(wide == steps * 0x100000001ull);
	note("%u %08x %016llx", counter, swapped, (unsigned long long)wide);
	note_bytes("bits", (const void *)bits, sizeof bits);
}

static __thread uint32_t own[64];
static __thread uint32_t own_seed = SEED;
static uint32_t sums[THREADS];

static void *
use_own(void *argument)
{
	const uint32_t who = (uint32_t)(uintptr_t)argument;
	uint32_t sum = who, self;

	own_seed += who;
	for (unsigned i = 0; i < rounds(ROUNDS); i++) {
		for (unsigned k = 0; k < 64; k++)
			own[k] += next_random(&own_seed);
		if (i % 8 == 0)
			sched_yield();
		asm volatile("movl %%gs:0, %0" : "=r"(self));
		if (self != (uint32_t)pthread_self())
			return argument ? argument : (void *)1;
		sum = fold(sum, own, sizeof own);
	}
	sums[who] = sum;
	return NULL;
}

static void
thread_storage(void)
{
	in_threads(use_own);
	for (unsigned i = 0; i < THREADS; i++)
		note("%08x", sums[i]);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn_changed = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static unsigned turn;
static uint32_t total_of_counts;

/* Under the lock, by turns, and all at a barrier. */
static void *
contend(void *argument)
{
	const uint32_t who = (uint32_t)(uintptr_t)argument;

	for (unsigned i = 0; i < rounds(ROUNDS); i++) {
		pthread_mutex_lock(&mutex);
		locked_total = locked_total * 3 + 1;
		if (i % 4 == 0)
			sched_yield();		/* the others find it locked */
		pthread_mutex_unlock(&mutex);
	}
	if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
		total_of_counts = locked_total;
	pthread_barrier_wait(&barrier);
	for (unsigned i = 0; i < rounds(ROUNDS / 4); i++) {
		pthread_mutex_lock(&mutex);
		while (turn % THREADS != who)
			pthread_cond_wait(&turn_changed, &mutex);
		turn++;
		locked_total = locked_total * 7 + who;
		pthread_cond_broadcast(&turn_changed);
		pthread_mutex_unlock(&mutex);
		if (i % 4 == 0)
			pthread_barrier_wait(&barrier);
	}
	return NULL;
}

static void
locks(void)
{
	uint32_t expected = 0;

	REQUIRE(pthread_barrier_init(&barrier, NULL, THREADS) == 0);
	in_threads(contend);
	for (unsigned i = 0; i < rounds(ROUNDS) * THREADS; i++)
		expected = expected * 3 + 1;
	REQUIRE(total_of_counts == expected);
	note("%u turns, %08x", turn, locked_total);
}

static void *
short_life(void *argument)
{
	uint32_t state = SEED + (uint32_t)(uintptr_t)argument, sum = 0;

	for (unsigned i = 0; i < 200; i++)
		sum += next_random(&state);
	__atomic_fetch_add(&counter, sum, __ATOMIC_RELAXED);
	return NULL;
}

static void
short_threads(void)
{
	for (unsigned i = 0; i < rounds(GENERATIONS); i++)
		in_threads(short_life);
	note("%08x", counter);
}

const struct trial thread_trials[] = {
	{ "atomic_counters", atomic_counters }, { "thread_storage", thread_storage }, { "locks", locks },
	{ "short_threads", short_threads }, { NULL, NULL },
};
