/*
 * time.c
 *		Whose clock says what: this process's or the sampler's.
 *
 * Invariant: an age is a difference of two times of the sampler's clock.
 */
#include "replication/time.h"

#include <time.h>

#include "miscadmin.h"
#include "replication/settings.h"
#include "replication/state.h"
#include "utils/timestamp.h"

#define WAKE_TURNS		40
#define WAKE_USEC		100

/* Returns the monotonic clock in microseconds; its zero is arbitrary. */
int64
replication_time_monotonic(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * USECS_PER_SEC + ts.tv_nsec / 1000;
}

/* Asks the sampler for a sample now; false when none comes. */
static bool
wake_sampler(ReplSampling *sampling)
{
	TimestampTz before = sampling->sampled_at;
	int			turn;

	repl_shared->wanted = true;
	SetLatch(sampling->latch);
	for (turn = 0; turn < WAKE_TURNS; turn++)
	{
		pg_usleep(WAKE_USEC);
		replication_state_read(sampling);
		if (sampling->sampled_at != before)
			return true;
	}
	return false;
}

/*
 * Gets the time by the sampler's clock: its last sample plus what the
 * monotonic clock has counted since. When that sample is too old, either the
 * sampler is stuck, and its samples must not be believed, or this process
 * sees another clock than it does: then its answer to a wake-up is now. False,
 * and this process's time, when no sampler works.
 */
bool
replication_time_now(TimestampTz *now)
{
	ReplSampling sampling;
	TimeOffset	age;

	*now = GetCurrentTimestamp();
	replication_state_read(&sampling);
	if (!sampling.running || sampling.sampled_at == 0)
		return false;
	age = replication_time_monotonic() - sampling.sampled_monotonic;
	if (age < 0 || age > (TimeOffset) repl_sample_interval * 3000 + USECS_PER_SEC)
	{
		if (!wake_sampler(&sampling))
			return false;
		age = 0;
	}
	*now = sampling.sampled_at + age;
	return true;
}
