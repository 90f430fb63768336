/*
 * drain.h
 *		Who may still see a partition whose detach is pending.
 */
#ifndef SAGAZ_DRAIN_H
#define SAGAZ_DRAIN_H

#include "postgres.h"

#include "datatype/timestamp.h"

extern char *drain_blocker(Oid partition, TimestampTz since);

#endif							/* SAGAZ_DRAIN_H */
