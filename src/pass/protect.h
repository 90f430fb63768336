/*
 * protect.h
 *		Partitions that aren't dropped by accident.
 */
#ifndef SAGAZ_PASS_PROTECT_H
#define SAGAZ_PASS_PROTECT_H

#include "pass/pass.h"

extern void protect_table(Pass *pass, const TablePlan *table);
extern void protect_at_once(Oid parent);
extern void protect_drop(const Policy *policy, Oid partition, TimestampTz now);

#endif							/* SAGAZ_PASS_PROTECT_H */
