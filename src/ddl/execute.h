/*
 * execute.h
 *		Making and retiring partitions: the only module that runs DDL on them.
 */
#ifndef SAGAZ_EXECUTE_H
#define SAGAZ_EXECUTE_H

#include "postgres.h"

#include "catalog/parent.h"
#include "catalog/policy.h"
#include "storage/lockdefs.h"

typedef enum RetireOutcome
{
	RETIRE_GONE,				/* somebody else was faster */
	RETIRE_DROPPED,
	RETIRE_DETACHED,
	RETIRE_KEPT
} RetireOutcome;

typedef struct RetireResult
{
	RetireOutcome outcome;
	char	   *details;
} RetireResult;

extern ErrorData *execute_attempt(void (*step) (void *arg), void *arg);
extern void execute_lock_at_once(Oid relid, LOCKMODE mode);
extern Oid	execute_create(const Policy *policy, const PlanBound *bound);
extern int64 execute_count_unfinished(const Policy *policy, Oid owner, Oid partition);
extern char *execute_unfinished_details(int64 count);
extern void execute_retire(const Policy *policy, Oid partition, RetireResult *result);
extern void execute_finalize(const Policy *policy, Oid partition, bool retire,
							 TimestampTz since, RetireResult *result);
extern void execute_retire_detached(const Policy *policy, Oid owner, Oid partition,
									RetireResult *result);

#endif							/* SAGAZ_EXECUTE_H */
