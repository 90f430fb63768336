/*
 * identity.c
 *		Running SQL as another role, safely.
 *
 * Invariant: what a table's owner can influence (defaults, triggers, index
 * expressions, constraints, unfinished_when) runs as that owner, in a
 * security-restricted operation and with nothing but pg_catalog on the search
 * path. An error restores identity and settings with the (sub)transaction.
 */
#include "base/identity.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "base/compat.h"
#include "miscadmin.h"
#include "base/settings.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/* Sets a setting until identity_restore() or the end of the transaction. */
void
identity_set_local(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/* The same of a setting that only a superuser may change, whoever the caller is. */
void
identity_set_local_by_superuser(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Runs as this role from now on, in a security-restricted operation and with
 * settings that no session can change.
 */
void
identity_assume(Identity *saved, Oid role)
{
	GetUserIdAndSecContext(&saved->user, &saved->context);
	SetUserIdAndSecContext(role,
						   saved->context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	saved->guc_level = NewGUCNestLevel();
	identity_set_local("search_path", "pg_catalog, pg_temp");
	/* rows that a policy hides must be an error, not rows that don't count */
	identity_set_local("row_security", "off");
	identity_set_local("default_tablespace", "");
	identity_set_local("client_min_messages", "warning");
	/* a time that is written here is read elsewhere, by a session unlike this */
	identity_set_local("datestyle", "ISO");
	identity_set_local("intervalstyle", "postgres");
}

/* Gives back the role and the settings that were before. */
void
identity_restore(const Identity *saved)
{
	AtEOXact_GUC(false, saved->guc_level);
	SetUserIdAndSecContext(saved->user, saved->context);
}

/* The owner of a relation; InvalidOid if it is gone. */
Oid
identity_owner_of(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* The role that may read and write the extension's own tables. */
Oid
identity_extension_owner(void)
{
	Oid			schema = get_namespace_oid(SAGAZ_SCHEMA, false);
	Oid			owner = identity_owner_of(get_relname_relid("partition_policy", schema));

	if (!OidIsValid(owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"sagaz_ha.partition_policy\" does not exist"),
				 errhint("Run CREATE EXTENSION sagaz_ha in this database.")));
	return owner;
}

/* Fails unless the current role owns the relation. */
void
identity_require_owner(Oid relid)
{
	if (!sagaz_owns_relation(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, get_rel_name(relid));
}

/* Fails where nothing can be changed; every changing function begins with this. */
void
identity_require_primary(const char *function)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s() during recovery", function),
				 errhint("Run it on the primary; its changes reach this standby by replication.")));
	if (XactReadOnly)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s() in a read-only transaction", function),
				 errhint("Use a read-write transaction.")));
}
