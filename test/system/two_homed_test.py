"""Nodes with a second network that has their default route: clients beyond the LAN are answered by way of the LAN."""
import contextlib
import re
import socket
import time

import pytest

import manifests
from conftest import BOTH, V4, V6, Rack
from dataplane_modes_test import _quiet, local_servers, planes
from lab import ip_batch, wait_for
from tunnel import tunnel

OTHER = {False: "10.98.0.253", True: "fd98::fd"} # a router of the management network that knows no client
LAN = {False: "192.0.2.254", True: "2001:db8::fe"}
SECOND = {False: "192.0.2.253", True: "fe80::fd"} # the same router, as it says itself over IPv6
BY_LAN, FALLBACK, BY_OTHER = 50, 1000, 100 # metrics: BY_OTHER is better than FALLBACK, BY_LAN better than both
OTHERS = "10.98.0.100"
FAMILIES = [False, True]


class TwoHomed(Rack):
    management = True

    def settle(self):
        # A router that changes its MAC says so.
        self.lab.gateway.run(["sysctl", "-q", "-w", "net.ipv4.conf.eth1.arp_notify=1", "net.ipv6.conf.eth1.ndisc_notify=1"])
        ip_batch(self.lab.switch.namespace, f"address replace {OTHER[False]}/24 dev mgt",
                 f"address replace {OTHER[True]}/64 dev mgt nodad")
        for node in self.lab.nodes.values():
            settle_routes(node)
        return super().settle()


def settle_routes(node):
    """The default route is the management network's; the LAN's is there for who asks for it."""
    node.run(["ip", "address", "replace", f"fd98::{node.index}/64", "dev", "eth0", "nodad"])
    node.run(["sysctl", "-q", "-w", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.eth1.rp_filter=2"])
    lines = []
    for six in FAMILIES:
        family = "-6" if six else "-4"
        node.run(["ip", family, "route", "flush", "default"], check=False)
        lines += [way(six, "eth0", BY_OTHER), way(six, "eth1", FALLBACK)]
    ip_batch(node.namespace, *lines)


def way(six, device, metric, verb="replace", gateway=None):
    gateway = gateway or (OTHER if device == "eth0" else LAN)[six]
    return f"route {verb} default via {gateway} dev {device} metric {metric}"


def from_address(source, address, port=22):
    return socket.create_connection((address, port), 2, (source, 0))


def on_all(rack, *lines):
    for node in rack.lab.nodes.values():
        ip_batch(node.namespace, *lines)


def exits(node):
    return set(re.findall(r'chain exit-(\w+) {\s+type filter hook egress device "\w+" priority filter; policy accept;\s+ip',
                          node.ruleset()))


def whys(rack):
    return [daemon.status()["noWayBack"] for daemon in rack.cluster.daemons.values()]


def is_waiting(host):
    """Some connection has sent again, and waits longer than the last time."""
    return "backoff:" in host.run(["ss", "-tinH", "state", "established", "( sport = :80 or dport = :80 )"]).stdout


@pytest.fixture(scope="module")
def rack_of_module():
    with TwoHomed() as rack:
        yield rack


@pytest.mark.parametrize("dataplane", ["director", "nat"])
def test_clients_beyond_the_lan_are_answered(rack, dataplane):
    rack.cluster.pool(dataplane=dataplane)
    wait_for("the data plane", lambda: {plane for plane, why in planes(rack).values()} == {dataplane})
    try:
        assert whys(rack) == ["", "", ""]
        for address in BOTH:
            rack.is_reached_from_everywhere(address)
            assert rack.lab.far.pings(address) # the owner itself
            with pytest.raises(ConnectionRefusedError):
                rack.lab.far.connect(address, 23)
            with pytest.raises(ConnectionRefusedError):
                rack.lab.far.ask_udp(address, 23)
            text = "x" * 4000 # in pieces
            assert rack.lab.far.ask_udp(address, 80, text) == ("db", text)
            text = "y" * 60000 # segmented as late as the card of the LAN
            assert rack.lab.far.ask(address, 22, text, timeout=5) == ("db", f"db {text}")
        with rack.smaller_path():
            for address in BOTH:
                text = "z" * 30000
                assert rack.lab.far.ask(address, 22, text, timeout=5) == ("db", f"db {text}")
    finally:
        rack.cluster.pool()


def test_a_process_of_the_owner_answers_clients_beyond_the_lan(rack):
    rack.cluster.pool(dataplane="announce")
    wait_for("the data plane", lambda: {plane for plane, why in planes(rack).values()} == {"announce"})
    try:
        with local_servers(rack):
            for address in BOTH:
                owner = rack.cluster.owner(address)
                text = "y" * 60000
                assert rack.lab.far.ask(address, 8022, text, timeout=5) == (f"on-{owner}", f"on-{owner} {text}")
                assert rack.lab.far.pings(address)
    finally:
        rack.cluster.pool()


@pytest.mark.parametrize("dataplane", ["director", "nat"])
def test_connections_go_on_while_the_default_route_moves(rack, dataplane, record_property):
    """To the LAN and back, to another address and another MAC of its router, away from the tables and back."""
    rack.cluster.pool(dataplane=dataplane)
    wait_for("the data plane", lambda: {plane for plane, why in planes(rack).values()} == {dataplane})
    ip_batch(rack.lab.gateway.namespace, f"address replace {SECOND[False]}/24 dev eth1",
             f"address replace {SECOND[True]}/64 dev eth1 nodad")
    steps = {
        "to the LAN": lambda six: way(six, "eth1", BY_LAN),
        "back": lambda six: way(six, "eth1", BY_LAN, "delete"),
        "another gateway": lambda six: way(six, "eth1", FALLBACK, gateway=SECOND[six]),
        "and back": lambda six: way(six, "eth1", FALLBACK),
        "no default route but the LAN's": lambda six: way(six, "eth0", BY_OTHER, "delete"),
        "the other one again": lambda six: way(six, "eth0", BY_OTHER),
        "none by the LAN": lambda six: way(six, "eth1", FALLBACK, "delete"),
        "and one again": lambda six: way(six, "eth1", FALLBACK),
    }
    far = rack.lab.far
    streams = {address: far.probe("stream", address, 80, 10, 10) for address in BOTH}
    try:
        for stream in streams.values():
            wait_for("10 connections", lambda: sum(e["event"] == "connected" for e in stream.events()) == 10)
        for name, line in steps.items():
            if name == "another gateway": # and the MAC of both
                rack.lab.gateway.run(["ip", "link", "set", "eth1", "address", "02:00:00:00:01:fd"])
            on_all(rack, *[line(six) for six in FAMILIES])
            for address in BOTH:
                if name == "none by the LAN":
                    wait_for(f"{address} to be out of reach", lambda: not far.reaches(address, 22, 0.3))
                else:
                    wait_for(f"{address}: {name}", lambda: far.reaches(address, 22, 0.5) == "db", 10)
        wait_for("nobody to wait for an answer", lambda: not any(is_waiting(host) for host in (far, rack.lab.vms["db"])), 15)
    finally:
        seen = {address: stream.stop() for address, stream in streams.items()}
        rack.lab.gateway.run(["ip", "link", "set", "eth1", "address", "02:00:00:00:01:fe"])
        rack.cluster.pool()
        record_property("longest_ms", {address: by["longest_ms"] for address, by in seen.items()})
    for address, by in seen.items():
        assert (by["kept"], by["lost"], by["corrupt"], by["stuck"]) == (10, 0, 0, 0), (address, by)
    assert rack.cluster.owner(V4) in rack.lab.nodes


def test_the_other_network_has_addresses_too(rack):
    """Each is answered by its own network, whichever has the default route."""
    addresses = [*manifests.pool()["spec"]["addresses"], OTHERS]
    rack.cluster.pool(addresses=addresses)
    rack.cluster.expose("other", [OTHERS], ["db"], (22,))
    ip_batch(rack.lab.switch.namespace, "address replace 203.0.113.1/32 dev lo")
    neighbour = rack.lab.switch
    try:
        wait_for("the VM by its other address", lambda: neighbour.reaches(OTHERS, 22, 0.5) == "db")
        assert all("chain out-eth0" in node.ruleset() and exits(node) == {"eth0", "eth1"} for node in rack.lab.nodes.values())
        # A client beyond it, behind the router that has the default route.
        with neighbour.inside(from_address, "203.0.113.1", OTHERS) as connection:
            assert connection.recv(100).startswith(b"db")
        assert rack.lab.far.reaches(V4, 22) == rack.lab.far.reaches(V6, 22) == "db"
        # The default route by the LAN: now the other network's clients are those that are answered the other way.
        on_all(rack, way(False, "eth1", BY_LAN))
        with neighbour.inside(from_address, "203.0.113.1", OTHERS) as connection:
            assert connection.recv(100).startswith(b"db")
        assert rack.lab.far.reaches(V4, 22) == rack.lab.far.reaches(V6, 22) == "db"
    finally:
        for node in rack.lab.nodes.values():
            settle_routes(node)
        rack.cluster.hide("other")
        rack.cluster.gone(OTHERS)
        rack.cluster.pool()


def test_who_cannot_answer_says_so_and_what_to_do(rack):
    wait_for("the way back", lambda: [exits(node) for node in rack.lab.nodes.values()] == [{"eth0"}] * 3)
    on_all(rack, way(False, "eth1", FALLBACK, "delete"))
    wait_for("it to be said", lambda: set(whys(rack)) == {
        "eth1: the default route (IPv4) is by eth0: add one by eth1, with a larger metric"})
    assert not rack.lab.far.reaches(V4, 22, 0.5) and rack.lab.far.reaches(V6, 22) == "db"
    # One that only a rule asks for says as well where the gateway is.
    on_all(rack, f"route add default via {LAN[False]} dev eth1 table 100")
    wait_for("it to be over", lambda: set(whys(rack)) == {""})
    wait_for("an answer", lambda: rack.lab.far.reaches(V4, 22) == "db")
    on_all(rack, way(False, "eth1", FALLBACK), f"route delete default via {LAN[False]} dev eth1 table 100")
    for node in rack.lab.nodes.values():
        node.run(["sysctl", "-q", "-w", "net.ipv4.conf.eth1.rp_filter=1"])
    wait_for("it to be said", lambda: set(whys(rack)) == {
        "eth1: the default route is by eth0: set net.ipv4.conf.eth1.rp_filter to 2, or requests are dropped"}, 10)
    assert not rack.lab.far.reaches(V4, 22, 0.5)
    # The default route by the LAN: nothing is wrong, and nobody pays for a chain.
    on_all(rack, *[way(six, "eth0", BY_OTHER, "delete") for six in FAMILIES])
    wait_for("it to be over", lambda: set(whys(rack)) == {""})
    wait_for("the chains to be empty", lambda: [exits(node) for node in rack.lab.nodes.values()] == [set()] * 3)
    wait_for("an answer", lambda: rack.lab.far.reaches(V4, 22) == "db")
    for daemon in rack.cluster.daemons.values():
        assert "reason=NoWayBack" in daemon.log()


def test_a_gateway_is_known_before_the_first_client_asks(rack):
    """What waits for the kernel to ask for it would be lost: the first answer of a node must not take a second."""
    for node in rack.lab.nodes.values():
        node.run(["ip", "neigh", "flush", "dev", "eth1"])
    wait_for("every node to know its gateway", lambda: all(
        LAN[six] in {entry["dst"] for entry in node.ip("neigh", "show", "dev", "eth1") if "lladdr" in entry}
        for node in rack.lab.nodes.values() for six in FAMILIES), 10)
    for address in BOTH:
        begun = time.monotonic()
        assert rack.lab.far.reaches(address, 22) == "db"
        assert time.monotonic() - begun < 0.9, address


HALVES = {False: ["0.0.0.0/1", "128.0.0.0/1"], True: ["::/1", "8000::/1"]}
PIECES = {False: HALVES[False], True: ["::/3", "2000::/4", "3000::/4", "fc00::/7"]} # as OpenVPN does it
TABLE = 51820 # as wg-quick does it


def as_vpns_do(how):
    """What a VPN's client adds instead of a default route, and how it goes again; by eth0, to the router that knows no client."""
    if how == "a rule":
        return ([f"route add default via {OTHER[six]} dev eth0 table {TABLE}" for six in FAMILIES],
                [["ip", "-6" if six else "-4", "rule", "{}", "not", "fwmark", str(TABLE), "table", str(TABLE)] for six in FAMILIES])
    parts = HALVES if how == "halves" else PIECES
    return [f"route add {part} via {OTHER[six]} dev eth0" for six in FAMILIES for part in parts[six]], []


@pytest.mark.parametrize("how", ["halves", "pieces", "a rule"])
def test_a_default_route_that_is_none(rack, how):
    """The only default route is by the LAN, and yet all that leaves goes another way."""
    on_all(rack, *[way(six, "eth0", BY_OTHER, "delete") for six in FAMILIES])
    wait_for("the chains to be empty", lambda: [exits(node) for node in rack.lab.nodes.values()] == [set()] * 3, 15)
    routes, rules = as_vpns_do(how)
    try:
        on_all(rack, *routes)
        for node in rack.lab.nodes.values():
            for rule in rules:
                # What is beside: pods and the LAN are found before it.
                node.run([*rule[:2], "rule", "add", "priority", "100", "table", "main", "suppress_prefixlength", "0"])
                node.run([word.replace("{}", "add") for word in rule] + ["priority", "200"])
        wait_for("the way back", lambda: [exits(node) for node in rack.lab.nodes.values()] == [{"eth0"}] * 3, 15)
        for address in BOTH:
            rack.is_reached_from_everywhere(address)
            assert rack.lab.far.pings(address)
        assert set(whys(rack)) == {""}
        on_all(rack, way(False, "eth1", FALLBACK, "delete"))
        wait_for("it to be said", lambda: set(whys(rack)) == {
            "eth1: the default route (IPv4) is by eth0: add one by eth1, with a larger metric"})
        assert not rack.lab.far.reaches(V4, 22, 0.5)
    finally:
        on_all(rack, *[line.replace("route add", "route delete") for line in routes])
        for node in rack.lab.nodes.values():
            for rule in rules:
                node.run([*rule[:2], "rule", "delete", "priority", "100"], check=False)
                node.run([*rule[:2], "rule", "delete", "priority", "200"], check=False)
            settle_routes(node)
    wait_for("all as it was", lambda: set(whys(rack)) == {""}, 15)


@contextlib.contextmanager
def small_lan(rack, mtu=1400):
    """Frames of the LAN are smaller than those of pods and of the other network."""
    def have(size):
        switch = rack.lab.switch
        for host in [*rack.lab.nodes.values(), rack.lab.gateway, rack.lab.client]:
            host.run(["ip", "link", "set", "eth1", "mtu", str(size)])
            switch.run(["ip", "link", "set", f"lan-{host.name}", "mtu", str(size)])
        for host in rack.hosts: # what somebody was told of smaller paths, now or in another test
            host.run(["ip", "route", "flush", "cache"])
            host.run(["ip", "-6", "route", "flush", "cache"])
    have(mtu)
    try:
        yield
    finally:
        have(1500)


def large_ones_come(rack, address):
    """Both ways: a stream, and datagrams in pieces as large as the other networks' frames."""
    host, text = rack.lab.far, "z" * 60000
    wait_for("large datagrams", lambda: _quiet(lambda: host.ask_udp(address, 80, "x" * 4000, timeout=0.5)) == ("db", "x" * 4000))
    assert host.ask(address, 22, text, timeout=5) == ("db", f"db {text}")


@pytest.mark.parametrize("dataplane", ["director", "nat"])
def test_a_lan_with_smaller_frames(rack, dataplane):
    """What is larger is lost on its way by the LAN, and that is said, with what to do; then VMs are told by the kernel."""
    rack.cluster.pool(dataplane=dataplane)
    wait_for("the data plane", lambda: {plane for plane, why in planes(rack).values()} == {dataplane})
    try:
        with small_lan(rack):
            wait_for("it to be said", lambda: all("give the default route by eth0 'mtu lock 1400'" in why and
                                                  why.count("none larger than its MTU (1400)") == 2 for why in whys(rack)), 15)
            for address in BOTH:
                assert rack.lab.far.ask_udp(address, 80, "x") == ("db", "x")
                # By way of the owner they come in pieces for the LAN already, if the VM is on another node.
                for _ in range(3 if dataplane == "director" else 0):
                    assert _quiet(lambda: rack.lab.far.ask_udp(address, 80, "x" * 4000, timeout=0.5)) is None
            on_all(rack, *[way(six, "eth0", BY_OTHER) + " mtu lock 1400" for six in FAMILIES])
            wait_for("it to be over", lambda: set(whys(rack)) == {""}, 15)
            for address in BOTH:
                large_ones_come(rack, address)
            # The default route by the LAN.
            on_all(rack, *[way(six, "eth1", BY_LAN) for six in FAMILIES])
            for address in BOTH:
                large_ones_come(rack, address)
    finally:
        for node in rack.lab.nodes.values():
            settle_routes(node)
        rack.cluster.pool()
    wait_for("all as it was", lambda: set(whys(rack)) == {""}, 15)


@pytest.mark.parametrize("dataplane", ["director", "nat"])
def test_a_lan_with_smaller_frames_and_the_default_route(rack, dataplane):
    """Nodes with one network, whose pods have larger frames, in data plane nat through a tunnel, too: everybody is told."""
    on_all(rack, *[way(six, "eth0", BY_OTHER, "delete") for six in FAMILIES])
    rack.cluster.pool(dataplane=dataplane)
    wait_for("the data plane", lambda: {plane for plane, why in planes(rack).values()} == {dataplane})
    try:
        with small_lan(rack):
            wait_for("nothing to be said", lambda: set(whys(rack)) == {""}, 15)
            for address in BOTH:
                large_ones_come(rack, address)
                text = "w" * 60000
                assert rack.client.ask(address, 22, text, timeout=5) == ("db", f"db {text}")
        with tunnel(rack.lab) if dataplane == "nat" else contextlib.nullcontext():
            for address in BOTH:
                large_ones_come(rack, address)
    finally:
        for node in rack.lab.nodes.values():
            settle_routes(node)
        rack.cluster.pool()
