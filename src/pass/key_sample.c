/*
 * key_sample.c
 *		Whether rows have the keys that their table is said to have.
 *
 * A UUID of another version than 7 carries no time: its row lands in a random
 * century, or is refused. Only of UUIDv7 and of ULIDs as text can one tell.
 *
 * Invariant: reads a few rows of a partition as the table's owner, and takes no
 * lock that a writer would notice. Works on a standby.
 */
#include "pass/key_sample.h"

#include "access/table.h"
#include "base/attempt.h"
#include "base/sql.h"
#include "catalog/names.h"
#include "catalog/parent.h"
#include "catalog/policy.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

/* Rows that are looked at, of one partition and, at registration, of a table. */
#define SAMPLE			100
#define SAMPLE_OF_TABLE	1000

static bool
has_pages(Oid relid)
{
	LOCAL_FCINFO(fcinfo, 2);
	Datum		size;

	/* not DirectFunctionCall2(): a table that is just gone has size NULL */
	InitFunctionCallInfoData(*fcinfo, NULL, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(relid);
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = PointerGetDatum(cstring_to_text("main"));
	fcinfo->args[1].isnull = false;
	size = pg_relation_size(fcinfo);
	return !fcinfo->isnull && DatumGetInt64(size) > 0;
}

/* Adds up to SAMPLE rows of a partition to the sample; whether it has any. */
static bool
sample_partition(const ParentInfo *info, Oid partition, KeySample *sample)
{
	SqlSession	session;
	char	   *query;
	uint64		rows;

	if (get_rel_relkind(partition) != RELKIND_RELATION || !has_pages(partition))
		return false;
	query = psprintf("SELECT %s FROM %s LIMIT %d", quote_identifier(parent_key_name(info)),
					 names_qualified(partition), SAMPLE);
	sql_begin(&session, info->owner);
	rows = sql_execute(query, NULL);
	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;
		Datum		value = sql_value(i, 1, &isnull);

		/* in a default partition */
		if (isnull)
			continue;
		sample->sampled++;
		if (!key_is_proper(info->kind, value))
			sample->others++;
	}
	sql_end(&session);
	return rows > 0;
}

typedef struct SampleStep
{
	Oid			parent;
	bool		newest_only;
	KeySample	sample;
} SampleStep;

/* Newest first; without a size a partition isn't opened. */
static void
sample_step(void *arg)
{
	SampleStep *step = (SampleStep *) arg;
	KeySample  *sample = &step->sample;
	Relation	rel = try_table_open(step->parent, AccessShareLock);
	ParentInfo	info;
	ParentProblem problem;

	if (rel == NULL)
		return;
	if (parent_read(rel, &info, &problem))
		sample->wanted = key_proper_name(info.kind);
	table_close(rel, NoLock);
	if (sample->wanted == NULL)
		return;
	if (!step->newest_only && OidIsValid(info.default_relid))
		(void) sample_partition(&info, info.default_relid, sample);
	for (int i = info.nparts - 1; i >= 0 && sample->sampled < SAMPLE_OF_TABLE; i--)
	{
		CHECK_FOR_INTERRUPTS();
		if (!sample_partition(&info, info.relids[i], sample) || !step->newest_only)
			continue;
		sample->partition_name = names_display(info.relids[i]);
		break;
	}
}

/* Tells of each table whose keys can be told from others, of its newest partition with rows. */
void
key_sample_tables(KeySampleEmit emit, void *arg)
{
	List	   *policies = policy_load_used();
	ListCell   *cell;

	foreach(cell, policies)
	{
		SampleStep	step = {((Policy *) lfirst(cell))->parent, true};

		CHECK_FOR_INTERRUPTS();
		/* what can't be read is a problem that coverage_tables() tells */
		if (attempt_in_subtransaction(sample_step, &step) != NULL || step.sample.wanted == NULL)
			continue;
		step.sample.table_name = names_display(step.parent);
		if (step.sample.table_name != NULL)
			emit(&step.sample, arg);
	}
}

/* Warns when rows that a table has already have other keys. */
void
key_sample_warn(Oid parent)
{
	SampleStep	step = {parent, false};
	ErrorData  *error = attempt_in_subtransaction(sample_step, &step);

	if (error != NULL)
		ReThrowError(error);
	if (step.sample.others == 0)
		return;
	ereport(WARNING,
			(errmsg("%d of a sample of %d rows of table %s have a key that is no %s",
					step.sample.others, step.sample.sampled, names_display(parent),
					step.sample.wanted),
			 errdetail("Such a key carries no time: its row is in the partition of a random time, or finds none."),
			 errhint("Have them made by the client, and guard the column with a CHECK constraint; doc/partitioning.md has one.")));
}
