#include "ipam/ipam.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipam/state.h"

#define SHARING_TRIES_MAX 64 /* addresses of one key that are looked at for room */

/* One call: who asks, and what is known of that. */
struct asking {
	struct ipam *ipam;
	const struct ipam_request *request;
	struct service *service;
	unsigned family;
	struct base_error *error;
};

static const char *family_name(const struct asking *asking)
{
	return asking->family == V6 ? "IPv6" : "IPv4";
}

static bool names_pool(const struct asking *asking)
{
	return text(asking->request->pool)[0] != '\0';
}

/* The annotation names no pool, or this one. */
static bool pool_wanted(const struct asking *asking, const struct pool *pool)
{
	return !names_pool(asking) || strcmp(asking->request->pool, pool->name) == 0;
}

/* --- may this Service use that pool? --- */

enum bar {
	BAR_NONE,
	BAR_DISABLED,
	BAR_NAMESPACE,
	BAR_LABELS,
	BAR_EXTERNAL,
	BAR_FAMILY,
	BAR_NOT_AUTO,
	BAR_QUOTA,
	BAR_FULL,
};

static bool selected(const struct asking *asking, const struct pool *pool,
		     enum ipam_selector selector)
{
	return asking->request->selects &&
	       asking->request->selects(asking->request->userdata, pool->name, selector);
}

static bool namespace_admitted(const struct asking *asking, const struct pool *pool)
{
	const struct ipam_pool *spec = &pool->spec;

	if (spec->namespace_count == 0 && !spec->namespace_selector)
		return true;
	for (size_t i = 0; i < spec->namespace_count; i++)
		if (strcmp(spec->namespaces[i], asking->service->namespace) == 0)
			return true;
	return spec->namespace_selector && selected(asking, pool, IPAM_SELECTOR_NAMESPACE);
}

/* Whether at all; not whether there is room. `reserved`: a reservation in this pool admits. */
static enum bar barred(const struct asking *asking, const struct pool *pool, bool reserved)
{
	if (pool->spec.disabled)
		return BAR_DISABLED;
	if (!reserved && !namespace_admitted(asking, pool))
		return BAR_NAMESPACE;
	if (!reserved && pool->spec.service_selector &&
	    !selected(asking, pool, IPAM_SELECTOR_SERVICE))
		return BAR_LABELS;
	if (asking->request->external_ip && !pool->spec.external_ips)
		return BAR_EXTERNAL;
	return BAR_NONE;
}

/* Addresses of the pool that the Service, alone in its namespace, gives back for the one it asks for. */
static size_t leaving(const struct asking *asking, const struct pool *pool)
{
	size_t count = 0;

	for (const struct holding *holding = asking->service->holdings;
	     holding && !asking->request->external_ip; holding = holding->next) {
		const struct entry *entry = holding->entry;

		count += entry->pool == pool && entry->holder_count == 1 &&
			 family_index(&entry->address) == asking->family &&
			 !ipam_is_external(asking->service, &entry->address);
	}
	return count;
}

static bool over_quota(const struct asking *asking, const struct pool *pool)
{
	return pool->spec.max_per_namespace > 0 &&
	       ipam_quota_count(pool, asking->service->namespace) - leaving(asking, pool) >=
		       pool->spec.max_per_namespace;
}

/* "pool lab is full": the end of a sentence about one pool. */
static const char *bar_text(const struct asking *asking, const struct pool *pool, enum bar bar,
			    char *buffer, size_t size)
{
	const char *namespace = asking->service->namespace;
	const char *name = pool->name;

	switch (bar) {
	case BAR_NONE:
		snprintf(buffer, size, "%s has room", name);
		break;
	case BAR_DISABLED:
		snprintf(buffer, size, "%s is disabled", name);
		break;
	case BAR_NAMESPACE:
		snprintf(buffer, size, "%s is not for namespace %s", name, namespace);
		break;
	case BAR_LABELS:
		snprintf(buffer, size, "%s does not select the labels of this Service", name);
		break;
	case BAR_EXTERNAL:
		snprintf(buffer, size, "%s does not allow externalIPs", name);
		break;
	case BAR_FAMILY:
		snprintf(buffer, size, "%s has no %s", name, family_name(asking));
		break;
	case BAR_NOT_AUTO:
		snprintf(buffer, size, "%s is given on request only (autoAssign)", name);
		break;
	case BAR_QUOTA:
		snprintf(buffer, size, "%s allows %u a namespace", name,
			 pool->spec.max_per_namespace);
		break;
	case BAR_FULL:
		snprintf(buffer, size, pool->quarantined[asking->family].count > 0
				? "%s is full until a quarantine ends" : "%s is full", name);
		break;
	}
	return buffer;
}

/* --- giving --- */

/* Nothing may fail behind this. */
static int give(struct asking *asking, struct pool *pool, const struct base_address *address,
		struct ipam_answer *answer)
{
	struct ipam *ipam = asking->ipam;
	struct holding *holding = calloc(1, sizeof *holding);
	struct entry *entry = ipam_entry_get(ipam, address);

	if (!holding || !entry || ipam_entry_room(entry, entry->holder_count + 1) < 0 ||
	    ipam_quota_room(pool, asking->service->namespace) < 0 || ipam_prepare(ipam, 1) < 0) {
		ipam_entry_sweep(ipam, entry);
		free(holding);
		return -ENOMEM;
	}
	holding->service = asking->service;
	ipam_hold(ipam, entry, pool, holding);
	*answer = (struct ipam_answer){ .address = *address, .shared = entry->holder_count > 1 };
	memcpy(answer->pool, pool->name, sizeof answer->pool);
	return 0;
}

static int keep(const struct entry *entry, struct ipam_answer *answer)
{
	*answer = (struct ipam_answer){ .address = entry->address,
					.kept = true,
					.shared = entry->holder_count > 1 };
	memcpy(answer->pool, entry->pool->name, sizeof answer->pool);
	return 0;
}

static bool is_holder(const struct asking *asking, const struct entry *entry)
{
	for (size_t i = 0; i < entry->holder_count; i++)
		if (entry->holders[i]->service == asking->service)
			return true;
	return false;
}

static int refuse_quota(const struct asking *asking, const struct pool *pool)
{
	return base_error_set(asking->error, BASE_REASON_QUOTA_EXCEEDED,
			      "namespace %s holds all %u addresses that pool %s allows a namespace: "
			      "delete a Service of the namespace, or ask for a higher "
			      "maxPerNamespace",
			      asking->service->namespace, pool->spec.max_per_namespace, pool->name);
}

static int refuse_taken(const struct asking *asking, const struct base_address *address,
			const struct taken *taken)
{
	char name[BASE_ADDRESS_TEXT_SIZE];

	return base_error_set(asking->error, (int)taken->reason,
			      "%s is in use by %s: ask for another address, or free it there",
			      base_address_format(address, name), taken->who);
}

static const struct reservation *own_reservation(const struct asking *asking,
						 const struct entry *entry, const struct pool *pool)
{
	const struct reservation *reservation = entry ? entry->reservations : NULL;

	while (reservation && (reservation->service != asking->service ||
			       (pool && reservation->pool != pool)))
		reservation = reservation->next_of_entry;
	return reservation;
}

/*
 * Can the Service have this very address of a pool that it may use? 0, or the refusal. Everything
 * that speaks against an address, whether it was named, reserved, shared or held before, is here.
 */
static int check_address(const struct asking *asking, const struct pool *pool,
			 const struct base_address *address)
{
	const struct entry *entry = ipam_entry_find(asking->ipam, address);
	const struct taken *taken = ipam_taken_by(asking->ipam, address, asking->service);
	const struct service *holder = NULL, *last = NULL;
	char name[BASE_ADDRESS_TEXT_SIZE] = "";

	if (asking->error)
		base_address_format(address, name);
	if (taken)
		return refuse_taken(asking, address, taken);
	if (entry && entry->state == ENTRY_HELD && entry->holder_count == 0)
		return base_error_set(asking->error, BASE_REASON_ADDRESS_IN_USE,
				      "%s has a VirtualIP of no Service: delete it, or ask for another "
				      "address",
				      name);
	if (entry && entry->state == ENTRY_HELD) {
		holder = entry->holders[0]->service;
		if (asking->service->sharing_key) {
			int r = ipam_sharing_check_all(asking->service, entry, asking->error);

			if (r)
				return r;
			if (entry->holder_count >= IPAM_SERVICES_MAX)
				return base_error_set(asking->error, BASE_REASON_SHARING_REFUSED,
						      "%s is shared by %d Services already: ask for "
						      "another address",
						      name, IPAM_SERVICES_MAX);
			return 0; /* it counts for the namespace already */
		}
		return base_error_set(asking->error, BASE_REASON_ADDRESS_IN_USE,
				      "%s is held by Service %s/%s: ask for another address, or let "
				      "both share it by the same vipd.dev/sharing-key",
				      name, holder->namespace, holder->name);
	}
	if (entry && entry->reservations && !own_reservation(asking, entry, NULL))
		return base_error_set(asking->error, BASE_REASON_ADDRESS_RESERVED,
				      "%s is reserved for Service %s/%s by pool %s: ask for another "
				      "address",
				      name, entry->reservations->service->namespace,
				      entry->reservations->service->name,
				      entry->reservations->pool->name);
	if (entry && entry->state == ENTRY_QUARANTINED && entry->last_holder != asking->service) {
		last = entry->last_holder;
		return base_error_set(asking->error, BASE_REASON_ADDRESS_IN_USE,
				      "%s was released by Service %s%s%s and is in quarantine: wait, or "
				      "ask for another address",
				      name, last ? last->namespace : "(unknown)", last ? "/" : "",
				      last ? last->name : "");
	}
	if (over_quota(asking, pool))
		return refuse_quota(asking, pool);
	return 0;
}

/* --- an address that was named --- */

/* "lab has 192.0.2.0/26, ...; dns has ...": the pools it may use, as much as fits. */
static void list_pools(const struct asking *asking, char *buffer, size_t size)
{
	size_t at = 0;

	buffer[0] = '\0';
	for (const struct pool *pool =
		     ipam_pool_in_order(ipam_tree_first(&asking->ipam->order));
	     pool; pool = ipam_pool_in_order(ipam_tree_next(&pool->by_order))) {
		const char *before = at > 0 ? "; " : "";
		bool usable = barred(asking, pool, false) == BAR_NONE;

		for (size_t i = 0; usable && i < pool->spec.address_count; i++) {
			char item[IPAM_RANGE_TEXT_SIZE], part[IPAM_RANGE_TEXT_SIZE + 80];
			size_t length;

			if (pool->spec.addresses[i].first.family !=
			    family_of(asking->family))
				continue;
			ipam_range_format(&pool->spec.addresses[i], item);
			if (strcmp(before, ", ") == 0)
				snprintf(part, sizeof part, ", %s", item);
			else
				snprintf(part, sizeof part, "%s%s has %s", before, pool->name, item);
			length = strlen(part);
			if (at + length + 5 > size) {
				snprintf(buffer + at, size - at, ", ...");
				return;
			}
			memcpy(buffer + at, part, length + 1);
			at += length;
			before = ", ";
		}
	}
	if (at == 0)
		snprintf(buffer, size, "none that this Service may use has %s",
			 family_name(asking));
}

static int refuse_pool(const struct asking *asking)
{
	const char *wanted = asking->request->pool;
	char names[120] = "";
	size_t at = 0;

	for (const struct pool *pool =
		     ipam_pool_in_order(ipam_tree_first(&asking->ipam->order));
	     pool; pool = ipam_pool_in_order(ipam_tree_next(&pool->by_order))) {
		if (barred(asking, pool, false) != BAR_NONE)
			continue;
		if (at + strlen(pool->name) + 6 > sizeof names) {
			snprintf(names + at, sizeof names - at, ", ...");
			break;
		}
		at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", at ? ", " : "",
				       pool->name);
	}
	return base_error_set(asking->error, BASE_REASON_POOL_NOT_FOUND,
			      "pool \"%.70s\" does not exist: vipd.dev/pool can be %s", wanted,
			      names[0] ? names : "nothing, no AddressPool is for this Service");
}

static int refuse_address(const struct asking *asking, const struct pool *barred_by, enum bar bar,
			  const struct pool *near, const struct pool *other)
{
	const struct base_address *wanted = &asking->request->wanted;
	const int refused = BASE_REASON_ADDRESS_NOT_IN_POOL;
	char name[BASE_ADDRESS_TEXT_SIZE], rest[160];
	struct base_error why;

	base_address_format(wanted, name);
	if (barred_by)
		return base_error_set(asking->error, refused, "%s cannot be given: pool %s", name,
				      bar_text(asking, barred_by, bar, rest, sizeof rest));
	if (near) {
		ipam_pool_why_not(&near->spec, wanted, &why);
		return base_error_set(asking->error, refused,
				      "%s cannot be given: %s; ask for another address", name,
				      why.message);
	}
	if (other)
		return base_error_set(asking->error, refused,
				      "%s is in pool %s, not in pool %s that vipd.dev/pool names: "
				      "correct one of the two",
				      name, other->name, asking->request->pool);
	list_pools(asking, rest, sizeof rest);
	return base_error_set(asking->error, refused, "%s is in no pool: %s", name, rest);
}

/* Is it in what is written under addresses, whatever else takes it out again? */
static bool written(const struct pool *pool, const struct base_address *address)
{
	for (size_t i = 0; i < pool->spec.address_count; i++)
		if (pool->spec.addresses[i].first.family == address->family &&
		    base_address_compare(&pool->spec.addresses[i].first, address) <= 0 &&
		    base_address_compare(address, &pool->spec.addresses[i].last) <= 0)
			return true;
	return false;
}

static int allocate_named(struct asking *asking, struct ipam_answer *answer)
{
	const struct base_address *wanted = &asking->request->wanted;
	const struct entry *entry = ipam_entry_find(asking->ipam, wanted);
	struct pool *barred_by = NULL, *near = NULL, *other = NULL, *pool;
	enum bar bar = BAR_NONE;
	char name[BASE_ADDRESS_TEXT_SIZE];
	int r;

	base_address_format(wanted, name);
	if (wanted->family != asking->request->family)
		return base_error_set(asking->error, BASE_REASON_INVALID_CONFIGURATION,
				      "%s is no %s address", name, family_name(asking));
	if (base_address_is_special(wanted))
		return base_error_set(asking->error, BASE_REASON_INVALID_CONFIGURATION,
				      "%s can be nobody's virtual address (loopback, multicast, "
				      "link-local or unspecified)",
				      name);
	if (entry && entry->state == ENTRY_HELD && is_holder(asking, entry) &&
	    pool_wanted(asking, entry->pool)) {
		r = ipam_sharing_check_all(asking->service, entry, asking->error);
		return r ? r : keep(entry, answer);
	}
	for (pool = ipam_pool_in_order(ipam_tree_first(&asking->ipam->order)); pool;
	     pool = ipam_pool_in_order(ipam_tree_next(&pool->by_order))) {
		enum bar found;

		if (!ipam_pool_contains(pool, wanted)) {
			if (!near && pool_wanted(asking, pool) && written(pool, wanted))
				near = pool;
			continue;
		}
		if (!pool_wanted(asking, pool)) {
			other = other ? other : pool;
			continue;
		}
		found = barred(asking, pool, own_reservation(asking, entry, pool) != NULL);
		if (found == BAR_NONE)
			break;
		if (!barred_by) {
			barred_by = pool;
			bar = found;
		}
	}
	if (!pool && names_pool(asking)) {
		const struct pool *named = ipam_pool_find(asking->ipam, asking->request->pool);

		if (!named || !named->present)
			return refuse_pool(asking);
	}
	if (!pool)
		return refuse_address(asking, barred_by, bar, near, other);
	if (entry && entry->state == ENTRY_HELD) {
		if (is_holder(asking, entry)) /* of another pool than the annotation names */
			return refuse_address(asking, NULL, bar, NULL, entry->pool);
		pool = entry->pool;
	}
	r = check_address(asking, pool, wanted);
	return r ? r : give(asking, pool, wanted, answer);
}

/* --- any address --- */

static struct entry *held_already(const struct asking *asking)
{
	for (struct holding *holding = asking->service->holdings; holding;
	     holding = holding->next) {
		struct entry *entry = holding->entry;

		if (family_index(&entry->address) == asking->family &&
		    !ipam_is_external(asking->service, &entry->address) &&
		    pool_wanted(asking, entry->pool) &&
		    ipam_sharing_check_all(asking->service, entry, NULL) == 0)
			return entry;
	}
	return NULL;
}

/*
 * Reserved for this Service: one of those or none, so that nobody writes a wrong address down.
 * NULL: nothing is reserved. `*refused`: all of them are, each for a reason; `error` has the first.
 */
static const struct reservation *find_reservation(const struct asking *asking, int *refused)
{
	struct asking silent = *asking;

	silent.error = NULL;
	*refused = 0;
	for (const struct reservation *r = asking->service->reservations; r;
	     r = r->next_of_service) {
		int code;

		if (family_index(&r->entry->address) != asking->family ||
		    !pool_wanted(asking, r->pool) || barred(asking, r->pool, true) != BAR_NONE ||
		    (r->entry->state == ENTRY_HELD && is_holder(asking, r->entry)))
			continue;
		code = check_address(*refused ? &silent : asking, r->pool, &r->entry->address);
		if (code == 0)
			return r;
		if (!*refused)
			*refused = code;
	}
	return NULL;
}

/* Somebody named it in spec.externalIPs: shared on request only. */
static bool external_for_any(const struct entry *entry)
{
	for (size_t i = 0; i < entry->holder_count; i++)
		if (ipam_is_external(entry->holders[i]->service, &entry->address))
			return true;
	return false;
}

static struct entry *shared_address(const struct asking *asking)
{
	struct asking silent = *asking;
	struct holding *holding = NULL;

	silent.error = NULL;
	if (asking->service->sharing_key)
		holding = ipam_sharing_first(asking->ipam, asking->service,
					     family_of(asking->family));
	for (unsigned tries = 0; holding && tries < SHARING_TRIES_MAX;
	     tries++, holding = ipam_sharing_next(holding)) {
		struct entry *entry = holding->entry;

		if (!is_holder(asking, entry) && pool_wanted(asking, entry->pool) &&
		    !entry->orphan && !external_for_any(entry) &&
		    barred(asking, entry->pool, false) == BAR_NONE &&
		    check_address(&silent, entry->pool, &entry->address) == 0)
			return entry;
	}
	return NULL;
}

/* What it had before, the latest first. */
static struct entry *former_address(const struct asking *asking)
{
	struct asking silent = *asking;
	struct entry *best = NULL;

	silent.error = NULL;
	for (struct entry *entry = asking->service->quarantined; entry;
	     entry = entry->next_of_service) {
		const struct pool *pool = entry->pool;

		if (family_index(&entry->address) != asking->family || !pool_wanted(asking, pool) ||
		    !ipam_pool_contains(pool, &entry->address) ||
		    !(pool->spec.auto_assign || names_pool(asking)) ||
		    barred(asking, pool, false) != BAR_NONE ||
		    check_address(&silent, pool, &entry->address) != 0)
			continue;
		if (!best || entry->until_us > best->until_us ||
		    (entry->until_us == best->until_us &&
		     base_address_compare(&entry->address, &best->address) < 0))
			best = entry;
	}
	return best;
}

static enum bar room(const struct asking *asking, const struct pool *pool, ipam_number *number)
{
	enum bar bar = barred(asking, pool, false);

	if (bar != BAR_NONE)
		return bar;
	if (pool->set[asking->family].count == 0)
		return BAR_FAMILY;
	if (!pool->spec.auto_assign && !names_pool(asking))
		return BAR_NOT_AUTO;
	if (over_quota(asking, pool))
		return BAR_QUOTA;
	return ipam_free_lowest(&pool->unused[asking->family], number) ? BAR_NONE : BAR_FULL;
}

/* Every pool and what is against it, as much as fits. */
static int refuse_all(const struct asking *asking)
{
	char list[180] = "";
	size_t at = 0;

	for (const struct pool *pool =
		     ipam_pool_in_order(ipam_tree_first(&asking->ipam->order));
	     pool; pool = ipam_pool_in_order(ipam_tree_next(&pool->by_order))) {
		char part[160];
		ipam_number number;
		enum bar bar = room(asking, pool, &number);

		if (bar == BAR_QUOTA)
			return refuse_quota(asking, pool);
		bar_text(asking, pool, bar, part, sizeof part);
		if (at + strlen(part) + 6 > sizeof list) {
			snprintf(list + at, sizeof list - at, "; ...");
			at = sizeof list; /* what follows may be over quota still */
			continue;
		}
		if (at < sizeof list)
			at += (size_t)snprintf(list + at, sizeof list - at, "%s%s",
					       at ? "; " : "", part);
	}
	return base_error_set(asking->error, BASE_REASON_POOL_EXHAUSTED,
			      "no pool has an %s address to give: %s", family_name(asking),
			      list[0] ? list : "there is no AddressPool, create one");
}

/* The annotation names the pool: it alone has to answer. */
static int refuse_named(const struct asking *asking, const struct pool *pool, enum bar bar)
{
	char rest[160];

	switch (bar) {
	case BAR_QUOTA:
		return refuse_quota(asking, pool);
	case BAR_FULL:
	case BAR_FAMILY:
		return base_error_set(asking->error, BASE_REASON_POOL_EXHAUSTED,
				      "no %s address can be given: pool %s; name another in "
				      "vipd.dev/pool, or wait for a release",
				      family_name(asking),
				      bar_text(asking, pool, bar, rest, sizeof rest));
	case BAR_NONE:
	case BAR_DISABLED:
	case BAR_NAMESPACE:
	case BAR_LABELS:
	case BAR_EXTERNAL:
	case BAR_NOT_AUTO:
		break;
	}
	return base_error_set(asking->error, BASE_REASON_POOL_NOT_FOUND,
			      "pool %s; name another in vipd.dev/pool",
			      bar_text(asking, pool, bar, rest, sizeof rest));
}

static int allocate_any(struct asking *asking, struct ipam_answer *answer)
{
	struct entry *entry = held_already(asking);
	const struct reservation *reservation;
	ipam_number number;
	struct pool *pool;
	enum bar bar;
	int r;

	if (entry)
		return keep(entry, answer);
	if (names_pool(asking)) {
		pool = ipam_pool_find(asking->ipam, asking->request->pool);
		if (!pool || !pool->present)
			return refuse_pool(asking);
	}
	reservation = find_reservation(asking, &r);
	if (reservation) {
		struct base_address address = reservation->entry->address;

		return give(asking, reservation->pool, &address, answer);
	}
	if (r)
		return r;
	entry = shared_address(asking);
	if (!entry)
		entry = former_address(asking);
	if (entry) {
		struct base_address address = entry->address;

		return give(asking, entry->pool, &address, answer);
	}
	for (pool = ipam_pool_in_order(ipam_tree_first(&asking->ipam->order)); pool;
	     pool = ipam_pool_in_order(ipam_tree_next(&pool->by_order))) {
		if (!pool_wanted(asking, pool))
			continue;
		bar = room(asking, pool, &number);
		if (bar == BAR_NONE) {
			struct base_address address =
				ipam_number_address(family_of(asking->family), number);

			return give(asking, pool, &address, answer);
		}
		if (names_pool(asking))
			return refuse_named(asking, pool, bar);
	}
	return refuse_all(asking);
}

int ipam_allocate(struct ipam *ipam, const struct ipam_request *request,
		  struct ipam_answer *answer, struct base_error *error)
{
	struct asking asking = {
		.ipam = ipam,
		.request = request,
		.family = request->family == BASE_FAMILY_IPV6 ? V6 : V4,
		.error = error,
	};
	int r;

	ipam_expire(ipam, request->now_us);
	asking.service = ipam_service_find(ipam, &request->service);
	if (!asking.service || !asking.service->known)
		return base_error_set(error, -ENOENT, "Service %s/%s is not known",
				      text(request->service.namespace), text(request->service.name));
	asking.service->named++;
	r = request->wanted.family != BASE_FAMILY_NONE ? allocate_named(&asking, answer)
						       : allocate_any(&asking, answer);
	asking.service->named--;
	return r;
}
