"""Manifests and the kernel change under a running vipd: what is wanted comes, what is not wanted goes."""
import re
import time

import pytest

from conftest import BOTH, V4, V6
from lab import ip_batch, wait_for
import manifests

W4, W6 = "192.0.2.30", "2001:db8::1:30"


@pytest.fixture
def web(rack):
    """A second Service with addresses of its own; gone again after the test."""
    rack.cluster.expose("web", [W4, W6], ["near"], (80,))
    rack.cluster.serves(W4, 80, vm="near")
    rack.cluster.serves(W6, 80, vm="near")
    yield rack.cluster
    rack.cluster.hide("web", missing_ok=True)
    rack.cluster.gone(W4, W6)


def nothing_else_moved(seen):
    for by in seen.values():
        assert by["arp"]["outages"] == 0 and by["arp"]["two"] == 0 and by["connect"]["lost"] == 0
        assert by["stream"]["kept"] == 5 and by["stream"]["lost"] == 0


def rules_of(node):
    """The rules of vipd without what changes by itself: counters, and the sets of the fence."""
    text = "".join(node.run(["nft", "-s", "list", "table", family, "vipd"], check=False).stdout
                   for family in ("netdev", "inet", "arp"))
    text = re.sub(r"set (alive|leaving)[46] \{[^}]*(\}[^}]*)?\}", "", text)
    return sorted(line for line in text.splitlines() if "expires" not in line)


def test_a_service_comes_and_goes(rack):
    watch = rack.watch()
    rack.cluster.expose("web", [W4, W6], ["near"], (80,))
    for address in (W4, W6):
        rack.cluster.serves(address, 80, vm="near")
    rack.cluster.hide("web")
    rack.cluster.gone(W4, W6)
    for address in (W4, W6):
        assert rack.client.mac_of(address, timeout=0.3) is None
    nothing_else_moved(watch.stop())
    for name in rack.cluster.daemons:
        assert [router["addresses"] for router in rack[name].status()["routers"]
                if router["addresses"] not in BOTH] == []


def test_ports_and_endpoints_change(rack, web):
    watch = rack.watch()
    web.expose("web", [W4, W6], ["local"], (80,))
    web.serves(W4, 80, vm="local")
    web.serves(W6, 80, vm="local")
    web.expose("web", [W4, W6], ["local"], ("8080:80", 22))
    web.serves(W4, 8080, vm="local")
    web.serves(W6, 22, vm="local")
    for address in (W4, W6):
        with pytest.raises(ConnectionRefusedError):
            rack.client.connect(address, 80)
    web.expose("web", [W4, W6], [], (80,))
    wait_for("no VM to be refused", lambda: not rack.client.reaches(W4, 80) and not rack.client.reaches(W4, 22))
    web.expose("web", [W4, W6], ["db"], (80,))
    web.serves(W4, 80, vm="db")
    nothing_else_moved(watch.stop())


def test_a_connection_to_a_vm_that_stays_outlives_the_others(rack, web):
    """A second VM comes, another goes: who talks to the one that stays notices nothing."""
    web.expose("web", [W4, W6], ["near", "local"], (80,))
    wait_for("both VMs", lambda: {rack.client.reaches(W4, 80) for _ in range(12)} == {"near", "local"})
    web.expose("web", [W4, W6], ["near"], (80,))
    wait_for("one VM", lambda: {rack.client.reaches(W4, 80) for _ in range(12)} == {"near"})
    probe = rack.client.probe("stream", W4, 80, 10, 5)
    wait_for("connections", lambda: sum(event["event"] == "connected" for event in probe.events()) == 5)
    web.expose("web", [W4, W6], ["near"], (80, 22))
    web.serves(W4, 22)
    time.sleep(0.3)
    seen = probe.stop()
    assert seen["kept"] == 5 and seen["lost"] == 0 and seen["longest_ms"] < 500


def test_another_address_for_a_service(rack, web):
    web.expose("web", ["192.0.2.31"], ["near"], (80,))
    web.serves("192.0.2.31", 80)
    web.gone(W4, W6)
    web.expose("web", [W4, W6], ["near"], (80,))
    web.serves(W6, 80)
    web.gone("192.0.2.31")


def test_two_services_share_an_address(rack, web):
    key = {"vipd.dev/sharing-key": "front"}
    web.expose("web", [W4], ["near"], (80,), annotations=key)
    web.expose("shell", [W4], ["local"], (22,), annotations=key)
    web.serves(W4, 22, vm="local")
    web.serves(W4, 80, vm="near")
    assert len(web.holders(W4)) == 1
    web.hide("shell")
    web.refuses(W4, 22)
    assert rack.client.reaches(W4, 80) == "near"


def test_all_manifests_change_at_once(rack, web):
    """Another pool, other addresses, another interval: everything new is there, nothing old is left."""
    held = {path: path.read_text() for path in web.folder.glob("*.yaml")}
    try:
        web.pool(addresses=["192.0.2.64/27", "2001:db8::2:0/120"],
                 vrrp={"advertisementIntervalMilliseconds": 50})
        web.hide("web")
        web.expose("ssh", ["192.0.2.70", "2001:db8::2:10"], ["db"], (22,), candidates=["n2", "n1"])
        for address in ("192.0.2.70", "2001:db8::2:10"):
            web.serves(address, 22, vm="db")
            assert len(web.holders(address)) == 1
        web.gone(V4, V6, W4, W6)
        for address in (V4, W6):
            assert rack.client.mac_of(address, timeout=0.3) is None
    finally:
        for path in web.folder.glob("*.yaml"):
            path.unlink()
        for path, text in held.items():
            path.write_text(text)
    web.serves(V4, 80)
    web.gone("192.0.2.70", "2001:db8::2:10")


def test_all_manifests_go(rack):
    """Only the nodes are left: nothing of vipd stays in any kernel."""
    held = {path: path.read_text() for path in rack.cluster.folder.glob("service-*.yaml")}
    for path in held:
        path.unlink()
    try:
        rack.cluster.gone(V4, V6)
        wait_for("the tables to go", lambda: all(
            "vipd" not in node.ruleset() for node in rack.lab.nodes.values()))
    finally:
        for path, text in held.items():
            path.write_text(text)
    rack.cluster.serves(V4, 80)


@pytest.mark.parametrize("who", ["owner", "backup", "all"])
def test_removed_while_a_daemon_was_down(rack, web, who):
    owner = web.owner(W4)
    names = {"owner": [owner], "backup": [name for name in web.daemons if name != owner][:1],
             "all": list(web.daemons)}[who]
    for name in names:
        web[name].kill()
    web.hide("web")
    for name in names:
        web[name].start()
    for name in names:
        web[name].process.wait_output("ready:")
    web.gone(W4, W6)
    rack.cluster.serves(V4, 80)


def test_flush_ruleset_by_an_administrator(rack, record_property):
    """The rules are back within milliseconds; connections: dataplane_survival_test.py."""
    watch = rack.watch(kinds=("arp", "connect"))
    for node in rack.lab.nodes.values():
        node.run(["nft", "flush", "ruleset"])
    wait_for("the rules to come back", lambda: all(
        "map service4" in node.ruleset() for node in rack.lab.nodes.values()), 2)
    for address in BOTH:
        rack.cluster.serves(address, 80, seconds=2)
    time.sleep(0.3)
    for address, by in watch.stop().items():
        record_property(f"{address}_connect_longest_ms", by["connect"]["longest_ms"])
        assert not by["connect"]["dark"] and by["connect"]["longest_ms"] < 1000
        assert by["arp"]["two"] == 0 and by["arp"]["longest_ms"] < 500
    for name, daemon in rack.cluster.daemons.items():
        assert "nft (pid " in daemon.log() and "put back" in daemon.log(), name


@pytest.mark.parametrize("name, command", {
    "table": ("n3", "delete table inet vipd"),
    "arp": ("owner", f"delete element arp vipd vips4 {{ {V4} }}"),
    "chain": ("owner", "flush chain netdev vipd in-eth1"),
    "element": ("n3", f"delete element inet vipd service4 {{ {V4} . tcp . 80 }}"),
    "added": ("n3", "insert rule inet vipd prerouting tcp dport 80 drop"),
}.items(), ids=lambda value: value if isinstance(value, str) else "")
def test_rules_of_ours_edited_by_hand(rack, name, command):
    """What was taken away is put back, what was added is taken away."""
    where, words = command
    node = rack.lab[rack.owner() if where == "owner" else where]
    before = rules_of(node)
    node.run(["nft", *words.split()])
    wait_for("the rules to be as before", lambda: rules_of(node) == before, 5)
    rack.cluster.serves(V4, 80)


def test_tables_deleted_one_after_the_other_are_back_at_once(rack):
    """The second command finds what the first took away put back, and takes away the other half: the owner stays the owner."""
    owner = rack.owner()
    node, said = rack.lab[owner], len(rack[owner].log())
    for _ in range(3):
        time.sleep(1.1)  # whoever is undone all the time waits for the next look
        before = rules_of(node)
        for family in ("inet", "netdev", "arp"):
            node.run(["nft", "delete", "table", family, "vipd"])
            wait_for(f"table {family} to be back", lambda: rules_of(node) == before, 1)
        node.run(["sh", "-c", "nft delete table inet vipd; nft delete table netdev vipd"])
        wait_for("both to be back", lambda: rules_of(node) == before, 1)
    rack.cluster.serves(V4, 80)
    assert rack.owner() == owner
    assert "gave up" not in rack[owner].log()[said:], rack[owner].log()[said:]


def test_a_change_that_no_event_tells_of_is_found(rack):
    """More notices than the kernel keeps for a process that does not read: those that are lost are a reason to look."""
    node, daemon = rack.lab["n3"], rack["n3"]
    before, said = rules_of(node), len(daemon.log())
    elements = ", ".join(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}" for i in range(60000))
    daemon.hang()
    try:
        node.run(["nft", "-f", "-"], text="table ip other { set many { type ipv4_addr; }; }\n"
                 f"add element ip other many {{ {elements} }}\n")
        node.run(["nft", "delete", "element", "inet", "vipd", "service4", f"{{ {V4} . tcp . 80 }}"])
        node.run(["nft", "delete", "table", "ip", "other"])
    finally:
        daemon.wake()
    wait_for("the rules to be as before", lambda: rules_of(node) == before, 15)
    assert "nobody was seen to change them: put right" in daemon.log()[said:]
    rack.cluster.serves(V4, 80)


def test_an_address_deleted_by_hand_comes_back(rack):
    owner = rack.lab[rack.owner()]
    for address, length in ((V4, 32), (V6, 128)):
        owner.run(["ip", "address", "delete", f"{address}/{length}", "dev", "eth1"])
        wait_for("it to be back", lambda: address in owner.addresses("eth1"), 2)
    owner.run(["ip", "address", "flush", "dev", "eth1", "to", "192.0.2.0/28"])
    owner.run(["ip", "address", "add", f"{owner.address4}/24", "dev", "eth1"])
    owner.run(["ip", "route", "replace", "default", "via", "192.0.2.254"])
    rack.cluster.serves(V4, 80)


def test_the_interface_goes_and_comes_back(rack):
    """eth1 down and up by an administrator: another owner, and the rules bind to it again."""
    owner = rack.owner()
    node = rack.lab[owner]
    watch = rack.watch(kinds=("arp", "connect", "stream"))
    node.run(["ip", "link", "set", "eth1", "down"])
    rack.cluster.owner(V4, other_than=owner)
    ip_batch(node.namespace, "link set eth1 up", *node.lan_lines())
    time.sleep(1)
    for by in watch.stop().values():
        assert by["arp"]["two"] == 0 and by["stream"]["kept"] == 5
    rack[rack.owner()].stop()
    rack.cluster.serves(V4, 80)


def made_anew(node, kind):
    """eth1 deleted, and another one of its name, MAC and addresses: a cable, a bridge, a macvlan on one or the other, a VLAN on
    a bridge."""
    lan, switch = f"lan-{node.name}", node.lab.switch.namespace
    cable = f"cable-{node.name}" if kind == "tagged" else lan
    node.run(["ip", "link", "delete", "eth1"])
    yield node.lab.switch.run(["ip", "link", "delete", lan], check=False)  # it may have gone with the other end
    if kind == "veth":
        ip_batch(switch, f"link add {lan} type veth peer name eth1 address {node.mac} netns {node.namespace}")
    else:
        ip_batch(switch, f"link add {cable} type veth peer name trunk netns {node.namespace}")
        ip_batch(node.namespace, "link set trunk up", *{
            "macvlan": [f"link add link trunk name eth1 address {node.mac} type macvlan"],
            "stacked": ["link add br0 type bridge forward_delay 0", "link set trunk master br0", "link set br0 up",
                        f"link add link br0 name eth1 address {node.mac} type macvlan mode bridge"],
            "tagged": [f"link add br0 address {node.mac} type bridge forward_delay 0", "link set trunk master br0", "link set br0 up",
                       "link add link br0 name eth1 type vlan id 100"],
            "bridge": [f"link add eth1 address {node.mac} type bridge forward_delay 0", "link set trunk master eth1"]}[kind])
    if kind == "tagged":
        ip_batch(switch, f"link set {cable} up", f"link add link {cable} name {lan} type vlan id 100")
    ip_batch(switch, f"link set {lan} master lan up")
    yield ip_batch(node.namespace, "link set eth1 up", *node.lan_lines())


def call_netfilter(node, value):
    """br_netfilter, if it is there: see README of nft."""
    node.run(["sysctl", "-w", *[f"net.bridge.bridge-nf-call-{name}={value}" for name in ("iptables", "ip6tables")]], check=False)


@pytest.mark.parametrize("kind, pause", [("veth", "owner"), ("veth", "rules"), ("bridge", "rules"), ("macvlan", "rules"), ("macvlan", "")])
@pytest.mark.parametrize("who", ["owner", "member"])
def test_an_interface_is_made_anew(rack, who, kind, pause):
    """On the owner, or on the VM's node: `ip link del` and `add` by whatever configures the network. Connections go on,
    and the new one is one to own addresses on, to pass packets on over, and to answer from."""
    node = rack.lab[rack.owner() if who == "owner" else "n3"]
    if kind == "bridge":
        call_netfilter(node, 0)
    watch = rack.watch(kinds=("arp", "stream"))
    try:
        steps = made_anew(node, kind)
        next(steps)
        if pause == "owner":
            for address in BOTH:
                rack.cluster.owner(address, other_than=node.name)
        elif pause == "rules":  # those without it stand when it comes, and its first packets are quicker than new ones
            wait_for("rules without it", lambda: "iifname \"eth1\"" not in node.run(
                ["nft", "list", "chain", "inet", "vipd", "midstream"]).stdout, 5, 0.002)
            rack[node.name].hang()
        next(steps)
        if pause == "rules":
            time.sleep(0.2)
            rack[node.name].wake()
        wait_for("it to be a segment again", lambda: all(rack[node.name].eligible(address) for address in BOTH))
        for address in BOTH:
            rack.cluster.serves(address, vm="db")
            assert rack.client.ask_udp(address, 80, "x" * 4000) == ("db", "x" * 4000)
        for by in watch.stop().values():
            assert by["arp"]["two"] == 0 and (by["stream"]["kept"], by["stream"]["lost"]) == (5, 0)
        for other in rack.cluster.daemons:
            if other not in (node.name, "n3"):
                rack[other].stop()
        for address in BOTH:
            if node.name != "n3":
                wait_for("it to own again", lambda: rack.cluster.owner(address) == node.name)
            rack.cluster.serves(address, vm="db")
            assert rack.client.ask_udp(address, 80, "x" * 4000) == ("db", "x" * 4000)
    finally:
        list(made_anew(node, "veth"))
        call_netfilter(node, 1)


def test_another_mac_is_announced(rack):
    """As when a bond takes its second port: who has the old MAC in mind is told, and nothing moves."""
    owner = rack.owner()
    node = rack.lab[owner]
    other = "02:00:00:00:aa:01"
    watch = rack.watch(kinds=("ping", "stream"))
    for mac in (other, node.mac):
        node.run(["ip", "link", "set", "eth1", "address", mac])
        for address in BOTH:
            wait_for(f"{address} to be at {mac}", lambda: rack.client.mac_of(address) == mac)
        time.sleep(1.5)  # the client would ask by itself after some seconds
    for by in watch.stop().values():
        assert by["ping"]["longest_ms"] < 1000 and not by["ping"]["dark"], by
        assert by["stream"]["kept"] == 5 and by["stream"]["lost"] == 0
    assert rack.owner() == owner


def test_another_mac_of_the_vm_s_node_is_followed(rack):
    """The owner passes on to the new one, nobody passes on what comes from it, and connections go on."""
    owner, node = rack.owner(), rack.lab["n3"]
    other = "02:00:00:00:aa:03"
    watch = rack.watch(kinds=("arp", "stream"))

    def known(name, table):
        return rack.lab[name].run(["nft", "list", "set", *table]).stdout
    try:
        for mac, gone in ((other, node.mac), (node.mac, other)):
            node.run(["ip", "link", "set", "eth1", "address", mac])
            for name in ("n1", "n2"):
                for table in (("netdev", "vipd", "peers"), ("inet", "vipd", "members")):
                    wait_for(f"{name} to know {mac}", lambda: mac in (found := known(name, table)) and gone not in found)
            for address in BOTH:
                assert rack.client.ask(address, 22)[0] == "db"
                assert rack.client.ask_udp(address, 80, "x" * 4000) == ("db", "x" * 4000)
            time.sleep(1.5)  # the owner would ask by itself after some seconds
    finally:
        node.run(["ip", "link", "set", "eth1", "address", node.mac])
    for by in watch.stop().values():
        assert by["arp"]["two"] == 0 and not by["arp"]["dark"]
        assert (by["stream"]["kept"], by["stream"]["lost"], by["stream"]["stuck"]) == (5, 0, 0)
        assert by["stream"]["longest_ms"] < 1500, by
    assert rack.owner() == owner


def large_answer(host, address, text):
    try:
        return host.ask_udp(address, 80, text)
    except OSError:
        return None


def test_the_segment_s_mtu_changes(rack):
    """Smaller, then jumbo frames, on every port and node, with connections running: large answers and datagrams arrive,
    who is behind a smaller path still (1280, told by the gateway) hears whole answers, too, and nothing moves."""
    owner, text = rack.owner(), "y" * 20000
    lan = [f"lan-{host.name}" for host in (rack.client, rack.lab.gateway, *rack.lab.nodes.values())]

    def frames(mtu):
        ip_batch(rack.lab.switch.namespace, *[f"link set {port} mtu {mtu}" for port in lan])
        for host in (rack.client, rack.lab.gateway, *rack.lab.nodes.values()):
            ip_batch(host.namespace, f"link set eth1 mtu {mtu}")
    watch = rack.watch(kinds=("arp", "stream"))
    rack.lab.gateway.run(["ip", "link", "set", "eth2", "mtu", "1280"])
    try:
        for mtu in (1400, 9000):
            frames(mtu)
            for address in BOTH:
                assert rack.client.ask(address, 22, text, timeout=5) == ("db", f"db {text}"), (mtu, address)
                # The VM's own network stays as it is: a sender of jumbo frames is told so, and its next datagram arrives.
                wait_for("a large datagram", lambda: large_answer(rack.client, address, text) == ("db", text))
                assert rack.lab.far.ask(address, 22, text, timeout=5) == ("db", f"db {text}"), (mtu, address)
    finally:
        frames(1500)
        rack.lab.gateway.run(["ip", "link", "set", "eth2", "mtu", "1500"])
        for vm in rack.lab.vms.values():
            vm.run(["ip", "route", "flush", "cache"])
    for by in watch.stop().values():
        assert by["arp"]["two"] == 0 and (by["stream"]["kept"], by["stream"]["lost"]) == (5, 0)
    assert rack.owner() == owner


def test_a_member_s_address_on_the_segment_changes(rack):
    """The VM's node has another address, and its Node object says so a moment later: the owner passes on to that one,
    and connections go on."""
    owner, node = rack.lab[rack.owner()], rack.lab["n3"]
    watch = rack.watch(kinds=("arp", "stream"))

    def renumber(address4, address6):
        node.address4, node.address6 = address4, address6
        ip_batch(node.namespace, "address flush dev eth1 scope global")
        for host in rack.lab.nodes.values():
            ip_batch(host.namespace, *host.lan_lines())
        time.sleep(0.5)
        manifests.write(rack.cluster.folder / "nodes.yaml", *map(manifests.node, rack.lab.nodes.values()))
        for family, address in ((4, address4), (6, address6)):
            wait_for(f"the owner to pass on to {address}", lambda: f": {address} " in owner.run(
                ["nft", "list", "map", "netdev", "vipd", f"node{family}"]).stdout)
        for address in BOTH:
            rack.cluster.serves(address, vm="db")
    before = node.address4, node.address6
    try:
        renumber("192.0.2.33", "2001:db8::33")
    finally:
        renumber(*before)
    for by in watch.stop().values():
        assert by["arp"]["two"] == 0 and (by["stream"]["kept"], by["stream"]["lost"]) == (5, 0)
    assert rack.lab[rack.owner()] is owner


def test_hangup_reads_again(rack):
    """SIGHUP to the daemon: the manifests are read again, nothing else happens."""
    owner = rack.owner()
    watch = rack.watch()
    rack[owner].process.signal(1, everyone=False)
    time.sleep(0.5)
    assert rack[owner].running()
    nothing_else_moved(watch.stop())


def test_editors_and_odd_files(rack, web):
    """Files that editors leave, a file as `kubectl get -o yaml` writes a List, one renamed in place."""
    (web.folder / ".service-web.yaml.swp").write_bytes(b"\x00\x01binary")
    (web.folder / "notes.txt").write_text("not: [yaml")
    path = web.folder / "service-web.yaml"
    service = manifests.service("web", [W4], (80,))
    slices = manifests.slices(service, [rack.lab.vms["db"]])
    manifests.write(path, *map(manifests.server_filled, [service, *slices]), as_list=True)
    web.serves(W4, 80, vm="db")
    path.rename(web.folder / "renamed.yml")
    time.sleep(0.5)
    assert rack.client.reaches(W4, 80) == "db"
    (web.folder / "renamed.yml").unlink()
    web.gone(W4, W6)
