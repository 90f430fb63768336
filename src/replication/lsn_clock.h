/*
 * lsn_clock.h
 *		When did the WAL's end pass this position? Samples of (time, LSN).
 *
 * Invariant: entries rise strictly in LSN and never fall in time. No locking
 * and no server function in here: the owner of the memory locks.
 */
#ifndef SAGAZ_LSN_CLOCK_H
#define SAGAZ_LSN_CLOCK_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"

#define LSN_CLOCK_SIZE		2048
#define LSN_RATE_SIZE		32

/*
 * The end of WAL stood at lsn from since until until, and moved on after. It
 * came there after the look before, at after.
 */
typedef struct LsnClockEntry
{
	TimestampTz after;
	TimestampTz since;
	TimestampTz until;
	XLogRecPtr	lsn;
} LsnClockEntry;

typedef struct LsnClock
{
	int			n;
	LsnClockEntry e[LSN_CLOCK_SIZE];
} LsnClock;

/* The last positions of something that moves, for its speed. */
typedef struct LsnRate
{
	int			n;
	int			next;
	TimestampTz at[LSN_RATE_SIZE];
	XLogRecPtr	lsn[LSN_RATE_SIZE];
} LsnRate;

extern void lsn_clock_reset(LsnClock *clock);
extern void lsn_clock_add(LsnClock *clock, TimestampTz after, TimestampTz at,
						  XLogRecPtr lsn);
extern void lsn_clock_truncate(LsnClock *clock, XLogRecPtr lsn);
extern void lsn_clock_shift(LsnClock *clock, TimeOffset step);
extern bool lsn_clock_passed(const LsnClock *clock, XLogRecPtr lsn,
							 TimestampTz end_after, TimestampTz end_at, XLogRecPtr end_lsn,
							 TimestampTz *at, bool *exact);
extern bool lsn_clock_covered(const LsnClock *clock, XLogRecPtr lsn,
							  TimestampTz *at);
extern bool lsn_clock_speed(const LsnClock *clock, TimestampTz now,
							TimeOffset window, double *bytes_per_second);

extern void lsn_rate_reset(LsnRate *rate);
extern void lsn_rate_add(LsnRate *rate, TimestampTz at, XLogRecPtr lsn);
extern bool lsn_rate_speed(const LsnRate *rate, double *bytes_per_second);

#endif							/* SAGAZ_LSN_CLOCK_H */
