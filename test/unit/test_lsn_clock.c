/*
 * test_lsn_clock.c
 *		Unit tests of src/replication/lsn_clock.c: dates of positions by simulated samples.
 */
#include "tap.h"				/* before the server's own printf() */
#include "replication/lsn_clock.h"

#define SECOND		USECS_PER_SEC
#define DAY			INT64CONST(86400)
#define BEGIN		INT64CONST(800000000000000)
#define START_LSN	UINT64CONST(0x1000000)
#define SPEED		1000			/* bytes per second */

static LsnClock clock_;

/* WAL grows by SPEED, and is looked at once per second. */
static void
run(int64_t seconds)
{
	lsn_clock_reset(&clock_);
	for (int64_t i = 1; i <= seconds; i++)
		lsn_clock_add(&clock_, BEGIN + (i - 1) * SECOND, BEGIN + i * SECOND,
					  START_LSN + i * SPEED);
}

static TimestampTz
passed(XLogRecPtr lsn, bool *exact)
{
	TimestampTz at = 0;

	if (!lsn_clock_passed(&clock_, lsn, 0, 0, InvalidXLogRecPtr, &at, exact))
		return 0;
	return at;
}

static bool
in_order(void)
{
	for (int i = 1; i < clock_.n; i++)
		if (clock_.e[i].lsn <= clock_.e[i - 1].lsn ||
			clock_.e[i].since < clock_.e[i - 1].until)
			return false;
	return true;
}

static void
test_empty(void)
{
	TimestampTz at;
	bool		exact;
	double		speed;

	lsn_clock_reset(&clock_);
	ok(!lsn_clock_passed(&clock_, 10, 0, 0, InvalidXLogRecPtr, &at, &exact),
	   "empty: nothing is beyond");
	ok(!lsn_clock_covered(&clock_, 10, &at), "empty: nothing is covered");
	ok(!lsn_clock_speed(&clock_, BEGIN, SECOND, &speed), "empty: no speed");
	lsn_clock_add(&clock_, 0, BEGIN, InvalidXLogRecPtr);
	ok(clock_.n == 0, "an invalid position is no sample");
	ok(lsn_clock_passed(&clock_, 10, 0, BEGIN, 20, &at, &exact) && at == BEGIN && !exact,
	   "empty: the end as known now dates itself, not exactly");
	lsn_clock_add(&clock_, 0, BEGIN, 100);
	ok(lsn_clock_passed(&clock_, 150, BEGIN + 9 * SECOND, BEGIN + 10 * SECOND, 200, &at, &exact) &&
	   at >= BEGIN + 9 * SECOND && at <= BEGIN + 10 * SECOND,
	   "a quiet upstream writes again: what came is not dated into the pause");
}

static void
test_idle(void)
{
	TimestampTz at;
	bool		exact;

	run(10);
	for (int i = 11; i <= 100; i++)
		lsn_clock_add(&clock_, BEGIN + (i - 1) * SECOND, BEGIN + i * SECOND,
					  START_LSN + 10 * SPEED);
	ok(clock_.n == 10, "idle: no entries are added");
	ok(passed(START_LSN + 10 * SPEED, &exact) == 0, "idle: nothing is beyond the end");
	ok(lsn_clock_covered(&clock_, START_LSN + 10 * SPEED, &at), "idle: the end is covered");
	is_time(at, BEGIN + 100 * SECOND, "idle: until the last look");
	lsn_clock_add(&clock_, BEGIN + 100 * SECOND, BEGIN + 101 * SECOND,
				  START_LSN + 11 * SPEED);
	is_time(passed(START_LSN + 10 * SPEED, &exact), BEGIN + 100 * SECOND + SECOND / 2,
			"what comes after a pause is dated after the pause, half-way to the next look");
	is_time(passed(START_LSN + 10 * SPEED + SPEED / 4, &exact), BEGIN + 100 * SECOND + SECOND / 4,
			"and within it by bytes");
	ok(exact, "exactly");
	lsn_clock_add(&clock_, BEGIN + 101 * SECOND, BEGIN + 102 * SECOND, START_LSN);
	ok(clock_.n == 11 && clock_.e[10].lsn == START_LSN + 11 * SPEED,
	   "an older report changes nothing");
	lsn_clock_add(&clock_, BEGIN, BEGIN + 50 * SECOND, START_LSN + 12 * SPEED);
	ok(in_order(), "a report from the past keeps times in order");
	(void) passed(START_LSN, &exact);
	ok(!exact, "before the first sample is not exact");
}

static void
test_truncate_and_shift(void)
{
	TimestampTz before;
	bool		exact;

	run(100);
	lsn_clock_truncate(&clock_, START_LSN + 50 * SPEED + 1);
	ok(clock_.n == 50 && clock_.e[49].lsn == START_LSN + 50 * SPEED,
	   "a new timeline: what lay beyond is forgotten");
	before = passed(START_LSN + 20 * SPEED, &exact);
	lsn_clock_shift(&clock_, -3600 * SECOND);
	is_time(passed(START_LSN + 20 * SPEED, &exact), before - 3600 * SECOND,
			"a clock that was set takes the samples along");
}

static void
test_speed(void)
{
	double		speed;

	run(1000);
	ok(lsn_clock_speed(&clock_, BEGIN + 1000 * SECOND, 300 * SECOND, &speed) &&
	   speed > SPEED * 0.99 && speed < SPEED * 1.01, "speed of steady growth");
	ok(lsn_clock_speed(&clock_, BEGIN + 1600 * SECOND, 300 * SECOND, &speed) && speed == 0,
	   "no speed after ten idle minutes");
	run(5);
	ok(!lsn_clock_speed(&clock_, BEGIN + 5 * SECOND, 300 * SECOND, &speed),
	   "a few seconds are no speed");
}

static void
test_rate(void)
{
	LsnRate		rate;
	double		speed;

	lsn_rate_reset(&rate);
	lsn_rate_add(&rate, BEGIN, START_LSN);
	ok(!lsn_rate_speed(&rate, &speed), "one position has no rate");
	for (int i = 1; i <= 2 * LSN_RATE_SIZE + 3; i++)
		lsn_rate_add(&rate, BEGIN + i * SECOND, START_LSN + i * SPEED);
	ok(lsn_rate_speed(&rate, &speed) && speed == SPEED, "rate over the last positions");
	lsn_rate_add(&rate, BEGIN + 100 * SECOND, START_LSN);
	ok(!lsn_rate_speed(&rate, &speed), "no rate when it went back");
}

/* A month of samples: how far off is the date of a position of any age? */
static void
test_month(void)
{
	int64_t		n = 30 * DAY;
	double		worst_recent = 0;
	double		worst_relative = 0;
	bool		all_exact = true;
	bool		exact;

	run(n);
	ok(clock_.n <= LSN_CLOCK_SIZE, "a month: it fits");
	ok(in_order(), "a month: entries are in order");
	ok(BEGIN + n * SECOND - clock_.e[0].since > 29 * DAY * SECOND, "a month: all of it is remembered");
	for (int64_t age = 2; age < 29 * DAY; age = age * 13 / 10 + 1)
	{
		TimestampTz at = passed(START_LSN + (n - age) * SPEED, &exact);
		double		error = (double) (at - (BEGIN + (n - age) * SECOND)) / SECOND;

		error = error < 0 ? -error : error;
		all_exact = all_exact && exact;
		if (age < 120)
			worst_recent = Max(worst_recent, error);
		else
			worst_relative = Max(worst_relative, error / age);
	}
	ok(all_exact, "a month: every position is dated");
	ok(worst_recent <= 1, "a month: to a second within two minutes (%.2f s)", worst_recent);
	ok(worst_relative <= 0.01, "a month: to 1/100 of its age beyond (%.4f)", worst_relative);
}

/* Bursts and pauses, where a position's bytes say nothing of its time. */
static void
test_bursts(void)
{
	XLogRecPtr	lsn = START_LSN;
	uint32_t	random = 1;
	double		widest = 0;
	TimestampTz now = BEGIN;

	lsn_clock_reset(&clock_);
	for (int i = 1; i <= 7 * DAY; i++)
	{
		random = random * 1664525u + 1013904223u;
		if ((random >> 16) % 10 == 0)
			lsn += (random >> 8) % 100000000 + 1;
		lsn_clock_add(&clock_, now, now + SECOND, lsn);
		now += SECOND;
	}
	for (int i = 1; i < clock_.n; i++)
	{
		double		age = (double) (now - clock_.e[i].since) / SECOND;
		double		gap = (double) (clock_.e[i].since - clock_.e[i - 1].until) / SECOND;

		if (age > 3600)
			widest = Max(widest, gap / age);
	}
	ok(in_order() && clock_.n <= LSN_CLOCK_SIZE, "bursts: in order, and it fits");
	ok(widest <= 0.011, "bursts: entries are no further apart than their age allows (%.4f)", widest);
}

int
main(void)
{
	test_empty();
	test_idle();
	test_truncate_and_shift();
	test_speed();
	test_rate();
	test_month();
	test_bursts();
	return done_testing();
}
