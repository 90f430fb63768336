/*
 * fuzz_key.c
 *		Any value, any time, any name of an encoding: what has to hold of keys even
 *		then. make -C test/fuzz run
 */
#include "bounds/key.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
require(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "does not hold: %s\n", what);
	abort();
}

static uint64_t
take(const uint8_t **data, size_t *left, size_t size)
{
	uint64_t	value = 0;

	for (; size > 0 && *left > 0; size--, (*left)--)
		value = value << 8 | *(*data)++;
	return value;
}

/* A value of bytes: a uuid, a text and a number. */
static KeyValue
take_value(const uint8_t **data, size_t *left, char text[KEY_ULID_LENGTH])
{
	KeyValue	value = {.number = (int64_t) take(data, left, 8), .text = text};

	value.length = (int) (take(data, left, 1) % (KEY_ULID_LENGTH + 1));
	for (int i = 0; i < KEY_ULID_LENGTH; i++)
		text[i] = (char) take(data, left, 1);
	memcpy(value.uuid, text, KEY_UUID_SIZE);
	return value;
}

static int
compare(const KeyEncoding *encoding, const KeyValue *a, const KeyValue *b)
{
	if (encoding->type == KEY_TYPE_UUID)
		return memcmp(a->uuid, b->uuid, KEY_UUID_SIZE);
	if (encoding->type == KEY_TYPE_TEXT)
	{
		int			least = a->length < b->length ? a->length : b->length;
		int			order = memcmp(a->text, b->text, (size_t) least);

		return order != 0 ? order : a->length - b->length;
	}
	return (a->number > b->number) - (a->number < b->number);
}

static void
check_value(const KeyEncoding *encoding, const KeyValue *value)
{
	CalTime		t = key_value_time(encoding, value);
	KeyValue	bound;
	char		text[KEY_TEXT_SIZE];

	(void) key_value_is_proper(encoding, value);
	require(cal_is_finite(t) || t == CAL_INFINITY || t == CAL_MINUS_INFINITY, "a time is one");
	if (!key_value_at(encoding, t, &bound, text))
		return;
	require(key_value_time(encoding, &bound) == t, "a value's time and back");
	/* a text that is cut short is below the ULID that it stands for */
	if (encoding->type != KEY_TYPE_TEXT)
		require(compare(encoding, &bound, value) <= 0, "a bound is its time's least value");
}

static void
check_time(const KeyEncoding *encoding, CalTime t, const KeyValue *value)
{
	KeyValue	bound;
	char		text[KEY_TEXT_SIZE];
	CalTime		back;

	if (!key_value_at(encoding, t, &bound, text))
		return;
	back = key_value_time(encoding, &bound);
	require(back >= t && back - t < encoding->unit, "a bound's time, up to what the kind tells apart");
	if (encoding->type != KEY_TYPE_TEXT)
		require((compare(encoding, value, &bound) >= 0) == (key_value_time(encoding, value) >= t),
				"a value is above the bound exactly if its time is");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct
	{
		KeyType		type;
		const char *name;
	}			known[] =
	{
		{KEY_TYPE_UUID, NULL}, {KEY_TYPE_UUID, "ulid"}, {KEY_TYPE_TEXT, NULL},
		{KEY_TYPE_BIGINT, "unix seconds"}, {KEY_TYPE_BIGINT, "unix milliseconds"},
		{KEY_TYPE_BIGINT, "unix microseconds"}, {KEY_TYPE_BIGINT, "snowflake"},
		{KEY_TYPE_BIGINT, "snowflake discord"}
	};
	char		name[KEY_NAME_SIZE + 8];
	char		texts[2][KEY_ULID_LENGTH];
	KeyEncoding encoding;
	KeyValue	a;
	KeyValue	b;
	uint64_t	choice = take(&data, &size, 1) % 12;
	CalTime		t = (int64_t) take(&data, &size, 8);
	int			order;

	a = take_value(&data, &size, texts[0]);
	b = take_value(&data, &size, texts[1]);
	if (choice < sizeof(known) / sizeof(known[0]))
		require(key_encoding_of(known[choice].type, known[choice].name, &encoding), "it is known");
	else
	{
		/* any epoch and shift, and then any text at all */
		if (choice < 11)
			snprintf(name, sizeof(name), "snowflake %llu %llu",
					 (unsigned long long) take(&data, &size, 6),
					 (unsigned long long) take(&data, &size, 1) % 40);
		else
		{
			memset(name, 0, sizeof(name));
			memcpy(name, data, size < sizeof(name) - 1 ? size : sizeof(name) - 1);
		}
		if (!key_encoding_of(KEY_TYPE_BIGINT, name, &encoding))
			return 0;
	}
	order = compare(&encoding, &a, &b);
	if (order <= 0)
		require(key_value_time(&encoding, &a) <= key_value_time(&encoding, &b), "times keep the order");
	check_value(&encoding, &a);
	check_value(&encoding, &b);
	check_time(&encoding, t, &a);
	return 0;
}
