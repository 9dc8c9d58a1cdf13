"""What else may be the LAN's interface where br_netfilter is on: a macvlan or a VLAN on a bridge. And data plane announce on a bridge."""
import contextlib

import pytest

from bridged_test import CURE, HERE, NAMES, a_hanging_owner_lets_no_data_through, bridge, frozen, have_n1_own, passes_on_and_serves, said
from conftest import BOTH, V4, Rack
from dataplane_modes_test import local_servers
from lab import wait_for


def test_a_macvlan_on_a_bridge_is_told_to_be_impossible():
    """What is said helps."""
    with Rack() as rack:
        bridge(rack, "stacked")
        have_n1_own(rack)
        for name in NAMES:
            wait_for("it to be said", lambda: "eth1 stands on the bridge br0" in said(rack, name) and CURE in said(rack, name), 15)
        assert not rack.client.reaches(V4, 22, 0.5) and not rack.client.reaches(HERE[0], 80, 0.5)
        for name in NAMES:
            rack.lab[name].run(CURE.replace("sysctl", "sysctl -w").split())
            wait_for("all clear", lambda: said(rack, name) == "", 10)
        passes_on_and_serves(rack)
        a_hanging_owner_lets_no_data_through(rack)
        assert rack.lab.sanitizer_reports() == []


@pytest.mark.parametrize("tagged_too", [0, 1], ids=["alone", "br_netfilter"])
def test_a_vlan_on_a_bridge(tagged_too):
    """br_netfilter leaves its frames alone, or else it is told, and what is said helps."""
    with Rack() as rack:
        bridge(rack, "tagged")
        for name in NAMES:
            rack.lab[name].run(["sysctl", "-w", f"net.bridge.bridge-nf-filter-vlan-tagged={tagged_too}"])
        have_n1_own(rack)
        for name in NAMES if tagged_too else ():
            wait_for("it to be said", lambda: "eth1 stands on the bridge br0" in said(rack, name) and CURE in said(rack, name), 15)
            rack.lab[name].run(CURE.replace("sysctl", "sysctl -w").split())
            wait_for("all clear", lambda: said(rack, name) == "", 10)
        passes_on_and_serves(rack)
        a_hanging_owner_lets_no_data_through(rack)
        assert rack.lab.sanitizer_reports() == []


@contextlib.contextmanager
def somebody_translates(node):
    """As kube-proxy does: port 8023 of any address to the node's VM."""
    vm = node.vms[0]
    node.run(["nft", "-f", "-"], text=f"""
table inet other {{
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    ip daddr {V4} tcp dport 8023 dnat ip to {vm.address4}:22
    ip6 daddr {BOTH[1]} tcp dport 8023 dnat ip6 to [{vm.address6}]:22
  }}
}}
""")
    try:
        yield vm
    finally:
        node.run(["nft", "delete", "table", "inet", "other"])


@pytest.mark.parametrize("called", [0, 1], ids=["alone", "br_netfilter"])
def test_announce_on_a_bridge(called):
    """A process of the owner answers, and whoever else translates; neither does when the daemon hangs or is dead."""
    with Rack(dataplane="announce") as rack:
        bridge(rack, called=called)
        have_n1_own(rack)
        node, client = rack.lab["n1"], rack.client

        def answers():
            return {(address, port): client.reaches(address, port, 0.5) for address in BOTH for port in (8022, 8023)}

        with local_servers(rack), somebody_translates(node) as vm, frozen(rack, *BOTH):
            everything = {(address, port): name for address in BOTH for port, name in ((8022, "on-n1"), (8023, vm.name))}
            assert answers() == everything
            assert all(client.pings(address) for address in BOTH)
            text = "y" * 30000
            assert all(client.ask(address, 8022, text) == ("on-n1", f"on-n1 {text}") for address in BOTH)
            for stop, start in ((rack["n1"].hang, rack["n1"].wake), (rack["n1"].kill, rack["n1"].start)):
                stop()
                wait_for("its fence to fall", lambda: "expires" not in node.run(
                    ["nft", "list", "table", "netdev", "vipd"]).stdout, 5)
                assert set(answers().values()) == {None}
                assert not any(client.pings(address, 0.5) for address in BOTH)
                start()
                have_n1_own_again(rack)
                assert answers() == everything
        assert rack.lab.sanitizer_reports() == []


def have_n1_own_again(rack):
    """Without a question of the client's, whose neighbour table is frozen."""
    wait_for("n1 to be eligible", lambda: all(rack["n1"].eligible(address) for address in BOTH), 15)
    rack["n3"].stop()
    wait_for("n1 to own", lambda: all(rack.cluster.holders(address) == ["n1"] for address in BOTH), 15)
    rack["n3"].start()
    rack["n3"].process.wait_output("ready:")
