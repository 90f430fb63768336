/*
 * publications.c
 *		Publications that name a table.
 *
 * Invariant: what is decoded from before this transaction is published as it was:
 * decoding sees the catalogs of then.
 */
#include "ddl/publications.h"

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/pg_publication.h"
#include "catalog/pg_publication_rel.h"
#include "utils/catcache.h"
#include "utils/syscache.h"

/*
 * Takes a table that is no partition any more out of the publications that name
 * it, whoever owns them. One FOR ALL TABLES or FOR TABLES IN SCHEMA names none.
 */
void
publications_leave(Oid table)
{
	CatCList   *list = SearchSysCacheList1(PUBLICATIONRELMAP, ObjectIdGetDatum(table));
	ObjectAddresses *rows = new_object_addresses();

	for (int i = 0; i < list->n_members; i++)
	{
		Form_pg_publication_rel row = (Form_pg_publication_rel) GETSTRUCT(&list->members[i]->tuple);
		ObjectAddress address;

		/* all that one of all tables can name is what it excludes, since 19 */
		if (GetPublication(row->prpubid)->alltables)
			continue;
		ObjectAddressSet(address, PublicationRelRelationId, row->oid);
		add_exact_object_address(&address, rows);
	}
	ReleaseSysCacheList(list);
	performMultipleDeletions(rows, DROP_CASCADE, PERFORM_DELETION_INTERNAL);
	free_object_addresses(rows);
}
