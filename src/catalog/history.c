/*
 * journal.c
 *		What maintenance did and found, kept in sagaz_ha.partition_history.
 *
 * Invariant: a change is recorded in the transaction that makes it, so the
 * history is true whenever that commits. A state that lasts (KEEP, DEFER,
 * ERROR) is recorded when it begins or changes, not in every pass, so that a
 * pass with nothing new writes nothing.
 */
#include "catalog/history.h"

#include "catalog/pg_type.h"
#include "commands/async.h"
#include "executor/spi.h"
#include "base/identity.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "base/settings.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/timestamp.h"

/*
 * A NOTIFY payload has to be shorter than 8000 bytes, and JSON makes six of a
 * control character. The names take 1600 at most.
 */
#define MAX_PAYLOAD_DETAILS	1000

static bool
is_lasting(const char *action)
{
	return strcmp(action, ACTION_KEEP) == 0 ||
		strcmp(action, ACTION_DEFER) == 0 ||
		strcmp(action, ACTION_ERROR) == 0;
}

/*
 * Inserts the row, unless it is a lasting state that the latest row about the
 * same partition has already. What an error says is part of it; how many rows
 * are unfinished, or who holds a lock, changes all the time and isn't. That a
 * partition is being retired is a state of its own, which must be recorded
 * though something was in the way before. A name can belong to another table
 * by now.
 */
static bool
insert_history(const JournalEntry *entry)
{
	static const char *const sql =
		"INSERT INTO sagaz_ha.partition_history"
		" (recorded_at, action, parent, table_name, partition, partition_name, details)"
		" SELECT $1, $2, $3, $4, $5, $6, $7 WHERE NOT $8 OR NOT EXISTS ("
		"  SELECT FROM (SELECT h.action, h.details, h.partition FROM sagaz_ha.partition_history AS h"
		"    WHERE h.table_name = $4"
		"      AND coalesce(h.partition_name, '') = coalesce($6, '')"
		"    ORDER BY h.id DESC LIMIT 1) AS latest"
		"  WHERE latest.action = $2 AND ($2 <> 'ERROR' OR latest.details = $7)"
		"    AND latest.partition IS NOT DISTINCT FROM $5"
		"    AND (latest.details LIKE '" RETIRING "%' OR $7 NOT LIKE '" RETIRING "%'))";
	Oid			types[8] = {TIMESTAMPTZOID, TEXTOID, OIDOID, TEXTOID, OIDOID,
		TEXTOID, TEXTOID, BOOLOID};
	Datum		values[8];
	char		nulls[9] = "        ";
	Identity	saved;
	bool		inserted;

	memset(values, 0, sizeof(values));
	values[0] = TimestampTzGetDatum(settings_now());
	values[1] = CStringGetTextDatum(entry->action);
	values[2] = ObjectIdGetDatum(entry->parent);
	values[3] = CStringGetTextDatum(entry->table_name);
	values[4] = ObjectIdGetDatum(entry->partition);
	nulls[4] = OidIsValid(entry->partition) ? ' ' : 'n';
	if (entry->partition_name)
		values[5] = CStringGetTextDatum(entry->partition_name);
	else
		nulls[5] = 'n';
	values[6] = CStringGetTextDatum(entry->details);
	values[7] = BoolGetDatum(is_lasting(entry->action));

	SPI_connect();
	identity_assume(&saved, identity_extension_owner());
	if (SPI_execute_with_args(sql, 8, types, values, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write partition history");
	inserted = SPI_processed > 0;
	identity_restore(&saved);
	SPI_finish();
	return inserted;
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

static void
notify(const JournalEntry *entry)
{
	StringInfoData json;
	int			len = strlen(entry->details);

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	append_member(&json, "action", entry->action);
	append_member(&json, "table", entry->table_name);
	append_member(&json, "partition", entry->partition_name);
	append_member(&json, "details",
				  pnstrdup(entry->details,
						   pg_mbcliplen(entry->details, len, MAX_PAYLOAD_DETAILS)));
	appendStringInfoChar(&json, '}');
	Async_Notify("sagaz_ha", json.data);
}

/* Records and announces; false when there was nothing new to record. */
bool
journal_record(const JournalEntry *entry)
{
	if (!insert_history(entry))
		return false;
	notify(entry);
	return true;
}

/* Whether maintenance has ever made a partition of this table. */
bool
journal_has_created(Oid parent)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(parent)};
	Identity	saved;
	bool		found;

	SPI_connect();
	identity_assume(&saved, identity_extension_owner());
	if (SPI_execute_with_args("SELECT FROM sagaz_ha.partition_history"
							  " WHERE parent = $1 AND action = 'CREATE' LIMIT 1",
							  1, types, values, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read partition history");
	found = SPI_processed > 0;
	identity_restore(&saved);
	SPI_finish();
	return found;
}
