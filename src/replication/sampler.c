/*
 * sampler.c
 *		The process that keeps the LSN clock, on a primary and on a hot standby.
 *
 * Invariant: connected to no database, it only reads the server's shared
 * memory, with one exception: it asks the WAL receiver to send its status, as
 * the startup process does. A receiver that is alive clears that request at
 * once, and a primary hears of its standbys once per interval instead of once
 * per wal_receiver_status_interval.
 */
#include "replication/sampler.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "base/compat.h"
#include "base/process.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "replication/receiver.h"
#include "replication/settings.h"
#include "replication/state.h"
#include "replication/time.h"
#include "replication/walsender_private.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#define CLOCK_STEP		(USECS_PER_SEC / 2)

PGDLLEXPORT void sagaz_sampler_main(Datum arg);

/* Registers the process; only while shared_preload_libraries is processed. */
void
sampler_register(void)
{
	BackgroundWorker worker;

	process_describe(&worker, "sagaz_sampler_main", "sagaz_ha sampler");
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = 5;
	RegisterBackgroundWorker(&worker);
}

/* Readers hold the lock shared, so a write needs it exclusively. */
static void
assert_locked(void)
{
	Assert(LWLockHeldByMeInMode(repl_shared->lock, LW_EXCLUSIVE));
}

/* This host's clock was set: past events keep their age. */
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
	replication_offset_shift(&repl_shared->offset, step);
	for (i = 0; i < repl_shared->nsenders; i++)
	{
		repl_shared->senders[i].seen_at += step;
		replication_offset_shift(&repl_shared->senders[i].offset, step);
	}
}

/* now and monotonic are the same instant by two clocks; only one can be set. */
static void
notice_clock_step(TimestampTz now, int64 monotonic)
{
	TimeOffset	step = (now - repl_shared->sampled_at) -
		(monotonic - repl_shared->sampled_monotonic);

	assert_locked();
	if (repl_shared->sampled_at != 0 &&
		(step > CLOCK_STEP || step < -CLOCK_STEP))
		shift_times(step);
}

static void
forget_probe(void)
{
	repl_shared->probed_at = 0;
	repl_shared->answers = false;
	repl_shared->frozen_since = 0;
}

/*
 * Notes whether the receiver reacted to the request of the last interval. A
 * busy one may be late with that, but then messages arrive. A frozen one does
 * neither. One that is still connecting may miss the request, so none counts
 * before the first that was answered. True when it is to be asked again.
 */
static bool
judge_probe(const ReplReceiver *receiver, TimestampTz now)
{
	if (receiver->pid == 0 || receiver->state != WALRCV_STREAMING)
	{
		forget_probe();
		return false;
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
	return true;
}

/* The upstream's end on an abandoned timeline will never be replayed. */
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
	replication_offset_add(&repl_shared->offset, now,
						   receiver->message_received - receiver->message_sent);
	replication_offset_get(&repl_shared->offset, &offset);
	follow_timeline(receiver);
	lsn_clock_add(&repl_shared->clock, repl_shared->sampled_at,
				  receiver->message_sent + offset,
				  Max(receiver->upstream_end, receiver->received));
}

/*
 * Counts the receiver's starts. One that is refused lives for milliseconds, so
 * its pid is rarely seen; but the time that it set on starting stays.
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
		forget_probe();
	}
}

/* True when the receiver is to be asked for its status. */
static bool
sample_receiver(const ReplReceiver *receiver, TimestampTz now, XLogRecPtr applied)
{
	assert_locked();
	note_start(receiver);
	if (receiver->heard &&
		receiver->message_received != repl_shared->message_received)
		note_message(receiver, now);
	else if (receiver->quiet_since != 0 &&
			 receiver->quiet_since > repl_shared->message_received)
	{
		repl_shared->message_received = receiver->quiet_since;
		repl_shared->starts_unheard = 0;
		follow_timeline(receiver);
		lsn_clock_add(&repl_shared->clock, receiver->quiet_since,
					  receiver->quiet_since,
					  Max(receiver->received, applied));
	}
	return judge_probe(receiver, now);
}

static void
sample_replay(TimestampTz now, XLogRecPtr applied)
{
	assert_locked();
	if (applied != repl_shared->applied)
	{
		repl_shared->applied = applied;
		repl_shared->applied_at = now;
	}
	lsn_rate_add(&repl_shared->replay, now, applied);
}

/*
 * The end of this primary's own WAL is what is flushed: a standby can have no
 * more, and the insert position may stand behind a page header that no record
 * follows yet.
 */
static void
sample_primary(TimestampTz now, XLogRecPtr flushed, TimeLineID tli)
{
	assert_locked();
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

	assert_locked();
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
		replication_offset_add(&sender->offset, now, now - reply_time);
	}
}

/* Reads the server's state first, so that the lock is held for arithmetic only. */
static void
sample(void)
{
	bool		in_recovery = RecoveryInProgress();
	bool		ask = false;
	TimestampTz now = GetCurrentTimestamp();
	int64		monotonic = replication_time_monotonic();
	ReplReceiver receiver;
	XLogRecPtr	end;
	TimeLineID	tli;

	if (in_recovery)
	{
		replication_receiver_read(&receiver, now);
		end = GetXLogReplayRecPtr(&tli);
	}
	else
		end = GetFlushRecPtr(&tli);

	LWLockAcquire(repl_shared->lock, LW_EXCLUSIVE);
	notice_clock_step(now, monotonic);
	repl_shared->in_recovery = in_recovery;
	if (in_recovery)
	{
		ask = sample_receiver(&receiver, now, end);
		sample_replay(now, end);
	}
	else
		sample_primary(now, end, tli);
	sample_senders(now);
	repl_shared->sampled_at = now;
	repl_shared->sampled_monotonic = monotonic;
	LWLockRelease(repl_shared->lock);

	if (ask)
		sagaz_ask_receiver();
}

static void
sampler_exit(int code, Datum arg)
{
	LWLockAcquire(repl_shared->lock, LW_EXCLUSIVE);
	repl_shared->sampler_pid = 0;
	LWLockRelease(repl_shared->lock);
}

static void
sampler_enter(void)
{
	before_shmem_exit(sampler_exit, (Datum) 0);
	LWLockAcquire(repl_shared->lock, LW_EXCLUSIVE);
	repl_shared->sampler_pid = MyProcPid;
	repl_shared->sampler_latch = &MyProc->procLatch;
	LWLockRelease(repl_shared->lock);
}

/* The process: a sample per interval, and at once when one is wanted. */
void
sagaz_sampler_main(Datum arg)
{
	TimestampTz next;
	uint32		wait_event;

	process_begin();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_activity(STATE_RUNNING, "sampling the end of WAL");
	sampler_enter();
	wait_event = sagaz_wait_event("SagazHaSamplerMain");

	next = GetCurrentTimestamp();
	for (;;)
	{
		TimestampTz now;
		TimeOffset	interval;

		CHECK_FOR_INTERRUPTS();
		process_reload();
		now = GetCurrentTimestamp();
		interval = (TimeOffset) repl_sample_interval * 1000;
		/* now < next - interval: the clock was set back */
		if (repl_shared->wanted || now >= next || now < next - interval)
		{
			repl_shared->wanted = false;
			sample();
			next = now + interval;
		}
		/* not process_nap(): this wait has an event of its own */
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next) + 1,
						 wait_event);
		ResetLatch(MyLatch);
	}
}
