/*
 * access.c
 *		Who may see the details of replication.
 *
 * Invariant: a role that may not gets an error, never NULLs that look healthy.
 */
#include "replication/access.h"

#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/acl.h"

/*
 * Raises an error unless the role may read all statistics. The functions are
 * granted to pg_monitor; the server's views show NULLs to another role that
 * was granted EXECUTE on them.
 */
void
replication_access_require(const char *function)
{
	if (!has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for function %s", function),
				 errdetail("Replication details are visible to roles with privileges of pg_read_all_stats."),
				 errhint("Grant pg_monitor to the role.")));
}
