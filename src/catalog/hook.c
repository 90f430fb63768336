/*
 * hook.c
 *		The function that a policy's before_drop names.
 *
 * Invariant: it is stored by its name, as an OID would not survive a dump, so all
 * about it is checked at every use. It runs as the table's owner: so it has to
 * belong to a role that may act as that owner anyway, or else whoever could put
 * another function in its place would get that role's rights.
 */
#include "catalog/hook.h"

#include "access/htup_details.h"
#include "base/compat.h"
#include "base/sql.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#define HINT_RIGHT_KIND	"It must be a function with one argument of type regclass that returns boolean."

static void
check_kind(const FormData_pg_proc *form)
{
	if (form->prokind != PROKIND_FUNCTION || form->proretset || form->prorettype != BOOLOID ||
		form->pronargs != 1 || form->proargtypes.values[0] != REGCLASSOID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("%s can't be a before_drop function", NameStr(form->proname)),
				 errhint(HINT_RIGHT_KIND)));
}

/* The function's owner; an error if it isn't of the right kind. */
static Oid
require_kind(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("before_drop function with OID %u does not exist", function),
				 errhint(HINT_RIGHT_KIND)));
	check_kind((Form_pg_proc) GETSTRUCT(tuple));
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* The name that is stored, with schema and argument. */
char *
hook_name(Oid function)
{
	(void) require_kind(function);
	return psprintf("%s(regclass)",
					quote_qualified_identifier(get_namespace_name(get_func_namespace(function)),
											   get_func_name(function)));
}

/* As the table's owner: who looks may not even see the schema. */
static Oid
find(const char *name, Oid owner)
{
	SqlSession	session;
	SqlArgs		args = {0};
	Oid			function;

	sql_begin(&session, owner);
	sql_arg_text(&args, name);
	(void) sql_execute("SELECT to_regprocedure($1)", &args);
	function = sql_oid(0, 1);
	sql_end(&session);
	if (!OidIsValid(function))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("before_drop function %s does not exist", name),
				 errhint("Make it again, or name another with sagaz_ha.manage_partitions().")));
	return function;
}

static void
check_owner(const char *name, Oid function, Oid function_owner, Oid owner)
{
	if (!has_privs_of_role(function_owner, owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("before_drop function %s belongs to role %s, who may not act as the table's owner %s",
						name, GetUserNameFromId(function_owner, false), GetUserNameFromId(owner, false)),
				 errdetail("It would run with the rights of the table's owner."),
				 errhint("Use ALTER FUNCTION ... OWNER TO.")));
	if (!sagaz_may_execute(function, owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the table's owner %s may not execute before_drop function %s",
						GetUserNameFromId(owner, false), name),
				 errhint("Use GRANT EXECUTE ON FUNCTION.")));
}

/* The function of this name; an error unless it may be called as the table's owner. */
Oid
hook_require(const char *name, Oid owner)
{
	Oid			function = find(name, owner);

	check_owner(name, function, require_kind(function), owner);
	return function;
}
