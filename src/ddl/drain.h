/*
 * drain.h
 *		Which sessions and standbys may still see a partition whose detach is
 *		pending.
 */
#ifndef SAGAZ_DDL_DRAIN_H
#define SAGAZ_DDL_DRAIN_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* The session or standby that a drain waits for. */
typedef struct DrainBlocker
{
	char	   *name;			/* NULL: none. The same at each look */
	char	   *details;		/* name, and how old what it sees is */
} DrainBlocker;

extern void drain_find_blocker(Oid partition, TimestampTz since, TimestampTz now,
							   DrainBlocker *blocker);
extern TransactionId drain_oldest_call(void);
extern bool drain_has_standbys(void);
extern bool drain_is_followed(void);
extern bool drain_may_be_followed(void);

#endif							/* SAGAZ_DDL_DRAIN_H */
