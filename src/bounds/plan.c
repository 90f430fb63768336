/*
 * plan.c
 *		What a table's partitions need, as a pure function of time, policy and
 *		bounds.
 *
 * New partitions continue from the bound before them, whatever its width and
 * alignment; only where there is none do they follow the calendar. The number
 * of partitions to make comes from the clock, never from the newest row: a
 * table without rows stays covered, and a junk row makes nothing.
 */
#include "bounds/plan.h"

typedef struct Planner
{
	const PlanPolicy *policy;
	CalTime		cutoff;			/* what ends here or before is expired */
	CalTime		target;			/* the last instant that must be covered */
	PlanEmit	emit;
	void	   *arg;
	int			created;
} Planner;

static PlanResult
planner_init(Planner *planner, const PlanPolicy *policy, CalTime now)
{
	planner->policy = policy;
	planner->cutoff = CAL_MINUS_INFINITY;
	planner->created = 0;

	/*
	 * a retention that reaches back before the first timestamp expires
	 * nothing
	 */
	if (policy->has_retention &&
		!cal_add(&policy->cal, now, &policy->retention, -1, &planner->cutoff))
		planner->cutoff = CAL_MINUS_INFINITY;
	if (!cal_add(&policy->cal, now, &policy->interval, policy->premake,
				 &planner->target))
		return PLAN_OUT_OF_RANGE;
	return PLAN_OK;
}

/*
 * About how many intervals from anchor to t. It is a division, which months and
 * clock changes put off by a few.
 */
static int64_t
guess_steps(const PlanPolicy *policy, CalTime anchor, CalTime t)
{
	const CalSpan *span = &policy->interval;
	double		length = span->months * 30.436875 * CAL_DAY +
		span->days * (double) CAL_DAY + span->usec;

	return (int64_t) (((double) t - (double) anchor) / length);
}

/* How many intervals from lower end at the cutoff or before. */
static int64_t
expired_steps(const Planner *planner, CalTime lower)
{
	const PlanPolicy *policy = planner->policy;
	CalTime		end;
	int64_t		n;

	if (lower >= planner->cutoff)
		return 0;
	n = guess_steps(policy, lower, planner->cutoff);
	while (n > 0 && (!cal_add(&policy->cal, lower, &policy->interval, n, &end) ||
					 end > planner->cutoff))
		n--;
	while (cal_add(&policy->cal, lower, &policy->interval, n + 1, &end) &&
		   end <= planner->cutoff)
		n++;
	return n;
}

/*
 * Where a partition was meant to begin: as its lower bound, or with the period of
 * the calendar that begins within it just after that.
 */
CalTime
plan_nominal_start(const PlanPolicy *policy, const PlanBound *bound)
{
	CalTime		start;

	if (cal_is_finite(bound->lower) &&
		cal_floor(&policy->cal, bound->lower + PLAN_CRACK, &policy->interval, &start) &&
		start > bound->lower && start < bound->upper)
		return start;
	return bound->lower;
}

/*
 * Covers [lower, upper) as far as the target, in steps of one interval from
 * where lower was meant to be; the first step begins at lower, and the last one
 * ends at upper. What would be expired at once is left: jumped over, because a
 * gap can be of centuries.
 */
static PlanResult
fill(Planner *planner, CalTime lower, CalTime upper)
{
	const PlanPolicy *policy = planner->policy;
	const PlanBound gap = {lower, upper};
	CalTime		anchor = plan_nominal_start(policy, &gap);
	int64_t		n;
	CalTime		start;

	if (upper <= planner->cutoff)
		return PLAN_OK;
	n = expired_steps(planner, anchor);
	if (n == 0 || !cal_add(&policy->cal, anchor, &policy->interval, n, &start))
		start = lower;
	while (start < upper && start <= planner->target)
	{
		PlanAction	action = {PLAN_CREATE, {start, upper}, -1};
		CalTime		end;

		if (!cal_add(&policy->cal, anchor, &policy->interval, ++n, &end))
		{
			/* the calendar ends here, but an existing bound may end the step */
			if (upper == CAL_INFINITY)
				return PLAN_OUT_OF_RANGE;
			end = upper;
		}
		if (end < upper)
			action.bound.upper = end;
		if (action.bound.upper > planner->cutoff &&
			action.bound.upper > action.bound.lower)
		{
			if (++planner->created > PLAN_MAX_CREATE)
				return PLAN_TOO_MANY;
			planner->emit(&action, planner->arg);
		}
		start = action.bound.upper;
	}
	return PLAN_OK;
}

/* The gaps before, between and after the existing partitions, in order. */
static PlanResult
fill_gaps(Planner *planner, CalTime now, const PlanBound *parts, int nparts)
{
	PlanResult	result = PLAN_OK;
	CalTime		start;

	if (nparts == 0 || now < parts[0].lower)
	{
		if (!cal_floor(&planner->policy->cal, now, &planner->policy->interval,
					   &start))
			return PLAN_OUT_OF_RANGE;
		result = fill(planner, start, nparts == 0 ? CAL_INFINITY : parts[0].lower);
	}
	for (int i = 0; i < nparts && result == PLAN_OK; i++)
	{
		if (parts[i].upper != CAL_INFINITY)
			result = fill(planner, parts[i].upper,
						  i + 1 < nparts ? parts[i + 1].lower : CAL_INFINITY);
	}
	return result;
}

/* Emits every creation, in order of time, and then every expiry. */
PlanResult
plan_partitions(const PlanPolicy *policy, CalTime now,
				const PlanBound *parts, int nparts, PlanEmit emit, void *arg)
{
	Planner		planner;
	PlanResult	result = planner_init(&planner, policy, now);

	if (result != PLAN_OK)
		return result;
	planner.emit = emit;
	planner.arg = arg;
	result = fill_gaps(&planner, now, parts, nparts);
	for (int i = 0; i < nparts; i++)
	{
		PlanAction	action = {PLAN_EXPIRE, parts[i], i};

		if (parts[i].upper <= planner.cutoff)
			emit(&action, arg);
	}
	return result;
}

/* Whether a partition with these bounds is expired. */
bool
plan_is_expired(const PlanPolicy *policy, CalTime now, const PlanBound *bound)
{
	Planner		planner;

	(void) planner_init(&planner, policy, now);
	return bound->upper <= planner.cutoff;
}

/* The index of the last partition that begins at t or before, or -1. */
static int
find_part(CalTime t, const PlanBound *parts, int nparts)
{
	int			low = 0;
	int			high = nparts;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (parts[middle].lower <= t)
			low = middle + 1;
		else
			high = middle;
	}
	return low - 1;
}

/* The step of one interval from the anchor that contains t. */
static bool
step_around(const PlanPolicy *policy, CalTime anchor, CalTime t, PlanBound *step)
{
	const CalSpan *span = &policy->interval;
	int64_t		n = guess_steps(policy, anchor, t);

	while (cal_add(&policy->cal, anchor, span, n, &step->lower) && step->lower > t)
		n--;
	for (;; n++)
	{
		if (!cal_add(&policy->cal, anchor, span, n, &step->lower) ||
			!cal_add(&policy->cal, anchor, span, n + 1, &step->upper))
			return false;
		if (step->upper > t)
			return true;
	}
}

/*
 * The period that a partition for this instant would have. PLAN_OK with an
 * index in *existing: that partition is the one. PLAN_OVERLAP: the partition
 * *existing is in the way, because its width isn't the policy's.
 */
PlanResult
plan_period_at(const PlanPolicy *policy, CalTime at,
			   const PlanBound *parts, int nparts,
			   PlanBound *period, int *existing)
{
	int			before = find_part(at, parts, nparts);
	CalTime		anchor;

	*existing = -1;
	if (before >= 0 && at < parts[before].upper)
	{
		CalTime		end;

		*existing = before;
		if (cal_add(&policy->cal, parts[before].lower, &policy->interval, 1, &end) &&
			end == parts[before].upper)
		{
			*period = parts[before];
			return PLAN_OK;
		}
		if (!cal_floor(&policy->cal, at, &policy->interval, &period->lower) ||
			!cal_add(&policy->cal, period->lower, &policy->interval, 1, &period->upper))
			return PLAN_OUT_OF_RANGE;
		return PLAN_OVERLAP;
	}

	if (before >= 0)
	{
		PlanBound	rest = {parts[before].upper, CAL_INFINITY};

		anchor = plan_nominal_start(policy, &rest);
		if (at < anchor)
			at = anchor;
	}
	else if (nparts > 0 && cal_is_finite(parts[0].lower))
		anchor = parts[0].lower;
	else if (!cal_floor(&policy->cal, at, &policy->interval, &anchor))
		return PLAN_OUT_OF_RANGE;
	if (!step_around(policy, anchor, at, period))
		return PLAN_OUT_OF_RANGE;

	if (before >= 0 && period->lower == anchor)
		period->lower = parts[before].upper;
	if (before >= 0 && period->lower < parts[before].upper)
		*existing = before;
	else if (before + 1 < nparts && period->upper > parts[before + 1].lower)
		*existing = before + 1;
	return *existing < 0 ? PLAN_OK : PLAN_OVERLAP;
}

/* Whether an insert of now finds a partition, be it one that takes everything. */
bool
plan_has_partition(CalTime now, const PlanBound *parts, int nparts)
{
	int			i = find_part(now, parts, nparts);

	return i >= 0 && now < parts[i].upper;
}

/* The index of a partition without an end, or -1: it takes what none was made for. */
int
plan_catch_all(const PlanBound *parts, int nparts)
{
	return nparts > 0 && parts[nparts - 1].upper == CAL_INFINITY ? nparts - 1 : -1;
}

/*
 * Until when every insert from now on finds a partition of its time. False: not
 * now. One that takes everything is no partition of any time.
 */
bool
plan_covered_until(CalTime now, const PlanBound *parts, int nparts,
				   CalTime *until)
{
	int			i = find_part(now, parts, nparts);

	if (plan_catch_all(parts, nparts) >= 0)
		nparts--;
	if (i < 0 || i >= nparts || now >= parts[i].upper)
		return false;
	while (i + 1 < nparts && parts[i + 1].lower == parts[i].upper)
		i++;
	*until = parts[i].upper;
	return true;
}

/*
 * How much of the time that premake wants is covered from now on: in quarters, 4
 * if it is whole.
 */
int
plan_covered_quarters(const PlanPolicy *policy, CalTime now,
					  const PlanBound *parts, int nparts)
{
	CalTime		until;
	CalTime		target;

	if (!plan_covered_until(now, parts, nparts, &until))
		return 0;
	if (!cal_add(&policy->cal, now, &policy->interval, policy->premake, &target) ||
		until >= target)
		return 4;
	return (int) (4 * (((double) until - (double) now) / ((double) target - (double) now)));
}

/*
 * Whether there is more to do at a later time than now, once all that is wanted now
 * is done: a creation, as coverage reaches until covered, or an expiry.
 */
bool
plan_has_more(const PlanPolicy *policy, CalTime now, CalTime then, CalTime covered,
			  const PlanBound *parts, int nparts)
{
	Planner		planner;
	Planner		later;

	if (planner_init(&planner, policy, now) != PLAN_OK ||
		planner_init(&later, policy, then) != PLAN_OK)
		return false;
	if (cal_is_finite(covered) && covered > now && covered <= later.target)
		return true;
	for (int i = 0; i < nparts && parts[i].upper <= later.cutoff; i++)
		if (parts[i].upper > planner.cutoff)
			return true;
	return false;
}

/* Whether what would be made is a crack between two partitions, from end to end. */
bool
plan_is_crack(const PlanBound *bound, const PlanBound *parts, int nparts)
{
	int			i = find_part(bound->lower, parts, nparts);

	return bound->upper - bound->lower <= PLAN_CRACK && i >= 0 && i + 1 < nparts &&
		parts[i].upper == bound->lower && parts[i + 1].lower == bound->upper;
}

/*
 * How many gaps there are between partitions, from the retention's edge to
 * the end of what premake must cover, and the first one.
 */
int
plan_holes(const PlanPolicy *policy, CalTime now,
		   const PlanBound *parts, int nparts, PlanBound *first)
{
	Planner		planner;
	int			holes = 0;

	if (planner_init(&planner, policy, now) != PLAN_OK)
		return 0;
	for (int i = 1; i < nparts; i++)
	{
		if (parts[i - 1].upper == parts[i].lower ||
			parts[i].lower <= planner.cutoff ||
			parts[i - 1].upper > planner.target)
			continue;
		if (holes++ == 0)
		{
			first->lower = parts[i - 1].upper;
			first->upper = parts[i].lower;
		}
	}
	return holes;
}

/* Whether a day begins here, or, where partitions have hours, a period. */
static bool
is_boundary(const PlanPolicy *policy, CalTime t)
{
	CalSpan		day = {0, 1, 0};
	const CalSpan *unit = policy->interval.usec > 0 ? &policy->interval : &day;
	CalTime		start;

	if (cal_floor(&policy->cal, t, unit, &start) && start == t)
		return true;
	/* hours that were begun with a day of the zone */
	return policy->interval.usec > 0 &&
		cal_to_local(&policy->cal, t) % policy->interval.usec == 0;
}

/*
 * Later partitions continue from the newest one. If that ends inside of a day,
 * they all do: bounds were written in another time zone. True, and the odd
 * partition after which they follow the calendar again.
 */
bool
plan_way_back(const PlanPolicy *policy, const PlanBound *parts, int nparts,
			  PlanBound *odd)
{
	CalTime		newest = nparts > 0 ? parts[nparts - 1].upper : CAL_INFINITY;
	CalTime		start;

	if (!cal_is_finite(newest) || is_boundary(policy, newest))
		return false;
	odd->lower = newest;
	return cal_floor(&policy->cal, newest, &policy->interval, &start) &&
		cal_add(&policy->cal, start, &policy->interval, 1, &odd->upper) &&
		odd->upper > newest;
}
