/*
 * sampler.c
 *		The process that keeps the LSN clock.
 *
 * Runs on a primary and on a hot standby, connected to no database. It only
 * reads the server's shared memory, with one exception: it asks the WAL
 * receiver to send its status, as the startup process does. The receiver
 * clears that request at once when it is alive, and a primary hears of its
 * standbys once per interval instead of once per wal_receiver_status_interval.
 */
#include "replication/state.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "base/compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "replication/walsender_private.h"
#include "base/process.h"
#include "base/settings.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#define CLOCK_STEP		(USECS_PER_SEC / 2)

PGDLLEXPORT void sagaz_sampler_main(Datum arg);

void
sampler_register(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = 5;
	strlcpy(worker.bgw_library_name, "sagaz_ha", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "sagaz_sampler_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "sagaz_ha sampler", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "sagaz_ha sampler", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

static void
shift_offset(ReplOffset *offset, TimeOffset step)
{
	offset->began += offset->began ? step : 0;
	offset->least += step;
	offset->before += step;
}

/* Somebody set this host's clock: what was seen keeps its age. */
static void
shift_times(TimeOffset step)
{
	int			i;

	lsn_clock_shift(&repl_shared->clock, step);
	lsn_rate_reset(&repl_shared->replay);
	repl_shared->applied_at += repl_shared->applied_at ? step : 0;
	repl_shared->message_received += repl_shared->message_received ? step : 0;
	repl_shared->probed_at += repl_shared->probed_at ? step : 0;
	repl_shared->frozen_since += repl_shared->frozen_since ? step : 0;
	shift_offset(&repl_shared->offset, step);
	for (i = 0; i < repl_shared->nsenders; i++)
	{
		repl_shared->senders[i].seen_at += step;
		shift_offset(&repl_shared->senders[i].offset, step);
	}
}

static void
notice_clock_step(TimestampTz now)
{
	int64		monotonic = repl_monotonic_now();
	TimeOffset	step = (now - repl_shared->sampled_at) -
		(monotonic - repl_shared->sampled_monotonic);

	if (repl_shared->sampled_at != 0 &&
		(step > CLOCK_STEP || step < -CLOCK_STEP))
		shift_times(step);
	repl_shared->sampled_monotonic = monotonic;
}

/*
 * Did the receiver react to what it was asked in the last interval? A busy
 * one may not get to it, but then messages arrive. A frozen one does neither.
 * One that is still connecting may miss the request, so none counts before
 * the first that was answered.
 */
static void
probe_receiver(const ReplReceiver *receiver, TimestampTz now)
{
	if (receiver->pid == 0 || receiver->state != WALRCV_STREAMING)
	{
		repl_shared->probed_at = 0;
		repl_shared->answers = false;
		repl_shared->frozen_since = 0;
		return;
	}
	if (repl_shared->probed_at == 0 || !sagaz_receiver_asked() ||
		repl_shared->message_received > repl_shared->probed_at)
	{
		repl_shared->answers = repl_shared->probed_at != 0;
		repl_shared->frozen_since = 0;
		repl_shared->probed_at = now;
	}
	else if (repl_shared->answers && repl_shared->frozen_since == 0)
		repl_shared->frozen_since = repl_shared->probed_at;
	sagaz_ask_receiver();
}

/* The upstream's end as it was on another timeline is nothing to wait for. */
static void
follow_timeline(const ReplReceiver *receiver)
{
	if (receiver->received_tli == repl_shared->clock_tli)
		return;
	lsn_clock_truncate(&repl_shared->clock, receiver->received);
	repl_shared->clock_tli = receiver->received_tli;
}

static void
note_message(const ReplReceiver *receiver, TimestampTz now)
{
	TimeOffset	offset = 0;

	repl_shared->message_sent = receiver->message_sent;
	repl_shared->message_received = receiver->message_received;
	repl_shared->starts_unheard = 0;
	repl_offset_add(&repl_shared->offset, now,
					receiver->message_received - receiver->message_sent);
	repl_offset_get(&repl_shared->offset, &offset);
	follow_timeline(receiver);
	lsn_clock_add(&repl_shared->clock, repl_shared->sampled_at,
				  receiver->message_sent + offset,
				  Max(receiver->upstream_end, receiver->received));
}

/*
 * Count the receiver's starts. One that is refused lives for milliseconds, so
 * that its pid is rarely seen; but the time that it set on starting stays.
 */
static void
note_start(const ReplReceiver *receiver)
{
	bool		same = receiver->pid == 0 ||
		receiver->pid == repl_shared->receiver_pid;

	if (receiver->heard ? !same :
		receiver->message_received != repl_shared->receiver_start)
	{
		repl_shared->receiver_starts++;
		repl_shared->starts_unheard++;
	}
	if (!receiver->heard)
		repl_shared->receiver_start = receiver->message_received;
	if (!same)
	{
		repl_shared->receiver_pid = receiver->pid;
		repl_shared->probed_at = 0;
		repl_shared->answers = false;
		repl_shared->frozen_since = 0;
	}
}

static void
sample_receiver(TimestampTz now)
{
	ReplReceiver receiver;

	repl_read_receiver(&receiver, now);
	note_start(&receiver);
	if (receiver.heard &&
		receiver.message_received != repl_shared->message_received)
		note_message(&receiver, now);
	else if (receiver.quiet_since != 0 &&
			 receiver.quiet_since > repl_shared->message_received)
	{
		repl_shared->message_received = receiver.quiet_since;
		repl_shared->starts_unheard = 0;
		follow_timeline(&receiver);
		lsn_clock_add(&repl_shared->clock, receiver.quiet_since,
					  receiver.quiet_since,
					  Max(receiver.received, GetXLogReplayRecPtr(NULL)));
	}
	probe_receiver(&receiver, now);
}

static void
sample_replay(TimestampTz now)
{
	XLogRecPtr	applied = GetXLogReplayRecPtr(NULL);

	if (applied != repl_shared->applied)
	{
		repl_shared->applied = applied;
		repl_shared->applied_at = now;
	}
	lsn_rate_add(&repl_shared->replay, now, applied);
}

/*
 * The end of this primary's own WAL: what is flushed, because nothing else
 * can be on a standby, and because the insert position stands behind a page
 * header that no record follows yet.
 */
static void
sample_primary(TimestampTz now)
{
	TimeLineID	tli;
	XLogRecPtr	flushed = GetFlushRecPtr(&tli);

	if (repl_shared->clock_tli != tli)
	{
		lsn_clock_truncate(&repl_shared->clock, flushed);
		repl_shared->clock_tli = tli;
	}
	lsn_clock_add(&repl_shared->clock, repl_shared->sampled_at, now, flushed);
}

static void
sample_senders(TimestampTz now)
{
	int			i;

	for (i = 0; i < repl_shared->nsenders; i++)
	{
		WalSnd	   *walsnd = &WalSndCtl->walsnds[i];
		ReplSender *sender = &repl_shared->senders[i];
		int			pid;
		TimestampTz reply_time;

		SpinLockAcquire(&walsnd->mutex);
		pid = walsnd->pid;
		reply_time = walsnd->replyTime;
		SpinLockRelease(&walsnd->mutex);

		if (pid != sender->pid)
		{
			memset(sender, 0, sizeof(ReplSender));
			sender->pid = pid;
		}
		if (pid == 0 || reply_time == 0 || reply_time == sender->reply_time)
			continue;
		sender->reply_time = reply_time;
		sender->seen_at = now;
		repl_offset_add(&sender->offset, now, now - reply_time);
	}
}

static void
sample(void)
{
	bool		in_recovery = RecoveryInProgress();
	TimestampTz now;

	LWLockAcquire(repl_shared->lock, LW_EXCLUSIVE);
	now = GetCurrentTimestamp();
	notice_clock_step(now);
	repl_shared->in_recovery = in_recovery;
	if (in_recovery)
	{
		sample_receiver(now);
		sample_replay(now);
	}
	else
		sample_primary(now);
	sample_senders(now);
	repl_shared->sampled_at = now;
	LWLockRelease(repl_shared->lock);
}

static void
sampler_exit(int code, Datum arg)
{
	LWLockAcquire(repl_shared->lock, LW_EXCLUSIVE);
	repl_shared->sampler_pid = 0;
	LWLockRelease(repl_shared->lock);
}

void
sagaz_sampler_main(Datum arg)
{
	TimestampTz next;

	process_begin();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_activity(STATE_RUNNING, "sampling the end of WAL");

	before_shmem_exit(sampler_exit, (Datum) 0);
	LWLockAcquire(repl_shared->lock, LW_EXCLUSIVE);
	repl_shared->sampler_pid = MyProcPid;
	repl_shared->sampler_latch = &MyProc->procLatch;
	LWLockRelease(repl_shared->lock);

	next = GetCurrentTimestamp();
	for (;;)
	{
		TimestampTz now;

		CHECK_FOR_INTERRUPTS();
		process_reload();
		now = GetCurrentTimestamp();
		if (repl_shared->wanted || now >= next || now < next - (TimestampTz) repl_sample_interval * 1000)
		{
			repl_shared->wanted = false;
			sample();
			next = now + (TimestampTz) repl_sample_interval * 1000;
		}
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next) + 1,
						 sagaz_wait_event("SagazHaSamplerMain"));
		ResetLatch(MyLatch);
	}
}
