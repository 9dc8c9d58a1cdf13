"""An address that is one VM's as a whole (annotation vipd.dev/all-ports), and a VM that moves with it, and with
an address that it serves beside another VM."""
import contextlib
import os
import re
import signal
import sys
import time

import pytest

import manifests
import tunnel
from conftest import Rack
from lab import ROOT, ip_batch, wait_for

WHOLE = ["192.0.2.50", "2001:db8::1:50"]
SOME = ["192.0.2.51", "2001:db8::1:51"]
PAIR = ["192.0.2.53", "2001:db8::1:53"]
OWNERS = ["n1", "n2", "n3"]
OTHER_PORTS = [1, 2222, 6443, 9999, 65535]


def expose(rack, name, addresses, vms, ports=("8022:22",), annotations=None, **spec):
    service = manifests.service(name, addresses, ports, annotations={"vipd.dev/all-ports": "true", **(annotations or {})},
                                **spec)
    manifests.write(rack.cluster.folder / f"service-{name}.yaml", service, *manifests.slices(service, [
        rack.lab.vms[vm] for vm in vms]), *[manifests.virtual_ip(address, service, OWNERS) for address in addresses])
    return service


def expose_some(rack):
    expose(rack, "some", SOME, ["db"], loadBalancerSourceRanges=["192.0.2.150/32", "2001:db8::/64"])


def listen(vm, *ports):
    server = vm.start("more", [sys.executable, ROOT / "test/tools/vm_server.py", vm.name, *ports])
    server.wait_output("(?m)^ready$", 15)
    return server


@pytest.fixture(scope="module")
def whole(rack_of_module):
    rack = rack_of_module
    server = listen(rack.lab.vms["db"], *OTHER_PORTS)
    expose(rack, "whole", WHOLE, ["db"])
    expose_some(rack)
    for address in WHOLE + SOME:
        rack.cluster.serves(address, 9999, vm="db", seconds=30)
    yield
    server.kill()


def test_every_port_of_tcp_and_udp(rack, whole):
    for address in WHOLE:
        # Not 80: PAIR has that. A client's port by which it asked the same there a minute ago is another one to the VM then,
        # on its node alone, and a connection with it is lost when the VM moves (nft/README).
        for port in OTHER_PORTS + [22]:
            assert rack.client.reaches(address, port) == "db", (address, port)
            assert rack.client.ask_udp(address, port, "x") == ("db", "x"), (address, port)
        assert rack.client.reaches(address, 8022) == "db"  # the port that the Service names, translated
        assert rack.client.pings(address)
        # The VM sees the client, and its own port.
        assert rack.client.ask(address, 9999, "whoami")[1] == f"db {'2001:db8::150' if ':' in address else '192.0.2.150'}"
        # What nobody listens on in the VM the VM refuses, and no process of the node answers.
        with pytest.raises(ConnectionRefusedError):
            rack.client.connect(address, 4711)


def test_the_owner_s_own_daemons_are_not_reached(rack, whole):
    servers = [listen(node, 2223) for node in rack.lab.nodes.values()]
    try:
        for address in WHOLE:
            assert rack.client.reaches(rack.lab["n1"].address4, 2223) == "n1"
            with pytest.raises(ConnectionRefusedError):
                rack.client.connect(address, 2223)
    finally:
        for server in servers:
            server.kill()


def test_from_everywhere_and_large_datagrams(rack, whole):
    for host in rack.hosts:
        for address in WHOLE:
            assert host.reaches(address, 9999) == "db", (host.name, address)
    for address in WHOLE:
        text = "x" * 4000
        assert rack.client.ask_udp(address, 9999, text)[1] == text


def test_a_smaller_path_is_told_to_the_vm(rack, whole):
    text = "y" * 30000
    with rack.smaller_path():
        for address in WHOLE:
            for port in (8022, 9999):
                assert rack.lab.far.ask(address, port, text, timeout=3) == ("db", f"db {text}"), (address, port)


def test_source_ranges_are_of_every_port(rack, whole):
    for address in SOME:
        for port in (8022, 9999, 22):
            assert rack.client.reaches(address, port) == "db"
            assert rack.lab.far.reaches(address, port, 0.4) is None


def test_another_owner_and_two_vms(rack, whole):
    stream = {address: rack.client.probe("stream", address, 9999, 10, 20) for address in WHOLE}
    for probe in stream.values():
        wait_for("connections", lambda: sum(e["event"] == "connected" for e in probe.events()) == 20)
    gone = rack.cluster.owner(WHOLE[0])
    rack[gone].kill()
    for address in WHOLE:
        rack.cluster.owner(address, other_than=gone)
    time.sleep(1)
    for probe in stream.values():
        seen = probe.stop()
        assert (seen["kept"], seen["lost"], seen["corrupt"]) == (20, 0, 0)
    rack.cluster.mend()
    # With two VMs nobody can say whose the other ports are.
    try:
        expose(rack, "whole", WHOLE, ["db", "near"])
        for address in WHOLE:
            wait_for("both behind the named port", lambda: {rack.client.reaches(address, 8022) for _ in range(12)} == {
                "db", "near"}, 10)
            wait_for("every node to refuse the others", lambda: refused(rack, address, 9999), 10)
    finally:
        expose(rack, "whole", WHOLE, ["db"])
    for address in WHOLE:
        rack.cluster.serves(address, 9999, vm="db")


def refused(rack, address, port):
    try:
        rack.client.connect(address, port).close()
    except ConnectionRefusedError:
        return True
    return False


def test_an_address_that_may_be_shared_is_refused(rack):
    """The log says what to do, and where."""
    expose(rack, "wrong", ["192.0.2.52"], ["db"], annotations={"vipd.dev/sharing-key": "x"})
    try:
        wait_for("the log", lambda: "an address with vipd.dev/all-ports is of one Service alone" in rack["n1"].log(), 10)
        assert "service-wrong.yaml" in rack["n1"].log()
    finally:
        rack.cluster.hide("wrong")


def test_the_vm_moves_and_its_connections_go_on(rack, whole, record_property):
    """A process in a network namespace of its own for a VM: it goes to another node and another pod address
    with its sockets (KubeVirt's masquerade binding keeps the guest's address, and so does the pod here by DNAT)."""
    vm, source, target = rack.lab.vms["db"], rack.lab["n3"], rack.lab["n2"]
    new4, new6 = "10.244.2.77", "fd00:10:244:2::77"
    streams = {}
    try:
        say(rack, [vm])
        for address in PAIR:
            wait_for("both behind it", lambda: {rack.client.reaches(address, 80) for _ in range(12)} == {"db", "local"}, 15)
        streams.update(begin_streams(rack))
        to = {}
        for address, probe in streams.items():
            wait_for("connections", lambda: sum(e["event"] == "connected" for e in probe.events()) == 20)
            to[address] = {event["to"] for event in probe.events() if event["event"] == "connected"}
        assert all(to[address] == {"db", "local"} for address in PAIR)
        move(rack, vm, source, target, new4, new6)
        time.sleep(3)
        for address, probe in streams.items():
            seen = probe.stop()
            record_property(f"{address}_gap_ms", seen["longest_ms"])
            assert (seen["kept"], seen["lost"], seen["corrupt"]) == (20, 0, 0), address
        for address in WHOLE:
            assert rack.client.reaches(address, 9999) == "db"
        for address in PAIR:
            wait_for("both behind it", lambda: {rack.client.reaches(address, 80) for _ in range(12)} == {"db", "local"}, 15)
    finally:
        for probe in streams.values():
            probe.kill()
        move_back(rack, vm, source, target, new4, new6)
        rack.cluster.hide("pair")
        for address in WHOLE:
            rack.cluster.serves(address, 9999, vm="db", seconds=20)


@pytest.mark.parametrize("first", ["slice", "network", "late"])
@pytest.mark.parametrize("pods", ["routed", "vxlan"])
def test_the_vm_moves_with_its_pod_address_and_nothing_is_flushed(rack, whole, pods, first, record_property):
    """Bridge binding: the pod on the other node has the same address, so the endpoint is the same and only its node is
    another, which is said before it runs there, or a while later, or owner and old node hear it only a while after that.
    Nobody's connections are forgotten, not even on the node that it left. What that one still routes on comes by the
    LAN, or out of a tunnel."""
    with tunnel.tunnel(rack.lab) if pods == "vxlan" else contextlib.nullcontext():
        move_with_its_address(rack, first, tunnel.way if pods == "vxlan" else lan_way, record_property)


def owned_by_others(rack, node):
    if any(rack.cluster.owner(address) == node.name for address in WHOLE):
        rack[node.name].stop()
        rack[node.name].start()
        rack.cluster.mend()


def begin_streams(rack):
    return {address: rack.client.probe("stream", address, 9999 if address in WHOLE else 80, 10, 20)
            for address in [*WHOLE, *PAIR]}


def move_with_its_address(rack, first, way, record_property):
    vm, source, target = rack.lab.vms["db"], rack.lab["n3"], rack.lab["n2"]
    rack.cluster.hide("some", missing_ok=True)  # two such addresses of one VM: nobody could say whose its replies are
    streams, datagrams, late = {}, {}, contextlib.ExitStack()
    if first == "late":
        owned_by_others(rack, target)
    try:
        say(rack, [vm])
        for address in PAIR:
            wait_for("both behind it", lambda: {rack.client.reaches(address, 80) for _ in range(12)} == {"db", "local"}, 15)
        streams.update(begin_streams(rack))
        datagrams.update({address: rack.client.probe("udp", address, 9999, 10) for address in WHOLE})
        for probe in streams.values():
            wait_for("connections", lambda: sum(e["event"] == "connected" for e in probe.events()) == 20)
        known = {address: flows(source, vm, address) & sockets(rack.client, address) for address in WHOLE}
        assert [len(ports) for ports in known.values()] == [20, 20], known
        begun = {address: sockets(rack.client, address) for address in streams}
        if first == "late":
            for node in rack.lab.nodes.values():
                if node is not target:
                    late.enter_context(deaf(rack[node.name]))
        vm.run(["ip", "link", "delete", "eth0"])
        if first == "network":
            plug(vm, target, way)
            time.sleep(1)
        say(rack, [Place(vm.address4, vm.address6, target)])
        wait_for("the target's node to know that it is there", lambda: all(address in target.run(
            ["nft", "list", "set", "inet", "vipd", f"local{family}"]).stdout
            for address, family in ((vm.address4, 4), (vm.address6, 6))), 15)
        if first != "network":
            plug(vm, target, way)
        if first == "late":
            for address in WHOLE: # what is begun now waits, and takes no later connection's place on the new node
                rack.client.reaches(address, 9999, 0.5)
                own = vm.address6 if ":" in address else vm.address4
                assert target.run(["conntrack", "-L", "-f", "ipv6" if ":" in address else "ipv4", "-p", "tcp", "--orig-dst",
                                   own]).stdout == ""
            late.close()
        time.sleep(3)
        for address, before in known.items():
            assert before <= flows(source, vm, address), address
        ends = [what_is_known(rack, port) for address, ports in begun.items()
                for port in ports - sockets(rack.client, address)]
        for kind, probes in (("tcp", streams), ("udp", datagrams)):
            for address, probe in probes.items():
                seen = probe.stop()
                record_property(f"{kind}_{address}_gap_ms", seen["longest_ms"])
                assert not seen["dark"] if kind == "udp" else (seen["kept"], seen["lost"], seen["corrupt"]) == (20, 0, 0), \
                    f"{kind} {address} {seen} {probe.events()[-3:]} {ends}"  # as text: pytest shortens everything else
    finally:
        late.close()
        for probe in [*streams.values(), *datagrams.values()]:
            probe.kill()
        plug(vm, source, way)
        rack.cluster.hide("pair")
        expose(rack, "whole", WHOLE, ["db"])
        expose_some(rack)
        for address in WHOLE:
            rack.cluster.serves(address, 9999, vm="db", seconds=20)


@contextlib.contextmanager
def deaf(daemon):
    """It hears nothing of what is wanted; what it has it keeps."""
    feeder = daemon.feeder()
    os.kill(feeder, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(feeder, signal.SIGCONT)


def what_is_known(rack, port):
    """Of a client's port (sport=N), on each node: why its connection ended. A port that two connections have, or an entry
    to the pod's own address, is what ends one."""
    return port, {node.name: [" ".join(line.split()) for family in ("ipv4", "ipv6") for line in node.run(
        ["conntrack", "-L", "-f", family, "-p", "tcp"]).stdout.splitlines() if f"{port[1:]} " in line]
        for node in rack.lab.nodes.values()}


def test_the_node_that_a_vm_leaves_hears_it_last(rack, whole):
    """All others send its connections to where it will be, which sends them on, translated, as long as the pod network says
    so. The old one knows them by the address. A second entry would give the client another port, by which a later
    connection of that client is known here by one more, and here alone: lost when the VM moves. This VM comes back."""
    vm, source, target = rack.lab.vms["db"], rack.lab["n3"], rack.lab["n2"]
    owned_by_others(rack, source)
    streams = {address: rack.client.probe("stream", address, 9999, 10, 20) for address in WHOLE}
    try:
        for probe in streams.values():
            wait_for("connections", lambda: sum(e["event"] == "connected" for e in probe.events()) == 20)
        with deaf(rack[source.name]):
            vm.run(["ip", "link", "delete", "eth0"])
            say(rack, [Place(vm.address4, vm.address6, target)])
            for address in WHOLE:
                wait_for("every connection to go the other way", lambda: len(flows(target, vm, address)) >= 20, 10)
        for family, address in (("ipv4", vm.address4), ("ipv6", vm.address6)):
            listed = source.run(["conntrack", "-L", "-f", family, "-p", "tcp", "--orig-dst", address]).stdout
            # The client's port and the VM's, each of them twice.
            assert [line for line in listed.splitlines() if len(set(re.findall(r"port=(\d+)", line))) > 2] == []
        plug(vm, source, lan_way)
        say(rack, [vm])
        for address in WHOLE:
            rack.cluster.serves(address, 9999, vm="db")
        time.sleep(1.5)  # what is to be reset has been by then
        for address, probe in streams.items():
            seen = probe.stop()
            assert (seen["kept"], seen["lost"], seen["corrupt"]) == (20, 0, 0), (address, seen)
    finally:
        for probe in streams.values():
            probe.kill()
        plug(vm, source, lan_way)
        rack.cluster.hide("pair", missing_ok=True)
        expose(rack, "whole", WHOLE, ["db"])
        for address in WHOLE:
            rack.cluster.serves(address, 9999, vm="db", seconds=20)


def flows(node, vm, address):
    """The client's ports from which connections to the VM through the address are known to a node."""
    listed = node.run(["conntrack", "-L", "-f", "ipv6" if ":" in address else "ipv4", "-p", "tcp", "--orig-dst", address])
    return {word for line in listed.stdout.splitlines() if f"src={vm.address6 if ':' in address else vm.address4} " in line
            for word in line.split() if word.startswith("sport=") and word != "sport=9999"}


def sockets(client, address):
    listed = client.run(["ss", "-Htn", "state", "established", "dst", f"[{address}]" if ":" in address else address])
    return {f"sport={line.split()[2].rpartition(':')[2]}" for line in listed.stdout.splitlines()}


def lan_way(node, six):
    return ["via", node.address6 if six else node.address4]


def plug(vm, target, way):
    """The VM's cable to another node, where its address goes with it: all nodes route it there."""
    home = target is vm.node
    port = f"vm{vm.index}" if home else "vmmoved"
    vm.run(["ip", "link", "delete", "eth0"], check=False)
    ip_batch(target.namespace, f"link add {port} type veth peer name eth0 netns {vm.namespace}",
             f"link set {port} master cni0 up", f"link set {port} type bridge_slave hairpin on")
    ip_batch(vm.namespace, "link set eth0 up", f"address add {vm.address4}/24 dev eth0",
             f"address add {vm.address6}/64 dev eth0 nodad",
             f"route add default via 10.244.{target.index}.1 dev eth0 onlink",
             f"route add default via fd00:10:244:{target.index:x}::1 dev eth0 onlink")
    for node in vm.lab.nodes.values():
        for address, length, six in ((vm.address4, 32, False), (vm.address6, 128, True)):
            node.run(["ip", "route", "del", f"{address}/{length}"], check=False)
            if not home:
                node.run(["ip", "route", "add", f"{address}/{length}",
                          *(["dev", "cni0"] if node is target else way(target, six))])


class Place:
    """Where the VM's pod is, or will be."""
    name = "db"

    def __init__(self, address4, address6, node):
        self.address4, self.address6, self.node = address4, address6, node


def say(rack, ready, preparing=()):
    """Which pods of the moving VM serve, and which are not ready yet; in both Services that it is in."""
    for name, addresses, ports, others, annotations in (
            ("whole", WHOLE, ["8022:22"], [], {"vipd.dev/all-ports": "true"}), ("pair", PAIR, [80], ["local"], {})):
        service = manifests.service(name, addresses, ports, annotations=annotations)
        vms = [*ready, *[rack.lab.vms[other] for other in others]]
        manifests.write(rack.cluster.folder / f"service-{name}.yaml", service, *manifests.slices(service, vms, preparing),
                        *[manifests.virtual_ip(address, service, OWNERS) for address in addresses])


def move(rack, vm, source, target, new4, new6):
    """The guest keeps its own address; the pod's is translated to it, as virt-launcher does. As KubeVirt has it the
    target's pod stands in the slice before it is ready, and for a moment neither is."""
    moved = Place(new4, new6, target)
    say(rack, [vm], [moved])
    wait_for("the target's node to be prepared", lambda: all(new in target.run(
        ["nft", "list", "map", "inet", "vipd", name + family]).stdout for name in ("wholereverse", "reverse")
        for new, family in ((new4, "4"), (new6, "6"))), 15)
    source.run(["ip", "link", "delete", f"vm{vm.index}"])
    port = "vmmoved"
    ip_batch(target.namespace, f"link add {port} type veth peer name eth0 netns {vm.namespace}",
             f"link set {port} master cni0 up", f"link set {port} type bridge_slave hairpin on")
    ip_batch(vm.namespace, "link set eth0 up", f"address add {new4}/24 dev eth0", f"address add {new6}/64 dev eth0 nodad",
             "route add default via 10.244.2.1", "route add default via fd00:10:244:2::1",
             f"address add {vm.address4}/32 dev lo", f"address add {vm.address6}/128 dev lo nodad")
    vm.run(["nft", "-f", "-"], text=f"""
table inet launcher {{
  chain prerouting {{ type nat hook prerouting priority dstnat; policy accept;
    ip daddr {new4} dnat ip to {vm.address4}
    ip6 daddr {new6} dnat ip6 to {vm.address6}
  }}
  chain postrouting {{ type nat hook postrouting priority srcnat; policy accept;
    ip saddr {vm.address4} snat ip to {new4}
    ip6 saddr {vm.address6} snat ip6 to {new6}
  }}
}}
""")
    say(rack, [], [moved])
    time.sleep(0.5)
    say(rack, [moved])


def move_back(rack, vm, source, target, new4, new6):
    """However far it came: what fails here fails alone."""
    vm.run(["nft", "delete", "table", "inet", "launcher"], check=False)
    vm.run(["ip", "link", "delete", "eth0"], check=False)
    vm.run(["ip", "address", "flush", "dev", "lo", "scope", "global"], check=False)
    ip_batch(source.namespace, f"link add vm{vm.index} type veth peer name eth0 netns {vm.namespace}",
             f"link set vm{vm.index} master cni0 up", f"link set vm{vm.index} type bridge_slave hairpin on")
    ip_batch(vm.namespace, "link set eth0 up", f"address add {vm.address4}/24 dev eth0",
             f"address add {vm.address6}/64 dev eth0 nodad", f"route add default via 10.244.{source.index}.1",
             f"route add default via fd00:10:244:{source.index:x}::1")
    expose(rack, "whole", WHOLE, ["db"])
