/*
 * calendar.c
 *		Calendar arithmetic for partition bounds.
 *
 * Months and days move the wall clock of the policy's time zone; hours move
 * the time line itself, because a local hour can come twice or not at all.
 */
#include "bounds/calendar.h"

#include <stdio.h>

#define SECOND		INT64_C(1000000)
#define MINUTE		(60 * SECOND)

static int64_t
floor_div(int64_t a, int64_t b)
{
	int64_t		q = a / b;

	return (a % b != 0 && (a % b < 0) != (b < 0)) ? q - 1 : q;
}

/* Whether a time is one that a timestamp can hold. */
bool
cal_is_finite(CalTime t)
{
	return t >= CAL_FIRST && t < CAL_END;
}

/*
 * Days since 2000-01-01 from and to a proleptic Gregorian date, in eras of 400
 * years that begin on 1 March, so that the leap day is a year's last one.
 */
static int64_t
days_from_civil(int64_t year, int month, int day)
{
	int64_t		era;
	int64_t		year_of_era;
	int64_t		day_of_year;

	if (month <= 2)
		year--;
	era = floor_div(year, 400);
	year_of_era = year - era * 400;
	day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	return era * 146097 + year_of_era * 365 + year_of_era / 4 -
		year_of_era / 100 + day_of_year - 730425;
}

static void
civil_from_days(int64_t days, int64_t *year, int *month, int *day)
{
	int64_t		z = days + 730425;
	int64_t		era = floor_div(z, 146097);
	int64_t		day_of_era = z - era * 146097;
	int64_t		year_of_era = (day_of_era - day_of_era / 1460 +
							   day_of_era / 36524 - day_of_era / 146096) / 365;
	int64_t		day_of_year = day_of_era - (365 * year_of_era +
											year_of_era / 4 - year_of_era / 100);
	int			shifted = (int) ((5 * day_of_year + 2) / 153);

	*day = (int) (day_of_year - (153 * shifted + 2) / 5 + 1);
	*month = shifted < 10 ? shifted + 3 : shifted - 9;
	*year = year_of_era + era * 400 + (*month <= 2);
}

static int
days_in_month(int64_t year, int month)
{
	static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool		leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return month == 2 && leap ? 29 : lengths[month - 1];
}

/* What the wall clock shows at an instant. */
CalTime
cal_to_local(const Calendar *cal, CalTime instant)
{
	return cal->offset == NULL ? instant :
		instant + cal->offset(instant, cal->arg) * SECOND;
}

/*
 * The first instant at which the wall clock shows this; where it skips this,
 * the instant of the skip or as long after it.
 */
CalTime
cal_from_local(const Calendar *cal, CalTime local)
{
	int64_t		before;
	int64_t		after;

	if (cal->offset == NULL)
		return local;
	before = cal->offset(local - CAL_DAY, cal->arg) * SECOND;
	after = cal->offset(local + CAL_DAY, cal->arg) * SECOND;
	if (before != after &&
		cal->offset(local - before, cal->arg) * SECOND != before &&
		cal->offset(local - after, cal->arg) * SECOND == after)
		return local - after;
	return local - before;
}

/* local + months, where the 31st of a shorter month is its last day. */
static bool
add_months(CalTime local, int64_t months, CalTime *result)
{
	int64_t		days = floor_div(local, CAL_DAY);
	int64_t		year;
	int64_t		total;
	int			month;
	int			day;

	civil_from_days(days, &year, &month, &day);
	total = year * 12 + month - 1 + months;
	/* far beyond either end, where microseconds would overflow */
	if (total < -4800 * 12 || total > INT64_C(300000) * 12)
		return false;
	year = floor_div(total, 12);
	month = (int) (total - year * 12) + 1;
	if (day > days_in_month(year, month))
		day = days_in_month(year, month);
	if (__builtin_mul_overflow(days_from_civil(year, month, day), CAL_DAY, result))
		return false;
	return !__builtin_add_overflow(*result, local - days * CAL_DAY, result);
}

/*
 * What the wall clock shows at t. Where it skips midnight, a day begins at the
 * skip: that instant stands for the midnight, or all later days would begin
 * as late.
 */
static CalTime
nominal_local(const Calendar *cal, CalTime t)
{
	CalTime		local = cal_to_local(cal, t);
	CalTime		midnight = floor_div(local, CAL_DAY) * CAL_DAY;

	return cal_from_local(cal, midnight) == t ? midnight : local;
}

/*
 * t + n * unit. In two halves, because it is more than an int64 holds from one
 * end of time to the other.
 */
static bool
add_multiple(CalTime t, int64_t unit, int64_t n, CalTime *result)
{
	int64_t		half;
	int64_t		rest;

	return !__builtin_mul_overflow(unit, n / 2, &half) &&
		!__builtin_mul_overflow(unit, n - n / 2, &rest) &&
		!__builtin_add_overflow(t, half, &t) &&
		!__builtin_add_overflow(t, rest, result) && cal_is_finite(*result);
}

/* t + n * span. False, and no result, when that isn't a finite timestamp. */
bool
cal_add(const Calendar *cal, CalTime t, const CalSpan *span, int64_t n,
		CalTime *result)
{
	CalTime		sum = t;
	int64_t		part;

	if (!cal_is_finite(t))
		return false;
	/* a time that comes twice would become the first of both below */
	if (n != 0 && (span->months != 0 || span->days != 0))
	{
		sum = nominal_local(cal, sum);
		if (span->months != 0 &&
			(__builtin_mul_overflow((int64_t) span->months, n, &part) ||
			 part < -INT64_C(5000000) || part > INT64_C(5000000) ||
			 !add_months(sum, part, &sum)))
			return false;
		if (__builtin_mul_overflow((int64_t) span->days, CAL_DAY, &part) ||
			!add_multiple(sum, part, n, &sum))
			return false;
		sum = cal_from_local(cal, sum);
	}
	if (!add_multiple(sum, span->usec, n, &sum))
		return false;
	*result = sum;
	return true;
}

/*
 * The start of the period that t is in, where periods are counted from
 * 2000-01-01 00:00 of the wall clock; whole weeks from Monday 2000-01-03,
 * hours from 2000-01-01 00:00 UTC. The span has one kind of unit only.
 */
bool
cal_floor(const Calendar *cal, CalTime t, const CalSpan *span, CalTime *result)
{
	CalTime		local;
	CalTime		start;
	CalTime		next;

	if (!cal_is_finite(t))
		return false;
	local = cal_to_local(cal, t);
	if (span->months > 0)
	{
		int64_t		year;
		int			month;
		int			day;
		int64_t		count;

		civil_from_days(floor_div(local, CAL_DAY), &year, &month, &day);
		count = floor_div((year - 2000) * 12 + month - 1, span->months);
		if (!add_months(0, count * span->months, &start))
			return false;
		start = cal_from_local(cal, start);
	}
	else if (span->days > 0)
	{
		int64_t		anchor = span->days % 7 == 0 ? 2 : 0;
		int64_t		days = floor_div(local, CAL_DAY) - anchor;

		start = floor_div(days, span->days) * span->days + anchor;
		if (__builtin_mul_overflow(start, CAL_DAY, &start))
			return false;
		start = cal_from_local(cal, start);
	}
	else
		start = floor_div(t, span->usec) * span->usec;

	/* a wall clock that skips midnight can put a start after its own period */
	if (start > t)
		start = t;
	/* and one that goes back to an earlier date can end a period before t */
	else if (cal_add(cal, start, span, 1, &next) && next > start && next <= t)
		start = next;
	if (!cal_is_finite(start))
		return false;
	*result = start;
	return true;
}

/*
 * The suffix of a partition's name: as much of the start as its interval
 * needs, and more where the start isn't on such a boundary. Hours and minutes are
 * shown in UTC, because a local hour can come twice.
 */
void
cal_suffix(const Calendar *cal, CalTime start, const CalSpan *span,
		   char buf[CAL_SUFFIX_SIZE])
{
	bool		hours = span->months == 0 && span->days == 0;
	CalTime		local = hours ? start : nominal_local(cal, start);
	int64_t		days = floor_div(local, CAL_DAY);
	int64_t		time = local - days * CAL_DAY;
	int64_t		year;
	int			month;
	int			day;
	int			len;

	civil_from_days(days, &year, &month, &day);
	len = snprintf(buf, CAL_SUFFIX_SIZE, "_y%04d%s",
				   (int) (year > 0 ? year : 1 - year), year > 0 ? "" : "bc");
	if (span->months % 12 != 0 || span->months == 0 ||
		month != 1 || day != 1 || time != 0)
		len += snprintf(buf + len, CAL_SUFFIX_SIZE - len, "m%02d", month);
	if (span->months == 0 || day != 1 || time != 0)
		len += snprintf(buf + len, CAL_SUFFIX_SIZE - len, "d%02d", day);
	if (hours || time != 0)
		len += snprintf(buf + len, CAL_SUFFIX_SIZE - len, "h%02d",
						(int) (time / CAL_HOUR));
	if (time % CAL_HOUR != 0 || span->usec % CAL_HOUR != 0)
		len += snprintf(buf + len, CAL_SUFFIX_SIZE - len, "m%02d",
						(int) (time % CAL_HOUR / MINUTE));
	if (time % MINUTE != 0)
		snprintf(buf + len, CAL_SUFFIX_SIZE - len, "s%02d",
				 (int) (time % MINUTE / SECOND));
}
