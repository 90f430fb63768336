/*
 * policy.h
 *		How each table wants to be maintained.
 */
#ifndef SAGAZ_CATALOG_POLICY_H
#define SAGAZ_CATALOG_POLICY_H

#include "postgres.h"

#include "bounds/plan.h"
#include "catalog/key.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "pgtime.h"

/* What happens to an expired partition. */
typedef enum RetentionAction
{
	RETENTION_DROP,
	RETENTION_DETACH,
	RETENTION_ARCHIVE			/* detach, and move to archive_schema */
} RetentionAction;

typedef struct Policy
{
	Oid			parent;
	char	   *name;			/* without its schema */
	Interval	interval;
	int			premake;
	Interval   *retention;		/* NULL: for ever */
	RetentionAction action;
	char	   *archive_schema; /* NULL unless the action is RETENTION_ARCHIVE */
	char	   *unfinished_when;	/* NULL: nothing is ever unfinished */
	char	   *time_zone;
	pg_tz	   *tz;
	char	   *tablespace;
	List	   *storage_parameters; /* of char *, "name=value" */
	bool		auto_analyze;
	bool		auto_freeze;
	char	   *before_drop;	/* name of a function; NULL: none is asked */
	bool		plain;			/* a new partition is a plain table, whatever
								 * shape the newest has */
	char	   *key_encoding;	/* NULL: the key's type says it all */
	bool		protect;		/* partitions with rows don't go by accident */
	bool		drops_held_back;	/* until an operator agrees */
	bool		restored;		/* the reason is that the server was restored */
	bool		asleep;			/* came in a restore, and may not be whole yet */
	TimestampTz restore_to_note;	/* the row doesn't say so yet; 0: it does */
} Policy;

extern List *policy_load(Oid parent);
extern List *policy_load_used(void);
extern char *policy_key_encoding(Oid parent);
extern const char *policy_action_name(RetentionAction action);
extern bool policy_parse_action(const char *name, RetentionAction *action);
extern char *policy_archive_schema(const Policy *policy);
extern pg_tz *policy_time_zone(const char *name);
extern void policy_plan(const Policy *policy, const KeyKind *kind, PlanPolicy *plan);
extern TimestampTz policy_instant_of_local(const Policy *policy, CalTime local);
extern CalTime policy_key_time(const Policy *policy, const KeyKind *kind, TimestampTz t);
extern TimestampTz policy_instant(const Policy *policy, const KeyKind *kind, CalTime t);

#endif							/* SAGAZ_CATALOG_POLICY_H */
