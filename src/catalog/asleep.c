/*
 * asleep.c
 *		Tables whose policy came in a restore, until they are whole.
 *
 * Invariant: a policy that register.c hasn't written sleeps. In a restore it comes
 * before the table's indexes do, and a partition made in between would never get
 * them. Only a row of sagaz_ha.asleep says so: it isn't dumped.
 */
#include "catalog/asleep.h"

#include "base/sql.h"
#include "catalog/pg_type.h"
#include "utils/memutils.h"

/* Two looks that find the same are at least this far apart. */
#define STABLE_FOR	"interval '2 seconds'"

static uint64
run_about(Oid parent, const char *statement)
{
	SqlSession	session;
	SqlArgs		args = {0};
	uint64		rows;

	sql_begin_as_extension(&session);
	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(parent));
	rows = sql_execute_latest(NULL, statement, &args);
	sql_end(&session);
	return rows;
}

/* This session brings the policy of a table in a restore. */
void
asleep_begin(Oid parent)
{
	(void) run_about(parent,
					 "INSERT INTO sagaz_ha.asleep (parent, since, brought_by, brought_by_since)"
					 " SELECT $1, clock_timestamp(), s.pid, s.backend_start"
					 "   FROM pg_stat_get_activity(pg_backend_pid()) AS s"
					 " ON CONFLICT DO NOTHING");
}

/* Maintenance of the table begins. */
void
asleep_end(Oid parent)
{
	(void) run_about(parent, "DELETE FROM sagaz_ha.asleep WHERE parent = $1");
}

/* Why the table isn't whole at this moment, or NULL if it is. */
char *
asleep_reason(Oid parent)
{
	SqlSession	session;
	SqlArgs		args = {0};
	char	   *reason = NULL;

	sql_begin_as_extension(&session);
	sql_arg(&args, REGCLASSOID, ObjectIdGetDatum(parent));
	if (sql_execute_latest(NULL, "SELECT n.reason FROM sagaz_ha._not_whole($1) AS n", &args) > 0)
		reason = sql_text(0, 1);
	if (reason != NULL)
		reason = MemoryContextStrdup(session.caller, reason);
	sql_end(&session);
	return reason;
}

/* Whether the table is whole, and was so before and has not been changed since. */
bool
asleep_is_stable(Oid parent)
{
	if (run_about(parent, "SELECT FROM sagaz_ha.asleep AS a, sagaz_ha._not_whole($1) AS n"
				  " WHERE a.parent = $1 AND n.reason IS NULL AND n.version = a.seen"
				  "   AND a.seen_at < clock_timestamp() - " STABLE_FOR) > 0)
		return true;
	(void) run_about(parent, "UPDATE sagaz_ha.asleep AS a"
					 "   SET seen = CASE WHEN n.reason IS NULL THEN n.version END,"
					 "       seen_at = clock_timestamp()"
					 "  FROM sagaz_ha._not_whole($1) AS n"
					 " WHERE a.parent = $1"
					 "   AND a.seen IS DISTINCT FROM CASE WHEN n.reason IS NULL THEN n.version END");
	return false;
}
