/*
 * retire.h
 *		Retiring a partition: dropping, detaching or archiving it.
 */
#ifndef SAGAZ_DDL_RETIRE_H
#define SAGAZ_DDL_RETIRE_H

#include "catalog/parent.h"
#include "catalog/policy.h"

/* Why a partition stays whose policy has changed since it was expired. */
#define RETIRE_NOT_EXPIRED	"not expired any more"

typedef enum RetireOutcome
{
	RETIRE_GONE,				/* concurrently dropped or detached */
	RETIRE_DROPPED,
	RETIRE_DETACHED,
	RETIRE_KEPT,
	RETIRE_HAS_TO_AGREE,		/* detached; the policy's function is asked */
	RETIRE_WAITS				/* for remaining readers */
} RetireOutcome;

/* The texts are in the caller's memory. */
typedef struct RetireResult
{
	RetireOutcome outcome;
	char	   *details;
	char	   *waits_for;		/* the reader, the same at each look */
} RetireResult;

extern char *retire_kept_reason(const Policy *policy, Oid owner, Oid partition);
extern void retire_at_once(const Policy *policy, Oid partition, TimestampTz now,
						   RetireResult *result);
extern void retire_finalize(const Policy *policy, Oid partition, bool ours,
							TimestampTz since, TimestampTz now, RetireResult *result);
extern void retire_take_back(const Policy *policy, Oid partition, TimestampTz since,
							 TimestampTz now, bool event_triggers);
extern bool retire_is_expired(const Policy *policy, const ParentInfo *info, Oid partition,
							  TimestampTz now);
extern void retire_detached(const Policy *policy, const ParentInfo *info, Oid partition,
							TimestampTz now, RetireResult *result);

#endif							/* SAGAZ_DDL_RETIRE_H */
