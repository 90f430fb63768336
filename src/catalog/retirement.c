/*
 * retirement.c
 *		Which partitions are being retired, and how far that has come.
 *
 * Invariant: the row is committed before the step that it announces begins, and
 * goes in the transaction that ends the retirement. Only a worker writes it, but
 * for a foreground pass that drops the partition. It isn't dumped: nothing is
 * being retired in a restored copy.
 */
#include "catalog/retirement.h"

#include "base/sql.h"
#include "catalog/pg_type.h"
#include "utils/timestamp.h"

static const char *const phase_names[] = {
	[RETIREMENT_ANNOUNCED] = "announced",
	[RETIREMENT_FENCED] = "fenced",
	[RETIREMENT_DETACHING] = "detaching",
	[RETIREMENT_BEFORE_DROP] = "before_drop",
	[RETIREMENT_AGREED] = "agreed"
};

static RetirementPhase
parse_phase(const char *name)
{
	for (int i = 0; i < lengthof(phase_names); i++)
		if (strcmp(name, phase_names[i]) == 0)
			return (RetirementPhase) i;
	elog(ERROR, "unknown phase of a retirement");
	return RETIREMENT_ANNOUNCED;
}

#define COLUMNS	"r.parent, r.partition, r.phase, r.since, r.detach_is_ours, r.calls, r.called_at"

/* One row of the columns above. */
static void
read_row(uint64 row, Retirement *retirement)
{
	bool		isnull;
	Datum		called_at = sql_value(row, 7, &isnull);

	retirement->called_at = isnull ? 0 : DatumGetTimestampTz(called_at);
	retirement->calls = DatumGetInt32(sql_value(row, 6, &isnull));
	retirement->parent = sql_oid(row, 1);
	retirement->partition = sql_oid(row, 2);
	retirement->phase = parse_phase(sql_text(row, 3));
	retirement->since = DatumGetTimestampTz(sql_value(row, 4, &isnull));
	retirement->detach_is_ours = DatumGetBool(sql_value(row, 5, &isnull));
}

/* How far a partition's retirement has come; false if none has begun. */
bool
retirement_find(Oid partition, Retirement *retirement)
{
	static SPIPlanPtr plan = NULL;
	SqlSession	session;
	SqlArgs		args = {0};
	bool		found;

	sql_begin_as_extension(&session);
	sql_arg(&args, OIDOID, ObjectIdGetDatum(partition));
	found = sql_execute_latest(&plan, "SELECT " COLUMNS " FROM sagaz_ha.retirement AS r"
							   " WHERE r.partition = $1", &args) > 0;
	if (found)
		read_row(0, retirement);
	sql_end(&session);
	return found;
}

static void
add_row(uint64 row, void *arg)
{
	List	  **list = (List **) arg;
	Retirement *retirement = (Retirement *) palloc(sizeof(Retirement));

	read_row(row, retirement);
	*list = lappend(*list, retirement);
}

/* Every retirement that has begun and not ended. */
List *
retirement_load(void)
{
	SqlSession	session;
	List	   *list = NIL;
	uint64		rows;

	if (sql_is_empty("retirement"))
		return NIL;
	sql_begin_as_extension(&session);
	rows = sql_execute("SELECT " COLUMNS " FROM sagaz_ha.retirement AS r ORDER BY r.since", NULL);
	sql_each_row(&session, rows, add_row, &list);
	sql_end(&session);
	return list;
}

/* How many rows it changed. */
static uint64
execute(SPIPlanPtr *plan, const char *statement, SqlArgs *args)
{
	SqlSession	session;
	uint64		rows;

	sql_begin_as_extension(&session);
	rows = sql_execute_latest(plan, statement, args);
	sql_end(&session);
	return rows;
}

/* Announces that a partition is going to be retired. */
void
retirement_begin(Oid parent, Oid partition, TimestampTz now)
{
	static SPIPlanPtr plan = NULL;
	SqlArgs		args = {0};

	sql_arg(&args, OIDOID, ObjectIdGetDatum(partition));
	sql_arg(&args, OIDOID, ObjectIdGetDatum(parent));
	sql_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(now));
	(void) execute(&plan, "INSERT INTO sagaz_ha.retirement (partition, parent, phase, since, detach_is_ours)"
				   " VALUES ($1, $2, 'announced', $3, false)", &args);
}

/* Notes that the partition takes no more writes. */
void
retirement_note_fence(Oid partition)
{
	static SPIPlanPtr plan = NULL;
	SqlArgs		args = {0};

	sql_arg(&args, OIDOID, ObjectIdGetDatum(partition));
	(void) execute(&plan, "UPDATE sagaz_ha.retirement SET phase = 'fenced'"
				   " WHERE partition = $1 AND phase = 'announced'", &args);
}

/*
 * Notes our own detach, in the transaction that commits it: only then may a
 * partition that is found detached, or about to be, be dropped. Another session
 * that detaches it wants to keep the table.
 */
void
retirement_note_detach(Oid partition)
{
	static SPIPlanPtr plan = NULL;
	SqlArgs		args = {0};

	sql_arg(&args, OIDOID, ObjectIdGetDatum(partition));
	if (execute(&plan, "UPDATE sagaz_ha.retirement SET phase = 'detaching', detach_is_ours = true"
				" WHERE partition = $1", &args) == 0)
		elog(ERROR, "partition %u is not being retired any more", partition);
}

/*
 * Notes what a pending detach waits for. One that another session has begun
 * gets its row here, so that it is known how long it has waited. Writes nothing
 * when that is known already.
 */
void
retirement_note_wait(Oid parent, Oid partition, const char *waits_for, TimestampTz now)
{
	static SPIPlanPtr plan = NULL;
	SqlArgs		args = {0};

	sql_arg(&args, OIDOID, ObjectIdGetDatum(partition));
	sql_arg(&args, OIDOID, ObjectIdGetDatum(parent));
	sql_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(now));
	sql_arg_text(&args, waits_for);
	(void) execute(&plan, "INSERT INTO sagaz_ha.retirement AS r"
				   " (partition, parent, phase, since, detach_is_ours, waits_for)"
				   " SELECT $1, $2, 'detaching', $3, false, $4"
				   "  WHERE NOT EXISTS (SELECT FROM sagaz_ha.retirement AS same"
				   "                     WHERE same.partition = $1 AND same.waits_for = $4)"
				   " ON CONFLICT (partition) DO UPDATE"
				   " SET phase = EXCLUDED.phase, waits_for = EXCLUDED.waits_for", &args);
}

/* Notes that the partition is detached, and that its policy's function has to agree. */
void
retirement_note_before_drop(Oid parent, Oid partition, TimestampTz now)
{
	static SPIPlanPtr plan = NULL;
	SqlArgs		args = {0};

	sql_arg(&args, OIDOID, ObjectIdGetDatum(partition));
	sql_arg(&args, OIDOID, ObjectIdGetDatum(parent));
	sql_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(now));
	(void) execute(&plan, "INSERT INTO sagaz_ha.retirement AS r"
				   " (partition, parent, phase, since, detach_is_ours)"
				   " VALUES ($1, $2, 'before_drop', $3, true)"
				   " ON CONFLICT (partition) DO UPDATE"
				   " SET phase = EXCLUDED.phase, detach_is_ours = true, waits_for = NULL", &args);
}

/* Notes that the function is going to be called. */
void
retirement_note_call(Oid partition, TimestampTz at)
{
	static SPIPlanPtr plan = NULL;
	SqlArgs		args = {0};

	sql_arg(&args, OIDOID, ObjectIdGetDatum(partition));
	sql_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(at));
	(void) execute(&plan, "UPDATE sagaz_ha.retirement SET calls = calls + 1, called_at = $2"
				   " WHERE partition = $1", &args);
}

/* Notes that it has returned true; false if it isn't waited for any more. */
bool
retirement_note_agreed(Oid partition)
{
	static SPIPlanPtr plan = NULL;
	SqlArgs		args = {0};

	sql_arg(&args, OIDOID, ObjectIdGetDatum(partition));
	return execute(&plan, "UPDATE sagaz_ha.retirement SET phase = 'agreed'"
				   " WHERE partition = $1 AND phase = 'before_drop'", &args) > 0;
}

/* Forgets a retirement: the partition is gone, or stays. */
void
retirement_end(Oid partition)
{
	static SPIPlanPtr plan = NULL;
	SqlArgs		args = {0};

	sql_arg(&args, OIDOID, ObjectIdGetDatum(partition));
	(void) execute(&plan, "DELETE FROM sagaz_ha.retirement WHERE partition = $1", &args);
}
