/*
 * unique_key.h
 *		Which columns of which tables are unique across partitions, and how far
 *		that has come.
 */
#ifndef SAGAZ_CATALOG_UNIQUE_KEY_H
#define SAGAZ_CATALOG_UNIQUE_KEY_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

typedef enum UniquePhase
{
	UNIQUE_BUILDING,			/* partitions get their indexes */
	UNIQUE_CHECKING,			/* in force for new rows; older ones are
								 * looked at */
	UNIQUE_IN_FORCE
} UniquePhase;

typedef struct UniqueKeyRow
{
	Oid			parent;
	char	   *name;			/* of the constraint */
	List	   *columns;		/* of char *, as they were called when it was
								 * added */
	Interval   *within;			/* NULL: all rows */
	bool		skips;			/* a duplicate is dropped silently */
	UniquePhase phase;
} UniqueKeyRow;

extern List *unique_key_load(Oid parent);
extern void unique_key_add(const UniqueKeyRow *row, TimestampTz now);
extern void unique_key_set_phase(Oid parent, const char *name, UniquePhase phase);
extern bool unique_key_lacks_triggers(const UniqueKeyRow *row);
extern bool unique_key_remove(Oid parent, const char *name);

#endif							/* SAGAZ_CATALOG_UNIQUE_KEY_H */
