/*
 * toplevel.c
 *		Statements that can't run inside a function, from a background worker.
 *
 * DETACH PARTITION CONCURRENTLY, VACUUM and ANALYZE commit inside. A security
 * context can't span that, so the role that the statement begins as is left
 * in the moment before its first commit. By then all that the role's code
 * could have a part in has run: what follows in a detach is a wait, and what
 * VACUUM and ANALYZE run of a table's owner they run as the owner themselves.
 */
#include "ddl/toplevel.h"

#include "access/xact.h"
#include "base/attempt.h"
#include "base/compat.h"
#include "base/identity.h"
#include "ddl/owner_code.h"
#include "ddl/protect.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/guc.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"

static Oid	begun_as = InvalidOid;
static Oid	session_user;
static int	session_context;
static bool only_first = false;
static volatile bool *committed = NULL;

/*
 * The role is left before the first commit. When only that was wanted, the next
 * transaction ends in the wait with which it begins: as soon as it can.
 */
static void
at_transaction_end(XactEvent event, void *arg)
{
	if (!OidIsValid(begun_as))
		return;
	if (event == XACT_EVENT_PRE_COMMIT)
		SetUserIdAndSecContext(session_user, session_context);
	else if (event == XACT_EVENT_COMMIT)
	{
		begun_as = InvalidOid;
		*committed = true;
		if (only_first)
			SetConfigOption("lock_timeout", "1", PGC_USERSET, PGC_S_SESSION);
	}
	else if (event == XACT_EVENT_ABORT)
		begun_as = InvalidOid;
}

static void
run_portal(const char *sql)
{
	RawStmt    *raw = linitial_node(RawStmt, pg_parse_query(sql));
	List	   *queries = pg_analyze_and_rewrite_fixedparams(raw, sql, NULL, 0, NULL);
	List	   *plans = pg_plan_queries(queries, sql, 0, NULL);
	DestReceiver *receiver = CreateDestReceiver(DestNone);
	Portal		portal = CreateNewPortal();
	QueryCompletion completion;

	portal->visible = false;
	PortalDefineQuery(portal, NULL, sql, CreateCommandTag(raw->stmt), plans, NULL);
	PortalStart(portal, NULL, 0, InvalidSnapshot);
	sagaz_portal_run(portal, receiver, &completion);
	receiver->rDestroy(receiver);
	PortalDrop(portal, false);
}

/* A statement, and what came of it. */
typedef struct TopLevel
{
	const char *sql;
	Oid			role;
	MemoryContext context;		/* outlives the transactions that the
								 * statement ends */
	volatile bool committed;	/* the statement's first transaction */
	AttemptStep with_first;		/* commits with that; NULL: nothing */
	void	   *arg;
	Oid			table;			/* whose expressions it evaluates, or
								 * InvalidOid */
} TopLevel;

static void
top_level_step(void *arg)
{
	TopLevel   *top = (TopLevel *) arg;
	TimeLimit	limit;
	bool		limited = false;

	StartTransactionCommand();
	if (OidIsValid(top->table))
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		/* its texts have to outlive what the statement commits */
		MemoryContextSwitchTo(top->context);
		limited = owner_code_limit(top->table, &limit);
		PopActiveSnapshot();
	}
	if (top->with_first != NULL)
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		top->with_first(top->arg);
		PopActiveSnapshot();
	}
	GetUserIdAndSecContext(&session_user, &session_context);
	SetUserIdAndSecContext(top->role, session_context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	identity_set_local("search_path", "pg_catalog, pg_temp");
	protect_let_through();
	committed = &top->committed;
	begun_as = top->role;
	/* the parse tree has to outlive them, too */
	MemoryContextSwitchTo(top->context);
	if (limited)
		limit_begin(&limit);
	run_portal(top->sql);
	if (limited)
		limit_end(&limit);
	if (only_first && top->committed)
		AbortCurrentTransaction();
	else
		CommitTransactionCommand();
}

static ErrorData *
execute(TopLevel *top, bool first, bool *first_committed)
{
	static bool registered = false;
	ErrorData  *error;

	if (!registered)
	{
		RegisterXactCallback(at_transaction_end, NULL);
		registered = true;
	}
	only_first = first;
	error = attempt_at_top_level(top_level_step, top);
	*first_committed = top->committed;
	return error;
}

/*
 * Executes one statement as the role, in transactions of its own. Returns
 * NULL, or the error that ended it; *first_committed then says whether it came
 * after the statement's first commit.
 */
ErrorData *
toplevel_execute(const char *sql, Oid role, bool *first_committed)
{
	TopLevel	top = {sql, role, CurrentMemoryContext};

	return execute(&top, false, first_committed);
}

/*
 * The same, of one that evaluates expressions of a table's indexes or statistics:
 * its owner's code must not delay other tables for as long as it likes.
 */
ErrorData *
toplevel_execute_limited(const char *sql, Oid role, Oid table, bool *first_committed)
{
	TopLevel	top = {sql, role, CurrentMemoryContext};

	top.table = table;
	return execute(&top, false, first_committed);
}

/*
 * The same as far as its first commit, and a step that commits with that; what
 * the statement did since is undone.
 */
ErrorData *
toplevel_execute_first(const char *sql, Oid role, AttemptStep with_first, void *arg,
					   bool *first_committed)
{
	TopLevel	top = {sql, role, CurrentMemoryContext, false, with_first, arg};

	return execute(&top, true, first_committed);
}
