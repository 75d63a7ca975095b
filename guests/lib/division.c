/*
 * division.c -- 64-bit division, which 32-bit code expects from a compiler library that need not be installed.
 */
#include <stdint.h>

uint64_t __udivmoddi4(uint64_t dividend, uint64_t divisor, uint64_t *remainder);
uint64_t __udivdi3(uint64_t dividend, uint64_t divisor);
uint64_t __umoddi3(uint64_t dividend, uint64_t divisor);
int64_t __divdi3(int64_t dividend, int64_t divisor);
int64_t __moddi3(int64_t dividend, int64_t divisor);

/* DIV takes 64 bits by 32; two of them divide by 32 bits, a larger divisor needs the schoolbook. */
uint64_t
__udivmoddi4(uint64_t dividend, uint64_t divisor, uint64_t *remainder)
{
	uint64_t quotient = 0, rest = 0;
	int bit;

	if (divisor >> 32 == 0) {
		uint32_t d = (uint32_t)divisor, high = (uint32_t)(dividend >> 32), low, r;

		r = high % d;
		high /= d;
		__asm__("divl %4" : "=a"(low), "=d"(r) : "a"((uint32_t)dividend), "d"(r), "r"(d));
		rest = r;
		quotient = (uint64_t)high << 32 | low;
	} else {
		for (bit = 63; bit >= 0; bit--) {
			rest = rest << 1 | (dividend >> bit & 1);
			if (rest >= divisor) {
				rest -= divisor;
				quotient |= 1ull << bit;
			}
		}
	}
	if (remainder)
		*remainder = rest;
	return quotient;
}

uint64_t
__udivdi3(uint64_t dividend, uint64_t divisor)
{
	return __udivmoddi4(dividend, divisor, 0);
}

uint64_t
__umoddi3(uint64_t dividend, uint64_t divisor)
{
	uint64_t remainder;

	__udivmoddi4(dividend, divisor, &remainder);
	return remainder;
}

static uint64_t
magnitude(int64_t value)
{
	return value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
}

int64_t
__divdi3(int64_t dividend, int64_t divisor)
{
	uint64_t quotient = __udivdi3(magnitude(dividend), magnitude(divisor));

	return (int64_t)((dividend < 0) != (divisor < 0) ? 0 - quotient : quotient);
}

int64_t
__moddi3(int64_t dividend, int64_t divisor)
{
	uint64_t remainder = __umoddi3(magnitude(dividend), magnitude(divisor));

	return (int64_t)(dividend < 0 ? 0 - remainder : remainder);
}
