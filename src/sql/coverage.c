/*
 * coverage.c
 *		Partitions and tables as they are now, as rows.
 *
 * Invariant: checks arguments and shapes rows; the work is done below.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/rows.h"
#include "base/settings.h"
#include "funcapi.h"
#include "pass/coverage.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

SAGAZ_FUNCTION(sagaz_partitions);
SAGAZ_FUNCTION(sagaz_statistics);
SAGAZ_FUNCTION(sagaz_coverage);

static void
add_partition(const PartitionStats *stats, void *arg)
{
	Datum		values[9];
	bool		nulls[9] = {0};

	values[0] = ObjectIdGetDatum(stats->parent);
	values[1] = CStringGetTextDatum(stats->table_name);
	values[2] = ObjectIdGetDatum(stats->relid);
	values[3] = CStringGetTextDatum(stats->name);
	values[4] = TimestampTzGetDatum(stats->start);
	values[5] = TimestampTzGetDatum(stats->end);
	values[6] = CStringGetTextDatum(stats->state);
	values[7] = Int64GetDatum(stats->total_bytes);
	nulls[7] = stats->total_bytes < 0;
	values[8] = Int64GetDatum(stats->estimated_rows);
	nulls[8] = stats->estimated_rows < 0;
	rows_add((FunctionCallInfo) arg, values, nulls);
}

/* partitions(sizes): every partition of every managed table. */
Datum
sagaz_partitions(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	coverage_partitions(PG_ARGISNULL(0) || PG_GETARG_BOOL(0), settings_now(),
						add_partition, fcinfo);
	return (Datum) 0;
}

static void
add_sum(const TableStats *stats, void *arg)
{
	Datum		values[10];
	bool		nulls[10] = {0};

	values[0] = ObjectIdGetDatum(stats->parent);
	values[1] = CStringGetTextDatum(stats->table_name);
	values[2] = Int64GetDatum(stats->partitions);
	values[3] = rows_text(stats->oldest, &nulls[3]);
	values[4] = rows_text(stats->newest, &nulls[4]);
	values[5] = Int64GetDatum(stats->total_bytes);
	values[6] = Int64GetDatum(stats->estimated_rows);
	values[7] = Int64GetDatum(stats->kept);
	values[8] = TimestampTzGetDatum(stats->covered_until);
	nulls[8] = !stats->covered;
	values[9] = rows_time(stats->premade_until, &nulls[9]);
	rows_add((FunctionCallInfo) arg, values, nulls);
}

/* _statistics(): what each managed table's partitions come to. */
Datum
sagaz_statistics(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	coverage_statistics(settings_now(), add_sum, fcinfo);
	return (Datum) 0;
}

static void
add_table(const CoverageStats *stats, void *arg)
{
	Datum		values[12];
	bool		nulls[12] = {0};

	values[0] = ObjectIdGetDatum(stats->parent);
	values[1] = CStringGetTextDatum(stats->table_name);
	values[2] = TimestampTzGetDatum(stats->covered_until);
	nulls[2] = !stats->covered;
	values[3] = rows_time(stats->premade_until, &nulls[3]);
	values[4] = Int32GetDatum(stats->holes);
	values[5] = TimestampTzGetDatum(stats->first_hole);
	nulls[5] = stats->holes == 0;
	values[6] = rows_oid(stats->default_partition, &nulls[6]);
	values[7] = BoolGetDatum(stats->default_has_rows);
	values[8] = rows_oid(stats->pending_partition, &nulls[8]);
	values[9] = rows_text(stats->pending_waits_for, &nulls[9]);
	values[10] = rows_text(stats->problem, &nulls[10]);
	values[11] = rows_oid(stats->catch_all, &nulls[11]);
	rows_add((FunctionCallInfo) arg, values, nulls);
}

/* coverage(): until when inserts succeed, per managed table. */
Datum
sagaz_coverage(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	coverage_tables(settings_now(), add_table, fcinfo);
	return (Datum) 0;
}
