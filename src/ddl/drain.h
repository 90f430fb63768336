/*
 * drain.h
 *		Who may still see a partition whose detach is pending.
 */
#ifndef SAGAZ_DRAIN_H
#define SAGAZ_DRAIN_H

#include "postgres.h"

#include "datatype/timestamp.h"

extern char *drain_blocker(Oid partition, TimestampTz since);
extern char *drain_lock_holders(Oid relid);
extern bool drain_has_standbys(void);
extern bool drain_is_followed(void);

#endif							/* SAGAZ_DRAIN_H */
