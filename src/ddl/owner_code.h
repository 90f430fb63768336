/*
 * owner_code.h
 *		How long code of a table's owner may run in what is done for the table.
 */
#ifndef SAGAZ_DDL_OWNER_CODE_H
#define SAGAZ_DDL_OWNER_CODE_H

#include "base/limit.h"

extern bool owner_code_limit(Oid table, TimeLimit *limit);

#endif							/* SAGAZ_DDL_OWNER_CODE_H */
