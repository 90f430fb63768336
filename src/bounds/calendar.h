/*
 * calendar.h
 *		Calendar arithmetic for partition bounds.
 *
 * Invariant: pure C. No server header and no server function, so that a unit
 * test links this module alone.
 */
#ifndef SAGAZ_CALENDAR_H
#define SAGAZ_CALENDAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Microseconds since 2000-01-01 00:00, as in PostgreSQL's timestamps. */
typedef int64_t CalTime;

#define CAL_MINUS_INFINITY	INT64_MIN
#define CAL_INFINITY		INT64_MAX

/* What a finite timestamp may be: 4714-11-24 BC up to 294277-01-01. */
#define CAL_FIRST			INT64_C(-211813488000000000)
#define CAL_END				INT64_C(9223371331200000000)

#define CAL_HOUR			INT64_C(3600000000)
#define CAL_DAY				INT64_C(86400000000)

/*
 * How wall clock and time line relate: seconds east of UTC at an instant.
 * Without a function both are the same, as for timestamp and date columns.
 */
typedef struct Calendar
{
	int32_t		(*offset) (CalTime instant, void *arg);
	void	   *arg;
} Calendar;

/* Like PostgreSQL's interval: months, then days, then elapsed time. */
typedef struct CalSpan
{
	int32_t		months;
	int32_t		days;
	int64_t		usec;
} CalSpan;

/* Room for the longest suffix, "_y294276bcm12d31h23m59s59", and its end. */
#define CAL_SUFFIX_SIZE		32

extern bool cal_is_finite(CalTime t);
extern CalTime cal_to_local(const Calendar *cal, CalTime instant);
extern CalTime cal_from_local(const Calendar *cal, CalTime local);
extern bool cal_add(const Calendar *cal, CalTime t, const CalSpan *span,
					int64_t n, CalTime *result);
extern bool cal_floor(const Calendar *cal, CalTime t, const CalSpan *span,
					  CalTime *result);
extern void cal_suffix(const Calendar *cal, CalTime start, const CalSpan *span,
					   char buf[CAL_SUFFIX_SIZE]);

#endif							/* SAGAZ_CALENDAR_H */
