/*
 * stack16.c -- a stack segment whose B bit is 0: SP is the pointer, ESP's upper half stands aside.  [SDM 3, 3.4.5]
 *
 * While such a stack is loaded no interrupt or exception may come: its frame would go there too.
 */
#include "parts.h"

#define UPPER		0x12340000u
#define RING3_SS16	(SLOT2 | 3)
#define RING3_STACK	0x8F00u

static uint8_t stack[0x10000] __attribute__((aligned(4096)));
uint32_t ring_enter(uint32_t cs, uint32_t ss, uint32_t esp, uint32_t eflags, ring_function *function);
uint32_t esp_of_ring3(uint32_t unused);
__asm__(".text; esp_of_ring3: movl %esp, %eax; ret");

/* Run `code` with SS:ESP = a 16-bit stack at `esp` and return ESP afterwards. */
#define ESP_AFTER(start, code) ({								\
	uint32_t esp_after;									\
	__asm__ volatile("movl %%esp, %%esi; movl %%ebp, %%edi; movl %%ss, %%edx;"			\
	    "movl %1, %%eax; movl %%eax, %%ss; movl %2, %%esp;" code ";"				\
	    "movl %%esp, %%eax; movl %%edx, %%ss; movl %%esi, %%esp; movl %%edi, %%ebp"		\
	    : "=&a"(esp_after) : "i"(SLOT), "i"(start) : "ecx", "edx", "ebx", "esi", "edi", "memory", "cc");	\
	esp_after;										\
})

static uint32_t
at(uint32_t offset)
{
	return *(volatile uint32_t *)(stack + offset);
}

void
check_stack16(void)
{
	uint32_t esp, kernel_esp;

	set_gdt(SLOT, descriptor((uint32_t)stack, 0xFFFF, DESC_DATA));
	esp = ESP_AFTER(UPPER | 0x100, "pushl $0x11111111");
	check_equal("push_uses_sp", at(0xFC), 0x11111111);
	check_equal("push_keeps_the_upper_half", esp, UPPER | 0xFC);
	esp = ESP_AFTER(UPPER, "pushl $0x22222222");
	check_equal("push_at_0_wraps_to_64_kib", at(0xFFFC), 0x22222222);
	check_equal("push_at_0_borrows_nothing", esp, UPPER | 0xFFFC);
	esp = ESP_AFTER(UPPER | 0xFFFC, "popl %%ecx");
	check_equal("pop_at_the_end_wraps_to_0", esp, UPPER);
	esp = ESP_AFTER(UPPER | 0x100, "call 1f; 1:");
	check_equal("call_uses_sp", esp, UPPER | 0xFC);
	esp = ESP_AFTER(UPPER | 0x100, "pushl $1f; ret; 1:");
	check_equal("ret_uses_sp", esp, UPPER | 0x100);
	esp = ESP_AFTER(UPPER | 0x100, "pushal");
	check_equal("pusha_uses_sp", esp, UPPER | 0xE0);
	esp = ESP_AFTER(UPPER | 0x100, "movl $0x56780200, %%ebp; enter $0x10, $0");
	check_equal("enter_uses_sp", esp, UPPER | 0xEC);
	check_equal("enter_saves_ebp", at(0xFC), 0x56780200);
	esp = ESP_AFTER(UPPER | 0x100, "movl $0x56780200, %%ebp; leave");
	check_equal("leave_takes_bp", esp, UPPER | 0x204);
	esp = ESP_AFTER(UPPER | 0x100, "addl $0x10000, %%esp");
	check_equal("arithmetic_uses_all_of_esp", esp, UPPER + 0x10100);

	/* IRET to such a stack loads SP only: the upper half of the kernel's ESP shows through. */
	set_gdt(SLOT2, descriptor(0, 0xFFFF, DESC_DATA | DESC_DPL(3)));
	__asm__("movl %%esp, %0" : "=r"(kernel_esp));
	esp = ring_enter(USER_CS, RING3_SS16, RING3_STACK, EFL_ONE, esp_of_ring3);
	check_equal("iret_to_a_16_bit_stack_loads_sp", esp & 0xFFFF, RING3_STACK - 4);
	check_equal("iret_to_a_16_bit_stack_leaves_the_upper_half", esp >> 16, kernel_esp >> 16);
}
