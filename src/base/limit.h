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
} TimeLimit;

extern void limit_begin(const TimeLimit *limit);
extern void limit_end(void);
extern void limit_after_error(ErrorData *error);
extern Oid	limit_given_up(void);

#endif							/* SAGAZ_BASE_LIMIT_H */
