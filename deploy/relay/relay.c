/*
 * relay.c
 *		Takes PENDING events of saga_outbox to Redis Streams: each at least
 *		once, and those of one partition_key in order. See README.md.
 *
 * One batch is one transaction: claim, mark (not yet committed), append to the
 * streams by MULTI and EXEC, commit. Whatever goes wrong before the commit
 * leaves the events PENDING, and whoever comes next publishes them again. So
 * there is nothing to clean up, wherever the relay is killed.
 */
#define _GNU_SOURCE				/* ppoll */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <hiredis/hiredis.h>
#include <libpq-fe.h>

#include "sql.h"

#define IDLE_MIN 10				/* ms between two looks at an empty outbox */
#define IDLE_MAX 500
#define BACKOFF_MIN 100			/* ms after an error */
#define BACKOFF_MAX 5000
#define BOUND_INTERVAL 1000		/* ms between two tries to raise the floor */
#define FULL_INTERVAL 10000		/* ms between two looks at everything */
#define REPORT_INTERVAL 10000
#define REDIS_TIMEOUT 5			/* s */
#define STOP_TIMEOUT 8			/* s; docker kills after 10 */

static struct
{
	const char *database;
	const char *redis_host;
	int			redis_port;
	const char *redis_user;
	const char *redis_password;
	const char *prefix;
	const char *maxlen;			/* NULL: streams grow without limit */
	int			batch;
	bool		once;
}			config;

/*
 * What this relay knows of the outbox. All of it is forgotten after an error,
 * and when the server was restarted: positions can be handed out again then.
 */
static struct
{
	char	   *server;			/* where all this is so */
	int64_t		floor;			/* no event below is PENDING, nor will be */
	int64_t		settled;		/* nobody will commit a position up to this */
	int64_t		sample;			/* as settled, when these writers have ended */
	char	   *writers;
	int64_t		next_bound;
	int64_t		next_full;
	int			window;			/* how many events to look at */
	bool		full;			/* the last look was at everything */
}			known;

static struct
{
	int64_t		since;
	int64_t		published;
	int64_t		failed;
	int64_t		age;			/* of the oldest event, in s */
}			stats;

static PGconn *pg;
static redisContext *redis;
static volatile sig_atomic_t stopping;
static sigset_t no_stop;		/* blocks what stops us */

/* Growing text */
typedef struct
{
	char	   *data;
	size_t		len,
				size;
}			Text;

static void
say(const char *format,...)
{
	va_list		args;

	fputs("relay: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

static void
die(const char *what, const char *hint)
{
	say("%s: %s", what, hint);
	exit(2);
}

static void
append(Text *text, const char *s, size_t len)
{
	if (text->len + len + 1 > text->size)
	{
		text->size = 2 * (text->len + len + 1);
		text->data = realloc(text->data, text->size);
		if (text->data == NULL)
			die("out of memory", "make RELAY_BATCH smaller");
	}
	memcpy(text->data + text->len, s, len);
	text->len += len;
	text->data[text->len] = '\0';
}

static int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Sleeps, unless we are to stop. */
static void
doze(int ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};
	sigset_t	before;

	sigprocmask(SIG_BLOCK, &no_stop, &before);
	if (!stopping)
		ppoll(NULL, 0, &ts, &before);
	sigprocmask(SIG_SETMASK, &before, NULL);
}

/* The batch is finished, if that takes no longer than until the alarm kills us. */
static void
stop(int signal)
{
	(void) signal;
	stopping = 1;
	alarm(STOP_TIMEOUT);
}

/* -------- PostgreSQL */

/* What the server said, in one line */
static void
say_pg(const char *what, const PGresult *result)
{
	const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
	const char *message = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;

	if (message == NULL)
		message = PQerrorMessage(pg);
	say("%s: %s%s%.*s", what, state ? state : "", state ? " " : "",
		(int) strcspn(message, "\n"), message);
}

/* NULL after it has been said what went wrong. */
static PGresult *
checked(const char *what, PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
		return result;
	say_pg(what, result);
	PQclear(result);
	return NULL;
}

static PGresult *
query(const char *what, const char *sql, int count, const char *const *values)
{
	return checked(what, PQexecParams(pg, sql, count, NULL, values, NULL, NULL, 0));
}

/* The first value of a query as a copy, NULL if there is none; false: error */
static bool
query_value(const char *what, const char *sql, int count, const char *const *values, char **value)
{
	PGresult   *result = query(what, sql, count, values);

	if (result == NULL)
		return false;
	*value = PQntuples(result) > 0 && !PQgetisnull(result, 0, 0) ?
		strdup(PQgetvalue(result, 0, 0)) : NULL;
	PQclear(result);
	return true;
}

static bool
pg_connect(void)
{
	/* the later one of two wins, so the user's own settings do */
	const char *const names[] = {"connect_timeout", "keepalives_idle", "keepalives_interval",
		"keepalives_count", "tcp_user_timeout", "fallback_application_name", "dbname", NULL};
	const char *const values[] = {"5", "10", "5", "3", "30000", "outbox-relay", config.database, NULL};

	if (pg && PQstatus(pg) == CONNECTION_OK)
		return true;
	PQfinish(pg);
	pg = PQconnectdbParams(names, values, 1);
	if (PQstatus(pg) == CONNECTION_OK)
		return true;
	say_pg("can't connect to PostgreSQL", NULL);
	return false;
}

static void
forget(void)
{
	free(known.server);
	free(known.writers);
	memset(&known, 0, sizeof(known));
	known.window = 4 * config.batch;
}

/*
 * Finds out which positions are settled: no transaction that could still
 * commit one of them is running. A sample is the last position handed out
 * and, taken after that, who may have one and hasn't ended; it is settled
 * when they all have.
 */
static bool
settle(void)
{
	char	   *value;

	if (now_ms() < known.next_bound)
		return true;
	known.next_bound = now_ms() + BOUND_INTERVAL;
	if (known.writers)
	{
		const char *const values[] = {known.writers};

		if (!query_value("looking at locks", writers_ended_sql, 1, values, &value))
			return false;
		if (value && value[0] == 't')
		{
			known.settled = known.sample;
			free(known.writers);
			known.writers = NULL;
		}
		free(value);
	}
	if (known.writers)
		return true;
	if (!query_value("looking at the sequence", last_position_sql, 0, NULL, &value))
		return false;
	if (value == NULL)
		return true;
	known.sample = atoll(value);
	free(value);
	return query_value("looking at locks", writers_sql, 0, NULL, &known.writers);
}

static void
learn(const PGresult *events, bool full)
{
	int64_t		count = atoll(PQgetvalue(events, 0, COL_EVENTS));
	int64_t		lowest = count > 0 ? atoll(PQgetvalue(events, 0, COL_LOWEST)) : INT64_MAX;
	int64_t		floor = lowest <= known.settled ? lowest : known.settled + 1;
	bool		starved = PQgetisnull(events, 0, COL_ID) || PQntuples(events) < config.batch / 4;

	if (full || floor > known.floor)
		known.floor = floor;
	/* others have the slots of what we look at: look further */
	if (count == known.window && starved && known.window < 64 * config.batch)
		known.window *= 2;
	else if (!starved && known.window > 4 * config.batch)
		known.window /= 2;
	stats.age = count > 0 ? atoll(PQgetvalue(events, 0, COL_AGE)) : 0;
}

/*
 * Begins a transaction and claims events in it. Normally only those in
 * partitions of these days and above the floor; now and then all.
 */
static PGresult *
claim(void)
{
	int64_t		started = now_ms();
	bool		full = started >= known.next_full;
	char		floor[32],
				window[32],
				batch[32];
	const char *values[] = {floor, "-infinity", "infinity", window, batch};
	PGresult   *range = checked("beginning", PQexec(pg, begin_sql));
	PGresult   *events;

	if (range == NULL)
		return NULL;
	if (known.server == NULL || strcmp(known.server, PQgetvalue(range, 0, RANGE_SERVER)) != 0)
	{
		forget();
		known.server = strdup(PQgetvalue(range, 0, RANGE_SERVER));
		full = true;
	}
	if (!settle())
	{
		PQclear(range);
		return NULL;
	}
	if (!full)
	{
		values[1] = PQgetvalue(range, 0, RANGE_FROM);
		values[2] = PQgetvalue(range, 0, RANGE_TO);
	}
	snprintf(floor, sizeof(floor), "%lld", full ? (long long) INT64_MIN : (long long) known.floor);
	snprintf(window, sizeof(window), "%d", known.window);
	snprintf(batch, sizeof(batch), "%d", config.batch);
	events = query("claiming", claim_sql, 5, values);
	PQclear(range);
	if (events == NULL)
		return NULL;
	learn(events, full);
	known.full = full;
	if (full && PQgetvalue(events, 0, COL_OUTSIDE)[0] != 't')
	{
		int64_t		took = now_ms() - started;

		known.next_full = now_ms() + (took > FULL_INTERVAL / 10 ? 10 * took : FULL_INTERVAL);
	}
	return events;
}

/* Marks all events as published; not yet committed. */
static bool
mark(const PGresult *events)
{
	Text		parts = {0},
				tids = {0};
	const char *values[4];
	const char *first = PQgetvalue(events, 0, COL_CREATED);
	const char *last = first;
	PGresult   *result;
	bool		good;

	for (int i = 0; i < PQntuples(events); i++)
	{
		const char *part = PQgetvalue(events, i, COL_PART);
		const char *tid = PQgetvalue(events, i, COL_TID);
		const char *time = PQgetvalue(events, i, COL_CREATED);

		append(&parts, i == 0 ? "{" : ",", 1);
		append(&parts, part, strlen(part));
		append(&tids, i == 0 ? "{\"" : "\",\"", i == 0 ? 2 : 3);
		append(&tids, tid, strlen(tid));
		if (strcmp(time, first) < 0)
			first = time;
		if (strcmp(time, last) > 0)
			last = time;
	}
	append(&parts, "}", 1);
	append(&tids, "\"}", 2);
	values[0] = parts.data;
	values[1] = tids.data;
	values[2] = first;
	values[3] = last;
	result = query("marking events", publish_sql, 4, values);
	good = result && atoi(PQcmdTuples(result)) == PQntuples(events);
	if (result && !good)
		say("marking events: only %s of %d are still there", PQcmdTuples(result), PQntuples(events));
	PQclear(result);
	free(parts.data);
	free(tids.data);
	return good;
}

static bool
mark_failed(const PGresult *events, int row, const char *why)
{
	const char *const values[] = {PQgetvalue(events, row, COL_ID), PQgetvalue(events, row, COL_CREATED), why};
	PGresult   *result = query("marking an event as failed", fail_sql, 3, values);

	say("event %s, topic %s, failed: %s", values[0], PQgetvalue(events, row, COL_TOPIC), why);
	PQclear(result);
	return result != NULL;
}

/* -------- Redis */

static void
redis_close(void)
{
	if (redis)
		redisFree(redis);
	redis = NULL;
}

/* NULL after it has been said what went wrong: the connection is gone then. */
static redisReply *
redis_reply(const char *what)
{
	void	   *reply;

	if (redisGetReply(redis, &reply) == REDIS_OK)
		return reply;
	say("%s: Redis: %s", what, redis->err == REDIS_ERR_IO ? strerror(errno) : redis->errstr);
	redis_close();
	return NULL;
}

static bool
redis_ok(const char *what)
{
	redisReply *reply = redis_reply(what);
	bool		good = reply && reply->type != REDIS_REPLY_ERROR;

	if (reply && !good)
		say("%s: Redis: %s", what, reply->str);
	freeReplyObject(reply);
	return good;
}

static bool
redis_connect(void)
{
	struct timeval timeout = {REDIS_TIMEOUT, 0};

	if (redis)
		return true;
	redis = redisConnectWithTimeout(config.redis_host, config.redis_port, timeout);
	if (redis == NULL || redis->err)
	{
		say("can't connect to Redis: %s", redis ? redis->errstr : "out of memory");
		redis_close();
		return false;
	}
	redisSetTimeout(redis, timeout);
	redisEnableKeepAlive(redis);
	if (config.redis_user)
		redisAppendCommand(redis, "AUTH %s %s", config.redis_user, config.redis_password);
	else if (config.redis_password)
		redisAppendCommand(redis, "AUTH %s", config.redis_password);
	else
		redisAppendCommand(redis, "PING");
	if (redis_ok("logging in"))
		return true;
	redis_close();
	return false;
}

static void
append_field(const char **argv, size_t *lengths, int *argc, const PGresult *events, int row,
			 const char *name, int column)
{
	if (PQgetisnull(events, row, column))
		return;
	argv[*argc] = name;
	lengths[(*argc)++] = strlen(name);
	argv[*argc] = PQgetvalue(events, row, column);
	lengths[(*argc)++] = (size_t) PQgetlength(events, row, column);
}

static void
append_event(const PGresult *events, int row)
{
	const char *argv[6 + 12] = {"XADD"};
	size_t		lengths[6 + 12] = {4};
	int			argc = 2;
	Text		stream = {0};

	append(&stream, config.prefix, strlen(config.prefix));
	append(&stream, PQgetvalue(events, row, COL_TOPIC), (size_t) PQgetlength(events, row, COL_TOPIC));
	argv[1] = stream.data;
	lengths[1] = stream.len;
	if (config.maxlen)
	{
		const char *const trim[] = {"MAXLEN", "~", config.maxlen};

		for (int i = 0; i < 3; i++)
		{
			argv[argc] = trim[i];
			lengths[argc++] = strlen(trim[i]);
		}
	}
	argv[argc] = "*";
	lengths[argc++] = 1;
	append_field(argv, lengths, &argc, events, row, "id", COL_ID);
	append_field(argv, lengths, &argc, events, row, "partition_key", COL_KEY);
	append_field(argv, lengths, &argc, events, row, "saga_id", COL_SAGA);
	append_field(argv, lengths, &argc, events, row, "created_at", COL_CREATED);
	append_field(argv, lengths, &argc, events, row, "payload", COL_PAYLOAD);
	append_field(argv, lengths, &argc, events, row, "headers", COL_HEADERS);
	redisAppendCommandArgv(redis, argc, argv, lengths);
	free(stream.data);
}

/*
 * Appends all events, or none, to their streams. Without MULTI, Redis could
 * refuse one because it is full or loading, and take the next of the same key.
 * What it refuses in spite of that, it refuses for what it is: a key that is no
 * stream, say.
 */
static bool
publish(const PGresult *events)
{
	int			count = PQntuples(events);
	redisReply *exec;
	bool		good;

	redisAppendCommand(redis, "MULTI");
	for (int i = 0; i < count; i++)
		append_event(events, i);
	redisAppendCommand(redis, "EXEC");
	/* what is wrong with a command, its own reply says better than EXEC's */
	good = redis_ok("appending events");
	for (int i = 0; redis && i < count; i++)
		if (good)
			good = redis_ok("appending events");
		else
			freeReplyObject(redis_reply("appending events"));
	exec = redis ? redis_reply("appending events") : NULL;
	if (good && (exec == NULL || exec->type != REDIS_REPLY_ARRAY || exec->elements != (size_t) count))
	{
		if (exec)
			say("appending events: Redis: %s", exec->type == REDIS_REPLY_ERROR ? exec->str : "unexpected reply");
		good = false;
	}
	for (int i = 0; good && i < count; i++)
		if (exec->element[i]->type == REDIS_REPLY_ERROR)
		{
			good = mark_failed(events, i, exec->element[i]->str);
			stats.failed++;
		}
	freeReplyObject(exec);
	return good;
}

/* -------- the loop */

static bool
end(const char *sql)
{
	PGresult   *result = checked("ending the transaction", PQexec(pg, sql));
	bool		good = result != NULL;

	PQclear(result);
	return good;
}

/* How many events were published; -1 after an error, with nothing left open. */
static int
relay_batch(bool *more)
{
	PGresult   *events;
	int			count = -1;

	*more = false;
	if (!redis_connect() || !pg_connect())
		return -1;
	events = claim();
	if (events)
	{
		*more = atoll(PQgetvalue(events, 0, COL_EVENTS)) > 0;
		count = PQgetisnull(events, 0, COL_ID) ? 0 : PQntuples(events);
		if ((count > 0 && !(mark(events) && publish(events))) || !end("COMMIT"))
			count = -1;
		PQclear(events);
	}
	if (count < 0)
	{
		forget();
		if (PQstatus(pg) == CONNECTION_OK && PQtransactionStatus(pg) != PQTRANS_IDLE)
			end("ROLLBACK");
	}
	return count;
}

static void
report(int published, bool last)
{
	int64_t		now = now_ms();

	stats.published += published;
	if (now - stats.since < REPORT_INTERVAL && !last)
		return;
	if (stats.published > 0)
		say("published %lld events, %.0f/s, %lld of them failed; the oldest PENDING one is %lld s old",
			(long long) stats.published, (double) stats.published * 1000 / (double) (now - stats.since + 1),
			(long long) stats.failed, (long long) stats.age);
	stats.since = now;
	stats.published = 0;
	stats.failed = 0;
}

static int
run(void)
{
	int			backoff = BACKOFF_MIN;
	int			idle = IDLE_MIN;
	bool		more;

	while (!stopping)
	{
		int			count = relay_batch(&more);

		if (count < 0)
		{
			if (config.once)
				return 1;
			doze(backoff);
			backoff = 2 * backoff < BACKOFF_MAX ? 2 * backoff : BACKOFF_MAX;
			continue;
		}
		backoff = BACKOFF_MIN;
		report(count, false);
		if (config.once && !more)
		{
			if (known.full)
				return 0;
			known.next_full = 0;
			continue;
		}
		if (count > 0 || more)
			idle = IDLE_MIN;
		if (count == 0)
		{
			doze(idle);
			idle = 2 * idle < IDLE_MAX ? 2 * idle : IDLE_MAX;
		}
	}
	return 0;
}

static const char *
setting(const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	return value && value[0] ? value : otherwise;
}

static int
number_setting(const char *name, const char *otherwise, int max)
{
	const char *value = setting(name, otherwise);
	char	   *rest;
	long		number = strtol(value, &rest, 10);

	if (*rest || number < 1 || number > max)
		die(name, "this must be a number, and not too large");
	return (int) number;
}

/* A password, or the first line of the file that has it */
static const char *
secret_setting(const char *name, const char *file_name)
{
	static char line[1024];
	const char *path = setting(file_name, NULL);
	FILE	   *file;

	if (path == NULL)
		return setting(name, NULL);
	file = fopen(path, "r");
	if (file == NULL || fgets(line, sizeof(line), file) == NULL)
		die(path, "can't be read, and REDIS_PASSWORD_FILE names it");
	fclose(file);
	line[strcspn(line, "\n")] = '\0';
	return line;
}

int
main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = stop};
	int			status;

	config.once = argc == 2 && strcmp(argv[1], "--once") == 0;
	if (argc > 1 && !config.once)
		die("usage", "relay [--once]; all else is set by environment variables, see README.md");
	config.database = setting("DATABASE_URL", "");
	config.redis_host = setting("REDIS_HOST", "127.0.0.1");
	config.redis_port = number_setting("REDIS_PORT", "6379", 65535);
	config.redis_user = setting("REDIS_USER", NULL);
	config.redis_password = secret_setting("REDIS_PASSWORD", "REDIS_PASSWORD_FILE");
	if (config.redis_user && !config.redis_password)
		die("REDIS_USER", "it needs REDIS_PASSWORD");
	config.prefix = setting("STREAM_PREFIX", "outbox:");
	config.maxlen = setting("STREAM_MAXLEN", NULL);
	if (config.maxlen)
		number_setting("STREAM_MAXLEN", NULL, INT32_MAX);
	config.batch = number_setting("RELAY_BATCH", "500", 10000);

	sigemptyset(&no_stop);
	sigaddset(&no_stop, SIGTERM);
	sigaddset(&no_stop, SIGINT);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	signal(SIGPIPE, SIG_IGN);

	forget();
	stats.since = now_ms();
	status = run();
	report(0, true);
	PQfinish(pg);
	redis_close();
	forget();
	return status;
}
