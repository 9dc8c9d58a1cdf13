"""VRRP of somebody outside the cluster, byte by byte."""
import socket
import struct

GROUP4, GROUP6 = "224.0.0.18", "ff02::12"


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def advert(vrid, addresses, version=3, kind=1, priority=254, interval=10, count=None, wrong=0):
    """A VRRP packet over IPv4, byte by byte; over IPv6 finish6() makes the checksum."""
    body = b"".join(socket.inet_pton(socket.AF_INET6 if ":" in a else socket.AF_INET, a) for a in addresses)
    head = struct.pack("!BBBBHH", version << 4 | kind, vrid, priority, len(addresses) if count is None else count,
                       interval, 0)
    return head[:6] + struct.pack("!H", checksum(head + body) ^ wrong) + body


def finish6(packet, source):
    pseudo = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, GROUP6)
    packet = packet[:6] + b"\0\0" + packet[8:]
    return packet[:6] + struct.pack("!H", checksum(pseudo + struct.pack("!IxxxB", len(packet), 112) + packet)) \
        + packet[8:]


class Stranger:
    """The client as somebody who speaks VRRP without being asked."""

    def __init__(self, host):
        self.host = host
        self.link_local = next(a for a in host.addresses("eth1") if a.startswith("fe80"))

    def send(self, *packets, ttl=255):
        def body():
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as out:
                out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
                out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("192.0.2.150"))
                for packet in packets:
                    out.sendto(packet, (GROUP4, 0))
        self.host.inside(body)

    def send6(self, *packets, hops=255):
        def body():
            index = socket.if_nametoindex("eth1")
            with socket.socket(socket.AF_INET6, socket.SOCK_RAW, 112) as out:
                out.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, hops)
                out.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
                for packet in packets:
                    out.sendto(packet, (GROUP6, 0, 0, index))
        self.host.inside(body)

    def frames(self, *frames):
        def body():
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
                out.bind(("eth1", 0))
                for frame in frames:
                    out.send(frame)
        self.host.inside(body)
