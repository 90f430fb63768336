/*
 * time.h
 *		Whose clock says what: this process's or the sampler's.
 */
#ifndef SAGAZ_REPLICATION_TIME_H
#define SAGAZ_REPLICATION_TIME_H

#include "postgres.h"

#include "datatype/timestamp.h"

extern int64 replication_time_monotonic(void);
extern bool replication_time_now(TimestampTz *now);

#endif							/* SAGAZ_REPLICATION_TIME_H */
