/*
 * keys.c
 *		Times as keys, for queries.
 *
 * Invariant: checks arguments and shapes rows; the work is done below.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/rows.h"
#include "catalog/key.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "pass/key_sample.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

SAGAZ_FUNCTION(sagaz_uuidv7_at);
SAGAZ_FUNCTION(sagaz_ulid_at);
SAGAZ_FUNCTION(sagaz_unix_seconds_at);
SAGAZ_FUNCTION(sagaz_unix_milliseconds_at);
SAGAZ_FUNCTION(sagaz_unix_microseconds_at);
SAGAZ_FUNCTION(sagaz_snowflake_at);
SAGAZ_FUNCTION(sagaz_key_samples);

/* The least value of the first argument's time. */
static Datum
key_at(FunctionCallInfo fcinfo, Oid type, const char *encoding)
{
	return key_datum(key_kind_told(type, encoding), PG_GETARG_TIMESTAMPTZ(0));
}

/* uuidv7_at(at) */
Datum
sagaz_uuidv7_at(PG_FUNCTION_ARGS)
{
	return key_at(fcinfo, UUIDOID, NULL);
}

/* ulid_at(at) */
Datum
sagaz_ulid_at(PG_FUNCTION_ARGS)
{
	return key_at(fcinfo, TEXTOID, NULL);
}

/* unix_seconds_at(at) */
Datum
sagaz_unix_seconds_at(PG_FUNCTION_ARGS)
{
	return key_at(fcinfo, INT8OID, "unix seconds");
}

/* unix_milliseconds_at(at) */
Datum
sagaz_unix_milliseconds_at(PG_FUNCTION_ARGS)
{
	return key_at(fcinfo, INT8OID, "unix milliseconds");
}

/* unix_microseconds_at(at) */
Datum
sagaz_unix_microseconds_at(PG_FUNCTION_ARGS)
{
	return key_at(fcinfo, INT8OID, "unix microseconds");
}

/* snowflake_at(at, encoding) */
Datum
sagaz_snowflake_at(PG_FUNCTION_ARGS)
{
	char	   *encoding = text_to_cstring(PG_GETARG_TEXT_PP(1));

	if (strncmp(encoding, "snowflake", strlen("snowflake")) != 0 ||
		key_kind_told(INT8OID, encoding) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid encoding \"%s\" of Snowflakes", encoding),
				 errhint("Use 'snowflake' (Twitter's), 'snowflake discord', or 'snowflake <epoch in ms> <shift>'.")));
	return key_at(fcinfo, INT8OID, encoding);
}

static void
add_sample(const KeySample *sample, void *arg)
{
	Datum		values[5];
	bool		nulls[5] = {0};

	values[0] = CStringGetTextDatum(sample->table_name);
	values[1] = rows_text(sample->partition_name, &nulls[1]);
	values[2] = CStringGetTextDatum(sample->wanted);
	values[3] = Int32GetDatum(sample->sampled);
	values[4] = Int32GetDatum(sample->others);
	rows_add((FunctionCallInfo) arg, values, nulls);
}

/* _key_samples() */
Datum
sagaz_key_samples(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	key_sample_tables(add_sample, fcinfo);
	return (Datum) 0;
}
