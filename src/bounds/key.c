/*
 * key.c
 *		Kinds of partition key: how a time becomes a bound, and a value a time.
 *
 * A value's time is rounded down to what its kind tells apart, and a bound is the
 * least value of its time: random low bits of a value play no part.
 */
#include "bounds/key.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MILLISECOND		INT64_C(1000)
#define SECOND			INT64_C(1000000)

/* 1970-01-01 on our time line */
#define UNIX_EPOCH		(-INT64_C(946684800) * SECOND)

/* one more than the last millisecond that 48 bits hold, in the year 10889 */
#define END_OF_48_BITS	(INT64_C(1) << 48)

#define TWITTER_EPOCH	INT64_C(1288834974657)
#define DISCORD_EPOCH	INT64_C(1420070400000)
#define USUAL_SHIFT		22
#define MAX_SHIFT		32

#define CROCKFORD		"0123456789ABCDEFGHJKMNPQRSTVWXYZ"

typedef struct KnownEncoding
{
	const char *name;			/* NULL: without being told */
	KeyEncoding encoding;
} KnownEncoding;

static const KnownEncoding encodings[] = {
	{NULL, {KEY_TYPE_TIMESTAMPTZ, KEY_TIMESTAMPTZ, 1, 0, 0}},
	{NULL, {KEY_TYPE_TIMESTAMP, KEY_TIMESTAMP, 1, 0, 0}},
	{NULL, {KEY_TYPE_DATE, KEY_DATE, CAL_DAY, 0, 0}},
	{NULL, {KEY_TYPE_UUID, KEY_UUID, MILLISECOND, 0, 0}},
	{"uuidv7", {KEY_TYPE_UUID, KEY_UUID, MILLISECOND, 0, 0}},
	{"ulid", {KEY_TYPE_UUID, KEY_ULID, MILLISECOND, 0, 0}},
	{NULL, {KEY_TYPE_TEXT, KEY_ULID, MILLISECOND, 0, 0}},
	{"ulid", {KEY_TYPE_TEXT, KEY_ULID, MILLISECOND, 0, 0}},
	{"unix seconds", {KEY_TYPE_BIGINT, KEY_UNIX, SECOND, 0, 0}},
	{"unix milliseconds", {KEY_TYPE_BIGINT, KEY_UNIX, MILLISECOND, 0, 0}},
	{"unix microseconds", {KEY_TYPE_BIGINT, KEY_UNIX, 1, 0, 0}},
	{"snowflake", {KEY_TYPE_BIGINT, KEY_SNOWFLAKE, MILLISECOND, TWITTER_EPOCH, USUAL_SHIFT}},
	{"snowflake twitter", {KEY_TYPE_BIGINT, KEY_SNOWFLAKE, MILLISECOND, TWITTER_EPOCH, USUAL_SHIFT}},
	{"snowflake discord", {KEY_TYPE_BIGINT, KEY_SNOWFLAKE, MILLISECOND, DISCORD_EPOCH, USUAL_SHIFT}}
};

/* What an operator can write for a type of key, in an error's hint; NULL: nothing. */
const char *
key_encoding_choices(KeyType type)
{
	switch (type)
	{
		case KEY_TYPE_UUID:
			return "'uuidv7' or 'ulid'";
		case KEY_TYPE_TEXT:
			return "'ulid'";
		case KEY_TYPE_BIGINT:
			return "'unix seconds', 'unix milliseconds', 'unix microseconds', "
				"'snowflake' (Twitter's), 'snowflake discord', or "
				"'snowflake <epoch in ms> <shift>'";
		default:
			return NULL;
	}
}

/* "snowflake <epoch> <shift>", and nothing but single spaces and digits. */
static bool
parse_snowflake(const char *name, KeyEncoding *encoding)
{
	int64_t		epoch;
	int			shift;
	char		again[KEY_NAME_SIZE];

	if (sscanf(name, "snowflake %15" SCNd64 " %2d", &epoch, &shift) != 2 ||
		epoch < 0 || epoch >= END_OF_48_BITS || shift < 0 || shift > MAX_SHIFT)
		return false;
	snprintf(again, sizeof(again), "snowflake %" PRId64 " %d", epoch, shift);
	encoding->type = KEY_TYPE_BIGINT;
	encoding->form = KEY_SNOWFLAKE;
	encoding->unit = MILLISECOND;
	encoding->epoch = epoch;
	encoding->shift = shift;
	return strcmp(name, again) == 0;
}

/*
 * The encoding of this name, or that a type has without being told (NULL). False
 * if there is none.
 */
bool
key_encoding_of(KeyType type, const char *name, KeyEncoding *encoding)
{
	for (size_t i = 0; i < sizeof(encodings) / sizeof(encodings[0]); i++)
	{
		const char *known = encodings[i].name;

		if (encodings[i].encoding.type != type ||
			(name == NULL ? known != NULL : known == NULL || strcmp(name, known) != 0))
			continue;
		*encoding = encodings[i].encoding;
		return true;
	}
	return type == KEY_TYPE_BIGINT && name != NULL && parse_snowflake(name, encoding);
}

/* Whether it says an instant; else the wall clock of some zone. */
bool
key_is_instant(const KeyEncoding *encoding)
{
	return encoding->form != KEY_TIMESTAMP && encoding->form != KEY_DATE;
}

/* What is beyond the finite timestamps is infinite. */
static CalTime
saturate(CalTime t)
{
	if (t < CAL_FIRST)
		return CAL_MINUS_INFINITY;
	return t >= CAL_END ? CAL_INFINITY : t;
}

/* A number of units since a time, which is a whole number of them as well. */
static CalTime
time_of_units(int64_t number, int64_t unit, CalTime since)
{
	CalTime		t;

	if (__builtin_add_overflow(number, since / unit, &t) || __builtin_mul_overflow(t, unit, &t))
		return number < 0 ? CAL_MINUS_INFINITY : CAL_INFINITY;
	return saturate(t);
}

/* The first six bytes, most significant first. */
static int64_t
milliseconds_of_uuid(const uint8_t *uuid)
{
	int64_t		milliseconds = 0;

	for (int i = 0; i < 6; i++)
		milliseconds = milliseconds << 8 | uuid[i];
	return milliseconds;
}

/* The place of a digit, or of the last one below another character; -1: none is. */
static int
digit_up_to(char c)
{
	int			digit = 31;

	while (digit >= 0 && (uint8_t) CROCKFORD[digit] > (uint8_t) c)
		digit--;
	return digit;
}

/*
 * The number that the first ten digits are; 2^48 or more is beyond any ULID. A
 * text that is cut short goes on with zeros. One with another character stands
 * for the last ULID below it, as far as there is one with the same beginning.
 */
static int64_t
number_of_digits(const char *text, int length)
{
	int64_t		number = 0;
	int			rest = -1;		/* the digit that all others are */

	for (int i = 0; i < 10; i++)
	{
		int			digit = rest;

		if (rest < 0)
		{
			digit = i < length ? digit_up_to(text[i]) : -1;
			if (digit < 0)
				rest = digit = 0;
			else if (CROCKFORD[digit] != text[i])
				rest = 31;
		}
		number = number * 32 + digit;
	}
	return number;
}

/* Shifted, not divided, which would round up below the epoch. */
static CalTime
time_of_snowflake(const KeyEncoding *encoding, int64_t number)
{
	int64_t		milliseconds;

	if (__builtin_add_overflow(number >> encoding->shift, encoding->epoch, &milliseconds))
		return CAL_INFINITY;
	return time_of_units(milliseconds, MILLISECOND, UNIX_EPOCH);
}

/* The time that a value carries, rounded down; infinite where a timestamp ends. */
CalTime
key_value_time(const KeyEncoding *encoding, const KeyValue *value)
{
	switch (encoding->form)
	{
		case KEY_TIMESTAMPTZ:
		case KEY_TIMESTAMP:
			/* -infinity and infinity are the least and the greatest here too */
			return value->number;
		case KEY_DATE:
			return time_of_units(value->number, CAL_DAY, 0);
		case KEY_UNIX:
			return time_of_units(value->number, encoding->unit, UNIX_EPOCH);
		case KEY_SNOWFLAKE:
			return time_of_snowflake(encoding, value->number);
		case KEY_UUID:
		case KEY_ULID:
			break;
	}
	if (encoding->type == KEY_TYPE_UUID)
		return time_of_units(milliseconds_of_uuid(value->uuid), MILLISECOND, UNIX_EPOCH);
	else
	{
		int64_t		number = number_of_digits(value->text, value->length);

		return number >= END_OF_48_BITS ? CAL_INFINITY :
			time_of_units(number, MILLISECOND, UNIX_EPOCH);
	}
}

/*
 * Units from one time, which is a whole number of them, to another, rounded up;
 * false if that is no timestamp, or more than an int64 holds.
 */
static bool
units_since(CalTime since, CalTime t, int64_t unit, int64_t *number)
{
	CalTime		end;

	*number = t / unit + (t % unit > 0);
	return !__builtin_mul_overflow(*number, unit, &end) && cal_is_finite(end) &&
		!__builtin_sub_overflow(*number, since / unit, number);
}

static void
write_uuid(int64_t milliseconds, KeyValue *value, char *buf)
{
	memset(value->uuid, 0, sizeof(value->uuid));
	for (int i = 5; i >= 0; i--, milliseconds >>= 8)
		value->uuid[i] = (uint8_t) milliseconds;
	snprintf(buf, KEY_TEXT_SIZE, "%02x%02x%02x%02x-%02x%02x-0000-0000-000000000000",
			 value->uuid[0], value->uuid[1], value->uuid[2],
			 value->uuid[3], value->uuid[4], value->uuid[5]);
}

static void
write_ulid(int64_t milliseconds, KeyValue *value, char *buf)
{
	for (int i = 9; i >= 0; i--, milliseconds /= 32)
		buf[i] = CROCKFORD[milliseconds % 32];
	memset(buf + 10, '0', KEY_ULID_LENGTH - 10);
	buf[KEY_ULID_LENGTH] = '\0';
	value->text = buf;
	value->length = KEY_ULID_LENGTH;
}

/*
 * The least value of a time, and of no earlier one; buf[] becomes its text, but
 * for timestamps and dates. False, and no value, where the kind has none.
 */
bool
key_value_at(const KeyEncoding *encoding, CalTime t, KeyValue *value,
			 char buf[KEY_TEXT_SIZE])
{
	CalTime		since = UNIX_EPOCH;
	int64_t		number;

	if (!cal_is_finite(t))
		return false;
	if (encoding->form == KEY_TIMESTAMPTZ || encoding->form == KEY_TIMESTAMP ||
		encoding->form == KEY_DATE)
		since = 0;
	if (!units_since(since, t, encoding->unit, &number))
		return false;
	if (encoding->form == KEY_SNOWFLAKE)
	{
		number -= encoding->epoch;
		if (__builtin_mul_overflow(number, INT64_C(1) << encoding->shift, &number))
			return false;
	}
	if (encoding->form == KEY_UUID || encoding->form == KEY_ULID)
	{
		if (number < 0 || number >= END_OF_48_BITS)
			return false;
		if (encoding->type == KEY_TYPE_UUID)
			write_uuid(number, value, buf);
		else
			write_ulid(number, value, buf);
		return true;
	}
	value->number = number;
	snprintf(buf, KEY_TEXT_SIZE, "%" PRId64, number);
	return true;
}

/* What a value has to be, for people; NULL: nobody can tell it from another. */
const char *
key_encoding_proper_name(const KeyEncoding *encoding)
{
	if (encoding->form == KEY_UUID)
		return "UUID of version 7";
	return encoding->type == KEY_TYPE_TEXT ? "ULID" : NULL;
}

/*
 * Whether a value is what its kind says, rather than something else of the same
 * type: a UUID of version 7, a ULID. Of a number nobody can tell.
 */
bool
key_value_is_proper(const KeyEncoding *encoding, const KeyValue *value)
{
	if (encoding->form == KEY_UUID)
		return value->uuid[6] >> 4 == 7 && value->uuid[8] >> 6 == 2;
	if (encoding->form != KEY_ULID || encoding->type != KEY_TYPE_TEXT)
		return true;
	if (value->length != KEY_ULID_LENGTH || value->text[0] > '7')
		return false;
	for (int i = 0; i < KEY_ULID_LENGTH; i++)
	{
		if (value->text[i] == '\0' || strchr(CROCKFORD, value->text[i]) == NULL)
			return false;
	}
	return true;
}
