/*
 * unique_probe.h
 *		Looking for a row's values in the other partitions.
 */
#ifndef SAGAZ_DDL_UNIQUE_PROBE_H
#define SAGAZ_DDL_UNIQUE_PROBE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "ddl/unique_cache.h"
#include "storage/itemptr.h"

/* A row of a partition, and its values in the order of the key's columns. */
typedef struct UniqueRow
{
	Oid			heap;
	ItemPointer self;			/* where it is; NULL: nowhere yet */
	const Datum *values;
} UniqueRow;

extern Oid	unique_probe(UniqueKey *key, const UniqueRow *row, TimestampTz now);
extern bool unique_probe_has_index(UniqueKey *key, Oid heap);
extern char *unique_probe_describe(const UniqueKey *key, const Datum *values);

#endif							/* SAGAZ_DDL_UNIQUE_PROBE_H */
