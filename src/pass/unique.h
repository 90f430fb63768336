/*
 * unique.h
 *		Bringing unique keys across partitions into force, step by step.
 */
#ifndef SAGAZ_PASS_UNIQUE_H
#define SAGAZ_PASS_UNIQUE_H

#include "catalog/unique_key.h"
#include "pass/pass.h"

extern char *unique_add(UniqueKeyRow *row, TimestampTz now);
extern char *unique_keep(UniqueKeyRow *row, TimestampTz now);
extern bool unique_drop(Oid table, List *columns);
extern void unique_go_on(Pass *pass);

#endif							/* SAGAZ_PASS_UNIQUE_H */
