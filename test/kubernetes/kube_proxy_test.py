"""kube-proxy itself on every node, with the same Services: it takes nothing of what is for a VIP."""
import pytest

import manifests
import vipd
from cluster import OLDEST
from kube_proxy import KubeProxy
from lab import wait_for

SERVICES = "/api/v1/namespaces/vms/services"
NODE_PORT = 30022
CLIENT = "192.0.2.150"

pytestmark = pytest.mark.skipif(OLDEST, reason="kube-proxy must not be newer than its server: this one selects Services by "
                                               "spec.clusterIP and asks for ServiceCIDRs")


@pytest.fixture(scope="module")
def cluster(api):
    """`myvm` on n3 at `address` and `other` behind a node port, which is also a port of `taken`, where `myvm` is."""
    with vipd.exposed(api, others=[("other", "n2")]) as cluster:
        node_port = manifests.service("other", [], type="NodePort")
        node_port["spec"]["ports"][0]["nodePort"] = NODE_PORT
        api.create(SERVICES, node_port)
        api.create(SERVICES, manifests.service("taken", [], [f"{NODE_PORT}:22"],
                                               selector={"vmi.kubevirt.io/id": "myvm"}))
        cluster.taken = api.external_ip("taken")
        cluster.serves(cluster.taken, NODE_PORT, vm="myvm")
        yield cluster


@pytest.fixture(scope="module", params=["nftables", "iptables"])
def proxies(request, api, cluster):
    made = [KubeProxy(node, api, request.param).start() for node in cluster.lab.nodes.values()]
    for proxy in made:
        # The same Services, addresses of ours and all.
        proxy.wait_rules(cluster.address, cluster.taken, str(NODE_PORT), cluster.lab.vms["other"].address4)
    yield made
    for proxy in made:
        proxy.stop()


def test_it_takes_nothing_that_is_for_a_vip(api, cluster, proxies):
    lab, client = cluster.lab, cluster.lab.client
    inside = api.service("other")["spec"]["clusterIP"]
    for node in lab.nodes.values():
        # Its rules are live: node ports and cluster addresses are its own.
        assert client.reaches(node.address4, NODE_PORT) == "other", node.name
        assert node.reaches(inside, 22) == "other", node.name
    # It would hide who asks: the client's own address says that nobody but vipd translated.
    assert client.ask(cluster.address, 22, "whoami") == ("myvm", f"myvm {CLIENT}")
    assert client.ask(cluster.taken, NODE_PORT, "whoami") == ("myvm", f"myvm {CLIENT}")
    for host in (lab.far, *lab.nodes.values(), *lab.vms.values()):
        assert host.reaches(cluster.address, 22) == "myvm", host.name
        assert host.reaches(cluster.taken, NODE_PORT) == "myvm", host.name
    # A node port is none of an address that is not the node's own.
    for host in (client, lab.far, *lab.nodes.values(), lab.vms["other"]):
        with pytest.raises(ConnectionRefusedError):
            host.connect(cluster.address, NODE_PORT)


def test_connections_outlive_its_restarts_and_changes(api, cluster, proxies):
    held = cluster.lab.client.probe("stream", cluster.address, 22, 10, 20)
    for number in range(20):
        api.create(SERVICES, manifests.service(f"more-{number}", [], selector={"vmi.kubevirt.io/id": "other"},
                                               type="ClusterIP"))
    last = api.service("more-19")["spec"]["clusterIP"]
    for proxy in proxies:
        proxy.wait_rules(last)
        proxy.stop()
    for proxy in proxies:
        proxy.start()
    for proxy in proxies:
        proxy.wait_rules(last, cluster.address)
    for number in range(20):
        api.delete(f"{SERVICES}/more-{number}")
    wait_for("kube-proxy to forget them", lambda: all(last not in proxy.rules() for proxy in proxies), 60)
    seen = held.stop()
    assert seen["kept"] == 20 and seen["corrupt"] == 0, seen
