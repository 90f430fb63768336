/*
 * locks.h
 *		Locks on a partitioned table and what is tied to it.
 */
#ifndef SAGAZ_DDL_LOCKS_H
#define SAGAZ_DDL_LOCKS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "storage/lockdefs.h"
#include "utils/rel.h"

extern Relation locks_open_parent(Oid parent, LOCKMODE mode);
extern void locks_take_at_once(Oid relid, LOCKMODE mode);
extern void locks_take_all_at_once(List *relids, LOCKMODE mode);
extern void locks_probe(List *relids, LOCKMODE mode);
extern void locks_take_until(List *relids, LOCKMODE mode, TimestampTz until);
extern void locks_take_partition_at_once(Oid partition);
extern bool locks_look(Oid relid, bool vacuum);
extern void locks_end_vacuums(List *relids, bool required);
extern void locks_end_vacuums_of_partition(Oid partition, bool required);
extern char *locks_holders(Oid relid, bool brief);

#endif							/* SAGAZ_DDL_LOCKS_H */
