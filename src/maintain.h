/*
 * maintain.h
 *		One pass of maintenance: policy, catalog, plan, execute, journal.
 */
#ifndef SAGAZ_MAINTAIN_H
#define SAGAZ_MAINTAIN_H

#include "postgres.h"

#include "journal.h"
#include "partition.h"
#include "policy.h"

/* A partition whose whole range is older than the retention. */
typedef struct ExpiredPartition
{
	Oid			relid;
	PlanBound	bound;
} ExpiredPartition;

/* What a table needs, as of one moment. */
typedef struct TablePlan
{
	Policy	   *policy;
	char	   *table_name;
	ParentInfo	info;
	PlanPolicy	plan;
	List	   *creates;		/* of PlanBound *, in order of time */
	List	   *expired;		/* of ExpiredPartition *, oldest first */
} TablePlan;

typedef void (*MaintainEmit) (const JournalEntry *entry, void *arg);

extern TablePlan *maintain_plan_table(Policy *policy, TimestampTz now);
extern void maintain_plan(TimestampTz at, MaintainEmit emit, void *arg);
extern void maintain_foreground(Oid parent, MaintainEmit emit, void *arg);
extern ErrorData *maintain_attempt(void (*step) (void *), void *arg);
extern char *maintain_error_details(const ErrorData *error);

#endif							/* SAGAZ_MAINTAIN_H */
