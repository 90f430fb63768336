/*
 * receiver.h
 *		The WAL receiver as the server's shared memory has it.
 */
#ifndef SAGAZ_REPLICATION_RECEIVER_H
#define SAGAZ_REPLICATION_RECEIVER_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "replication/walreceiver.h"

typedef struct ReplReceiver
{
	int			pid;
	WalRcvState state;
	XLogRecPtr	received;		/* and flushed */
	TimeLineID	received_tli;
	XLogRecPtr	upstream_end;
	TimestampTz message_sent;	/* by the upstream's clock */
	TimestampTz message_received;
	bool		heard;			/* both times are of a message */
	TimestampTz quiet_since;	/* connected then, and was sent nothing since;
								 * 0 no */
	char		host[NI_MAXHOST];
	int			port;
	char		slot_name[NAMEDATALEN];
} ReplReceiver;

extern void replication_receiver_read(ReplReceiver *receiver, TimestampTz now);

#endif							/* SAGAZ_REPLICATION_RECEIVER_H */
