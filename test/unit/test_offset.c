/*
 * test_offset.c
 *		Unit tests of src/replication/offset.c: the distance of two clocks by simulated messages.
 */
#include "tap.h"				/* before the server's own printf() */
#include "replication/offset.h"

#define SECOND		USECS_PER_SEC
#define BEGIN		INT64CONST(800000000000000)

static TimeOffset
distance(const ReplOffset *offset)
{
	TimeOffset	least = 0;

	return replication_offset_get(offset, &least) ? least : PG_INT64_MAX;
}

static void
test_least(void)
{
	ReplOffset	offset = {0};

	ok(distance(&offset) == PG_INT64_MAX, "before the first message nothing is known");
	replication_offset_add(&offset, BEGIN, 5000);
	replication_offset_add(&offset, BEGIN + SECOND, 3000);
	replication_offset_add(&offset, BEGIN + 2 * SECOND, 9000);
	ok(distance(&offset) == 3000, "the message with the shortest way counts");
	replication_offset_add(&offset, BEGIN + 3 * SECOND, -4000);
	ok(distance(&offset) == -4000, "the other clock may be ahead");
}

static void
test_windows(void)
{
	ReplOffset	offset = {0};

	replication_offset_add(&offset, BEGIN, 1000);
	replication_offset_add(&offset, BEGIN + 121 * SECOND, 2000);
	ok(distance(&offset) == 1000, "the window before counts");
	replication_offset_add(&offset, BEGIN + 242 * SECOND, 3000);
	ok(distance(&offset) == 2000, "the one before that does not");
	replication_offset_add(&offset, BEGIN, 7000);
	ok(distance(&offset) == 3000, "a time before the window begins a new one");
}

static void
test_shift(void)
{
	ReplOffset	offset = {0};

	replication_offset_shift(&offset, SECOND);
	ok(distance(&offset) == PG_INT64_MAX && offset.began == 0, "without a message there is nothing to shift");
	replication_offset_add(&offset, BEGIN, 1000);
	replication_offset_shift(&offset, 300 * SECOND);
	ok(distance(&offset) == 300 * SECOND + 1000, "our clock was set forward, so the distance grows");
	replication_offset_add(&offset, BEGIN + 301 * SECOND, 300 * SECOND + 500);
	ok(distance(&offset) == 300 * SECOND + 500, "and the window goes on");
}

int
main(void)
{
	test_least();
	test_windows();
	test_shift();
	return done_testing();
}
