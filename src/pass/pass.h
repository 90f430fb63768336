/*
 * pass.h
 *		One pass of maintenance while it runs.
 *
 * Foreground and background differ in what surrounds a step, a subtransaction or
 * a transaction, and in the way of retiring. The background has a process for
 * each half, so that no retirement holds up a creation.
 */
#ifndef SAGAZ_PASS_PASS_H
#define SAGAZ_PASS_PASS_H

#include "postgres.h"

#include "base/attempt.h"
#include "catalog/history.h"
#include "catalog/problem.h"
#include "pass/table_plan.h"

typedef void (*PassEmit) (const Record *record, void *arg);

typedef struct Pass
{
	TimestampTz now;
	AttemptRunner attempt;
	bool		creates;		/* the half that makes partitions */
	void		(*retire) (struct Pass *pass, TablePlan *table);	/* the other; NULL: not
																	 * in this process */
	PassEmit	emit;			/* NULL: only the history is told */
	void	   *arg;
	bool		background;
	ProblemFinder finder;
	bool		loaded;			/* problems have been read */
	List	   *problems;		/* of Problem *, as the pass found them */
	long		defer_nap;		/* ms after which an unavailable lock is tried
								 * again */
	bool		found_expired;	/* there is work for the other half */
	bool		found_conversion;	/* the same for conversions */
	int			left;			/* how many partitions of the table come yet */
	bool		table_failed;	/* they would all meet an error that was met */
	bool		waiting;		/* a partition is draining */
	bool		deferred;		/* a lock was unavailable */
	List	   *taken;			/* of Oid, unused tables that this transaction
								 * has locked */
	TimestampTz next_try;		/* the earliest of errors' next tries; 0: none */
	int			due;			/* in so many ms the next pass is, if nothing
								 * happens before */
} Pass;

#endif							/* SAGAZ_PASS_PASS_H */
