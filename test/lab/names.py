"""The names of Services for the pods of a lab's kubelets: as much of a cluster's DNS as SERVICE.NAMESPACE.svc needs."""
import socket
import struct
import threading

ZONE = ["svc", "cluster", "local"]
NO_ERROR, NO_SUCH_NAME = 0, 3
A, AAAA = 1, 28


def question(packet):
    """(labels, type, end of the question) of a query with one question and no compression."""
    labels, at = [], 12
    while packet[at]:
        labels.append(packet[at + 1:at + 1 + packet[at]].decode("ascii").lower())
        at += 1 + packet[at]
    return labels, struct.unpack_from("!H", packet, at + 1)[0], at + 5


def answer(packet, addresses):
    """The reply to a query; addresses(namespace, service) answers them, or None if there is no such Service."""
    labels, kind, end = question(packet)
    found = addresses(labels[1], labels[0]) if len(labels) == 5 and labels[2:] == ZONE else None
    family = {A: socket.AF_INET, AAAA: socket.AF_INET6}.get(kind)
    records, count = b"", 0
    for text in found or []:
        if family and (":" in text) == (kind == AAAA):
            data = socket.inet_pton(family, text)
            records += struct.pack("!HHHIH", 0xc00c, kind, 1, 1, len(data)) + data
            count += 1
    flags = 0x8580 | (NO_SUCH_NAME if found is None else NO_ERROR)
    return packet[:2] + struct.pack("!HHHHH", flags, 1, count, 0, 0) + packet[12:end] + records


class Names:
    """Answers on port 53 of the API server's host until close()."""

    def __init__(self, api, address):
        self.api = api
        self.socket = api.host.inside(self._bind, address)
        threading.Thread(target=self._serve, daemon=True).start()

    @staticmethod
    def _bind(address):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.settimeout(1)
        made.bind((address, 53))
        return made

    def _addresses(self, namespace, name):
        service = self.api.get(f"/api/v1/namespaces/{namespace}/services/{name}")
        return service and service["spec"].get("clusterIPs", [])

    def _serve(self):
        while self.socket.fileno() >= 0:
            try:
                packet, peer = self.socket.recvfrom(1500)
            except OSError:
                continue  # nobody asked for a second, or closed
            try:
                self.socket.sendto(answer(packet, self._addresses), peer)
            except (IndexError, UnicodeDecodeError, struct.error, OSError):
                pass  # not a query, or the server is away: they ask again

    def close(self):
        self.socket.close()
