#!/usr/bin/python3
"""tls_server.py FOLDER: says over TLS what a real API server cannot be told to say; the path chooses.

Makes FOLDER/ca.pem (what a client must trust) and FOLDER/other.pem (an authority that signed nothing),
prints its port, and serves until its standard input ends.
"""
import asyncio
import json
import pathlib
import ssl
import subprocess
import sys

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
LANE = 16  # K8S_LEASE_CONNECTIONS
requests = {"holding": 0, "most": 0, "token": []}


def certificate(folder, name):
    subprocess.run(["openssl", "req", "-x509", *KEY, "-days", "2", "-subj", f"/CN={name}",
                    "-addext", "subjectAltName=IP:127.0.0.1,DNS:kubernetes", "-keyout", folder / f"{name}.key",
                    "-out", folder / f"{name}.pem"], check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def response(code, body, *headers):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"\r\n".join([f"HTTP/1.1 {code} X".encode(), b"Content-Type: application/json",
                         *[header.encode() for header in headers],
                         f"Content-Length: {len(data)}".encode(), b"", data])


def status(code, reason, message="no"):
    return {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}


def chunk(data):
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


async def watch(kind, writer):
    writer.write(STREAM)
    if kind == "split":  # two events and a half, cut in odd places, the second with a newline in a text
        text = b'{"type":"ADDED","object":{"n":1}}\n{"type":"MODIFIED","object":{"t":"a\\nb"}}\n{"type":"DEL'
        for at in range(0, len(text), 7):
            writer.write(chunk(text[at:at + 7]))
            await writer.drain()
            await asyncio.sleep(0.002)
        return  # the connection is cut here
    if kind == "garbage":
        writer.write(chunk(b'{"type":"ADDED"}\n<html>\n{"type":"ADDED"}\n'))
    if kind == "endless":
        for _ in range(9 * 1024):
            writer.write(chunk(b"x" * 1024))
            await writer.drain()
    if kind == "quiet":
        writer.write(chunk(b'{"type":"ADDED"}\n'))
        await writer.drain()
        await asyncio.sleep(60)
    writer.write(chunk(b'{"type":"BOOKMARK"}\n') + b"0\r\n\r\n")


def thing(name, version):
    return {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}}


def event(kind, thing):
    return chunk(json.dumps({"type": kind, "object": thing}).encode() + b"\n")


def bookmark(version, end=False):
    return event("BOOKMARK", {"metadata": {"resourceVersion": str(version), **(
        {"annotations": {"k8s.io/initial-events-end": "true"}} if end else {})}})


def everything(version, *names, end=True):
    """A stream that begins with all there are."""
    return (STREAM + b"".join(event("ADDED", thing(name, number + 1)) for number, name in enumerate(names))
            + (bookmark(version, True) if end else b""))


def page(version, *names):
    return response(200, {"metadata": {"resourceVersion": str(version)}, "items": [
        thing(name, number + 1) for number, name in enumerate(names)]})


BEHIND = {**status(504, "Timeout", "Too large resource version"),
          "details": {"causes": [{"reason": "ResourceVersionTooLarge"}]}}
seen = {}  # what was asked of each story


async def informer(story, query, writer):
    """What informers ask for: "fill", "page", "watch VERSION", "ask VERSION"; what they hear depends on how
    often they asked for it. True: the connection goes on."""
    query = dict(part.split("=", 1) for part in query.split("&"))
    what = ("fill" if "sendInitialEvents" in query else
            f"watch {query['resourceVersion']}" if "watch" in query else
            f"ask {query['resourceVersion']}" if "resourceVersion" in query else "page")
    before = seen.setdefault(story, [])
    again = before.count(what)
    before.append(what)
    if what == "page":
        writer.write(page(20, "a", "b"))
        return True
    if story.isdigit() and what == "fill":
        writer.write(response(int(story), status(int(story), "Invalid")))
        return True
    if story == "deaf" and what == "fill":
        writer.write(everything(10, "a", "b", end=False) + bookmark(10))
    elif story == "cut" and what == "fill":
        writer.write(everything(10, "a", "ghost", end=False))
        await writer.drain()
        return False
    elif what.startswith("ask"):
        writer.write(response(504, BEHIND) if story == "setback" else page(11, "a"))
        return True
    elif story in ("setback", "broken") and what == "fill":
        writer.write(everything(5 if again else 10, "a", "c" if again else "b"))
        if not again:
            writer.write(event("MODIFIED", thing("a", 11)))
            await writer.drain()
            await asyncio.sleep(1.2)  # one that ends sooner is waited for
            writer.transport.abort()
            return False
    elif story == "mute" and what == "fill":
        writer.write(everything(5 if again else 10, "a", "c" if again else "b"))
        if not again:
            writer.write(event("MODIFIED", thing("a", 11)))
    elif what == "fill":
        writer.write(everything(10, "a", "b"))
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.write(event("MODIFIED", thing("a", 11)))
    else:
        writer.write(STREAM)
        if story != "mute":
            writer.write(event("MODIFIED", thing("a", 30)))
    await writer.drain()
    await asyncio.sleep(60)
    return False


async def answer(path, headers, writer):
    """True: the connection goes on."""
    word, _, rest = path.lstrip("/").partition("/")
    if word == "ok":
        writer.write(response(200, {"kind": "Thing"}))
    elif word == "status":
        code, _, reason = rest.partition("/")
        writer.write(response(int(code), status(int(code), reason, f"{reason} it is")))
    elif word == "page":  # what a proxy in between says
        writer.write(response(int(rest), b"<html>no</html>"))
    elif word == "later":
        writer.write(response(429, status(429, "TooManyRequests"), "Retry-After: " + rest))
    elif word == "silence":
        return False
    elif word == "reset":
        writer.transport.abort()
        return False
    elif word == "cut":
        writer.write(response(200, {"kind": "Thing", "filler": "x" * 500})[:-100])
        return False
    elif word == "noise":
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        return False
    elif word == "hang":
        await asyncio.sleep(60)
        return False
    elif word == "hold":
        requests["holding"] += 1
        requests["most"] = max(requests["most"], requests["holding"])
        for _ in range(50):  # until all that may come are there, and then for those that may not
            await asyncio.sleep(0.1)
            if requests["most"] >= LANE:
                break
        await asyncio.sleep(0.2)
        requests["holding"] -= 1
        writer.write(response(200, {"most": requests["most"]}))
    elif word == "token":
        requests["token"].append(headers.get("authorization", ""))
        good = headers.get("authorization") == "Bearer fresh"
        writer.write(response(200, {"seen": requests["token"]}) if good else response(401, status(401, "Unauthorized")))
    elif word == "echo":
        writer.write(response(200, {"type": headers.get("content-type", ""), "agent": headers.get("user-agent", ""),
                                    "method": headers["method"], "body": headers["body"].decode()}))
    elif word == "informer":
        story, _, query = rest.partition("?")
        return await informer(story, query, writer)
    elif word == "seen":
        writer.write(response(200, seen.get(rest, [])))
    elif word == "watch":
        await watch(rest, writer)
        return rest not in ("split",)
    else:
        writer.write(response(404, status(404, "NotFound")))
    await writer.drain()
    return True


async def serve(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            headers["method"] = method
            headers["body"] = await reader.readexactly(int(headers.get("content-length", 0)))
            if not await answer(path, headers, writer):
                break
    except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError, ValueError):
        pass
    finally:
        writer.close()


async def main():
    folder = pathlib.Path(sys.argv[1])
    certificate(folder, "ca")
    certificate(folder, "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "ca.key")
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


try:
    asyncio.run(main())
except KeyboardInterrupt:
    pass
