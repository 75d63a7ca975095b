/*
 * world_start.c -- how a world begins: the entry point, the relocation of its own image, and the
 * memory functions that a compiler may call without being told to.
 *
 * Invariant: nothing here reads a table of addresses before relocate() has run, so it uses
 * addresses relative to the program counter only.
 *
 * Source: System V ABI, AMD64 supplement, 3.4.1 "Initial Stack and Register State", 4.4.1 "Relocation
 * Types"; System V gABI, "Dynamic Section".
 */
#include <elf.h>
#include <stddef.h>
#include <stdint.h>

#include "hostclock.h"
#include "sysraw.h"
#include "world.h"

enum { HOST_PAGE = 4096, READ_ONLY = 1 };

/* ---- what the compiler calls ------------------------------------------------------------------ */

void *memcpy(void *to, const void *from, size_t count);
void *memmove(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);
int memcmp(const void *a, const void *b, size_t count);

void *
memcpy(void *to, const void *from, size_t count)
{
	void *at = to;

	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(count) : : "memory");
	return to;
}

void *
memmove(void *to, const void *from, size_t count)
{
	uint8_t *last = (uint8_t *)to + count - 1;
	const uint8_t *source = (const uint8_t *)from + count - 1;

	if ((uintptr_t)to - (uintptr_t)from >= count)
		return memcpy(to, from, count);
	__asm__ volatile("std; rep movsb; cld" : "+D"(last), "+S"(source), "+c"(count) : : "memory", "cc");
	return to;
}

void *
memset(void *to, int value, size_t count)
{
	void *at = to;

	__asm__ volatile("rep stosb" : "+D"(at), "+c"(count) : "a"(value) : "memory");
	return to;
}

int
memcmp(const void *a, const void *b, size_t count)
{
	const uint8_t *x = a, *y = b;

	for (; count; count--, x++, y++)
		if (*x != *y)
			return *x < *y ? -1 : 1;
	return 0;
}

/* ---- start ---------------------------------------------------------------------------------------- */

HIDDEN extern const Elf64_Dyn _DYNAMIC[];
HIDDEN extern const Elf64_Ehdr __ehdr_start;

HIDDEN void world_start(const uint64_t *stack);

/* "%rbp: the user code should mark the deepest stack frame"; %rsp is at argc. */
__asm__(
	".globl _start\n"
	".hidden _start\n"
	".type _start, @function\n"
	"_start:\n"
	"	xorl %ebp, %ebp\n"
	"	movq %rsp, %rdi\n"
	"	andq $-16, %rsp\n"
	"	call world_start\n"
	"	ud2\n");

/* The tables of handlers hold addresses: add the load address to each, before any is used. */
static void
relocate(uint8_t *base)
{
	const Elf64_Dyn *d;
	const Elf64_Rela *rela = NULL;
	uint64_t bytes = 0, i;

	for (d = _DYNAMIC; d->d_tag != DT_NULL; d++) {
		if (d->d_tag == DT_RELA)
			rela = (const void *)(base + d->d_un.d_ptr);
		else if (d->d_tag == DT_RELASZ)
			bytes = d->d_un.d_val;
	}
	for (i = 0; i < bytes / sizeof *rela; i++) {
		if (ELF64_R_TYPE(rela[i].r_info) != R_X86_64_RELATIVE)
			sys_exit_group(STATUS_RELOCATIONS);
		*(uint64_t *)(void *)(base + rela[i].r_offset) = (uint64_t)(uintptr_t)base + (uint64_t)rela[i].r_addend;
	}
}

/* What was written by relocate() alone is constant from now on. */
static void
protect_constants(const uint8_t *base)
{
	const Elf64_Phdr *p = (const void *)(base + __ehdr_start.e_phoff);
	uint32_t i;

	for (i = 0; i < __ehdr_start.e_phnum; i++) {
		const uint64_t start = (uint64_t)(uintptr_t)base + p[i].p_vaddr;
		const uint64_t first = start & ~(uint64_t)(HOST_PAGE - 1);
		const uint64_t end = (start + p[i].p_memsz) & ~(uint64_t)(HOST_PAGE - 1);

		if (p[i].p_type == PT_GNU_RELRO && end > first)
			sys_call3(SYS_mprotect, first, end - first, READ_ONLY);
	}
}

void
world_start(const uint64_t *stack)
{
	uint8_t *base = (uint8_t *)(uintptr_t)&__ehdr_start;

	relocate(base);
	protect_constants(base);
	text_in_large_page();
	host_clock_begin(stack);
	world_main(stack);
}
