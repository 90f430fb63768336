/*
 * test_plan.c
 *		Unit tests of src/bounds/plan.c. "Apply" is done here as the server would: each
 *		created partition is added, each expired one removed.
 */
#include "bounds/plan.h"
#include "zones.h"
#include "tap.h"

#define LENGTH(array)	((int) (sizeof(array) / sizeof((array)[0])))

#define MAX_PARTS	(PLAN_MAX_CREATE + 1000)
#define ROUNDS		20000
#define PASSES		400

/* What a function that finds nothing must not have written over. */
#define UNTOUCHED	INT64_C(4242424242)

static const CalSpan one_hour = {0, 0, CAL_HOUR};
static const CalSpan six_hours = {0, 0, 6 * CAL_HOUR};
static const CalSpan one_day = {0, 1, 0};
static const CalSpan two_days = {0, 2, 0};
static const CalSpan three_days = {0, 3, 0};
static const CalSpan seven_days = {0, 7, 0};
static const CalSpan two_weeks = {0, 14, 0};
static const CalSpan one_month = {1, 0, 0};
static const CalSpan quarter = {3, 0, 0};
static const CalSpan one_year = {12, 0, 0};
static const CalSpan two_years = {24, 0, 0};

/* sorted, as plan.h wants it */
typedef struct Table
{
	int			nparts;
	PlanBound	parts[MAX_PARTS];
} Table;

/* What one call of plan_partitions() said. */
typedef struct Plan
{
	PlanResult	result;
	int			ncreate;
	PlanBound	create[MAX_PARTS];
	int			nexpire;
	PlanAction	expire[MAX_PARTS];
	bool		create_first;	/* nothing created after an expiry */
} Plan;

static void
record(const PlanAction *action, void *arg)
{
	Plan	   *plan = arg;

	if (action->kind == PLAN_EXPIRE)
	{
		plan->expire[plan->nexpire++] = *action;
		return;
	}
	if (plan->nexpire > 0 || action->index != -1)
		plan->create_first = false;
	plan->create[plan->ncreate++] = action->bound;
}

static void
make_plan(Plan *plan, const PlanPolicy *policy, CalTime now, const Table *table)
{
	plan->ncreate = 0;
	plan->nexpire = 0;
	plan->create_first = true;
	plan->result = plan_partitions(policy, now, table->parts, table->nparts,
								   record, plan);
}

static int
compare_bounds(const void *a, const void *b)
{
	const PlanBound *x = a;
	const PlanBound *y = b;

	return (x->lower > y->lower) - (x->lower < y->lower);
}

static void
add_parts(Table *table, const PlanBound *parts, int nparts)
{
	for (int i = 0; i < nparts; i++)
		table->parts[table->nparts++] = parts[i];
	qsort(table->parts, table->nparts, sizeof(PlanBound), compare_bounds);
}

static void
remove_part(Table *table, PlanBound part)
{
	int			kept = 0;

	for (int i = 0; i < table->nparts; i++)
	{
		if (table->parts[i].lower != part.lower || table->parts[i].upper != part.upper)
			table->parts[kept++] = table->parts[i];
	}
	table->nparts = kept;
}

/* Removes every keep-th expired partition not; 0 removes them all. */
static void
apply(Table *table, const Plan *plan, int keep)
{
	for (int i = 0; i < plan->nexpire; i++)
	{
		if (keep == 0 || i % keep != 0)
			remove_part(table, plan->expire[i].bound);
	}
	add_parts(table, plan->create, plan->ncreate);
}

static bool
has_overlap(const Table *table)
{
	for (int i = 0; i < table->nparts; i++)
	{
		if (table->parts[i].lower >= table->parts[i].upper)
			return true;
		if (i > 0 && table->parts[i - 1].upper > table->parts[i].lower)
			return true;
	}
	return false;
}

/*
 * The fixed cases. A list of bounds ends with an empty one; expired has a bit
 * for each of parts.
 */
typedef struct PlanCase
{
	const char *name;
	const char *zone;
	const CalSpan *interval;
	int			premake;
	const CalSpan *retention;
	CalTime		now;
	PlanBound	parts[5];
	PlanBound	create[6];
	unsigned	expired;
} PlanCase;

/* Whole days of January 2025, where most cases are. */
#define JAN(from, to)	{date(2025, 1, from), date(2025, 1, to)}

static int
count_bounds(const PlanBound *list, int max)
{
	int			n = 0;

	while (n < max && list[n].lower != list[n].upper)
		n++;
	return n;
}

static PlanPolicy
make_policy(const char *zone, const CalSpan *interval, int premake,
			const CalSpan *retention)
{
	PlanPolicy	policy = {
		.cal = zone != NULL ? zone_named(zone) : no_zone,
		.interval = *interval,
		.premake = premake,
		.has_retention = retention != NULL
	};

	if (retention != NULL)
		policy.retention = *retention;
	return policy;
}

static void
print_plan(const Plan *plan)
{
	printf("# result %d\n", plan->result);
	for (int i = 0; i < plan->ncreate && i < 20; i++)
		printf("# create %lld to %lld\n", (long long) plan->create[i].lower,
			   (long long) plan->create[i].upper);
	for (int i = 0; i < plan->nexpire && i < 20; i++)
		printf("# expire %d\n", plan->expire[i].index);
}

static bool
expires(const Plan *plan, const PlanBound *parts, unsigned expired)
{
	unsigned	got = 0;

	for (int i = 0; i < plan->nexpire; i++)
	{
		const PlanAction *action = &plan->expire[i];

		if (memcmp(&action->bound, &parts[action->index], sizeof(PlanBound)) != 0)
			return false;
		got |= 1u << action->index;
	}
	return got == expired;
}

static void
check_case(const PlanCase *c)
{
	static Plan plan;
	static Table table;
	PlanPolicy	policy = make_policy(c->zone, c->interval, c->premake, c->retention);
	int			ncreate = count_bounds(c->create, LENGTH(c->create));

	table.nparts = 0;
	add_parts(&table, c->parts, count_bounds(c->parts, LENGTH(c->parts)));
	make_plan(&plan, &policy, c->now, &table);
	if (!ok(plan.result == PLAN_OK && plan.create_first && plan.ncreate == ncreate &&
			memcmp(plan.create, c->create, ncreate * sizeof(PlanBound)) == 0 &&
			expires(&plan, c->parts, c->expired), "%s", c->name))
		print_plan(&plan);
}

static void
check_cases(const PlanCase *cases, int n)
{
	for (int i = 0; i < n; i++)
		check_case(&cases[i]);
}

static void
test_continuing(void)
{
	const CalTime noon = utc(2025, 1, 10, 12, 0, 0);
	const PlanCase cases[] = {
		{"no partitions, nothing ahead: the current one", NULL, &one_day, 0, NULL, noon,
		{}, {JAN(10, 11)}, 0},
		{"no partitions: the current and the next", NULL, &one_day, 1, NULL, noon,
		{}, {JAN(10, 11), JAN(11, 12)}, 0},
		{"all there: nothing", NULL, &one_day, 1, NULL, noon,
		{JAN(10, 11), JAN(11, 12)}, {}, 0},
		{"more than that there: nothing", NULL, &one_day, 1, NULL, noon,
		{JAN(10, 11), JAN(11, 12), JAN(12, 13)}, {}, 0},
		{"the last one is missing", NULL, &one_day, 2, NULL, noon,
		{JAN(10, 11), JAN(11, 12)}, {JAN(12, 13)}, 0},
		{"now is the last bound: it belongs to the next", NULL, &one_day, 0, NULL, date(2025, 1, 11),
		{JAN(10, 11)}, {JAN(11, 12)}, 0},
		{"a microsecond earlier it doesn't", NULL, &one_day, 0, NULL, date(2025, 1, 11) - 1,
		{JAN(10, 11)}, {}, 0},
		{"an idle table: from its end until now and ahead", NULL, &one_day, 1, NULL, noon,
		{JAN(7, 8)}, {JAN(8, 9), JAN(9, 10), JAN(10, 11), JAN(11, 12)}, 0},
		{"an idle table with a retention: nothing that would expire", NULL, &one_day, 1, &two_days, noon,
		{JAN(1, 2)}, {JAN(8, 9), JAN(9, 10), JAN(10, 11), JAN(11, 12)}, 1},
		{"days from 06:00, after a width of nine", NULL, &one_day, 2, NULL, date(2025, 1, 9),
		{{utc(2025, 1, 1, 6, 0, 0), utc(2025, 1, 10, 6, 0, 0)}},
		{{utc(2025, 1, 10, 6, 0, 0), utc(2025, 1, 11, 6, 0, 0)}}, 0},
		{"months from the 15th", NULL, &one_month, 2, NULL, date(2025, 1, 10),
		{JAN(1, 15)}, {{date(2025, 1, 15), date(2025, 2, 15)}, {date(2025, 2, 15), date(2025, 3, 15)}}, 0},
		{"months from the 31st", NULL, &one_month, 3, NULL, date(2025, 1, 31),
		{JAN(1, 31)}, {{date(2025, 1, 31), date(2025, 2, 28)}, {date(2025, 2, 28), date(2025, 3, 31)},
		{date(2025, 3, 31), date(2025, 4, 30)}, {date(2025, 4, 30), date(2025, 5, 31)}}, 0},
		{"weeks from a Wednesday", NULL, &seven_days, 1, NULL, noon,
		{JAN(1, 8)}, {JAN(8, 15), JAN(15, 22)}, 0},
		{"hours from half past", NULL, &six_hours, 1, NULL, noon,
		{{date(2025, 1, 10), utc(2025, 1, 10, 12, 30, 0)}},
		{{utc(2025, 1, 10, 12, 30, 0), utc(2025, 1, 10, 18, 30, 0)}}, 0},
		{"a bound that is the target is covered, too", NULL, &six_hours, 1, NULL, noon,
		{{date(2025, 1, 10), utc(2025, 1, 10, 18, 0, 0)}},
		{{utc(2025, 1, 10, 18, 0, 0), date(2025, 1, 11)}}, 0},
		{"a bound just after the target isn't needed", NULL, &six_hours, 1, NULL, noon,
		{{date(2025, 1, 10), utc(2025, 1, 10, 18, 0, 0) + 1}}, {}, 0}
	};

	check_cases(cases, LENGTH(cases));
}

static void
test_gaps(void)
{
	const CalTime noon = utc(2025, 1, 2, 12, 0, 0);
	const CalTime end_noon = utc(2025, 1, 4, 12, 0, 0);
	const PlanBound junk = {date(9999, 1, 1), date(9999, 1, 2)};
	const PlanCase cases[] = {
		{"a hole is filled, its last piece clipped", NULL, &one_day, 3, NULL, date(2025, 1, 1),
		{JAN(1, 2), {end_noon, date(2025, 1, 6)}},
		{JAN(2, 3), JAN(3, 4), {date(2025, 1, 4), end_noon}}, 0},
		{"a hole of the past is filled as well", NULL, &one_day, 0, NULL, date(2025, 1, 5),
		{JAN(1, 2), JAN(4, 6)}, {JAN(2, 3), JAN(3, 4)}, 0},
		{"a hole narrower than the interval", NULL, &one_month, 0, NULL, date(2025, 1, 5),
		{JAN(1, 2), JAN(4, 31)}, {JAN(2, 4)}, 0},
		{"a hole is filled until the target only", NULL, &one_day, 1, NULL, noon,
		{JAN(1, 2), JAN(9, 10)}, {JAN(2, 3), JAN(3, 4)}, 0},
		{"a hole after the target is left", NULL, &one_day, 0, NULL, noon,
		{JAN(1, 4), JAN(5, 6)}, {}, 0},
		{"two holes and the end, in order", NULL, &one_day, 4, NULL, noon,
		{JAN(1, 2), JAN(3, 4), JAN(5, 6)}, {JAN(2, 3), JAN(4, 5), JAN(6, 7)}, 0},
		{"a gap before the first, by the calendar, clipped", NULL, &one_day, 2, NULL, noon,
		{{end_noon, date(2025, 1, 6)}},
		{JAN(2, 3), JAN(3, 4), {date(2025, 1, 4), end_noon}}, 0},
		{"a gap before the first and after it", NULL, &one_day, 2, NULL, noon,
		{JAN(3, 4)}, {JAN(2, 3), JAN(4, 5)}, 0},
		{"nothing before the first when it has begun", NULL, &one_day, 0, NULL, noon,
		{{noon, date(2025, 1, 6)}}, {}, 0},
		{"a microsecond earlier the gap needs one", NULL, &one_day, 0, NULL, noon - 1,
		{{noon, date(2025, 1, 6)}}, {{date(2025, 1, 2), noon}}, 0},
		{"junk far ahead doesn't make endless partitions", NULL, &one_day, 2, NULL, noon,
		{JAN(2, 3), junk}, {JAN(3, 4), JAN(4, 5)}, 0},
		{"nor does it alone", NULL, &one_day, 1, NULL, noon,
		{junk}, {JAN(2, 3), JAN(3, 4)}, 0},
		{"one partition until far ahead: nothing", NULL, &one_day, 2, NULL, noon,
		{{date(2025, 1, 2), date(9999, 1, 1)}}, {}, 0},
		{"from MINVALUE: continues from its end", NULL, &one_day, 1, NULL, noon,
		{{CAL_MINUS_INFINITY, date(2025, 1, 3)}}, {JAN(3, 4)}, 0},
		{"from MINVALUE and far behind", NULL, &one_day, 0, NULL, noon,
		{{CAL_MINUS_INFINITY, date(2025, 1, 1)}}, {JAN(1, 2), JAN(2, 3)}, 0},
		{"to MAXVALUE: nothing", NULL, &one_day, 9, NULL, noon,
		{{date(2025, 1, 2), CAL_INFINITY}}, {}, 0},
		{"to MAXVALUE, from later on", NULL, &one_day, 1, NULL, noon,
		{{utc(2025, 1, 3, 6, 0, 0), CAL_INFINITY}},
		{JAN(2, 3), {date(2025, 1, 3), utc(2025, 1, 3, 6, 0, 0)}}, 0},
		{"from MINVALUE to MAXVALUE: nothing", NULL, &one_day, 9, &one_day, noon,
		{{CAL_MINUS_INFINITY, CAL_INFINITY}}, {}, 0},
		{"a hole between MINVALUE and MAXVALUE", NULL, &one_day, 9, NULL, noon,
		{{CAL_MINUS_INFINITY, date(2025, 1, 1)}, {date(2025, 1, 3), CAL_INFINITY}},
		{JAN(1, 2), JAN(2, 3)}, 0}
	};

	check_cases(cases, LENGTH(cases));
}

static void
test_retention(void)
{
	const CalSpan ages = {12 * 300000, 0, 0};
	const CalSpan mixed = {1, 1, CAL_HOUR};
	const CalSpan none = {0, 0, 0};
	const PlanCase cases[] = {
		{"what ends at now - retention is expired", NULL, &one_day, 0, &seven_days, date(2025, 1, 10),
		{JAN(1, 2), JAN(2, 3), JAN(3, 4), JAN(4, 11)}, {}, 3},
		{"a microsecond earlier it isn't", NULL, &one_day, 0, &seven_days, date(2025, 1, 10) - 1,
		{JAN(1, 2), JAN(2, 3), JAN(3, 4), JAN(4, 11)}, {}, 1},
		{"a retention by hours, at its edge", NULL, &one_hour, 0, &six_hours, utc(2025, 1, 2, 6, 0, 0),
		{JAN(1, 2), {date(2025, 1, 2), utc(2025, 1, 2, 7, 0, 0)}}, {}, 1},
		{"a retention by months, clamped to the month's end", NULL, &one_day, 0, &one_month, date(2025, 3, 31),
		{{date(2025, 2, 27), date(2025, 2, 28)}, {date(2025, 2, 28), date(2025, 4, 1)}}, {}, 1},
		{"a mixed retention, at its edge", NULL, &one_day, 0, &mixed, utc(2025, 2, 12, 1, 0, 0),
		{JAN(9, 10), JAN(10, 11), JAN(11, 31), {date(2025, 1, 31), date(2025, 2, 13)}}, {}, 3},
		{"no retention: nothing expires", NULL, &one_day, 0, NULL, date(2025, 1, 10),
		{{CAL_MINUS_INFINITY, date(1900, 1, 1)}, {date(1900, 1, 1), date(2025, 1, 11)}}, {}, 0},
		{"a retention of nothing keeps the current one", NULL, &one_day, 0, &none, utc(2025, 1, 10, 12, 0, 0),
		{JAN(8, 9), JAN(9, 10), JAN(10, 11)}, {}, 3},
		{"one from before the first timestamp expires nothing", NULL, &one_day, 0, &ages, date(2025, 1, 10),
		{{CAL_MINUS_INFINITY, CAL_FIRST}, {CAL_FIRST, date(2025, 1, 11)}}, {}, 0},
		{"from MINVALUE, expired", NULL, &one_day, 0, &seven_days, date(2025, 1, 10),
		{{CAL_MINUS_INFINITY, date(2025, 1, 3)}, JAN(3, 11)}, {}, 1},
		{"everything is expired, and made anew", NULL, &one_day, 0, &two_days, date(2025, 1, 10),
		{JAN(1, 2), JAN(4, 8)}, {JAN(8, 9), JAN(9, 10), JAN(10, 11)}, 3},
		{"the expired pieces of a hole aren't made again", NULL, &one_day, 0, &three_days, date(2025, 1, 7),
		{JAN(1, 2), JAN(6, 8)}, {JAN(4, 5), JAN(5, 6)}, 1},
		{"a microsecond earlier one more isn't expired", NULL, &one_day, 0, &three_days, date(2025, 1, 7) - 1,
		{JAN(1, 2), JAN(6, 8)}, {JAN(3, 4), JAN(4, 5), JAN(5, 6)}, 1},
		{"a hole that is expired altogether", NULL, &one_day, 0, &two_days, date(2025, 1, 7),
		{JAN(1, 2), JAN(4, 5), JAN(5, 8)}, {}, 3},
		{"a hole whose clipped end is the edge", NULL, &seven_days, 0, &two_days, date(2025, 1, 7),
		{JAN(1, 2), JAN(5, 8)}, {}, 1},
		{"a hole whose clipped end is behind the edge", NULL, &seven_days, 0, &two_days, date(2025, 1, 7) - 1,
		{JAN(1, 2), JAN(5, 8)}, {JAN(2, 5)}, 1}
	};

	check_cases(cases, LENGTH(cases));
}

static void
test_zones(void)
{
	const CalSpan hour = one_hour;
	const PlanCase cases[] = {
		{"New York: days around spring", "America/New_York", &one_day, 2, NULL, utc(2024, 3, 9, 12, 0, 0),
		{}, {{utc(2024, 3, 9, 5, 0, 0), utc(2024, 3, 10, 5, 0, 0)},
		{utc(2024, 3, 10, 5, 0, 0), utc(2024, 3, 11, 4, 0, 0)},
		{utc(2024, 3, 11, 4, 0, 0), utc(2024, 3, 12, 4, 0, 0)}}, 0},
		{"New York: continuing days over fall", "America/New_York", &one_day, 2, NULL, utc(2024, 11, 3, 6, 30, 0),
		{{utc(2024, 11, 2, 4, 0, 0), utc(2024, 11, 3, 4, 0, 0)}},
		{{utc(2024, 11, 3, 4, 0, 0), utc(2024, 11, 4, 5, 0, 0)},
		{utc(2024, 11, 4, 5, 0, 0), utc(2024, 11, 5, 5, 0, 0)},
		{utc(2024, 11, 5, 5, 0, 0), utc(2024, 11, 6, 5, 0, 0)}}, 0},
		{"New York: months", "America/New_York", &one_month, 1, NULL, utc(2024, 3, 1, 4, 59, 59),
		{}, {{utc(2024, 2, 1, 5, 0, 0), utc(2024, 3, 1, 5, 0, 0)},
		{utc(2024, 3, 1, 5, 0, 0), utc(2024, 4, 1, 4, 0, 0)}}, 0},
		{"New York: hours through fall", "America/New_York", &hour, 2, NULL, utc(2024, 11, 3, 5, 30, 0),
		{}, {{utc(2024, 11, 3, 5, 0, 0), utc(2024, 11, 3, 6, 0, 0)},
		{utc(2024, 11, 3, 6, 0, 0), utc(2024, 11, 3, 7, 0, 0)},
		{utc(2024, 11, 3, 7, 0, 0), utc(2024, 11, 3, 8, 0, 0)}}, 0},
		{"New York: a retention of days, over spring", "America/New_York", &one_day, 0, &one_day, utc(2024, 3, 11, 4, 0, 0),
		{{utc(2024, 3, 9, 5, 0, 0), utc(2024, 3, 10, 5, 0, 0)},
		{utc(2024, 3, 10, 5, 0, 0), utc(2024, 3, 12, 4, 0, 0)}}, {}, 1},
		{"Sao Paulo: over the midnight that doesn't exist", "America/Sao_Paulo", &one_day, 2, NULL, utc(2017, 10, 14, 12, 0, 0),
		{}, {{utc(2017, 10, 14, 3, 0, 0), utc(2017, 10, 15, 3, 0, 0)},
		{utc(2017, 10, 15, 3, 0, 0), utc(2017, 10, 16, 2, 0, 0)},
		{utc(2017, 10, 16, 2, 0, 0), utc(2017, 10, 17, 2, 0, 0)}}, 0},
		{"Lord Howe: days around its half hour", "Australia/Lord_Howe", &one_day, 1, NULL, utc(2024, 4, 6, 14, 0, 0),
		{}, {{utc(2024, 4, 6, 13, 0, 0), utc(2024, 4, 7, 13, 30, 0)},
		{utc(2024, 4, 7, 13, 30, 0), utc(2024, 4, 8, 13, 30, 0)}}, 0},
		{"Apia: none for the day that doesn't exist", "Pacific/Apia", &one_day, 2, NULL, utc(2011, 12, 29, 12, 0, 0),
		{}, {{utc(2011, 12, 29, 10, 0, 0), utc(2011, 12, 30, 10, 0, 0)},
		{utc(2011, 12, 30, 10, 0, 0), utc(2011, 12, 31, 10, 0, 0)}}, 0},
		{"Apia: continuing from the bound before it", "Pacific/Apia", &one_day, 3, NULL, utc(2011, 12, 29, 12, 0, 0),
		{{utc(2011, 12, 28, 10, 0, 0), utc(2011, 12, 29, 10, 0, 0)}},
		{{utc(2011, 12, 29, 10, 0, 0), utc(2011, 12, 30, 10, 0, 0)},
		{utc(2011, 12, 30, 10, 0, 0), utc(2011, 12, 31, 10, 0, 0)},
		{utc(2011, 12, 31, 10, 0, 0), utc(2012, 1, 1, 10, 0, 0)}}, 0},
		{"Kiritimati: a month that has begun there", "Pacific/Kiritimati", &one_month, 0, NULL, utc(2025, 1, 31, 10, 0, 0),
		{}, {{utc(2025, 1, 31, 10, 0, 0), utc(2025, 2, 28, 10, 0, 0)}}, 0}
	};

	check_cases(cases, LENGTH(cases));
}

static void
test_skipped_and_repeated(void)
{
	const PlanCase skipped[] = {
		{"Sao Paulo: continuing from the skip, midnights again", "America/Sao_Paulo", &one_day, 1, NULL, utc(2017, 10, 15, 12, 0, 0),
		{{utc(2017, 10, 14, 3, 0, 0), utc(2017, 10, 15, 3, 0, 0)}},
		{{utc(2017, 10, 15, 3, 0, 0), utc(2017, 10, 16, 2, 0, 0)},
		{utc(2017, 10, 16, 2, 0, 0), utc(2017, 10, 17, 2, 0, 0)}}, 0}
	};
	const PlanCase repeated[] = {
		{"New York: the second 01:30 is covered without premake", "America/New_York", &one_day, 0, NULL, utc(2024, 11, 3, 6, 30, 0),
		{{utc(2024, 11, 3, 4, 0, 0), utc(2024, 11, 3, 6, 10, 0)}},
		{{utc(2024, 11, 3, 6, 10, 0), utc(2024, 11, 4, 6, 10, 0)}}, 0}
	};

	check_cases(skipped, LENGTH(skipped));
	check_cases(repeated, LENGTH(repeated));
}

/* "For ever", said in days: more of them than time has microseconds. */
static bool
long_retention_expires_nothing(void)
{
	static Plan plan;
	static Table table;
	const PlanBound part = JAN(9, 12);
	const CalSpan ever = {0, 200000000, 0};
	PlanPolicy	policy = make_policy(NULL, &one_day, 1, &ever);

	add_parts(&table, &part, 1);
	make_plan(&plan, &policy, utc(2025, 1, 10, 12, 0, 0), &table);
	return plan.result == PLAN_OK && plan.ncreate == 0 && plan.nexpire == 0;
}

static void
test_long_retention(void)
{
	ok(holds_in_child(long_retention_expires_nothing),
	   "a retention of 200,000,000 days expires nothing");
}

/* A zone without rules that counts how often it is asked. */
static int32_t
counting_offset(CalTime instant, void *arg)
{
	(void) instant;
	++*(int *) arg;
	return 3600;
}

/* Found by test/fuzz: a gap was walked through, period by period. */
static void
test_long_gap(void)
{
	static Plan plan;
	static Table table;
	const PlanBound part = {date(-4000, 1, 1), date(-4000, 1, 2)};
	PlanPolicy	policy = make_policy(NULL, &one_day, 1, &seven_days);
	int			asked = 0;

	policy.cal = (Calendar) {counting_offset, &asked};
	add_parts(&table, &part, 1);
	make_plan(&plan, &policy, utc(2025, 1, 10, 12, 0, 0), &table);
	ok(plan.result == PLAN_OK && plan.ncreate == 9 && plan.nexpire == 1 && plan.create[0].lower == utc(2025, 1, 3, 0, 0, 0),
	   "after a gap of six thousand years, the retention's days are made");
	if (!ok(asked < 1000, "and the days of the gap aren't counted one by one"))
		printf("# the zone was asked %d times\n", asked);
}

/* The current period and the next premake, exactly, for an empty table. */
typedef struct PremakeCase
{
	const char *name;
	const CalSpan *interval;
	int			premake;
	CalTime		now;
	CalTime		lower;			/* of the first */
	CalTime		upper;			/* of the last */
} PremakeCase;

static bool
is_contiguous(const Plan *plan)
{
	for (int i = 1; i < plan->ncreate; i++)
	{
		if (plan->create[i].lower != plan->create[i - 1].upper)
			return false;
	}
	return true;
}

static void
check_premake(const PremakeCase *c)
{
	static Plan plan;
	static Table empty;
	PlanPolicy	policy = make_policy(NULL, c->interval, c->premake, NULL);

	make_plan(&plan, &policy, c->now, &empty);
	if (!ok(plan.result == PLAN_OK && plan.ncreate == c->premake + 1 &&
			is_contiguous(&plan) && plan.create[0].lower == c->lower &&
			plan.create[0].upper > c->now &&
			plan.create[plan.ncreate - 1].upper == c->upper,
			"current and next %d: %s", c->premake, c->name))
		print_plan(&plan);
}

static void
test_premake(void)
{
	const PremakeCase cases[] = {
		{"months on 31 January", &one_month, 3, utc(2025, 1, 31, 23, 59, 59) + 999999, date(2025, 1, 1), date(2025, 5, 1)},
		{"months on 1 January", &one_month, 3, date(2025, 1, 1), date(2025, 1, 1), date(2025, 5, 1)},
		{"months on 30 January of a leap year", &one_month, 3, date(2024, 1, 30), date(2024, 1, 1), date(2024, 5, 1)},
		{"months on 31 October", &one_month, 3, utc(2025, 10, 31, 12, 0, 0), date(2025, 10, 1), date(2026, 2, 1)},
		{"months on 30 November", &one_month, 3, utc(2023, 11, 30, 12, 0, 0), date(2023, 11, 1), date(2024, 3, 1)},
		{"months, none ahead", &one_month, 0, date(2025, 1, 31), date(2025, 1, 1), date(2025, 2, 1)},
		{"days", &one_day, 7, utc(2025, 6, 15, 12, 0, 0), date(2025, 6, 15), date(2025, 6, 23)},
		{"days at midnight", &one_day, 7, date(2025, 6, 15), date(2025, 6, 15), date(2025, 6, 23)},
		{"days just before midnight", &one_day, 7, date(2025, 6, 15) - 1, date(2025, 6, 14), date(2025, 6, 22)},
		{"days over 28 February", &one_day, 7, utc(2025, 2, 25, 1, 0, 0), date(2025, 2, 25), date(2025, 3, 5)},
		{"days over 29 February", &one_day, 7, utc(2024, 2, 25, 1, 0, 0), date(2024, 2, 25), date(2024, 3, 4)},
		{"days over New Year", &one_day, 7, utc(2024, 12, 31, 23, 0, 0), date(2024, 12, 31), date(2025, 1, 8)},
		{"days before 2000", &one_day, 2, utc(1999, 12, 31, 1, 0, 0), date(1999, 12, 31), date(2000, 1, 3)},
		{"weeks on a Wednesday", &seven_days, 2, date(2025, 1, 1), date(2024, 12, 30), date(2025, 1, 20)},
		{"weeks on a Sunday", &seven_days, 4, utc(2025, 1, 5, 23, 0, 0), date(2024, 12, 30), date(2025, 2, 3)},
		{"two weeks", &two_weeks, 1, date(2025, 1, 12), date(2024, 12, 30), date(2025, 1, 27)},
		{"six hours", &six_hours, 4, utc(2025, 3, 30, 7, 15, 0), utc(2025, 3, 30, 6, 0, 0), utc(2025, 3, 31, 12, 0, 0)},
		{"hours", &one_hour, 24, utc(2025, 3, 30, 23, 0, 0), utc(2025, 3, 30, 23, 0, 0), date(2025, 4, 1)},
		{"quarters on 31 May", &quarter, 1, date(2025, 5, 31), date(2025, 4, 1), date(2025, 10, 1)},
		{"quarters on 30 November", &quarter, 3, date(2025, 11, 30), date(2025, 10, 1), date(2026, 10, 1)},
		{"years on a leap day", &one_year, 1, date(2024, 2, 29), date(2024, 1, 1), date(2026, 1, 1)},
		{"years on the last day", &one_year, 2, utc(2025, 12, 31, 23, 59, 59), date(2025, 1, 1), date(2028, 1, 1)},
		{"two years in an odd one", &two_years, 1, date(2025, 6, 1), date(2024, 1, 1), date(2028, 1, 1)}
	};

	for (int i = 0; i < LENGTH(cases); i++)
		check_premake(&cases[i]);
}

/* The same on every hour of 400 days, over all of a zone's changes. */
static void
test_premake_in_zone(const char *zone, const CalSpan *interval, int premake,
					 CalTime from)
{
	static Plan plan;
	static Table empty;
	PlanPolicy	policy = make_policy(zone, interval, premake, NULL);
	int			bad = 0;

	for (CalTime now = from; now < from + 400 * CAL_DAY; now += CAL_HOUR)
	{
		make_plan(&plan, &policy, now, &empty);
		if ((plan.ncreate != premake + 1 || !is_contiguous(&plan) ||
			 plan.create[0].lower > now || plan.create[0].upper <= now) && bad++ == 0)
			printf("# now %lld: %d partitions\n", (long long) now, plan.ncreate);
	}
	ok(bad == 0, "current and next %d on every hour of 400 days: %s, %s", premake,
	   interval->months ? "months" : "days", zone);
}

static void
test_premake_in_zones(void)
{
	const char *const names[] = {"America/New_York", "America/Sao_Paulo",
	"America/Havana", "Australia/Lord_Howe", "Africa/Casablanca"};

	for (int i = 0; i < LENGTH(names); i++)
	{
		test_premake_in_zone(names[i], &one_day, 7, date(2017, 1, 15));
		test_premake_in_zone(names[i], &one_month, 3, date(2017, 1, 15));
	}
	/* its days aren't counted here: one of them doesn't exist */
	test_premake_in_zone("Pacific/Apia", &one_month, 3, date(2011, 1, 15));
}

static void
test_too_many(void)
{
	static Plan plan;
	static Table table;
	const PlanBound old = {date(2020, 1, 1), date(2020, 1, 2)};
	PlanPolicy	policy = make_policy(NULL, &one_hour, PLAN_MAX_CREATE - 1, NULL);

	table.nparts = 0;
	make_plan(&plan, &policy, date(2025, 1, 1), &table);
	ok(plan.result == PLAN_OK && plan.ncreate == PLAN_MAX_CREATE, "as many as are allowed");
	policy.premake++;
	make_plan(&plan, &policy, date(2025, 1, 1), &table);
	ok(plan.result == PLAN_TOO_MANY, "one more is too many");
	ok(plan.ncreate == PLAN_MAX_CREATE, "it isn't emitted");

	policy.premake = 1;
	add_parts(&table, &old, 1);
	make_plan(&plan, &policy, date(2025, 1, 1), &table);
	ok(plan.result == PLAN_TOO_MANY, "a table idle for too long is too much");
	ok(plan.ncreate == PLAN_MAX_CREATE && is_contiguous(&plan) &&
	   plan.create[0].lower == old.upper, "its first ones are made nevertheless");

	policy.has_retention = true;
	policy.retention = one_day;
	make_plan(&plan, &policy, date(2025, 1, 1), &table);
	ok(plan.result == PLAN_OK && plan.ncreate == 26 && plan.nexpire == 1,
	   "what would be expired doesn't count");
	policy.premake = PLAN_MAX_CREATE;
	make_plan(&plan, &policy, date(2025, 1, 1), &table);
	ok(plan.result == PLAN_TOO_MANY && plan.create_first && plan.nexpire == 1,
	   "too many to create doesn't hold up what is expired");
}

static void
check_result(const CalSpan *interval, int premake, CalTime now, const PlanBound *part,
			 PlanResult result, int ncreate, const char *name)
{
	static Plan plan;
	static Table table;
	PlanPolicy	policy = make_policy(NULL, interval, premake, NULL);

	table.nparts = 0;
	add_parts(&table, part, part != NULL ? 1 : 0);
	make_plan(&plan, &policy, now, &table);
	if (!ok(plan.result == result && plan.ncreate == ncreate && plan.nexpire == 0,
			"%s", name))
		print_plan(&plan);
}

static void
test_out_of_range(void)
{
	const CalTime last = date(294276, 12, 31);
	const PlanBound today = {last, CAL_END - 1};
	const PlanBound end = {last + 12 * CAL_HOUR, CAL_INFINITY};
	const PlanBound all = {CAL_MINUS_INFINITY, CAL_INFINITY};
	const PlanBound middle = {date(-4713, 12, 15), date(2025, 1, 1)};

	check_result(&one_day, 0, CAL_INFINITY, NULL, PLAN_OUT_OF_RANGE, 0, "now is infinite");
	check_result(&one_day, 0, CAL_MINUS_INFINITY, &all, PLAN_OUT_OF_RANGE, 0, "or minus infinite");
	check_result(&one_day, 1, last, NULL, PLAN_OUT_OF_RANGE, 0, "the target is behind the end");
	check_result(&one_day, 1, last, &all, PLAN_OUT_OF_RANGE, 0, "even where everything is covered");
	check_result(&one_day, INT32_MAX, 0, NULL, PLAN_OUT_OF_RANGE, 0, "the most to be made");
	check_result(&one_year, INT32_MAX, 0, NULL, PLAN_OUT_OF_RANGE, 0, "the most years to be made");
	check_result(&one_day, 0, last, NULL, PLAN_OUT_OF_RANGE, 0, "the last day's end is no timestamp");
	check_result(&one_day, 1, last - 1, NULL, PLAN_OUT_OF_RANGE, 1, "but the day before is made");
	check_result(&one_day, 0, last - 1, NULL, PLAN_OK, 1, "and alone it is no error");
	check_result(&one_day, 0, last, &today, PLAN_OK, 0, "nothing is needed behind the target");
	check_result(&one_day, 0, last, &end, PLAN_OK, 1, "an existing bound ends the last step");
	check_result(&one_day, 8, CAL_END - 8 * CAL_DAY - 1, &end, PLAN_OK, 9, "and many before it");
	check_result(&one_month, 0, CAL_FIRST, NULL, PLAN_OUT_OF_RANGE, 0, "the first month began before the first timestamp");
	check_result(&one_month, 0, CAL_FIRST, &middle, PLAN_OUT_OF_RANGE, 0, "also with a partition after it");
	check_result(&one_day, 0, CAL_FIRST, NULL, PLAN_OK, 1, "the first day didn't");
}

typedef struct PeriodCase
{
	const char *name;
	const char *zone;
	const CalSpan *interval;
	CalTime		at;
	PlanBound	parts[4];
	PlanResult	result;
	PlanBound	period;			/* not looked at when out of range */
	int			existing;
} PeriodCase;

static void
check_period(const PeriodCase *c)
{
	PlanPolicy	policy = make_policy(c->zone, c->interval, 0, NULL);
	PlanBound	period = {UNTOUCHED, UNTOUCHED};
	int			existing = -2;
	PlanResult	result = plan_period_at(&policy, c->at, c->parts,
										count_bounds(c->parts, LENGTH(c->parts)),
										&period, &existing);

	if (!ok(result == c->result && existing == c->existing &&
			(result == PLAN_OUT_OF_RANGE ||
			 memcmp(&period, &c->period, sizeof(period)) == 0), "%s", c->name))
		printf("# result %d, %lld to %lld, existing %d\n", result,
			   (long long) period.lower, (long long) period.upper, existing);
}

static void
test_period_existing(void)
{
	const CalTime noon = utc(2025, 1, 10, 12, 0, 0);
	const PeriodCase cases[] = {
		{"period: the partition is there", NULL, &one_day, noon,
		{JAN(9, 10), JAN(10, 11), JAN(11, 12)}, PLAN_OK, JAN(10, 11), 1},
		{"at its lower bound", NULL, &one_day, date(2025, 1, 10),
		{JAN(9, 10), JAN(10, 11)}, PLAN_OK, JAN(10, 11), 1},
		{"just before its upper bound", NULL, &one_day, date(2025, 1, 10) - 1,
		{JAN(9, 10), JAN(10, 11)}, PLAN_OK, JAN(9, 10), 0},
		{"of the policy's width, if not aligned", NULL, &one_day, noon,
		{{utc(2025, 1, 9, 18, 0, 0), utc(2025, 1, 10, 18, 0, 0)}}, PLAN_OK,
		{utc(2025, 1, 9, 18, 0, 0), utc(2025, 1, 10, 18, 0, 0)}, 0},
		{"a month, if not aligned", NULL, &one_month, noon,
		{{date(2024, 12, 15), date(2025, 1, 15)}}, PLAN_OK,
		{date(2024, 12, 15), date(2025, 1, 15)}, 0},
		{"wider than the policy's", NULL, &one_day, noon,
		{JAN(9, 12)}, PLAN_OVERLAP, JAN(10, 11), 0},
		{"narrower", NULL, &one_month, noon,
		{JAN(5, 6), JAN(10, 11)}, PLAN_OVERLAP, {date(2025, 1, 1), date(2025, 2, 1)}, 1},
		{"from MINVALUE", NULL, &one_day, noon,
		{{CAL_MINUS_INFINITY, date(2025, 2, 1)}}, PLAN_OVERLAP, JAN(10, 11), 0},
		{"to MAXVALUE", NULL, &one_day, noon,
		{JAN(9, 10), {date(2025, 1, 10), CAL_INFINITY}}, PLAN_OVERLAP, JAN(10, 11), 1},
		{"New York's day of 23 hours", "America/New_York", &one_day, utc(2024, 3, 11, 3, 59, 59),
		{{utc(2024, 3, 10, 5, 0, 0), utc(2024, 3, 11, 4, 0, 0)}}, PLAN_OK,
		{utc(2024, 3, 10, 5, 0, 0), utc(2024, 3, 11, 4, 0, 0)}, 0},
		{"24 hours aren't that day", "America/New_York", &one_day, utc(2024, 3, 11, 3, 59, 59),
		{{utc(2024, 3, 10, 5, 0, 0), utc(2024, 3, 11, 5, 0, 0)}}, PLAN_OVERLAP,
		{utc(2024, 3, 10, 5, 0, 0), utc(2024, 3, 11, 4, 0, 0)}, 0}
	};

	for (int i = 0; i < LENGTH(cases); i++)
		check_period(&cases[i]);
}

static void
test_period_new(void)
{
	const CalTime noon = utc(2025, 1, 10, 12, 0, 0);
	const CalTime six = 6 * CAL_HOUR;
	const PeriodCase cases[] = {
		{"period: no partitions, by the calendar", NULL, &one_day, noon,
		{}, PLAN_OK, JAN(10, 11), -1},
		{"no partitions, a month", NULL, &one_month, noon,
		{}, PLAN_OK, {date(2025, 1, 1), date(2025, 2, 1)}, -1},
		{"no partitions, in a zone", "America/New_York", &one_day, utc(2024, 11, 3, 6, 30, 0),
		{}, PLAN_OK, {utc(2024, 11, 3, 4, 0, 0), utc(2024, 11, 4, 5, 0, 0)}, -1},
		{"before the first: back from it", NULL, &one_day, noon,
		{{date(2025, 1, 15) + six, date(2025, 1, 16)}}, PLAN_OK,
		{date(2025, 1, 10) + six, date(2025, 1, 11) + six}, -1},
		{"before the first, which goes to MAXVALUE", NULL, &one_day, noon,
		{{date(2025, 1, 15) + six, CAL_INFINITY}}, PLAN_OK,
		{date(2025, 1, 10) + six, date(2025, 1, 11) + six}, -1},
		{"just before the first", NULL, &one_day, date(2025, 1, 15) - 1,
		{JAN(15, 16)}, PLAN_OK, JAN(14, 15), -1},
		{"at a step before the first", NULL, &one_day, date(2025, 1, 14),
		{JAN(15, 16)}, PLAN_OK, JAN(14, 15), -1},
		{"months before the first, of the 31st", NULL, &one_month, date(2025, 3, 15),
		{{date(2025, 5, 31), date(2025, 6, 30)}}, PLAN_OK, {date(2025, 2, 28), date(2025, 3, 31)}, -1},
		{"centuries before the first", NULL, &six_hours, utc(1582, 10, 4, 7, 0, 0),
		{JAN(15, 16)}, PLAN_OK, {utc(1582, 10, 4, 6, 0, 0), utc(1582, 10, 4, 12, 0, 0)}, -1},
		{"after the last: on from it", NULL, &one_day, noon,
		{JAN(1, 2), {date(2025, 1, 2), date(2025, 1, 3) + six}}, PLAN_OK,
		{date(2025, 1, 10) + six, date(2025, 1, 11) + six}, -1},
		{"right after the last", NULL, &one_day, date(2025, 1, 2),
		{JAN(1, 2)}, PLAN_OK, JAN(2, 3), -1},
		{"months after the last, of the 31st", NULL, &one_month, date(2025, 4, 15),
		{JAN(1, 31)}, PLAN_OK, {date(2025, 3, 31), date(2025, 4, 30)}, -1},
		{"centuries after the last", NULL, &one_month, date(4025, 4, 15),
		{JAN(1, 31)}, PLAN_OK, {date(4025, 3, 31), date(4025, 4, 30)}, -1},
		{"after MINVALUE", NULL, &one_day, noon,
		{{CAL_MINUS_INFINITY, date(2025, 1, 9)}}, PLAN_OK, JAN(10, 11), -1},
		{"in a hole that has room", NULL, &one_day, noon,
		{JAN(8, 9), JAN(11, 12)}, PLAN_OK, JAN(10, 11), -1},
		{"days after the last, over New York's spring", "America/New_York", &one_day, utc(2024, 3, 11, 3, 59, 59),
		{{utc(2024, 3, 8, 5, 0, 0), utc(2024, 3, 9, 5, 0, 0)}}, PLAN_OK,
		{utc(2024, 3, 10, 5, 0, 0), utc(2024, 3, 11, 4, 0, 0)}, -1},
		{"around the day that doesn't exist", "Pacific/Apia", &one_day, utc(2011, 12, 30, 10, 0, 0),
		{{utc(2011, 12, 28, 10, 0, 0), utc(2011, 12, 29, 10, 0, 0)}}, PLAN_OK,
		{utc(2011, 12, 30, 10, 0, 0), utc(2011, 12, 31, 10, 0, 0)}, -1}
	};

	for (int i = 0; i < LENGTH(cases); i++)
		check_period(&cases[i]);
}

static void
test_period_refused(void)
{
	const CalTime noon = utc(2025, 1, 10, 12, 0, 0);
	const PlanBound nothing = {0, 0};
	const PeriodCase cases[] = {
		{"period: the next one is in the way", NULL, &one_day, noon,
		{JAN(8, 9), {noon + 1, date(2025, 1, 12)}}, PLAN_OVERLAP, JAN(10, 11), 1},
		{"in the way by a microsecond", NULL, &one_day, noon,
		{JAN(8, 9), {date(2025, 1, 11) - 1, date(2025, 1, 12)}}, PLAN_OVERLAP, JAN(10, 11), 1},
		{"not the nearest but the next of three", NULL, &one_month, noon,
		{JAN(1, 2), JAN(8, 9), JAN(20, 21), JAN(22, 23)}, PLAN_OVERLAP,
		{date(2025, 1, 9), date(2025, 2, 9)}, 2},
		{"infinity", NULL, &one_day, CAL_INFINITY, {}, PLAN_OUT_OF_RANGE, nothing, -1},
		{"infinity after the last", NULL, &one_day, CAL_INFINITY, {JAN(1, 2)}, PLAN_OUT_OF_RANGE, nothing, -1},
		{"minus infinity", NULL, &one_day, CAL_MINUS_INFINITY, {}, PLAN_OUT_OF_RANGE, nothing, -1},
		{"minus infinity before the first", NULL, &one_day, CAL_MINUS_INFINITY, {JAN(1, 2)}, PLAN_OUT_OF_RANGE, nothing, -1},
		{"the last day of all", NULL, &one_day, CAL_END - 1, {}, PLAN_OUT_OF_RANGE, nothing, -1},
		{"the last day of all, after the last", NULL, &one_day, CAL_END - 1, {JAN(1, 2)}, PLAN_OUT_OF_RANGE, nothing, -1},
		{"the first month of all", NULL, &one_month, CAL_FIRST, {}, PLAN_OUT_OF_RANGE, nothing, -1},
		{"the first month of all, before the first", NULL, &one_month, CAL_FIRST, {JAN(1, 2)}, PLAN_OUT_OF_RANGE, nothing, -1},
		{"inside of one whose calendar has ended", NULL, &one_day, CAL_END - 1,
		{{date(2025, 1, 1), CAL_INFINITY}}, PLAN_OUT_OF_RANGE, nothing, 0},
		{"inside of one whose calendar has not begun", NULL, &one_month, CAL_FIRST,
		{{CAL_MINUS_INFINITY, CAL_INFINITY}}, PLAN_OUT_OF_RANGE, nothing, 0}
	};
	const PeriodCase skipped[] = {
		{"the policy's own partition of a day without midnight", "America/Sao_Paulo", &one_day, utc(2017, 10, 15, 12, 0, 0),
		{{utc(2017, 10, 15, 3, 0, 0), utc(2017, 10, 16, 2, 0, 0)}}, PLAN_OK,
		{utc(2017, 10, 15, 3, 0, 0), utc(2017, 10, 16, 2, 0, 0)}, 0}
	};
	const PeriodCase repeated[] = {
		{"after a bound at the second 01:10", "America/New_York", &one_day, utc(2024, 11, 3, 6, 30, 0),
		{{utc(2024, 11, 3, 4, 0, 0), utc(2024, 11, 3, 6, 10, 0)}}, PLAN_OK,
		{utc(2024, 11, 3, 6, 10, 0), utc(2024, 11, 4, 6, 10, 0)}, -1}
	};

	for (int i = 0; i < LENGTH(cases); i++)
		check_period(&cases[i]);
	check_period(&skipped[0]);
	check_period(&repeated[0]);
}

typedef struct CoveredCase
{
	const char *name;
	CalTime		now;
	PlanBound	parts[4];
	bool		covered;
	CalTime		until;
} CoveredCase;

static void
test_covered_until(void)
{
	const CalTime noon = utc(2025, 1, 10, 12, 0, 0);
	const CoveredCase cases[] = {
		{"covered: no partitions", noon, {}, false, UNTOUCHED},
		{"before the first", noon, {JAN(11, 12)}, false, UNTOUCHED},
		{"after the last", noon, {JAN(8, 9), JAN(9, 10)}, false, UNTOUCHED},
		{"at the last bound", date(2025, 1, 10), {JAN(8, 9), JAN(9, 10)}, false, UNTOUCHED},
		{"in a hole", noon, {JAN(8, 9), JAN(11, 12)}, false, UNTOUCHED},
		{"just before the last bound", date(2025, 1, 10) - 1, {JAN(8, 9), JAN(9, 10)}, true, date(2025, 1, 10)},
		{"at the first bound", date(2025, 1, 8), {JAN(8, 9), JAN(9, 10)}, true, date(2025, 1, 10)},
		{"until a hole", noon, {JAN(9, 11), JAN(11, 12), JAN(13, 14)}, true, date(2025, 1, 12)},
		{"after a hole", noon, {JAN(5, 6), JAN(10, 11), JAN(11, 31)}, true, date(2025, 1, 31)},
		{"from MINVALUE", CAL_FIRST, {{CAL_MINUS_INFINITY, date(2025, 1, 1)}}, true, date(2025, 1, 1)},
		{"as far as MAXVALUE begins", noon, {JAN(10, 11), {date(2025, 1, 11), CAL_INFINITY}}, true, date(2025, 1, 11)},
		{"to MAXVALUE", noon, {JAN(9, 10), {date(2025, 1, 10), CAL_INFINITY}}, false, UNTOUCHED},
		{"from MINVALUE to MAXVALUE", noon, {{CAL_MINUS_INFINITY, CAL_INFINITY}}, false, UNTOUCHED},
		{"in a hole before MAXVALUE", noon, {JAN(8, 9), {date(2025, 1, 11), CAL_INFINITY}}, false, UNTOUCHED}
	};

	for (int i = 0; i < LENGTH(cases); i++)
	{
		const CoveredCase *c = &cases[i];
		CalTime		until = UNTOUCHED;

		ok(plan_covered_until(c->now, c->parts, count_bounds(c->parts, LENGTH(c->parts)),
							  &until) == c->covered && until == c->until, "%s", c->name);
	}
}

typedef struct QuartersCase
{
	const char *name;
	int			premake;
	PlanBound	parts[5];
	int			quarters;
} QuartersCase;

static void
test_quarters(void)
{
	const CalTime noon = utc(2025, 1, 10, 12, 0, 0);
	const QuartersCase cases[] = {
		{"quarters: no partitions", 4, {}, 0},
		{"the day, and nothing after it", 4, {JAN(10, 11)}, 0},
		{"a bit more than one of four days", 4, {JAN(10, 12)}, 1},
		{"a bit more than two", 4, {JAN(10, 13)}, 2},
		{"a bit more than three", 4, {JAN(10, 14)}, 3},
		{"all of it", 4, {JAN(10, 15)}, 4},
		{"more than that", 4, {JAN(1, 31)}, 4},
		{"half of one day", 1, {JAN(10, 11)}, 2},
		{"until a hole", 4, {JAN(10, 12), JAN(13, 31)}, 1},
		{"beside now", 4, {JAN(11, 31)}, 0},
		{"a catch-all", 4, {{date(2025, 1, 10), CAL_INFINITY}}, 0},
		{"a catch-all ahead", 4, {JAN(10, 12), {date(2025, 1, 12), CAL_INFINITY}}, 1}
	};

	for (int i = 0; i < LENGTH(cases); i++)
	{
		const QuartersCase *c = &cases[i];
		PlanPolicy	policy = {.interval = one_day, .premake = c->premake};

		ok(plan_covered_quarters(&policy, noon, c->parts,
								 count_bounds(c->parts, LENGTH(c->parts))) == c->quarters, "%s", c->name);
	}
}

typedef struct HolesCase
{
	const char *name;
	int			premake;
	const CalSpan *retention;
	PlanBound	parts[5];
	int			holes;
	PlanBound	first;
} HolesCase;

static void
test_holes(void)
{
	const CalTime now = date(2025, 1, 10);
	const PlanBound none = {UNTOUCHED, UNTOUCHED};
	const HolesCase cases[] = {
		{"holes: no partitions", 1, NULL, {}, 0, none},
		{"one partition", 1, NULL, {JAN(9, 10)}, 0, none},
		{"partitions side by side", 1, NULL, {JAN(8, 9), JAN(9, 10)}, 0, none},
		{"a hole", 1, NULL, {JAN(8, 9), JAN(10, 12)}, 1, JAN(9, 10)},
		{"a hole by a microsecond", 1, NULL, {{date(2025, 1, 8), date(2025, 1, 9) - 1}, JAN(9, 12)},
		1, {date(2025, 1, 9) - 1, date(2025, 1, 9)}},
		{"several: the first is told", 1, NULL, {JAN(1, 2), JAN(2, 3), JAN(5, 6), JAN(7, 8), JAN(9, 12)}, 3, JAN(3, 5)},
		{"a hole that begins with the target", 1, NULL, {JAN(1, 11), JAN(12, 13)}, 1, JAN(11, 12)},
		{"a hole behind the target", 1, NULL, {{date(2025, 1, 1), date(2025, 1, 11) + 1}, JAN(12, 13)}, 0, none},
		{"junk far ahead", 1, NULL, {JAN(9, 12), {date(9999, 1, 1), date(9999, 1, 2)}}, 0, none},
		{"a hole that ends with the retention", 1, &two_days, {JAN(1, 2), JAN(8, 12)}, 0, none},
		{"a hole that ends in the retention", 1, &two_days, {JAN(1, 2), {date(2025, 1, 8) + 1, date(2025, 1, 12)}},
		1, {date(2025, 1, 2), date(2025, 1, 8) + 1}},
		{"an expired hole and another", 1, &two_days, {JAN(1, 2), JAN(3, 9), JAN(10, 12)}, 1, JAN(9, 10)},
		{"between MINVALUE and MAXVALUE", 1, NULL, {{CAL_MINUS_INFINITY, now}, {now + 1, CAL_INFINITY}}, 1, {now, now + 1}},
		{"the target is out of range", INT32_MAX, NULL, {JAN(8, 9), JAN(10, 12)}, 0, none}
	};

	for (int i = 0; i < LENGTH(cases); i++)
	{
		const HolesCase *c = &cases[i];
		PlanPolicy	policy = make_policy(NULL, &one_day, c->premake, c->retention);
		PlanBound	first = none;

		ok(plan_holes(&policy, now, c->parts, count_bounds(c->parts, LENGTH(c->parts)),
					  &first) == c->holes &&
		   memcmp(&first, &c->first, sizeof(first)) == 0, "%s", c->name);
	}
}

/* A last bound just before the calendar's: the first new partition makes up for it. */
static void
test_cracks(void)
{
	static Table table;
	static Plan plan;
	const CalTime almost = date(2025, 2, 1) - 1000;
	PlanPolicy	policy = make_policy(NULL, &one_month, 2, NULL);
	PlanBound	period;
	int			existing;

	table.nparts = 1;
	table.parts[0] = (PlanBound) {date(2025, 1, 1), almost};
	make_plan(&plan, &policy, date(2025, 1, 15), &table);
	ok(plan.ncreate == 2, "a month that ends a millisecond early: two more are wanted");
	is_time(plan.create[0].lower, almost, "the first begins where it ends");
	is_time(plan.create[0].upper, date(2025, 3, 1), "and ends with the next month");
	is_time(plan.create[1].upper, date(2025, 4, 1), "the second with that after it");
	is_time(plan_nominal_start(&policy, &plan.create[0]), date(2025, 2, 1), "the first is February");
	ok(plan_period_at(&policy, almost, table.parts, 1, &period, &existing) == PLAN_OK &&
	   memcmp(&period, &plan.create[0], sizeof(period)) == 0, "it is the period of that millisecond");
	ok(plan_period_at(&policy, date(2025, 3, 1), table.parts, 1, &period, &existing) == PLAN_OK &&
	   memcmp(&period, &plan.create[1], sizeof(period)) == 0, "and the second is that of March");

	table.parts[0].upper = date(2025, 2, 1) - PLAN_CRACK - 1;
	make_plan(&plan, &policy, date(2025, 1, 15), &table);
	is_time(plan.create[0].lower, table.parts[0].upper, "more than a second early is another grid");
	ok(plan.create[0].upper < date(2025, 3, 1), "which goes on");

	table.nparts = 2;
	table.parts[0].upper = almost;
	table.parts[1] = (PlanBound) {date(2025, 2, 1), date(2025, 3, 1)};
	ok(plan_is_crack(&(PlanBound) {almost, date(2025, 2, 1)}, table.parts, 2), "between two it is a crack");
	ok(!plan_is_crack(&(PlanBound) {almost, date(2025, 1, 31)}, table.parts, 2), "but not another range");
	ok(!plan_is_crack(&(PlanBound) {date(2025, 3, 1), date(2025, 3, 1) + 5}, table.parts, 2), "nor after the last");
	is_time(plan_nominal_start(&policy, &(PlanBound) {almost, date(2025, 2, 1)}), almost,
			"and its own partition would begin there");
}

static void
test_has_more(void)
{
	const CalTime now = utc(2025, 1, 1, 12, 0, 0);
	const CalSpan retention = {0, 1, 0};
	PlanPolicy	policy = make_policy(NULL, &one_hour, 4, NULL);
	PlanBound	parts[] = {
		{now - 26 * CAL_HOUR, now - 25 * CAL_HOUR},
		{now - 25 * CAL_HOUR, now - 23 * CAL_HOUR},
		{now - 23 * CAL_HOUR, CAL_INFINITY}
	};

	ok(!plan_has_more(&policy, now, now + CAL_HOUR - 1, now + 5 * CAL_HOUR, NULL, 0),
	   "nothing is due as long as premake is covered");
	ok(plan_has_more(&policy, now, now + CAL_HOUR, now + 5 * CAL_HOUR, NULL, 0),
	   "a creation is due from the moment at which the plan has it");
	ok(!plan_has_more(&policy, now, now + CAL_DAY, CAL_INFINITY, NULL, 0), "but never after MAXVALUE");
	ok(!plan_has_more(&policy, now, now + CAL_DAY, now, NULL, 0), "nor where now isn't covered");

	policy.has_retention = true;
	policy.retention = retention;
	ok(!plan_has_more(&policy, now, now + CAL_HOUR - 1, CAL_INFINITY, parts, 3),
	   "what is expired already makes nothing due");
	ok(plan_has_more(&policy, now, now + CAL_HOUR, CAL_INFINITY, parts, 3),
	   "an expiry is due from the moment at which the plan has it");
	ok(!plan_has_more(&policy, now, now + 100 * CAL_DAY, CAL_INFINITY, parts + 2, 1),
	   "a partition without an end never expires");
}

/*
 * Random rounds. Each is made from its number alone, so that a round that
 * failed can be made again.
 */
typedef struct Round
{
	int			number;
	Random		random;
	PlanPolicy	policy;
	CalTime		now;
	CalTime		cutoff;
	CalTime		target;
	int			keep;			/* see apply() */
	Table		before;
	Table		after;
	Plan		plan;
	Plan		again;
} Round;

typedef enum Property
{
	RESULT, ORDER, NEEDED, WIDTH, EXPIRY, NO_OVERLAP, COVERED, NO_HOLES, AGAIN, PERIOD,
	NPROPERTIES
} Property;

static const char *const property_names[NPROPERTIES] = {
	[RESULT] = "the plan succeeds",
	[ORDER] = "creations come in order of time, expiries after them",
	[NEEDED] = "nothing is created behind the target or expired at once",
	[WIDTH] = "what is created is one interval wide, or ends at a bound",
	[EXPIRY] = "expired is exactly what ends at now - retention or before",
	[NO_OVERLAP] = "what is created overlaps nothing",
	[COVERED] = "applied, it covers from now to the target without a hole",
	[NO_HOLES] = "applied, no hole is left from the retention to the target",
	[AGAIN] = "the second plan creates nothing, and expires what was kept",
	[PERIOD] = "plan_period_at() wants the same partitions"
};

static const CalSpan round_spans[] = {
	{0, 0, MINUTE}, {0, 0, 15 * MINUTE}, {0, 0, CAL_HOUR}, {0, 0, 90 * MINUTE}, {0, 0, 6 * CAL_HOUR}, {0, 0, 36 * CAL_HOUR},
	{0, 1, 0}, {0, 1, 0}, {0, 3, 0}, {0, 7, 0}, {0, 14, 0},
	{1, 0, 0}, {1, 0, 0}, {3, 0, 0}, {12, 0, 0}, {24, 0, 0}
};

/* About as long as the span. */
static int64_t
span_length(const CalSpan *span)
{
	return span->months * 30 * CAL_DAY + span->days * CAL_DAY + span->usec;
}

static void
random_policy(Round *round)
{
	Random	   *random = &round->random;
	PlanPolicy *policy = &round->policy;

	policy->interval = round_spans[random_between(random, 0, LENGTH(round_spans))];
	policy->premake = (int) random_between(random, 0, 12);
	policy->has_retention = !one_in(random, 3);
	policy->retention = policy->interval;
	policy->retention.months *= (int32_t) random_between(random, 0, 8);
	policy->retention.days *= (int32_t) random_between(random, 0, 8);
	policy->retention.usec *= random_between(random, 0, 8);
	if (one_in(random, 4))
		policy->retention.days += (int32_t) random_between(random, 0, 40);
	if (one_in(random, 4))
		policy->retention.usec += random_between(random, 0, 2 * CAL_DAY);
}

/* One interval on, or anything from a microsecond to three intervals. */
static CalTime
random_step(Round *round, CalTime t)
{
	const CalSpan *span = &round->policy.interval;
	CalTime		end;

	if (one_in(&round->random, 4))
		return t + random_between(&round->random, 1, 3 * span_length(span));
	if (one_in(&round->random, 20))
		return t + 1;
	/* the day that Apia hasn't would be empty */
	return cal_add(&round->policy.cal, t, span, 1, &end) && end > t ? end : t + 1;
}

static void
random_bounds(Round *round)
{
	Random	   *random = &round->random;
	Table	   *table = &round->before;
	int			n = (int) random_between(random, 0, 20);
	CalTime		t = round->now - random_between(random, -3, 20) *
		span_length(&round->policy.interval);

	table->nparts = 0;
	if (one_in(random, 2))
		cal_floor(&round->policy.cal, t, &round->policy.interval, &t);
	for (int i = 0; i < n; i++)
	{
		PlanBound	part = {t, random_step(round, t)};

		/* on the edges, half of the bugs are */
		if (one_in(random, 10) && part.lower < round->cutoff)
			part.upper = round->cutoff;
		else if (one_in(random, 20) && part.lower < round->now)
			part.upper = round->now;
		else if (one_in(random, 20) && part.lower < round->target)
			part.upper = round->target;
		table->parts[table->nparts++] = part;
		t = one_in(random, 4) ? random_step(round, part.upper) : part.upper;
	}
	if (n > 0 && one_in(random, 8))
		table->parts[0].lower = CAL_MINUS_INFINITY;
	if (n > 0 && one_in(random, 8))
		table->parts[n - 1].upper = CAL_INFINITY;
	else if (one_in(random, 8))
		table->parts[table->nparts++] = (PlanBound) {date(9999, 1, 1), date(9999, 2, 1)};
}

static void
random_round(Round *round, int number, const Calendar *cal, const Changes *changes)
{
	const PlanPolicy *policy = &round->policy;

	round->number = number;
	round->random.state = (uint64_t) number;
	round->policy.cal = *cal;
	random_policy(round);
	/* far away times are the calendar's business */
	do
		round->now = random_time(&round->random, changes);
	while (round->now < date(1900, 1, 1) || round->now > date(2100, 1, 1));
	if (one_in(&round->random, 4))
		cal_floor(cal, round->now, &policy->interval, &round->now);
	round->cutoff = CAL_MINUS_INFINITY;
	if (policy->has_retention)
		cal_add(cal, round->now, &policy->retention, -1, &round->cutoff);
	cal_add(cal, round->now, &policy->interval, policy->premake, &round->target);
	round->keep = (int) random_between(&round->random, 0, 4);
	random_bounds(round);
}

static void
run_round(Round *round)
{
	make_plan(&round->plan, &round->policy, round->now, &round->before);
	round->after = round->before;
	apply(&round->after, &round->plan, round->keep);
	make_plan(&round->again, &round->policy, round->now, &round->after);
}

static bool
is_ordered(const Plan *plan)
{
	for (int i = 1; i < plan->ncreate; i++)
	{
		if (plan->create[i].lower < plan->create[i - 1].upper)
			return false;
	}
	return plan->create_first;
}

static bool
all_needed(const Round *round)
{
	for (int i = 0; i < round->plan.ncreate; i++)
	{
		if (round->plan.create[i].lower > round->target ||
			round->plan.create[i].upper <= round->cutoff)
			return false;
	}
	return true;
}

static bool
is_lower_bound(const Table *table, CalTime t)
{
	for (int i = 0; i < table->nparts; i++)
	{
		if (table->parts[i].lower == t)
			return true;
	}
	return false;
}

/* Months and zones have no one width: the fixed cases are for them. */
static bool
widths_hold(const Round *round)
{
	const CalSpan *span = &round->policy.interval;

	if (span->months > 0 || (span->days > 0 && round->policy.cal.offset != NULL))
		return true;
	for (int i = 0; i < round->plan.ncreate; i++)
	{
		const PlanBound *made = &round->plan.create[i];
		int64_t		width = made->upper - plan_nominal_start(&round->policy, made);

		if (width != span_length(span) &&
			(width > span_length(span) || !is_lower_bound(&round->before, made->upper)))
			return false;
	}
	return true;
}

static bool
expiry_is_exact(const Round *round)
{
	int			n = 0;

	for (int i = 0; i < round->before.nparts; i++)
	{
		if (round->before.parts[i].upper > round->cutoff)
			continue;
		if (n >= round->plan.nexpire || round->plan.expire[n].index != i ||
			memcmp(&round->plan.expire[n].bound, &round->before.parts[i],
				   sizeof(PlanBound)) != 0)
			return false;
		n++;
	}
	return n == round->plan.nexpire;
}

static bool
no_overlap(const Round *round)
{
	static Table all;

	all = round->before;
	add_parts(&all, round->plan.create, round->plan.ncreate);
	return !has_overlap(&all) && !has_overlap(&round->after);
}

/* Without plan_covered_until(), and then the same by it. */
static bool
is_covered(const Table *table, CalTime now, CalTime target)
{
	CalTime		covered = now;
	CalTime		last = now;		/* before a partition without an end */
	CalTime		until;

	for (int i = 0; i < table->nparts; i++)
	{
		if (table->parts[i].lower > covered || table->parts[i].upper <= covered)
			continue;
		covered = table->parts[i].upper;
		if (covered != CAL_INFINITY)
			last = covered;
	}
	return covered > target && covered > now &&
		plan_has_partition(now, table->parts, table->nparts) &&
		plan_covered_until(now, table->parts, table->nparts, &until) == (last > now) &&
		(last == now || until == last);
}

/* Without plan_holes(), and then the same by it, before and after. */
static int
count_holes(const Round *round, const Table *table)
{
	int			n = 0;

	for (int i = 1; i < table->nparts; i++)
	{
		CalTime		lower = table->parts[i - 1].upper;
		CalTime		upper = table->parts[i].lower;

		n += lower < upper && upper > round->cutoff && lower <= round->target;
	}
	return n;
}

static bool
no_holes(const Round *round)
{
	const Table *before = &round->before;
	const Table *after = &round->after;
	PlanBound	first;

	return count_holes(round, after) == 0 &&
		plan_holes(&round->policy, round->now, after->parts, after->nparts, &first) == 0 &&
		plan_holes(&round->policy, round->now, before->parts, before->nparts, &first) ==
		count_holes(round, before);
}

static bool
again_is_empty(const Round *round)
{
	int			kept = round->keep == 0 ? 0 :
		(round->plan.nexpire + round->keep - 1) / round->keep;

	return round->again.result == PLAN_OK && round->again.ncreate == 0 &&
		round->again.nexpire == kept;
}

/*
 * But before the first partition, where plan_period_at() steps back from it;
 * and with none at all, where a day without midnight parts the two.
 */
static bool
periods_agree(const Round *round)
{
	const Table *table = &round->before;

	if (table->nparts == 0 && round->policy.cal.offset != NULL)
		return true;
	for (int i = 0; i < round->plan.ncreate; i++)
	{
		const PlanBound *made = &round->plan.create[i];
		PlanBound	period;
		int			existing;
		PlanResult	result;

		if (table->nparts > 0 && made->lower < table->parts[0].lower)
			continue;
		result = plan_period_at(&round->policy, made->lower, table->parts,
								table->nparts, &period, &existing);
		if (period.lower != made->lower || period.upper < made->upper)
			return false;
		/* the plan ends a step at the next partition; here that is in the way */
		if (period.upper == made->upper ? result != PLAN_OK || existing != -1 :
			result != PLAN_OVERLAP || table->parts[existing].lower != made->upper)
			return false;
	}
	return true;
}

static void
check_round(const Round *round, int failed[NPROPERTIES])
{
	const bool	holds[NPROPERTIES] = {
		[RESULT] = round->plan.result == PLAN_OK,
		[ORDER] = is_ordered(&round->plan),
		[NEEDED] = all_needed(round),
		[WIDTH] = widths_hold(round),
		[EXPIRY] = expiry_is_exact(round),
		[NO_OVERLAP] = no_overlap(round),
		[COVERED] = is_covered(&round->after, round->now, round->target),
		[NO_HOLES] = no_holes(round),
		[AGAIN] = again_is_empty(round),
		[PERIOD] = periods_agree(round)
	};

	for (int i = 0; i < NPROPERTIES; i++)
	{
		if (!holds[i] && failed[i]++ == 0)
			printf("# round %d: not \"%s\"\n", round->number, property_names[i]);
	}
}

static void
test_random_rounds(void)
{
	static Round round;
	int			failed[NPROPERTIES] = {0};
	int			number = 0;
	int			created = 0;
	int			expired = 0;

	/* one zone after another, the last time none */
	for (int zone = 0; zone <= NZONES; zone++)
	{
		const Calendar cal = zone_number(zone);
		Changes		changes;

		find_changes(&cal, &changes);
		for (; number < (zone + 1) * ROUNDS / (NZONES + 1); number++)
		{
			random_round(&round, number, &cal, &changes);
			run_round(&round);
			check_round(&round, failed);
			created += round.plan.ncreate;
			expired += round.plan.nexpire;
		}
	}
	for (int i = 0; i < NPROPERTIES; i++)
		ok(failed[i] == 0, "%d random rounds: %s", number, property_names[i]);
	ok(created > ROUNDS && expired > ROUNDS / 2, "they created %d and expired %d partitions",
	   created, expired);
}

/*
 * Time goes by: a pass every now and then, each at most an interval after the
 * one before it. Inserts must have found a partition all along.
 */
typedef struct Simulation
{
	PlanPolicy	policy;
	CalTime		now;
	Table		table;
	Plan		plan;
	int			uncovered;
	int			overlaps;
	int			most;			/* partitions after a pass */
} Simulation;

static void
pass(Simulation *sim, CalTime *covered)
{
	CalTime		until = CAL_MINUS_INFINITY;

	/* has been since the last pass */
	if (sim->now >= *covered)
		sim->uncovered++;
	make_plan(&sim->plan, &sim->policy, sim->now, &sim->table);
	apply(&sim->table, &sim->plan, 0);
	if (sim->plan.result != PLAN_OK || has_overlap(&sim->table))
		sim->overlaps++;
	if (!plan_covered_until(sim->now, sim->table.parts, sim->table.nparts, &until))
		sim->uncovered++;
	*covered = until;
	if (sim->table.nparts > sim->most)
		sim->most = sim->table.nparts;
}

static void
simulate(Simulation *sim, const Calendar *cal, const CalSpan *span, bool retention,
		 CalTime start)
{
	Random		random = {5};
	CalTime		covered = CAL_INFINITY;

	/* the least that is safe, or with a retention something to be counted */
	sim->policy = retention ? make_policy(NULL, span, 4, span) :
		make_policy(NULL, span, 1, NULL);
	sim->policy.cal = *cal;
	sim->now = start;
	sim->table.nparts = 0;
	sim->uncovered = 0;
	sim->overlaps = 0;
	sim->most = 0;
	for (int i = 0; i < PASSES; i++)
	{
		pass(sim, &covered);
		/* 22 hours are shorter than any day, 22/24 of 30 days than any month */
		sim->now += random_between(&random, 0, span_length(span) / 24 * 22);
	}
}

static void
test_time_advancing(const Calendar *cal, const char *zone, CalTime start)
{
	static Simulation sim;
	const CalSpan *const intervals[] = {&one_hour, &six_hours, &one_day, &seven_days, &one_month, &quarter};
	int			uncovered = 0;
	int			overlaps = 0;
	int			most = 0;

	for (int i = 0; i < 2 * LENGTH(intervals); i++)
	{
		simulate(&sim, cal, intervals[i / 2], i % 2 == 0, start);
		uncovered += sim.uncovered;
		overlaps += sim.overlaps;
		if (i % 2 == 0 && sim.most > most)
			most = sim.most;
	}
	ok(uncovered == 0, "%d passes: always covered: %s", PASSES, zone);
	ok(overlaps == 0, "%d passes: never an overlap: %s", PASSES, zone);
	/* four ahead, the current one, and one that the retention cuts */
	ok(most <= 6, "%d passes: not more partitions than needed: %s", PASSES, zone);
}

static void
test_alignment(const char *zone, CalTime start)
{
	static Simulation sim;
	const Calendar cal = zone_named(zone);
	int			bad = 0;

	simulate(&sim, &cal, &one_day, false, start);
	for (int i = 0; i < sim.table.nparts; i++)
	{
		CalTime		midnight;

		if (!cal_floor(&cal, sim.table.parts[i].lower, &one_day, &midnight) ||
			midnight != sim.table.parts[i].lower)
			bad++;
	}
	ok(bad == 0, "%d passes: days stay days: %s", PASSES, zone);
}

static void
test_time(void)
{
	/* over a year and the day that Apia skipped, for all but the hours */
	for (int i = 0; i <= NZONES; i++)
	{
		const Calendar cal = zone_number(i);

		test_time_advancing(&cal, i < NZONES ? zones[i].name : "no zone", date(2011, 6, 1));
	}
	test_alignment("America/New_York", date(2024, 1, 15));
	test_alignment("Australia/Lord_Howe", date(2024, 1, 15));
	test_alignment("Pacific/Apia", date(2011, 6, 1));
	test_alignment("America/Santiago", date(2024, 7, 1));
	test_alignment("Africa/Cairo", date(2023, 2, 1));
}

int
main(void)
{
	/* a loop without an end has to fail, too */
	alarm(120);
	require_zones();
	test_continuing();
	test_gaps();
	test_retention();
	test_zones();
	test_skipped_and_repeated();
	test_long_retention();
	test_long_gap();
	test_premake();
	test_premake_in_zones();
	test_too_many();
	test_out_of_range();
	test_period_existing();
	test_period_new();
	test_period_refused();
	test_covered_until();
	test_quarters();
	test_holes();
	test_cracks();
	test_has_more();
	test_random_rounds();
	test_time();
	return done_testing();
}
