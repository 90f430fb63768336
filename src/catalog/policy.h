/*
 * policy.h
 *		How each table wants to be maintained.
 */
#ifndef SAGAZ_POLICY_H
#define SAGAZ_POLICY_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "pgtime.h"
#include "bounds/plan.h"

typedef struct Policy
{
	Oid			parent;
	Interval	interval;
	int			premake;
	Interval   *retention;		/* NULL: for ever */
	char	   *retention_action;	/* drop, detach or archive */
	char	   *archive_schema;	/* NULL unless retention_action is archive */
	char	   *unfinished_when;	/* NULL: nothing is ever unfinished */
	char	   *time_zone;
	pg_tz	   *tz;
	char	   *tablespace;
	List	   *storage_parameters; /* of char *, "name=value" */
	bool		auto_analyze;
	bool		auto_freeze;
	bool		drops_held;		/* until an operator agrees */
	bool		restored;		/* they are, because the server was restored */
	TimestampTz restore_to_note;	/* the row doesn't say so yet; 0: it does */
} Policy;

extern List *policy_load(Oid parent);
extern void policy_register(Policy *policy);
extern void policy_recheck(const Policy *policy, Oid owner);
extern bool policy_delete(Oid parent);
extern bool policy_hold_drops(const Policy *policy);
extern bool policy_resume_drops(Oid parent);
extern int	policy_delete_orphans(void);
extern char *policy_archive_schema(const Policy *policy);
extern pg_tz *policy_time_zone(const char *name);
extern void policy_plan(const Policy *policy, Oid key_type, PlanPolicy *plan);
extern CalTime policy_key_time(const Policy *policy, Oid key_type, TimestampTz t);
extern TimestampTz policy_instant(const Policy *policy, Oid key_type, CalTime t);

#endif							/* SAGAZ_POLICY_H */
