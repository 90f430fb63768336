/*
 * key.c
 *		Kinds of partition key: how a value becomes a time, and a time a bound.
 *
 * Invariant: what is written here is read again as the same value, whatever the
 * session's DateStyle and TimeZone are.
 */
#include "catalog/key.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

/* pg_opfamily's datetime_ops, which has no symbol */
#define DATETIME_BTREE_FAMILY	434

static CalTime
timestamp_to_time(Datum value)
{
	/* -infinity and infinity are the least and the greatest value here too */
	return DatumGetTimestamp(value);
}

static CalTime
date_to_time(Datum value)
{
	DateADT		date = DatumGetDateADT(value);

	if (DATE_IS_NOBEGIN(date))
		return CAL_MINUS_INFINITY;
	if (DATE_IS_NOEND(date) || date >= CAL_END / CAL_DAY)
		return CAL_INFINITY;
	return date * CAL_DAY;
}

/* A time in ISO format, as EncodeDateTime() writes it with or without an offset. */
static char *
write_time(CalTime value, bool date_only, bool offset)
{
	char		buf[MAXDATELEN + 1];
	struct pg_tm tm;
	fsec_t		fsec;

	if (timestamp2tm(value, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("partition bound out of range")));
	tm.tm_isdst = 0;			/* or else the offset isn't written */
	if (date_only)
		EncodeDateOnly(&tm, USE_ISO_DATES, buf);
	else
		EncodeDateTime(&tm, fsec, offset, 0, NULL, USE_ISO_DATES, buf);
	return pstrdup(buf);
}

static char *
write_timestamptz(CalTime value)
{
	return write_time(value, false, true);
}

static char *
write_timestamp(CalTime value)
{
	return write_time(value, false, false);
}

static char *
write_date(CalTime value)
{
	return write_time(value, true, false);
}

static const KeyKind kinds[] = {
	{TIMESTAMPTZOID, DATETIME_BTREE_FAMILY, true, true, timestamp_to_time, write_timestamptz},
	{TIMESTAMPOID, DATETIME_BTREE_FAMILY, false, true, timestamp_to_time, write_timestamp},
	{DATEOID, DATETIME_BTREE_FAMILY, false, false, date_to_time, write_date}
};

/* The kind of a type, or NULL if it can't be a key. */
const KeyKind *
key_kind_of(Oid type)
{
	for (int i = 0; i < lengthof(kinds); i++)
		if (kinds[i].type == type)
			return &kinds[i];
	return NULL;
}

/* The time that a bound of a partition stands for. */
CalTime
key_bound_time(const KeyKind *kind, PartitionRangeDatumKind bound, Datum value)
{
	if (bound == PARTITION_RANGE_DATUM_MINVALUE)
		return CAL_MINUS_INFINITY;
	if (bound == PARTITION_RANGE_DATUM_MAXVALUE)
		return CAL_INFINITY;
	return kind->to_time(value);
}

/* A finite bound for a statement. */
char *
key_literal(const KeyKind *kind, CalTime value)
{
	return psprintf("%s::%s", quote_literal_cstr(kind->write(value)),
					format_type_be_qualified(kind->type));
}

/* FOR VALUES FROM (...) TO (...), of a new partition. */
char *
key_for_values(const KeyKind *kind, const PlanBound *bound)
{
	return psprintf("FOR VALUES FROM (%s) TO (%s)",
					key_literal(kind, bound->lower), key_literal(kind, bound->upper));
}

static char *
datum_literal(const KeyKind *kind, PartitionRangeDatumKind bound, Datum value)
{
	Oid			output;
	bool		varlena;

	if (bound == PARTITION_RANGE_DATUM_MINVALUE)
		return "MINVALUE";
	if (bound == PARTITION_RANGE_DATUM_MAXVALUE)
		return "MAXVALUE";
	getTypeOutputInfo(kind->type, &output, &varlena);
	return psprintf("%s::%s", quote_literal_cstr(OidOutputFunctionCall(output, value)),
					format_type_be_qualified(kind->type));
}

/* The same of a partition as it was. DateStyle is pinned by identity_assume(). */
char *
key_for_values_of_range(const KeyKind *kind, const KeyRange *range)
{
	return psprintf("FOR VALUES FROM (%s) TO (%s)",
					datum_literal(kind, range->lower_kind, range->lower),
					datum_literal(kind, range->upper_kind, range->upper));
}

/* "2025-01-01 00:00:00+00 to 2025-02-01 00:00:00+00", for people. */
char *
key_display(const KeyKind *kind, const PlanBound *bound)
{
	return psprintf("%s to %s",
					bound->lower == CAL_MINUS_INFINITY ? "-infinity" : kind->write(bound->lower),
					bound->upper == CAL_INFINITY ? "infinity" : kind->write(bound->upper));
}

static char *
name_time(CalTime value)
{
	struct pg_tm tm;
	fsec_t		fsec;

	if (!cal_is_finite(value) || timestamp2tm(value, NULL, &tm, &fsec, NULL, NULL) != 0)
		return value < 0 ? "begin" : "end";
	if (tm.tm_hour == 0 && tm.tm_min == 0 && tm.tm_sec == 0)
		return psprintf("%04d%02d%02d", tm.tm_year, tm.tm_mon, tm.tm_mday);
	return psprintf("%04d%02d%02dt%02d%02d%02d", tm.tm_year, tm.tm_mon, tm.tm_mday,
					tm.tm_hour, tm.tm_min, tm.tm_sec);
}

/* "20250101_20250201": the bounds as a part of a name. */
char *
key_name(const PlanBound *bound)
{
	return psprintf("%s_%s", name_time(bound->lower), name_time(bound->upper));
}

/* An instant, for people. */
char *
key_display_time(TimestampTz t)
{
	return write_timestamptz(t);
}
