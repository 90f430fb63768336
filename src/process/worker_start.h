/*
 * worker_start.h
 *		Asking the postmaster for a worker.
 */
#ifndef SAGAZ_WORKER_START_H
#define SAGAZ_WORKER_START_H

#include "postgres.h"

#include "postmaster/bgworker.h"
#include "shmem/shared.h"

extern bool worker_start(Oid database, WorkerKind kind, BackgroundWorkerHandle **handle);

#endif							/* SAGAZ_WORKER_START_H */
