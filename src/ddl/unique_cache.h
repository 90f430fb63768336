/*
 * unique_cache.h
 *		What a session knows of a unique key: its columns, and in which index of
 *		which partition a value has to be looked for.
 */
#ifndef SAGAZ_DDL_UNIQUE_CACHE_H
#define SAGAZ_DDL_UNIQUE_CACHE_H

#include "postgres.h"

#include "access/skey.h"
#include "catalog/policy.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"

/* One partition that has rows itself. */
typedef struct UniqueLeaf
{
	Oid			heap;
	Oid			top;			/* the table's own partition that it is, or is
								 * in */
	bool		valid;			/* index, has_rows, keys and order are as the
								 * catalogs have them */
	bool		listed;			/* was found when the list was last made */
	bool		has_rows;		/* had a page when it was looked at */
	Oid			index;			/* InvalidOid: every row has to be looked at */
	TransactionId attached_by;	/* while that may be this transaction */
	TransactionId attached_last;	/* as the list had it when it was last
									 * made */
	CalTime		upper;			/* of its range, if the key has a within */
	ScanKey		keys;			/* one for each column, in the index's order;
								 * without an index, of the heap's columns */
	int		   *order;			/* keys[i] is for column order[i] */
	uint64		changes;		/* how often that has been invalidated */
} UniqueLeaf;

/* A constraint trigger of a partitioned table that is no clone of another. */
typedef struct UniqueKey
{
	Oid			trigger;		/* InvalidOid: it was replaced by another of
								 * the same OID */
	Oid			table;
	bool		current;		/* columns and within are as the catalogs have
								 * them */
	bool		valid;			/* the lists are as the catalogs have them */
	uint64		changes;		/* how often they have been invalidated */
	int			ncolumns;
	AttrNumber	columns[INDEX_MAX_KEYS];	/* of the table */
	bool		has_within;
	CalSpan		within;
	const KeyKind *kind;		/* of the partition key, if has_within */
	Policy		zone;			/* its time zone only */
	int			nmiddle;		/* partitions that have partitions */
	Oid		   *middle;
	int			nleaves;
	UniqueLeaf **leaves;
} UniqueKey;

/* The same trigger on a partition. */
typedef struct UniqueClone
{
	Oid			trigger;
	Oid			heap;			/* InvalidOid: to be read again */
	UniqueKey  *key;
	AttrNumber	columns[INDEX_MAX_KEYS];	/* of the partition */
} UniqueClone;

extern UniqueClone *unique_cache_clone(Oid heap, const Trigger *trigger);
extern UniqueKey *unique_cache_key(Oid trigger);
extern void unique_cache_refresh(UniqueKey *key);
extern UniqueLeaf *unique_cache_leaf(const UniqueKey *key, Oid heap);
extern void unique_cache_load(const UniqueKey *key, UniqueLeaf *leaf, Relation heap);
extern CalTime unique_cache_cutoff(const UniqueKey *key, TimestampTz now);

#endif							/* SAGAZ_DDL_UNIQUE_CACHE_H */
