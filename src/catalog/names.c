/*
 * names.c
 *		Names of tables and partitions: in statements, for people, and new ones.
 *
 * Invariant: a name depends on no search_path and no setting of the session.
 */
#include "catalog/names.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

/*
 * The name for a partition that begins here. A parent's name that is too long
 * for the suffix is cut and gets a hash of the whole, so that two parents with
 * a long common beginning don't collide.
 */
char *
names_new_partition(Relation parent, const Calendar *cal, CalTime start,
					const CalSpan *span)
{
	const char *name = RelationGetRelationName(parent);
	int			len = strlen(name);
	char		suffix[CAL_SUFFIX_SIZE];
	char		hash[10];
	int			room;

	cal_suffix(cal, start, span, suffix);
	room = NAMEDATALEN - 1 - (int) strlen(suffix);
	if (len <= room)
		return psprintf("%s%s", name, suffix);
	snprintf(hash, sizeof(hash), "_%08x",
			 DatumGetUInt32(hash_any((const unsigned char *) name, len)));
	len = pg_mbcliplen(name, len, room - (int) strlen(hash));
	return psprintf("%.*s%s%s", len, name, hash, suffix);
}

/* schema.name, quoted, for a statement; NULL when the relation is gone. */
char *
names_qualified(Oid relid)
{
	char	   *name = get_rel_name(relid);

	if (name == NULL)
		return NULL;
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), name);
}

/*
 * The name that people read, whatever search_path is: as in a statement, but
 * without the schema where that is the extension's own.
 */
char *
names_display_in(Oid schema, const char *name)
{
	return names_display_as(names_extension_schema(), schema, name);
}

/* The same for one who asks often, and knows the extension's schema. */
char *
names_display_as(Oid extension_schema, Oid schema, const char *name)
{
	if (schema == extension_schema)
		return pstrdup(quote_identifier(name));
	return quote_qualified_identifier(get_namespace_name(schema), name);
}

/* The same of a relation that exists; NULL when it is gone. For one who asks often. */
char *
names_display_from(Oid extension_schema, Oid relid)
{
	char	   *name = get_rel_name(relid);

	return name == NULL ? NULL : names_display_as(extension_schema, get_rel_namespace(relid), name);
}

/* The same of a relation that exists; NULL when it is gone. */
char *
names_display(Oid relid)
{
	return names_display_from(names_extension_schema(), relid);
}

/* The schema that CREATE EXTENSION put the specification's names in. */
Oid
names_extension_schema(void)
{
	Relation	extensions = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			schema = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum("sagaz_ha"));
	scan = systable_beginscan(extensions, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
	systable_endscan(scan);
	table_close(extensions, AccessShareLock);
	return schema;
}

/* What a statement calls it: a partition may be a foreign table. */
const char *
names_table_keyword(Oid relid)
{
	return get_rel_relkind(relid) == RELKIND_FOREIGN_TABLE ? "FOREIGN TABLE" : "TABLE";
}
