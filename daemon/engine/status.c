#include "daemon/engine/status.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "daemon/options.h"

#define ANSWER_MAX  (64 * 1024 * 1024)
#define VERIFY_US   (100 * 1000) /* then it is looked whether the rules are verified */
#define VERIFY_MAX  100

struct status_server {
	sd_event_source *io;
	int fd;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	cJSON *(*describe)(void *userdata);
	void *userdata;
};

static int on_connection(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct status_server *server = userdata;
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int size = ANSWER_MAX;
	cJSON *tree;
	char *text;

	(void)source;
	(void)revents;
	if (client < 0)
		return 0;
	tree = server->describe(server->userdata);
	text = tree ? cJSON_PrintUnformatted(tree) : NULL;
	cJSON_Delete(tree);
	/* Into the socket's buffer in one go; what does not fit there is lost, not waited for. */
	setsockopt(client, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
	if (text)
		(void)!send(client, text, strlen(text), MSG_NOSIGNAL);
	free(text);
	close(client);
	return 0;
}

int status_server_new(struct status_server **server, sd_event *event, const char *path,
		      int64_t priority, cJSON *(*describe)(void *userdata), void *userdata)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct status_server *new;
	int r;

	if (strlen(path) >= sizeof address.sun_path)
		return -ENAMETOOLONG;
	new = calloc(1, sizeof *new);
	if (!new)
		return -ENOMEM;
	strcpy(address.sun_path, path);
	strcpy(new->path, path);
	new->describe = describe;
	new->userdata = userdata;
	new->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	unlink(path);
	if (new->fd < 0 || bind(new->fd, (struct sockaddr *)&address, sizeof address) < 0 ||
	    chmod(path, 0600) < 0 || listen(new->fd, 8) < 0)
		r = -errno;
	else
		r = sd_event_add_io(event, &new->io, new->fd, EPOLLIN, on_connection, new);
	if (r >= 0)
		r = sd_event_source_set_priority(new->io, priority);
	if (r < 0) {
		status_server_free(new);
		return r;
	}
	*server = new;
	return 0;
}

void status_server_free(struct status_server *server)
{
	if (!server)
		return;
	sd_event_source_disable_unref(server->io);
	if (server->fd >= 0)
		close(server->fd);
	unlink(server->path);
	free(server);
}

/* Reads the whole document; NULL with a sentence on stderr. */
static cJSON *ask(const char *runtime, const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	CLEANUP(base_close_cleanup) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CLEANUP(base_free_cleanup) char *text = NULL;
	struct timeval patience = { .tv_sec = 5 };
	size_t size = 0, capacity = 0;
	ssize_t got;
	cJSON *tree;

	if ((size_t)snprintf(address.sun_path, sizeof address.sun_path, "%s/%s",
			     runtime, name) >= sizeof address.sun_path) {
		fprintf(stderr, "--runtime-dir %s is too long for a socket\n", runtime);
		return NULL;
	}
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0 ||
	    connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
		fprintf(stderr, "no vipd answers at %s: %s (is it running? is --runtime-dir right?)\n",
			address.sun_path, strerror(errno));
		return NULL;
	}
	do {
		if (capacity - size < 65536) {
			char *grown = realloc(text, capacity = capacity * 2 + 131072);

			if (!grown)
				return NULL;
			text = grown;
		}
		got = recv(fd, text + size, capacity - size - 1, 0);
		if (got > 0)
			size += (size_t)got;
	} while (got > 0 && size < ANSWER_MAX);
	text[size] = '\0';
	tree = cJSON_Parse(text);
	if (!tree)
		fprintf(stderr, "vipd at %s did not answer within %ld s: is it stopped?\n",
			address.sun_path, (long)patience.tv_sec);
	return tree;
}

static const char *text_of(const cJSON *object, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

	return cJSON_IsString(item) && item->valuestring[0] ? item->valuestring : "-";
}

static double number_of(const cJSON *object, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

	return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static void print_age(char age[static 16], double seconds)
{
	if (seconds < 120)
		snprintf(age, 16, "%.0fs", seconds);
	else if (seconds < 7200)
		snprintf(age, 16, "%.0fm", seconds / 60);
	else
		snprintf(age, 16, "%.0fh", seconds / 3600);
}

/* As wide as the longest of the column, its title included. */
static int width_of(const cJSON *list, const char *name, const char *title)
{
	size_t width = strlen(title);
	const cJSON *item;

	cJSON_ArrayForEach(item, list) {
		size_t length = strlen(text_of(item, name));

		if (length > width)
			width = length;
	}
	return (int)width;
}

/* Of many addresses the first ones, and how many more there are; -o json has all. */
static void shorten_addresses(const cJSON *list)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, list) {
		cJSON *whole = cJSON_GetObjectItemCaseSensitive(item, "addresses");
		const char *end = cJSON_IsString(whole) ? whole->valuestring : "";
		char text[256];
		unsigned more = 0;

		for (unsigned i = 0; i < 4 && end; i++)
			end = strchr(end + (i > 0), ',');
		if (!end)
			continue;
		for (const char *comma = end; comma; comma = strchr(comma + 1, ','))
			more++;
		snprintf(text, sizeof text, "%.*s +%u more", (int)(end - whole->valuestring),
			 whole->valuestring, more);
		cJSON_SetValuestring(whole, text);
	}
}

static void print_routers(const cJSON *list)
{
	int names = width_of(list, "name", "ROUTER"), owners = width_of(list, "owner", "OWNER");
	int addresses;
	const cJSON *item;
	char age[16];

	shorten_addresses(list);
	addresses = width_of(list, "addresses", "ADDRESS");
	printf("%-*s  %-*s  %-9s  %-*s  %-6s %-6s %-9s  %s\n", names, "ROUTER", addresses, "ADDRESS",
	       "STATE", owners, "OWNER", "SINCE", "TERM", "DATAPLANE", "REASON");
	cJSON_ArrayForEach(item, list) {
		bool candidate = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(item, "candidate"));
		const char *kept_out = candidate ? text_of(item, "notEligible") : "no candidate";
		const char *mac = text_of(item, "virtualMAC");

		print_age(age, number_of(item, "sinceSeconds"));
		printf("%-*s  %-*s  %-9s  %-*s  %-6s %-6.0f %-9s  %s%s%s%s%s\n", names,
		       text_of(item, "name"), addresses, text_of(item, "addresses"),
		       text_of(item, "state"), owners, text_of(item, "owner"), age,
		       number_of(item, "term"), text_of(item, "dataplane"), text_of(item, "reason"),
		       *kept_out == '-' ? "" : "; not here: ", *kept_out == '-' ? "" : kept_out,
		       *mac == '-' ? "" : "; ", *mac == '-' ? "" : mac);
	}
}

/* The worst of what is held here: which fence is the next to close, who sees the fewest others. */
static void print_holds(const cJSON *list)
{
	const cJSON *item, *worst = NULL;
	double oldest = 0;
	int owned = 0;

	cJSON_ArrayForEach(item, list) {
		if (!cJSON_HasObjectItem(item, "witnesses"))
			continue;
		owned++;
		if (number_of(item, "fenceRefreshedSecondsAgo") > oldest)
			oldest = number_of(item, "fenceRefreshedSecondsAgo");
		if (!worst || number_of(item, "witnesses") - number_of(item, "witnessesAnswering") >
				      number_of(worst, "witnesses") -
					      number_of(worst, "witnessesAnswering"))
			worst = item;
	}
	if (worst)
		printf("\nowned here: %d; oldest fence refreshed %.2fs ago; %.0f of %.0f witnesses answer\n",
		       owned, oldest, number_of(worst, "witnessesAnswering"),
		       number_of(worst, "witnesses"));
}

/* Why which data plane is in force: every reason once. */
static void print_dataplanes(const cJSON *list)
{
	const cJSON *item, *other;

	cJSON_ArrayForEach(item, list) {
		cJSON_ArrayForEach(other, list)
			if (other == item ||
			    (strcmp(text_of(item, "dataplane"), text_of(other, "dataplane")) == 0 &&
			     strcmp(text_of(item, "dataplaneWhy"),
				    text_of(other, "dataplaneWhy")) == 0))
				break;
		if (other == item)
			printf("\ndata plane %s: %s\n", text_of(item, "dataplane"),
			       text_of(item, "dataplaneWhy"));
	}
}

static void print_peers(const cJSON *list)
{
	int names = width_of(list, "node", "PEER"), addresses = width_of(list, "address", "ADDRESS");
	const cJSON *item;
	char age[16];

	printf("\n%-*s  %-*s  %-17s  %s\n", names, "PEER", addresses, "ADDRESS", "MAC", "HEARD");
	cJSON_ArrayForEach(item, list) {
		if (number_of(item, "heardSecondsAgo") < 0)
			strcpy(age, "never");
		else
			snprintf(age, sizeof age, "%.1fs ago", number_of(item, "heardSecondsAgo"));
		printf("%-*s  %-*s  %-17s  %s\n", names, text_of(item, "node"), addresses,
		       text_of(item, "address"), text_of(item, "mac"), age);
	}
}

static void print_table(const cJSON *tree)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(tree, "transitions"), *item;
	int names = width_of(list, "router", "");
	char age[16];

	printf("node %s   fence %s   feeder %s   rules %s", text_of(tree, "node"),
	       text_of(tree, "fence"), text_of(tree, "feeder"), text_of(tree, "rules"));
	if (cJSON_HasObjectItem(tree, "rulesDiffered")) {
		print_age(age, number_of(tree, "rulesVerifiedSecondsAgo"));
		printf(", verified %s ago: ", age);
		if (number_of(tree, "rulesDiffered") > 0)
			printf("%.0f elements differed, put right", number_of(tree, "rulesDiffered"));
		else
			printf("as wanted");
	}
	printf("%s%s\n\n",
	       *text_of(tree, "message") == '-' ? "" : "   ",
	       *text_of(tree, "message") == '-' ? "" : text_of(tree, "message"));
	if (*text_of(tree, "noWayBack") != '-')
		printf("clients beyond the LAN get no replies: %s\n\n", text_of(tree, "noWayBack"));
	if (*text_of(tree, "untracked") != '-')
		printf("%s\n\n", text_of(tree, "untracked"));
	if (*text_of(tree, "unheard") != '-')
		printf("%s\n\n", text_of(tree, "unheard"));
	if (*text_of(tree, "bridgeInTheWay") != '-')
		printf("%s\n\n", text_of(tree, "bridgeInTheWay"));
	print_routers(cJSON_GetObjectItemCaseSensitive(tree, "routers"));
	print_holds(cJSON_GetObjectItemCaseSensitive(tree, "routers"));
	print_dataplanes(cJSON_GetObjectItemCaseSensitive(tree, "routers"));
	print_peers(cJSON_GetObjectItemCaseSensitive(tree, "peers"));
	printf("\nlast transitions, newest first\n");
	cJSON_ArrayForEach(item, list) {
		print_age(age, number_of(item, "secondsAgo"));
		printf("%6s ago  %-*s  %s -> %s  %s: %s\n", age, names, text_of(item, "router"),
		       text_of(item, "from"), text_of(item, "to"), text_of(item, "reason"),
		       text_of(item, "message"));
	}
}

/* For probes: does its loop turn, may it own addresses? Asks nobody but the process. */
static int probe(const char *runtime, bool readiness)
{
	cJSON *tree = ask(runtime, HEALTH_SOCKET);
	bool ready = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(tree, "ready"));

	if (!tree)
		return 1;
	if (!readiness || ready)
		puts("ok");
	else
		printf("not ready: %s\n", text_of(tree, "message"));
	cJSON_Delete(tree);
	return readiness && !ready;
}

/* What the node says when it has compared its rules with what is wanted, begun now. NULL has said why. */
static cJSON *verify(const char *runtime)
{
	cJSON *before = ask(runtime, VERIFY_SOCKET), *tree;
	double times = number_of(before, "rulesVerified");

	if (!before)
		return NULL;
	cJSON_Delete(before);
	for (unsigned i = 0; i < VERIFY_MAX; i++) {
		usleep(VERIFY_US);
		tree = ask(runtime, STATUS_SOCKET);
		if (!tree || number_of(tree, "rulesVerified") > times)
			return tree;
		cJSON_Delete(tree);
	}
	fprintf(stderr, "the rules could not be verified within 10 s: vipd status says why\n");
	return NULL;
}

int status_main(int argc, char **argv)
{
	const char *runtime = "/run/vipd", *output = "table", *healthz = "false", *readyz = "false";
	const char *verified = "false";
	const struct option_spec specs[] = {
		{ "runtime-dir", &runtime, false, "DIR", "of the vipd to ask" },
		{ "o", &output, false, "FORMAT", "table or json" },
		{ "verify", &verified, true, NULL, "first compares the kernel's rules with what is wanted" },
		{ "healthz", &healthz, true, NULL, "only: does its loop turn? exit 0 or 1" },
		{ "readyz", &readyz, true, NULL, "only: may it own addresses? exit 0 or 1" },
		{ NULL, NULL, false, NULL, NULL },
	};
	int r = options_parse(argc, argv, "vipd status [OPTION...]", specs);
	cJSON *tree;

	if (r < 0)
		return r == -2 ? 0 : 2;
	if (strcmp(output, "table") != 0 && strcmp(output, "json") != 0) {
		fprintf(stderr, "-o %s: say table or json\n", output);
		return 2;
	}
	if (strcmp(readyz, "true") == 0 || strcmp(healthz, "true") == 0)
		return probe(runtime, strcmp(readyz, "true") == 0);
	tree = strcmp(verified, "true") == 0 ? verify(runtime) : ask(runtime, STATUS_SOCKET);
	if (!tree)
		return 1;
	if (strcmp(output, "json") == 0) {
		char *text = cJSON_Print(tree);

		puts(text ? text : "{}");
		free(text);
	} else {
		print_table(tree);
	}
	cJSON_Delete(tree);
	return 0;
}
