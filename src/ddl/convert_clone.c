/*
 * convert_clone.c
 *		An index of a table on another one.
 *
 * Invariant: expressions and conditions are copied as they are stored. ATTACH takes
 * two indexes for the same only if these are equal, and the text of one, parsed
 * again, needn't be: IN over varchar isn't.
 */
#include "ddl/convert_clone.h"

#include "access/genam.h"
#include "access/table.h"
#include "base/compat.h"
#include "base/identity.h"
#include "parser/parse_utilcmd.h"
#include "utils/rel.h"

/* Makes it, with its constraint, on an empty table of the same columns. */
void
convert_clone_index(Oid index, Oid target, const char *name)
{
	Relation	source_index;
	Relation	source;
	Relation	rel;
	Oid			constraint;
	IndexStmt  *statement;

	/* before any lock: everybody may call this */
	identity_require_owner(target);
	identity_require_owner(index);
	source_index = index_open(index, AccessShareLock);
	source = table_open(source_index->rd_index->indrelid, AccessShareLock);
	rel = table_open(target, AccessExclusiveLock);
	statement = generateClonedIndexStmt(NULL, source_index,
										sagaz_attribute_map(RelationGetDescr(rel),
															RelationGetDescr(source)),
										&constraint);
	statement->idxname = pstrdup(name);
	table_close(rel, NoLock);
	table_close(source, NoLock);
	index_close(source_index, NoLock);
	sagaz_define_index(target, statement);
}
