/*
 * key.c
 *		Partition keys as the server has them: datums, types and literals.
 *
 * Invariant: what is written here is read again as the same value, whatever the
 * session's DateStyle and TimeZone are.
 */
#include "catalog/key.h"

#include "base/compat.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
#include "utils/uuid.h"
#include "utils/varlena.h"

/* pg_opfamily's datetime_ops and uuid_ops, which have no symbol */
#define DATETIME_BTREE_FAMILY	434
#define UUID_BTREE_FAMILY		2968

typedef struct KnownType
{
	Oid			type;
	Oid			opfamily;
	KeyType		key_type;
} KnownType;

static const KnownType types[] = {
	{TIMESTAMPTZOID, DATETIME_BTREE_FAMILY, KEY_TYPE_TIMESTAMPTZ},
	{TIMESTAMPOID, DATETIME_BTREE_FAMILY, KEY_TYPE_TIMESTAMP},
	{DATEOID, DATETIME_BTREE_FAMILY, KEY_TYPE_DATE},
	{UUIDOID, UUID_BTREE_FAMILY, KEY_TYPE_UUID},
	{TEXTOID, TEXT_BTREE_FAM_OID, KEY_TYPE_TEXT},
	{VARCHAROID, TEXT_BTREE_FAM_OID, KEY_TYPE_TEXT},
	{BPCHAROID, BPCHAR_BTREE_FAM_OID, KEY_TYPE_TEXT},
	{INT8OID, INTEGER_BTREE_FAM_OID, KEY_TYPE_BIGINT}
};

/* The kind of a type with an encoding that was told, or NULL if there is none. */
const KeyKind *
key_kind_told(Oid type, const char *encoding)
{
	for (int i = 0; i < lengthof(types); i++)
		if (types[i].type == type)
		{
			KeyKind    *kind = (KeyKind *) palloc0(sizeof(KeyKind));

			if (!key_encoding_of(types[i].key_type, encoding, &kind->encoding))
				return NULL;
			kind->type = type;
			kind->opfamily = types[i].opfamily;
			kind->is_instant = key_is_instant(&kind->encoding);
			kind->has_time = kind->encoding.unit < CAL_DAY;
			return kind;
		}
	return NULL;
}

/* The kind of a type that doesn't have to be told, or NULL if it has to be, or can't be a key. */
const KeyKind *
key_kind_of(Oid type)
{
	return key_kind_told(type, NULL);
}

/* What can be told of a type, for a hint; NULL: nothing. */
const char *
key_choices(Oid type)
{
	for (int i = 0; i < lengthof(types); i++)
		if (types[i].type == type)
			return key_encoding_choices(types[i].key_type);
	return NULL;
}

/*
 * Whether a collation sorts texts of two of Crockford's digits as their bytes.
 * With one digit a contraction, as of Danish "AA", wouldn't be noticed.
 */
static bool
sorts_ulids(Oid collation)
{
	static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

	for (int i = 1; i < 32 * 32; i++)
	{
		char		before[2] = {digits[(i - 1) / 32], digits[(i - 1) % 32]};
		char		after[2] = {digits[i / 32], digits[i % 32]};

		if (varstr_cmp(before, 2, after, 2, collation) >= 0)
			return false;
	}
	return true;
}

/* Whether a collation sorts the kind's values by their time. */
bool
key_sorts_well(const KeyKind *kind, Oid collation)
{
	static Oid	known = C_COLLATION_OID;
	static bool good = true;

	if (kind->encoding.type != KEY_TYPE_TEXT)
		return true;
	if (collation != known)
	{
		good = sorts_ulids(collation);
		known = collation;
	}
	return good;
}

static KeyValue
value_of(const KeyKind *kind, Datum datum)
{
	KeyValue	value = {0};

	switch (kind->encoding.type)
	{
		case KEY_TYPE_TIMESTAMPTZ:
		case KEY_TYPE_TIMESTAMP:
			value.number = DatumGetTimestamp(datum);
			break;
		case KEY_TYPE_DATE:
			value.number = DatumGetDateADT(datum);
			break;
		case KEY_TYPE_BIGINT:
			value.number = DatumGetInt64(datum);
			break;
		case KEY_TYPE_UUID:
			memcpy(value.uuid, DatumGetUUIDP(datum)->data, KEY_UUID_SIZE);
			break;
		case KEY_TYPE_TEXT:
			{
				text	   *t = DatumGetTextPP(datum);

				value.text = VARDATA_ANY(t);
				value.length = VARSIZE_ANY_EXHDR(t);
				if (kind->type == BPCHAROID)
					value.length = bpchartruelen((char *) value.text, value.length);
			}
			break;
	}
	return value;
}

/* The time that a value carries. */
CalTime
key_time(const KeyKind *kind, Datum value)
{
	KeyValue	key = value_of(kind, value);

	return key_value_time(&kind->encoding, &key);
}

/* The time that a bound of a partition stands for. */
static CalTime
key_bound_time(const KeyKind *kind, PartitionRangeDatumKind bound, Datum value)
{
	if (bound == PARTITION_RANGE_DATUM_MINVALUE)
		return CAL_MINUS_INFINITY;
	if (bound == PARTITION_RANGE_DATUM_MAXVALUE)
		return CAL_INFINITY;
	return key_time(kind, value);
}

/*
 * Which of two values comes first, low bits and all. Texts by their bytes: that is
 * how their collation sorts ULIDs.
 */
int
key_compare(const KeyKind *kind, Datum a, Datum b)
{
	TypeCacheEntry *type = lookup_type_cache(kind->type, TYPECACHE_CMP_PROC_FINFO);

	return DatumGetInt32(FunctionCall2Coll(&type->cmp_proc_finfo, C_COLLATION_OID, a, b));
}

/* The times that a range's bounds stand for. */
PlanBound
key_range_times(const KeyKind *kind, const KeyRange *range)
{
	PlanBound	bound;

	bound.lower = key_bound_time(kind, range->lower_kind, range->lower);
	bound.upper = key_bound_time(kind, range->upper_kind, range->upper);
	return bound;
}

/* Whether a value is what its kind says: a UUID of version 7, a ULID. */
bool
key_is_proper(const KeyKind *kind, Datum value)
{
	KeyValue	key = value_of(kind, value);

	return key_value_is_proper(&kind->encoding, &key);
}

/* What a value of the kind is, for people; NULL: nobody can tell it from another. */
const char *
key_proper_name(const KeyKind *kind)
{
	return key_encoding_proper_name(&kind->encoding);
}

static void
refuse_time(const KeyKind *kind)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
			 errmsg("time out of range for a key of type %s", format_type_be(kind->type)),
			 errhint("Use a time that such a key can hold.")));
}

/* The least value of a time. */
Datum
key_datum(const KeyKind *kind, CalTime t)
{
	KeyValue	value;
	char		buf[KEY_TEXT_SIZE];

	if (!key_value_at(&kind->encoding, t, &value, buf))
		refuse_time(kind);
	switch (kind->encoding.type)
	{
		case KEY_TYPE_DATE:
			return DateADTGetDatum((DateADT) value.number);
		case KEY_TYPE_UUID:
			{
				pg_uuid_t  *uuid = (pg_uuid_t *) palloc(sizeof(pg_uuid_t));

				memcpy(uuid->data, value.uuid, KEY_UUID_SIZE);
				return UUIDPGetDatum(uuid);
			}
		case KEY_TYPE_TEXT:
			return PointerGetDatum(cstring_to_text_with_len(value.text, value.length));
		default:
			return Int64GetDatum(value.number);
	}
}

static Datum
bound_of(const KeyKind *kind, CalTime t, PartitionRangeDatumKind *bound)
{
	*bound = t == CAL_MINUS_INFINITY ? PARTITION_RANGE_DATUM_MINVALUE :
		t == CAL_INFINITY ? PARTITION_RANGE_DATUM_MAXVALUE : PARTITION_RANGE_DATUM_VALUE;
	return *bound == PARTITION_RANGE_DATUM_VALUE ? key_datum(kind, t) : (Datum) 0;
}

/* The bounds of a time's range, as the catalog would have them. */
void
key_range_of(const KeyKind *kind, const PlanBound *bound, KeyRange *range)
{
	range->lower = bound_of(kind, bound->lower, &range->lower_kind);
	range->upper = bound_of(kind, bound->upper, &range->upper_kind);
}

/* Whether a constant of this type, in a CHECK, is a value of the key; a varchar is compared as text. */
bool
key_is_same_type(const KeyKind *kind, Oid type)
{
	return type == kind->type ||
		(kind->type == VARCHAROID && type == TEXTOID);
}

/* A time in ISO format, as EncodeDateTime() writes it with or without an offset. */
static char *
write_time(const KeyKind *kind, CalTime value)
{
	char		buf[MAXDATELEN + 1];
	struct pg_tm tm;
	fsec_t		fsec;

	if (timestamp2tm(value, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("partition bound out of range")));
	tm.tm_isdst = 0;			/* or else the offset isn't written */
	if (kind != NULL && !kind->has_time)
		EncodeDateOnly(&tm, USE_ISO_DATES, buf);
	else
		EncodeDateTime(&tm, fsec, kind == NULL || kind->is_instant, 0, NULL, USE_ISO_DATES, buf);
	return pstrdup(buf);
}

static char *
typed_literal(const KeyKind *kind, const char *value)
{
	/* with a modifier, though it is none: "character" would mean character(1) */
	return psprintf("%s::%s", quote_literal_cstr(value),
					format_type_extended(kind->type, -1,
										 FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
}

static bool
is_datetime(const KeyKind *kind)
{
	return kind->encoding.type == KEY_TYPE_TIMESTAMPTZ ||
		kind->encoding.type == KEY_TYPE_TIMESTAMP ||
		kind->encoding.type == KEY_TYPE_DATE;
}

/* A finite bound for a statement. */
char *
key_literal(const KeyKind *kind, CalTime value)
{
	KeyValue	key;
	char		buf[KEY_TEXT_SIZE];

	if (is_datetime(kind))
		return typed_literal(kind, write_time(kind, value));
	if (!key_value_at(&kind->encoding, value, &key, buf))
		refuse_time(kind);
	return typed_literal(kind, buf);
}

/* A value for a statement, low bits and all. */
char *
key_datum_literal(const KeyKind *kind, Datum value)
{
	Oid			output;
	bool		varlena;

	if (is_datetime(kind) && cal_is_finite(key_time(kind, value)))
		return key_literal(kind, key_time(kind, value));
	getTypeOutputInfo(kind->type, &output, &varlena);
	return typed_literal(kind, OidOutputFunctionCall(output, value));
}

/* A bound as it is in the catalog, for a statement. */
char *
key_bound_literal(const KeyKind *kind, PartitionRangeDatumKind bound, Datum value)
{
	if (bound == PARTITION_RANGE_DATUM_MINVALUE)
		return "MINVALUE";
	if (bound == PARTITION_RANGE_DATUM_MAXVALUE)
		return "MAXVALUE";
	return key_datum_literal(kind, value);
}

/* FOR VALUES FROM (...) TO (...). */
char *
key_for_values_of_range(const KeyKind *kind, const KeyRange *range)
{
	return psprintf("FOR VALUES FROM (%s) TO (%s)",
					key_bound_literal(kind, range->lower_kind, range->lower),
					key_bound_literal(kind, range->upper_kind, range->upper));
}

/* "2025-01-01 00:00:00+00 to 2025-02-01 00:00:00+00", for people. */
char *
key_display(const KeyKind *kind, const PlanBound *bound)
{
	return psprintf("%s to %s",
					bound->lower == CAL_MINUS_INFINITY ? "-infinity" : write_time(kind, bound->lower),
					bound->upper == CAL_INFINITY ? "infinity" : write_time(kind, bound->upper));
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
	return write_time(NULL, t);
}
