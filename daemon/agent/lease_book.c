#include "daemon/agent/lease_book.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/time.h"
#include "daemon/agent/address_book.h"
#include "daemon/agent/leases.h"
#include "k8s/object.h"

#define BUCKETS		1024
#define WRITE_MS	2000
#define WRITE_STALE_US	(1500 * BASE_USEC_PER_MSEC) /* the engine gives a write up after 2 s */

struct lease {
	struct lease *next, *next_due;
	bool wished;
	bool due, tell; /* in the list; and something in it is to be told */
	bool known; /* what `last` says was seen, or that it does not exist */
	uint64_t uid, watched_uid; /* hashes: of `last`, and of what the watch showed last */
	struct message_lease last;
	char acquired[40];
};

struct lease_book {
	struct agent *agent;
	struct lease *buckets[BUCKETS], *due;
	struct lease_call *calls;
	unsigned writing;
	bool synced;
};

/* A request under way. */
struct lease_call {
	struct lease_call *next, **link;
	struct lease_book *book;
	struct k8s_request *request;
	bool write;
	struct message_lease_write wish; /* of a read: the router, and the version known when it was sent */
};

static uint64_t hash_text(const char *text)
{
	return base_hash(text, strlen(text));
}

static struct lease *find(struct lease_book *book, const char *router)
{
	struct lease **slot = &book->buckets[hash_text(router) % BUCKETS];

	while (*slot && strcmp((*slot)->last.router, router) != 0)
		slot = &(*slot)->next;
	if (!*slot && strlen(router) < MESSAGE_ROUTER_NAME_SIZE) {
		*slot = calloc(1, sizeof **slot);
		if (*slot)
			strcpy((*slot)->last.router, router);
	}
	return *slot;
}

static void forget_if_unused(struct lease_book *book, struct lease *lease)
{
	struct lease **slot;

	if (lease->wished || lease->due || lease->last.exists)
		return;
	slot = &book->buckets[hash_text(lease->last.router) % BUCKETS];
	while (*slot != lease)
		slot = &(*slot)->next;
	*slot = lease->next;
	free(lease);
}

static void set_due(struct lease_book *book, struct lease *lease)
{
	if (!lease->wished || !lease->known)
		return;
	lease->tell = true;
	if (lease->due)
		return;
	lease->due = true;
	lease->next_due = book->due;
	book->due = lease;
	agent_flush_soon(book->agent);
}

static bool is_older(const struct lease *lease, const char *version)
{
	return lease->known && lease->last.version[0] &&
	       k8s_version_compare(version, lease->last.version) < 0;
}

/* Takes in what an object says. False: the engine knows something newer, or knows it already. */
static bool learn(struct lease *lease, const cJSON *object)
{
	const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(object, "metadata");
	const cJSON *spec = cJSON_GetObjectItemCaseSensitive(object, "spec");
	struct message_lease said;

	lease_read(object, &said);
	/* The same version again: known, or gone since. What is made anew has a newer one. */
	if (is_older(lease, said.version) ||
	    (lease->known && strcmp(said.version, lease->last.version) == 0))
		return false;
	memcpy(said.router, lease->last.router, sizeof said.router);
	lease->last = said;
	lease->known = true;
	lease->uid = hash_text(agent_text(metadata, "uid"));
	snprintf(lease->acquired, sizeof lease->acquired, "%s", agent_text(spec, "acquireTime"));
	return true;
}

/* It does not exist (any more). The version stays: what is older is not told again. */
static void learn_absence(struct lease *lease)
{
	struct message_lease none = { 0 };

	memcpy(none.router, lease->last.router, sizeof none.router);
	memcpy(none.version, lease->last.version, sizeof none.version);
	lease->last = none;
	lease->known = true;
	lease->uid = 0;
}

/* --- the watch --- */

void lease_book_object(struct lease_book *book, const cJSON *object)
{
	const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(object, "metadata");
	struct lease *lease = find(book, agent_text(metadata, "name"));

	if (!lease)
		return;
	lease->watched_uid = hash_text(agent_text(metadata, "uid"));
	if (learn(lease, object))
		set_due(book, lease);
}

void lease_book_gone(struct lease_book *book, const char *name)
{
	struct lease *lease = find(book, name);

	if (!lease)
		return;
	/* The one that is gone may be the predecessor of one that we made since. */
	if (lease->last.exists && lease->uid == lease->watched_uid) {
		learn_absence(lease);
		set_due(book, lease);
	}
	lease->watched_uid = 0;
	forget_if_unused(book, lease);
}

void lease_book_synced(struct lease_book *book)
{
	const char *version = k8s_informer_version(book->agent->sources[AGENT_LEASES].informer);

	book->synced = true;
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct lease *lease = book->buckets[i]; lease; lease = lease->next) {
			if (!lease->wished)
				continue;
			if (!lease->known) {
				learn_absence(lease);
				set_due(book, lease);
			} else if (lease->last.exists && lease->uid != lease->watched_uid &&
				   !is_older(lease, version)) {
				/* Written by us and not in a newer list: made and deleted meanwhile? */
				lease_book_read(book, lease->last.router);
			}
		}
}

/* --- the engine's wishes --- */

void lease_book_wished(struct lease_book *book, const char *router)
{
	struct lease *lease = find(book, router);

	if (!lease || lease->wished)
		return;
	lease->wished = true;
	if (!lease->known && book->synced)
		learn_absence(lease);
	set_due(book, lease);
}

void lease_book_unwished(struct lease_book *book, const char *router)
{
	struct lease *lease = find(book, router);

	if (!lease)
		return;
	lease->wished = false;
	forget_if_unused(book, lease);
}

static void tell(struct lease_book *book, const struct lease *lease)
{
	struct message *message = agent_message(book->agent, MESSAGE_LEASE);

	message->lease = lease->last;
	if (!lease->last.exists)
		message->lease.version[0] = '\0';
	agent_send(book->agent, message);
}

void lease_book_flush(struct lease_book *book)
{
	while (book->due) {
		struct lease *lease = book->due;

		book->due = lease->next_due;
		lease->due = false;
		if (lease->wished && lease->tell)
			tell(book, lease);
		lease->tell = false;
		forget_if_unused(book, lease);
	}
}

/* --- requests --- */

static void end_call(struct lease_call *call)
{
	*call->link = call->next;
	if (call->next)
		call->next->link = call->link;
	call->book->writing -= call->write;
	free(call);
}

static struct lease_call *begin_call(struct lease_book *book, bool write)
{
	struct lease_call *call = calloc(1, sizeof *call);

	if (!call)
		return NULL;
	call->book = book;
	call->write = write;
	book->writing += write;
	call->next = book->calls;
	call->link = &book->calls;
	if (call->next)
		call->next->link = &call->next;
	book->calls = call;
	return call;
}

static void answer(struct lease_book *book, const struct message_lease_write *wish,
		   enum message_write_result result, const struct lease *lease)
{
	struct message *message = agent_message(book->agent, MESSAGE_LEASE_RESULT);
	struct message_lease_result *told = &message->lease_result;

	memset(told, 0, sizeof *told);
	told->id = wish->id;
	told->result = (uint8_t)result;
	if (lease)
		told->lease = lease->last;
	memcpy(told->lease.router, wish->lease.router, sizeof told->lease.router);
	agent_send(book->agent, message);
}

static void path_of(const struct lease_book *book, const char *router, char path[static 512])
{
	snprintf(path, 512, "/apis/coordination.k8s.io/v1/namespaces/%s/leases%s%s",
		 book->agent->namespace, *router ? "/" : "", router);
}

static void on_read(void *userdata, const struct k8s_response *response)
{
	struct lease_call *call = userdata;
	struct lease_book *book = call->book;
	struct lease *lease = find(book, call->wish.lease.router);

	agent_report(book->agent, AGENT_TASK_READ + AGENT_LEASES, response);
	if (lease && response->result == K8S_RESULT_OK) {
		/* Asked for, so told also if it is what was told before; an older one never. */
		learn(lease, response->body);
		set_due(book, lease);
	} else if (lease && response->result == K8S_RESULT_NOT_FOUND &&
		   strcmp(lease->last.version, call->wish.lease.version) == 0) {
		/* A 404 has no version: if something was heard meanwhile, the watch knows better. */
		learn_absence(lease);
		set_due(book, lease);
	}
	end_call(call);
}

void lease_book_read(struct lease_book *book, const char *router)
{
	struct lease_call *call = begin_call(book, false);
	const struct lease *known = find(book, router);
	struct k8s_call what = { .method = "GET", .lane = K8S_LANE_LEASE, .timeout_ms = WRITE_MS };
	char path[512];

	if (!call)
		return;
	snprintf(call->wish.lease.router, sizeof call->wish.lease.router, "%s", router);
	if (known)
		memcpy(call->wish.lease.version, known->last.version,
		       sizeof call->wish.lease.version);
	path_of(book, router, path);
	what.path = path;
	call->request = k8s_client_call(book->agent->client, &what, on_read, call);
	if (!call->request)
		end_call(call);
}

/*
 * It landed. If the watch was faster and has told of something on top of it already, that is what
 * counts: ours still if the holder is the one we wrote.
 */
static void on_landed(struct lease_book *book, const struct message_lease_write *wish,
		      const struct k8s_response *response)
{
	struct lease *lease = find(book, wish->lease.router);

	if (!lease || !response->body) {
		answer(book, wish, MESSAGE_WRITE_UNKNOWN, NULL);
		return;
	}
	learn(lease, response->body);
	lease->tell = false; /* the result tells it */
	if (lease->last.exists && strcmp(lease->last.holder, wish->lease.holder) == 0) {
		answer(book, wish, MESSAGE_WRITE_OK, lease);
	} else {
		tell(book, lease);
		answer(book, wish, MESSAGE_WRITE_CONFLICT, NULL);
	}
}

/* What the Lease says now decides; it is asked for unless it is known. */
static void on_lost_race(struct lease_book *book, const struct message_lease_write *wish)
{
	const struct lease *lease = find(book, wish->lease.router);

	answer(book, wish, MESSAGE_WRITE_CONFLICT, NULL);
	if (!lease || !lease->known || strcmp(lease->last.version, wish->lease.version) == 0)
		lease_book_read(book, wish->lease.router);
}

static void on_written(void *userdata, const struct k8s_response *response)
{
	struct lease_call *call = userdata;
	struct lease_book *book = call->book;
	struct message_lease_write wish = call->wish;
	struct lease *lease;

	end_call(call);
	switch (response->result) {
	case K8S_RESULT_OK:
		agent_report(book->agent, AGENT_TASK_LEASE_WRITE, response);
		on_landed(book, &wish, response);
		return;
	case K8S_RESULT_CONFLICT:
	case K8S_RESULT_EXISTS:
		on_lost_race(book, &wish);
		return;
	case K8S_RESULT_NOT_FOUND:
		lease = find(book, wish.lease.router);
		if (wish.lease.version[0] && lease) {
			/* Deleted meanwhile: that is a lost race, too. Made anew even, perhaps. */
			if (strcmp(lease->last.version, wish.lease.version) == 0)
				learn_absence(lease);
			tell(book, lease);
			answer(book, &wish, MESSAGE_WRITE_CONFLICT, NULL);
			return;
		}
		agent_report(book->agent, AGENT_TASK_LEASE_WRITE, response);
		answer(book, &wish, MESSAGE_WRITE_REFUSED, NULL);
		return;
	case K8S_RESULT_GONE:
	case K8S_RESULT_INVALID:
	case K8S_RESULT_FORBIDDEN:
		agent_report(book->agent, AGENT_TASK_LEASE_WRITE, response);
		answer(book, &wish, MESSAGE_WRITE_REFUSED, NULL);
		return;
	case K8S_RESULT_UNAUTHORIZED:
	case K8S_RESULT_THROTTLED:
	case K8S_RESULT_SERVER_ERROR:
	case K8S_RESULT_UNREACHABLE:
	case K8S_RESULT_UNKNOWN:
		agent_report(book->agent, AGENT_TASK_LEASE_WRITE, response);
		answer(book, &wish, MESSAGE_WRITE_UNKNOWN, NULL);
		lease_book_read(book, wish.lease.router); /* it may have landed */
		return;
	}
}

void lease_book_write(struct lease_book *book, const struct message_lease_write *wish)
{
	const struct message_lease *lease = &wish->lease;
	struct lease *known = find(book, lease->router);
	struct k8s_call what = { .lane = K8S_LANE_LEASE, .timeout_ms = WRITE_MS };
	struct lease_call *call;
	cJSON *owners, *body;
	char path[512];

	/* We were stopped for a while: the engine has given it up, and the world has moved on. */
	if (base_usec_since(agent_now(book->agent), wish->sent_us) > WRITE_STALE_US) {
		answer(book, wish, MESSAGE_WRITE_UNKNOWN, NULL);
		lease_book_read(book, lease->router);
		return;
	}
	call = begin_call(book, true);
	if (!call) {
		answer(book, wish, MESSAGE_WRITE_UNKNOWN, NULL);
		return;
	}
	call->wish = *wish;
	owners = address_book_owners(book->agent->addresses, lease->router);
	body = lease_write(lease, book->agent->namespace,
			   known && known->last.exists &&
					   strcmp(known->last.holder, lease->holder) == 0
				   ? known->acquired
				   : "",
			   owners);
	path_of(book, lease->version[0] ? lease->router : "", path);
	what.method = lease->version[0] ? "PUT" : "POST";
	what.path = path;
	what.body = body;
	call->request = k8s_client_call(book->agent->client, &what, on_written, call);
	cJSON_Delete(owners);
	cJSON_Delete(body);
	if (!call->request) {
		answer(book, wish, MESSAGE_WRITE_UNKNOWN, NULL);
		end_call(call);
	}
}

unsigned lease_book_writing(const struct lease_book *book)
{
	return book->writing;
}

int lease_book_new(struct lease_book **book, struct agent *agent)
{
	*book = calloc(1, sizeof **book);
	if (!*book)
		return -1;
	(*book)->agent = agent;
	return 0;
}

void lease_book_free(struct lease_book *book)
{
	if (!book)
		return;
	while (book->calls) {
		k8s_request_cancel(book->calls->request);
		end_call(book->calls);
	}
	for (size_t i = 0; i < BUCKETS; i++)
		while (book->buckets[i]) {
			struct lease *next = book->buckets[i]->next;

			free(book->buckets[i]);
			book->buckets[i] = next;
		}
	free(book);
}

bool lease_book_overtaken(struct lease_book *book, const char *router, uint32_t term)
{
	const struct lease *lease = find(book, router);

	return lease && lease->last.exists && lease->last.term > term && lease->last.holder[0] &&
	       strcmp(lease->last.holder, book->agent->node) != 0;
}
