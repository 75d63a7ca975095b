/*
 * workloads.c -- sieve, SHA-256, quicksort, matrices in x87 and SSE2, string search, a bytecode interpreter.
 *
 * Each is small enough for the caches and large enough to be a loop nest of its own kind.  The checksums in the table
 * were computed by other means; tests/guests/test_compute.py does it again.
 */
#include "workloads.h"

/* At the same place of a page in every host: what a processor makes of a loop depends on how its bytes are aligned. */
__asm__(".text; .balign 4096; .section .rodata; .balign 4096; .bss; .balign 4096; .text");

#define LCG_STEP(x) ((x) * 1664525u + 1013904223u)

/* How many primes are below SIEVE_SIZE: byte stores with growing strides. */
#define SIEVE_SIZE 100000u
static uint8_t composite[SIEVE_SIZE];

static uint32_t
sieve(uint32_t rounds)
{
	uint32_t count = 0, i, j;

	while (rounds--) {
		count = 0;
		for (i = 0; i < SIEVE_SIZE; i++)
			composite[i] = 0;
		for (i = 2; i < SIEVE_SIZE; i++) {
			if (composite[i])
				continue;
			count++;
			for (j = i + i; j < SIEVE_SIZE; j += i)
				composite[j] = 1;
		}
	}
	return count;
}

/* The first word of the SHA-256 of SHA_BYTES bytes i*7+3: shifts, rotates, long dependency chains.  [FIPS 180-4] */
#define SHA_BYTES 4096u
#define SHA_BLOCKS (SHA_BYTES / 64 + 1)
static uint8_t message[SHA_BLOCKS * 64];

static const uint32_t sha_k[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t
rotate(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

static void
sha256_block(uint32_t state[8], const uint8_t *block)
{
	uint32_t w[64], s[8], t1, t2;
	int i;

	for (i = 0; i < 16; i++)
		w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
		    (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
	for (; i < 64; i++)
		w[i] = w[i - 16] + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3) +
		    w[i - 7] + (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
	for (i = 0; i < 8; i++)
		s[i] = state[i];
	for (i = 0; i < 64; i++) {
		t1 = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) +
		    ((s[4] & s[5]) ^ (~s[4] & s[6])) + sha_k[i] + w[i];
		t2 = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) +
		    ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
		s[7] = s[6], s[6] = s[5], s[5] = s[4], s[4] = s[3] + t1;
		s[3] = s[2], s[2] = s[1], s[1] = s[0], s[0] = t1 + t2;
	}
	for (i = 0; i < 8; i++)
		state[i] += s[i];
}

static uint32_t
sha256(uint32_t rounds)
{
	static const uint32_t initial[8] = {
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
	};
	uint32_t state[8] = { 0 }, i;

	for (i = 0; i < sizeof(message); i++)
		message[i] = i < SHA_BYTES ? (uint8_t)(i * 7 + 3) : 0;
	message[SHA_BYTES] = 0x80;
	message[sizeof(message) - 2] = (uint8_t)(SHA_BYTES * 8 >> 8);	/* the length in bits, big-endian */
	while (rounds--) {
		for (i = 0; i < 8; i++)
			state[i] = initial[i];
		for (i = 0; i < SHA_BLOCKS; i++)
			sha256_block(state, message + 64 * i);
	}
	return state[0];
}

/* Hoare's quicksort of pseudo-random numbers: unpredictable branches, recursion. */
#define SORT_SIZE 4096u
static uint32_t numbers[SORT_SIZE];

static void
sort(uint32_t *low, uint32_t *high)
{
	while (low < high) {
		uint32_t pivot = low[(high - low) / 2], *i = low - 1, *j = high + 1, swap;

		for (;;) {
			do
				i++;
			while (*i < pivot);
			do
				j--;
			while (*j > pivot);
			if (i >= j)
				break;
			swap = *i, *i = *j, *j = swap;
		}
		sort(low, j);
		low = j + 1;
	}
}

static uint32_t
quicksort(uint32_t rounds)
{
	uint32_t i, x, sum = 0;

	while (rounds--) {
		for (i = 0, x = 1; i < SORT_SIZE; i++)
			numbers[i] = x = LCG_STEP(x);
		sort(numbers, numbers + SORT_SIZE - 1);
		for (i = 0, sum = 0; i < SORT_SIZE; i++)
			sum += numbers[i] * (i + 1);
	}
	return sum;
}

/* The sum of all elements of a product of matrices of small integers, exact in double precision. */
#define MATRIX 32
static double a[MATRIX][MATRIX] __attribute__((aligned(16)));
static double b[MATRIX][MATRIX] __attribute__((aligned(16)));
static double c[MATRIX][MATRIX] __attribute__((aligned(16)));

static void
fill_matrices(void)
{
	int i, j;

	for (i = 0; i < MATRIX; i++)
		for (j = 0; j < MATRIX; j++) {
			a[i][j] = i + 2 * j;
			b[i][j] = 3 * i - j;
		}
}

static uint32_t
sum_matrix(void)
{
	double sum = 0;
	int i, j;

	for (i = 0; i < MATRIX; i++)
		for (j = 0; j < MATRIX; j++)
			sum += c[i][j];
	return (uint32_t)(int32_t)sum;
}

static uint32_t
matrix_x87(uint32_t rounds)
{
	int i, j, k;

	fill_matrices();
	while (rounds--)
		for (i = 0; i < MATRIX; i++)
			for (j = 0; j < MATRIX; j++) {
				double sum = 0;

				for (k = 0; k < MATRIX; k++)
					sum += a[i][k] * b[k][j];
				c[i][j] = sum;
			}
	return sum_matrix();
}

/* Two doubles at a time, in the compiler's own vector type. */
typedef double pair __attribute__((vector_size(16)));

static __attribute__((target("sse2"))) void
multiply_sse2(void)
{
	int i, j, k;

	for (i = 0; i < MATRIX; i++)
		for (j = 0; j < MATRIX; j += 2) {
			pair sum = { 0, 0 };

			for (k = 0; k < MATRIX; k++)
				sum += (pair){ a[i][k], a[i][k] } * *(const pair *)&b[k][j];
			*(pair *)&c[i][j] = sum;
		}
}

static uint32_t
matrix_sse2(uint32_t rounds)
{
	fill_matrices();
	while (rounds--)
		multiply_sse2();
	return sum_matrix();
}

/* Where a word occurs in a text of few letters, by comparing at every place: byte loads and short inner loops. */
#define TEXT_SIZE 16384u
static char text[TEXT_SIZE];
static const char word[] = "abcab";
#define WORD_SIZE (sizeof(word) - 1)

static uint32_t
search(uint32_t rounds)
{
	uint32_t sum = 0, i, k, x;

	for (i = 0, x = 7; i < TEXT_SIZE; i++) {
		x = LCG_STEP(x);
		text[i] = "abc"[(x >> 16) % 3];
	}
	while (rounds--) {
		sum = 0;
		for (i = 0; i + WORD_SIZE <= TEXT_SIZE; i++) {
			for (k = 0; k < WORD_SIZE && text[i + k] == word[k]; k++)
				;
			if (k == WORD_SIZE)
				sum += i;
		}
	}
	return sum;
}

/* A stack machine runs the Collatz iteration from every number below 100: a dispatch by a jump table. */
enum operation { PUSH, LOAD, STORE, ADD, MUL, HALF, ODD, EQUAL, LESS, JUMP, JUMP_IF, HALT };
enum variable { N, V, STEPS, VARIABLES };

struct instruction {
	uint8_t operation, operand;
};

static const struct instruction program[] = {
	/*  0 */ { PUSH, 1 }, { STORE, N },
	/*  2 */ { LOAD, N }, { STORE, V },
	/*  4 */ { LOAD, V }, { PUSH, 1 }, { EQUAL, 0 }, { JUMP_IF, 19 },
	/*  8 */ { LOAD, STEPS }, { PUSH, 1 }, { ADD, 0 }, { STORE, STEPS },
	/* 12 */ { LOAD, V }, { ODD, 0 }, { JUMP_IF, 24 },
	/* 15 */ { LOAD, V }, { HALF, 0 }, { STORE, V }, { JUMP, 4 },
	/* 19 */ { LOAD, N }, { PUSH, 1 }, { ADD, 0 }, { STORE, N }, { JUMP, 31 },
	/* 24 */ { LOAD, V }, { PUSH, 3 }, { MUL, 0 }, { PUSH, 1 }, { ADD, 0 }, { STORE, V }, { JUMP, 4 },
	/* 31 */ { LOAD, N }, { PUSH, 100 }, { LESS, 0 }, { JUMP_IF, 2 },
	/* 35 */ { HALT, 0 },
};

static uint32_t
interpret(const struct instruction *code)
{
	uint32_t stack[8], variables[VARIABLES] = { 0 }, *top = stack, pc = 0;

	for (;;) {
		const struct instruction in = code[pc++];

		switch (in.operation) {
		case PUSH:
			*++top = in.operand;
			break;
		case LOAD:
			*++top = variables[in.operand];
			break;
		case STORE:
			variables[in.operand] = *top--;
			break;
		case ADD:
			top--;
			top[0] += top[1];
			break;
		case MUL:
			top--;
			top[0] *= top[1];
			break;
		case HALF:
			*top >>= 1;
			break;
		case ODD:
			*top &= 1;
			break;
		case EQUAL:
			top--;
			top[0] = top[0] == top[1];
			break;
		case LESS:
			top--;
			top[0] = top[0] < top[1];
			break;
		case JUMP:
			pc = in.operand;
			break;
		case JUMP_IF:
			if (*top--)
				pc = in.operand;
			break;
		default:
			return variables[STEPS];
		}
	}
}

static uint32_t
bytecode(uint32_t rounds)
{
	uint32_t steps = 0;

	while (rounds--)
		steps = interpret(program);
	return steps;
}

/* The usual number of rounds is about 40 million instructions. */
const struct workload workloads[WORKLOADS] = {
	/* name, function, usual rounds, operations in a round, checksum */
	{ "sieve", sieve, 22, SIEVE_SIZE, 9592 },			/* numbers */
	{ "sha256", sha256, 115, SHA_BLOCKS, 0x7486da8f },		/* blocks */
	{ "quicksort", quicksort, 70, SORT_SIZE, 0x8e91e0c9 },	/* elements */
	{ "matrix_x87", matrix_x87, 150, MATRIX * MATRIX * MATRIX, 0x3d08000 },	/* multiply-adds */
	{ "matrix_sse2", matrix_sse2, 260, MATRIX * MATRIX * MATRIX, 0x3d08000 },
	{ "search", search, 95, TEXT_SIZE, 0x7ce4a },		/* places */
	{ "bytecode", bytecode, 60, 51237, 3117 },		/* bytecodes */
};
