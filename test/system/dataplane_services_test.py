"""What a user of a Service sees of its packets: which VM answers, what is refused, and by whom."""
import contextlib
import socket

import pytest

import manifests
from conftest import BOTH, V4, Rack
from dataplane_modes_test import Exposed
from dataplane_modes_test import Exposed
from lab import LabError, wait_for

ALL = ["local", "near", "db"]
MANY, STICKY, NAMED = ["192.0.2.20", "2001:db8::1:20"], ["192.0.2.21", "2001:db8::1:21"], ["192.0.2.22"]
FENCED, EMPTY = ["192.0.2.23", "2001:db8::1:23"], ["192.0.2.24", "2001:db8::1:24"]
ENDING, PARTLY, HUNDREDS = "192.0.2.25", "192.0.2.26", "192.0.2.27"
LOCAL, ASTRAY = ["192.0.2.28", "2001:db8::1:28"], ["192.0.2.29", "2001:db8::1:29"]
SPLIT, HALF, MIXED = [[f"192.0.2.{i}", f"2001:db8::1:{i}"] for i in (35, 37, 38)]
SHUT = ["192.0.2.39", "2001:db8::1:39"]
SHUT = ["192.0.2.39", "2001:db8::1:39"]
OWNERS = ["n1", "n2", "n3"]
CLIENT = {False: "192.0.2.150", True: "2001:db8::150"}


@pytest.fixture(scope="module")
def exposed(rack_of_module):
    cluster = rack_of_module.cluster

    def expose(name, addresses, vms, ports=(22, "80/UDP"), change=None, **spec):
        service = manifests.service(name, addresses, ports, **spec)
        slices = manifests.slices(service, [rack_of_module.lab.vms[vm] for vm in vms])
        for each in slices:
            if change:
                change(each)
        manifests.write(cluster.folder / f"service-{name}.yaml", service, *slices, *[
            manifests.virtual_ip(address, service, OWNERS) for address in addresses])

    def conditions(**by_vm):
        def change(each):
            for endpoint in each["endpoints"]:
                name = endpoint["targetRef"]["name"].removeprefix("virt-launcher-").rpartition("-")[0]
                endpoint["conditions"] = by_vm[name]
        return change

    def elsewhere(each):
        for endpoint in each["endpoints"]:
            endpoint["nodeName"] = "rack7"

    ending = {"ready": False, "serving": True, "terminating": True}
    ready = {"ready": True, "serving": True, "terminating": False}
    expose("many", MANY, ALL)
    expose("sticky", STICKY, ALL, sessionAffinity="ClientIP")
    # Far may come; the client is in none of 100 ranges of one family and 50 of the other.
    ranges = [f"10.{i // 200}.{i % 200}.0/24" for i in range(0, 200, 2)] + \
             [f"2001:db8:a:{i:x}::/64" for i in range(0, 100, 2)]
    expose("fenced", FENCED, ["db"], loadBalancerSourceRanges=[*ranges, "198.51.100.0/24", "2001:db8:f::/64"])
    expose("empty", EMPTY, [])
    expose("ending", [ENDING], ["near", "db"], change=conditions(
        near=ending, db={"ready": False, "serving": False, "terminating": True}))
    expose("partly", [PARTLY], ["near", "db"], change=conditions(near=ending, db=ready))
    expose("hundreds", [HUNDREDS], ["db"], [f"{port}:22" for port in range(30000, 30200)])
    expose("local", LOCAL, ["db"], externalTrafficPolicy="Local")
    expose("astray", ASTRAY, ["db"], change=elsewhere)
    expose("half", HALF, ["db"], change=lambda each: each["addressType"] == "IPv6" and each.update(endpoints=[]))

    def near_elsewhere(each):
        for endpoint in each["endpoints"]:
            if "near" in endpoint["targetRef"]["name"]:
                endpoint["nodeName"] = "rack7"
    expose("mixed", MIXED, ALL, change=near_elsewhere)
    split = [(manifests.service(f"split-{vm}", SPLIT, [port], annotations={"vipd.dev/sharing-key": "split"}), vm)
             for port, vm in ((22, "db"), (80, "near"), ("8022:22", "local"))]
    shared = [manifests.virtual_ip(address, split[0][0], OWNERS) for address in SPLIT]
    for each in shared:
        each["spec"]["services"] = [{"namespace": "vms", "name": service["metadata"]["name"]} for service, _ in split]
    manifests.write(cluster.folder / "service-split.yaml", *shared, *[
        thing for service, vm in split for thing in (service, *manifests.slices(service, [rack_of_module.lab.vms[vm]]))])
    named = manifests.service("named", NAMED, ["8022:22"])
    near, db = (manifests.endpoint_slice(named, [rack_of_module.lab.vms[vm]]) for vm in ("near", "db"))
    db["metadata"]["name"] += "-new"
    db["ports"][0]["port"] = 80
    manifests.write(cluster.folder / "service-named.yaml", named, near, db, manifests.virtual_ip(NAMED[0], named, OWNERS))
    for address in [MANY[0], STICKY[1], ENDING, PARTLY, *LOCAL, *ASTRAY, *SPLIT, *MIXED, HALF[0]]:
        cluster.serves(address, seconds=40)
    cluster.serves(HUNDREDS, 30199, seconds=40)
    cluster.serves(NAMED[0], 8022, seconds=40)
    for address in [*FENCED, *EMPTY]:
        cluster.owner(address)


def talk_from(host, address, port, source, kind):
    """The VM that answers a client with this very source port."""
    def talk():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, kind) as client:
            client.settimeout(2)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Closed by reset: the same tuple may come again at once.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.bind(("", source))
            client.connect((address, port))
            if kind == socket.SOCK_DGRAM:
                client.send(b"hello")
            return client.recv(100).split()[0].decode()
    return host.inside(talk)


def choices(rack, addresses, count=25):
    found = {}
    for address in addresses:
        for kind, port in ((socket.SOCK_STREAM, 22), (socket.SOCK_DGRAM, 80)):
            for source in range(20000, 20000 + count):  # nobody is given one of these
                found[address, port, source] = talk_from(rack.client, address, port, source, kind)
    return found


def test_every_node_picks_the_same_vm_for_a_client(rack, exposed):
    before = choices(rack, MANY)
    sticky = choices(rack, STICKY, 5)
    for address in MANY:
        assert {name for (mine, *_), name in before.items() if mine == address} == set(ALL)
    assert len({(address, name) for (address, *_), name in sticky.items()}) == 2, sticky
    for _ in range(2):
        gone = rack.cluster.owner(MANY[0])
        rack[gone].kill()
        for address in MANY + STICKY:
            rack.cluster.owner(address, other_than=gone)
        # Whoever owned another one of them may be gone for longer than its fence.
        wait_for("the next owner", lambda: all(rack.client.reaches(address, 22) for address in MANY + STICKY))
        assert choices(rack, MANY) == before
        assert choices(rack, STICKY, 5) == sticky


def test_connections_to_several_vms_survive_the_owner(rack, exposed):
    watches = {address: rack.client.probe("stream", address, 22, 10, 20) for address in MANY + STICKY}
    for address, probe in watches.items():
        wait_for("20 connections", lambda: sum(
            event["event"] == "connected" for event in probe.events()) == 20)
    gone = rack.cluster.owner(MANY[0])
    rack[gone].kill()
    for address in watches:
        rack.cluster.owner(address, other_than=gone)
    wait_for("data to flow", lambda: all(rack.client.reaches(address, 22) for address in watches))
    for probe in watches.values():
        probe.end()
    for address, probe in watches.items():
        seen = probe.stop()
        assert (seen["kept"], seen["lost"], seen["corrupt"]) == (20, 0, 0), address


def test_a_named_port_is_another_number_in_another_slice(rack, exposed):
    found = {rack.client.ask(NAMED[0], 8022)[0] for _ in range(40)}
    assert found == {"near", "db"}


@pytest.mark.parametrize("place", ["client", "far"])
def test_thousands_of_source_ranges(rack, exposed, place):
    host = getattr(rack.lab, place)
    for address in FENCED:
        assert host.reaches(address, 22, 0.6) == ("db" if place == "far" else None)
        if place == "far":
            assert host.ask_udp(address, 80)[0] == "db"
        else:
            with pytest.raises(TimeoutError):
                host.ask_udp(address, 80, timeout=0.3)


@contextlib.contextmanager
def talks(host, address):
    """A connection and a datagram socket that have been answered; yields whether each is again."""
    def datagrams():
        client = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        client.connect((address, 80))
        return client

    def answered():
        return [answers(each, end) for each, end in ((stream, b"\n"), (flow, b""))]

    def answers(client, end):
        client.settimeout(1)
        try:
            client.send(b"more" + end)
            return client.recv(100) == b"db more" + end
        except TimeoutError:
            return False
    with host.connect(address, 22) as stream, host.inside(datagrams) as flow:
        stream.recv(100)  # its greeting
        assert answered() == [True, True]
        yield answered


def test_a_client_that_is_shut_out_keeps_what_it_has_and_gets_nothing_new(rack):
    """As with kube-proxy: the ranges say who may begin. What is known goes on until conntrack is told to forget it."""
    far = ["198.51.100.0/24", "2001:db8:f::/48"]
    shut = Exposed(rack, "shut", SHUT, loadBalancerSourceRanges=[f"{CLIENT[False]}/32", f"{CLIENT[True]}/128", *far])
    shut.behind("db")
    with contextlib.ExitStack() as stack:
        stack.callback(rack.cluster.gone, *SHUT)
        stack.callback(shut.hide)
        for address in SHUT:
            rack.cluster.serves(address)
        known = {address: stack.enter_context(talks(rack.client, address)) for address in SHUT}
        shut.service["spec"]["loadBalancerSourceRanges"] = far
        shut.behind("db")
        for address in SHUT:
            rack.cluster.refuses(address)
            with pytest.raises(TimeoutError):
                rack.client.ask_udp(address, 80, timeout=0.3)
            assert rack.lab.far.reaches(address, 22) == "db" and rack.lab.far.ask_udp(address, 80)[0] == "db"
            assert known[address]() == [True, True], address
        # What README advises who wants to be rid of it at once, where the VM is; it ends what is of this client alone.
        others = {address: stack.enter_context(talks(rack.lab.far, address)) for address in SHUT}
        for address in SHUT:
            rack.lab["n3"].run(["conntrack", "-D", "-d", address, "-s", CLIENT[":" in address]])
            assert known[address]() == [False, False], address
            assert others[address]() == [True, True], address


@pytest.mark.parametrize("place", ["client", "far"])
def test_no_vm_is_a_reset_and_an_unreachable(rack, exposed, place):
    host = getattr(rack.lab, place)
    for address in EMPTY:
        for ask in (lambda: host.connect(address, 22), lambda: host.ask_udp(address, 80)):
            with pytest.raises(ConnectionRefusedError):
                ask()


def test_no_vm_is_refused_from_nodes_and_pods_too(rack, exposed):
    for host in [*rack.lab.nodes.values(), *rack.lab.vms.values()]:
        for address in EMPTY:
            for ask in (lambda: host.connect(address, 22), lambda: host.ask_udp(address, 80)):
                with pytest.raises(ConnectionRefusedError):
                    ask()


def test_ending_vms_serve_when_nothing_else_does(rack, exposed):
    assert {rack.client.reaches(ENDING, 22) for _ in range(20)} == {"near"}
    assert {rack.client.reaches(PARTLY, 22) for _ in range(20)} == {"db"}


def test_hundreds_of_ports(rack, exposed):
    for port in range(30000, 30200, 13):
        assert rack.client.reaches(HUNDREDS, port) == "db", port
    with pytest.raises(ConnectionRefusedError):
        rack.client.connect(HUNDREDS, 30200)


def test_traffic_policy_local_keeps_the_client_and_needs_no_vm_on_the_owner(rack, exposed):
    for address in LOCAL:
        rack.cluster.owner(address)
        assert rack.client.ask(address, 22, "whoami") == ("db", f"db {CLIENT[':' in address]}")
        assert rack.client.ask_udp(address, 80, "whoami") == ("db", CLIENT[":" in address])


def test_a_vm_whose_node_is_not_on_the_segment(rack, exposed):
    """The owner translates itself, and takes the client's place so that the answer comes back."""
    for address in ASTRAY:
        owner = rack.lab[rack.cluster.owner(address)]
        own = {owner.name: owner.address6 if ":" in address else owner.address4,
               "n3": CLIENT[":" in address]}[owner.name]
        assert rack.client.ask(address, 22, "whoami") == ("db", f"db {own}")
        assert rack.client.ask_udp(address, 80, "whoami") == ("db", own)
        for host in [*rack.lab.nodes.values(), *rack.lab.vms.values()]:
            assert host.reaches(address, 22) == "db", host.name


def test_a_vm_off_the_segment_beside_others(rack, exposed):
    """Of three VMs one is reached by the owner alone; so may be the owner's own, which it translates for, too."""
    for host in rack.hosts:
        for address in MIXED:
            found = [host.reaches(address, 22) for _ in range(30)]
            assert set(found) == set(ALL), (host.name, address, found)
            assert host.ask_udp(address, 80, "x" * 4000)[1] == "x" * 4000, (host.name, address)


@pytest.mark.parametrize("place", ["client", "far"])
def test_a_family_without_a_vm_is_refused_and_the_other_one_served(rack, exposed, place):
    host = getattr(rack.lab, place)
    assert host.reaches(HALF[0], 22) == "db" and host.ask_udp(HALF[0], 80)[0] == "db"
    for ask in (lambda: host.connect(HALF[1], 22), lambda: host.ask_udp(HALF[1], 80)):
        with pytest.raises(ConnectionRefusedError):
            ask()


def test_several_vms_from_nodes_and_from_themselves(rack, exposed):
    for host in [*rack.lab.nodes.values(), *rack.lab.vms.values()]:
        for address in MANY:
            found = [host.reaches(address, 22) for _ in range(30)]
            assert set(found) == set(ALL), (host.name, address, found)
            assert host.ask_udp(address, 80, "x")[1] == "x"


def test_fragments_to_several_vms_on_several_nodes(rack, exposed):
    text = "x" * 4000
    for address in MANY + STICKY:
        assert rack.client.ask_udp(address, 80, text)[1] == text, address


def test_a_smaller_path_is_told_to_the_vm(rack, exposed):
    """Behind the gateway frames are smaller: without its ICMP errors the answer never arrives. Whichever of several VMs
    it is, by flow or by client, and also where each port of an address is behind a VM on another node."""
    text = "y" * 30000
    with rack.smaller_path():
        for address in [*BOTH, *LOCAL, *ASTRAY]:
            assert rack.lab.far.ask(address, 22, text, timeout=3) == ("db", f"db {text}"), address
        for address in [*MANY, *STICKY]:
            for _ in range(12):
                name, answer = rack.lab.far.ask(address, 22, text, timeout=3)
                assert answer == f"{name} {text}", address
        for address in SPLIT:
            for port, vm in ((22, "db"), (80, "near"), (8022, "local")):
                assert rack.lab.far.ask(address, port, text, timeout=3) == (vm, f"{vm} {text}"), (address, port)


FOREIGN = {
    "nftables": ["nft", "-f", "-"],
    "iptables-nft": ["iptables-nft-restore", "-n"],
    "iptables-legacy": ["iptables-legacy-restore", "-n"],
}


def foreign_rules(kind, wrong):
    """What kube-proxy has for a Service with a node port, and with this address: another VM is behind it."""
    if kind == "nftables":
        return f"""
table ip kube-proxy {{
  chain services {{
    ip daddr {V4} tcp dport 22 counter meta mark set meta mark or 0x4000 dnat to {wrong}:22
    ip daddr {V4} udp dport 80 counter meta mark set meta mark or 0x4000 dnat to {wrong}:80
    fib daddr type local tcp dport 30022 counter meta mark set meta mark or 0x4000 dnat to {wrong}:22
    fib daddr type local udp dport 30080 counter meta mark set meta mark or 0x4000 dnat to {wrong}:80
  }}
  chain prerouting {{ type nat hook prerouting priority dstnat; jump services
  }}
  chain output {{ type nat hook output priority -100; jump services
  }}
  chain forward {{ type filter hook forward priority filter; ct state invalid counter drop
  }}
  chain postrouting {{ type nat hook postrouting priority srcnat; meta mark & 0x4000 == 0x4000 counter masquerade
  }}
}}
"""
    return f"""*nat
:KUBE-SERVICES - [0:0]
:KUBE-MARK-MASQ - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-SERVICES -d {V4}/32 -p tcp --dport 22 -j KUBE-MARK-MASQ
-A KUBE-SERVICES -d {V4}/32 -p tcp --dport 22 -j DNAT --to-destination {wrong}:22
-A KUBE-SERVICES -d {V4}/32 -p udp --dport 80 -j DNAT --to-destination {wrong}:80
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -p tcp --dport 30022 -j DNAT --to-destination {wrong}:22
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -p udp --dport 30080 -j DNAT --to-destination {wrong}:80
-A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE
COMMIT
*filter
-A FORWARD -m conntrack --ctstate INVALID -j DROP
COMMIT
"""


@contextlib.contextmanager
def foreign_table(rack, kind):
    wrong = rack.lab.vms["local"].address4
    try:
        for node in rack.lab.nodes.values():
            done = node.run(FOREIGN[kind], text=foreign_rules(kind, wrong), check=False)
            if done.returncode != 0:
                raise LabError(f"{kind}: {done.stderr}")
        yield
    finally:
        for node in rack.lab.nodes.values():
            if kind == "nftables":
                node.run(["nft", "delete", "table", "ip", "kube-proxy"], check=False)
            else:
                command = FOREIGN[kind][0].removesuffix("-restore")
                for table in ("nat", "filter"):
                    node.run([command, "-t", table, "-F"], check=False)
                    node.run([command, "-t", table, "-X"], check=False)


@pytest.mark.parametrize("kind", FOREIGN)
def test_rules_of_others_capture_nothing(rack, exposed, kind):
    hosts = rack.hosts
    with foreign_table(rack, kind):
        # The rules are live: a node's own address is caught by its node port.
        assert rack.client.reaches(rack.lab["n1"].address4, 30022) == "local"
        for host in hosts:
            assert host.ask(V4, 22)[0] == "db", host.name
            assert host.ask_udp(V4, 80)[0] == "db", host.name
            with pytest.raises(ConnectionRefusedError):
                host.connect(V4, 30022)
            with pytest.raises(ConnectionRefusedError):
                host.ask_udp(V4, 30080)
        assert rack.client.ask(V4, 22, "whoami") == ("db", "db 192.0.2.150")
        stream = rack.client.probe("stream", V4, 22, 10, 10)
        wait_for("10 connections", lambda: sum(event["event"] == "connected" for event in stream.events()) == 10)
        rack[rack.owner()].kill()
        rack.cluster.serves(V4, vm="db")
        seen = stream.stop()
        assert (seen["kept"], seen["lost"]) == (10, 0)
