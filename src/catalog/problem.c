/*
 * problem.c
 *		What is wrong now: one row per table or partition.
 *
 * Invariant: a row is written under a lock of its own that is never waited for,
 * so that a pass in an open transaction holds up no other pass. What another
 * pass is just writing is left to it.
 */
#include "catalog/problem.h"

#include "base/sql.h"
#include "base/settings.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

/* An error is tried again after 1 s, 2 s, 4 s … up to this, in s. */
#define MAX_BACK_OFF	3600

static const char *const finder_names[] = {
	[PROBLEM_OF_PASS] = "pass",
	[PROBLEM_OF_UPKEEP] = "upkeep",
	[PROBLEM_OF_DRIFT] = "drift"
};

static const Action lasting_actions[] = {ACTION_KEEP, ACTION_DEFER, ACTION_ERROR, ACTION_DRIFT};

static Action
parse_action(const char *name)
{
	for (int i = 0; i < lengthof(lasting_actions); i++)
		if (strcmp(name, history_action_name(lasting_actions[i])) == 0)
			return lasting_actions[i];
	elog(ERROR, "unknown action of a problem");
	return ACTION_ERROR;
}

static void
add_problem(uint64 row, void *arg)
{
	List	  **problems = (List **) arg;
	Problem    *problem = (Problem *) palloc0(sizeof(Problem));
	char	   *state = sql_text(row, 6);
	bool		isnull;
	Datum		next_try = sql_value(row, 9, &isnull);

	if (!isnull)
		problem->next_try = DatumGetTimestampTz(next_try);
	problem->parent = sql_oid(row, 1);
	problem->table_name = sql_text(row, 2);
	problem->partition = sql_oid(row, 3);
	problem->partition_name = sql_text(row, 4);
	problem->action = parse_action(sql_text(row, 5));
	if (state != NULL)
		problem->sqlerrcode = MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
	problem->details = sql_text(row, 7);
	problem->times = DatumGetInt32(sql_value(row, 8, &isnull));
	problem->unchanged = DatumGetBool(sql_value(row, 10, &isnull));
	*problems = lappend(*problems, problem);
}

#define COLUMNS \
	"SELECT p.parent, p.table_name, p.partition, p.partition_name, p.action, p.sqlstate," \
	"       p.details, p.times, p.next_try"
#define OF_FINDER \
	"  FROM sagaz_ha.problem AS p WHERE p.found_by = $1 ORDER BY p.since"

/*
 * The problems that one kind of process looks after. Only the worker, which backs
 * off, has to know what has been changed since the last try: planning that takes a
 * new session longer than the rest.
 */
List *
problem_load(ProblemFinder finder, bool backs_off)
{
	static const char *const queries[] = {
		COLUMNS ", true" OF_FINDER,
		COLUMNS ", p.version = sagaz_ha._problem_version(p.parent, p.partition)" OF_FINDER
	};
	static SPIPlanPtr plans[2] = {NULL, NULL};
	SqlSession	session;
	SqlArgs		args = {0};
	List	   *problems = NIL;
	uint64		rows;

	if (sql_is_empty("problem"))
		return NIL;
	sql_begin_as_extension(&session);
	sql_arg_text(&args, finder_names[finder]);
	rows = sql_execute_kept(&plans[backs_off], queries[backs_off], &args);
	sql_each_row(&session, rows, add_problem, &problems);
	sql_end(&session);
	return problems;
}

static void
add_partition(uint64 row, void *arg)
{
	List	  **partitions = (List **) arg;

	*partitions = lappend_oid(*partitions, sql_oid(row, 1));
}

/* The partitions that the last pass has kept. */
List *
problem_kept_partitions(void)
{
	static const char *const query =
		"SELECT DISTINCT partition FROM sagaz_ha.problem WHERE action = $1 AND partition IS NOT NULL";
	static SPIPlanPtr plan = NULL;
	SqlSession	session;
	SqlArgs		args = {0};
	List	   *partitions = NIL;

	sql_begin_as_extension(&session);
	sql_arg_text(&args, history_action_name(ACTION_KEEP));
	sql_each_row(&session, sql_execute_kept(&plan, query, &args), add_partition, &partitions);
	sql_end(&session);
	return partitions;
}

static bool
same_name(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* The problem of a table or a partition, or NULL. */
Problem *
problem_find(List *problems, const Subject *subject)
{
	ListCell   *cell;

	foreach(cell, problems)
	{
		Problem    *problem = (Problem *) lfirst(cell);

		if (same_name(problem->table_name, subject->table_name) &&
			same_name(problem->partition_name, subject->partition_name))
			return problem;
	}
	return NULL;
}

/* Whether a problem that is known is met again; the words of an error may change. */
bool
problem_is_same(const Problem *problem, const Record *record, int sqlerrcode)
{
	return problem != NULL && problem->action == record->action &&
		problem->sqlerrcode == sqlerrcode &&
		problem->parent == record->subject.parent &&
		problem->partition == record->subject.partition;
}

#define ROW_IS	" WHERE p.table_name = $1 AND p.found_by = $3" \
				"   AND coalesce(p.partition_name, '') = coalesce($2, '')"

static void
row_args(SqlArgs *args, const char *table_name, const char *partition_name, ProblemFinder finder)
{
	sql_arg_text(args, table_name);
	sql_arg_text(args, partition_name);
	sql_arg_text(args, finder_names[finder]);
}

/* Whether another transaction is changing the row: one that tries it now, or drops its table. */
static bool
row_is_locked(const char *table_name, const char *partition_name, ProblemFinder finder)
{
	SqlSession	session;
	SqlArgs		args = {0};
	bool		locked;

	sql_begin_as_extension(&session);
	row_args(&args, table_name, partition_name, finder);
	locked = sql_execute_latest(NULL, "SELECT FROM sagaz_ha.problem AS p" ROW_IS
								" FOR UPDATE SKIP LOCKED", &args) == 0 &&
		sql_execute_latest(NULL, "SELECT FROM sagaz_ha.problem AS p" ROW_IS, &args) > 0;
	sql_end(&session);
	return locked;
}

/* Takes the lock of one row; false if another transaction has it. */
static bool
lock_row(const char *table_name, const char *partition_name, ProblemFinder finder)
{
	Oid			table = get_relname_relid("problem", get_namespace_oid(SAGAZ_SCHEMA, false));
	char	   *key = psprintf("%d %s %s", finder, table_name, partition_name ? partition_name : "");
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, table,
					   DatumGetUInt32(hash_any((const unsigned char *) key, strlen(key))), 0);
	return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL &&
		!row_is_locked(table_name, partition_name, finder);
}

/*
 * Records a problem, which begins now or is the same as before; false if another
 * pass is just doing so.
 */
bool
problem_save(const ProblemReport *report, ProblemFinder finder, bool same, TimestampTz now)
{
	static const char *const statement =
		"INSERT INTO sagaz_ha.problem AS p (parent, table_name, partition, partition_name, action,"
		" sqlstate, details, since, times, next_try, found_by, version)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, sagaz_ha._problem_version($1, $3))"
		" ON CONFLICT (table_name, (coalesce(partition_name, '')), found_by) DO UPDATE SET"
		" parent = EXCLUDED.parent, partition = EXCLUDED.partition, action = EXCLUDED.action,"
		" sqlstate = EXCLUDED.sqlstate, details = EXCLUDED.details,"
		" since = CASE WHEN $12 THEN p.since ELSE EXCLUDED.since END,"
		" times = EXCLUDED.times, next_try = EXCLUDED.next_try, version = EXCLUDED.version";
	const Record *record = report->record;
	const Subject *subject = &record->subject;
	SqlSession	session;
	SqlArgs		args = {0};

	if (!lock_row(subject->table_name, subject->partition_name, finder))
		return false;
	sql_begin_as_extension(&session);
	sql_arg(&args, OIDOID, ObjectIdGetDatum(subject->parent));
	sql_arg_text(&args, subject->table_name);
	sql_arg_or_null(&args, OIDOID, ObjectIdGetDatum(subject->partition),
					!OidIsValid(subject->partition));
	sql_arg_text(&args, subject->partition_name);
	sql_arg_text(&args, history_action_name(record->action));
	sql_arg_text(&args, report->sqlerrcode ? unpack_sql_state(report->sqlerrcode) : NULL);
	sql_arg_text(&args, record->details);
	sql_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(now));
	sql_arg(&args, INT4OID, Int32GetDatum(report->times));
	sql_arg_or_null(&args, TIMESTAMPTZOID, TimestampTzGetDatum(report->next_try),
					report->next_try == 0);
	sql_arg_text(&args, finder_names[finder]);
	sql_arg(&args, BOOLOID, BoolGetDatum(same));
	(void) sql_execute_latest(NULL, statement, &args);
	sql_end(&session);
	return true;
}

/* Removes a problem that is solved, unless another pass is just writing it. */
void
problem_remove(const Problem *problem, ProblemFinder finder)
{
	SqlSession	session;
	SqlArgs		args = {0};

	if (!lock_row(problem->table_name, problem->partition_name, finder))
		return;
	sql_begin_as_extension(&session);
	row_args(&args, problem->table_name, problem->partition_name, finder);
	(void) sql_execute_latest(NULL, "DELETE FROM sagaz_ha.problem AS p" ROW_IS, &args);
	sql_end(&session);
}

/* Has the worker try again what it has put off for a table. */
void
problem_try_now(Oid parent)
{
	SqlSession	session;
	SqlArgs		args = {0};

	sql_begin_as_extension(&session);
	sql_arg(&args, OIDOID, ObjectIdGetDatum(parent));
	(void) sql_execute_latest(NULL, "UPDATE sagaz_ha.problem SET next_try = NULL"
							  " WHERE ctid = ANY (ARRAY("
							  "   SELECT p.ctid FROM sagaz_ha.problem AS p"
							  "    WHERE p.parent = $1 AND p.next_try IS NOT NULL"
							  "      FOR UPDATE SKIP LOCKED))", &args);
	sql_end(&session);
}

/* When what came so many times, the last time at since, is tried again, by the server's clock. */
TimestampTz
problem_back_off(TimestampTz since, int times)
{
	int64		seconds = Min(MAX_BACK_OFF, INT64CONST(1) << Min(times - 1, 30));

	return TimestampTzPlusMilliseconds(since, seconds * 1000);
}

/* Whether it is too early to try again. A clock that was set back delays nothing. */
bool
problem_backs_off(const Problem *problem)
{
	TimestampTz now = GetCurrentTimestamp();

	return problem->action == ACTION_ERROR && problem->unchanged &&
		problem->next_try > now &&
		problem->next_try <= TimestampTzPlusMilliseconds(now, MAX_BACK_OFF * INT64CONST(1000));
}
