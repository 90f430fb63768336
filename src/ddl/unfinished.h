/*
 * unfinished.h
 *		Whether a partition has rows, and how many of them are unfinished.
 */
#ifndef SAGAZ_DDL_UNFINISHED_H
#define SAGAZ_DDL_UNFINISHED_H

#include "catalog/policy.h"

extern int64 unfinished_count(const Policy *policy, Oid owner, Oid partition);
extern bool unfinished_has_rows(Oid partition);
extern char *unfinished_details(int64 count);

#endif							/* SAGAZ_DDL_UNFINISHED_H */
