#pragma once

/*
 * The one vocabulary: Event reasons, condition reasons, journal REASON=, metric label, catalog
 * and reference page all come from this table. Words are a stable interface: users alert on them.
 *
 * X(enumerator, "Word", severity, "MESSAGE_ID", "what it means", "what to do")
 */
/* clang-format off */
#define BASE_REASONS(X) \
	X(ADDRESS_ALLOCATED, "AddressAllocated", NORMAL, "f6fadfa7e5c15b629362da5cc13da58a", \
	  "An address from a pool was given to the Service.", \
	  "Nothing to do.") \
	X(ADDRESS_RELEASED, "AddressReleased", NORMAL, "2c63888f28f004817e6ddce7a7ace732", \
	  "The Service gave its address back; it is quarantined before anybody else gets it.", \
	  "Nothing to do.") \
	X(ADDRESS_MOVED, "AddressMoved", NORMAL, "8a119b9e16bc17328f7b7676d015b0dc", \
	  "The Service now has another address.", \
	  "Update whoever had written the old address down.") \
	X(POOL_EXHAUSTED, "PoolExhausted", WARNING, "bc67ba94637d6efa609e467ada679f81", \
	  "No pool that this Service may use has a free address.", \
	  "Enlarge a pool, release Services, or wait for the quarantine to end: kubectl get pools.") \
	X(QUOTA_EXCEEDED, "QuotaExceeded", WARNING, "fab36728a78beb7e0787c0de2f960063", \
	  "The namespace already holds as many addresses as the pool allows.", \
	  "Delete a Service of the namespace, or raise maxPerNamespace of the pool.") \
	X(ADDRESS_NOT_IN_POOL, "AddressNotInPool", WARNING, "a712755f6cace4d519d5269512e74f7b", \
	  "The wanted address is in no pool that this Service may use.", \
	  "Ask for another address, or add this one to a pool.") \
	X(ADDRESS_IN_USE, "AddressInUse", WARNING, "ac8efe121c5989f1ba2dde83458bfed0", \
	  "The wanted address is held by somebody else.", \
	  "Ask for another address, or release it there first.") \
	X(ADDRESS_RESERVED, "AddressReserved", WARNING, "5796a670482c590e0d9782bfcdc83011", \
	  "The wanted address is reserved for another Service.", \
	  "Ask for another address, or change the reservation in the pool.") \
	X(SHARING_REFUSED, "SharingRefused", WARNING, "0b80a25553a12945a93258ef7777682c", \
	  "The address cannot be shared with its holder.", \
	  "Same sharing key, same namespace, disjoint ports and equal traffic policy are needed.") \
	X(POOL_NOT_FOUND, "PoolNotFound", WARNING, "45ac16b9c20dbc210f8a7abff2e91ac7", \
	  "The pool named by the annotation does not exist or may not be used here.", \
	  "Correct vipd.dev/pool: kubectl get pools.") \
	X(UNSUPPORTED_FEATURE, "UnsupportedFeature", WARNING, "dd2ee150d2840277789c1af40ce8fcc9", \
	  "Something was asked for that this version or this node cannot do.", \
	  "Read the message; change the Service or the pool.") \
	X(INVALID_CONFIGURATION, "InvalidConfiguration", WARNING, "3c3ae353fb14628e90b401a6c1cc0aff", \
	  "An object says something contradictory or malformed.", \
	  "Read the message: it names the field and what to write instead.") \
	X(OWNER_ELECTED, "OwnerElected", NORMAL, "b9c8b9ffe46ed627d419c7723226db94", \
	  "This node became the first owner of the address.", \
	  "Nothing to do.") \
	X(OWNER_OBSERVED, "OwnerObserved", NORMAL, "5d0f3a5c0c7e4f0d9a3b6f1f27c9b410", \
	  "Another node owns the address now, as this node hears.", \
	  "Nothing to do; that node's journal says why.") \
	X(OWNER_LOST, "OwnerLost", WARNING, "bbeeb6361d33bc6d96f0da847a2a3b87", \
	  "The former owner fell silent and this node took over.", \
	  "Look at the former owner: journalctl on that node, kubectl get speakers.") \
	X(OWNER_RESIGNED, "OwnerResigned", NORMAL, "68e58909ccb2b416525a56c9a30f4300", \
	  "The former owner gave the address up by itself.", \
	  "Nothing to do.") \
	X(HANDOVER, "Handover", NORMAL, "ff53a46f5ead703a84c4b877678537a3", \
	  "The address was moved on purpose, make before break.", \
	  "Nothing to do.") \
	X(REBALANCED, "Rebalanced", NORMAL, "e179f773a6e0f3c09514b7dde2ad0478", \
	  "The address was moved on purpose to even out the load.", \
	  "Nothing to do.") \
	X(DEPOSED, "Deposed", WARNING, "0c28cec1b94722af64b936976b4b76b0", \
	  "The Lease names another owner in a newer term; this node withdrew.", \
	  "Look why this node could not be heard: its link, its API connection.") \
	X(FENCE_EXPIRED, "FenceExpired", WARNING, "a398d022d4351df48322905089933837", \
	  "No advert left this node in time, so its kernel stopped answering for the address.", \
	  "The daemon was stopped, starved or lost its link: journalctl -u vipd around this time.") \
	X(OVERSLEPT, "Overslept", WARNING, "4c8b1eb44f1eaccf4372a2a784a67245", \
	  "The daemon did not run for longer than its deadline allows and withdrew before it spoke.", \
	  "Look for CPU starvation, a paused virtual machine or a debugger.") \
	X(QUORUM_LOST, "QuorumLost", WARNING, "ac9130f4547c17d30e3a655f20731ab2", \
	  "This node reaches less than half of the candidates and the gateway.", \
	  "Look at this node's link and switch port.") \
	X(GATEWAY_UNREACHABLE, "GatewayUnreachable", WARNING, "ca3ab343ac333b687e9bf77c6519a9d5", \
	  "The gateway of the segment does not answer this node.", \
	  "Look at this node's link and at the gateway.") \
	X(LINK_DOWN, "LinkDown", WARNING, "03c472ca4495f8b438d889d2b47a5c1d", \
	  "The interface towards the segment is down or gone.", \
	  "Look at cable, switch port and interface configuration.") \
	X(API_UNREACHABLE, "APIUnreachable", WARNING, "77dde229df88ae4d6c2386e5cc86ba64", \
	  "The Kubernetes API does not answer; addresses stay up and fail over by VRRP alone.", \
	  "Look at the API server and the path to it.") \
	X(API_REACHABLE, "APIReachable", NORMAL, "c3dd75f6808578e6ec925f09a227f039", \
	  "The Kubernetes API answers again.", \
	  "Nothing to do.") \
	X(MAINTENANCE, "Maintenance", NORMAL, "bb262a934ce15c61aa0336d98b8c82f1", \
	  "The node is in maintenance and owns nothing.", \
	  "End it with kubectl vip undrain NODE.") \
	X(FLAP_HELD_DOWN, "FlapHeldDown", WARNING, "b183256ea16ec121307a6fc42fd7b23a", \
	  "The node gained and lost addresses too often and is held back for a while.", \
	  "Look why it flaps: its link, its load.") \
	X(NOT_ON_SEGMENT, "NotOnSegment", WARNING, "8f39aaa5729ad53c7891da33e83a9d40", \
	  "The node has no interface on the segment of the address.", \
	  "Give the node an address on the segment, or narrow the pool's nodes.") \
	X(NO_ELIGIBLE_NODE, "NoEligibleNode", WARNING, "e5a9f6b1a29709bfadf438f7b27c1c74", \
	  "No node may own the address.", \
	  "Look at kubectl get speakers and at the pool's nodes.") \
	X(NO_ENDPOINTS, "NoEndpoints", WARNING, "f1a38d3268340c65d27cb2382bedda16", \
	  "The Service has no endpoint to send traffic to.", \
	  "Start the virtual machine, or correct the Service's selector.") \
	X(FOREIGN_ADDRESS, "ForeignAddress", WARNING, "d00f7b11205fe2f708c1d781b972e776", \
	  "A host outside the cluster answers for the address.", \
	  "Find the host by the MAC in the message, or exclude the address from the pool.") \
	X(FOREIGN_VIRTUAL_ROUTER, "ForeignVirtualRouter", WARNING, "b21b1c2e1f61a1bcacb70dd842762334", \
	  "A host outside the cluster sends VRRP adverts for the same VRID.", \
	  "Exclude this VRID in the pool, or change the stranger's.") \
	X(SPLIT_BRAIN_RESOLVED, "SplitBrainResolved", WARNING, "3ceb08318744ee926d9336c0f9c4b930", \
	  "Two owners heard each other again and one of them withdrew.", \
	  "Look what had cut the two nodes apart.") \
	X(DRILL_STARTED, "DrillStarted", NORMAL, "b338afd6b776a56829ca4bb956e78ec7", \
	  "A failover drill began.", \
	  "Nothing to do.") \
	X(DRILL_SUCCEEDED, "DrillSucceeded", NORMAL, "ea44bd0d405eb3114b68dba7a2bb831d", \
	  "A failover drill stayed within its budget.", \
	  "Nothing to do.") \
	X(DRILL_FAILED, "DrillFailed", WARNING, "670c1cd355555e3184be37c1dfe6c55b", \
	  "A failover drill went over its budget.", \
	  "kubectl vip drill show NAME.") \
	X(DRILL_REFUSED, "DrillRefused", WARNING, "6f877ca98a42827ff0d379d72f8cbeb2", \
	  "A failover drill would have become an outage and was not run.", \
	  "Read the message.") \
	X(STARTED, "Started", NORMAL, "adff32f535dd8954a7f8022a4eedef2a", \
	  "A vipd process started.", \
	  "Nothing to do.") \
	X(STOPPED, "Stopped", NORMAL, "396dfa336763df9c0484f9d69de18a44", \
	  "A vipd process stopped.", \
	  "Nothing to do.") \
	X(CONFIGURED, "Configured", NORMAL, "7f11ee19d49dca71e615dc020b7ef25e", \
	  "A new configuration is in force.", \
	  "Nothing to do.") \
	X(KERNEL_REFUSED, "KernelRefused", WARNING, "0f66fa84183439be391363081216b6dc", \
	  "The kernel refused an address, a rule or a packet.", \
	  "Read the message and ERRNO; the node says in kubectl get speakers what it cannot do.") \
	X(AGENT_LOST, "AgentLost", WARNING, "76dca866649b38090780b8cf55034265", \
	  "The unprivileged half of the daemon ended and is started again; addresses stay up.", \
	  "If it repeats, look at the lines before it.") \
	X(AS_EXPECTED, "AsExpected", NORMAL, "c86b2a1f7f5e4f0c9d0e3a6b54d1728e", \
	  "Nothing is wrong.", \
	  "Nothing to do.") \
	X(NODE_EXCLUDED, "NodeExcluded", NORMAL, "1b71fe19c2d51d0ee763f4ec90564112", \
	  "The node may own nothing: its Speaker or its label excludes it.", \
	  "End it with spec.excluded: false in the Speaker, or take the label away.") \
	X(NODE_NOT_SELECTED, "NodeNotSelected", NORMAL, "45755721c8eb03987427347b762ffa6e", \
	  "The pool's nodes.selector or the Service's vipd.dev/nodes leaves the node out.", \
	  "Label the node, or widen the selection.") \
	X(SPEAKER_NOT_READY, "SpeakerNotReady", WARNING, "738c565c6b3059eb55878fb23027e366", \
	  "The speaker of the node is not alive, so the node becomes no new candidate.", \
	  "Look at its pod: kubectl get pods -n vipd-system -o wide; kubectl get speakers.") \
	X(SERVING, "Serving", NORMAL, "1d618044db224ca68c355e45884e8e56", \
	  "A node owns the address and answers for it.", \
	  "Nothing to do.") \
	X(PROVISIONING, "Provisioning", NORMAL, "60a254673c5d4446879e94e92ca36773", \
	  "The address is on its way: not written down yet, or no node has taken it yet.", \
	  "If it lasts, look at kubectl get vip and kubectl get speakers.") \
	X(ACCEPTED, "Accepted", NORMAL, "1f2c26bd41684bbab7a7b4bd9ab9a86f", \
	  "The pool is in force as it stands.", \
	  "Nothing to do.") \
	X(AVAILABLE, "Available", NORMAL, "042bbdaf6ff44ad593abb9412161872a", \
	  "The pool has free addresses.", \
	  "Nothing to do.") \
	X(DISABLED, "Disabled", NORMAL, "c1a9cc0bb807418b8c80942069696cda", \
	  "The pool gives nothing new; holders keep their addresses.", \
	  "Set spec.disabled to false when it should give addresses again.") \
	X(REMOVED, "Removed", NORMAL, "7c77833f338fcaabf1c8046a3c6dd345", \
	  "The address is no longer wanted and was taken down.", \
	  "Nothing to do.") \
	X(NO_WAY_BACK, "NoWayBack", WARNING, "5b1f0d7c2ce84a0fb9c36fb0a52d9e41", \
	  "The node's default route is not by the LAN, and clients beyond the LAN get no replies from it.", \
	  "Add a default route by the LAN's interface with a larger metric; set its rp_filter to 2; see the message.") \
	X(ADVERTS_UNHEARD, "AdvertsUnheard", WARNING, "6e6e991f77ff4b7cb7172c8ced4e9a0e", \
	  "No VRRP adverts reach this node, though their sender answers for its address.", \
	  "Let IP protocol 112 through the node's firewall, and VRRP's multicast through the switch.") \
	X(BRIDGE_IN_THE_WAY, "BridgeInTheWay", WARNING, "4f6f0a4f0d3b4e4d8d1c6f2a9b7e5c31", \
	  "The LAN's interface is a bridge that br_netfilter is on for, and drops what this node has to ask VMs of others.", \
	  "Data plane director with every node on the LAN, or tunnels between pod networks, or br_netfilter off: see the message.") \
	X(CONNECTIONS_UNTRACKED, "ConnectionsUntracked", WARNING, "3262dfdfd2cb4a48b32da8cf3430e077", \
	  "The kernel's connection tracking is full, or believes no connection that began elsewhere.", \
	  "Raise net.netfilter.nf_conntrack_max, or set nf_conntrack_tcp_loose to 1: see the message.")
/* clang-format on */

enum base_severity {
	BASE_SEVERITY_NORMAL,
	BASE_SEVERITY_WARNING,
};

enum base_reason {
	BASE_REASON_NONE = 0,
#define BASE_REASON_ENUM(name, word, severity, id, meaning, remedy) BASE_REASON_##name,
	BASE_REASONS(BASE_REASON_ENUM)
#undef BASE_REASON_ENUM
	BASE_REASON_COUNT
};

struct base_reason_info {
	const char *word;
	enum base_severity severity;
	const char *message_id; /* 32 hex digits, fixed for ever */
	const char *meaning;
	const char *remedy;
};

/* Never NULL; BASE_REASON_NONE has the word "None". Values out of range count as none. */
const struct base_reason_info *base_reason_info(enum base_reason reason);
const char *base_reason_word(enum base_reason reason);
