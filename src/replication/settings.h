/*
 * replication.h
 *		Replication health, as _PG_init sees it.
 */
#ifndef SAGAZ_REPLICATION_H
#define SAGAZ_REPLICATION_H

extern void replication_define_gucs(void);
extern void replication_init(void);

#endif							/* SAGAZ_REPLICATION_H */
