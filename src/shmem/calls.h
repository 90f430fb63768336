/*
 * calls.h
 *		Calls of before_drop functions, each by a process of its own.
 */
#ifndef SAGAZ_SHMEM_CALLS_H
#define SAGAZ_SHMEM_CALLS_H

#include "postgres.h"

#include "shmem/shared.h"

extern bool calls_has(Oid partition);
extern bool calls_want(Oid parent, Oid partition, const char *name);
extern bool calls_copy(int index, Call *copy, NameData *database);
extern bool calls_end_in(Oid database);
extern Call *calls_enter(int index, Oid partition);
extern void calls_leave(Call *call);

#endif							/* SAGAZ_SHMEM_CALLS_H */
