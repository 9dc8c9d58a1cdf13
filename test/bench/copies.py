"""Services by the thousand, put into etcd as the API server and the controller would have left them: made one by one
they would take the server, not vipd, half an hour. That the controller finds nothing to write in them is checked by
whoever uses them."""
import base64
import http.client
import json
import time
import uuid

from cluster import ApiError, Cluster
from controllers import POOLS, SERVICES, SPEAKERS, VIPS

ROUTERS = 255
AT_ONCE = 100  # objects in one transaction of etcd's, which takes 128


class JsonCluster(Cluster):
    server_options = [*Cluster.server_options, "--storage-media-type=application/json"]


class Etcd:
    """Its JSON gateway."""

    def __init__(self, api):
        self.connection = http.client.HTTPConnection("127.0.0.1", 2379, timeout=10)
        self.connection.sock = api.host.connect("127.0.0.1", 2379, 10)

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


class Copier:
    """Copies of one Service that has its address, of its VirtualIP and, if it has one, of its EndpointSlice."""

    def __init__(self, api, name, endpoints=None):
        self.api, self.etcd, self.candidates = api, Etcd(api), {}
        service = api.service(name)
        self.name, self.uid = name, service["metadata"]["uid"]
        self.address, self.cluster = api.ingress(name)[0], service["spec"]["clusterIP"]
        self.keys = {what: key for what, key in (
            ("service", f"/registry/services/specs/vms/{name}"), ("vip", f"/registry/vipd.dev/virtualips/{self.address}"),
            ("taken", f"/registry/ipaddresses/{self.cluster}"), ("slice", f"/registry/endpointslices/vms/{endpoints}"))
            if what != "slice" or endpoints}
        self.endpoints = endpoints
        self.texts = {what: self.etcd.get(key) for what, key in self.keys.items()}
        self.there = 1

    def fill(self, wanted, run):
        """Until there are so many. `run` starts a controller, lets it settle and stops it: who is candidate of a
        virtual router it says of the first address of each; those that share the router have the same."""
        if self.there < ROUTERS:
            self._copy(range(self.there, min(wanted, ROUTERS)))
            run()
        self.candidates = {vip["spec"]["virtualRouterID"]: vip["spec"]["candidates"]
                           for vip in everything(self.api, VIPS)}
        self._copy(range(max(self.there, min(wanted, ROUTERS)), wanted))
        self.there = wanted
        run()  # the pool counts them

    def _copy(self, numbers):
        """The last one in a transaction of its own: of several objects with one version the server takes the first
        for all, and would say that a list is complete when it is not."""
        for part in (numbers[:-1], numbers[-1:]):
            things = {}
            for number in part:
                things.update(self._one(number))
            self.etcd.put(things)

    def _one(self, number):
        name, uid = f"copy-{number}", str(uuid.uuid4())
        address = f"10.64.{64 + number // 250}.{1 + number % 250}"
        cluster = f"10.96.{128 + number // 250}.{1 + number % 250}"
        router = 1 + number % ROUTERS

        def renamed(text):
            for old, new in ((self.uid, uid), (f'"{self.name}"', f'"{name}"'), (self.address, address),
                             (f'"{self.cluster}"', f'"{cluster}"'), (f'"{self.endpoints}"', f'"{name}"')):
                text = text.replace(old, new)
            return text
        vip = json.loads(renamed(self.texts["vip"]))
        vip["metadata"]["uid"] = str(uuid.uuid4())
        vip["spec"].update(virtualRouter=f"lab.ipv4.{router}", virtualRouterID=router)
        vip["spec"]["candidates"] = self.candidates.get(router, vip["spec"]["candidates"])
        made = {f"/registry/services/specs/vms/{name}": renamed(self.texts["service"]),
                f"/registry/ipaddresses/{cluster}": renamed(self.texts["taken"]),  # else the server would, with an Event
                f"/registry/vipd.dev/virtualips/{address}": json.dumps(vip)}
        if self.endpoints:
            made[f"/registry/endpointslices/vms/{name}"] = renamed(self.texts["slice"])
        return made


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
