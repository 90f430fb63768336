/*
 * repl_time.c
 *		Whose clock says what: this process's, the sampler's, another host's.
 */
#include "replication/state.h"

#include <time.h>

#include "miscadmin.h"
#include "utils/timestamp.h"

#define OFFSET_WINDOW	(INT64CONST(120) * USECS_PER_SEC)
#define WAKE_TURNS		40
#define WAKE_USEC		100

void
repl_offset_add(ReplOffset *offset, TimestampTz now, TimeOffset difference)
{
	if (offset->began == 0 || now - offset->began > OFFSET_WINDOW ||
		now < offset->began)
	{
		offset->before_known = offset->known;
		offset->before = offset->least;
		offset->known = false;
		offset->began = now;
	}
	offset->least = offset->known ? Min(offset->least, difference) : difference;
	offset->known = true;
}

bool
repl_offset_get(const ReplOffset *offset, TimeOffset *least)
{
	if (!offset->known && !offset->before_known)
		return false;
	if (!offset->known)
		*least = offset->before;
	else if (!offset->before_known)
		*least = offset->least;
	else
		*least = Min(offset->least, offset->before);
	return true;
}

int64
repl_monotonic_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * USECS_PER_SEC + ts.tv_nsec / 1000;
}

/* Have the sampler look now; false when it doesn't. */
static bool
wake_sampler(TimestampTz before)
{
	int			turn;

	repl_shared->wanted = true;
	SetLatch(repl_shared->sampler_latch);
	for (turn = 0; turn < WAKE_TURNS; turn++)
	{
		TimestampTz sampled_at;

		pg_usleep(WAKE_USEC);
		LWLockAcquire(repl_shared->lock, LW_SHARED);
		sampled_at = repl_shared->sampled_at;
		LWLockRelease(repl_shared->lock);
		if (sampled_at != before)
			return true;
	}
	return false;
}

/*
 * The time by the sampler's clock: ages are differences to its times. Since
 * its last sample, the monotonic clock counts. When that sample is too old,
 * either the sampler is stuck, and what it left must not be believed, or this
 * process sees another clock than it: then its answer to a wake-up is now.
 * False when there is no working sampler.
 */
bool
repl_sampler_now(TimestampTz *now)
{
	TimestampTz sampled_at;
	TimeOffset	age;
	bool		running;

	*now = GetCurrentTimestamp();
	if (repl_shared == NULL)
		return false;
	LWLockAcquire(repl_shared->lock, LW_SHARED);
	running = repl_shared->sampler_pid != 0;
	sampled_at = repl_shared->sampled_at;
	age = repl_monotonic_now() - repl_shared->sampled_monotonic;
	LWLockRelease(repl_shared->lock);
	if (!running || sampled_at == 0)
		return false;
	if (age < 0 || age > (TimeOffset) repl_sample_interval * 3000 + USECS_PER_SEC)
	{
		if (!wake_sampler(sampled_at))
			return false;
		LWLockAcquire(repl_shared->lock, LW_SHARED);
		sampled_at = repl_shared->sampled_at;
		LWLockRelease(repl_shared->lock);
		age = 0;
	}
	*now = sampled_at + age;
	return true;
}
