#!/usr/bin/python3
"""vm_server.py NAME PORT...: what runs inside a "VM" of the lab.

TCP, both families: says "NAME BOOT" at once, then answers every line with "NAME line". UDP: answers
every datagram with "NAME datagram". The line or datagram "whoami" is answered with the address that it
came from. BOOT differs with every start, so that a restart shows.
"""
import asyncio
import os
import socket
import sys


def answer(name, data, peer):
    return name + b" " + (peer[0].encode() if data == b"whoami" else data)


class Echo(asyncio.Protocol):
    def __init__(self, name, boot):
        self.name, self.boot, self.rest = name.encode(), boot.encode(), b""

    def connection_made(self, transport):
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.write(self.name + b" " + self.boot + b"\n")

    def data_received(self, data):
        *lines, self.rest = (self.rest + data).split(b"\n")
        if lines:
            peer = self.transport.get_extra_info("peername")
            self.transport.write(b"".join(answer(self.name, line, peer) + b"\n" for line in lines))
        if len(self.rest) > 65536:
            self.transport.abort()


def answer_datagrams(server, name):
    """All that are there. asyncio's own way takes one a turn of its loop, and with a hundred busy connections
    in each turn a busy machine's answers are seconds behind: a client cannot tell that from a lost flow."""
    while True:
        try:
            data, peer = server.recvfrom(65536)
            server.sendto(answer(name.encode(), data, peer), peer)
        except BlockingIOError:
            return
        except OSError:
            pass  # an ICMP error for an earlier answer


async def main():
    name, boot, loop = sys.argv[1], os.urandom(4).hex(), asyncio.get_running_loop()
    for port in map(int, sys.argv[2:]):
        for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            await loop.create_server(lambda: Echo(name, boot), host, port, family=family, reuse_address=True)
            datagrams = socket.socket(family, socket.SOCK_DGRAM)
            if family == socket.AF_INET6:
                datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            datagrams.setblocking(False)
            datagrams.bind((host, port))
            loop.add_reader(datagrams, answer_datagrams, datagrams, name)
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
