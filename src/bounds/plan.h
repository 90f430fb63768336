/*
 * plan.h
 *		What a table's partitions need, as a pure function of time, policy and
 *		bounds.
 *
 * Invariant: pure C, as calendar.h. Plan, apply, plan again at the same time:
 * the second plan is empty, but for expired partitions that had to be kept.
 */
#ifndef SAGAZ_PLAN_H
#define SAGAZ_PLAN_H

#include "bounds/calendar.h"

/* More new partitions than this in one plan is taken for a mistake. */
#define PLAN_MAX_CREATE		10000

/*
 * A bound that is before the next one, or the calendar's, by no more than this, in
 * microseconds, was meant to be that one: "23:59:59.999".
 */
#define PLAN_CRACK			INT64_C(1000000)

/* A partition's range, upper bound exclusive; infinite where unbounded. */
typedef struct PlanBound
{
	CalTime		lower;
	CalTime		upper;
} PlanBound;

typedef struct PlanPolicy
{
	Calendar	cal;
	CalSpan		interval;		/* one kind of unit, positive */
	int			premake;		/* intervals to be covered beyond now */
	bool		has_retention;
	CalSpan		retention;
} PlanPolicy;

typedef enum PlanKind
{
	PLAN_CREATE,
	PLAN_EXPIRE
} PlanKind;

typedef struct PlanAction
{
	PlanKind	kind;
	PlanBound	bound;
	int			index;			/* of the expired partition */
} PlanAction;

typedef enum PlanResult
{
	PLAN_OK,
	PLAN_OUT_OF_RANGE,			/* a bound would be no finite timestamp */
	PLAN_TOO_MANY,				/* more than PLAN_MAX_CREATE partitions */
	PLAN_OVERLAP				/* plan_period_at() only */
} PlanResult;

typedef void (*PlanEmit) (const PlanAction *action, void *arg);

/* parts[]: sorted, without overlap, without the default partition */
extern PlanResult plan_partitions(const PlanPolicy *policy, CalTime now,
								  const PlanBound *parts, int nparts,
								  PlanEmit emit, void *arg);
extern PlanResult plan_period_at(const PlanPolicy *policy, CalTime at,
								 const PlanBound *parts, int nparts,
								 PlanBound *period, int *existing);
extern bool plan_is_expired(const PlanPolicy *policy, CalTime now,
							const PlanBound *bound);
extern bool plan_has_partition(CalTime now, const PlanBound *parts, int nparts);
extern int	plan_catch_all(const PlanBound *parts, int nparts);
extern bool plan_has_more(const PlanPolicy *policy, CalTime now, CalTime then, CalTime covered,
						  const PlanBound *parts, int nparts);
extern bool plan_covered_until(CalTime now, const PlanBound *parts, int nparts,
							   CalTime *until);
extern int	plan_covered_quarters(const PlanPolicy *policy, CalTime now,
								  const PlanBound *parts, int nparts);
extern CalTime plan_nominal_start(const PlanPolicy *policy, const PlanBound *bound);
extern bool plan_is_crack(const PlanBound *bound, const PlanBound *parts, int nparts);
extern int	plan_holes(const PlanPolicy *policy, CalTime now,
					   const PlanBound *parts, int nparts, PlanBound *first);

extern bool plan_way_back(const PlanPolicy *policy, const PlanBound *parts,
						  int nparts, PlanBound *odd);

#endif							/* SAGAZ_PLAN_H */
