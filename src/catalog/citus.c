/*
 * citus.c
 *		Tables that Citus distributes.
 *
 * Invariant: where there is no Citus, nothing here costs more than the look for
 * its catalog. Its catalog, functions and settings are named nowhere else.
 */
#include "catalog/citus.h"

#include "access/genam.h"
#include "access/table.h"
#include "base/attempt.h"
#include "base/settings.h"
#include "base/sql.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* Whether Citus has a row about the table. Whoever asks may read that. */
bool
citus_distributes(Oid relid)
{
	Oid			catalog = get_relname_relid("pg_dist_partition", PG_CATALOG_NAMESPACE);
	AttrNumber	column;
	Relation	rel;
	ScanKeyData key;
	SysScanDesc scan;
	bool		found;

	if (!OidIsValid(catalog))
		return false;
	column = get_attnum(catalog, "logicalrelid");
	if (column == InvalidAttrNumber)
		return false;
	rel = try_table_open(catalog, AccessShareLock);
	if (rel == NULL)
		return false;
	ScanKeyInit(&key, column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 1, &key);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

typedef struct SizeStep
{
	Oid			relid;
	Oid			owner;
	int64		bytes;
} SizeStep;

static void
size_step(void *arg)
{
	SizeStep   *step = (SizeStep *) arg;
	SqlSession	session;
	SqlArgs		args = {0};
	bool		isnull;
	Datum		size;

	sql_begin(&session, step->owner);
	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(step->relid));
	(void) sql_execute("SELECT pg_catalog.citus_total_relation_size($1)", &args);
	size = sql_value(0, 1, &isnull);
	if (!isnull)
		step->bytes = DatumGetInt64(size);
	sql_end(&session);
}

/* The size of all shards; -1 when the nodes can't be asked. */
int64
citus_total_bytes(Oid relid, Oid owner)
{
	SizeStep	step = {relid, owner, -1};

	if (attempt_in_subtransaction(size_step, &step) != NULL)
		return -1;
	return step.bytes;
}

/*
 * For the rest of this transaction: nodes wait for no lock longer than we do, and
 * are asked over one connection each, because Citus refuses DDL on shards that it
 * has read over several. It hands on only a SET that runs in what it takes for a
 * transaction block. In sql_begin(), which takes the settings back here; on the
 * nodes they end with the transaction.
 */
void
citus_prepare_nodes(void)
{
	identity_set_local("citus.multi_shard_modify_mode", "sequential");
	identity_set_local("citus.propagate_set_commands", "local");
	sql_run(psprintf("DO $$BEGIN SET LOCAL lock_timeout = %d; END$$", sagaz_lock_timeout));
}
