/*
 * convert_bound.h
 *		Where the partition of a table's present rows ends.
 */
#ifndef SAGAZ_DDL_CONVERT_BOUND_H
#define SAGAZ_DDL_CONVERT_BOUND_H

#include "postgres.h"

#include "catalog/policy.h"
#include "ddl/convert.h"

/* What is further ahead than this isn't meant. */
#define FAR_FUTURE		(366 * USECS_PER_DAY)

typedef struct ConvertBound
{
	CalTime		upper;
	TimestampTz finish_by;		/* after that, rows could reach it */
	List	   *obstacles;		/* of ConvertObstacle *: rows that can't stay */
} ConvertBound;

extern void convert_bound(const Policy *policy, Oid relation, const char *key,
						  const KeyKind *kind, TimestampTz now, ConvertBound *bound);
extern int64 convert_bound_days(Oid relation);
extern bool convert_rows_before(Oid relation, const char *key, const KeyKind *kind, Datum upper);

#endif							/* SAGAZ_DDL_CONVERT_BOUND_H */
