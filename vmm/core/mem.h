/*
 * mem.h -- fast paths of linear memory access, for handlers.
 *
 * A hit in the micro TLB is one compare: the tag is compared with the page of the access's
 * last byte, so an access that crosses into the next page never hits.  Everything else is
 * mem.c's.  `op` is recorded before the slow path so that a fault knows its instruction.
 */
#ifndef RF_MEM_H
#define RF_MEM_H

#include "engine.h"

static inline struct tlb_entry *
tlb_slot(struct engine *e, uint32_t linear)
{
	return &e->tlb_cur[linear >> PAGE_SHIFT & (TLB_ENTRIES - 1)];
}

static inline void *
host_address(const struct tlb_entry *t, uint32_t linear)
{
	void *p = (void *)(t->addend + linear);

	if (p == NULL)
		__builtin_unreachable();	/* so that a hit need not be tested for NULL again */
	return p;
}

/* The page that an SPTE names. */
static inline uint8_t *
host_page(struct engine *e, uint64_t spte)
{
	return (spte & SPTE_DEV ? e->dev : e->ram) + (spte & ~(uint64_t)(PAGE_SIZE - 1));
}

/* 1, 2, 4 or 8 bytes, other sizes byte by byte: a copy of unknown size would be a call. */
static inline uint64_t
host_get(const void *p, uint32_t size)
{
	uint64_t x8 = 0;
	uint32_t x4;
	uint16_t x2;

	switch (size) {
	case 1:
		return *(const uint8_t *)p;
	case 2:
		__builtin_memcpy(&x2, p, 2);
		return x2;
	case 4:
		__builtin_memcpy(&x4, p, 4);
		return x4;
	case 8:
		__builtin_memcpy(&x8, p, 8);
		return x8;
	default:
		while (size--)
			x8 = x8 << 8 | ((const uint8_t *)p)[size];
		return x8;
	}
}

static inline void
host_put(void *p, uint64_t x, uint32_t size)
{
	uint32_t i;

	switch (size) {
	case 1:
		*(uint8_t *)p = (uint8_t)x;
		break;
	case 2:
		__builtin_memcpy(p, &(uint16_t){ (uint16_t)x }, 2);
		break;
	case 4:
		__builtin_memcpy(p, &(uint32_t){ (uint32_t)x }, 4);
		break;
	case 8:
		__builtin_memcpy(p, &x, 8);
		break;
	default:
		for (i = 0; i < size; i++)
			((uint8_t *)p)[i] = (uint8_t)(x >> (8 * i));
	}
}

/* Host address for a read or a write of `size` bytes, NULL when only the slow path may do it. */
static inline void *
tlb_read_ptr(struct engine *e, uint32_t linear, uint32_t size)
{
	const struct tlb_entry *t = tlb_slot(e, linear);

	return likely(t->rtag == ((linear + size - 1) & PAGE_MASK)) ? host_address(t, linear) : NULL;
}

static inline void *
tlb_write_ptr(struct engine *e, uint32_t linear, uint32_t size)
{
	const struct tlb_entry *t = tlb_slot(e, linear);

	return likely(t->wtag == ((linear + size - 1) & PAGE_MASK)) ? host_address(t, linear) : NULL;
}

#define DEFINE_ACCESS(S, T)								\
static inline uint32_t									\
host_ld##S(const void *p)								\
{											\
	T x;										\
	__builtin_memcpy(&x, p, sizeof x);						\
	return x;									\
}											\
static inline void									\
host_st##S(void *p, uint32_t value)							\
{											\
	const T x = (T)value;								\
	__builtin_memcpy(p, &x, sizeof x);						\
}											\
static inline uint32_t									\
ld##S(struct engine *e, const struct op *op, uint32_t linear)				\
{											\
	const void *p = tlb_read_ptr(e, linear, S / 8);					\
	if (likely(p != NULL))								\
		return host_ld##S(p);							\
	e->cur = op;									\
	return mem_read(e, linear, S / 8);						\
}											\
static inline void									\
st##S(struct engine *e, const struct op *op, uint32_t linear, uint32_t value)		\
{											\
	void *p = tlb_write_ptr(e, linear, S / 8);					\
	if (likely(p != NULL)) {							\
		host_st##S(p, value);							\
		return;									\
	}										\
	e->cur = op;									\
	mem_write(e, linear, S / 8, value);						\
}

DEFINE_ACCESS(8, uint8_t)
DEFINE_ACCESS(16, uint16_t)
DEFINE_ACCESS(32, uint32_t)

static inline uint64_t
ld64(struct engine *e, const struct op *op, uint32_t linear)
{
	const void *p = tlb_read_ptr(e, linear, 8);
	uint64_t x;

	if (likely(p != NULL)) {
		__builtin_memcpy(&x, p, 8);
		return x;
	}
	e->cur = op;
	return mem_read64(e, linear);
}

static inline void
st64(struct engine *e, const struct op *op, uint32_t linear, uint64_t value)
{
	void *p = tlb_write_ptr(e, linear, 8);

	if (likely(p != NULL)) {
		__builtin_memcpy(p, &value, 8);
		return;
	}
	e->cur = op;
	mem_write64(e, linear, value);
}

static inline void
ld128(struct engine *e, const struct op *op, uint32_t linear, void *to)
{
	const void *p = tlb_read_ptr(e, linear, 16);

	if (likely(p != NULL)) {
		__builtin_memcpy(to, p, 16);
		return;
	}
	e->cur = op;
	mem_read_bytes(e, linear, to, 16);
}

static inline void
st128(struct engine *e, const struct op *op, uint32_t linear, const void *from)
{
	void *p = tlb_write_ptr(e, linear, 16);

	if (likely(p != NULL)) {
		__builtin_memcpy(p, from, 16);
		return;
	}
	e->cur = op;
	mem_write_bytes(e, linear, from, 16);
}

#endif
