/*
 * rows.c
 *		C values as values of a row.
 */
#include "base/rows.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* A text; NULL is null. */
Datum
rows_text(const char *value, bool *isnull)
{
	*isnull = value == NULL;
	return value ? CStringGetTextDatum(value) : (Datum) 0;
}

/* An OID; InvalidOid is null. */
Datum
rows_oid(Oid value, bool *isnull)
{
	*isnull = !OidIsValid(value);
	return ObjectIdGetDatum(value);
}

/* A time; 0 is null. */
Datum
rows_time(TimestampTz value, bool *isnull)
{
	*isnull = value == 0;
	return TimestampTzGetDatum(value);
}

/* A duration, as an interval of nothing but time. */
Datum
rows_interval(TimeOffset usec)
{
	Interval   *result = (Interval *) palloc0(sizeof(Interval));

	result->time = usec;
	return IntervalPGetDatum(result);
}

/* The one row of a function that returns a record. */
Datum
rows_one(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc	tupdesc;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls));
}

/* One more row of a function that returns a set, after InitMaterializedSRF(). */
void
rows_add(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}
