/*
 * retire.c
 *		Retiring a partition: dropping, detaching or archiving it.
 *
 * Invariant: what keeps a partition (unfinished rows, a hold) is looked for under
 * the locks with which the partition then goes, when it can't change any more.
 * Each function is one transaction or subtransaction, which its caller ends.
 */
#include "ddl/retire.h"

#include "access/table.h"
#include "base/attempt.h"
#include "base/compat.h"
#include "base/sql.h"
#include "catalog/citus.h"
#include "catalog/hold.h"
#include "catalog/names.h"
#include "catalog/parent.h"
#include "catalog/pg_inherits.h"
#include "catalog/retirement.h"
#include "catalog/times.h"
#include "ddl/archive.h"
#include "ddl/bounds_check.h"
#include "ddl/dependents.h"
#include "ddl/drain.h"
#include "ddl/fence.h"
#include "ddl/locks.h"
#include "ddl/protect.h"
#include "ddl/publications.h"
#include "ddl/unfinished.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

/* Longest wait of FINALIZE, in ms: it holds the partition, and is retried. */
#define FINALIZE_LOCK_TIMEOUT	"50"

/* Whether the partition is a table by itself for a while, or for good. */
static bool
stays_a_table(const Policy *policy)
{
	return policy->action != RETENTION_DROP || policy->before_drop != NULL;
}

/*
 * Ends the autovacuums of all that retiring a partition at once locks, before the
 * first lock that a reader or writer could notice.
 */
static void
end_vacuums(const Policy *policy, const ParentInfo *info, Oid partition)
{
	List	   *referencing = parent_referencing_tables(info->relid);

	locks_end_vacuums_of_partition(partition, false);
	if (OidIsValid(info->default_relid))
		locks_end_vacuums(list_make1_oid(info->default_relid), false);
	locks_end_vacuums(referencing, false);
	if (stays_a_table(policy) || referencing != NIL)
		locks_end_vacuums(parent_referenced_tables(info->relid), false);
}

/* Takes the partition for its retirement, or fails at once. */
static void
lock_partition(const ParentInfo *info, Oid partition)
{
	locks_take_partition_at_once(partition);
	/* its other nodes take writes as well, and lock it only if they are told */
	if (info->distributed)
	{
		citus_prepare_nodes();
		sql_run(psprintf("LOCK TABLE %s IN ACCESS EXCLUSIVE MODE NOWAIT",
						 names_qualified(partition)));
	}
}

/*
 * Has writers of the partition wait, and nobody else: the owner's condition can
 * take long. On other nodes, too.
 */
static void
keep_writers_out(const ParentInfo *info, Oid partition)
{
	locks_take_all_at_once(find_all_inheritors(partition, NoLock, NULL), ShareRowExclusiveLock);
	if (info->distributed)
	{
		citus_prepare_nodes();
		sql_run(psprintf("LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE NOWAIT",
						 names_qualified(partition)));
	}
}

/* Takes what retiring a partition needs beside itself, or fails at once. */
static void
lock_for_retirement(const Policy *policy, const ParentInfo *info, List *referencing)
{
	if (OidIsValid(info->default_relid))
		locks_take_at_once(info->default_relid, AccessExclusiveLock);
	locks_take_all_at_once(referencing, AccessExclusiveLock);
	if (stays_a_table(policy) || referencing != NIL)
		locks_take_all_at_once(parent_referenced_tables(info->relid), AccessExclusiveLock);
}

static char *
hold_details(Oid partition)
{
	char	   *held = hold_reason(partition);

	return held == NULL ? NULL : psprintf("held: %s", held);
}

static char *
rows_details(const Policy *policy, Oid owner, Oid partition)
{
	int64		unfinished = unfinished_count(policy, owner, partition);

	return unfinished > 0 ? unfinished_details(unfinished) : NULL;
}

/* Why a partition has to stay, in the caller's memory; NULL: it may go. */
char *
retire_kept_reason(const Policy *policy, Oid owner, Oid partition)
{
	char	   *reason = hold_details(partition);

	/* what another owner's rows are, this one may not even be allowed to see */
	if (reason == NULL)
		reason = dependents_reason(policy, owner, partition);
	return reason != NULL ? reason : rows_details(policy, owner, partition);
}

/* Whether a partition is expired; one whose bounds aren't known was, or it would be attached. */
static bool
is_expired(const Policy *policy, const KeyKind *kind, const PlanBound *bound, TimestampTz now)
{
	PlanPolicy	plan;

	if (bound == NULL)
		return true;
	policy_plan(policy, kind, &plan);
	return plan_is_expired(&plan, policy_key_time(policy, kind, now), bound);
}

/*
 * The same of one that is detached, and whose policy may have changed since: what
 * hinders its end and has come since is an error, with which it is attached again.
 */
static char *
kept_reason_of_detached(const Policy *policy, const ParentInfo *info, Oid partition,
						const PlanBound *bound, TimestampTz now)
{
	char	   *reason = hold_details(partition);

	if (reason == NULL && !is_expired(policy, info->kind, bound, now))
		reason = RETIRE_NOT_EXPIRED;
	return reason != NULL ? reason : rows_details(policy, info->owner, partition);
}

/* A detached partition tells where it comes from in its comment. */
static void
comment_detached(Oid parent, const char *bounds, const char *keyword,
				 const char *qualified, TimestampTz now)
{
	sql_run(psprintf("COMMENT ON %s %s IS %s", keyword, qualified,
					 quote_literal_cstr(psprintf("partition of %s%s%s, detached at %s by sagaz_ha",
												 names_qualified(parent),
												 bounds ? " from " : "",
												 bounds ? bounds : "",
												 key_display_time(now)))));
}

/* A table that is no partition any more says what it was, and isn't published as one. */
static void
make_standalone(const Policy *policy, Oid partition, const char *bounds, const char *keyword,
				const char *qualified, TimestampTz now)
{
	comment_detached(policy->parent, bounds, keyword, qualified, now);
	publications_leave(partition);
	times_note_detach(policy->parent, partition, now);
}

/* Whether the policy's function has still to agree that the partition goes. */
static bool
has_to_agree(const Policy *policy, Oid partition)
{
	Retirement	retirement;

	return policy->before_drop != NULL &&
		!(retirement_find(partition, &retirement) && retirement.phase == RETIREMENT_AGREED);
}

/*
 * Leaves a partition that is detached already to the policy's function. It takes no
 * writes from now on, which the function might not see.
 */
static void
hand_over(const Policy *policy, Oid partition, const char *bounds, TimestampTz now,
		  MemoryContext context, RetireResult *result)
{
	make_standalone(policy, partition, bounds, names_table_keyword(partition),
					names_qualified(partition), now);
	/* Citus refuses triggers */
	if (!citus_distributes(partition))
		fence_raise(GetUserId(), partition);
	retirement_note_before_drop(policy->parent, partition, now);
	result->outcome = RETIRE_HAS_TO_AGREE;
	result->details = MemoryContextStrdup(context, psprintf("waiting for before_drop function %s",
															policy->before_drop));
}

/*
 * Ends a partition that is detached already, as the policy wants. As the table's
 * owner. The result's texts are in the given context.
 */
static void
end_detached(const Policy *policy, const KeyKind *kind, Oid partition, const PlanBound *bound,
			 TimestampTz now, MemoryContext context, RetireResult *result)
{
	const char *bounds = bound ? key_display(kind, bound) : NULL;
	const char *keyword = names_table_keyword(partition);
	char	   *qualified = names_qualified(partition);
	char	   *archive = policy_archive_schema(policy);
	char	   *name = get_rel_name(partition);
	char	   *new_name;
	bool		renamed;
	MemoryContext old;

	Assert(sagaz_has_lock(partition, AccessExclusiveLock));
	if (has_to_agree(policy, partition))
	{
		hand_over(policy, partition, bounds, now, context, result);
		return;
	}
	protect_let_through();
	retirement_end(partition);
	if (policy->action == RETENTION_DROP)
	{
		sql_run(psprintf("DROP %s %s", keyword, qualified));
		result->outcome = RETIRE_DROPPED;
	}
	else
	{
		/* else that was done when it was left to the function */
		if (policy->before_drop == NULL)
			make_standalone(policy, partition, bounds, keyword, qualified, now);
		/* the function may have been taken out of the policy since */
		if (policy->unfinished_when == NULL)
			fence_lower(partition);
		if (policy->action == RETENTION_ARCHIVE)
			archive_move(partition, archive, bound ? key_name(bound) : "archived");
		result->outcome = RETIRE_DETACHED;
	}
	/* NULL when it is dropped */
	new_name = get_rel_name(partition);
	renamed = new_name != NULL && strcmp(name, new_name) != 0;
	old = MemoryContextSwitchTo(context);
	result->details = psprintf("%s%s%s%s%s%s", bounds ? "rows from " : "expired rows",
							   bounds ? bounds : "",
							   archive ? ", moved to schema " : "",
							   archive ? quote_identifier(archive) : "",
							   renamed ? " as " : "",
							   renamed ? quote_identifier(new_name) : "");
	MemoryContextSwitchTo(old);
}

static void
keep(const char *reason, MemoryContext context, RetireResult *result)
{
	result->outcome = RETIRE_KEPT;
	result->details = MemoryContextStrdup(context, reason);
}

/* Detaches the partition, if it can't be dropped as it is, and ends it. */
static void
detach_and_end(const Policy *policy, const ParentInfo *info, int index, List *referencing,
			   TimestampTz now, MemoryContext context, RetireResult *result)
{
	Oid			partition = info->relids[index];
	const PlanBound *bound = &info->bounds[index];

	Assert(sagaz_has_lock(info->relid, AccessExclusiveLock));
	Assert(sagaz_has_lock(partition, AccessExclusiveLock));
	protect_let_through();
	if (stays_a_table(policy))
		bounds_check_remember(partition, parent_key_name(info), info->kind, &info->ranges[index]);
	/* a foreign key depends on the partition as long as it is attached */
	if (stays_a_table(policy) || referencing != NIL)
		sql_run(psprintf("ALTER TABLE %s DETACH PARTITION %s",
						 names_qualified(info->relid), names_qualified(partition)));
	end_detached(policy, info->kind, partition, bound, now, context, result);
}

/* Under all locks but those of readers: takes these, and retires it. */
static void
retire_now(const Policy *policy, Oid partition, TimestampTz now, MemoryContext context,
		   RetireResult *result)
{
	Identity	caller;
	ParentInfo	info;
	List	   *referencing;
	int			index;

	locks_take_at_once(policy->parent, AccessExclusiveLock);
	parent_require_by_oid(policy->parent, NoLock, &info);
	index = parent_find(&info, partition);
	if (index < 0)
		return;
	referencing = parent_referencing_tables(info.relid);
	identity_assume(&caller, info.owner);
	lock_partition(&info, partition);
	lock_for_retirement(policy, &info, referencing);
	detach_and_end(policy, &info, index, referencing, now, context, result);
	identity_restore(&caller);
}

/* Retires a partition in one transaction, if every lock is available. */
void
retire_at_once(const Policy *policy, Oid partition, TimestampTz now, RetireResult *result)
{
	SqlSession	session;
	Identity	caller;
	ParentInfo	info;
	char	   *reason;

	result->outcome = RETIRE_GONE;
	sql_begin(&session, GetUserId());
	parent_require_by_oid(policy->parent, AccessShareLock, &info);
	end_vacuums(policy, &info, partition);
	locks_take_at_once(policy->parent, ShareUpdateExclusiveLock);
	/* no long look in vain; replicas get no word of this lock */
	locks_probe(list_make1_oid(policy->parent), ExclusiveLock);
	parent_require_by_oid(policy->parent, NoLock, &info);
	if (parent_find(&info, partition) >= 0)
	{
		identity_assume(&caller, info.owner);
		keep_writers_out(&info, partition);
		reason = retire_kept_reason(policy, info.owner, partition);
		identity_restore(&caller);
		if (reason != NULL)
			keep(reason, session.caller, result);
		else
			retire_now(policy, partition, now, session.caller, result);
	}
	sql_end(&session);
}

static void
run_step(void *arg)
{
	sql_run((const char *) arg);
}

typedef struct FinalizeStatement
{
	const char *sql;
	TransactionId oldest_call;
} FinalizeStatement;

/*
 * FINALIZE waits for older snapshots. Whose they are was looked at; those of
 * before_drop functions last, and are left out: what they have no lock on goes as
 * it does with a plain DETACH.
 */
static void
finalize_step(void *arg)
{
	FinalizeStatement *statement = (FinalizeStatement *) arg;

	if (TransactionIdIsValid(statement->oldest_call))
		sql_run_before(statement->sql, statement->oldest_call);
	else
		sql_run(statement->sql);
}

/*
 * Runs what fails if a table and its partition aren't alike: one whose detach is
 * pending isn't altered with its table. Returns that error, undone, or NULL.
 */
static ErrorData *
run_unless_different(AttemptStep step, void *arg)
{
	ErrorData  *error = attempt_in_subtransaction_untimed(step, arg);

	/* the server calls it internal that a constraint isn't there */
	if (error != NULL && error->sqlerrcode != ERRCODE_DATATYPE_MISMATCH &&
		error->sqlerrcode != ERRCODE_INTERNAL_ERROR)
		ReThrowError(error);
	return error;
}

static ErrorData *
finalize(const ParentInfo *info, Oid partition, TransactionId oldest_call)
{
	FinalizeStatement statement = {
		psprintf("ALTER TABLE %s DETACH PARTITION %s FINALIZE",
				 names_qualified(info->relid), names_qualified(partition)),
		oldest_call
	};

	/* it also waits for snapshots that do see the detach, and these may last */
	identity_set_local("lock_timeout", FINALIZE_LOCK_TIMEOUT);
	return run_unless_different(finalize_step, &statement);
}

static ErrorData *
attach_again(const ParentInfo *info, Oid partition)
{
	ErrorData  *different =
		run_unless_different(run_step,
							 psprintf("ALTER TABLE %s ATTACH PARTITION %s %s",
									  names_qualified(info->relid), names_qualified(partition),
									  key_for_values_of_range(info->kind, &info->pending_range)));

	if (different == NULL)
		fence_lower(partition);
	return different;
}

/*
 * Whether a partition may be dropped with its detach pending: only if no session
 * uses the table, and no standby's replay would wait for its queries there.
 */
static bool
may_drop_pending(const Policy *policy, const ParentInfo *info)
{
	return !stays_a_table(policy) && !drain_is_followed() &&
		ConditionalLockRelationOid(info->relid, AccessExclusiveLock) &&
		(!OidIsValid(info->default_relid) ||
		 ConditionalLockRelationOid(info->default_relid, AccessExclusiveLock));
}

static void
stop_as_different(Oid partition, const ErrorData *different)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the detach of partition \"%s\" can't be finished, because its table was changed meanwhile",
					get_rel_name(partition)),
			 errdetail("%s%s%s", different->message, different->detail ? ": " : "",
					   different->detail ? different->detail : ""),
			 errhint("Change the table back until the partition is detached: what was added has to be dropped.")));
}

/*
 * Under the locks: finalizes, and ends the partition if it is ours. What can't be
 * attached again or finalized, because the table was changed, is an error.
 */
static void
finalize_and_end(const Policy *policy, const ParentInfo *info, bool ours,
				 TransactionId oldest_call, TimestampTz now, MemoryContext context,
				 RetireResult *result)
{
	Oid			partition = info->pending_relid;
	ErrorData  *different;
	char	   *reason;

	Assert(sagaz_has_lock(partition, AccessExclusiveLock));
	different = finalize(info, partition, oldest_call);
	reason = ours ? kept_reason_of_detached(policy, info, partition, &info->pending_bound, now) : NULL;
	if (different == NULL && reason != NULL)
		different = attach_again(info, partition);
	else if (ours && reason == NULL && different != NULL && may_drop_pending(policy, info))
		different = NULL;
	if (different != NULL)
		stop_as_different(partition, different);

	if (reason != NULL)
	{
		keep(reason, context, result);
		retirement_end(partition);
	}
	else if (ours)
		end_detached(policy, info->kind, partition, &info->pending_bound, now, context, result);
	else
	{
		result->outcome = RETIRE_DETACHED;
		result->details = "finished a detach that was left pending";
		fence_lower(partition);
		retirement_end(partition);
	}
}

/*
 * Finishes a pending detach, and ends the partition if it is one that we
 * retire. One transaction, so there is never a table without a parent. It waits
 * as long as a session or a standby may still see the partition.
 */
void
retire_finalize(const Policy *policy, Oid partition, bool ours, TimestampTz since,
				TimestampTz now, RetireResult *result)
{
	SqlSession	session;
	Identity	caller;
	ParentInfo	info;
	DrainBlocker blocker;

	result->outcome = RETIRE_GONE;
	sql_begin(&session, GetUserId());
	table_close(locks_open_parent(policy->parent, ShareUpdateExclusiveLock), NoLock);
	parent_require_by_oid(policy->parent, NoLock, &info);
	if (info.pending_relid == partition)
	{
		drain_find_blocker(partition, since, now, &blocker);
		if (blocker.name != NULL)
		{
			result->outcome = RETIRE_WAITS;
			result->waits_for = MemoryContextStrdup(session.caller, blocker.name);
			result->details = MemoryContextStrdup(session.caller,
												  psprintf("waiting for %s", blocker.details));
		}
		else
		{
			/* the table's owner may not see it */
			TransactionId oldest_call = drain_oldest_call();

			locks_end_vacuums_of_partition(partition, true);
			locks_take_partition_at_once(partition);
			identity_assume(&caller, info.owner);
			finalize_and_end(policy, &info, ours, oldest_call, now, session.caller, result);
			identity_restore(&caller);
		}
	}
	sql_end(&session);
}

/*
 * Until the end of the GUC level. Those that are ALWAYS on run: one of them keeps
 * unique keys. (event_triggers = off, which 17 brings, would silence that as well.)
 */
static void
leave_event_triggers_out(void)
{
	identity_set_local_by_superuser("session_replication_role", "replica");
}

/*
 * Attaches a partition again whose detach is pending and can't be finished. Event
 * triggers can be left out, because what one refuses must not keep rows invisible
 * that it was not asked about.
 */
void
retire_take_back(const Policy *policy, Oid partition, TimestampTz since, TimestampTz now,
				 bool event_triggers)
{
	SqlSession	session;
	Identity	caller;
	ParentInfo	info;
	DrainBlocker blocker;
	ErrorData  *different;
	TransactionId oldest_call;

	sql_begin(&session, GetUserId());
	table_close(locks_open_parent(policy->parent, ShareUpdateExclusiveLock), NoLock);
	parent_require_by_oid(policy->parent, NoLock, &info);
	if (info.pending_relid == partition)
	{
		drain_find_blocker(partition, since, now, &blocker);
		if (blocker.name != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("waiting for %s", blocker.details)));
		locks_end_vacuums_of_partition(partition, true);
		locks_take_partition_at_once(partition);
		oldest_call = drain_oldest_call();
		identity_assume(&caller, info.owner);
		if (!event_triggers)
			leave_event_triggers_out();
		different = finalize(&info, partition, oldest_call);
		if (different == NULL)
			different = attach_again(&info, partition);
		if (different != NULL)
			stop_as_different(partition, different);
		retirement_end(partition);
		identity_restore(&caller);
	}
	sql_end(&session);
}

/* The bounds of a partition that is detached; NULL if they aren't known. */
static PlanBound *
detached_bound(const ParentInfo *info, Oid partition)
{
	KeyRange	range;
	PlanBound  *bound;

	if (!bounds_check_find(partition, parent_key_name(info), info->kind, &range))
		return NULL;
	bound = (PlanBound *) palloc(sizeof(PlanBound));
	*bound = key_range_times(info->kind, &range);
	return bound;
}

/* Whether a partition that is detached is still expired. */
bool
retire_is_expired(const Policy *policy, const ParentInfo *info, Oid partition, TimestampTz now)
{
	return is_expired(policy, info->kind, detached_bound(info, partition), now);
}

/* Whether it is detached, and ours to end, still: it may have been attached meanwhile. */
static bool
is_ours(const ParentInfo *info, Oid partition)
{
	Retirement	retirement;

	return !get_rel_relispartition(partition) && retirement_find(partition, &retirement) &&
		retirement.detach_is_ours && retirement.parent == info->relid;
}

/*
 * Ends a partition that we had detached, and whose detach another session has
 * finished since. Unfinished rows can't have come since it was fenced; they are
 * looked for all the same. One that has to stay is left as it is.
 */
void
retire_detached(const Policy *policy, const ParentInfo *info, Oid partition, TimestampTz now,
				RetireResult *result)
{
	SqlSession	session;

	result->outcome = RETIRE_GONE;
	sql_begin(&session, info->owner);
	locks_end_vacuums_of_partition(partition, true);
	locks_take_partition_at_once(partition);
	if (is_ours(info, partition))
	{
		PlanBound  *bound = detached_bound(info, partition);
		char	   *reason = kept_reason_of_detached(policy, info, partition, bound, now);

		if (reason != NULL)
			keep(reason, session.caller, result);
		else
			end_detached(policy, info->kind, partition, bound, now, session.caller, result);
	}
	sql_end(&session);
}
