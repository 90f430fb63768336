/*
 * hold.c
 *		Partitions that stay however old they are.
 *
 * Invariant: dumped and restored as policies are, because a copy must not drop
 * what the original has to keep.
 */
#include "catalog/hold.h"

#include "base/sql.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

/* Why a partition is held, or NULL if it isn't. As of right now. */
char *
hold_reason(Oid partition)
{
	static SPIPlanPtr plan = NULL;
	SqlSession	session;
	SqlArgs		args = {0};
	char	   *reason = NULL;

	sql_begin_as_extension(&session);
	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(partition));
	if (sql_execute_latest(&plan, "SELECT h.reason FROM sagaz_ha.partition_hold AS h"
						   " WHERE h.partition = $1", &args) > 0)
		reason = MemoryContextStrdup(session.caller, sql_text(0, 1));
	sql_end(&session);
	return reason;
}

/* Holds a partition; one that is held gets the new reason. */
void
hold_add(Oid partition, const char *reason, TimestampTz now)
{
	char	   *role = GetUserNameFromId(GetUserId(), false);
	SqlSession	session;
	SqlArgs		args = {0};

	sql_begin_as_extension(&session);
	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(partition));
	sql_arg_text(&args, reason);
	sql_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(now));
	sql_arg_name(&args, role);
	(void) sql_execute("INSERT INTO sagaz_ha.partition_hold (partition, reason, since, held_by)"
					   " VALUES ($1, $2, $3, $4)"
					   " ON CONFLICT (partition) DO UPDATE"
					   " SET reason = EXCLUDED.reason, held_by = EXCLUDED.held_by", &args);
	sql_end(&session);
}

/* Ends a hold; false if there was none. */
bool
hold_remove(Oid partition)
{
	SqlSession	session;
	SqlArgs		args = {0};
	bool		found;

	sql_begin_as_extension(&session);
	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(partition));
	found = sql_execute("DELETE FROM sagaz_ha.partition_hold WHERE partition = $1", &args) > 0;
	sql_end(&session);
	return found;
}
