"""keepalived beside vipd: one node has hundreds of addresses, and its link goes down.

What counts is when the client is told of the last one, by the first gratuitous ARP of another node for it; that this
node answers for every one of them is asked afterwards. vipd has each address in a Service, in 255 virtual routers;
keepalived has all of them in one.
"""
import socket
import struct
import threading
import time

import pytest

import manifests
from conftest import RUNS, spread
from lab import wait_for
from lab import Lab
from peers import Keepalived, Vipd

TIMES = max(RUNS // 4, 1)
PATIENCE_S = 15
SO_TIMESTAMPNS, SO_RCVBUFFORCE = 35, 33
BUFFER = 64 << 20
ASKER = "203.0.127.254"  # nobody has it: a node believes no question in the name of an address of its own


def addresses(count):
    return [f"203.0.{112 + n // 250}.{n % 250 + 1}" for n in range(count)]


def own_address(node):
    return f"203.0.127.{250 + node.index}"


class Ears:
    """Every ARP frame that reaches the client, with the time at which the kernel had it."""

    def __init__(self, client):
        self.heard, self.ended = [], threading.Event()
        client.inside(self._open)
        self.thread = threading.Thread(target=self._listen)
        self.thread.start()

    def _open(self):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.bind(("eth1", 0))
        self.socket.settimeout(0.2)

    def _listen(self):
        while not self.ended.is_set():
            try:
                frame, extra, _, _ = self.socket.recvmsg(64, 64)
            except TimeoutError:
                continue
            seconds, nanoseconds = struct.unpack("qq", extra[0][2])
            if len(frame) >= 42:
                self.heard.append((seconds + nanoseconds / 1e9, frame[22:28].hex(":"), socket.inet_ntoa(frame[28:32])))

    def ask(self, wanted, source):
        """One question for each, not faster than they are answered."""
        for address in wanted:
            self.socket.send(b"\xff" * 6 + b"\x02\0\0\0\1\x96" + bytes.fromhex("0806 0001 0800 0604 0001") +
                             b"\x02\0\0\0\1\x96" + socket.inet_aton(source) + b"\0" * 6 + socket.inet_aton(address))
            time.sleep(0.0005)

    def told(self, since, without):
        """{address: (when, MAC)} of the first word after `since` of anybody but `without`."""
        found = {}
        for at, mac, address in self.heard:
            if at > since and mac != without:
                found.setdefault(address, (at, mac))
        return found

    def close(self):
        self.ended.set()
        self.thread.join()
        self.socket.close()


class ManyVipd(Vipd):
    def __init__(self, lab, many):
        super().__init__(lab)
        self.hide("bench")
        self.pool(addresses=["203.0.112.0/20"], vrrp={"advertisementIntervalMilliseconds": 100})
        nodes = []
        for node in lab.nodes.values():
            nodes.append(manifests.node(node))
            nodes[-1]["status"]["addresses"].append({"type": "InternalIP", "address": own_address(node)})
        manifests.write(self.folder / "nodes.yaml", *nodes)
        manifests.write(self.folder / "services.yaml",
                        *[manifests.service(f"many-{number}", [address]) for number, address in enumerate(many)])


    def withdrawn(self, owner):
        """How often an heir gave up what it had just taken, since there was too much to take."""
        return sum(daemon.log().count(" reason=Overslept ") for name, daemon in self.daemons.items() if name != owner)


class ManyKeepalived(Keepalived):
    def __init__(self, lab, many):
        super().__init__(lab, addresses=many)

    def ready(self, name):
        return self.processes[name].alive()

    def withdrawn(self, owner):
        return 0


def held(lab, many):
    """{node: which of them it has}"""
    return {name: set(many) & set(node.addresses("eth1")) for name, node in lab.nodes.items()}


def all_held(lab, many):
    """The same, once each is on one node."""
    found = held(lab, many)
    return found if sum(map(len, found.values())) == len(many) and set.union(*found.values()) == set(many) else None


@pytest.mark.parametrize("count", [500, 4000])
@pytest.mark.parametrize("kind", [ManyVipd, ManyKeepalived], ids=["vipd", "keepalived"])
def test_many(kind, count, table):
    outcome = table(f"many {kind.name} {count}: link of their owner down, {TIMES} times, milliseconds until the client is told",
                    ["who", "moved", "first: median", "max", "last: median", "p95", "max", "withdrawn"])
    many = addresses(count)
    with Lab(nodes=3) as lab:
        for node in lab.nodes.values():
            node.run(["ip", "address", "add", f"{own_address(node)}/20", "dev", "eth1"])
        cluster = kind(lab, many)
        cluster.start("n1")
        wait_for("n1 to have all", lambda: len(held(lab, many)["n1"]) == count, 120, 0.5)
        cluster.start("n2", "n3")
        wait_for("all to be ready", lambda: all(cluster.ready(name) for name in lab.nodes), 60)
        time.sleep(5)
        results = [once(cluster, lab, many) for _ in range(TIMES)]
        moved, first, last, withdrawn = (spread(list(column)) for column in zip(*results))
        outcome.row(kind.name, moved[0], first[0], first[2], *last, withdrawn[2])


def once(cluster, lab, many):
    """(how many addresses had to move, milliseconds until the client was told of the first and of the last one, how many
    virtual routers the heirs gave up again)"""
    found = wait_for("each address on one node", lambda: all_held(lab, many), 60, 0.5)
    owner = max(found, key=lambda name: len(found[name]))
    lost, withdrawn = found[owner], cluster.withdrawn(owner)
    ears = Ears(lab.client)
    try:
        since = time.time()
        lab[owner].cut()
        time.sleep(3)
        wait_for("all of them to be told", lambda: lost <= set(ears.told(since, lab[owner].mac)), PATIENCE_S, 0.2)
        told = ears.told(since, lab[owner].mac)
        asked = time.time()
        for _ in range(5):  # thousands of questions in a row: some get lost
            ears.ask(lost - set(ears.told(asked, lab[owner].mac)), ASKER)
            time.sleep(1)
        silent = lost - set(ears.told(asked, lab[owner].mac))
        assert not silent, f"{len(silent)} are told of, but do not answer"
    finally:
        ears.close()
    lab[owner].heal()
    # The kernel takes IPv4's routes away with the link; its own address stays.
    wait_for(f"{cluster.name} on {owner}", lambda: cluster.ready(owner), 30)
    time.sleep(3)
    moments = [1000 * (told[address][0] - since) for address in lost]
    return len(lost), min(moments), max(moments), cluster.withdrawn(owner) - withdrawn
