/*
 * databases.c
 *		The databases in which our processes have work.
 *
 * Invariant: templates, databases that accept no connections, and databases
 * that sagaz_ha.databases leaves out are none of them. Whether one has the
 * extension is known only inside of it.
 */
#include "process/databases.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "base/settings.h"
#include "catalog/pg_database.h"
#include "utils/snapmgr.h"

/* A connection limit of -2: DROP DATABASE was interrupted. */
static bool
is_wanted(Form_pg_database row)
{
	return row->datallowconn && !row->datistemplate && row->datconnlimit != -2 &&
		settings_want_database(NameStr(row->datname));
}

/*
 * Reads pg_database, in a transaction of its own. A list of Database *, in the
 * caller's memory context.
 */
List *
databases_wanted(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *databases = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database row = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext transaction;
		Database   *database;

		if (!is_wanted(row))
			continue;
		transaction = MemoryContextSwitchTo(context);
		database = (Database *) palloc(sizeof(Database));
		database->oid = row->oid;
		database->name = row->datname;
		databases = lappend(databases, database);
		MemoryContextSwitchTo(transaction);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return databases;
}
