"""A TCP proxy that misbehaves on order, for what a real API server cannot be told to do.

    proxy = FaultProxy(host, 7001, ("10.98.0.254", 6443))     host: a namespace (test/lab/lab.py)
    proxy.refuse()        connections are refused              proxy.reset()       all are reset now
    proxy.freeze()        half-open: nothing passes any more   proxy.delay = 0.3   seconds each way
    proxy.cut_after(500)  the next answer ends after 500 bytes proxy.rate = 2000   bytes a second
    proxy.heal()          as if nothing had been

With tls=(certificate, key, authority) it ends TLS itself, speaks HTTP/1.1 and can put an answer of its own in
place of the server's:

    proxy.answer(429, {"Retry-After": "2"}, count=3, match=r"PUT .*/leases/")
    proxy.after(r"POST ", process.kill)   when the server has answered one: called, and nobody hears the answer
    proxy.swallow(r"GET .*watch=")    what is left of the answers under way never arrives; new requests are answered
"""
import asyncio
import json
import re
import socket
import ssl
import threading

REASONS = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict",
           410: "Expired", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}


class FaultProxy:
    def __init__(self, host, port, upstream, address="", tls=None):
        self.host, self.port, self.upstream, self.address = host, port, upstream, address
        self.delay = 0.0
        self.rate = None
        self.requests = []  # "METHOD path" of every request seen (with tls)
        self.trap = None
        self.answers = []   # [pattern, left, status, headers, body]
        self._under_way = []  # ["METHOD path user-agent", swallowed]
        self.connections = 0
        self._cut = None
        self._open = asyncio.Event()
        self._writers = set()
        self._server = None
        self._accept = self._up = None
        if tls:
            certificate, key, authority = map(str, tls)
            self._accept = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._accept.load_cert_chain(certificate, key)
            self._accept.set_alpn_protocols(["http/1.1"])
            self._up = ssl.create_default_context(cafile=authority)
            self._up.set_alpn_protocols(["http/1.1"])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.heal()

    # --- orders, from any thread

    def _do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def heal(self):
        self.delay, self.rate, self._cut, self.answers = 0.0, None, None, []
        self._do(self._listen())
        self._do(self._set_open(True))

    def refuse(self):
        self._do(self._unlisten())
        self.reset()

    def freeze(self):
        self._do(self._set_open(False))

    def reset(self):
        self._do(self._reset())

    def cut_after(self, size):
        """The next answer ends (reset) after `size` bytes, then all is as before."""
        self._cut = size

    def answer(self, status, headers=None, body=None, count=None, match="."):
        """Requests whose "METHOD path" matches get this instead, `count` times or until heal()."""
        if self._accept is None:
            raise ValueError("answers need tls=(certificate, key, authority)")
        reason = REASONS.get(status, "Unknown")
        document = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": status,
                    "reason": reason, "message": f"{reason} by order of the test"}
        self.answers.append([re.compile(match), count, status, headers or {},
                             json.dumps(document) if body is None else body])

    def swallow(self, match="."):
        """How many answers it concerns."""
        found = [entry for entry in self._under_way if re.search(match, entry[0])]
        for entry in found:
            entry[1] = True
        return len(found)

    def after(self, match, action):
        """Once: the next request that matches lands (2xx), then action() is called and all connections are cut. None:
        not any more."""
        self.trap = (re.compile(match), action) if match else None

    def close(self):
        self._do(self._unlisten())
        self._do(self._reset())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    # --- inside the loop

    async def _set_open(self, value):
        self._open.set() if value else self._open.clear()

    def _socket(self, listening):
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setblocking(False)
        if listening:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((self.address, self.port))
            made.listen(128)
        return made

    async def _listen(self):
        if self._server is None:
            listener = await self._loop.run_in_executor(None, self.host.inside, self._socket, True)
            self._server = await asyncio.start_server(self._client, sock=listener, ssl=self._accept)

    async def _unlisten(self):
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _reset(self):
        for writer in list(self._writers):
            writer.transport.abort()

    async def _client(self, reader, writer):
        self.connections += 1
        self._writers.add(writer)
        up_writer = None
        try:
            await self._open.wait()
            up = await self._loop.run_in_executor(None, self.host.inside, self._socket, False)
            await self._loop.sock_connect(up, self.upstream)
            up_reader, up_writer = await asyncio.open_connection(
                sock=up, ssl=self._up, server_hostname=self.upstream[0] if self._up else None)
            self._writers.add(up_writer)
            if self._accept is None:
                await self._first(self._pump(reader, up_writer), self._pump(up_reader, writer, True))
            else:
                await self._http(reader, writer, up_reader, up_writer)
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass
        finally:
            for one in (writer, up_writer):
                if one is not None:
                    self._writers.discard(one)
                    one.close()

    @staticmethod
    async def _first(*coroutines):
        tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()

    async def _pass(self, writer, data, answer):
        """One piece towards one side, with everything that was ordered. False: the connection is cut."""
        await self._open.wait()
        if self.delay:
            await asyncio.sleep(self.delay)
        if answer and self._cut is not None:
            piece, self._cut = data[:self._cut], self._cut - len(data)
            if self._cut <= 0:
                self._cut = None
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.05)
                writer.transport.abort()
                return False
        if answer and self.rate:
            for start in range(0, len(data), max(1, self.rate // 10)):
                writer.write(data[start:start + max(1, self.rate // 10)])
                await asyncio.sleep(0.1)
        else:
            writer.write(data)
        await writer.drain()
        return True

    async def _pump(self, reader, writer, answer=False):
        try:
            while data := await reader.read(65536):
                if not await self._pass(writer, data, answer):
                    return
        except OSError:
            pass

    @staticmethod
    async def _head(reader):
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        fields = {}
        for line in lines:
            name, _, value = line.partition(":")
            fields[name.strip().lower()] = value.strip()
        return head, first, fields

    async def _body(self, reader, fields, ends_with_connection):
        """The pieces of one message's body, framing included."""
        if fields.get("transfer-encoding", "").lower() == "chunked":
            while True:
                line = await reader.readuntil(b"\r\n")
                size = int(line.split(b";")[0], 16)
                yield line + await reader.readexactly(size + 2)
                if size == 0:
                    return
        elif "content-length" in fields:
            left = int(fields["content-length"])
            while left > 0:
                data = await reader.read(min(left, 65536))
                if not data:
                    raise asyncio.IncompleteReadError(b"", left)
                left -= len(data)
                yield data
        elif ends_with_connection:
            while data := await reader.read(65536):
                yield data

    def _ordered(self, request):
        for entry in self.answers:
            if entry[0].search(request) and entry[1] != 0:
                if entry[1] is not None:
                    entry[1] -= 1
                return entry[2:]
        return None

    async def _http(self, reader, writer, up_reader, up_writer):
        while True:
            head, first, fields = await self._head(reader)
            request = " ".join(first.split(" ")[:2])
            entry = [f"{request} {fields.get('user-agent', '')}", False]
            self.requests.append(request)
            body = b"".join([piece async for piece in self._body(reader, fields, False)])
            ordered = self._ordered(request)
            if ordered:
                status, headers, text = ordered
                data = text.encode()
                lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Ordered')}", "Content-Type: application/json",
                         f"Content-Length: {len(data)}", *(f"{name}: {value}" for name, value in headers.items())]
                if not await self._pass(writer, "\r\n".join([*lines, "", ""]).encode() + data, True):
                    return
                continue
            await self._pass(up_writer, head + body, False)
            head, first, fields = await self._head(up_reader)
            if self.trap and self.trap[0].search(request) and first.split(" ")[1].startswith("2"):
                action, self.trap = self.trap[1], None
                action()
                await self._reset()
                return
            if not await self._pass(writer, head, True):
                return
            # The client may go away in the middle of a watch: then nobody reads the rest.
            relay = asyncio.ensure_future(self._relay(writer, up_reader, fields, entry))
            gone = asyncio.ensure_future(self._gone(reader))
            self._under_way.append(entry)
            try:
                await asyncio.wait([relay, gone], return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._under_way.remove(entry)
            gone.cancel()
            if not relay.done() or not relay.result():
                relay.cancel()
                return

    async def _relay(self, writer, up_reader, fields, entry):
        async for piece in self._body(up_reader, fields, True):
            if not entry[1] and not await self._pass(writer, piece, True):
                return False
        return "content-length" in fields or "transfer-encoding" in fields

    @staticmethod
    async def _gone(reader):
        while not reader.at_eof():
            await asyncio.sleep(0.05)
