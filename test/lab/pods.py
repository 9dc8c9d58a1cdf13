"""Pods that hold a virtual machine, and machines that move from one to another."""
import sys

from lab import ROOT, Host, ip_batch


class Pod(Host):
    """A virt-launcher pod with KubeVirt's masquerade binding: the guest has 10.0.2.2 wherever it runs."""

    def __init__(self, lab, name, node, index):
        super().__init__(lab, name)
        self.node, self.index = node, index
        self.address4, self.address6 = f"10.244.{node.index}.{index}", f"fd00:10:244:{node.index:x}::{index:x}"

    def build(self):
        self.create(forward=True)
        i, port = self.node.index, f"pod{self.index}"
        ip_batch(self.node.namespace, f"link add {port} type veth peer name eth0 netns {self.namespace}",
                 f"link set {port} master cni0 up", f"link set {port} type bridge_slave hairpin on")
        ip_batch(self.namespace, "link set eth0 up", f"address add {self.address4}/24 dev eth0",
                 f"address add {self.address6}/64 dev eth0 nodad", f"route add default via 10.244.{i}.1",
                 f"route add default via fd00:10:244:{i:x}::1",
                 "link add k6t type bridge stp_state 0 forward_delay 0", "link set k6t address 02:00:00:00:77:01 up",
                 "address add 10.0.2.1/24 dev k6t", "address add fd10:0:2::1/120 dev k6t nodad")
        self.run(["nft", "-f", "-"], text="""
table inet binding {
  chain pre { type nat hook prerouting priority dstnat;
    iifname eth0 tcp dport 4444 accept # a migration comes to the pod itself
    iifname eth0 meta nfproto ipv4 meta l4proto { tcp, udp } dnat ip to 10.0.2.2
    iifname eth0 meta nfproto ipv6 meta l4proto { tcp, udp } dnat ip6 to fd10:0:2::2
  }
  chain post { type nat hook postrouting priority srcnat;
    oifname eth0 ip saddr 10.0.2.2 masquerade
    oifname eth0 ip6 saddr fd10:0:2::2 masquerade
  }
}
""")
        return self


class Guest(Host):
    """The virtual machine: a network stack of its own that is plugged into one pod or another."""

    def build(self, pod):
        self.create()
        self.plug(pod, first=True)
        self.server = self.start("server", [sys.executable, ROOT / "test/tools/vm_server.py", self.name, "22", "80"])
        self.server.wait_output("ready")
        return self

    def plug(self, pod, first=False):
        if not first:
            ip_batch(self.namespace, "link delete eth0")
        ip_batch(pod.namespace, f"link add tap0 type veth peer name eth0 address 02:00:00:aa:bb:cc "
                 f"netns {self.namespace}", "link set tap0 master k6t up")
        ip_batch(self.namespace, "link set eth0 up", "address add 10.0.2.2/24 dev eth0",
                 "address add fd10:0:2::2/120 dev eth0 nodad", "route add default via 10.0.2.1",
                 "route add default via fd10:0:2::1")


class Place:
    """What an EndpointSlice says of a VM: its name, its pod's addresses, its node."""

    def __init__(self, name, pod):
        self.name, self.node, self.address4, self.address6 = name, pod.node, pod.address4, pod.address6
