/*
 * leftovers.h
 *		Retirements that an earlier pass has begun and not ended.
 */
#ifndef SAGAZ_PASS_LEFTOVERS_H
#define SAGAZ_PASS_LEFTOVERS_H

#include "pass/pass.h"

extern void leftovers_end(Pass *pass);

#endif							/* SAGAZ_PASS_LEFTOVERS_H */
