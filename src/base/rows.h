/*
 * rows.h
 *		C values as values of a row.
 */
#ifndef SAGAZ_BASE_ROWS_H
#define SAGAZ_BASE_ROWS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "fmgr.h"

extern Datum rows_text(const char *value, bool *isnull);
extern Datum rows_oid(Oid value, bool *isnull);
extern Datum rows_time(TimestampTz value, bool *isnull);
extern Datum rows_interval(TimeOffset usec);
extern Datum rows_one(FunctionCallInfo fcinfo, Datum *values, bool *nulls);
extern void rows_add(FunctionCallInfo fcinfo, Datum *values, bool *nulls);

#endif							/* SAGAZ_BASE_ROWS_H */
