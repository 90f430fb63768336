/*
 * fuzz_plan.c
 *		Any policy, any time, any bounds: what has to hold of a plan even then.
 *
 * The unit tests' random rounds stay near what people do; here the bytes are
 * the fuzzer's, so intervals of 2 billion days and bounds at both ends of time
 * come along. make -C test/fuzz run
 */
#include "bounds/plan.h"
#include "zones.h"

#define MAX_PARTS	16
#define MAX_MADE	(PLAN_MAX_CREATE + 8)

typedef struct Input
{
	const uint8_t *data;
	size_t		left;
} Input;

typedef struct Made
{
	int			ncreate;
	int			nexpire;
	PlanBound	create[MAX_MADE];
} Made;

static uint64_t
take(Input *input, size_t size)
{
	uint64_t	value = 0;

	for (; size > 0 && input->left > 0; size--, input->left--)
		value = value << 8 | *input->data++;
	return value;
}

/* A finite timestamp; small numbers are hours around 2025, where rules change. */
static CalTime
take_time(Input *input)
{
	uint8_t		how = (uint8_t) take(input, 1);

	if (how < 128)
		return date(2025, 1, 1) + ((int64_t) take(input, 2) - 32768) * CAL_HOUR * (how % 8 + 1);
	return (int64_t) ((uint64_t) CAL_FIRST +
					  take(input, 8) % ((uint64_t) CAL_END - (uint64_t) CAL_FIRST));
}

/* One kind of unit, positive; small or anything. */
static CalSpan
take_span(Input *input)
{
	uint8_t		how = (uint8_t) take(input, 1);
	int64_t		count = how < 200 ? (int64_t) take(input, 1) + 1 :
		(int64_t) (take(input, 4) % INT32_MAX) + 1;

	switch (how % 3)
	{
		case 0:
			return (CalSpan) {(int32_t) count, 0, 0};
		case 1:
			return (CalSpan) {0, (int32_t) count, 0};
		default:
			/* the shortest interval that a policy may have is a minute */
			return (CalSpan) {0, 0, count * (how % 2 == 0 ? MINUTE : CAL_HOUR)};
	}
}

static int
take_parts(Input *input, PlanBound parts[MAX_PARTS])
{
	int			n = (int) (take(input, 1) % MAX_PARTS);
	int			made = 0;
	CalTime		t = take_time(input);

	for (int i = 0; i < n; i++)
	{
		PlanBound	part = {t, t};

		/* at least as far from the end as the steps below can go */
		if (t >= CAL_END - 5000 * CAL_DAY)
			break;
		part.upper += (int64_t) (take(input, 6) % (uint64_t) (4000 * CAL_DAY)) + 1;
		parts[made++] = part;
		t = part.upper;
		if (take(input, 1) % 2 == 1)
			t += (int64_t) (take(input, 6) % (uint64_t) (400 * CAL_DAY));
	}
	if (made > 0 && take(input, 1) % 8 == 0)
		parts[0].lower = CAL_MINUS_INFINITY;
	if (made > 0 && take(input, 1) % 8 == 0)
		parts[made - 1].upper = CAL_INFINITY;
	return made;
}

static void
collect(const PlanAction *action, void *arg)
{
	Made	   *made = arg;

	if (action->kind == PLAN_EXPIRE)
		made->nexpire++;
	else if (made->ncreate < MAX_MADE)
		made->create[made->ncreate++] = action->bound;
}

static void
require(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "does not hold: %s\n", what);
	abort();
}

/* What was made is in order, no part of it is empty, and it overlaps nothing. */
static void
check_made(const Made *made, const PlanBound *parts, int nparts)
{
	int			part = 0;

	for (int i = 0; i < made->ncreate; i++)
	{
		const PlanBound *bound = &made->create[i];

		require(bound->lower < bound->upper, "a new partition isn't empty");
		require(cal_is_finite(bound->lower) && cal_is_finite(bound->upper), "its bounds are timestamps");
		require(i == 0 || made->create[i - 1].upper <= bound->lower, "new ones are in order");
		while (part < nparts && parts[part].upper <= bound->lower)
			part++;
		require(part == nparts || bound->upper <= parts[part].lower, "it overlaps none that exists");
	}
}

/* Both are in order. */
static int
merge(PlanBound *all, const Made *made, const PlanBound *parts, int nparts)
{
	int			n = 0;
	int			part = 0;

	for (int i = 0; i < made->ncreate; i++)
	{
		while (part < nparts && parts[part].lower < made->create[i].lower)
			all[n++] = parts[part++];
		all[n++] = made->create[i];
	}
	while (part < nparts)
		all[n++] = parts[part++];
	return n;
}

static void
check_names(const PlanPolicy *policy, const Made *made)
{
	for (int i = 0; i < made->ncreate && i < 3; i++)
	{
		char		suffix[CAL_SUFFIX_SIZE];

		memset(suffix, 'x', sizeof(suffix));
		cal_suffix(&policy->cal, made->create[i].lower, &policy->interval, suffix);
		require(memchr(suffix, '\0', sizeof(suffix)) != NULL, "the name's suffix ends");
		/* it was cut if it fills the buffer */
		require(strlen(suffix) < sizeof(suffix) - 1, "the name's suffix fits");
	}
}

static void
check_period(const PlanPolicy *policy, CalTime at, const PlanBound *parts, int nparts)
{
	PlanBound	period;
	int			existing;
	PlanResult	result = plan_period_at(policy, at, parts, nparts, &period, &existing);

	if (result == PLAN_OK || result == PLAN_OVERLAP)
		require(existing >= -1 && existing < nparts, "the partition in the way exists");
	if (result == PLAN_OK)
		require(period.lower <= at && at < period.upper, "a period contains its instant");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static Made made,
				again;
	static PlanBound all[MAX_MADE + MAX_PARTS];
	PlanBound	parts[MAX_PARTS];
	Input		input = {data, size};
	PlanPolicy	policy = {.cal = zone_number((int) (take(&input, 1) % (NZONES + 1)) - 1)};
	CalTime		now = take_time(&input);
	CalTime		until;
	PlanBound	first;
	int			nparts;
	int			n;

	policy.interval = take_span(&input);
	policy.premake = (int) (take(&input, 2) % 1000) + 1;
	policy.has_retention = take(&input, 1) % 4 != 0;
	policy.retention = take_span(&input);
	nparts = take_parts(&input, parts);
	check_period(&policy, take_time(&input), parts, nparts);

	made.ncreate = made.nexpire = again.ncreate = again.nexpire = 0;
	if (plan_partitions(&policy, now, parts, nparts, collect, &made) != PLAN_OK)
		return 0;
	check_made(&made, parts, nparts);
	check_names(&policy, &made);
	n = merge(all, &made, parts, nparts);
	require(plan_has_partition(now, all, n) &&
			(!plan_covered_until(now, all, n, &until) || until > now), "now is covered");
	require(plan_holes(&policy, now, all, n, &first) == 0, "no hole is left");
	require(plan_partitions(&policy, now, all, n, collect, &again) == PLAN_OK, "it can be planned again");
	require(again.ncreate == 0, "the second plan makes nothing");
	require(again.nexpire == made.nexpire, "the second plan retires the same");
	return 0;
}
