/*
 * memory.h -- the string functions the compiler expects, and pages of the machine's memory.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *to, const void *from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t strlen(const char *text);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t size);

/* What the loader said about the machine. */
void memory_init(uint32_t multiboot_magic, const void *multiboot_info);
uint32_t memory_bytes(void);	/* the end of the memory that starts at 0 */

/* Zeroed pages above the image, never given back; running out ends the guest with a FAIL. */
void *allocate_pages(uint32_t count);
uint32_t allocated_bytes(void);

/* Options on the command line: a bare word, `name=text`, or `name=number`. */
const char *command_line(void);
bool has_option(const char *word);
bool option_is(const char *name, const char *text, bool otherwise);
uint32_t option_number(const char *name, uint32_t otherwise);
