/*
 * guest.h -- everything a guest program may use.
 */
#pragma once

#include "x86.h"
#include "console.h"
#include "cpu.h"
#include "gates.h"
#include "interrupts.h"
#include "memory.h"
#include "paging.h"
#include "report.h"
#include "rings.h"
#include "time.h"
#include "traps.h"

/* The guest's own program.  When it returns, the library prints the verdict and powers off. */
void guest_main(void);
