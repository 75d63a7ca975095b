/*
 * console.h -- text on COM1.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

void console_init(void);
void put_char(char c);
void put_text(const char *text);

/* The next received character, or -1. */
int get_char(void);

/* Conversions: %c %s %d %u %x %p, with 0, a width, l and ll. */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
void vprint(const char *format, va_list args) __attribute__((format(printf, 1, 0)));
