/*
 * maintain.h
 *		One pass of maintenance: policy, catalog, plan, execute, journal.
 */
#ifndef SAGAZ_MAINTAIN_H
#define SAGAZ_MAINTAIN_H

#include "postgres.h"

#include "catalog/history.h"
#include "catalog/parent.h"
#include "catalog/policy.h"

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
	bool		covered;		/* there is a partition for now */
	List	   *creates;		/* of PlanBound *, in order of time */
	List	   *expired;		/* of ExpiredPartition *, oldest first */
} TablePlan;

typedef void (*MaintainStep) (void *arg);
typedef void (*MaintainEmit) (const JournalEntry *entry, void *arg);

/*
 * One pass while it runs. Foreground and worker differ in what surrounds a
 * step, a subtransaction or a transaction, and in the way of retiring.
 */
typedef struct Pass
{
	TimestampTz now;
	ErrorData  *(*attempt) (MaintainStep step, void *arg);
	void		(*retire) (struct Pass *pass, TablePlan *table);
	MaintainEmit emit;
	void	   *arg;
	bool		background;
	bool		waiting;		/* a partition is draining */
	bool		deferred;		/* a lock could not be had */
} Pass;

extern ErrorData *maintain_attempt(MaintainStep step, void *arg);
extern char *maintain_error_details(const ErrorData *error);
extern TablePlan *maintain_plan_table(Policy *policy, TimestampTz now);
extern void maintain_report(Pass *pass, const TablePlan *table, const char *action,
							Oid partition, const char *partition_name,
							const char *details);
extern void maintain_report_failure(Pass *pass, const TablePlan *table,
									Oid partition, const char *partition_name,
									const ErrorData *error);
extern bool maintain_keep_unfinished(Pass *pass, TablePlan *table,
									 const ExpiredPartition *expired);
extern void maintain_retire_at_once(Pass *pass, TablePlan *table,
									const ExpiredPartition *expired);
extern void maintain_run(Pass *pass, Oid parent);
extern void maintain_foreground(Oid parent, MaintainEmit emit, void *arg);
extern void maintain_plan(TimestampTz at, MaintainEmit emit, void *arg);

#endif							/* SAGAZ_MAINTAIN_H */
