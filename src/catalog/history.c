/*
 * history.c
 *		The log of what maintenance did and found, and its notifications.
 *
 * Invariant: a change is recorded in the transaction that makes it, so the
 * history is true whenever that commits. Nothing here reads the log.
 */
#include "catalog/history.h"

#include "base/sql.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/timestamp.h"

static const char *const action_names[] = {
	[ACTION_CREATE] = "CREATE",
	[ACTION_DETACH] = "DETACH",
	[ACTION_DROP] = "DROP",
	[ACTION_KEEP] = "KEEP",
	[ACTION_DEFER] = "DEFER",
	[ACTION_ANALYZE] = "ANALYZE",
	[ACTION_ERROR] = "ERROR",
	[ACTION_ATTACH] = "ATTACH",
	[ACTION_FREEZE] = "FREEZE",
	[ACTION_DRIFT] = "DRIFT",
	[ACTION_REPAIR] = "REPAIR"
};

/* What an action is called in rows. */
const char *
history_action_name(Action action)
{
	return action_names[action];
}

/* Writes the row; its id. */
static int64
insert_row(const Record *record, TimestampTz now)
{
	static const char *const statement =
		"INSERT INTO sagaz_ha.partition_history"
		" (recorded_at, action, parent, table_name, partition, partition_name, details)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id";
	static SPIPlanPtr plan = NULL;
	const Subject *subject = &record->subject;
	SqlSession	session;
	SqlArgs		args = {0};
	bool		isnull;
	int64		id;

	sql_begin_as_extension(&session);
	sql_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(now));
	sql_arg_text(&args, history_action_name(record->action));
	sql_arg(&args, OIDOID, ObjectIdGetDatum(subject->parent));
	sql_arg_text(&args, subject->table_name);
	sql_arg_or_null(&args, OIDOID, ObjectIdGetDatum(subject->partition),
					!OidIsValid(subject->partition));
	sql_arg_text(&args, subject->partition_name);
	sql_arg_text(&args, record->details);
	(void) sql_execute_kept(&plan, statement, &args);
	id = DatumGetInt64(sql_value(0, 1, &isnull));
	sql_end(&session);
	return id;
}

static void
append_member(StringInfo json, const char *name, const char *value)
{
	appendStringInfo(json, "%s\"%s\": ", json->len > 1 ? ", " : "", name);
	if (value)
		escape_json(json, value);
	else
		appendStringInfoString(json, "null");
}

/* Everybody may listen, so only the row, which not everybody may read, has the details. */
static void
notify(const Record *record, int64 id)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	append_member(&json, "action", history_action_name(record->action));
	append_member(&json, "table", record->subject.table_name);
	append_member(&json, "partition", record->subject.partition_name);
	appendStringInfo(&json, ", \"id\": " INT64_FORMAT "}", id);
	Async_Notify("sagaz_ha", json.data);
}

/* Records and announces, in the current transaction. */
void
history_add(const Record *record, TimestampTz now)
{
	notify(record, insert_row(record, now));
}

/*
 * Removes the rows from before a time, but for partitions that still exist. Looks
 * at the oldest row first.
 */
void
history_prune(TimestampTz before)
{
	static const char *const statement =
		"DELETE FROM sagaz_ha.partition_history AS h"
		" WHERE h.recorded_at < $1"
		"   AND (SELECT o.recorded_at FROM sagaz_ha.partition_history AS o"
		"         ORDER BY o.id LIMIT 1) < $1"
		"   AND NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = h.partition)";
	SqlSession	session;
	SqlArgs		args = {0};

	sql_begin_as_extension(&session);
	sql_arg(&args, TIMESTAMPTZOID, TimestampTzGetDatum(before));
	(void) sql_execute(statement, &args);
	sql_end(&session);
}
