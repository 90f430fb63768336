/*
 * adorn.h
 *		What a new partition gets from its parent beyond CREATE TABLE … LIKE.
 */
#ifndef SAGAZ_ADORN_H
#define SAGAZ_ADORN_H

#include "postgres.h"

extern void adorn_partition(Oid parent, Oid partition);
extern bool adorn_made_in_place(Oid parent, Oid partition);
extern bool adorn_row_security(Oid parent, Oid partition);
extern bool adorn_privileges(Oid parent, Oid partition);
extern bool adorn_attached(Oid parent, Oid partition);

#endif							/* SAGAZ_ADORN_H */
