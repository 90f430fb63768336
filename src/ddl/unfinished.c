/*
 * unfinished.c
 *		Whether a partition has rows, and how many of them are unfinished.
 *
 * Invariant: the condition runs as the table's owner, and sees rows as of right
 * now: an older snapshot, as REPEATABLE READ has, could miss the row that
 * matters. One look takes no longer than sagaz_ha.condition_timeout.
 */
#include "ddl/unfinished.h"

#include "base/limit.h"
#include "base/settings.h"
#include "base/sql.h"
#include "catalog/names.h"
#include "utils/builtins.h"

/* Counts them; 0 when the policy doesn't say which rows are unfinished. */
int64
unfinished_count(const Policy *policy, Oid owner, Oid partition)
{
	TimeLimit	limit = {"unfinished_when", "sagaz_ha.condition_timeout", sagaz_condition_timeout, partition};
	SqlSession	session;
	int64		count;
	bool		isnull;

	if (policy->unfinished_when == NULL)
		return 0;
	sql_begin(&session, owner);
	/* what current_date and the like mean must not depend on the session */
	identity_set_local("timezone", policy->time_zone);
	limit_begin(&limit);
	(void) sql_execute_latest(NULL, psprintf("SELECT count(*) FROM %s WHERE %s",
											 names_qualified(partition), policy->unfinished_when), NULL);
	limit_end(&limit);
	count = DatumGetInt64(sql_value(0, 1, &isnull));
	sql_end(&session);
	return count;
}

/* Their number for people. */
char *
unfinished_details(int64 count)
{
	return psprintf("%lld unfinished %s", (long long) count, count == 1 ? "row" : "rows");
}

/*
 * Whether it has any row. As the owner of the extension, because row security may
 * hide rows from the table's own; no code of that one runs.
 */
bool
unfinished_has_rows(Oid partition)
{
	SqlSession	session;
	bool		found;

	sql_begin_as_extension(&session);
	found = sql_execute_latest(NULL, psprintf("SELECT FROM %s LIMIT 1",
											  names_qualified(partition)), NULL) > 0;
	sql_end(&session);
	return found;
}
