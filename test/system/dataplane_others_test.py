"""Tables of others on every node, as Docker and firewalld make them: nothing of ours is in their way, nor they in ours."""
import contextlib
import time

import pytest

import vipd
from conftest import BOTH
from lab import ip_batch, wait_for

# What `iptables-save` says of Docker: nothing is forwarded but what is its own. The CNI allows its pods, as flannel does.
DOCKER = """*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 22 -j DNAT --to-destination 172.17.0.2:22
-A DOCKER ! -i docker0 -p udp -m udp --dport 80 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -s 10.244.0.0/16 -j ACCEPT
-A FORWARD -d 10.244.0.0/16 -j ACCEPT
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 22 -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
"""

# What firewalld loads for a zone with ssh and protocol vrrp, in short, and for nodes and pods in the zone "trusted".
FIREWALLD = """
table inet firewalld {
  chain nat_PREROUTING { type nat hook prerouting priority dstnat + 10; policy accept; }
  chain nat_POSTROUTING { type nat hook postrouting priority srcnat + 10; policy accept; }
  chain filter_PREROUTING {
    type filter hook prerouting priority filter + 10; policy accept;
    icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
    meta nfproto ipv6 fib saddr . mark . iif oif missing drop
  }
  chain filter_INPUT {
    type filter hook input priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    ct state invalid drop
    icmp type echo-request accept
    meta l4proto ipv6-icmp accept
    tcp dport 22 ct state { new, untracked } accept
    meta l4proto 112 accept
    ip saddr { 192.0.2.0/29, 10.244.0.0/16 } accept
    ip6 saddr { 2001:db8::/125, fd00:10:244::/48 } accept
    reject with icmpx admin-prohibited
  }
  chain filter_FORWARD {
    type filter hook forward priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    ct state invalid drop
    ip saddr { 192.0.2.0/29, 10.244.0.0/16 } accept
    ip6 saddr { 2001:db8::/125, fd00:10:244::/48 } accept
    reject with icmpx admin-prohibited
  }
}
"""


@contextlib.contextmanager
def others(rack, kind):
    nodes = rack.lab.nodes.values()
    try:
        for node in nodes:
            if kind == "docker":
                node.run(["iptables-nft-restore", "-n"], text=DOCKER)
            else:
                node.run(["nft", "-f", "-"], text=FIREWALLD)
        yield
    finally:
        for node in nodes:
            if kind == "docker":
                node.run(["iptables-nft", "-P", "FORWARD", "ACCEPT"], check=False)
                for table in ("nat", "filter"):
                    node.run(["nft", "delete", "table", "ip", table], check=False)
            else:
                node.run(["nft", "delete", "table", "inet", "firewalld"], check=False)


@pytest.mark.parametrize("kind", ["docker", "firewalld"])
def test_connections_and_ownership_go_on_beside(rack, kind):
    watch = rack.watch(kinds=("arp", "stream", "udp"))
    with others(rack, kind):
        for address in BOTH:
            rack.is_reached_from_everywhere(address)
            assert rack.client.pings(address)
        gone = rack.owner()
        rack[gone].kill()
        for address in BOTH:
            rack.cluster.owner(address, other_than=gone)
            rack.cluster.serves(address, vm="db")
        time.sleep(1)
    for by in watch.stop().values():
        assert by["arp"]["two"] == 0 and not by["arp"]["dark"] and not by["udp"]["dark"], by
        assert (by["stream"]["kept"], by["stream"]["lost"]) == (5, 0), by


@contextlib.contextmanager
def bound_on_every_node(rack):
    """As kube-proxy does it in its mode ipvs, on an interface that asks and answers nothing itself: here a bridge without ports."""
    nodes = rack.lab.nodes.values()
    try:
        for node in nodes:
            ip_batch(node.namespace, "link add kube-ipvs0 type bridge", "link set kube-ipvs0 arp off",
                     *[f"address add {address} dev kube-ipvs0" for address in BOTH])
        yield
    finally:
        for node in nodes:
            ip_batch(node.namespace, "link delete kube-ipvs0")


def test_the_addresses_are_on_every_node(rack):
    """No strictARP is asked for: who does not own an address answers nothing for it, though it is the node's own."""
    watch = rack.watch(kinds=("arp", "stream", "udp"))
    with bound_on_every_node(rack):
        for gone in (None, rack.owner()):
            if gone:
                rack[gone].kill()
                owners = [rack.cluster.owner(address, other_than=gone) for address in BOTH]
                assert owners[0] == owners[1]
            time.sleep(1)
            for address in BOTH:
                rack.is_reached_from_everywhere(address)
                assert rack.client.pings(address)
        rack[gone].start()
        wait_for("the one that comes back to know of them", lambda: all(rack[gone].eligible(address) for address in BOTH))
        for node in rack.lab.nodes.values():
            assert set(BOTH) <= set(node.addresses("kube-ipvs0")), node.name  # nobody took those for leftovers
    for by in watch.stop().values():
        assert by["arp"]["two"] == 0 and not by["arp"]["dark"] and not by["udp"]["dark"], by
        assert (by["stream"]["kept"], by["stream"]["lost"]) == (5, 0), by
    owner = rack.owner()
    assert all(rack.cluster.holders(address) == [owner] for address in BOTH)


def test_a_kernel_that_believes_no_connection_that_began_elsewhere_is_named(rack):
    """A hardened node: who moves a VM there would look for the reason of its lost connections for long."""
    node, daemon = rack.lab["n3"], rack["n3"]
    before = len(daemon.log())
    node.run(["sysctl", "-q", "-w", "net.netfilter.nf_conntrack_tcp_loose=0"])
    try:
        wait_for("it to be told", lambda: "nf_conntrack_tcp_loose is 0" in daemon.status()["untracked"])
        text = node.run([vipd.program(), "status", "--runtime-dir", daemon.runtime]).stdout
        assert "connections hang when their VM moves to this node. Set it to 1" in text
        assert all(not other.status()["untracked"] for other in rack.cluster.daemons.values() if other is not daemon)
    finally:
        node.run(["sysctl", "-q", "-w", "net.netfilter.nf_conntrack_tcp_loose=1"])
    wait_for("it to be well", lambda: daemon.status()["untracked"] == "")
    lines = [line for line in daemon.log()[before:].splitlines() if "reason=ConnectionsUntracked" in line]
    assert len(lines) == 1, lines


def test_a_firewall_that_lets_no_adverts_in_is_named(rack):
    """The node takes nothing over, since the owner answers, and says what it does not hear, once; and when it hears again."""
    owner = rack.owner()
    name = next(name for name in ("n1", "n2", "n3") if name != owner)
    node, daemon = rack.lab[name], rack[name]
    before = len(daemon.log())

    def lines(words):
        return [line for line in daemon.log()[before:].splitlines() if words in line]

    watch = rack.watch(kinds=("arp",))
    node.run(["nft", "-f", "-"], text=FIREWALLD.replace("meta l4proto 112 accept", "meta l4proto 112 drop"))
    try:
        wait_for("both families to be missed", lambda: len(lines("reason=AdvertsUnheard")) == 2, 20)
        assert f"{owner} answers for its address: let IP protocol 112 in" in lines("reason=AdvertsUnheard")[0]
        assert "firewall-cmd --permanent --add-protocol=vrrp" in daemon.status()["unheard"]
        assert all(not other.status()["unheard"] for other in rack.cluster.daemons.values() if other is not daemon)
    finally:
        node.run(["nft", "delete", "table", "inet", "firewalld"])
    wait_for("adverts to be heard again", lambda: len(lines("adverts reach this node on eth1 again")) == 2, 5)
    assert daemon.status()["unheard"] == "" and len(lines("reason=AdvertsUnheard")) == 2
    assert all(rack.cluster.holders(address) == [owner] for address in BOTH)
    for by in watch.stop().values():
        assert by["arp"]["two"] == 0 and by["arp"]["outages"] == 0, by
