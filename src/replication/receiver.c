/*
 * receiver.c
 *		The WAL receiver as the server's shared memory has it.
 *
 * Invariant: its fields are copied under its spinlock, and judged after.
 */
#include "replication/receiver.h"

#include "storage/spin.h"
#include "utils/timestamp.h"

#define QUIET_START		(2 * USECS_PER_SEC)

/*
 * A receiver sets both times to its own start, before it is connected. Taking
 * that for a message would hide a lost upstream behind each new attempt. But
 * one that stays connected and is sent nothing had all of the upstream's WAL
 * when it began: a walsender sends what it has at once.
 */
static void
judge_contact(ReplReceiver *receiver, TimestampTz now)
{
	receiver->heard = receiver->message_received != 0 &&
		receiver->message_received != receiver->message_sent;
	receiver->quiet_since = 0;
	if (!receiver->heard && receiver->pid != 0 &&
		receiver->state == WALRCV_STREAMING && receiver->host[0] != '\0' &&
		now - receiver->message_received > QUIET_START)
		receiver->quiet_since = receiver->message_received;
}

/* Reads the WAL receiver at one moment, now. */
void
replication_receiver_read(ReplReceiver *receiver, TimestampTz now)
{
	SpinLockAcquire(&WalRcv->mutex);
	receiver->pid = WalRcv->pid;
	receiver->state = WalRcv->walRcvState;
	receiver->received = WalRcv->flushedUpto;
	receiver->received_tli = WalRcv->receivedTLI;
	receiver->upstream_end = WalRcv->latestWalEnd;
	receiver->message_sent = WalRcv->lastMsgSendTime;
	receiver->message_received = WalRcv->lastMsgReceiptTime;
	receiver->host[0] = '\0';
	receiver->port = 0;
	if (WalRcv->ready_to_display)
	{
		strlcpy(receiver->host, WalRcv->sender_host, NI_MAXHOST);
		receiver->port = WalRcv->sender_port;
	}
	strlcpy(receiver->slot_name, WalRcv->slotname, NAMEDATALEN);
	SpinLockRelease(&WalRcv->mutex);
	judge_contact(receiver, now);
}
