/*
 * sql.h
 *		Running SQL from C: who as, with which parameters, and what came back.
 *
 * Invariant: nothing else calls SPI_connect() or looks at an SPI result code.
 * Between sql_begin() and sql_end() statements run as one role, in a
 * security-restricted operation with a pinned search_path. An error ends both
 * with the (sub)transaction.
 */
#ifndef SAGAZ_BASE_SQL_H
#define SAGAZ_BASE_SQL_H

#include "postgres.h"

#include "base/identity.h"
#include "executor/spi.h"

#define SQL_MAX_ARGS	20

typedef struct SqlSession
{
	Identity	saved;
	MemoryContext caller;		/* where results are allocated that outlive it */
} SqlSession;

/* The parameters of one statement, in their order. */
typedef struct SqlArgs
{
	int			n;
	Oid			types[SQL_MAX_ARGS];
	Datum		values[SQL_MAX_ARGS];
	char		nulls[SQL_MAX_ARGS];
} SqlArgs;

typedef void (*SqlEachRow) (uint64 row, void *arg);

extern void sql_begin(SqlSession *session, Oid role);
extern void sql_begin_as_extension(SqlSession *session);
extern void sql_end(SqlSession *session);

extern void sql_arg(SqlArgs *args, Oid type, Datum value);
extern void sql_arg_or_null(SqlArgs *args, Oid type, Datum value, bool isnull);
extern void sql_arg_text(SqlArgs *args, const char *value);
extern void sql_arg_name(SqlArgs *args, const char *value);

extern void sql_run(const char *statement);
extern void sql_run_before(const char *statement, TransactionId xmin);
extern uint64 sql_execute(const char *statement, SqlArgs *args);
extern uint64 sql_execute_kept(SPIPlanPtr *plan, const char *statement,
							   SqlArgs *args);
extern uint64 sql_execute_latest(SPIPlanPtr *plan, const char *statement,
								 SqlArgs *args);

extern bool sql_is_empty(const char *table);
extern Datum sql_value(uint64 row, int column, bool *isnull);
extern Oid	sql_oid(uint64 row, int column);
extern char *sql_text(uint64 row, int column);
extern void sql_each_row(SqlSession *session, uint64 rows, SqlEachRow each, void *arg);

#endif							/* SAGAZ_BASE_SQL_H */
