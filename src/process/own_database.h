/*
 * own_database.h
 *		Statements that need a database for themselves, such as DROP DATABASE.
 */
#ifndef SAGAZ_OWN_DATABASE_H
#define SAGAZ_OWN_DATABASE_H

extern void own_database_register(void);

#endif							/* SAGAZ_OWN_DATABASE_H */
