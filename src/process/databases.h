/*
 * databases.h
 *		The databases in which our processes have work.
 */
#ifndef SAGAZ_DATABASES_H
#define SAGAZ_DATABASES_H

#include "postgres.h"

#include "nodes/pg_list.h"

typedef struct Database
{
	Oid			oid;
	NameData	name;
} Database;

extern List *databases_wanted(void);

#endif							/* SAGAZ_DATABASES_H */
