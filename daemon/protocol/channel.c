#include "daemon/protocol/channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOCKET_BUFFER_SIZE (4 * 1024 * 1024)
#define MESSAGES_PER_TURN  64 /* then the loop's more urgent sources get their turn */

struct waiting {
	struct waiting *next;
	size_t size;
	uint8_t data[];
};

struct channel {
	int fd;
	sd_event_source *io;
	sd_event_source *loss;
	struct channel_handlers handlers;
	void *userdata;
	struct waiting *first, **last;
	size_t waiting_size;
	int lost;
	bool is_lost;
	struct message message;
	uint8_t buffer[MESSAGE_SIZE_MAX];
};

int channel_pair(int fds[2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return -errno;
	for (int i = 0; i < 2; i++) {
		int size = SOCKET_BUFFER_SIZE;

		/* Without the privilege the usual limit holds; messages still fit. */
		if (setsockopt(fds[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
			setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	}
	return 0;
}

static int on_loss(sd_event_source *source, void *userdata)
{
	struct channel *channel = userdata;

	(void)source;
	channel->handlers.on_lost(channel->userdata, channel->lost);
	return 0;
}

/* Tells the owner from the loop, never from inside channel_send(). */
static void lose(struct channel *channel, int error)
{
	if (channel->is_lost)
		return;
	channel->is_lost = true;
	channel->lost = error;
	sd_event_source_set_enabled(channel->io, SD_EVENT_OFF);
	sd_event_source_set_enabled(channel->loss, SD_EVENT_ONESHOT);
}

static void drain_queue(struct channel *channel)
{
	while (channel->first) {
		struct waiting *head = channel->first;

		if (send(channel->fd, head->data, head->size, MSG_NOSIGNAL) < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN)
				lose(channel, -errno);
			return;
		}
		channel->first = head->next;
		if (!channel->first)
			channel->last = &channel->first;
		channel->waiting_size -= head->size;
		free(head);
	}
	sd_event_source_set_io_events(channel->io, EPOLLIN);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct channel *channel = userdata;

	(void)source;
	if (revents & EPOLLOUT)
		drain_queue(channel);
	for (int i = 0; i < MESSAGES_PER_TURN && !channel->is_lost; i++) {
		ssize_t size = recv(fd, channel->buffer, sizeof channel->buffer, MSG_TRUNC);
		int r;

		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0 && errno == EAGAIN)
			break;
		if (size <= 0) {
			lose(channel, size < 0 ? -errno : 0);
			break;
		}
		if ((size_t)size > sizeof channel->buffer)
			r = -EMSGSIZE;
		else
			r = message_decode(&channel->message, channel->buffer, (size_t)size);
		if (r < 0)
			lose(channel, r);
		else
			channel->handlers.on_message(channel->userdata, &channel->message);
	}
	return 0;
}

int channel_new(struct channel **channel, sd_event *event, int fd, int64_t priority,
		const struct channel_handlers *handlers, void *userdata)
{
	struct channel *new = calloc(1, sizeof *new);
	int r;

	if (!new) {
		close(fd);
		return -ENOMEM;
	}
	new->fd = fd;
	new->handlers = *handlers;
	new->userdata = userdata;
	new->last = &new->first;
	r = sd_event_add_io(event, &new->io, fd, EPOLLIN, on_io, new);
	if (r >= 0)
		r = sd_event_source_set_priority(new->io, priority);
	if (r >= 0)
		r = sd_event_add_defer(event, &new->loss, on_loss, new);
	if (r >= 0)
		r = sd_event_source_set_enabled(new->loss, SD_EVENT_OFF);
	if (r < 0) {
		channel_free(new);
		return r;
	}
	*channel = new;
	return 0;
}

int channel_send(struct channel *channel, const struct message *message)
{
	static uint8_t buffer[MESSAGE_SIZE_MAX]; /* one thread, and not kept over the call */
	struct waiting *waiting;
	int size;

	if (channel->is_lost)
		return -ENOTCONN;
	size = message_encode(message, buffer, sizeof buffer);
	if (size < 0)
		return size;
	if (!channel->first) {
		ssize_t sent;

		do
			sent = send(channel->fd, buffer, (size_t)size, MSG_NOSIGNAL);
		while (sent < 0 && errno == EINTR);
		if (sent >= 0)
			return 0;
		if (errno != EAGAIN) {
			lose(channel, -errno);
			return -ENOTCONN;
		}
	}
	if (channel->waiting_size + (size_t)size > CHANNEL_QUEUE_MAX) {
		lose(channel, -ENOBUFS);
		return -ENOBUFS;
	}
	waiting = malloc(sizeof *waiting + (size_t)size);
	if (!waiting) {
		lose(channel, -ENOMEM);
		return -ENOMEM;
	}
	waiting->next = NULL;
	waiting->size = (size_t)size;
	memcpy(waiting->data, buffer, (size_t)size);
	*channel->last = waiting;
	channel->last = &waiting->next;
	channel->waiting_size += (size_t)size;
	sd_event_source_set_io_events(channel->io, EPOLLIN | EPOLLOUT);
	return 0;
}

void channel_free(struct channel *channel)
{
	if (!channel)
		return;
	while (channel->first) {
		struct waiting *next = channel->first->next;

		free(channel->first);
		channel->first = next;
	}
	sd_event_source_disable_unref(channel->io);
	sd_event_source_disable_unref(channel->loss);
	close(channel->fd);
	free(channel);
}
