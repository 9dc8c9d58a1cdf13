"""Services by the thousand, put into etcd as the API server and the controller would have left them: made one by one
they would take the server, not vipd, half an hour. That the controller finds nothing to write in them is checked by
whoever uses them."""
import base64
import contextlib
import http.client
import json
import socket
import time
import uuid

from cluster import ApiError, Cluster
from controllers import POOLS, SERVICES, SPEAKERS, VIPS

ROUTERS = 255
LAN = 20_000  # so many addresses on one, of which the first one is here: no more than 90 in one virtual router
AT_ONCE = 100  # objects in one transaction of etcd's, which takes 128


class JsonCluster(Cluster):
    server_options = [*Cluster.server_options, "--storage-media-type=application/json"]


class Etcd:
    """Its JSON gateway."""

    def __init__(self, api):
        self.connection = http.client.HTTPConnection("127.0.0.1", 2379, timeout=10)
        self.connection.sock = api.host.connect("127.0.0.1", 2379, 10)
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # head and body are sent apart

    def _ask(self, what, body):
        self.connection.request("POST", f"/v3/kv/{what}", json.dumps(body))
        answer = json.loads(self.connection.getresponse().read())
        assert "error" not in answer, answer
        return answer

    def get(self, key):
        return base64.b64decode(self._ask("range", {"key": self._code(key)})["kvs"][0]["value"]).decode()

    def put(self, things):
        """{key: text}"""
        for at in range(0, len(things), AT_ONCE):
            self._ask("txn", {"success": [{"requestPut": {"key": self._code(key), "value": self._code(things[key])}}
                                          for key in list(things)[at:at + AT_ONCE]]})

    @staticmethod
    def _code(text):
        return base64.b64encode(text.encode()).decode()


class Original:
    """One Service that has its address, with all that belongs to it, as they lie in etcd."""

    def __init__(self, etcd, name, address, cluster, endpoints=None, of=None):
        """`endpoints`: the name of its EndpointSlice, if copies shall have one. `of`: what it is a copy of; the server may
        be about to make its IPAddress anew."""
        self.name, self.address, self.cluster, self.endpoints = name, address, cluster, endpoints
        self.service, self.vip = map(etcd.get, (
            f"/registry/services/specs/vms/{name}", f"/registry/vipd.dev/virtualips/{address}"))
        assert "nodePort" not in self.service  # the server would write an Event of each that has the same, again and again
        self.slice = etcd.get(f"/registry/endpointslices/vms/{endpoints}") if endpoints else None
        self.endpoint = json.loads(self.slice)["endpoints"][0]["addresses"][0] if self.slice else None
        self.uid = json.loads(self.service)["metadata"]["uid"]
        self.taken = (of.renamed(of.taken, name, self.uid, address, cluster) if of
                      else etcd.get(f"/registry/ipaddresses/{cluster}"))

    def renamed(self, text, name, uid, address, cluster):
        for old, new in ((self.uid, uid), (f'"{self.name}"', f'"{name}"'), (self.address, address),
                         (f'"{self.cluster}"', f'"{cluster}"'), (f'"{self.endpoints}"', f'"{name}"')):
            text = text.replace(old, new)
        return text

    def copy(self, number, change=lambda vip: None, apart=False):
        """{key: text}; `change` may still do something to the VirtualIP. `apart`: its endpoint is nobody else's."""
        name, uid, lan, at = f"copy-{number}", str(uuid.uuid4()), number // LAN, number % LAN
        address = (f"172.{16 + lan}.{at // 250}.{1 + at % 250}" if lan else
                   f"10.{64 + (64 + number // 250) // 256}.{(64 + number // 250) % 256}.{1 + number % 250}")
        cluster = f"10.96.{(128 + number // 250) % 256}.{2 + number % 250}"

        def renamed(text):
            return self.renamed(text, name, uid, address, cluster)
        vip = json.loads(renamed(self.vip))
        vip["metadata"]["uid"] = str(uuid.uuid4())
        change(vip)
        if lan:
            spec = vip["spec"]
            spec.update(pool=f"{spec['pool']}-{lan}", virtualRouter=spec["virtualRouter"].replace(".", f"-{lan}.", 1))
        made = {f"/registry/services/specs/vms/{name}": renamed(self.service),
                f"/registry/ipaddresses/{cluster}": renamed(self.taken),  # else the server would, with an Event
                f"/registry/vipd.dev/virtualips/{address}": json.dumps(vip)}
        if self.slice:
            slice = renamed(self.slice)
            if apart:
                slice = slice.replace(f'"{self.endpoint}"', f'"10.{192 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"')
            made[f"/registry/endpointslices/vms/{name}"] = slice
        return made


class Copier:
    """Copies of one Service: first one for each virtual router, which controller (and speakers) may put right; then
    copies of those.

    lease   the name of its virtual router's Lease, if there are speakers: others like it are made
    apart   each has an endpoint of its own; else all have the first one's
    owner   the node that all copies belong to; else they belong to those that the first one may belong to, in turn
    away    a context in which etcd is written to: thousands of objects at once are much for a server that watches
    """

    def __init__(self, api, name, endpoints=None, lease=None, away=contextlib.nullcontext, apart=False, owner=None):
        self.api, self.etcd, self.lease, self.away, self.apart, self.owner = api, Etcd(api), lease, away, apart, owner
        self.first = Original(self.etcd, name, api.ingress(name)[0], api.service(name)["spec"]["clusterIP"], endpoints)
        self.originals = {}
        self.there = 1

    def fill(self, wanted, run):
        """Until there are so many. `run` starts a controller, lets it settle and stops it."""
        end = min(wanted, ROUTERS + 1)
        if self.there < end:
            with self.away():
                self._give()
                self._copy(range(self.there, end), lambda number: self.first.copy(number, self._spread(number), self.apart))
            run()
        if wanted > end:
            self.originals = self.originals or self._read()
            with self.away():
                self._copy(range(max(self.there, end), wanted),
                           lambda number: self.originals[router_of(number)].copy(number, apart=self.apart))
            run()  # the pool counts them
        self.there = wanted

    def _read(self):
        """{virtual router ID: one that is in it}"""
        clusters = {thing["metadata"]["name"]: thing["spec"]["clusterIP"] for thing in everything(self.api, SERVICES)}
        return {vip["spec"]["virtualRouterID"]: Original(self.etcd, name, vip["spec"]["address"], clusters[name],
                                                         name if self.first.slice else None, self.first)
                for vip in everything(self.api, VIPS)
                if (name := vip["spec"]["services"][0]["name"]).startswith("copy-")}

    def _spread(self, number):
        router = router_of(number)

        def change(vip):
            spec, owner = vip["spec"], vip.get("status", {}).get("owner")
            spec.update(virtualRouter=f"lab.ipv4.{router}", virtualRouterID=router,
                        candidates=[{"node": self.owner, "priority": 254}] if self.owner else rotated(spec["candidates"], router))
            if owner:  # it is named in the conditions, too
                vip["status"] = json.loads(json.dumps(vip["status"]).replace(owner, spec["candidates"][0]["node"]))
        return change

    def _give(self):
        """The Leases of all virtual routers, as that of the first one: each its first candidate's. Without, the first
        speaker to hear of them would take them all, and the controller would even that out for minutes."""
        if not self.lease:
            return
        text = self.etcd.get(f"/registry/leases/vipd-system/{self.lease}")
        holder = json.loads(text)["spec"]["holderIdentity"]
        candidates = json.loads(self.first.vip)["spec"]["candidates"]
        made = {}
        for router in range(1, ROUTERS + 1):
            name, node = f"lab.ipv4.{router}", rotated(candidates, router)[0]["node"]
            copy = json.loads(text.replace(f'"{self.lease}"', f'"{name}"').replace(f'"{holder}"', f'"{node}"'))
            copy["metadata"]["uid"] = str(uuid.uuid4())
            if name != self.lease:
                made[f"/registry/leases/vipd-system/{name}"] = json.dumps(copy)
        self.etcd.put(made)

    def _copy(self, numbers, copy):
        """The last one in a transaction of its own: of several objects with one version the server takes the first
        for all, and would say that a list is complete when it is not."""
        for part in (numbers[:-1], numbers[-1:]):
            things = {}
            for number in part:
                things.update(copy(number))
            self.etcd.put(things)


def router_of(number):
    return 1 + number % ROUTERS


def rotated(candidates, by):
    """Every node is first of as many."""
    nodes = [one["node"] for one in candidates]
    return [{**one, "node": nodes[(at + by) % len(nodes)]} for at, one in enumerate(candidates)]


def ask(api, path):
    """A server that has not taken in yet what was put into etcd says so with 504."""
    end = time.monotonic() + 180
    while True:
        try:
            return api.request("GET", path, timeout=60)
        except ApiError as error:
            if error.status != 504 or time.monotonic() > end:
                raise
        time.sleep(1)


def everything(api, path):
    more = ""
    while True:
        page = ask(api, f"{path}?limit=500{more}")
        yield from page["items"]
        if not page["metadata"].get("continue"):
            return
        more = f"&continue={page['metadata']['continue']}"


def versions(api):
    return {(path, thing["metadata"]["name"]): thing["metadata"]["resourceVersion"]
            for path in (SERVICES, VIPS, POOLS, SPEAKERS) for thing in everything(api, path)}


def wait_quiet(api):
    """Nothing was written for three seconds."""
    before, now = None, versions(api)
    while now != before:
        time.sleep(3)
        before, now = now, versions(api)
