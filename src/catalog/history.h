/*
 * history.h
 *		The log of what maintenance did and found, and its notifications.
 */
#ifndef SAGAZ_CATALOG_HISTORY_H
#define SAGAZ_CATALOG_HISTORY_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* What a pass did, or found; ATTACH, FREEZE and DRIFT stand in the history only. */
typedef enum Action
{
	ACTION_CREATE,
	ACTION_DETACH,
	ACTION_DROP,
	ACTION_KEEP,
	ACTION_DEFER,
	ACTION_ANALYZE,
	ACTION_ERROR,
	ACTION_ATTACH,
	ACTION_FREEZE,
	ACTION_DRIFT,
	ACTION_REPAIR
} Action;

/* What a row is about. */
typedef struct Subject
{
	Oid			parent;
	const char *table_name;
	Oid			partition;		/* InvalidOid where there is none yet */
	const char *partition_name; /* NULL: the table as a whole */
} Subject;

/* One row of maintain_all_partitions(), and of the history. */
typedef struct Record
{
	Subject		subject;
	Action		action;
	const char *details;
} Record;

extern const char *history_action_name(Action action);
extern void history_add(const Record *record, TimestampTz now);
extern void history_prune(TimestampTz before);

#endif							/* SAGAZ_CATALOG_HISTORY_H */
