/*
 * convert_end.h
 *		Taking a conversion back, before its end and afterwards.
 */
#ifndef SAGAZ_PASS_CONVERT_END_H
#define SAGAZ_PASS_CONVERT_END_H

#include "postgres.h"

#include "datatype/timestamp.h"

extern void convert_cancel(Oid relid, TimestampTz now);
extern void convert_back(Oid relid, TimestampTz now);

#endif							/* SAGAZ_PASS_CONVERT_END_H */
