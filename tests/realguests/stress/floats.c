/*
 * floats.c -- x87, MMX and SSE2 series in several processes at once, each with its own rounding and precision: the
 * results are those of a single run, to the bit.
 *
 * Of the transcendental instructions none is used: processors differ in their last bits.
 */
#include <emmintrin.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>

#include "stress.h"

#define PROCESSES	6
#define ROUNDS		1500
#define REPEATS		4
#define LOST		6	/* the bytes of a long double in memory that hold none of its value */

static const uint16_t control_words[PROCESSES] = { 0x037f, 0x077f, 0x0b7f, 0x0f7f, 0x027f, 0x007f };
static const uint32_t mxcsrs[PROCESSES] = { 0x1f80, 0x3f80, 0x5f80, 0x7f80, 0x1f80, 0x3f80 };

static uint32_t
x87_series(unsigned who, unsigned rounds)
{
	const uint16_t usual = 0x037f;
	volatile long double x = 1.0L + who, y = 0.75L, step = 1.0L / 3;
	uint32_t sum = SEED + who;

	asm volatile("fldcw %0" : : "m"(control_words[who]));
	for (unsigned k = 1; k <= rounds; k++) {
		long double root, whole, rest, scaled;

		x = x * 0.9990234375L + step / k;
		y = y - x / (k + y * y);
		asm volatile("fsqrt" : "=t"(root) : "0"(x < 0 ? -x : x));
		asm volatile("frndint" : "=t"(whole) : "0"(y * 1024));
		asm volatile("fprem" : "=t"(rest) : "0"(x * 1000), "u"(root + 1));
		asm volatile("fscale" : "=t"(scaled) : "0"(rest), "u"((long double)(int)(k % 7)));
		y += root / 16 + scaled / 65536 - whole / 4096;
		sum = fold(sum, (const void *)&x, sizeof x - LOST + 4);
		sum = fold(sum, (const void *)&y, sizeof y - LOST + 4);
		if (k % 512 == 0)
			sched_yield();
	}
	asm volatile("fldcw %0" : : "m"(usual));
	return sum;
}

__attribute__((target("sse2"))) static uint32_t
sse_series(unsigned who, unsigned rounds)
{
	__m128d a = _mm_set_pd(1.5 + who, 0.25), b = _mm_set_pd(0.999, 1.001);
	__m128 f = _mm_set_ps(1.0f, 2.0f, 3.0f + (float)who, 4.0f);
	__m128i n = _mm_set_epi32(1, 2, 3, (int)who);
	uint8_t bytes[48];
	uint32_t sum = SEED + who;

	_mm_setcsr(mxcsrs[who]);
	for (unsigned k = 1; k <= rounds; k++) {
		const __m128d step = _mm_cvtepi32_pd(_mm_set_epi32(0, 0, (int)k, (int)(k + 1)));

		a = _mm_add_pd(_mm_mul_pd(a, b), _mm_div_pd(_mm_set1_pd(1.0), step));
		b = _mm_sqrt_pd(_mm_add_pd(_mm_mul_pd(b, b), _mm_set1_pd(1e-9)));
		f = _mm_min_ps(_mm_mul_ps(_mm_add_ps(f, _mm_cvtpd_ps(a)), _mm_set1_ps(0.75f)), _mm_set1_ps(1e6f));
		n = _mm_add_epi32(_mm_madd_epi16(n, _mm_set1_epi16(31)), _mm_shuffle_epi32(n, 0x39));
		n = _mm_xor_si128(n, _mm_cvtps_epi32(f));
		n = _mm_add_epi64(n, _mm_mul_epu32(n, _mm_srli_epi64(n, 7)));
		_mm_storeu_pd((double *)bytes, a);
		_mm_storeu_ps((float *)(bytes + 16), f);
		_mm_storeu_si128((__m128i *)(bytes + 32), n);
		sum = fold(sum, bytes, sizeof bytes);
		if (k % 512 == 0)
			sched_yield();
	}
	_mm_setcsr(0x1f80);
	return sum;
}

__attribute__((target("sse2"))) static uint32_t
mmx_series(unsigned who, unsigned rounds)
{
	uint64_t n = 0x0123456789abcdefull * (who + 1), m = 0x7fff800100ff1234ull;

	for (unsigned k = 0; k < rounds; k++)
		asm volatile("movq %0, %%mm0\n\tmovq %1, %%mm1\n\tpmullw %%mm1, %%mm0\n\tpaddsw %%mm1, %%mm0\n\t"
			     "punpcklbw %%mm0, %%mm1\n\tpsubusb %%mm0, %%mm1\n\tpsrlq $3, %%mm0\n\t"
			     "pxor %%mm1, %%mm0\n\tpaddd %%mm0, %%mm1\n\tpackssdw %%mm0, %%mm1\n\t"
			     "paddb %1, %%mm1\n\tmovq %%mm0, %0\n\t"
			     "movq %%mm1, %1\n\temms"
			     : "+m"(n), "+m"(m) : : "mm0", "mm1", "memory");
	return fold(fold(SEED, &n, sizeof n), &m, sizeof m);
}

static uint32_t
each_series(unsigned who)
{
	const uint32_t sums[] = {
		x87_series(who, ROUNDS), sse_series(who, ROUNDS), mmx_series(who, ROUNDS)
	};

	return fold(who, sums, sizeof sums);
}

static uint32_t
again_and_again(unsigned who)
{
	const uint32_t first = each_series(who);

	for (unsigned i = 1; i < REPEATS * scale; i++)
		if (each_series(who) != first)
			return ~first;
	return first;
}

static void
series(void)
{
	uint32_t together[PROCESSES];

	at_once(PROCESSES, again_and_again, together);
	for (unsigned who = 0; who < PROCESSES; who++) {
		note("x87 %08x, sse %08x, mmx %08x", x87_series(who, ROUNDS), sse_series(who, ROUNDS),
		     mmx_series(who, ROUNDS));
		REQUIRE(together[who] == each_series(who));
	}
}

const struct trial float_trials[] = {
	{ "series", series }, { NULL, NULL },
};
