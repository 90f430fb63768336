/*
 * table_plan.h
 *		What a table needs, as of one moment.
 */
#ifndef SAGAZ_PASS_TABLE_PLAN_H
#define SAGAZ_PASS_TABLE_PLAN_H

#include "postgres.h"

#include "catalog/parent.h"
#include "catalog/policy.h"

/* A partition whose whole range is older than the retention. */
typedef struct ExpiredPartition
{
	Oid			relid;
	PlanBound	bound;
} ExpiredPartition;

typedef struct TablePlan
{
	Policy	   *policy;
	char	   *table_name;
	ParentInfo	info;
	PlanPolicy	plan;
	bool		covered;		/* there is a partition for now */
	int			patience;		/* ms that the locks for creates are worth */
	List	   *ties;			/* tables whose locks these need, beside its
								 * own */
	List	   *creates;		/* of PlanBound *, in order of time */
	List	   *cracks;			/* of PlanBound *: holes to be closed by
								 * widening a partition */
	List	   *expired;		/* of ExpiredPartition *, oldest first */
} TablePlan;

extern TablePlan *table_plan_make(Policy *policy, TimestampTz now);
extern int	table_plan_patience(const PlanPolicy *plan, CalTime now, const ParentInfo *info);
extern int	table_plan_due(const TablePlan *table, TimestampTz now, int within);
extern bool table_plan_expires(const TablePlan *table, Oid partition);
extern char *table_plan_new_name(const TablePlan *table, const PlanBound *bound);
extern char *table_plan_bound_details(const TablePlan *table, const PlanBound *bound);

#endif							/* SAGAZ_PASS_TABLE_PLAN_H */
