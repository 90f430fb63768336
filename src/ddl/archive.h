/*
 * archive.h
 *		Moving a detached partition to the archive schema.
 */
#ifndef SAGAZ_DDL_ARCHIVE_H
#define SAGAZ_DDL_ARCHIVE_H

#include "postgres.h"

extern void archive_move(Oid table, const char *schema, const char *suffix);

#endif							/* SAGAZ_DDL_ARCHIVE_H */
