"""The pod network of a lab in VXLAN, as flannel and Calico make it: what is for another node's pods is routed into a
device `pods` that knows all other nodes; nobody between the nodes sees an address of a pod."""
import contextlib

from lab import ip_batch

DEVICE = "pods"


def mac(node):
    return f"02:00:00:01:00:{node.index:02x}"


def way(node, six):
    """To the pods of `node` from another one, for `ip route`."""
    return ["via", f"fe80::{node.index:x}" if six else f"10.244.{node.index}.0", "dev", DEVICE, "onlink"]


def dig(node, others):
    ip_batch(node.namespace,
             f"link add {DEVICE} address {mac(node)} type vxlan id 1 dstport 8472 local {node.address4} dev eth1 nolearning",
             f"link set {DEVICE} addrgenmode none up", f"address add 10.244.{node.index}.0/32 dev {DEVICE}",
             f"address add fe80::{node.index:x}/64 dev {DEVICE} nodad")
    for other in others:
        node.run(["bridge", "fdb", "append", mac(other), "dev", DEVICE, "dst", other.address4])
        ip_batch(node.namespace,
                 f"neigh add 10.244.{other.index}.0 lladdr {mac(other)} dev {DEVICE} nud permanent",
                 f"neigh add fe80::{other.index:x} lladdr {mac(other)} dev {DEVICE} nud permanent",
                 f"route replace 10.244.{other.index}.0/24 {' '.join(way(other, False))}",
                 f"route replace fd00:10:244:{other.index:x}::/64 {' '.join(way(other, True))}")


@contextlib.contextmanager
def tunnel(lab):
    nodes = list(lab.nodes.values())
    try:
        for node in nodes:
            dig(node, [other for other in nodes if other is not node])
        yield
    finally:
        for node in nodes:
            node.run(["ip", "link", "delete", DEVICE], check=False)
            ip_batch(node.namespace, *node.lan_lines())
