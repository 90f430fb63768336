/*
 * publications.h
 *		Publications that name a table.
 */
#ifndef SAGAZ_DDL_PUBLICATIONS_H
#define SAGAZ_DDL_PUBLICATIONS_H

#include "postgres.h"

extern void publications_leave(Oid table);

#endif							/* SAGAZ_DDL_PUBLICATIONS_H */
