#include "daemon/engine/store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/hash.h"

#define BUCKETS	       4096
#define STATE_MAGIC    "vipd-state-1\n"
#define STATE_SIZE_MAX (256u * 1024 * 1024)

struct entry {
	struct entry *next;
	enum message_type type;
	uint64_t round;
	size_t key_size, size;
	uint8_t bytes[]; /* key, then the encoded message */
};

struct store {
	struct entry *buckets[BUCKETS];
	struct store_handlers handlers;
	void *userdata;
	size_t counts[MESSAGE_TYPE_COUNT];
	uint64_t round, revision;
	bool syncing;
	struct message scratch;
};

DEFINE_CLEANUP(FILE, fclose)

static uint8_t encoded[MESSAGE_SIZE_MAX]; /* one thread; not kept over a call */

static size_t port_key(uint8_t *key, const struct base_address *address, uint8_t protocol,
		       uint16_t port)
{
	key[0] = 'p';
	memcpy(key + 1, address, sizeof *address);
	key[1 + sizeof *address] = protocol;
	memcpy(key + 2 + sizeof *address, &port, sizeof port);
	return 2 + sizeof *address + sizeof port;
}

static size_t name_key(uint8_t *key, char kind, const char *name)
{
	size_t length = strlen(name);

	key[0] = (uint8_t)kind;
	memcpy(key + 1, name, length);
	return length + 1;
}

static size_t message_key(const struct message *message, uint8_t key[static 128])
{
	if (message->type == MESSAGE_NODE)
		return name_key(key, 'n', message->node.name);
	if (message->type == MESSAGE_ROUTER)
		return name_key(key, 'r', message->router.name);
	assert(message->type == MESSAGE_SERVICE_PORT);
	return port_key(key, &message->service_port.address, message->service_port.protocol,
			message->service_port.port);
}

static struct entry **find(struct store *store, const uint8_t *key, size_t key_size)
{
	struct entry **slot = &store->buckets[base_hash(key, key_size) % BUCKETS];

	while (*slot &&
	       ((*slot)->key_size != key_size || memcmp((*slot)->bytes, key, key_size) != 0))
		slot = &(*slot)->next;
	return slot;
}

static void decode(const struct entry *entry, struct message *message)
{
	int r = message_decode(message, entry->bytes + entry->key_size, entry->size);

	assert(r == 0); /* we encoded it */
	(void)r;
}

static void drop(struct store *store, struct entry **slot)
{
	struct entry *entry = *slot;

	*slot = entry->next;
	store->counts[entry->type]--;
	store->revision++;
	decode(entry, &store->scratch);
	free(entry);
	store->handlers.on_removed(store->userdata, &store->scratch);
}

int store_new(struct store **store, const struct store_handlers *handlers, void *userdata)
{
	struct store *new = calloc(1, sizeof *new);

	if (!new)
		return -ENOMEM;
	new->handlers = *handlers;
	new->userdata = userdata;
	*store = new;
	return 0;
}

void store_free(struct store *store)
{
	if (!store)
		return;
	for (size_t i = 0; i < BUCKETS; i++)
		while (store->buckets[i]) {
			struct entry *next = store->buckets[i]->next;

			free(store->buckets[i]);
			store->buckets[i] = next;
		}
	free(store);
}

int store_put(struct store *store, const struct message *message)
{
	uint8_t key[128];
	size_t key_size = message_key(message, key);
	struct entry **slot = find(store, key, key_size), *entry = *slot;
	int size = message_encode(message, encoded, sizeof encoded);

	if (size < 0)
		return size;
	if (entry && entry->size == (size_t)size &&
	    memcmp(entry->bytes + key_size, encoded, (size_t)size) == 0) {
		entry->round = store->round;
		return 0;
	}
	entry = malloc(sizeof *entry + key_size + (size_t)size);
	if (!entry)
		return -ENOMEM;
	entry->type = message->type;
	entry->round = store->round;
	entry->key_size = key_size;
	entry->size = (size_t)size;
	memcpy(entry->bytes, key, key_size);
	memcpy(entry->bytes + key_size, encoded, (size_t)size);
	if (*slot) {
		entry->next = (*slot)->next;
		free(*slot);
	} else {
		entry->next = NULL;
		store->counts[message->type]++;
	}
	*slot = entry;
	store->revision++;
	store->handlers.on_put(store->userdata, message);
	return 1;
}

int store_remove(struct store *store, const struct message_remove *removed)
{
	uint8_t key[128];
	size_t key_size;
	struct entry **slot;

	if (removed->kind == MESSAGE_KIND_NODE)
		key_size = name_key(key, 'n', removed->name);
	else if (removed->kind == MESSAGE_KIND_ROUTER)
		key_size = name_key(key, 'r', removed->name);
	else
		key_size = port_key(key, &removed->address, removed->protocol, removed->port);
	slot = find(store, key, key_size);
	if (!*slot)
		return 0;
	drop(store, slot);
	return 1;
}

void store_sync_begin(struct store *store)
{
	store->round++;
	store->syncing = true;
}

void store_sync_end(struct store *store)
{
	if (!store->syncing)
		return;
	store->syncing = false;
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct entry **slot = &store->buckets[i]; *slot;) {
			if ((*slot)->round == store->round)
				slot = &(*slot)->next;
			else
				drop(store, slot);
		}
}

bool store_syncing(const struct store *store)
{
	return store->syncing;
}

void store_each(const struct store *store, enum message_type type,
		void (*callback)(void *userdata, const struct message *message), void *userdata)
{
	struct message *message = &((struct store *)store)->scratch;

	if (store->counts[type] == 0)
		return;
	for (size_t i = 0; i < BUCKETS; i++)
		for (const struct entry *entry = store->buckets[i]; entry; entry = entry->next)
			if (entry->type == type) {
				decode(entry, message);
				callback(userdata, message);
			}
}

const struct message_service_port *store_port(struct store *store,
					      const struct base_address *address, uint8_t protocol,
					      uint16_t port)
{
	uint8_t key[128];
	size_t key_size = port_key(key, address, protocol, port);
	struct entry *entry = *find(store, key, key_size);

	if (!entry)
		return NULL;
	decode(entry, &store->scratch);
	return &store->scratch.service_port;
}

void store_each_port(const struct store *store, const struct base_address *address,
		     void (*callback)(void *userdata, const struct base_address *address,
				      uint8_t protocol, uint16_t port),
		     void *userdata)
{
	for (size_t i = 0; i < BUCKETS; i++)
		for (const struct entry *entry = store->buckets[i]; entry; entry = entry->next) {
			struct base_address found;
			uint16_t port;

			if (entry->type != MESSAGE_SERVICE_PORT)
				continue;
			memcpy(&found, entry->bytes + 1, sizeof found); /* see port_key() */
			if (address && !base_address_equal(&found, address))
				continue;
			memcpy(&port, entry->bytes + 2 + sizeof found, sizeof port);
			callback(userdata, &found, entry->bytes[1 + sizeof found], port);
		}
}

size_t store_count(const struct store *store, enum message_type type)
{
	return store->counts[type];
}

uint64_t store_revision(const struct store *store)
{
	return store->revision;
}

static int write_records(const struct store *store, FILE *file, uint64_t *checksum)
{
	for (size_t i = 0; i < BUCKETS; i++)
		for (const struct entry *entry = store->buckets[i]; entry; entry = entry->next) {
			uint32_t size = (uint32_t)entry->size;
			const uint8_t *data = entry->bytes + entry->key_size;

			if (fwrite(&size, sizeof size, 1, file) != 1 ||
			    fwrite(data, 1, size, file) != size)
				return -EIO;
			*checksum = *checksum * 31 + base_hash(data, size);
		}
	return 0;
}

/* In the child: a new file beside the old one, on the disk, then in its place. */
static int save_now(const struct store *store, const char *path)
{
	CLEANUP(base_free_cleanup) char *temporary = NULL;
	CLEANUP(fclose_cleanup) FILE *file = NULL;
	uint32_t end = UINT32_MAX;
	uint64_t checksum = MESSAGE_VERSION;
	int fd;

	if (asprintf(&temporary, "%s.new", path) < 0)
		return -ENOMEM;
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	file = fdopen(fd, "w");
	if (!file) {
		close(fd);
		return -ENOMEM;
	}
	if (fputs(STATE_MAGIC, file) < 0 || write_records(store, file, &checksum) < 0 ||
	    fwrite(&end, sizeof end, 1, file) != 1 ||
	    fwrite(&checksum, sizeof checksum, 1, file) != 1 || fflush(file) != 0 ||
	    fsync(fd) < 0 || rename(temporary, path) < 0)
		return errno ? -errno : -EIO;
	return 0;
}

int store_save(const struct store *store, const char *path)
{
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid > 0)
		return (int)pid;
	close_range(3, UINT_MAX, 0); /* what it shares with us must not outlive us in it: the lock */
	_exit(save_now(store, path) < 0 ? 1 : 0);
}

static int read_records(struct store *store, FILE *file, bool apply, struct base_error *error)
{
	uint64_t checksum = MESSAGE_VERSION, expected;
	struct message *message = malloc(sizeof *message);
	int r = -EBADMSG;

	while (message) {
		uint32_t size;

		if (fread(&size, sizeof size, 1, file) != 1)
			break;
		if (size == UINT32_MAX) {
			if (fread(&expected, sizeof expected, 1, file) == 1 && expected == checksum)
				r = 0;
			break;
		}
		if (size > sizeof encoded || fread(encoded, 1, size, file) != size)
			break;
		checksum = checksum * 31 + base_hash(encoded, size);
		if (message_decode(message, encoded, size) < 0 ||
		    (message->type != MESSAGE_NODE && message->type != MESSAGE_ROUTER &&
		     message->type != MESSAGE_SERVICE_PORT))
			break;
		if (apply)
			store_put(store, message);
	}
	free(message);
	if (r < 0)
		return base_error_set(error, r, "it is damaged or from another version");
	return 0;
}

int store_load(struct store *store, const char *path, struct base_error *error)
{
	CLEANUP(fclose_cleanup) FILE *file = fopen(path, "re");
	char magic[sizeof STATE_MAGIC] = "";
	struct stat status;
	int r;

	if (!file)
		return base_error_set(error, -errno, "%s", strerror(errno));
	if (fstat(fileno(file), &status) < 0 || status.st_size > STATE_SIZE_MAX ||
	    fread(magic, 1, sizeof STATE_MAGIC - 1, file) != sizeof STATE_MAGIC - 1 ||
	    strcmp(magic, STATE_MAGIC) != 0)
		return base_error_set(error, -EBADMSG, "it is not a state file of this version");
	/* Once to see that it is whole, once to believe it. */
	r = read_records(store, file, false, error);
	if (r < 0)
		return r;
	if (fseek(file, sizeof STATE_MAGIC - 1, SEEK_SET) < 0)
		return base_error_set(error, -errno, "%s", strerror(errno));
	return read_records(store, file, true, error);
}
