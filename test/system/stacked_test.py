"""The LAN's interface stands on the one with the default route, as a macvlan or a VLAN, one cable for both networks; or on a
cable of its own, as a bond."""
import contextlib

import pytest

import two_homed_test
from conftest import BOTH, interfaces_of_kind
from lab import ip_batch


def share(node):
    """The cable of the LAN is that of both networks, and eth0."""
    return ["link delete eth0", "link set eth1 down", "link set eth1 name eth0", "link set eth0 up",
            "address flush dev eth0 scope global", f"address add {node.management}/24 dev eth0"]


def macvlan(lab):
    """Both networks are one Ethernet."""
    ip_batch(lab.switch.namespace, "link add one type veth peer name other", "link set one master lan up",
             "link set other master mgt up")
    for node in lab.nodes.values():
        ip_batch(node.namespace, *share(node), f"link set eth0 address 02:00:00:00:02:{node.index:02x}",
                 f"link add link eth0 name eth1 address {node.mac} type macvlan mode bridge", "link set eth1 up",
                 *node.lan_lines())


def vlan(lab):
    """The LAN is what is tagged at a node's port, the management network what is not."""
    for node in lab.nodes.values():
        port = f"lan-{node.name}"
        ip_batch(lab.switch.namespace, f"link set {port} down", f"link set {port} name cable-{node.name} master mgt up",
                 f"link add link cable-{node.name} name {port} type vlan id 100", f"link set {port} master lan up")
        ip_batch(node.namespace, *share(node), "link add link eth0 name eth1 type vlan id 100", "link set eth1 up",
                 *node.lan_lines())


def bond(lab):
    for node in lab.nodes.values():
        ip_batch(node.namespace, "link set eth1 down", "link set eth1 name port1", "address flush dev port1",
                 f"link add eth1 address {node.mac} type bond mode active-backup miimon 100", "link set port1 master eth1",
                 "link set eth1 up", *node.lan_lines())


class Stacked(two_homed_test.TwoHomed):
    def __init__(self, stack):
        super().__init__()
        self.stack = stack

    def settle(self):
        stack, self.stack = self.stack, None
        if stack:
            stack(self.lab)
        return super().settle()


@pytest.fixture(scope="module", params=[macvlan, vlan, bond], ids=lambda stack: stack.__name__)
def rack_of_module(request):
    with contextlib.ExitStack() as stack:
        with interfaces_of_kind(request.param.__name__):
            rack = stack.enter_context(Stacked(request.param))
        yield rack


def test_clients_beyond_the_lan_are_answered(rack):
    for address in BOTH:
        rack.is_reached_from_everywhere(address)
        assert rack.lab.far.pings(address)


def test_the_next_owner_is_reached_as_well(rack):
    first = rack.owner()
    rack[first].kill()
    for address in BOTH:
        rack.cluster.owner(address, other_than=first)
        rack.is_reached_from_everywhere(address)
