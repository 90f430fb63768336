/*
 * drift.h
 *		In what partitions differ from their table.
 */
#ifndef SAGAZ_CATALOG_DRIFT_H
#define SAGAZ_CATALOG_DRIFT_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* What differs in a partition; or in one regard, with what mends it. */
typedef struct Drift
{
	Oid			partition;
	char	   *kind;			/* NULL: all kinds together */
	char	   *details;
	char	   *statement;		/* NULL: none does alone */
	Oid			root;			/* the managed table */
} Drift;

/* An index of the table that a partition lacks, or has invalid. */
typedef struct DriftIndex
{
	Oid			partition;
	char		relkind;		/* of the partition */
	Oid			owner;			/* of the partition */
	int64		bytes;			/* of the partition's rows */
	Oid			table;
	Oid			table_owner;
	Oid			table_index;
	bool		is_unique;
	char	   *tail;			/* of CREATE INDEX, what follows USING */
	char		contype;		/* of the constraint that it belongs to; '\0':
								 * none */
	char	   *constraint_definition;
	char	   *deferrable;
	Oid			attached;		/* the partition's index, if it has one */
	Oid			found;			/* else one like it that isn't attached */
	bool		valid;			/* that one of these */
	bool		found_constraint;	/* it belongs to a constraint of the same
									 * kind */
} DriftIndex;

extern int64 drift_changes(void);
extern List *drift_find(Oid parent);
extern List *drift_repairs(Oid parent);
extern List *drift_indexes(Oid parent);
extern char *drift_expression(char *tree, Oid relation, const char *alias);

#endif							/* SAGAZ_CATALOG_DRIFT_H */
