/*
 * zones.h
 *		What the unit tests share: instants, time zones and random numbers, by
 *		the C library alone, so that they can contradict the code under test.
 */
#ifndef SAGAZ_ZONES_H
#define SAGAZ_ZONES_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bounds/calendar.h"

#define SECOND		INT64_C(1000000)
#define MINUTE		(60 * SECOND)

/* 2000-01-01 in seconds since 1970 */
#define EPOCH		INT64_C(946684800)

/*
 * A zone of tzdata, and what it must say of 2010. Without its file the C
 * library silently takes UTC, and the tests would pass without having tested.
 */
typedef struct Zone
{
	const char *name;
	int32_t		january;
	int32_t		july;
} Zone;

static const Zone zones[] = {
	{"America/New_York", -18000, -14400},
	{"America/Sao_Paulo", -7200, -10800},	/* skipped midnights until 2018 */
	{"America/Santiago", -10800, -14400},	/* skips midnights */
	{"America/Havana", -18000, -14400}, /* skips midnights, repeats others */
	{"America/St_Johns", -12600, -9000},	/* went back at 00:01 until 2011 */
	{"Africa/Cairo", 7200, 10800},	/* skips midnights since 2023 */
	{"Africa/Casablanca", 0, 3600}, /* goes back for Ramadan */
	{"Europe/Dublin", 0, 3600},
	{"Asia/Kathmandu", 20700, 20700},
	{"Australia/Lord_Howe", 39600, 37800},	/* changes by half an hour */
	{"Pacific/Apia", -39600, -39600},	/* has no 2011-12-30 */
	{"Pacific/Kiritimati", 50400, 50400},
	/* rules without a file: the widest offsets, and a skip around midnight */
	{"<-1559>15:59", -57540, -57540},
	{"<+1559>-15:59", 57540, 57540},
	{"AAA0BBB,J100/23:30,J300/3", 0, 3600}
};

#define NZONES		((int) (sizeof(zones) / sizeof(zones[0])))

/* The calendar of timestamp columns, whose wall clock is the time line. */
static const Calendar no_zone = {NULL, NULL};

static inline CalTime
utc(int64_t year, int month, int day, int hour, int minute, int second)
{
	struct tm	tm = {
		.tm_year = (int) (year - 1900),
		.tm_mon = month - 1,
		.tm_mday = day,
		.tm_hour = hour,
		.tm_min = minute,
		.tm_sec = second
	};

	return (timegm(&tm) - EPOCH) * SECOND;
}

static inline CalTime
date(int64_t year, int month, int day)
{
	return utc(year, month, day, 0, 0, 0);
}

/* Seconds since 1970, rounded down. */
static inline time_t
unix_seconds(CalTime t)
{
	return t / SECOND - (t % SECOND < 0) + EPOCH;
}

/* The offset callback: the C library's local time, by way of TZ. */
static inline int32_t
zone_offset(CalTime instant, void *arg)
{
	static const Zone *current = NULL;
	const Zone *zone = arg;
	time_t		seconds = unix_seconds(instant);
	struct tm	tm;

	if (zone != current)
	{
		setenv("TZ", zone->name, 1);
		tzset();
		current = zone;
	}
	if (localtime_r(&seconds, &tm) == NULL)
	{
		printf("Bail out! localtime_r(%lld) fails\n", (long long) seconds);
		exit(1);
	}
	return (int32_t) tm.tm_gmtoff;
}

/* Zone number i; any other number means none. */
static inline Calendar
zone_number(int i)
{
	Calendar	cal = {zone_offset, NULL};

	if (i < 0 || i >= NZONES)
		return no_zone;
	cal.arg = (void *) &zones[i];
	return cal;
}

static inline Calendar
zone_named(const char *name)
{
	for (int i = 0; i < NZONES; i++)
	{
		if (strcmp(zones[i].name, name) == 0)
			return zone_number(i);
	}
	printf("Bail out! zone %s isn't in zones[]\n", name);
	exit(1);
}

/* Before any other test: it is no use to go on without the zones. */
static inline void
require_zones(void)
{
	for (int i = 0; i < NZONES; i++)
	{
		if (zone_offset(date(2010, 1, 15), (void *) &zones[i]) == zones[i].january &&
			zone_offset(date(2010, 7, 15), (void *) &zones[i]) == zones[i].july)
			continue;
		printf("Bail out! time zone %s is missing or wrong: install tzdata\n",
			   zones[i].name);
		exit(1);
	}
}

/* splitmix64: the same numbers everywhere, from any seed */
typedef struct Random
{
	uint64_t	state;
} Random;

static inline uint64_t
random_bits(Random *random)
{
	uint64_t	z = (random->state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

/* At least low, less than high; unsigned, as both ends of time are too far apart. */
static inline int64_t
random_between(Random *random, int64_t low, int64_t high)
{
	uint64_t	width = (uint64_t) high - (uint64_t) low;

	return (int64_t) ((uint64_t) low + random_bits(random) % width);
}

static inline bool
one_in(Random *random, int n)
{
	return random_bits(random) % (uint64_t) n == 0;
}

/* The instants from 1970 to 2040 at which a zone's offset changes. */
typedef struct Changes
{
	int			n;
	CalTime		at[500];
} Changes;

/* The first instant after low with the offset of high, to the second. */
static inline CalTime
bisect_change(const Calendar *cal, CalTime low, CalTime high)
{
	int32_t		before = cal->offset(low, cal->arg);

	while (high - low > SECOND)
	{
		CalTime		middle = low + (high - low) / SECOND / 2 * SECOND;

		if (cal->offset(middle, cal->arg) == before)
			low = middle;
		else
			high = middle;
	}
	return high;
}

/* Found in steps that none of these zones changes twice in. */
static inline void
find_changes(const Calendar *cal, Changes *changes)
{
	const CalTime step = 5 * CAL_DAY;

	changes->n = 0;
	if (cal->offset == NULL)
		return;
	for (CalTime t = date(1970, 1, 1); t < date(2040, 1, 1); t += step)
	{
		if (cal->offset(t, cal->arg) == cal->offset(t + step, cal->arg))
			continue;
		if (changes->n == (int) (sizeof(changes->at) / sizeof(changes->at[0])))
		{
			printf("Bail out! too many changes\n");
			exit(1);
		}
		changes->at[changes->n++] = bisect_change(cal, t, t + step);
	}
}

/*
 * A time that a test may meet: most from 1970 to 2040, and of these half near
 * a change of the clock, because it is there that calendars break.
 */
static inline CalTime
random_time(Random *random, const Changes *changes)
{
	if (one_in(random, 8))
		return random_between(random, date(-4000, 1, 1), date(290000, 1, 1));
	if (changes->n == 0 || one_in(random, 2))
		return random_between(random, date(1970, 1, 1), date(2040, 1, 1));
	return changes->at[random_between(random, 0, changes->n)] +
		random_between(random, -2 * CAL_DAY, 2 * CAL_DAY);
}

/*
 * Whether the test holds, in a process of its own: a sanitizer that finds
 * undefined behaviour in it ends only that one.
 */
static inline bool
holds_in_child(bool (*test) (void))
{
	pid_t		child = fork();
	int			status = -1;

	if (child == 0)
	{
		/* a known failure's report would look like one of the whole run */
		if (freopen("/dev/null", "w", stderr) == NULL)
			_exit(2);
		_exit(test() ? 0 : 1);
	}
	return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

#endif							/* SAGAZ_ZONES_H */
