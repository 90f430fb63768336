/*
 * unique_index.h
 *		The partitions of a table that have rows, and the index of each in which a
 *		unique key's values are looked for.
 */
#ifndef SAGAZ_DDL_UNIQUE_INDEX_H
#define SAGAZ_DDL_UNIQUE_INDEX_H

#include "postgres.h"

#include "access/attnum.h"
#include "access/skey.h"
#include "nodes/pg_list.h"
#include "utils/rel.h"

/* A partition, at whatever depth, that has no partitions itself. */
typedef struct UniquePartition
{
	Oid			relid;
	Oid			top;			/* the table's own partition that it is, or is
								 * in */
	TransactionId attached_by;	/* on the way to the table: this transaction,
								 * or else the youngest one */
} UniquePartition;

extern List *unique_index_partitions(Oid table, List **middle);
extern void unique_index_map_columns(Oid table, Oid partition, const AttrNumber *columns,
									 int n, AttrNumber *mapped);
extern Oid	unique_index_find(Relation heap, const AttrNumber *columns, int n,
							  ScanKey keys, int *order);
extern void unique_index_equality(Relation heap, const AttrNumber *columns, int n,
								  ScanKey keys, int *order);

#endif							/* SAGAZ_DDL_UNIQUE_INDEX_H */
