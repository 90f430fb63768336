"""The statements of the specification's client, by asyncpg as the client uses it:
default statement cache, pools of 5 to 20. test/t/771_client.pl and 772_client_plans.pl run it.

usage: client.py run DSN CACHE FILE        inserts and claims until there is the file; prints what came of it
       client.py plans DSN                 prints each statement whose plan reads a whole table or partition
       client.py claim DSN                 prints the quickest of some claims of 100 events, in ms
"""
import asyncio
import datetime
import json
import os
import random
import sys
import uuid

import asyncpg

DDL = [
    """CREATE TABLE IF NOT EXISTS saga_outbox (event_id uuid PRIMARY KEY, saga_id varchar(255) NOT NULL,
        aggregate_type varchar(255) NOT NULL DEFAULT 'saga', aggregate_id varchar(255) NOT NULL,
        event_type varchar(255) NOT NULL, payload jsonb NOT NULL, headers jsonb NOT NULL DEFAULT '{}',
        status varchar(50) NOT NULL DEFAULT 'pending', created_at timestamptz NOT NULL DEFAULT now(),
        claimed_at timestamptz, sent_at timestamptz, retry_count int NOT NULL DEFAULT 0, last_error text,
        worker_id varchar(255),
        CHECK (status IN ('pending', 'claimed', 'sent', 'failed', 'dead_letter')))""",
    "CREATE INDEX IF NOT EXISTS client_outbox_pending ON saga_outbox (created_at) WHERE status = 'pending'",
    "CREATE INDEX IF NOT EXISTS client_outbox_claimed ON saga_outbox (claimed_at) WHERE status = 'claimed'",
    "CREATE INDEX IF NOT EXISTS client_outbox_saga ON saga_outbox (saga_id)",
    "CREATE TABLE IF NOT EXISTS saga_outbox_archive (LIKE saga_outbox INCLUDING ALL)",
    """CREATE TABLE IF NOT EXISTS consumer_inbox (event_id uuid PRIMARY KEY, consumer_name varchar(255) NOT NULL,
        source_topic varchar(255) NOT NULL, event_type varchar(255) NOT NULL, payload jsonb NOT NULL,
        consumed_at timestamptz NOT NULL DEFAULT now(), processing_duration_ms int)""",
    "CREATE INDEX IF NOT EXISTS client_inbox_consumer ON consumer_inbox (consumer_name, consumed_at)",
    """CREATE TABLE IF NOT EXISTS sagas (saga_id varchar(255) PRIMARY KEY, saga_name varchar(255) NOT NULL,
        status varchar(50) NOT NULL, context jsonb, metadata jsonb,
        created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now())""",
    """CREATE TABLE IF NOT EXISTS saga_steps (id serial PRIMARY KEY,
        saga_id varchar(255) REFERENCES sagas ON DELETE CASCADE, step_name varchar(255) NOT NULL,
        status varchar(50) NOT NULL, result jsonb, error text, executed_at timestamptz, compensated_at timestamptz,
        retry_count int DEFAULT 0, UNIQUE (saga_id, step_name))""",
    "CREATE INDEX IF NOT EXISTS client_steps_saga ON saga_steps (saga_id)",
    "CREATE INDEX IF NOT EXISTS client_steps_status ON saga_steps (status)",
]

INSERT = """INSERT INTO saga_outbox (event_id, saga_id, aggregate_type, aggregate_id, event_type, payload, headers,
    status, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING *"""
CLAIM = """WITH claimable AS (SELECT event_id FROM saga_outbox WHERE status = 'pending' AND created_at <= $1
    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)
    UPDATE saga_outbox SET status = 'claimed', claimed_at = $3, worker_id = $4
    WHERE event_id IN (SELECT event_id FROM claimable) RETURNING *"""
SENT = "UPDATE saga_outbox SET status = 'sent', sent_at = $2 WHERE event_id = $1"
FAILED = "UPDATE saga_outbox SET status = 'failed', last_error = $2, retry_count = retry_count + 1 WHERE event_id = $1"
AGAIN = "UPDATE saga_outbox SET status = 'pending', claimed_at = NULL, worker_id = NULL WHERE event_id = $1"
DEAD = "UPDATE saga_outbox SET status = 'dead_letter' WHERE event_id = $1"
STUCK = "SELECT * FROM saga_outbox WHERE status = 'claimed' AND claimed_at < $1"
RELEASE = """UPDATE saga_outbox SET status = 'pending', claimed_at = NULL, worker_id = NULL
    WHERE status = 'claimed' AND claimed_at < $1"""
BY_ID = "SELECT * FROM saga_outbox WHERE event_id = $1"
BY_SAGA = "SELECT * FROM saga_outbox WHERE saga_id = $1 ORDER BY created_at"
COUNT = "SELECT count(*) FROM saga_outbox WHERE status = 'pending'"
DEAD_LETTERS = "SELECT * FROM saga_outbox WHERE status = 'dead_letter' ORDER BY created_at DESC LIMIT $1"
ARCHIVE = "INSERT INTO saga_outbox_archive SELECT * FROM saga_outbox WHERE status = 'sent' AND sent_at < $1"
DELETE = "DELETE FROM saga_outbox WHERE status = 'sent' AND sent_at < $1"
CONSUME = """INSERT INTO consumer_inbox (event_id, consumer_name, source_topic, event_type, payload, consumed_at)
    VALUES ($1, $2, $3, $4, $5, $6)"""
CONSUMED = "UPDATE consumer_inbox SET processing_duration_ms = $2 WHERE event_id = $1"
FORGET = "DELETE FROM consumer_inbox WHERE event_id = $1"
FORGET_OLD = "DELETE FROM consumer_inbox WHERE consumer_name = $1 AND consumed_at < $2"
STEP = """INSERT INTO saga_steps (saga_id, step_name, status, result, error, executed_at, compensated_at, retry_count)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (saga_id, step_name)
    DO UPDATE SET status = excluded.status, result = excluded.result, retry_count = excluded.retry_count"""
STEPS = "SELECT * FROM saga_steps WHERE saga_id = $1 ORDER BY id"


async def fenced(call):
    """A partition that is being retired refuses writes for a moment, and then stays."""
    for _ in range(200):
        try:
            return await call()
        except asyncpg.ObjectNotInPrerequisiteStateError:
            await asyncio.sleep(0.05)
    raise TimeoutError("writes are refused for long")


class InTransactions:
    """A statement is prepared and executed in two round trips, without a cache as well: behind a PgBouncer that
    knows no prepared statements, only a transaction keeps the server connection in between."""

    def __init__(self, pool):
        self.pool = pool

    def __getattr__(self, name):
        async def call(*args):
            async with self.pool.acquire() as connection, connection.transaction():
                return await getattr(connection, name)(*args)

        return call


class Run:
    def __init__(self, pool, stop):
        self.pool = pool
        self.stop = stop
        self.inserted = set()
        self.sent = []
        self.abandoned = 0

    def over(self):
        return os.path.exists(self.stop)

    async def clock(self):
        return await self.pool.fetchval("SELECT sagaz_ha.clock()")

    async def insert(self, number):
        while not self.over():
            now = await self.clock()
            event = uuid.uuid4()
            row = await self.pool.fetchrow(
                INSERT, event, f"saga-{number}", "order", f"order-{number}", "order.created", '{"n": 1}', "{}", "pending",
                now - datetime.timedelta(hours=random.uniform(0, 72)))
            assert row["event_id"] == event and row["status"] == "pending" and row["retry_count"] == 0
            self.inserted.add(event)

    async def claim(self, worker, crash=False):
        now = await self.clock()
        rows = await fenced(lambda: self.pool.fetch(CLAIM, now, 10, now, worker))
        for row in rows:
            if crash and random.random() < 0.05:
                self.abandoned += 1
                continue
            if crash and random.random() < 0.05:
                await fenced(lambda: self.pool.execute(FAILED, row["event_id"], "broker"))
                await fenced(lambda: self.pool.execute(AGAIN, row["event_id"]))
                continue
            done = await fenced(lambda: self.pool.execute(SENT, row["event_id"], now))
            assert done == "UPDATE 1", f"{row['event_id']}: {done}"
            self.sent.append(row["event_id"])
        return len(rows)

    async def claimer(self, worker):
        while not self.over():
            if await self.claim(worker, crash=True) == 0:
                await asyncio.sleep(0.01)

    async def last(self, worker):
        while await self.claim(worker) > 0:
            pass


async def run(dsn, cache, stop):
    options = {} if cache == "default" else {"statement_cache_size": int(cache)}
    # the client's own DDL, which finds everything there
    connection = await asyncpg.connect(dsn, **options)
    for statement in DDL:
        await connection.execute(statement)
    await connection.close()
    async with asyncpg.create_pool(dsn, min_size=5, max_size=20, **options) as pool:
        if options:
            pool = InTransactions(pool)
        a = Run(pool, stop)
        await asyncio.gather(*(a.insert(n) for n in range(4)), *(a.claimer(f"w{n}") for n in range(8)))
        now = await a.clock()
        released = await fenced(lambda: pool.execute(RELEASE, now + datetime.timedelta(days=1)))
        await asyncio.gather(*(a.last(f"w{n}") for n in range(8)))
        await rest(pool, a)
        print(json.dumps({
            "inserted": len(a.inserted), "sent": len(a.sent), "twice": len(a.sent) - len(set(a.sent)),
            "lost": len(a.inserted - set(a.sent)), "released": released, "abandoned": a.abandoned,
            "pending": await pool.fetchval(COUNT)}))


async def rest(pool, a):
    """What the client does besides: archive, dead letters, inbox, steps."""
    now = await a.clock()
    event = uuid.uuid4()
    await pool.execute(INSERT, event, "s", "order", "o", "order.created", "{}", "{}", "pending", now)
    await fenced(lambda: pool.execute(DEAD, event))
    assert [r["event_id"] for r in await pool.fetch(DEAD_LETTERS, 10)] == [event]
    assert (await pool.fetchrow(BY_ID, event))["status"] == "dead_letter"
    assert len(await pool.fetch(BY_SAGA, "s")) == 1
    assert await pool.fetch(STUCK, now + datetime.timedelta(days=1)) == []
    before = now + datetime.timedelta(days=1)
    archived = await pool.execute(ARCHIVE, before)
    deleted = await pool.execute(DELETE, before)
    # a partition may be dropped in between
    assert int(archived.split()[-1]) >= int(deleted.split()[-1]) > 0, f"{archived}, {deleted}"
    assert await pool.fetchval("SELECT count(*) FROM saga_outbox_archive") == int(archived.split()[-1])
    await pool.execute("TRUNCATE saga_outbox_archive")

    await pool.execute(CONSUME, event, "billing", "t", "order.created", "{}", now)
    await pool.execute(CONSUME, event, "shipping", "t", "order.created", "{}", now)
    try:
        await pool.execute(CONSUME, event, "billing", "t", "order.created", "{}", now)
        raise AssertionError("a duplicate")
    except asyncpg.UniqueViolationError:
        pass
    assert await pool.execute(CONSUMED, event, 12) == "UPDATE 2"
    assert await pool.execute(FORGET_OLD, "billing", before) == "DELETE 1"
    assert await pool.execute(FORGET, event) == "DELETE 1"

    steps = ["reserve", "charge", "book", "mail", "archive", "close"]
    for step in steps:
        await pool.execute(STEP, f"s-{event}", step, "completed", "{}", None, now, None, 0)
    await pool.execute(STEP, f"s-{event}", "charge", "compensated", "{}", "refused", now, now, 1)
    rows = await pool.fetch(STEPS, f"s-{event}")
    assert [r["step_name"] for r in rows] == steps and rows[1]["status"] == "compensated"


async def plans(dsn):
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE IF NOT EXISTS saga_outbox_archive (LIKE saga_outbox INCLUDING ALL)")
    event, now = uuid.uuid4(), await connection.fetchval("SELECT max(created_at) FROM saga_outbox")
    old = await connection.fetchval("SELECT min(sent_at) FROM saga_outbox") + datetime.timedelta(minutes=1)
    statements = {
        "claim": (CLAIM, now, 100, now, "w"), "sent": (SENT, event, now), "failed": (FAILED, event, "x"),
        "again": (AGAIN, event), "dead": (DEAD, event), "stuck": (STUCK, now), "release": (RELEASE, now),
        "by_id": (BY_ID, event), "by_saga": (BY_SAGA, "saga-1"), "count": (COUNT,), "dead_letters": (DEAD_LETTERS, 10),
        "archive": (ARCHIVE, old), "delete": (DELETE, old), "consumed": (CONSUMED, event, 1), "forget": (FORGET, event),
        "forget_old": (FORGET_OLD, "consumer-1", old), "steps": (STEPS, "saga-1"),
    }
    for mode in "force_custom_plan", "force_generic_plan":
        await connection.execute(f"SET plan_cache_mode = {mode}")
        for name, (statement, *values) in statements.items():
            lines = [r[0] for r in await connection.fetch("EXPLAIN (COSTS OFF) " + statement, *values)]
            scans = [line.strip() for line in lines if "Seq Scan" in line]
            uses = sum("Index" in line for line in lines)
            print(f"{name} {mode}: {'; '.join(scans) if scans else 'index' if uses else 'nothing'}")


async def claim(dsn):
    connection = await asyncpg.connect(dsn)
    now = await connection.fetchval("SELECT max(created_at) FROM saga_outbox")
    times = []
    # others use the machine as well: the quickest counts
    while len(times) < 30 or min(times) >= 10 and len(times) < 500:
        start = asyncio.get_running_loop().time()
        assert len(await connection.fetch(CLAIM, now, 100, now, "w")) == 100
        times.append(1000 * (asyncio.get_running_loop().time() - start))
    print(f"{min(times):.2f} {sorted(times)[len(times) // 2]:.2f}")


mode, *arguments = sys.argv[1:]
if mode == "run":
    asyncio.run(run(*arguments))
else:
    asyncio.run({"plans": plans, "claim": claim}[mode](arguments[0]))
