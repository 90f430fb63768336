/*
 * key.h
 *		Kinds of partition key: how a time becomes a bound, and a value a time.
 *
 * Invariant: pure C, as calendar.h. Order is kept both ways: a smaller value has
 * no later time, and a value is at or above the bound of a time exactly if its
 * own time is that time or later.
 */
#ifndef SAGAZ_KEY_H
#define SAGAZ_KEY_H

#include "bounds/calendar.h"

/* What a column stores. */
typedef enum KeyType
{
	KEY_TYPE_TIMESTAMPTZ,
	KEY_TYPE_TIMESTAMP,
	KEY_TYPE_DATE,
	KEY_TYPE_UUID,
	KEY_TYPE_TEXT,
	KEY_TYPE_BIGINT
} KeyType;

/* How it carries a time. */
typedef enum KeyForm
{
	KEY_TIMESTAMPTZ,
	KEY_TIMESTAMP,
	KEY_DATE,
	KEY_UUID,					/* UUIDv7: milliseconds in the first 48 bits */
	KEY_ULID,					/* the same, as 26 digits of Crockford's, or a
								 * uuid that says no version */
	KEY_UNIX,					/* units of time since 1970 */
	KEY_SNOWFLAKE				/* milliseconds since an epoch, shifted */
} KeyForm;

typedef struct KeyEncoding
{
	KeyType		type;
	KeyForm		form;
	int64_t		unit;			/* the least difference of time that it tells
								 * apart, in microseconds */
	int64_t		epoch;			/* of Snowflakes: milliseconds since 1970 */
	int			shift;			/* of Snowflakes: bits below the time */
} KeyEncoding;

#define KEY_UUID_SIZE	16
#define KEY_ULID_LENGTH	26

/* Room for a value as text: a uuid, a ULID or a number. */
#define KEY_TEXT_SIZE	37

/* The longest name of an encoding, "snowflake 281474976710655 32", and its end. */
#define KEY_NAME_SIZE	32

/*
 * A value: a number for timestamps (microseconds), dates (days) and bigints,
 * all three since PostgreSQL's epoch or as stored; bytes for uuid; text.
 */
typedef struct KeyValue
{
	int64_t		number;
	uint8_t		uuid[KEY_UUID_SIZE];
	const char *text;			/* not terminated */
	int			length;
} KeyValue;

extern bool key_encoding_of(KeyType type, const char *name, KeyEncoding *encoding);
extern const char *key_encoding_choices(KeyType type);
extern bool key_is_instant(const KeyEncoding *encoding);
extern CalTime key_value_time(const KeyEncoding *encoding, const KeyValue *value);
extern bool key_value_at(const KeyEncoding *encoding, CalTime t, KeyValue *value,
						 char buf[KEY_TEXT_SIZE]);
extern const char *key_encoding_proper_name(const KeyEncoding *encoding);
extern bool key_value_is_proper(const KeyEncoding *encoding, const KeyValue *value);

#endif							/* SAGAZ_KEY_H */
