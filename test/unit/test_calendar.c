/*
 * test_calendar.c
 *		Unit tests of src/bounds/calendar.c, by its public functions only.
 */
#include "zones.h"
#include "tap.h"

/* What a function that returns false must not have written over. */
#define UNTOUCHED	INT64_C(4242424242)

#define LENGTH(array)	((int) (sizeof(array) / sizeof((array)[0])))

static const CalSpan one_hour = {0, 0, CAL_HOUR};
static const CalSpan six_hours = {0, 0, 6 * CAL_HOUR};
static const CalSpan one_day = {0, 1, 0};
static const CalSpan one_week = {0, 7, 0};
static const CalSpan two_weeks = {0, 14, 0};
static const CalSpan one_month = {1, 0, 0};
static const CalSpan quarter = {3, 0, 0};
static const CalSpan one_year = {12, 0, 0};
static const CalSpan two_years = {24, 0, 0};

/* Every kind of unit, and multiples that don't divide the next unit. */
static const CalSpan spans[] = {
	{0, 0, 1}, {0, 0, 90 * MINUTE}, {0, 0, CAL_HOUR}, {0, 0, 6 * CAL_HOUR},
	{0, 0, 7 * CAL_HOUR}, {0, 0, 36 * CAL_HOUR},
	{0, 1, 0}, {0, 2, 0}, {0, 7, 0}, {0, 10, 0}, {0, 14, 0}, {0, 365, 0},
	{1, 0, 0}, {2, 0, 0}, {3, 0, 0}, {5, 0, 0}, {12, 0, 0}, {24, 0, 0},
	{36, 0, 0}, {1200, 0, 0}
};

typedef struct AddCase
{
	const char *name;
	CalTime		t;
	const CalSpan *span;
	int64_t		n;
	CalTime		expected;
} AddCase;

typedef struct FloorCase
{
	const char *name;
	CalTime		t;
	const CalSpan *span;
	CalTime		expected;
} FloorCase;

typedef struct SuffixCase
{
	const char *expected;
	CalTime		start;
	const CalSpan *span;
} SuffixCase;

static void
check_adds(const Calendar *cal, const AddCase *cases, int n)
{
	for (int i = 0; i < n; i++)
	{
		CalTime		result = UNTOUCHED;

		if (cal_add(cal, cases[i].t, cases[i].span, cases[i].n, &result))
			is_time(result, cases[i].expected, cases[i].name);
		else
			ok(false, "%s: out of range", cases[i].name);
	}
}

static void
check_floors(const Calendar *cal, const FloorCase *cases, int n)
{
	for (int i = 0; i < n; i++)
	{
		CalTime		result = UNTOUCHED;

		if (cal_floor(cal, cases[i].t, cases[i].span, &result))
			is_time(result, cases[i].expected, cases[i].name);
		else
			ok(false, "%s: out of range", cases[i].name);
	}
}

static void
check_suffixes(const Calendar *cal, const SuffixCase *cases, int n)
{
	for (int i = 0; i < n; i++)
	{
		char		buf[CAL_SUFFIX_SIZE];

		cal_suffix(cal, cases[i].start, cases[i].span, buf);
		if (!ok(strcmp(buf, cases[i].expected) == 0, "suffix %s", cases[i].expected))
			printf("# got %s\n", buf);
	}
}

static void
test_finite(void)
{
	is_time(CAL_FIRST, date(-4713, 11, 24), "the first timestamp is in 4714 BC");
	is_time(CAL_END, date(294277, 1, 1), "the end follows the year 294276");
	is_time(0, date(2000, 1, 1), "time is counted from 2000");
	ok(cal_is_finite(0), "2000 is finite");
	ok(cal_is_finite(CAL_FIRST), "the first timestamp is finite");
	ok(!cal_is_finite(CAL_FIRST - 1), "nothing before it is");
	ok(cal_is_finite(CAL_END - 1), "the last timestamp is finite");
	ok(!cal_is_finite(CAL_END), "the end isn't");
	ok(!cal_is_finite(CAL_INFINITY), "infinity isn't");
	ok(!cal_is_finite(CAL_MINUS_INFINITY), "minus infinity isn't");
}

/* The date of a time by the C library, as cal_suffix() writes it. */
static void
suffix_by_libc(CalTime t, bool with_time, char *buf, size_t size)
{
	time_t		seconds = unix_seconds(t);
	struct tm	tm;
	long		year;
	int			len;

	gmtime_r(&seconds, &tm);
	year = tm.tm_year + 1900L;
	len = snprintf(buf, size, "_y%04ld%sm%02dd%02d", year > 0 ? year : 1 - year,
				   year > 0 ? "" : "bc", tm.tm_mon + 1, tm.tm_mday);
	if (with_time)
		snprintf(buf + len, size - len, "h%02dm%02ds%02d",
				 tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static bool
same_date(CalTime t, const CalSpan *span, bool with_time)
{
	char		expected[64];
	char		got[CAL_SUFFIX_SIZE];

	suffix_by_libc(t, with_time, expected, sizeof(expected));
	cal_suffix(&no_zone, t, span, got);
	if (strcmp(got, expected) != 0)
		printf("# got %s, expected %s\n", got, expected);
	return strcmp(got, expected) == 0;
}

static void
check_dates(CalTime from, CalTime to, int64_t days, const char *name)
{
	/* both ends are midnights, and too far apart for microseconds */
	int64_t		count = (to / CAL_DAY - from / CAL_DAY) / days;
	int64_t		i = 0;

	while (i < count && same_date((from / CAL_DAY + i * days) * CAL_DAY, &one_day, false))
		i++;
	ok(i == count, "dates from days as gmtime_r() has them: %s", name);
}

static void
test_dates_from_days(void)
{
	Random		random = {1};
	int			i;

	check_dates(date(1800, 1, 1), date(2210, 1, 1), 1, "every day of 1800 to 2209");
	check_dates(date(-410, 1, 1), date(10, 1, 1), 1,
				"every day from 411 BC to the year 9");
	check_dates(CAL_FIRST, date(-4700, 1, 1), 1, "every day of the first years");
	check_dates(date(294000, 1, 1), CAL_END, 1, "every day of the last years");
	check_dates(CAL_FIRST, CAL_END, 997, "one day in 997 of all");
	for (i = 0; i < 100000; i++)
	{
		CalTime		t = random_between(&random, CAL_FIRST / SECOND, CAL_END / SECOND);

		/* only then are all of the digits shown */
		if (t % 60 != 0 && !same_date(t * SECOND, &one_hour, true))
			break;
	}
	ok(i == 100000, "times of day as gmtime_r() has them: 100,000 random seconds");
}

/* Adding months to 2000-01-01 is making days from a year and a month. */
static void
test_days_from_dates(void)
{
	int64_t		n = -12 * 6712;

	for (; n < 12 * INT64_C(292277); n++)
	{
		CalTime		result;
		int64_t		year = 2000 + (n >= 0 ? n / 12 : -((11 - n) / 12));

		if (!cal_add(&no_zone, 0, &one_month, n, &result) ||
			result != date(year, (int) (n - (year - 2000) * 12) + 1, 1))
			break;
	}
	if (!ok(n == 12 * INT64_C(292277), "days from dates as timegm() has them: "
			"every month of every year"))
		printf("# %lld months from 2000-01\n", (long long) n);
}

/* By the Gregorian rule, and before its time too. */
static void
check_february(int64_t year, int days, const char *name)
{
	CalTime		next;

	if (!cal_add(&no_zone, date(year, 2, 1), &one_month, 1, &next))
		ok(false, "%s: out of range", name);
	else
		is_time((next - date(year, 2, 1)) / CAL_DAY, days, name);
	cal_add(&no_zone, date(year, 1, 31), &one_month, 1, &next);
	is_time(next, date(year, 2, days), "... and 31 January + 1 month is its end");
}

static void
test_leap_years(void)
{
	check_february(1900, 28, "1900 isn't a leap year");
	check_february(2000, 29, "2000 is a leap year");
	check_february(2023, 28, "2023 isn't a leap year");
	check_february(2024, 29, "2024 is a leap year");
	check_february(2100, 28, "2100 isn't a leap year");
	check_february(4, 29, "the year 4 is a leap year");
	check_february(1, 28, "the year 1 isn't a leap year");
	check_february(0, 29, "1 BC is a leap year");
	check_february(-100, 28, "101 BC isn't a leap year");
	check_february(-400, 29, "401 BC is a leap year");
	check_february(294000, 29, "294000 is a leap year");
}

static void
test_add(void)
{
	const AddCase cases[] = {
		{"hours from one end of time to the other", CAL_FIRST, &six_hours, 436814110,
		CAL_FIRST + INT64_C(218407055) * six_hours.usec + INT64_C(218407055) * six_hours.usec},
		{"days from the other end to the one", CAL_END - CAL_DAY, &one_day, -109203527, CAL_FIRST},
		{"31 January + 1 month", date(2025, 1, 31), &one_month, 1, date(2025, 2, 28)},
		{"31 January + 2 months", date(2025, 1, 31), &one_month, 2, date(2025, 3, 31)},
		{"31 January + 3 months", date(2025, 1, 31), &one_month, 3, date(2025, 4, 30)},
		{"31 March - 1 month", date(2024, 3, 31), &one_month, -1, date(2024, 2, 29)},
		{"31 August + 1 quarter", date(2025, 8, 31), &quarter, 1, date(2025, 11, 30)},
		{"30 November + 1 quarter", date(2025, 11, 30), &quarter, 1, date(2026, 2, 28)},
		{"29 February + 1 year", date(2024, 2, 29), &one_year, 1, date(2025, 2, 28)},
		{"29 February + 4 years", date(2024, 2, 29), &one_year, 4, date(2028, 2, 29)},
		{"29 February - 2 years", date(2024, 2, 29), &two_years, -1, date(2022, 2, 28)},
		{"December + 1 month", date(2025, 12, 1), &one_month, 1, date(2026, 1, 1)},
		{"January - 1 month", date(2025, 1, 1), &one_month, -1, date(2024, 12, 1)},
		{"1 AD - 1 month is BC", date(1, 1, 1), &one_month, -1, date(0, 12, 1)},
		{"BC + 1 year is 1 AD", date(0, 6, 1), &one_year, 1, date(1, 6, 1)},
		{"months keep the time of day", utc(2025, 1, 31, 23, 59, 59) + 999999,
		&one_month, 1, utc(2025, 2, 28, 23, 59, 59) + 999999},
		{"and before 2000 too", utc(1999, 3, 31, 0, 0, 0) + 1,
		&one_month, -1, utc(1999, 2, 28, 0, 0, 0) + 1},
		{"28 February + 1 day", date(2025, 2, 28), &one_day, 1, date(2025, 3, 1)},
		{"28 February + 1 day in 1900", date(1900, 2, 28), &one_day, 1, date(1900, 3, 1)},
		{"28 February + 1 day in 2024", date(2024, 2, 28), &one_day, 1, date(2024, 2, 29)},
		{"31 December + 1 day", date(2024, 12, 31), &one_day, 1, date(2025, 1, 1)},
		{"1 January - 400 days", date(2025, 1, 1), &one_day, -400, date(2023, 11, 28)},
		{"+ 5 weeks", date(2024, 12, 30), &one_week, 5, date(2025, 2, 3)},
		{"+ 2 weeks", date(2024, 12, 30), &two_weeks, 1, date(2025, 1, 13)},
		{"+ 1 hour", utc(2024, 12, 31, 23, 30, 0), &one_hour, 1, utc(2025, 1, 1, 0, 30, 0)},
		{"- 6 hours", utc(2025, 1, 1, 3, 0, 0), &six_hours, -1, utc(2024, 12, 31, 21, 0, 0)},
		{"0 months", utc(2025, 1, 31, 3, 4, 5), &one_month, 0, utc(2025, 1, 31, 3, 4, 5)},
		{"0 days", utc(1925, 1, 31, 3, 4, 5), &one_day, 0, utc(1925, 1, 31, 3, 4, 5)},
		{"0 hours", utc(2025, 1, 31, 3, 4, 5), &one_hour, 0, utc(2025, 1, 31, 3, 4, 5)},
		/* a retention may mix: months first, then days, then the rest */
		{"1 month 1 day 1 hour", date(2025, 1, 31), &(CalSpan) {1, 1, CAL_HOUR}, 1,
		utc(2025, 3, 1, 1, 0, 0)},
		{"minus the same", date(2025, 3, 31), &(CalSpan) {1, 1, CAL_HOUR}, -1,
		utc(2025, 2, 26, 23, 0, 0)},
		{"2 years 3 days, twice", date(2024, 2, 29), &(CalSpan) {24, 3, 0}, 2,
		date(2028, 3, 6)}
	};

	check_adds(&no_zone, cases, LENGTH(cases));
}

static void
test_floor(void)
{
	const FloorCase cases[] = {
		{"hour", utc(2025, 1, 15, 6, 59, 59) + 999999, &one_hour, utc(2025, 1, 15, 6, 0, 0)},
		{"hour, at its start", utc(2025, 1, 15, 6, 0, 0), &one_hour, utc(2025, 1, 15, 6, 0, 0)},
		{"hour before 2000", utc(1999, 12, 31, 23, 0, 0) + 1, &one_hour, utc(1999, 12, 31, 23, 0, 0)},
		{"6 hours", utc(2025, 1, 15, 11, 59, 59), &six_hours, utc(2025, 1, 15, 6, 0, 0)},
		{"6 hours at midnight", date(2025, 1, 15), &six_hours, date(2025, 1, 15)},
		{"6 hours before 2000", utc(1984, 2, 29, 5, 0, 0), &six_hours, date(1984, 2, 29)},
		{"day", utc(2025, 1, 15, 23, 59, 59) + 999999, &one_day, date(2025, 1, 15)},
		{"day, at its start", date(2025, 1, 15), &one_day, date(2025, 1, 15)},
		{"day before 2000", utc(1969, 12, 31, 23, 59, 59), &one_day, date(1969, 12, 31)},
		{"10 days from 2000", date(2000, 1, 30), &(CalSpan) {0, 10, 0}, date(2000, 1, 21)},
		{"week, on Sunday", utc(2025, 1, 5, 23, 59, 59), &one_week, date(2024, 12, 30)},
		{"week, on Monday", date(2025, 1, 6), &one_week, date(2025, 1, 6)},
		{"week, on Tuesday", date(2025, 1, 7), &one_week, date(2025, 1, 6)},
		{"week around 2000", date(2000, 1, 2), &one_week, date(1999, 12, 27)},
		{"week long ago", date(1900, 1, 3), &one_week, date(1900, 1, 1)},
		{"2 weeks from a Monday", date(2000, 1, 16), &two_weeks, date(2000, 1, 3)},
		{"2 weeks, the next", date(2000, 1, 17), &two_weeks, date(2000, 1, 17)},
		{"2 weeks before 2000", date(2000, 1, 2), &two_weeks, date(1999, 12, 20)},
		{"2 weeks in 2025", date(2025, 1, 15), &two_weeks, date(2025, 1, 13)},
		{"month", utc(2025, 1, 31, 23, 59, 59) + 999999, &one_month, date(2025, 1, 1)},
		{"month, at its start", date(2025, 2, 1), &one_month, date(2025, 2, 1)},
		{"month, leap day", utc(2024, 2, 29, 12, 0, 0), &one_month, date(2024, 2, 1)},
		{"month before 2000", utc(1999, 12, 31, 23, 0, 0), &one_month, date(1999, 12, 1)},
		{"month BC", date(-44, 3, 15), &one_month, date(-44, 3, 1)},
		{"quarter", date(2025, 5, 31), &quarter, date(2025, 4, 1)},
		{"quarter, the last day", utc(2025, 12, 31, 23, 0, 0), &quarter, date(2025, 10, 1)},
		{"quarter before 2000", date(1999, 9, 30), &quarter, date(1999, 7, 1)},
		{"year", utc(2025, 12, 31, 23, 59, 59), &one_year, date(2025, 1, 1)},
		{"year 1", date(1, 12, 31), &one_year, date(1, 1, 1)},
		{"year before the year 1", date(0, 12, 31), &one_year, date(0, 1, 1)},
		{"2 years, the first", date(2024, 12, 31), &two_years, date(2024, 1, 1)},
		{"2 years, the second", date(2025, 12, 31), &two_years, date(2024, 1, 1)},
		{"2 years before 2000", date(1999, 12, 31), &two_years, date(1998, 1, 1)},
		{"5 months from 2000", date(2001, 4, 1), &(CalSpan) {5, 0, 0}, date(2001, 4, 1)},
		{"5 months before 2000", date(1999, 12, 31), &(CalSpan) {5, 0, 0}, date(1999, 8, 1)}
	};

	check_floors(&no_zone, cases, LENGTH(cases));
}

/* Clocks go forward on 10 March at 07:00 UTC, back on 3 November at 06:00. */
static void
test_new_york(void)
{
	const Calendar cal = zone_named("America/New_York");
	const AddCase adds[] = {
		{"New York: the day before spring", utc(2024, 3, 9, 5, 0, 0), &one_day, 1, utc(2024, 3, 10, 5, 0, 0)},
		{"the day of 23 hours", utc(2024, 3, 10, 5, 0, 0), &one_day, 1, utc(2024, 3, 11, 4, 0, 0)},
		{"back over it", utc(2024, 3, 11, 4, 0, 0), &one_day, -1, utc(2024, 3, 10, 5, 0, 0)},
		{"but 24 hours are 24 hours", utc(2024, 3, 10, 5, 0, 0), &one_hour, 24, utc(2024, 3, 11, 5, 0, 0)},
		{"to a time that is skipped", utc(2024, 3, 9, 7, 30, 0), &one_day, 1, utc(2024, 3, 10, 7, 30, 0)},
		{"to it by a month", utc(2024, 2, 10, 7, 30, 0), &one_month, 1, utc(2024, 3, 10, 7, 30, 0)},
		{"the instant of the skip", utc(2024, 3, 9, 7, 0, 0), &one_day, 1, utc(2024, 3, 10, 7, 0, 0)},
		{"just before the skip", utc(2024, 3, 9, 7, 0, 0) - 1, &one_day, 1, utc(2024, 3, 10, 7, 0, 0) - 1},
		{"the day of 25 hours", utc(2024, 11, 3, 4, 0, 0), &one_day, 1, utc(2024, 11, 4, 5, 0, 0)},
		{"back over that", utc(2024, 11, 4, 5, 0, 0), &one_day, -1, utc(2024, 11, 3, 4, 0, 0)},
		{"to a time that comes twice: its first", utc(2024, 11, 2, 5, 30, 0), &one_day, 1, utc(2024, 11, 3, 5, 30, 0)},
		{"to it from behind", utc(2024, 11, 4, 6, 30, 0), &one_day, -1, utc(2024, 11, 3, 5, 30, 0)},
		{"just after what comes twice", utc(2024, 11, 2, 6, 0, 0), &one_day, 1, utc(2024, 11, 3, 7, 0, 0)},
		{"hours through what comes twice", utc(2024, 11, 3, 5, 30, 0), &one_hour, 1, utc(2024, 11, 3, 6, 30, 0)},
		{"the month of spring", utc(2024, 3, 1, 5, 0, 0), &one_month, 1, utc(2024, 4, 1, 4, 0, 0)},
		{"31 January + 1 month, by the wall clock", utc(2025, 2, 1, 4, 30, 0), &one_month, 1, utc(2025, 3, 1, 4, 30, 0)}
	};
	const FloorCase floors[] = {
		{"New York: the day, still yesterday's in UTC", utc(2024, 3, 10, 4, 59, 59), &one_day, utc(2024, 3, 9, 5, 0, 0)},
		{"the end of the short day", utc(2024, 3, 11, 4, 0, 0) - 1, &one_day, utc(2024, 3, 10, 5, 0, 0)},
		{"the first 01:30", utc(2024, 11, 3, 5, 30, 0), &one_day, utc(2024, 11, 3, 4, 0, 0)},
		{"the second 01:30", utc(2024, 11, 3, 6, 30, 0), &one_day, utc(2024, 11, 3, 4, 0, 0)},
		{"the end of the long day", utc(2024, 11, 4, 5, 0, 0) - 1, &one_day, utc(2024, 11, 3, 4, 0, 0)},
		{"the month, by summer time", utc(2024, 11, 30, 12, 0, 0), &one_month, utc(2024, 11, 1, 4, 0, 0)},
		{"the month, by winter time", utc(2024, 12, 31, 12, 0, 0), &one_month, utc(2024, 12, 1, 5, 0, 0)},
		{"the month, still last month's", utc(2024, 12, 1, 4, 59, 59), &one_month, utc(2024, 11, 1, 4, 0, 0)},
		{"the week", utc(2024, 3, 12, 0, 0, 0), &one_week, utc(2024, 3, 11, 4, 0, 0)},
		{"6 hours go by UTC", utc(2024, 3, 10, 8, 15, 0), &six_hours, utc(2024, 3, 10, 6, 0, 0)}
	};

	check_adds(&cal, adds, LENGTH(adds));
	check_floors(&cal, floors, LENGTH(floors));
}

/*
 * At midnight before 2017-10-15 it became 01:00 (03:00 UTC), at midnight
 * before 2018-02-18 it became 23:00 again (02:00 UTC).
 */
static void
test_sao_paulo(void)
{
	const Calendar cal = zone_named("America/Sao_Paulo");
	const AddCase adds[] = {
		{"Sao Paulo: to the midnight that doesn't exist", utc(2017, 10, 14, 3, 0, 0), &one_day, 1, utc(2017, 10, 15, 3, 0, 0)},
		{"to it by a month", utc(2017, 9, 15, 3, 0, 0), &one_month, 1, utc(2017, 10, 15, 3, 0, 0)},
		{"to it from behind", utc(2017, 10, 16, 2, 0, 0), &one_day, -1, utc(2017, 10, 15, 3, 0, 0)},
		{"over it", utc(2017, 10, 14, 3, 0, 0), &one_day, 2, utc(2017, 10, 16, 2, 0, 0)},
		{"to 23:30, which comes twice", utc(2018, 2, 17, 1, 30, 0), &one_day, 1, utc(2018, 2, 18, 1, 30, 0)},
		{"over the midnight after an hour that came twice", utc(2018, 2, 17, 2, 0, 0), &one_day, 1, utc(2018, 2, 18, 3, 0, 0)}
	};
	const FloorCase floors[] = {
		{"Sao Paulo: the last of the day before", utc(2017, 10, 15, 3, 0, 0) - 1, &one_day, utc(2017, 10, 14, 3, 0, 0)},
		{"a day without midnight begins at the skip", utc(2017, 10, 15, 3, 0, 0), &one_day, utc(2017, 10, 15, 3, 0, 0)},
		{"and later in that day", utc(2017, 10, 16, 1, 59, 59), &one_day, utc(2017, 10, 15, 3, 0, 0)},
		{"the next day", utc(2017, 10, 16, 2, 0, 0), &one_day, utc(2017, 10, 16, 2, 0, 0)},
		{"the second 23:30 is of the same day", utc(2018, 2, 18, 2, 30, 0), &one_day, utc(2018, 2, 17, 2, 0, 0)},
		{"midnight comes once", utc(2018, 2, 18, 3, 0, 0), &one_day, utc(2018, 2, 18, 3, 0, 0)}
	};

	check_adds(&cal, adds, LENGTH(adds));
	check_floors(&cal, floors, LENGTH(floors));
}

/*
 * At 02:00 on 2024-04-07 it became 01:30 (15:00 UTC), at 02:00 on 2024-10-06
 * it became 02:30 (15:30 UTC).
 */
static void
test_lord_howe(void)
{
	const Calendar cal = zone_named("Australia/Lord_Howe");
	const AddCase adds[] = {
		{"Lord Howe: the day of 24 1/2 hours", utc(2024, 4, 6, 13, 0, 0), &one_day, 1, utc(2024, 4, 7, 13, 30, 0)},
		{"the day of 23 1/2 hours", utc(2024, 10, 5, 13, 30, 0), &one_day, 1, utc(2024, 10, 6, 13, 0, 0)},
		{"to 01:45, which comes twice", utc(2024, 4, 5, 14, 45, 0), &one_day, 1, utc(2024, 4, 6, 14, 45, 0)},
		{"to 02:15, which is skipped", utc(2024, 10, 4, 15, 45, 0), &one_day, 1, utc(2024, 10, 5, 15, 45, 0)}
	};
	const FloorCase floors[] = {
		{"Lord Howe: the end of the long day", utc(2024, 4, 7, 13, 30, 0) - 1, &one_day, utc(2024, 4, 6, 13, 0, 0)},
		{"the end of the short day", utc(2024, 10, 6, 13, 0, 0) - 1, &one_day, utc(2024, 10, 5, 13, 30, 0)},
		{"an hour goes by UTC", utc(2024, 10, 6, 13, 45, 0), &one_hour, utc(2024, 10, 6, 13, 0, 0)}
	};

	check_adds(&cal, adds, LENGTH(adds));
	check_floors(&cal, floors, LENGTH(floors));
}

/* 2011-12-29 was followed by 2011-12-31, at 10:00 UTC of the day between. */
static void
test_apia(void)
{
	const Calendar cal = zone_named("Pacific/Apia");
	const AddCase adds[] = {
		{"Apia: to the last day before", utc(2011, 12, 28, 10, 0, 0), &one_day, 1, utc(2011, 12, 29, 10, 0, 0)},
		{"to the day that doesn't exist", utc(2011, 12, 28, 10, 0, 0), &one_day, 2, utc(2011, 12, 30, 10, 0, 0)},
		{"to its noon: as long after the skip", utc(2011, 12, 28, 22, 0, 0), &one_day, 2, utc(2011, 12, 30, 22, 0, 0)},
		{"to the day after it", utc(2011, 12, 28, 10, 0, 0), &one_day, 3, utc(2011, 12, 30, 10, 0, 0)},
		{"to the day after that", utc(2011, 12, 28, 10, 0, 0), &one_day, 4, utc(2011, 12, 31, 10, 0, 0)},
		{"a week of six days", utc(2011, 12, 26, 10, 0, 0), &one_week, 1, utc(2012, 1, 1, 10, 0, 0)},
		{"24 hours", utc(2011, 12, 29, 20, 0, 0), &one_hour, 24, utc(2011, 12, 30, 20, 0, 0)}
	};
	const FloorCase floors[] = {
		{"Apia: the last of 29 December", utc(2011, 12, 30, 10, 0, 0) - 1, &one_day, utc(2011, 12, 29, 10, 0, 0)},
		{"the first of 31 December", utc(2011, 12, 30, 10, 0, 0), &one_day, utc(2011, 12, 30, 10, 0, 0)},
		{"the last of 31 December", utc(2011, 12, 31, 10, 0, 0) - 1, &one_day, utc(2011, 12, 30, 10, 0, 0)},
		{"the week", utc(2012, 1, 1, 10, 0, 0) - 1, &one_week, utc(2011, 12, 26, 10, 0, 0)},
		{"the month", utc(2011, 12, 31, 9, 0, 0), &one_month, utc(2011, 12, 1, 10, 0, 0)},
		{"the year after it", utc(2012, 7, 1, 0, 0, 0), &one_year, utc(2011, 12, 31, 10, 0, 0)}
	};

	check_adds(&cal, adds, LENGTH(adds));
	check_floors(&cal, floors, LENGTH(floors));
}

/* At 23:30 on 10 April it becomes 00:30: midnight would be at 01:00. */
static void
test_around_midnight(void)
{
	const Calendar cal = zone_named("AAA0BBB,J100/23:30,J300/3");
	const CalTime skip = utc(2024, 4, 10, 23, 30, 0);
	CalTime		start = UNTOUCHED;

	for (int i = 0; i < 3; i++)
	{
		CalTime		t = skip + i * 15 * MINUTE;

		ok(cal_floor(&cal, t, &one_day, &start) && start >= skip && start <= t,
		   "a skip around midnight: the day has begun after %d minutes", i * 15);
	}
	is_time(start, utc(2024, 4, 11, 0, 0, 0), "at 01:00 at the latest");
}

/* What has to be false, and leave the result alone. */
static void
check_refused(bool returned, CalTime result, const char *name)
{
	ok(!returned && result == UNTOUCHED, "out of range: %s", name);
}

static void
refuse_add(CalTime t, CalSpan span, int64_t n, const char *name)
{
	CalTime		result = UNTOUCHED;
	bool		returned = cal_add(&no_zone, t, &span, n, &result);

	check_refused(returned, result, name);
}

static void
refuse_floor(CalTime t, CalSpan span, const char *name)
{
	CalTime		result = UNTOUCHED;
	bool		returned = cal_floor(&no_zone, t, &span, &result);

	check_refused(returned, result, name);
}

static void
test_out_of_range(void)
{
	refuse_add(CAL_END - 1, (CalSpan) {0, 0, 1}, 1, "the end by a microsecond");
	refuse_add(CAL_END - CAL_DAY, one_day, 1, "the end by a day");
	refuse_add(date(294276, 12, 1), one_month, 1, "the end by a month");
	refuse_add(date(294276, 2, 29), one_year, 1, "the end by a year");
	refuse_add(CAL_FIRST, (CalSpan) {0, 0, 1}, -1, "before the first by a microsecond");
	refuse_add(CAL_FIRST, one_day, -1, "before the first by a day");
	refuse_add(CAL_FIRST, one_month, -1, "before the first by a month");
	refuse_add(date(-4713, 12, 23), one_month, -1, "a day of November before the first");
	refuse_add(CAL_INFINITY, one_day, -1, "from infinity");
	refuse_add(CAL_MINUS_INFINITY, one_day, 1, "from minus infinity");
	refuse_add(CAL_END, one_day, -1, "from the end");
	refuse_add(CAL_FIRST - 1, one_day, 1, "from before the first");
	refuse_add(0, one_month, INT64_MAX, "as many months as there can be");
	refuse_add(0, one_month, INT64_MIN, "as few months as there can be");
	refuse_add(0, one_day, INT64_MAX, "as many days");
	refuse_add(0, one_day, INT64_MIN, "as few days");
	refuse_add(0, one_hour, INT64_MAX, "as many hours");
	refuse_add(0, one_hour, INT64_MIN, "as few hours");
	refuse_add(0, (CalSpan) {INT32_MAX, 0, 0}, 1, "the longest span of months");
	refuse_add(0, (CalSpan) {INT32_MAX, 0, 0}, -1, "back by the longest span of months");
	refuse_add(0, (CalSpan) {INT32_MAX, 0, 0}, INT32_MAX, "many of them");
	refuse_add(CAL_END - 1, (CalSpan) {0, 0, INT64_MAX}, 1, "the longest span of time");
	refuse_add(CAL_FIRST, (CalSpan) {0, 0, INT64_MAX}, -1, "back by the longest span of time");
	refuse_add(0, (CalSpan) {0, 100000000, 0}, 2, "hundreds of thousands of years of days");
	refuse_floor(CAL_INFINITY, one_month, "floor of infinity");
	refuse_floor(CAL_MINUS_INFINITY, one_month, "floor of minus infinity");
	refuse_floor(CAL_END, one_day, "floor of the end");
	refuse_floor(CAL_END, two_years, "floor of the end to a year before it");
	refuse_floor(CAL_FIRST - 1, one_day, "floor of before the first");
	refuse_floor(CAL_FIRST, one_month, "floor to a month that began before the first");
	refuse_floor(CAL_FIRST, one_year, "floor to such a year");
	refuse_floor(CAL_FIRST, two_weeks, "floor to two such weeks");
	refuse_floor(-1, (CalSpan) {INT32_MAX, 0, 0}, "floor to the longest span of months");
	refuse_floor(-1, (CalSpan) {0, 0, INT64_MAX}, "floor to the longest span of time");
	refuse_floor(-1, (CalSpan) {0, 100000000, 0}, "floor to a span of 100,000,000 days");
}

/* The same ends, from inside. */
static void
test_in_range(void)
{
	const AddCase adds[] = {
		{"to the last timestamp", CAL_END - 2, &(CalSpan) {0, 0, 1}, 1, CAL_END - 1},
		{"to the last day", date(294276, 12, 30), &one_day, 1, date(294276, 12, 31)},
		{"to the last month", date(294276, 11, 30), &one_month, 1, date(294276, 12, 30)},
		{"to the first timestamp", CAL_FIRST + 1, &(CalSpan) {0, 0, 1}, -1, CAL_FIRST},
		{"to the first day", date(-4713, 11, 25), &one_day, -1, CAL_FIRST},
		{"to the first day by a month", date(-4713, 12, 24), &one_month, -1, CAL_FIRST},
		{"from the first to the last year", date(-4712, 1, 1), &one_year, 298988, date(294276, 1, 1)}
	};
	const FloorCase floors[] = {
		{"the first day", CAL_FIRST + CAL_HOUR, &one_day, CAL_FIRST},
		{"the first week, which begins on that Monday", CAL_FIRST + CAL_DAY, &one_week, CAL_FIRST},
		{"the first whole month", date(-4713, 12, 1), &one_month, date(-4713, 12, 1)},
		{"the last day", CAL_END - 1, &one_day, date(294276, 12, 31)},
		{"the last year", CAL_END - 1, &one_year, date(294276, 1, 1)},
		{"a span of more than everything", 0, &(CalSpan) {INT32_MAX, 0, 0}, 0},
		{"the same in time", CAL_END - 1, &(CalSpan) {0, 0, INT64_MAX}, 0}
	};

	check_adds(&no_zone, adds, LENGTH(adds));
	check_floors(&no_zone, floors, LENGTH(floors));
}

/* Whatever the offset, the ends give a finite result or none. */
static void
test_ends_in_zones(void)
{
	Random		random = {2};
	int			bad = 0;

	for (int i = 0; i < 40000; i++)
	{
		/* one zone after another: the C library is slow to change it */
		const Calendar cal = zone_number(i * NZONES / 40000);
		const CalSpan *span = &spans[random_between(&random, 0, LENGTH(spans))];
		int64_t		away = random_between(&random, 0, 3 * CAL_DAY);
		CalTime		t = one_in(&random, 2) ? CAL_FIRST + away : CAL_END - 1 - away;
		CalTime		result = UNTOUCHED;

		if (cal_add(&cal, t, span, random_between(&random, -3, 4), &result) ?
			!cal_is_finite(result) : result != UNTOUCHED)
			bad++;
		result = UNTOUCHED;
		if (cal_floor(&cal, t, span, &result) ?
			!cal_is_finite(result) || result > t : result != UNTOUCHED)
			bad++;
	}
	ok(bad == 0, "within 3 days of the ends: a finite result or false, in all zones");
}

static void
test_suffix(void)
{
	const SuffixCase cases[] = {
		{"_y2025", date(2025, 1, 1), &one_year},
		{"_y2024", date(2024, 1, 1), &two_years},
		{"_y2025m01", date(2025, 1, 1), &one_month},
		{"_y2025m12", date(2025, 12, 1), &one_month},
		{"_y2025m04", date(2025, 4, 1), &quarter},
		{"_y2025m01", date(2025, 1, 1), &quarter},
		{"_y2025m01d15", date(2025, 1, 15), &one_day},
		{"_y2025m01d01", date(2025, 1, 1), &one_day},
		{"_y2025m01d06", date(2025, 1, 6), &one_week},
		{"_y2025m01d15h06", utc(2025, 1, 15, 6, 0, 0), &six_hours},
		{"_y2025m01d01h00", date(2025, 1, 1), &six_hours},
		{"_y2025m01d15h23", utc(2025, 1, 15, 23, 0, 0), &one_hour},
		{"_y1999m12d31h23", utc(1999, 12, 31, 23, 0, 0), &one_hour},
		/* starts that aren't on a boundary of the interval */
		{"_y2025m02", date(2025, 2, 1), &one_year},
		{"_y2025m02d03", date(2025, 2, 3), &one_year},
		{"_y2025m01d02", date(2025, 1, 2), &one_year},
		{"_y2025m01d01h06", utc(2025, 1, 1, 6, 0, 0), &one_year},
		{"_y2025m01d15", date(2025, 1, 15), &one_month},
		{"_y2025m01d01h06", utc(2025, 1, 1, 6, 0, 0), &one_month},
		{"_y2025m01d15h06", utc(2025, 1, 15, 6, 0, 0), &one_day},
		{"_y2025m01d15h06m30", utc(2025, 1, 15, 6, 30, 0), &one_day},
		{"_y2025m01d15h06m30s15", utc(2025, 1, 15, 6, 30, 15), &one_day},
		{"_y2025m01d15h06m30s15", utc(2025, 1, 15, 6, 30, 15), &one_month},
		{"_y2025m01d15h06m30", utc(2025, 1, 15, 6, 30, 0), &one_hour},
		{"_y2025m01d15h00m00s15", utc(2025, 1, 15, 0, 0, 15), &one_day},
		{"_y2025m01d15h00m00s00", date(2025, 1, 15) + 1, &one_day},
		/* far away */
		{"_y0001", date(1, 1, 1), &one_year},
		{"_y0987m06", date(987, 6, 1), &one_month},
		{"_y0001bc", date(0, 1, 1), &one_year},
		{"_y0044bcm03d15", date(-43, 3, 15), &one_day},
		{"_y4714bcm11d24", CAL_FIRST, &one_day},
		{"_y10000m01", date(10000, 1, 1), &one_month},
		{"_y294276m12d31h23", CAL_END - CAL_HOUR, &one_hour}
	};

	check_suffixes(&no_zone, cases, LENGTH(cases));
}

static void
test_suffix_in_zones(void)
{
	const Calendar new_york = zone_named("America/New_York");
	const Calendar kiritimati = zone_named("Pacific/Kiritimati");
	const SuffixCase western[] = {
		{"_y2025m01d15", utc(2025, 1, 15, 5, 0, 0), &one_day},
		{"_y2025m01d14h19", date(2025, 1, 15), &one_day},
		{"_y2025", utc(2025, 1, 1, 5, 0, 0), &one_year},
		{"_y2024m12d31h19", date(2025, 1, 1), &one_year},
		{"_y2024m07", utc(2024, 7, 1, 4, 0, 0), &one_month},
		/* by the wall clock, these two hours would have the same name */
		{"_y2024m11d03h05", utc(2024, 11, 3, 5, 0, 0), &one_hour},
		{"_y2024m11d03h06", utc(2024, 11, 3, 6, 0, 0), &one_hour}
	};
	const SuffixCase eastern[] = {
		{"_y2025m02", utc(2025, 1, 31, 10, 0, 0), &one_month},
		{"_y2025", utc(2024, 12, 31, 10, 0, 0), &one_year}
	};

	check_suffixes(&new_york, western, LENGTH(western));
	check_suffixes(&kiritimati, eastern, LENGTH(eastern));
}

/* Room enough at any time, and not a byte beyond it. */
static void
test_suffix_size(void)
{
	Random		random = {3};
	size_t		longest = 0;
	bool		inside = true;

	for (int i = 0; i < 100000; i++)
	{
		const Calendar cal = zone_number(i * (NZONES + 1) / 100000);
		const CalSpan *span = &spans[random_between(&random, 0, LENGTH(spans))];
		CalTime		t = random_between(&random, CAL_FIRST / 4, CAL_END / 4) * 4 + 3;
		char		buf[CAL_SUFFIX_SIZE + 1];

		if (i % 4 == 0)
			t = i % 8 == 0 ? CAL_FIRST + i : CAL_END - 1 - i;
		memset(buf, '#', sizeof(buf));
		cal_suffix(&cal, t, span, buf);
		inside = inside && memchr(buf, '\0', CAL_SUFFIX_SIZE) != NULL &&
			buf[CAL_SUFFIX_SIZE] == '#';
		if (inside && strlen(buf) > longest)
			longest = strlen(buf);
	}
	ok(inside, "a suffix never exceeds CAL_SUFFIX_SIZE");
	ok(longest < CAL_SUFFIX_SIZE - 1, "and none is cut off: the longest has %d bytes",
	   (int) longest);
}

/* Partitions next to each other must not want the same name. */
static void
test_suffixes_differ(void)
{
	/* nobody partitions by a microsecond, whose suffixes end at the second */
	for (int i = 1; i < LENGTH(spans); i++)
	{
		Random		random = {(uint64_t) i};
		int			bad = 0;

		for (int round = 0; round < 2000; round++)
		{
			const Calendar cal = zone_number(round * (NZONES + 1) / 2000);
			CalTime		start;
			CalTime		next;
			char		one[CAL_SUFFIX_SIZE];
			char		other[CAL_SUFFIX_SIZE];

			cal_floor(&cal, random_between(&random, date(1970, 1, 1), date(2038, 1, 1)),
					  &spans[i], &start);
			cal_add(&cal, start, &spans[i], 1, &next);
			cal_suffix(&cal, start, &spans[i], one);
			cal_suffix(&cal, next, &spans[i], other);
			if (strcmp(one, other) == 0 && bad++ == 0)
				printf("# %s at %lld\n", one, (long long) start);
		}
		ok(bad == 0, "neighbours have different suffixes: %d months %d days %lld minutes",
		   spans[i].months, spans[i].days, (long long) (spans[i].usec / MINUTE));
	}
}

static void
check_floor_holds(const Calendar *cal, const char *zone)
{
	Random		random = {4};
	Changes		changes;
	int			late = 0;
	int			early = 0;
	int			moved = 0;

	find_changes(cal, &changes);
	for (int i = 0; i < 20000; i++)
	{
		const CalSpan *span = &spans[i % LENGTH(spans)];
		CalTime		t = random_time(&random, &changes);
		CalTime		start = CAL_INFINITY;
		CalTime		end = CAL_MINUS_INFINITY;
		CalTime		again = CAL_MINUS_INFINITY;

		if ((!cal_floor(cal, t, span, &start) || start > t) && late++ == 0)
			printf("# span %d: floor(%lld) = %lld\n", i % LENGTH(spans),
				   (long long) t, (long long) start);
		if ((!cal_add(cal, start, span, 1, &end) || end <= t) && early++ == 0)
			printf("# span %d: floor(%lld) = %lld, which ends at %lld\n",
				   i % LENGTH(spans), (long long) t, (long long) start, (long long) end);
		if (!cal_floor(cal, start, span, &again) || again != start)
			moved++;
	}
	ok(late == 0, "floor(t) <= t: %s", zone);
	ok(moved == 0, "floor(floor(t)) = floor(t): %s", zone);
	ok(early == 0, "t < floor(t) + span: %s", zone);
}

static void
test_floor_holds(void)
{
	check_floor_holds(&no_zone, "no zone");
	for (int i = 0; i < NZONES; i++)
	{
		const Calendar cal = zone_number(i);

		check_floor_holds(&cal, zones[i].name);
	}
}

/* The first instant whose wall clock shows local, by trying; else infinity. */
static CalTime
first_showing(const Calendar *cal, CalTime local, int32_t before, int32_t after)
{
	CalTime		early = local - (before > after ? before : after) * SECOND;
	CalTime		late = local - (before > after ? after : before) * SECOND;

	if (cal_to_local(cal, early) == local)
		return early;
	return cal_to_local(cal, late) == local ? late : CAL_INFINITY;
}

/* Every quarter of an hour around a change, there and back. */
static int
count_wrong_locals(const Calendar *cal, CalTime change)
{
	int32_t		before = cal->offset(change - 1, cal->arg);
	int32_t		after = cal->offset(change, cal->arg);
	CalTime		at = change + before * SECOND;
	int			wrong = 0;

	for (CalTime local = at - 50 * CAL_HOUR; local < at + 50 * CAL_HOUR;
		 local += 15 * MINUTE)
	{
		CalTime		expected = first_showing(cal, local, before, after);

		/* skipped: as long after the change as the old clock would show it */
		if (expected == CAL_INFINITY)
			expected = local - before * SECOND;
		if (cal_from_local(cal, local) != expected && wrong++ == 0)
			printf("# local %lld: got %lld, expected %lld\n", (long long) local,
				   (long long) cal_from_local(cal, local), (long long) expected);
	}
	return wrong;
}

static void
test_from_local(void)
{
	is_time(cal_from_local(&no_zone, 42), 42, "no zone: local is the time line");
	is_time(cal_to_local(&no_zone, 42), 42, "and back");
	for (int i = 0; i < NZONES; i++)
	{
		const Calendar cal = zone_number(i);
		Changes		changes;
		int			wrong = 0;

		find_changes(&cal, &changes);
		for (int change = 0; change < changes.n; change++)
			wrong += count_wrong_locals(&cal, changes.at[change]);
		ok(wrong == 0, "local times around %d changes: %s", changes.n, zones[i].name);
	}
}

static void
test_identity(void)
{
	const Calendar cal = zone_named("America/New_York");
	const AddCase first[] = {
		{"the first 01:30 + 0 days", utc(2024, 11, 3, 5, 30, 0), &one_day, 0, utc(2024, 11, 3, 5, 30, 0)}
	};
	const AddCase second[] = {
		{"the second 01:30 + 0 days", utc(2024, 11, 3, 6, 30, 0), &one_day, 0, utc(2024, 11, 3, 6, 30, 0)}
	};

	check_adds(&cal, first, LENGTH(first));
	check_adds(&cal, second, LENGTH(second));
}

/* Steps from the bound, as new partitions continue from it, stay aligned. */
static void
test_after_skip(void)
{
	const Calendar cal = zone_named("America/Sao_Paulo");
	const AddCase cases[] = {
		{"a day after the day without midnight is the next midnight",
		utc(2017, 10, 15, 3, 0, 0), &one_day, 1, utc(2017, 10, 16, 2, 0, 0)},
		{"a month after it is a midnight",
		utc(2017, 10, 15, 3, 0, 0), &one_month, 1, utc(2017, 11, 15, 2, 0, 0)}
	};

	check_adds(&cal, cases, LENGTH(cases));
}

static bool
add_refuses_long_span(void)
{
	CalTime		result = UNTOUCHED;

	/* this many wrap around to the future, that many to the past */
	return !cal_add(&no_zone, 0, &(CalSpan) {0, 200000000, 0}, -1, &result) &&
		!cal_add(&no_zone, 0, &(CalSpan) {0, INT32_MAX, 0}, 1, &result) &&
		result == UNTOUCHED;
}

static bool
floor_refuses_long_span(void)
{
	CalTime		result = UNTOUCHED;

	return !cal_floor(&no_zone, -1, &(CalSpan) {0, 200000000, 0}, &result) &&
		!cal_floor(&no_zone, -1, &(CalSpan) {0, INT32_MAX, 0}, &result) &&
		result == UNTOUCHED;
}

static void
test_overflow(void)
{
	ok(holds_in_child(add_refuses_long_span), "adding the longest spans of days is refused");
	ok(holds_in_child(floor_refuses_long_span), "floor to the longest spans of days is refused");
}

int
main(void)
{
	/* a loop without an end has to fail, too */
	alarm(120);
	require_zones();
	test_finite();
	test_dates_from_days();
	test_days_from_dates();
	test_leap_years();
	test_add();
	test_floor();
	test_new_york();
	test_sao_paulo();
	test_lord_howe();
	test_apia();
	test_around_midnight();
	test_out_of_range();
	test_in_range();
	test_ends_in_zones();
	test_suffix();
	test_suffix_in_zones();
	test_suffix_size();
	test_suffixes_differ();
	test_floor_holds();
	test_from_local();
	test_identity();
	test_after_skip();
	test_overflow();
	return done_testing();
}
