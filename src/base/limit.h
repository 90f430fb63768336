/*
 * limit.h
 *		A time limit for a statement that runs code of a table's owner.
 */
#ifndef SAGAZ_BASE_LIMIT_H
#define SAGAZ_BASE_LIMIT_H

#include "postgres.h"

/* What is limited, and by which setting. */
typedef struct TimeLimit
{
	const char *what;			/* for people */
	const char *setting;
	int			milliseconds;	/* 0: no limit */
	Oid			subject;		/* the table that it is about */
	bool		outer;			/* no limit was there when it began */
} TimeLimit;

extern void limit_note_stuck(Oid subject);
extern bool limit_is_active(void);
extern void limit_begin(TimeLimit *limit);
extern void limit_end(const TimeLimit *limit);
extern void limit_after_error(ErrorData *error);
extern Oid	limit_given_up(void);

#endif							/* SAGAZ_BASE_LIMIT_H */
