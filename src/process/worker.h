/*
 * worker.h
 *		A short-lived process that does one piece of work in one database.
 */
#ifndef SAGAZ_WORKER_H
#define SAGAZ_WORKER_H

#include "postgres.h"

#include "postmaster/bgworker.h"
#include "shmem/shared.h"

extern bool worker_start(Oid database, WorkerKind kind, BackgroundWorkerHandle **handle);

#endif							/* SAGAZ_WORKER_H */
