/*
 * lsn_clock.c
 *		The arithmetic of the LSN clock.
 *
 * Samples are thinned as they age, so that the distance between two entries
 * stays below about 1/100 of their age: seconds are told apart a minute ago,
 * quarters of an hour two days ago. 2,048 entries reach back for months.
 */
#include "replication/lsn_clock.h"

#define THIN_FRACTION	200

/* Forgets every entry. */
void
lsn_clock_reset(LsnClock *clock)
{
	clock->n = 0;
}

/* The index of the first entry whose LSN is beyond lsn, or n. */
static int
first_beyond(const LsnClock *clock, XLogRecPtr lsn)
{
	int			lo = 0;
	int			hi = clock->n;

	while (lo < hi)
	{
		int			mid = lo + (hi - lo) / 2;

		if (clock->e[mid].lsn > lsn)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

/* Of entries closer together than their age asks for, keep every second. */
static int
thin_pass(LsnClock *clock, TimestampTz now, int fraction)
{
	int			to = 1;
	int			from;

	for (from = 1; from < clock->n; from++)
	{
		LsnClockEntry *entry = &clock->e[from];

		if (from < clock->n - 1 &&
			clock->e[from + 1].since - clock->e[to - 1].until <
			(now - entry->since) / fraction)
			continue;
		clock->e[to++] = *entry;
	}
	return to;
}

/*
 * Make room for a while, more coarsely when the usual distance doesn't. In
 * the end, the older half goes.
 */
static void
thin(LsnClock *clock, TimestampTz now)
{
	int			fraction;

	for (fraction = THIN_FRACTION; fraction > 1; fraction /= 2)
	{
		clock->n = thin_pass(clock, now, fraction);
		if (clock->n <= LSN_CLOCK_SIZE - LSN_CLOCK_SIZE / 16)
			return;
	}
	memmove(&clock->e[0], &clock->e[clock->n - LSN_CLOCK_SIZE / 2],
			sizeof(LsnClockEntry) * (LSN_CLOCK_SIZE / 2));
	clock->n = LSN_CLOCK_SIZE / 2;
}

/*
 * Note that the end of WAL was at lsn. A lower LSN than before is an older
 * report (a keepalive names what was sent, a data message what there is), and
 * tells nothing new.
 */
void
lsn_clock_add(LsnClock *clock, TimestampTz after, TimestampTz at, XLogRecPtr lsn)
{
	LsnClockEntry *last;

	if (XLogRecPtrIsInvalid(lsn))
		return;
	if (clock->n > 0)
	{
		last = &clock->e[clock->n - 1];
		at = Max(at, last->until);
		if (lsn < last->lsn)
			return;
		if (lsn == last->lsn)
		{
			last->until = at;
			return;
		}
		if (clock->n == LSN_CLOCK_SIZE)
			thin(clock, at);
	}
	last = &clock->e[clock->n++];
	last->after = Min(after, at);
	last->since = at;
	last->until = at;
	last->lsn = lsn;
}

/* Forget what lies beyond lsn: a new timeline begins there. */
void
lsn_clock_truncate(LsnClock *clock, XLogRecPtr lsn)
{
	clock->n = first_beyond(clock, lsn);
}

/* The wall clock was set: ages stay what they are. */
void
lsn_clock_shift(LsnClock *clock, TimeOffset step)
{
	int			i;

	for (i = 0; i < clock->n; i++)
	{
		clock->e[i].after += step;
		clock->e[i].since += step;
		clock->e[i].until += step;
	}
}

/*
 * When did WAL beyond lsn appear? end_at and end_lsn are the end as known
 * now, after the last sample; end_after is when it wasn't known yet: of a quiet
 * upstream there may be no sample for long. False when there is no WAL beyond
 * lsn. Between two samples the time is taken to go with the bytes; the first
 * byte after a sample may have come at any time until the next, so half-way.
 * The end as known now is dated by itself. Not exact: it was then or earlier.
 */
bool
lsn_clock_passed(const LsnClock *clock, XLogRecPtr lsn,
				 TimestampTz end_after, TimestampTz end_at, XLogRecPtr end_lsn,
				 TimestampTz *at, bool *exact)
{
	int			k = first_beyond(clock, lsn);
	LsnClockEntry beyond;
	const LsnClockEntry *before;
	TimestampTz from;

	*exact = k > 0;
	if (k < clock->n)
		beyond = clock->e[k];
	else if (end_lsn > lsn)
	{
		beyond.lsn = end_lsn;
		beyond.after = end_after;
		beyond.since = end_at;
	}
	else
		return false;

	*at = beyond.since;
	if (k == 0)
		return true;
	before = &clock->e[k - 1];
	from = Max(before->until, beyond.after);
	if (beyond.since <= from)
		return true;
	if (lsn > before->lsn)
		*at = from + (TimeOffset) ((double) (beyond.since - from) *
								   ((double) (lsn - before->lsn) /
									(double) (beyond.lsn - before->lsn)));
	else if (k < clock->n)
		*at = from + (beyond.since - from) / 2;
	return true;
}

/* The latest time at which all WAL that there was lay at or before lsn. */
bool
lsn_clock_covered(const LsnClock *clock, XLogRecPtr lsn, TimestampTz *at)
{
	int			k = first_beyond(clock, lsn);

	if (k == 0)
		return false;
	*at = clock->e[k - 1].until;
	return true;
}

/* How fast WAL grew over the last window, or over what is known of it. */
bool
lsn_clock_speed(const LsnClock *clock, TimestampTz now, TimeOffset window,
				double *bytes_per_second)
{
	int			i;
	TimestampTz from;

	if (clock->n == 0)
		return false;
	for (i = clock->n - 1; i > 0; i--)
		if (clock->e[i].since <= now - window)
			break;
	from = Max(clock->e[i].since, Min(clock->e[i].until, now - window));
	/* a few seconds say nothing of the next hour */
	if (now - from < 10 * USECS_PER_SEC)
		return false;
	*bytes_per_second = (double) (clock->e[clock->n - 1].lsn - clock->e[i].lsn) *
		USECS_PER_SEC / (double) (now - from);
	return true;
}

/* Forgets every position. */
void
lsn_rate_reset(LsnRate *rate)
{
	rate->n = 0;
	rate->next = 0;
}

/* Notes a position; the oldest of a full ring goes. */
void
lsn_rate_add(LsnRate *rate, TimestampTz at, XLogRecPtr lsn)
{
	rate->at[rate->next] = at;
	rate->lsn[rate->next] = lsn;
	rate->next = (rate->next + 1) % LSN_RATE_SIZE;
	if (rate->n < LSN_RATE_SIZE)
		rate->n++;
}

/* Gets the speed over what the ring has; false when it can't be told. */
bool
lsn_rate_speed(const LsnRate *rate, double *bytes_per_second)
{
	int			newest = (rate->next + LSN_RATE_SIZE - 1) % LSN_RATE_SIZE;
	int			oldest = rate->n < LSN_RATE_SIZE ? 0 : rate->next;

	if (rate->n < 2 || rate->at[newest] <= rate->at[oldest] ||
		rate->lsn[newest] < rate->lsn[oldest])
		return false;
	*bytes_per_second = (double) (rate->lsn[newest] - rate->lsn[oldest]) *
		USECS_PER_SEC / (double) (rate->at[newest] - rate->at[oldest]);
	return true;
}
