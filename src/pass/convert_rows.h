/*
 * convert_rows.h
 *		Rows are moved out of a default partition.
 */
#ifndef SAGAZ_PASS_CONVERT_ROWS_H
#define SAGAZ_PASS_CONVERT_ROWS_H

#include "bounds/calendar.h"
#include "catalog/conversion.h"
#include "catalog/history.h"

/* How far it is; the texts are in the caller's memory. */
typedef struct ConvertRows
{
	CalTime		from;			/* what is before can't be moved */
	char	   *stuck;			/* what that is; NULL: nothing */
	bool		ended;			/* no row is left that could be moved */
	Oid			created;
	TimestampTz locked_at;
	Record		record;			/* of what was made or dropped */
} ConvertRows;

extern void convert_rows_move(const Conversion *conversion, TimestampTz now, ConvertRows *rows);
extern void convert_rows_drop_default(const Conversion *conversion, ConvertRows *rows);

#endif							/* SAGAZ_PASS_CONVERT_ROWS_H */
