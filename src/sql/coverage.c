/*
 * stats.c
 *		What the managed tables look like now: for people, alerts and metrics.
 *
 * Invariant: reads catalogs and file sizes only, never a table's rows but for
 * one look whether a default partition has any. Works on a standby.
 */
#include "sql/coverage.h"

#include "access/table.h"
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "base/compat.h"
#include "ddl/drain.h"
#include "executor/spi.h"
#include "base/identity.h"
#include "pass/maintain.h"
#include "miscadmin.h"
#include "base/settings.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

/* Rows as the planner would guess them; where nobody counted, those in sight. */
static int64
estimate_rows(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	float4		reltuples = -1;

	if (HeapTupleIsValid(tuple))
	{
		reltuples = ((Form_pg_class) GETSTRUCT(tuple))->reltuples;
		ReleaseSysCache(tuple);
	}
	if (reltuples >= 0)
		return (int64) reltuples;
	return DatumGetInt64(DirectFunctionCall1(pg_stat_get_live_tuples,
											 ObjectIdGetDatum(relid)));
}

static int64
total_bytes(Oid relid)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum		size;

	/* not DirectFunctionCall1(): a table that is just gone has size NULL */
	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(relid);
	fcinfo->args[0].isnull = false;
	size = pg_total_relation_size(fcinfo);
	return fcinfo->isnull ? 0 : DatumGetInt64(size);
}

static void
emit_partition(PartitionStats *stats, Oid relid, const char *state, bool sizes,
			   PartitionStatsEmit emit, void *arg)
{
	stats->relid = relid;
	stats->name = partition_display_name(relid);
	stats->state = state;
	if (stats->name == NULL)
		return;
	stats->total_bytes = sizes ? total_bytes(relid) : -1;
	stats->estimated_rows = estimate_rows(relid);
	emit(stats, arg);
}

static void
table_partitions(const Policy *policy, const ParentInfo *info, bool sizes,
				 PartitionStatsEmit emit, void *arg)
{
	PlanPolicy	plan;
	CalTime		now = policy_key_time(policy, info->key_type, settings_now());
	CalTime		cutoff = CAL_MINUS_INFINITY;
	PartitionStats stats = {policy->parent};

	policy_plan(policy, info->key_type, &plan);
	if (plan.has_retention)
		(void) cal_add(&plan.cal, now, &plan.retention, -1, &cutoff);
	stats.table_name = partition_display_name(policy->parent);
	for (int i = 0; i < info->nparts; i++)
	{
		const PlanBound *bound = &info->bounds[i];

		stats.start = policy_instant(policy, info->key_type, bound->lower);
		stats.end = policy_instant(policy, info->key_type, bound->upper);
		emit_partition(&stats, info->relids[i],
					   bound->upper <= cutoff ? "expired" :
					   bound->upper <= now ? "past" :
					   bound->lower <= now ? "current" : "future",
					   sizes, emit, arg);
	}
	if (OidIsValid(info->pending_relid))
	{
		stats.start = policy_instant(policy, info->key_type, info->pending_bound.lower);
		stats.end = policy_instant(policy, info->key_type, info->pending_bound.upper);
		emit_partition(&stats, info->pending_relid, "detaching", sizes, emit, arg);
	}
	if (OidIsValid(info->default_relid))
	{
		stats.start = DT_NOBEGIN;
		stats.end = DT_NOEND;
		emit_partition(&stats, info->default_relid, "default", sizes, emit, arg);
	}
}

/* Every partition of every managed table. Sizes are what takes long. */
void
stats_partitions(bool sizes, PartitionStatsEmit emit, void *arg)
{
	List	   *policies = policy_load(InvalidOid);
	ListCell   *cell;

	foreach(cell, policies)
	{
		Policy	   *policy = (Policy *) lfirst(cell);
		Relation	rel = try_table_open(policy->parent, AccessShareLock);
		ParentInfo	info;
		ParentProblem problem;

		CHECK_FOR_INTERRUPTS();
		if (rel == NULL)
			continue;
		/* what can't be read is a problem that stats_coverage() tells */
		if (policy->tz != NULL && partition_read_parent(rel, &info, &problem))
			table_partitions(policy, &info, sizes, emit, arg);
		table_close(rel, AccessShareLock);
	}
}

/* Whether a table has a row. Runs no code of its owner. */
static bool
has_rows(Oid relid, Oid owner)
{
	Identity	saved;
	bool		found;

	SPI_connect();
	identity_assume(&saved, owner);
	if (SPI_execute(psprintf("SELECT FROM %s LIMIT 1", partition_qualified_name(relid)),
					true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look into the default partition");
	found = SPI_processed > 0;
	identity_restore(&saved);
	SPI_finish();
	return found;
}

/* What a pending detach waits for. The primary knows; a standby doesn't. */
static char *
waits_for(Oid partition)
{
	MemoryContext context = CurrentMemoryContext;
	Identity	saved;
	char	   *blocker;

	if (RecoveryInProgress())
		return NULL;
	SPI_connect();
	identity_assume(&saved, GetUserId());
	blocker = drain_blocker(partition, settings_now());
	if (blocker == NULL)
		blocker = drain_lock_holders(partition);
	if (blocker != NULL)
		blocker = MemoryContextStrdup(context, blocker);
	identity_restore(&saved);
	SPI_finish();
	return blocker;
}

typedef struct Check
{
	Policy	   *policy;
	CoverageStats *stats;
} Check;

/* Fails where a pass would fail, which is what the caller wants to know. */
static void
check_step(void *arg)
{
	Check	   *check = (Check *) arg;
	Policy	   *policy = check->policy;
	CoverageStats *stats = check->stats;
	TablePlan  *table = maintain_plan_table(policy, settings_now());
	ParentInfo *info;
	CalTime		now;
	CalTime		time;
	PlanBound	hole;
	Oid			schema = get_rel_namespace(policy->parent);

	if (table == NULL)
		return;
	info = &table->info;
	now = policy_key_time(policy, info->key_type, settings_now());
	stats->covered = plan_covered_until(now, info->bounds, info->nparts, &time);
	if (stats->covered)
		stats->covered_until = policy_instant(policy, info->key_type, time);
	if (cal_add(&table->plan.cal, now, &table->plan.interval, policy->premake, &time))
		stats->premade_until = policy_instant(policy, info->key_type, time);
	stats->holes = plan_holes(&table->plan, now, info->bounds, info->nparts, &hole);
	if (stats->holes > 0)
		stats->first_hole = policy_instant(policy, info->key_type, hole.lower);
	stats->default_partition = info->default_relid;
	stats->pending_partition = info->pending_relid;
	if (OidIsValid(info->pending_relid))
		stats->pending_waits_for = waits_for(info->pending_relid);
	if (OidIsValid(info->default_relid))
		stats->default_has_rows = has_rows(info->default_relid, info->owner);
	policy_recheck(policy, info->owner);
	if (!sagaz_may_create_in(schema, info->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("owner %s may not create tables in schema %s",
						GetUserNameFromId(info->owner, false), get_namespace_name(schema))));
}

/* Until when inserts succeed, and what stands in the way of maintenance. */
void
stats_coverage(CoverageStatsEmit emit, void *arg)
{
	List	   *policies = policy_load(InvalidOid);
	ListCell   *cell;

	foreach(cell, policies)
	{
		Policy	   *policy = (Policy *) lfirst(cell);
		CoverageStats stats = {policy->parent};
		Check		check = {policy, &stats};
		ErrorData  *error;

		CHECK_FOR_INTERRUPTS();
		stats.table_name = partition_display_name(policy->parent);
		if (stats.table_name == NULL)
			continue;
		error = maintain_attempt(check_step, &check);
		if (error != NULL)
			stats.problem = maintain_error_details(error);
		emit(&stats, arg);
	}
}
