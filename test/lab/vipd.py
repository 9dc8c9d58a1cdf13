"""Starting, asking and stopping vipd on the nodes of a lab."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import time

from lab import ROOT, Lab, LabError, wait_for
import manifests

INTERVAL_MS = 100 # the pool's default


def program(name="vipd"):
    """The program under test, from the build folder $VIPD_BUILD; build/dev (sanitizers) if it does not say."""
    path = pathlib.Path(os.environ.get("VIPD_BUILD") or ROOT / "build/dev") / name
    if not path.exists():
        raise LabError(f"{path} is not built; run test/run or cmake --build")
    return path


def environment():
    return {"VIPD_LOG": "stderr", "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=86",
            "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"}


class Daemon:
    """vipd on one node; state and runtime folder survive a restart, as on a real machine."""

    def __init__(self, node, words):
        self.node, self.words = node, words
        self.clock = None  # a file that says how wrong the node's wall clock is
        self.state = node.lab.dir / f"{node.name}.state"
        self.runtime = node.lab.dir / f"{node.name}.run"
        self.process = None

    def start(self):
        for folder in (self.state, self.runtime):
            folder.mkdir(exist_ok=True)
        self.process = self.node.start("vipd", [program(), *self.words, "--state-dir", self.state,
                                                "--runtime-dir", self.runtime],
                                       env={**environment(), **self._wall_clock()})
        return self

    def _wall_clock(self):
        """test/tools/wall_clock.c"""
        if not self.clock:
            return {}
        return {"LD_PRELOAD": str(program("test/wall_clock.so")), "WALL_CLOCK": str(self.clock),
                "ASAN_OPTIONS": environment()["ASAN_OPTIONS"] + ":verify_asan_link_order=0"}

    def step_clock(self, seconds):
        """From now on, and after the next start, the wall clock is wrong by so much; it has to have one to be stepped while
        it runs: called once before the start."""
        self.clock = self.node.lab.dir / f"{self.node.name}.clock"
        new = self.clock.with_suffix(".new")
        new.write_text(f"{seconds}\n")
        new.rename(self.clock)

    def running(self):
        return self.process is not None and self.process.alive()

    def kill(self):
        """SIGKILL to engine and feeder (agent)."""
        self.process.kill()

    def stop(self, timeout=15):
        if self.process.alive():
            self.process.wait_output(".", 5)  # before its first line SIGTERM may still end it the hard way
        code = self.process.stop(timeout)
        if code != 0:
            raise LabError(f"vipd on {self.node.name} ended with {code} after SIGTERM: {self.process.output()[-2000:]}")

    def restart(self):
        """A crash of both processes and a start, as a supervisor does it."""
        self.kill()
        self.start()

    def forget(self):
        """What a node loses with its disk; /run does not survive a loss of power either."""
        for folder in (self.state, self.runtime):
            shutil.rmtree(folder, ignore_errors=True)

    def hang(self):
        """SIGSTOP to engine and feeder."""
        self.process.signal(signal.SIGSTOP)

    def wake(self):
        self.process.signal(signal.SIGCONT)

    def children(self, *names):
        """The engine's children that were started as one of `names`: feeder, agent, vipd-page."""
        found = []
        for pid in self.process.children():
            try:
                words = pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            except OSError:
                continue
            if any(word in names for word in words[:2]):
                found.append(pid)
        return found

    def feeders(self):
        return self.children("feeder", "agent")

    def feeder(self):
        """The unprivileged half."""
        feeders = self.feeders()
        if len(feeders) != 1:
            raise LabError(f"vipd on {self.node.name} has {len(feeders)} feeders, expected one")
        return feeders[0]

    def page(self, path="/metrics", timeout=5):
        """(status, text) of what this node shows over HTTP; (0, why) when nobody answers."""
        done = self.node.run(["curl", "-sS", "-m", timeout, "-w", "\n%{http_code}", f"http://127.0.0.1:9461{path}"],
                             check=False, timeout=timeout + 5)
        text, _, status = done.stdout.rpartition("\n")
        return (int(status), text) if done.returncode == 0 else (0, done.stderr)

    def metrics(self):
        """{'name{label="value"}': number} of /metrics."""
        status, text = self.page()
        if status != 200:
            raise LabError(f"/metrics on {self.node.name}: {status} {text}")
        return {name: float(value) for name, _, value in
                (line.rpartition(" ") for line in text.splitlines() if line and line[0] != "#")}

    def status(self):
        """`vipd status -o json`, or None when it does not answer."""
        done = self.node.run([program(), "status", "--runtime-dir", self.runtime, "-o", "json"], check=False,
                             timeout=15)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def eligible(self, address):
        """This node knows that it is a candidate for the address, and nothing keeps it from owning it."""
        return any(router["eligible"] for router in (self.status() or {}).get("routers", [])
                   if address in router["addresses"].split(","))

    def log(self):
        return self.process.log.read_text(errors="replace") if self.process else ""


class Cluster:
    """What the tests ask of vipd on all nodes of a lab, however it is fed."""

    def __init__(self, lab):
        self.lab = lab
        self.daemons = {}

    def add(self, node, words):
        self.daemons[node.name] = Daemon(node, words)

    def __getitem__(self, name):
        return self.daemons[name]

    def start(self, *names):
        for name in names or self.daemons:
            self.daemons[name].start()
        return self

    def mend(self, seconds=20.0):
        """Power, cables and daemons of every node whole again; waits until every daemon is ready."""
        for name, daemon in self.daemons.items():
            node = self.lab[name]
            if not node.powered:
                node.power_on()
            node.heal()
            if not daemon.running():
                daemon.start()
            daemon.wake()
        wait_for("every vipd to be ready", lambda: all(
            (daemon.status() or {}).get("ready") for daemon in self.daemons.values()), seconds)

    def watch(self, *addresses, **more):
        return Watch(self, addresses, **more)

    def holders(self, address):
        """The nodes that have `address` on an interface."""
        return [name for name in self.daemons
                if self.lab[name].powered and address in self.lab[name].addresses()]

    def answering(self, address, timeout=0.5):
        """The node that answers for `address` on the LAN, as the client sees it; None: nobody."""
        mac = self.lab.client.mac_of(address, timeout=timeout)
        return self.lab.node_of_mac(mac) or mac if mac else None

    def owner(self, address, seconds=10.0, other_than=None):
        """Waits until one node, other than `other_than`, answers for the address."""
        return wait_for(f"an owner of {address}{f' other than {other_than}' if other_than else ''}",
                        lambda: (name := self.answering(address)) and name != other_than and name, seconds)

    def serves(self, address, port=22, seconds=10.0, vm=None):
        """Waits until a VM (this one) answers the client on address:port; answers its name."""
        def ask():
            found = self.lab.client.reaches(address, port)
            return found if found and vm in (None, found) else None
        return wait_for(f"{vm or 'a VM'} to answer on {address} port {port}", ask, seconds)

    def refuses(self, address, port=22, seconds=10.0):
        return wait_for(f"{address} port {port} to go", lambda: not self.lab.client.reaches(address, port, 0.5), seconds)

    def leftovers(self, *addresses):
        return [f"{name}: {trace}" for name in self.daemons if self.lab[name].powered
                for trace in self.lab[name].leftovers(*addresses)]

    def gone(self, *addresses, seconds=10.0):
        """Waits until no node has a trace of the addresses."""
        try:
            wait_for("traces to go", lambda: not self.leftovers(*addresses), seconds)
        except LabError:
            raise LabError(f"left behind: {self.leftovers(*addresses)}") from None


class Watch:
    """Probers on the client for as long as something is done to the rack.

    Asks for each address ARP or NDP, new connections and datagrams, and keeps connections with flowing
    data; stop() answers {address: {"arp": summary, "connect": ..., "udp": ..., "stream": ...}}.
    """

    def __init__(self, cluster, addresses, port=22, streams=5, arp_ms=2, connect_ms=10, udp_ms=5,
                 stream_ms=10, kinds=("arp", "connect", "udp", "stream")):
        client = cluster.lab.client
        words = {"arp": lambda address: ("arp", "eth1", address, arp_ms),
                 "connect": lambda address: ("connect", address, port, connect_ms),
                 "udp": lambda address: ("udp", address, port, udp_ms),
                 "stream": lambda address: ("stream", address, port, stream_ms, streams),
                 "ping": lambda address: ("ping", address, arp_ms)}
        self.streams = streams
        self.probes = {address: {kind: client.probe(*words[kind](address)) for kind in kinds}
                       for address in addresses}
        for probes in self.probes.values():
            if "stream" in probes:
                wait_for(f"{streams} connections", lambda: sum(
                    event["event"] == "connected" for event in probes["stream"].events()) == streams, 10)
        time.sleep(0.2)

    def stop(self):
        for probes in self.probes.values():
            for probe in probes.values():
                probe.end()
        return {address: {kind: probe.stop() for kind, probe in probes.items()}
                for address, probes in self.probes.items()}


class Standalone(Cluster):
    """vipd standalone on every node, all with the same folder of manifests."""

    def __init__(self, lab, nodes=None, folder="manifests", **pool_spec):
        """`nodes`: names of those that are of this cluster; all of the lab."""
        super().__init__(lab)
        self.folder = lab.dir / folder
        self.folder.mkdir()
        members = [lab[name] for name in nodes or lab.nodes]
        manifests.write(self.folder / "nodes.yaml", *map(manifests.node, members))
        self.pool(**pool_spec)
        for node in members:
            self.add(node, ["standalone", "--node", node.name, "--manifests", self.folder])

    def pool(self, **spec):
        return manifests.write(self.folder / "pool.yaml", manifests.pool(**spec))

    def expose(self, name, addresses, vms, ports=(22,), candidates=None, **more):
        """A Service with its EndpointSlices; vms are names of the lab. `candidates`: who may own the
        addresses, best first (VirtualIP objects); without, vipd ranks all nodes itself."""
        service = manifests.service(name, addresses, ports, **more)
        objects = [service, *manifests.slices(service, [self.lab.vms[vm] for vm in vms])]
        if candidates:
            objects += [manifests.virtual_ip(address, service, candidates) for address in addresses]
        manifests.write(self.folder / f"service-{name}.yaml", *map(manifests.server_filled, objects))
        return service

    def hide(self, name, missing_ok=False):
        pathlib.Path(self.folder / f"service-{name}.yaml").unlink(missing_ok)


class Speakers(Cluster):
    """vipd speaker on every node and vipd controller beside the API server (test/lab/cluster.py)."""

    def __init__(self, lab, api, nodes=None):
        """`nodes`: names of those that are of this cluster; all of the lab."""
        super().__init__(lab)
        self.api = api
        self.controllers = []
        for name in nodes or lab.nodes:
            self.add(lab[name], [])
        self.connect()

    def connect(self, port=6443, **more):
        """Which way to the API the speakers take when they start the next time."""
        for name, daemon in self.daemons.items():
            config = self.api.kubeconfig("speaker", name, port, **more)
            daemon.words = ["speaker", "--node", name, "--kubeconfig", config]

    def start_controller(self, port=6443):
        number = len(self.controllers) + 1
        self.controllers.append(self.api.host.start(f"controller{number}", [
            program(), "controller", "--kubeconfig", self.api.kubeconfig("controller", port=port),
            "--namespace", "vipd-system", "--metrics-listen", f"127.0.0.1:{9460 + number}"], env=environment()))
        return self.controllers[-1]

    def stop_controllers(self):
        for controller in self.controllers:
            controller.stop()
        self.controllers = []

    def kill_controllers(self):
        for controller in self.controllers:
            controller.kill()
        self.controllers = []

    def ready(self, seconds=20):
        wait_for("every speaker to be ready", lambda: all(
            (daemon.status() or {}).get("ready") for daemon in self.daemons.values() if daemon.running()), seconds)
        return self


@contextlib.contextmanager
def exposed(api, labels=None, others=(), **pool):
    """Three nodes with speakers and a controller that serve VM `myvm` on n3 as Service `myvm-ssh` at `address`.

    labels: {node name: labels of its Node}; others: more VMs, as Lab takes them. Everybody has to end well, and nothing is left in the API.
    """
    api.reset()
    with Lab(vms=[("myvm", "n3"), *others], management=True) as lab:
        api.attach(lab)
        for name, its in (labels or {}).items():
            api.patch(f"/api/v1/nodes/{name}", {"metadata": {"labels": its}})
        api.pool(**pool)
        cluster = Speakers(lab, api)
        cluster.start_controller()
        cluster.start()
        cluster.ready()
        api.expose("myvm", "myvm-ssh")
        cluster.address = api.external_ip("myvm-ssh")
        cluster.serves(cluster.address)
        yield cluster
        cluster.stop_controllers()
        for daemon in cluster.daemons.values():
            daemon.stop()
        reports = lab.sanitizer_reports() + api.sanitizer_reports()
        api.reset()
    assert not reports, reports
