/*
 * convert_later.h
 *		The later partitions of a table that is becoming partitioned.
 */
#ifndef SAGAZ_PASS_CONVERT_LATER_H
#define SAGAZ_PASS_CONVERT_LATER_H

#include "catalog/conversion.h"
#include "pass/pass.h"

extern bool convert_later_is_below(const Conversion *conversion);
extern ErrorData *convert_later_make(Pass *pass, Conversion *conversion, bool *made);
extern ErrorData *convert_later_finish(Pass *pass, const Conversion *conversion);

#endif							/* SAGAZ_PASS_CONVERT_LATER_H */
