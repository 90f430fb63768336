# A wall clock that a test can move while a server runs. (libfaketime does not do on
# PostgreSQL 15: what the postmaster forks in a signal handler inherits its guard
# against recursion, and sees the true time.)
#
# The monotonic clock stays the true one, as when somebody sets the time.
package SagazClock;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use PostgreSQL::Test::Utils;

our @EXPORT = qw(clock_environment move_clock);

# The environment for servers whose clock move_clock() moves; empty without a C compiler.
sub clock_environment
{
	my ($dir) = @_;

	append_to_file("$dir/shift.c", <<'C');
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static volatile long *shift;
__attribute__((constructor)) static void begin(void)
{
	int fd = getenv("CLOCK_SHIFT_FILE") ? open(getenv("CLOCK_SHIFT_FILE"), O_RDONLY) : -1;
	void *p = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(long), PROT_READ, MAP_SHARED, fd, 0);
	if (p != MAP_FAILED) shift = p;
	if (fd >= 0) close(fd);
}
int clock_gettime(clockid_t id, struct timespec *ts)
{
	int rc = syscall(SYS_clock_gettime, id, ts);
	if (rc == 0 && id == CLOCK_REALTIME && shift) ts->tv_sec += *shift;
	return rc;
}
int gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	tv->tv_sec = ts.tv_sec; tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}
time_t time(time_t *t)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	if (t) *t = ts.tv_sec;
	return ts.tv_sec;
}
C
	return () if system("cc -shared -fPIC -o $dir/shift.so $dir/shift.c") != 0;
	move_clock($dir, 0);
	return (LD_PRELOAD => "$dir/shift.so", CLOCK_SHIFT_FILE => "$dir/shift");
}

# By how many seconds it differs from the true one, from now on.
sub move_clock
{
	my ($dir, $seconds) = @_;

	# in place: servers have mapped it
	open my $file, -e "$dir/shift" ? '+<:raw' : '+>:raw', "$dir/shift" or die $!;
	print $file pack('l!', $seconds);
	close $file or die $!;
	return;
}

1;
