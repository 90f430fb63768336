/*
 * sql.c
 *		Running SQL from C: who as, with which parameters, and what came back.
 */
#include "base/sql.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "base/settings.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

/* Statements run as this role until sql_end(). */
void
sql_begin(SqlSession *session, Oid role)
{
	session->caller = CurrentMemoryContext;
	SPI_connect();
	identity_assume(&session->saved, role);
}

/* The same as the owner of the extension's tables. */
void
sql_begin_as_extension(SqlSession *session)
{
	sql_begin(session, identity_extension_owner());
}

/* Gives back the identity that was before, and frees what SPI has allocated. */
void
sql_end(SqlSession *session)
{
	identity_restore(&session->saved);
	SPI_finish();
}

/* Adds a parameter. */
void
sql_arg(SqlArgs *args, Oid type, Datum value)
{
	sql_arg_or_null(args, type, value, false);
}

/* Adds a parameter that may be null. */
void
sql_arg_or_null(SqlArgs *args, Oid type, Datum value, bool isnull)
{
	Assert(args->n < SQL_MAX_ARGS);
	args->types[args->n] = type;
	args->values[args->n] = value;
	args->nulls[args->n] = isnull ? 'n' : ' ';
	args->n++;
}

/* Adds a text; NULL is null. */
void
sql_arg_text(SqlArgs *args, const char *value)
{
	sql_arg_or_null(args, TEXTOID, value ? CStringGetTextDatum(value) : (Datum) 0,
					value == NULL);
}

/* Adds a name; NULL is null. */
void
sql_arg_name(SqlArgs *args, const char *value)
{
	sql_arg_or_null(args, NAMEOID,
					value ? DirectFunctionCall1(namein, CStringGetDatum(value)) : (Datum) 0,
					value == NULL);
}

static uint64
require_success(int result, const char *statement)
{
	if (result < 0)
		elog(ERROR, "could not execute \"%s\": %s", statement, SPI_result_code_string(result));
	return SPI_processed;
}

/* Runs a statement without parameters and result, such as DDL. */
void
sql_run(const char *statement)
{
	(void) require_success(SPI_execute(statement, false, 0), statement);
}

static SPIPlanPtr
prepare(const char *statement, SqlArgs *args)
{
	SPIPlanPtr	plan = SPI_prepare(statement, args ? args->n : 0,
								   args ? args->types : NULL);

	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", statement, SPI_result_code_string(SPI_result));
	return plan;
}

/*
 * Runs DDL that waits for snapshots older than its own: it waits
 * only for those with an xmin before this one.
 */
void
sql_run_before(const char *statement, TransactionId xmin)
{
	SnapshotData snapshot = *GetLatestSnapshot();

	/* no more than a bound, below which no transaction is looked for */
	TransactionIdRetreat(xmin);
	if (TransactionIdPrecedes(xmin, snapshot.xmin))
		snapshot.xmin = xmin;
	(void) require_success(SPI_execute_snapshot(prepare(statement, NULL), NULL, NULL, &snapshot,
												InvalidSnapshot, false, false, 0), statement);
}

/* Runs a statement; how many rows it returned or changed. */
uint64
sql_execute(const char *statement, SqlArgs *args)
{
	SqlArgs		none = {0};

	if (args == NULL)
		args = &none;
	return require_success(SPI_execute_with_args(statement, args->n,
												 args->types,
												 args->values,
												 args->nulls, false, 0), statement);
}

static SPIPlanPtr
keep(SPIPlanPtr *plan, const char *statement, SqlArgs *args)
{
	if (*plan == NULL)
	{
		SPIPlanPtr	prepared = prepare(statement, args);

		SPI_keepplan(prepared);
		*plan = prepared;
	}
	return *plan;
}

/* The same by a plan that is kept for the session, for what runs often. */
uint64
sql_execute_kept(SPIPlanPtr *plan, const char *statement, SqlArgs *args)
{
	return require_success(SPI_execute_plan(keep(plan, statement, args), args->values,
											args->nulls, false, 0), statement);
}

/*
 * The same by a snapshot of right now: an older one, as REPEATABLE READ has,
 * could miss the row that matters, and couldn't change a row changed since.
 * Without a plan to keep, it is made for this once.
 */
uint64
sql_execute_latest(SPIPlanPtr *plan, const char *statement, SqlArgs *args)
{
	return require_success(SPI_execute_snapshot(plan ? keep(plan, statement, args) :
												prepare(statement, args),
												args ? args->values : NULL,
												args ? args->nulls : NULL,
												GetLatestSnapshot(), InvalidSnapshot,
												false, true, 0), statement);
}

/*
 * Whether one of the extension's tables has no rows now. For a process that has just
 * begun, a query of an empty table costs a hundred times as much: its plan needs
 * catalogs that aren't cached yet. A table that isn't there is left to the query.
 */
bool
sql_is_empty(const char *table)
{
	Oid			relid = get_relname_relid(table, get_namespace_oid(SAGAZ_SCHEMA, false));
	Relation	rel = OidIsValid(relid) ? try_table_open(relid, AccessShareLock) : NULL;
	TupleTableSlot *slot;
	TableScanDesc scan;
	bool		empty;

	if (rel == NULL)
		return false;
	slot = table_slot_create(rel, NULL);
	scan = table_beginscan_catalog(rel, 0, NULL);
	empty = !table_scan_getnextslot(scan, ForwardScanDirection, slot);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
	return empty;
}

/* A value of the last result, allocated in SPI's memory; columns count from 1. */
Datum
sql_value(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

/* The same as an OID; null is InvalidOid. */
Oid
sql_oid(uint64 row, int column)
{
	bool		isnull;
	Datum		value = sql_value(row, column, &isnull);

	return isnull ? InvalidOid : DatumGetObjectId(value);
}

/* The same as text; null is NULL. */
char *
sql_text(uint64 row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

/* Visits each row of the last result, in the memory of sql_begin()'s caller. */
void
sql_each_row(SqlSession *session, uint64 rows, SqlEachRow each, void *arg)
{
	MemoryContext context = MemoryContextSwitchTo(session->caller);

	for (uint64 i = 0; i < rows; i++)
		each(i, arg);
	MemoryContextSwitchTo(context);
}
