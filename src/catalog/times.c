/*
 * times.c
 *		When maintenance made, froze or detached a partition that exists.
 *
 * Invariant: one row per partition, which goes with the table. It isn't dumped.
 */
#include "catalog/times.h"

#include "base/sql.h"
#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#define NOTE(column) \
	"INSERT INTO sagaz_ha.partition_times (partition, parent, " column ") VALUES ($1, $2, $3)" \
	" ON CONFLICT (partition) DO UPDATE" \
	" SET parent = EXCLUDED.parent, " column " = EXCLUDED." column

static void
note(SPIPlanPtr *plan, const char *statement, Oid parent, Oid partition, TimestampTz now)
{
	SqlSession	session;
	SqlArgs		args = {0};

	sql_begin_as_extension(&session);
	sql_arg(&args, OIDOID, ObjectIdGetDatum(partition));
	sql_arg(&args, OIDOID, ObjectIdGetDatum(parent));
	sql_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(now));
	(void) sql_execute_kept(plan, statement, &args);
	sql_end(&session);
}

/* Maintenance has made the partition. */
void
times_note_creation(Oid parent, Oid partition, TimestampTz now)
{
	static SPIPlanPtr plan = NULL;

	note(&plan, NOTE("created_at"), parent, partition, now);
}

/* Maintenance has frozen the partition. */
void
times_note_freeze(Oid parent, Oid partition, TimestampTz now)
{
	static SPIPlanPtr plan = NULL;

	note(&plan, NOTE("frozen_at"), parent, partition, now);
}

/* Maintenance has detached the partition, which stays as a table. */
void
times_note_detach(Oid parent, Oid partition, TimestampTz now)
{
	static SPIPlanPtr plan = NULL;

	note(&plan, NOTE("detached_at"), parent, partition, now);
}

/* Whether maintenance has made a partition of this table. */
bool
times_any_created(Oid parent)
{
	SqlSession	session;
	SqlArgs		args = {0};
	bool		found;

	sql_begin_as_extension(&session);
	sql_arg(&args, OIDOID, ObjectIdGetDatum(parent));
	found = sql_execute("SELECT FROM sagaz_ha.partition_times"
						" WHERE parent = $1 AND created_at IS NOT NULL LIMIT 1", &args) > 0;
	sql_end(&session);
	return found;
}

/* The table that maintenance has detached a partition from, or InvalidOid. */
Oid
times_detached_from(Oid partition)
{
	SqlSession	session;
	SqlArgs		args = {0};
	Oid			parent = InvalidOid;

	sql_begin_as_extension(&session);
	sql_arg(&args, OIDOID, ObjectIdGetDatum(partition));
	if (sql_execute("SELECT t.parent FROM sagaz_ha.partition_times AS t"
					" WHERE t.partition = $1 AND t.detached_at IS NOT NULL", &args) > 0)
		parent = sql_oid(0, 1);
	sql_end(&session);
	return parent;
}
