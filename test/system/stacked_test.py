"""The LAN's interface stands on the one with the default route, as a macvlan or a VLAN: one cable for both networks."""
import pytest

import two_homed_test
from conftest import BOTH
from lab import ip_batch


def stack(node):
    """The cable of the LAN is that of both networks, and eth0; eth1 is a macvlan on it."""
    ip_batch(node.namespace, "link delete eth0", "link set eth1 down", f"link set eth1 name eth0 address 02:00:00:00:02:{node.index:02x}",
             "link set eth0 up", "address flush dev eth0 scope global", f"address add {node.management}/24 dev eth0",
             f"link add link eth0 name eth1 address {node.mac} type macvlan mode bridge", "link set eth1 up", *node.lan_lines())


class Stacked(two_homed_test.TwoHomed):
    stacked = False

    def settle(self):
        if not self.stacked:
            ip_batch(self.lab.switch.namespace, "link add one type veth peer name other", "link set one master lan up",
                     "link set other master mgt up")
            for node in self.lab.nodes.values():
                stack(node)
            self.stacked = True
        return super().settle()


@pytest.fixture(scope="module")
def rack_of_module():
    with Stacked() as rack:
        yield rack


def test_clients_beyond_the_lan_are_answered(rack):
    for address in BOTH:
        rack.is_reached_from_everywhere(address)
        assert rack.lab.far.pings(address)
