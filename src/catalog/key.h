/*
 * key.h
 *		Kinds of partition key: how a value becomes a time, and a time a bound.
 *
 * Invariant: nothing else compares key types. A bound that exists is kept as the
 * datum that it is, beside the time that it stands for.
 */
#ifndef SAGAZ_CATALOG_KEY_H
#define SAGAZ_CATALOG_KEY_H

#include "postgres.h"

#include "bounds/plan.h"
#include "datatype/timestamp.h"
#include "nodes/parsenodes.h"

typedef struct KeyKind
{
	Oid			type;
	Oid			opfamily;		/* the default operator class's */
	bool		is_instant;		/* else the wall clock of the policy's time
								 * zone */
	bool		has_time;		/* can tell the hours of a day apart */
	CalTime		(*to_time) (Datum value);
	char	   *(*write) (CalTime value);
} KeyKind;

/* A partition's bounds as the catalog has them. */
typedef struct KeyRange
{
	PartitionRangeDatumKind lower_kind;
	PartitionRangeDatumKind upper_kind;
	Datum		lower;
	Datum		upper;
} KeyRange;

extern const KeyKind *key_kind_of(Oid type);
extern CalTime key_bound_time(const KeyKind *kind, PartitionRangeDatumKind bound, Datum value);
extern char *key_literal(const KeyKind *kind, CalTime value);
extern char *key_for_values(const KeyKind *kind, const PlanBound *bound);
extern char *key_for_values_of_range(const KeyKind *kind, const KeyRange *range);
extern char *key_display(const KeyKind *kind, const PlanBound *bound);
extern char *key_name(const PlanBound *bound);
extern char *key_display_time(TimestampTz t);

#endif							/* SAGAZ_CATALOG_KEY_H */
