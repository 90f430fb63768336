/*
 * test_key.c
 *		Unit tests of src/bounds/key.c, and of plans over keys of every kind.
 */
#include "bounds/key.h"
#include "bounds/plan.h"
#include "zones.h"
#include "tap.h"

#define LENGTH(array)	((int) (sizeof(array) / sizeof((array)[0])))

#define MILLISECOND		INT64_C(1000)
#define PAIRS			5000
#define ROUNDS			1000
#define MAX_PARTS		200

typedef struct Kind
{
	const char *title;
	KeyType		type;
	const char *name;
	CalTime		first;			/* the first and the last time that it has a */
	CalTime		last;			/* bound for */
} Kind;

/* with the last microsecond, millisecond or second of a 64-bit number, and of 48 bits */
#define END48		(INT64_C(281474976710655) * MILLISECOND - EPOCH * SECOND)

static const Kind kinds[] = {
	{"timestamptz", KEY_TYPE_TIMESTAMPTZ, NULL, CAL_FIRST, CAL_END - 1},
	{"timestamp", KEY_TYPE_TIMESTAMP, NULL, CAL_FIRST, CAL_END - 1},
	{"date", KEY_TYPE_DATE, NULL, CAL_FIRST, CAL_END - CAL_DAY},
	{"UUIDv7", KEY_TYPE_UUID, NULL, -EPOCH * SECOND, END48},
	{"ULID as uuid", KEY_TYPE_UUID, "ulid", -EPOCH * SECOND, END48},
	{"ULID", KEY_TYPE_TEXT, NULL, -EPOCH * SECOND, END48},
	{"unix seconds", KEY_TYPE_BIGINT, "unix seconds", CAL_FIRST, CAL_END - SECOND},
	{"unix milliseconds", KEY_TYPE_BIGINT, "unix milliseconds", CAL_FIRST, CAL_END - MILLISECOND},
	{"unix microseconds", KEY_TYPE_BIGINT, "unix microseconds", CAL_FIRST, INT64_MAX - EPOCH * SECOND},
	/* 63 bits less 22, from the epoch */
	{"snowflake", KEY_TYPE_BIGINT, "snowflake",
		(INT64_C(1288834974657) - (INT64_C(1) << 41)) * MILLISECOND - EPOCH * SECOND,
	(INT64_C(1288834974657) + (INT64_C(1) << 41) - 1) * MILLISECOND - EPOCH * SECOND},
	{"snowflake discord", KEY_TYPE_BIGINT, "snowflake discord",
		(INT64_C(1420070400000) - (INT64_C(1) << 41)) * MILLISECOND - EPOCH * SECOND,
	(INT64_C(1420070400000) + (INT64_C(1) << 41) - 1) * MILLISECOND - EPOCH * SECOND},
	{"snowflake of our own", KEY_TYPE_BIGINT, "snowflake 1500000000000 10", CAL_FIRST,
	(INT64_C(1500000000000) + (INT64_C(1) << 53) - 1) * MILLISECOND - EPOCH * SECOND}
};

static KeyEncoding
encoding_of(const Kind *kind)
{
	KeyEncoding encoding;

	if (!key_encoding_of(kind->type, kind->name, &encoding))
	{
		printf("Bail out! no encoding %s\n", kind->title);
		exit(1);
	}
	return encoding;
}

static void
test_names(void)
{
	static const struct
	{
		KeyType		type;
		const char *name;
		bool		known;
	}			cases[] =
	{
		{KEY_TYPE_BIGINT, NULL, false},
		{KEY_TYPE_BIGINT, "", false},
		{KEY_TYPE_BIGINT, "Unix seconds", false},
		{KEY_TYPE_BIGINT, "unix  seconds", false},
		{KEY_TYPE_BIGINT, "uuidv7", false},
		{KEY_TYPE_BIGINT, "snowflake twitter", true},
		{KEY_TYPE_BIGINT, "snowflake 0 0", true},
		{KEY_TYPE_BIGINT, "snowflake 281474976710655 32", true},
		{KEY_TYPE_BIGINT, "snowflake 281474976710656 22", false},
		{KEY_TYPE_BIGINT, "snowflake 99999999999999999999 22", false},
		{KEY_TYPE_BIGINT, "snowflake 1 33", false},
		{KEY_TYPE_BIGINT, "snowflake 1", false},
		{KEY_TYPE_BIGINT, "snowflake -1 22", false},
		{KEY_TYPE_BIGINT, "snowflake +1 22", false},
		{KEY_TYPE_BIGINT, "snowflake 1 22 ", false},
		{KEY_TYPE_BIGINT, "snowflake  1 22", false},
		{KEY_TYPE_BIGINT, "snowflake 1 022", false},
		{KEY_TYPE_UUID, "uuidv7", true},
		{KEY_TYPE_UUID, "unix seconds", false},
		{KEY_TYPE_TEXT, "ulid", true},
		{KEY_TYPE_TEXT, "snowflake", false},
		{KEY_TYPE_TIMESTAMPTZ, "unix seconds", false},
		{KEY_TYPE_DATE, "snowflake 1 22", false}
	};

	for (int i = 0; i < LENGTH(cases); i++)
	{
		KeyEncoding encoding;

		ok(key_encoding_of(cases[i].type, cases[i].name, &encoding) == cases[i].known,
		   "name %s is %s", cases[i].name ? cases[i].name : "(none)",
		   cases[i].known ? "known" : "refused");
	}
}

/* Values as the server sorts them: numbers, or bytes. */
static int
compare(const KeyEncoding *encoding, const KeyValue *a, const KeyValue *b)
{
	if (encoding->type == KEY_TYPE_UUID)
		return memcmp(a->uuid, b->uuid, KEY_UUID_SIZE);
	if (encoding->type == KEY_TYPE_TEXT)
		return memcmp(a->text, b->text, KEY_ULID_LENGTH);
	return (a->number > b->number) - (a->number < b->number);
}

typedef struct Stored
{
	KeyValue	value;
	char		text[KEY_TEXT_SIZE];
} Stored;

static void
copy_stored(Stored *to, const Stored *from)
{
	*to = *from;
	if (from->value.text != NULL)
		to->value.text = to->text;
}

/* Any value: all bits random, or most of the time near one of our days. */
static void
random_value(Random *random, const KeyEncoding *encoding, Stored *stored)
{
	static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
	CalTime		t = random_between(random, date(1990, 1, 1), date(2060, 1, 1));

	memset(stored, 0, sizeof(*stored));
	if (!one_in(random, 4) && key_value_at(encoding, t, &stored->value, stored->text))
	{
		for (int i = 6; i < KEY_UUID_SIZE; i++)
			stored->value.uuid[i] = (uint8_t) random_bits(random);
		if (encoding->type == KEY_TYPE_TEXT)
			for (int i = 10; i < KEY_ULID_LENGTH; i++)
				stored->text[i] = digits[random_bits(random) % 32];
		if (encoding->form == KEY_SNOWFLAKE)
			stored->value.number += random_between(random, 0, INT64_C(1) << encoding->shift);
		return;
	}
	stored->value.number = (int64_t) random_bits(random);
	if (encoding->form == KEY_TIMESTAMPTZ || encoding->form == KEY_TIMESTAMP)
		stored->value.number = random_between(random, CAL_FIRST, CAL_END);
	else if (encoding->form == KEY_DATE)
		stored->value.number = random_between(random, INT32_MIN, INT32_MAX);
	for (int i = 0; i < KEY_UUID_SIZE; i++)
		stored->value.uuid[i] = (uint8_t) random_bits(random);
	if (encoding->type == KEY_TYPE_TEXT)
	{
		/* digits, and what may stand among them */
		for (int i = 0; i < KEY_ULID_LENGTH; i++)
			stored->text[i] = one_in(random, 16) ? (char) random_between(random, '0', 256) :
				digits[random_bits(random) % 32];
		stored->value.text = stored->text;
		stored->value.length = KEY_ULID_LENGTH;
	}
}

static void
test_order(const Kind *kind)
{
	KeyEncoding encoding = encoding_of(kind);
	Random		random = {17};
	int			disordered = 0;
	int			misplaced = 0;
	int			bounds = 0;

	for (int i = 0; i < PAIRS; i++)
	{
		Stored		a,
					b,
					bound;
		CalTime		t = random_between(&random, date(1990, 1, 1), date(2060, 1, 1));
		int			order;

		random_value(&random, &encoding, &a);
		random_value(&random, &encoding, &b);
		order = compare(&encoding, &a.value, &b.value);
		if (order < 0 ? key_value_time(&encoding, &a.value) > key_value_time(&encoding, &b.value) :
			order > 0 && key_value_time(&encoding, &a.value) < key_value_time(&encoding, &b.value))
			disordered++;
		/* now and then exactly on the value's own time */
		if (one_in(&random, 2) && cal_is_finite(key_value_time(&encoding, &a.value)))
			t = key_value_time(&encoding, &a.value);
		if (!key_value_at(&encoding, t, &bound.value, bound.text))
			continue;
		bounds++;
		if ((compare(&encoding, &a.value, &bound.value) >= 0) !=
			(key_value_time(&encoding, &a.value) >= t))
			misplaced++;
	}
	ok(disordered == 0, "%s: %d random pairs keep their order", kind->title, PAIRS);
	ok(misplaced == 0 && bounds > PAIRS / 3,
	   "%s: a value is above the bound of a time exactly if its time is (%d bounds)",
	   kind->title, bounds);
}

static bool
round_trips(const KeyEncoding *encoding, CalTime t)
{
	Stored		bound;

	return key_value_at(encoding, t, &bound.value, bound.text) &&
		key_value_time(encoding, &bound.value) == t;
}

static void
test_borders(const Kind *kind)
{
	KeyEncoding encoding = encoding_of(kind);
	Random		random = {18};
	Stored		bound;
	int			bad = 0;

	ok(round_trips(&encoding, kind->first), "%s: the first time and back", kind->title);
	ok(round_trips(&encoding, kind->last), "%s: the last time and back", kind->title);
	ok(!key_value_at(&encoding, kind->first - encoding.unit, &bound.value, bound.text),
	   "%s: a time before the first is refused", kind->title);
	ok(!key_value_at(&encoding, kind->last + encoding.unit, &bound.value, bound.text),
	   "%s: a time after the last is refused", kind->title);
	ok(!key_value_at(&encoding, CAL_INFINITY, &bound.value, bound.text) &&
	   !key_value_at(&encoding, CAL_MINUS_INFINITY, &bound.value, bound.text),
	   "%s: infinity is refused", kind->title);
	for (int i = 0; i < PAIRS; i++)
	{
		CalTime		t = random_between(&random, kind->first, kind->last);

		/* what the kind can't tell apart from the bound above */
		if (!key_value_at(&encoding, t, &bound.value, bound.text) ||
			key_value_time(&encoding, &bound.value) < t ||
			key_value_time(&encoding, &bound.value) - t >= encoding.unit)
			bad++;
	}
	ok(bad == 0, "%s: %d times and back", kind->title, PAIRS);
}

/* What others say of the same times. */
static void
test_known_values(void)
{
	static const struct
	{
		KeyType		type;
		const char *name;
		CalTime		t;
		const char *text;
	}			cases[] =
	{
		{KEY_TYPE_UUID, NULL, -EPOCH * SECOND, "00000000-0000-0000-0000-000000000000"},
		/* RFC 9562's example, of 2022-02-22 19:22:22 UTC */
		{KEY_TYPE_UUID, NULL, INT64_C(1645557742000) * MILLISECOND - EPOCH * SECOND,
		"017f22e2-79b0-0000-0000-000000000000"},
		{KEY_TYPE_UUID, NULL, END48, "ffffffff-ffff-0000-0000-000000000000"},
		/* the ULID specification's example */
		{KEY_TYPE_TEXT, NULL, INT64_C(1469918176385) * MILLISECOND - EPOCH * SECOND,
		"01ARYZ6S410000000000000000"},
		{KEY_TYPE_TEXT, NULL, END48, "7ZZZZZZZZZ0000000000000000"},
		{KEY_TYPE_BIGINT, "unix seconds", 0, "946684800"},
		{KEY_TYPE_BIGINT, "unix milliseconds", 0, "946684800000"},
		{KEY_TYPE_BIGINT, "unix microseconds", 0, "946684800000000"},
		{KEY_TYPE_BIGINT, "unix seconds", -EPOCH * SECOND - 1, "0"},
		{KEY_TYPE_BIGINT, "snowflake", INT64_C(1288834974657) * MILLISECOND - EPOCH * SECOND, "0"},
		/* Discord's documentation: 175928847299117063 is of 1462015105796 */
		{KEY_TYPE_BIGINT, "snowflake discord", INT64_C(1462015105796) * MILLISECOND - EPOCH * SECOND,
		"175928847298985984"}
	};

	for (int i = 0; i < LENGTH(cases); i++)
	{
		KeyEncoding encoding;
		KeyValue	value;
		char		buf[KEY_TEXT_SIZE] = "";

		ok(key_encoding_of(cases[i].type, cases[i].name, &encoding) &&
		   key_value_at(&encoding, cases[i].t, &value, buf) && strcmp(buf, cases[i].text) == 0,
		   "%s is %s", cases[i].text, buf);
	}
}

static CalTime
ulid_time(const char *text)
{
	KeyEncoding encoding;
	KeyValue	value = {.text = text, .length = (int) strlen(text)};

	(void) key_encoding_of(KEY_TYPE_TEXT, NULL, &encoding);
	return key_value_time(&encoding, &value);
}

/* Bounds that people write: cut short, or nothing that a ULID could be. */
static void
test_other_texts(void)
{
	const CalTime t = ulid_time("01ARYZ6S410000000000000000");

	is_time(ulid_time("01ARYZ6S41"), t, "a ULID without its random part");
	is_time(ulid_time("01ARYZ6S41ZZZ"), t, "with half of it");
	is_time(ulid_time("01ARYZ6S"), ulid_time("01ARYZ6S000000000000000000"), "cut short");
	is_time(ulid_time(""), -EPOCH * SECOND, "an empty text");
	is_time(ulid_time("01ARYZ6S4I"), ulid_time("01ARYZ6S4H"), "a letter that is no digit counts as the one before");
	is_time(ulid_time("01ARYZ6Sz"), ulid_time("01ARYZ6SZZ"), "a small letter is above all digits");
	is_time(ulid_time("8"), CAL_INFINITY, "beyond the last ULID");
	is_time(ulid_time("~"), CAL_INFINITY, "beyond all digits");
}

static bool
is_proper(KeyType type, const char *name, const char *text, uint8_t version, uint8_t variant)
{
	KeyEncoding encoding;
	KeyValue	value = {.text = text, .length = text ? (int) strlen(text) : 0};

	value.uuid[6] = version;
	value.uuid[8] = variant;
	return key_encoding_of(type, name, &encoding) && key_value_is_proper(&encoding, &value);
}

static void
test_proper(void)
{
	ok(is_proper(KEY_TYPE_UUID, NULL, NULL, 0x7a, 0x80), "a UUIDv7 is one");
	ok(is_proper(KEY_TYPE_UUID, NULL, NULL, 0x70, 0xbf), "another variant's byte");
	ok(!is_proper(KEY_TYPE_UUID, NULL, NULL, 0x4a, 0x80), "a UUIDv4 isn't");
	ok(!is_proper(KEY_TYPE_UUID, NULL, NULL, 0x7a, 0xc0), "nor is another variant");
	ok(is_proper(KEY_TYPE_UUID, "ulid", NULL, 0x4a, 0xc0), "a ULID as uuid may be anything");
	ok(is_proper(KEY_TYPE_TEXT, NULL, "01ARZ3NDEKTSV4RRFFQ69G5FAV", 0, 0), "a ULID is one");
	ok(!is_proper(KEY_TYPE_TEXT, NULL, "01ARZ3NDEKTSV4RRFFQ69G5FA", 0, 0), "a short one isn't");
	ok(!is_proper(KEY_TYPE_TEXT, NULL, "01arz3ndektsv4rrffq69g5fav", 0, 0), "nor one in small letters");
	ok(!is_proper(KEY_TYPE_TEXT, NULL, "81ARZ3NDEKTSV4RRFFQ69G5FAV", 0, 0), "nor one too large");
	ok(!is_proper(KEY_TYPE_TEXT, NULL, "01ARZ3NDEKTSV4RRFFQ69G5FUV", 0, 0), "nor one with a U");
	ok(is_proper(KEY_TYPE_BIGINT, "unix seconds", NULL, 0, 0), "of a number nobody can tell");
}

/*
 * Plans over tables whose bounds are values: what exists has random low bits, what
 * is made has none, but where it touches what exists.
 */
typedef struct Part
{
	Stored		lower;
	Stored		upper;
} Part;

typedef struct Table
{
	const KeyEncoding *encoding;
	int			nparts;
	Part		parts[MAX_PARTS];
	int			created;
	int			overlaps;
	int			refused;
} Table;

static int
read_bounds(const Table *table, PlanBound bounds[MAX_PARTS])
{
	for (int i = 0; i < table->nparts; i++)
	{
		bounds[i].lower = key_value_time(table->encoding, &table->parts[i].lower.value);
		bounds[i].upper = key_value_time(table->encoding, &table->parts[i].upper.value);
	}
	return table->nparts;
}

static void
sort_in(Table *table, const Part *part)
{
	int			i = table->nparts++;

	for (; i > 0 && compare(table->encoding, &table->parts[i - 1].lower.value,
							&part->lower.value) > 0; i--)
	{
		copy_stored(&table->parts[i].lower, &table->parts[i - 1].lower);
		copy_stored(&table->parts[i].upper, &table->parts[i - 1].upper);
	}
	copy_stored(&table->parts[i].lower, &part->lower);
	copy_stored(&table->parts[i].upper, &part->upper);
	if ((i > 0 && compare(table->encoding, &table->parts[i - 1].upper.value, &part->lower.value) > 0) ||
		(i + 1 < table->nparts &&
		 compare(table->encoding, &part->upper.value, &table->parts[i + 1].lower.value) > 0) ||
		compare(table->encoding, &part->lower.value, &part->upper.value) >= 0)
		table->overlaps++;
}

static void
apply_create(const PlanAction *action, void *arg)
{
	Table	   *table = arg;
	Part		part;

	memset(&part, 0, sizeof(part));
	if (action->kind != PLAN_CREATE)
		return;
	table->created++;
	if (table->nparts == MAX_PARTS ||
		!key_value_at(table->encoding, action->bound.lower, &part.lower.value, part.lower.text) ||
		!key_value_at(table->encoding, action->bound.upper, &part.upper.value, part.upper.text))
	{
		table->refused++;
		return;
	}
	for (int i = 0; i < table->nparts; i++)
	{
		if (key_value_time(table->encoding, &table->parts[i].upper.value) == action->bound.lower)
			copy_stored(&part.lower, &table->parts[i].upper);
		if (key_value_time(table->encoding, &table->parts[i].lower.value) == action->bound.upper)
			copy_stored(&part.upper, &table->parts[i].lower);
	}
	sort_in(table, &part);
}

static void
random_low_bits(Random *random, const KeyEncoding *encoding, Stored *stored)
{
	for (int i = 6; i < KEY_UUID_SIZE; i++)
		stored->value.uuid[i] = (uint8_t) random_bits(random);
	if (encoding->type == KEY_TYPE_TEXT)
		memset(stored->text + 10, "05Z"[random_bits(random) % 3], 16);
	if (encoding->form == KEY_SNOWFLAKE)
		stored->value.number += random_between(random, 0, INT64_C(1) << encoding->shift);
}

/* Partitions that somebody made: of the interval or not, with holes or without. */
static void
random_table(Random *random, const PlanPolicy *policy, CalTime now, Table *table)
{
	CalTime		t;
	int			n = (int) random_between(random, 0, 8);

	if (!cal_floor(&policy->cal, now, &policy->interval, &t))
		return;
	(void) cal_add(&policy->cal, t, &policy->interval, -random_between(random, 0, 8), &t);
	for (int i = 0; i < n; i++)
	{
		Part		part;
		CalTime		end = t;

		memset(&part, 0, sizeof(part));
		(void) cal_add(&policy->cal, t, &policy->interval, 1, &end);
		if (end <= t || !key_value_at(table->encoding, t, &part.lower.value, part.lower.text) ||
			!key_value_at(table->encoding, end, &part.upper.value, part.upper.text))
			return;
		if (one_in(random, 2))
			random_low_bits(random, table->encoding, &part.upper);
		if (i > 0 && table->nparts > 0 &&
			key_value_time(table->encoding, &table->parts[table->nparts - 1].upper.value) == t)
			copy_stored(&part.lower, &table->parts[table->nparts - 1].upper);
		sort_in(table, &part);
		if (one_in(random, 4))
			(void) cal_add(&policy->cal, end, &policy->interval, random_between(random, 1, 3), &end);
		t = end;
	}
}

static void
test_plans(const Kind *kind)
{
	static const CalSpan spans[] = {
		{0, 0, MINUTE}, {0, 0, 5 * MINUTE}, {0, 0, 90 * MINUTE}, {0, 0, CAL_HOUR},
		{0, 1, 0}, {0, 7, 0}, {1, 0, 0}, {3, 0, 0}
	};
	KeyEncoding encoding = encoding_of(kind);
	static Table table;
	int			bad = 0;
	int			created = 0;

	for (int round = 0; round < ROUNDS; round++)
	{
		Random		random = {(uint64_t) round};
		PlanPolicy	policy = {.premake = (int) random_between(&random, 1, 12)};
		PlanBound	bounds[MAX_PARTS];
		CalTime		now = random_between(&random, date(2011, 1, 1), date(2060, 1, 1));
		CalTime		until;
		PlanBound	hole;

		/* a date has no hours */
		policy.interval = spans[random_between(&random, kind->type == KEY_TYPE_DATE ? 4 : 0, LENGTH(spans))];
		if (key_is_instant(&encoding))
			policy.cal = zone_number(round * (NZONES + 1) / ROUNDS);
		policy.has_retention = one_in(&random, 2);
		policy.retention = policy.interval;
		memset(&table, 0, sizeof(table));
		table.encoding = &encoding;
		random_table(&random, &policy, now, &table);
		if (plan_partitions(&policy, now, bounds, read_bounds(&table, bounds),
							apply_create, &table) != PLAN_OK || table.overlaps + table.refused > 0)
			bad++;
		created += table.created;
		table.created = 0;
		if (plan_partitions(&policy, now, bounds, read_bounds(&table, bounds),
							apply_create, &table) != PLAN_OK || table.created > 0 ||
			!plan_covered_until(now, bounds, table.nparts, &until) ||
			plan_holes(&policy, now, bounds, table.nparts, &hole) != 0)
		{
			if (bad++ == 0)
				printf("# round %d, %d created by the second plan\n", round, table.created);
		}
	}
	ok(bad == 0 && created > ROUNDS, "%s: %d rounds of plan, apply, plan: %d created",
	   kind->title, ROUNDS, created);
}

int
main(void)
{
	alarm(120);
	require_zones();
	test_names();
	for (int i = 0; i < LENGTH(kinds); i++)
	{
		test_order(&kinds[i]);
		test_borders(&kinds[i]);
	}
	test_known_values();
	test_other_texts();
	test_proper();
	for (int i = 0; i < LENGTH(kinds); i++)
		test_plans(&kinds[i]);
	return done_testing();
}
