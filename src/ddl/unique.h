/*
 * unique.h
 *		Making and removing a unique key across partitions.
 */
#ifndef SAGAZ_DDL_UNIQUE_H
#define SAGAZ_DDL_UNIQUE_H

#include "postgres.h"

#include "catalog/unique_key.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/rel.h"

/* A partition that lacks the index of a unique key. */
typedef struct UniqueMissing
{
	Oid			partition;
	char	   *name;			/* for people */
	Oid			owner;
	char	   *leftover;		/* index of a build that has failed, for a
								 * statement; or NULL */
	char	   *statement;		/* that makes it, CONCURRENTLY */
} UniqueMissing;

extern List *unique_triggers(Relation rel);
extern List *unique_column_names(Oid table, const AttrNumber *columns, int n);
extern char *unique_find(Oid table, List *columns);
extern List *unique_enforced_columns(Oid table, const char *name);
extern void unique_require(Oid table, List *columns, bool skips);
extern char *unique_choose_name(Oid table, List *columns);
extern List *unique_missing(Oid table, List *columns);
extern int64 unique_blocks(Oid table);
extern void unique_build(Oid partition, Oid owner, List *columns);
extern void unique_build_all(Oid table, List *columns);
extern void unique_enforce(const UniqueKeyRow *row);
extern void unique_end(Oid table, const char *name);

#endif							/* SAGAZ_DDL_UNIQUE_H */
