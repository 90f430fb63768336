/*
 * problem.h
 *		What is wrong now: one row per table or partition.
 */
#ifndef SAGAZ_CATALOG_PROBLEM_H
#define SAGAZ_CATALOG_PROBLEM_H

#include "postgres.h"

#include "catalog/history.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* Which process looks after a problem: each removes its own only. */
typedef enum ProblemFinder
{
	PROBLEM_OF_PASS,
	PROBLEM_OF_UPKEEP,
	PROBLEM_OF_DRIFT
} ProblemFinder;

/* A row as it was when it was read. */
typedef struct Problem
{
	Oid			parent;
	char	   *table_name;
	Oid			partition;
	char	   *partition_name; /* NULL: the table as a whole */
	Action		action;
	int			sqlerrcode;		/* 0: none */
	char	   *details;
	int			times;
	TimestampTz next_try;		/* by the server's clock; 0: in the next pass */
	bool		unchanged;		/* policy, table and partition are as at the
								 * last try */
	bool		seen;			/* it was met again, or left alone, in this
								 * pass */
} Problem;

/* What is to be recorded. */
typedef struct ProblemReport
{
	const Record *record;
	int			sqlerrcode;
	TimestampTz next_try;
	int			times;
} ProblemReport;

extern List *problem_load(ProblemFinder finder, bool backs_off);
extern List *problem_kept_partitions(void);
extern Problem *problem_find(List *problems, const Subject *subject);
extern bool problem_is_same(const Problem *problem, const Record *record, int sqlerrcode);
extern bool problem_save(const ProblemReport *report, ProblemFinder finder,
						 bool same, TimestampTz now);
extern void problem_remove(const Problem *problem, ProblemFinder finder);
extern void problem_try_now(Oid parent);
extern TimestampTz problem_back_off(TimestampTz since, int times);
extern bool problem_backs_off(const Problem *problem);

#endif							/* SAGAZ_CATALOG_PROBLEM_H */
