/*
 * conversion.h
 *		Tables become partitioned in place.
 */
#ifndef SAGAZ_PASS_CONVERSION_H
#define SAGAZ_PASS_CONVERSION_H

#include "catalog/conversion.h"
#include "pass/pass.h"

extern int	conversion_run(Pass *pass);
extern void conversion_undo(Conversion *conversion);

#endif							/* SAGAZ_PASS_CONVERSION_H */
