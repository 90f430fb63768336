/*
 * key.h
 *		Partition keys as the server has them: datums, types and literals.
 *
 * Invariant: what a kind of key means is bounds/key.h's business, and which type
 * is of which kind is said here; nothing else compares key types. A bound that
 * exists is kept as the datum that it is, beside the time that it stands for.
 */
#ifndef SAGAZ_CATALOG_KEY_H
#define SAGAZ_CATALOG_KEY_H

#include "postgres.h"

#include "bounds/key.h"
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
	KeyEncoding encoding;
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
extern const KeyKind *key_kind_told(Oid type, const char *encoding);
extern const char *key_choices(Oid type);
extern bool key_sorts_well(const KeyKind *kind, Oid collation);
extern CalTime key_time(const KeyKind *kind, Datum value);
extern int	key_compare(const KeyKind *kind, Datum a, Datum b);
extern PlanBound key_range_times(const KeyKind *kind, const KeyRange *range);
extern bool key_is_proper(const KeyKind *kind, Datum value);
extern const char *key_proper_name(const KeyKind *kind);
extern Datum key_datum(const KeyKind *kind, CalTime t);
extern void key_range_of(const KeyKind *kind, const PlanBound *bound, KeyRange *range);
extern bool key_is_same_type(const KeyKind *kind, Oid type);
extern char *key_literal(const KeyKind *kind, CalTime value);
extern char *key_datum_literal(const KeyKind *kind, Datum value);
extern char *key_bound_literal(const KeyKind *kind, PartitionRangeDatumKind bound, Datum value);
extern char *key_for_values_of_range(const KeyKind *kind, const KeyRange *range);
extern char *key_display(const KeyKind *kind, const PlanBound *bound);
extern char *key_name(const PlanBound *bound);
extern char *key_display_time(TimestampTz t);

#endif							/* SAGAZ_CATALOG_KEY_H */
