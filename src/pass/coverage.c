/*
 * coverage.c
 *		What the managed tables look like now: for people, alerts and metrics.
 *
 * Invariant: reads catalogs and file sizes only, never a table's rows but for
 * one look whether a default partition has any. Works on a standby.
 */
#include "pass/coverage.h"

#include "access/table.h"
#include "access/xlog.h"
#include "base/attempt.h"
#include "base/compat.h"
#include "base/sql.h"
#include "catalog/citus.h"
#include "catalog/names.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/problem.h"
#include "catalog/register.h"
#include "catalog/size.h"
#include "ddl/drain.h"
#include "ddl/locks.h"
#include "ddl/unfinished.h"
#include "miscadmin.h"
#include "pass/table_plan.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

/* What a partition's row of pg_class says. */
typedef struct ClassRow
{
	char	   *name;
	Oid			schema;
	char		relkind;
	float4		reltuples;
} ClassRow;

static bool
read_class_row(Oid relid, ClassRow *row)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_class) GETSTRUCT(tuple);
	row->name = pstrdup(NameStr(form->relname));
	row->schema = form->relnamespace;
	row->relkind = form->relkind;
	row->reltuples = form->reltuples;
	ReleaseSysCache(tuple);
	return true;
}

/* Rows as the planner would guess them; where there are no statistics, the live ones. */
static int64
estimate_rows(Oid relid, float4 reltuples)
{
	if (reltuples >= 0)
		return (int64) reltuples;
	return DatumGetInt64(DirectFunctionCall1(pg_stat_get_live_tuples,
											 ObjectIdGetDatum(relid)));
}

/* A table's partitions added up. */
typedef struct Sum
{
	TableStats	stats;
	const struct Listed *oldest;
	const struct Listed *newest;
} Sum;

/* A partition that will be told of, and where its rows are. */
typedef struct Listed
{
	PartitionStats stats;
	Sum		   *sum;
	char	   *name;			/* without its schema */
	Oid			schema;
	List	   *tables;
	Oid			owner;
	bool		distributed;
} Listed;

typedef struct Listing
{
	TimestampTz now;
	List	   *partitions;		/* of Listed */
	int			ntables;
	Sum		   *sum;			/* of the table that is being listed, or NULL */
} Listing;

/* The partition itself, or if it is partitioned, what has its rows. */
static void
list_tables_with_rows(Listed *listed, const ClassRow *row)
{
	ListCell   *cell;
	ClassRow	leaf;

	if (row->relkind != RELKIND_PARTITIONED_TABLE)
	{
		listed->tables = list_make1_oid(listed->stats.relid);
		listed->stats.estimated_rows = estimate_rows(listed->stats.relid, row->reltuples);
		return;
	}
	foreach(cell, find_all_inheritors(listed->stats.relid, NoLock, NULL))
	{
		if (!read_class_row(lfirst_oid(cell), &leaf) || leaf.relkind == RELKIND_PARTITIONED_TABLE)
			continue;
		listed->tables = lappend_oid(listed->tables, lfirst_oid(cell));
		listed->stats.estimated_rows += estimate_rows(lfirst_oid(cell), leaf.reltuples);
	}
}

static void
list_partition(Listing *listing, const ParentInfo *info, const PartitionStats *stats,
			   Oid relid, const char *state)
{
	Listed	   *listed;
	ClassRow	row;

	if (!read_class_row(relid, &row))
		return;
	listed = palloc0(sizeof(Listed));
	listed->stats = *stats;
	listed->stats.relid = relid;
	listed->stats.state = state;
	listed->stats.total_bytes = -1;
	listed->sum = listing->sum;
	listed->name = row.name;
	listed->schema = row.schema;
	listed->owner = info->owner;
	listed->distributed = info->distributed;
	list_tables_with_rows(listed, &row);
	/* of a distributed table this server has neither rows nor statistics */
	if (info->distributed)
		listed->stats.estimated_rows = -1;
	listing->partitions = lappend(listing->partitions, listed);
	listing->ntables += list_length(listed->tables);
}

/* -1 when one of the tables is gone, or Citus can't be asked. */
static int64
listed_bytes(const Listed *listed, SizeReader *reader)
{
	int64		total = 0;
	ListCell   *cell;

	foreach(cell, listed->tables)
	{
		Oid			table = lfirst_oid(cell);
		int64		bytes = listed->distributed ? citus_total_bytes(table, listed->owner)
			: size_of_table(reader, table);

		if (bytes < 0)
			return -1;
		total += bytes;
	}
	return total;
}

static void
read_sizes(const Listing *listing)
{
	SizeReader *reader = size_begin(listing->ntables);
	ListCell   *cell;

	foreach(cell, listing->partitions)
	{
		Listed	   *listed = (Listed *) lfirst(cell);

		listed->stats.total_bytes = listed_bytes(listed, reader);
	}
	size_end(reader);
}

static const char *
state_of(const PlanBound *bound, CalTime now, CalTime cutoff)
{
	if (bound->upper <= cutoff)
		return "expired";
	if (bound->upper <= now)
		return "past";
	return bound->lower <= now ? "current" : "future";
}

static void
list_table(Listing *listing, const Policy *policy, const ParentInfo *info)
{
	PlanPolicy	plan;
	CalTime		now = policy_key_time(policy, info->kind, listing->now);
	CalTime		cutoff = CAL_MINUS_INFINITY;
	PartitionStats stats = {policy->parent};

	policy_plan(policy, info->kind, &plan);
	if (plan.has_retention)
		(void) cal_add(&plan.cal, now, &plan.retention, -1, &cutoff);
	stats.table_name = names_display(policy->parent);
	for (int i = 0; i < info->nparts; i++)
	{
		stats.start = policy_instant(policy, info->kind, info->bounds[i].lower);
		stats.end = policy_instant(policy, info->kind, info->bounds[i].upper);
		list_partition(listing, info, &stats, info->relids[i],
					   state_of(&info->bounds[i], now, cutoff));
	}
	if (OidIsValid(info->pending_relid))
	{
		stats.start = policy_instant(policy, info->kind, info->pending_bound.lower);
		stats.end = policy_instant(policy, info->kind, info->pending_bound.upper);
		list_partition(listing, info, &stats, info->pending_relid, "detaching");
	}
	if (OidIsValid(info->default_relid))
	{
		stats.start = DT_NOBEGIN;
		stats.end = DT_NOEND;
		list_partition(listing, info, &stats, info->default_relid, "default");
	}
}

/* Until when inserts succeed, and what the policy wants. */
static void
measure_ahead(const Policy *policy, const ParentInfo *info, TimestampTz at, TableStats *stats)
{
	PlanPolicy	plan;
	CalTime		now = policy_key_time(policy, info->kind, at);
	CalTime		time;

	policy_plan(policy, info->kind, &plan);
	stats->covered = plan_covered_until(now, info->bounds, info->nparts, &time);
	if (stats->covered)
		stats->covered_until = policy_instant(policy, info->kind, time);
	if (cal_add(&plan.cal, now, &plan.interval, policy->premake, &time))
		stats->premade_until = policy_instant(policy, info->kind, time);
}

/* Lists a policy's partitions, and if there is a sum, what is ahead; false when the table is gone. */
static bool
list_policy(Listing *listing, const Policy *policy)
{
	Relation	rel = try_table_open(policy->parent, AccessShareLock);
	ParentInfo	info;
	ParentProblem problem;

	CHECK_FOR_INTERRUPTS();
	if (rel == NULL)
		return false;
	/* what can't be read is a problem that coverage_tables() tells */
	if (policy->tz != NULL && parent_read(rel, &info, &problem))
	{
		list_table(listing, policy, &info);
		if (listing->sum != NULL)
			measure_ahead(policy, &info, listing->now, &listing->sum->stats);
	}
	table_close(rel, AccessShareLock);
	return true;
}

/* Tells of every partition of every managed table. Sizes are what takes long. */
void
coverage_partitions(bool sizes, TimestampTz now, PartitionStatsEmit emit, void *arg)
{
	Listing		listing = {now};
	Oid			extension_schema = names_extension_schema();
	ListCell   *cell;

	foreach(cell, policy_load_used())
		(void) list_policy(&listing, (Policy *) lfirst(cell));
	if (sizes)
		read_sizes(&listing);
	foreach(cell, listing.partitions)
	{
		Listed	   *listed = (Listed *) lfirst(cell);

		listed->stats.name = names_display_as(extension_schema, listed->schema, listed->name);
		emit(&listed->stats, arg);
	}
}

static void
add_up(const Listed *listed, List *kept)
{
	const PartitionStats *stats = &listed->stats;
	Sum		   *sum = listed->sum;

	sum->stats.partitions++;
	sum->stats.total_bytes += Max(stats->total_bytes, 0);
	sum->stats.estimated_rows += Max(stats->estimated_rows, 0);
	if (strcmp(stats->state, "default") == 0)
		return;
	if (strcmp(stats->state, "expired") == 0 && list_member_oid(kept, stats->relid))
		sum->stats.kept++;
	if (sum->oldest == NULL || stats->start < sum->oldest->stats.start)
		sum->oldest = listed;
	if (sum->newest == NULL || stats->start > sum->newest->stats.start)
		sum->newest = listed;
}

/* Tells of every managed table what its partitions come to. */
void
coverage_statistics(TimestampTz now, TableStatsEmit emit, void *arg)
{
	Listing		listing = {now};
	Oid			extension_schema = names_extension_schema();
	List	   *kept = problem_kept_partitions();
	List	   *sums = NIL;
	ListCell   *cell;

	foreach(cell, policy_load_used())
	{
		Policy	   *policy = (Policy *) lfirst(cell);

		listing.sum = palloc0(sizeof(Sum));
		listing.sum->stats.parent = policy->parent;
		listing.sum->stats.table_name = names_display_from(extension_schema, policy->parent);
		if (listing.sum->stats.table_name != NULL && list_policy(&listing, policy))
			sums = lappend(sums, listing.sum);
	}
	read_sizes(&listing);
	foreach(cell, listing.partitions)
		add_up((Listed *) lfirst(cell), kept);
	foreach(cell, sums)
	{
		Sum		   *sum = (Sum *) lfirst(cell);

		if (sum->oldest != NULL)
		{
			sum->stats.oldest = names_display_as(extension_schema, sum->oldest->schema, sum->oldest->name);
			sum->stats.newest = names_display_as(extension_schema, sum->newest->schema, sum->newest->name);
		}
		emit(&sum->stats, arg);
	}
}

/* What a pending detach waits for. The primary knows; a standby doesn't. */
static char *
waits_for(Oid partition, TimestampTz now)
{
	SqlSession	session;
	DrainBlocker blocker;
	char	   *whom;

	if (RecoveryInProgress())
		return NULL;
	sql_begin(&session, GetUserId());
	drain_find_blocker(partition, now, now, &blocker);
	whom = blocker.details ? blocker.details : locks_holders(partition, false);
	if (whom != NULL)
		whom = MemoryContextStrdup(session.caller, whom);
	sql_end(&session);
	return whom;
}

typedef struct CoverageStep
{
	Policy	   *policy;
	TimestampTz now;
	CoverageStats *stats;
} CoverageStep;

/* The numbers that follow from the plan alone. */
static void
measure_plan(const TablePlan *table, TimestampTz at, CoverageStats *stats)
{
	const Policy *policy = table->policy;
	const ParentInfo *info = &table->info;
	CalTime		now = policy_key_time(policy, info->kind, at);
	int			catch_all = plan_catch_all(info->bounds, info->nparts);
	CalTime		time;
	PlanBound	hole;

	stats->covered = plan_covered_until(now, info->bounds, info->nparts, &time);
	if (stats->covered)
		stats->covered_until = policy_instant(policy, info->kind, time);
	if (cal_add(&table->plan.cal, now, &table->plan.interval, policy->premake, &time))
		stats->premade_until = policy_instant(policy, info->kind, time);
	if (catch_all >= 0)
		stats->catch_all = info->relids[catch_all];
	stats->holes = plan_holes(&table->plan, now, info->bounds, info->nparts, &hole);
	if (stats->holes > 0)
		stats->first_hole = policy_instant(policy, info->kind, hole.lower);
}

/* Fails where a pass would fail, which is what the caller wants to know. */
static void
coverage_step(void *arg)
{
	CoverageStep *step = (CoverageStep *) arg;
	Policy	   *policy = step->policy;
	CoverageStats *stats = step->stats;
	TablePlan  *table = table_plan_make(policy, step->now);
	const ParentInfo *info;
	Oid			schema = get_rel_namespace(policy->parent);

	if (table == NULL)
		return;
	info = &table->info;
	measure_plan(table, step->now, stats);
	stats->default_partition = info->default_relid;
	stats->pending_partition = info->pending_relid;
	if (OidIsValid(info->pending_relid))
		stats->pending_waits_for = waits_for(info->pending_relid, step->now);
	if (OidIsValid(info->default_relid))
		stats->default_has_rows = unfinished_has_rows(info->default_relid);
	register_recheck(policy, info->owner);
	if (!sagaz_may_create_in(schema, info->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("owner %s may not create tables in schema %s",
						GetUserNameFromId(info->owner, false), get_namespace_name(schema))));
}

/* Tells of each table until when inserts succeed, and what hinders maintenance. */
void
coverage_tables(TimestampTz now, CoverageStatsEmit emit, void *arg)
{
	List	   *policies = policy_load_used();
	ListCell   *cell;

	foreach(cell, policies)
	{
		Policy	   *policy = (Policy *) lfirst(cell);
		CoverageStats stats = {policy->parent};
		CoverageStep step = {policy, now, &stats};
		ErrorData  *error;

		CHECK_FOR_INTERRUPTS();
		stats.table_name = names_display(policy->parent);
		if (stats.table_name == NULL)
			continue;
		error = attempt_in_subtransaction(coverage_step, &step);
		if (error != NULL)
			stats.problem = attempt_error_text(error);
		emit(&stats, arg);
	}
}
