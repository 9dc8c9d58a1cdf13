"""A run: the lab it happens in, what is done to it, and what is kept of it."""
import datetime
import json
import re
import shutil
import time

import judge
import manifests
import picture
import plan
import vipd
from cluster import SYSTEM
from faults import HOUR_S, Faults, Happened
from lab import ROOT, Lab, LabError, wait_for

V4, V6 = "192.0.2.10", "2001:db8::1:10"
RESULTS = ROOT / "build/results/chaos"
PROXY_PORT = 7301
PROBE_MS = 1
LEASES_AGREE_S = 20  # an agent that was cut off connects again with a back-off


class Rack:
    """Speakers, a controller and a Service with an address of each family, the API server behind a proxy."""
    addresses = [V4, V6]

    def __init__(self, api, nodes, folder):
        """`folder`: where the logs go in the end."""
        self.api, self.folder = api, folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.lab = Lab(nodes=nodes, vms=[("vm", f"n{nodes}")], management=True, masquerade=False)
        self.proxy = self.speakers = None

    def __enter__(self):
        self.lab.__enter__()
        try:
            self.api.attach(self.lab)
            self.api.pool()
            self.proxy = self.api.proxy(PROXY_PORT)
            self.speakers = vipd.Speakers(self.lab, self.api)
            self.speakers.connect(PROXY_PORT)
            for daemon in self.speakers.daemons.values():
                daemon.step_clock(0)
            self.start_controller()
            self.speakers.start()
            self.speakers.ready(60)
            service = manifests.service("ssh", self.addresses, selector={"vmi.kubevirt.io/id": "vm"})
            self.api.create("/api/v1/namespaces/vms/services", service)
            for address in self.addresses:
                self.speakers.serves(address, seconds=40)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for log in [*self.lab.dir.glob("n*.vipd.log"), *self.api.dir.glob("api.controller*.log")]:
            shutil.copy(log, self.folder)
        self.lab.down()
        self.api.thaw_server()
        if self.speakers:
            self.speakers.kill_controllers()
        if self.proxy:
            self.proxy.close()
            self.api.proxies.remove(self.proxy)
        self.api.reset()

    def start_controller(self):
        self.speakers.start_controller(PROXY_PORT)

    @staticmethod
    def other_mac(node):
        return f"02:00:00:00:aa:{int(node[1:]):02x}"

    def name_of(self, mac):
        for node in self.lab.nodes.values():
            if mac in (node.mac, self.other_mac(node.name)):
                return node.name
        return mac

    def owners(self):
        return {address: self.name_of(mac) if (mac := self.lab.client.mac_of(address)) else None
                for address in self.addresses}

    def leases(self):
        """{path of a virtual router's Lease: its address}"""
        return {f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/{thing['spec']['virtualRouter']}":
                thing["spec"]["address"] for thing in self.api.vips().values()}

    def holders(self):
        """{address: whom its Lease names}"""
        return {address: (self.api.get(path) or {}).get("spec", {}).get("holderIdentity")
                for path, address in self.leases().items()}


class Told:
    """An episode as it came about."""

    def __init__(self, number, regime, owners):
        self.number, self.regime, self.owners = number, regime, owners
        self.faults = []
        self.begin = self.whole = self.end = None


class Run:
    def __init__(self, rack, seed, seconds, only=None):
        self.rack, self.seed = rack, seed
        self.nodes = list(rack.lab.nodes)
        self.plan = plan.draw(seed, len(self.nodes), seconds, only)
        self.faults = Faults(rack)
        self.episodes, self.complaints = [], []
        self.unjudged = []  # complaints that the machine is to blame for
        self.probes, self.seen = {}, {}  # {(kind, address): ...}, summaries of the probes
        self.arp, self.ping = {}, {}     # {address: spans}
        self.start = self.finish = None
        self.wall = time.time() - time.monotonic()

    # --- doing it

    def go(self):
        """All episodes; self.complaints are what came of it."""
        client = self.rack.lab.client
        for address in self.rack.addresses:
            self.probes["arp", address] = client.probe("arp", "eth1", address, PROBE_MS)
            self.probes["ping", address] = client.probe("ping", address, PROBE_MS)
        for probe in self.probes.values():
            probe.wait_output('"answered"')
        self.start = time.monotonic()
        try:
            for number, episode in enumerate(self.plan, 1):
                self._episode(number, episode)
        except LabError as error:
            now = time.monotonic()
            self.complaints.append(judge.Complaint("lab", "", now, now, str(error)))
        finally:
            self.finish = time.monotonic()
            self._end_probes()
            self._judge()

    def _end_probes(self):
        for probe in self.probes.values():
            probe.end()
        for (kind, address), probe in self.probes.items():
            self.seen[kind, address] = probe.stop()
            found = judge.spans(probe.events(), self.rack.name_of, self.start, self.finish)
            getattr(self, kind)[address] = judge.clip(found, self.start, self.finish)

    def _episode(self, number, episode):
        told = Told(number, episode.regime, self.rack.owners())
        first = told.owners[V4] or self.nodes[0]
        order = [first, *[name for name in self.nodes if name != first]]
        self.episodes.append(told)
        todo = []
        for fault in episode.faults:
            happened = Happened(fault, order[fault.rank], order[fault.other], number)
            told.faults.append(happened)
            todo.append((fault.begin, 0, fault, happened))
            if not plan.KINDS[fault.kind].pulse:
                todo.append((fault.end, 1, fault, happened))
        told.begin = time.monotonic()
        for at, ending, fault, happened in sorted(todo, key=lambda entry: entry[:2]):
            time.sleep(max(0.0, told.begin + at - time.monotonic()))
            other = order[fault.other]
            if ending:
                self.faults.end(fault.kind, happened.node, other)
                happened.mark_end()
            else:
                happened.owner_of = [address for address in self.rack.addresses
                                     if told.owners[address] in (happened.node, happened.other)]
                happened.mark_begin()
                self.faults.begin(fault.kind, happened.node, other)
                if plan.KINDS[fault.kind].pulse:
                    happened.mark_end()
        self.rack.speakers.ready(40)
        told.whole = time.monotonic()
        time.sleep(judge.SETTLE_S + plan.QUIET_S)
        told.end = time.monotonic()
        self._leases_agree(told)

    def _leases_agree(self, told):
        """The API server names who answers, and nobody else has the address."""
        def agree():
            owners = self.rack.owners()
            return owners == self.rack.holders() and all(
                self.rack.speakers.holders(address) == [owner] for address, owner in owners.items())
        try:
            wait_for("Leases to name who answers", agree, LEASES_AGREE_S, 0.2)
        except LabError:
            self.complaints.append(judge.Complaint(
                "Lease", "", told.end, time.monotonic(), f"{self.rack.owners()} answer, the Leases name {self.rack.holders()}, "
                f"on interfaces: { {address: self.rack.speakers.holders(address) for address in self.rack.addresses} }"))

    # --- judging it

    def _judge(self):
        whole = [episode for episode in self.episodes if episode.end]
        for address in self.rack.addresses:
            self.complaints += judge.judge(address, self.arp[address], self.ping[address], whole, len(self.nodes))
        reports = self.rack.lab.sanitizer_reports()
        if reports:
            self.complaints.append(judge.Complaint("sanitizer", "", self.finish, self.finish, "; ".join(reports)))
        if self._stalled_ms() > judge.STALLED_MS:
            self.unjudged = [one for one in self.complaints if one.rule in judge.TIMED]
            self.complaints = [one for one in self.complaints if one.rule not in judge.TIMED]

    def _stalled_ms(self):
        return round(max((one["late_ms"] for one in self.seen.values()), default=0))

    def told(self):
        return [f"{one.begin - self.start:.3f} s {one.rule} {one.address}: {one.text}" for one in self.complaints]

    # --- keeping it

    def keep(self, drawn):
        """Beside the logs of the daemons, which the rack keeps."""
        folder = self.rack.folder
        for probe in self.probes.values():
            shutil.copy(probe.log, folder)
        (folder / "story.txt").write_text("\n".join(self.lines()) + "\n", encoding="utf-8")
        (folder / "summary.json").write_text(json.dumps(self.summary(), indent=1) + "\n")
        if drawn or self.complaints or self.unjudged:
            (folder / "timeline.svg").write_text(self.draw())

    def lines(self):
        """Everything in the order of time, in seconds since the beginning."""
        entries = []
        for episode in self.episodes:
            entries.append((episode.begin or self.finish, f"episode {episode.number} {episode.regime}, owners {episode.owners}"))
            for fault in episode.faults:
                if fault.begin:
                    entries.append((fault.begin, f"fault {fault.kind} {fault.whom}"))
                if fault.end and not plan.KINDS[fault.kind].pulse:
                    entries.append((fault.end, f"healed {fault.kind} {fault.whom}"))
            if episode.whole:
                entries.append((episode.whole, "everything is whole"))
        for kind, by in (("arp", self.arp), ("ping", self.ping)):
            for address, found in by.items():
                entries += [(begin, f"{kind} {address}: {'+'.join(sorted(who)) or 'nobody'} for {1000 * (end - begin):.0f} ms")
                            for begin, end, who in found]
        for name in self.nodes:
            entries += [(at, f"{name} {text}") for at, text in self._reasons(name)]
        entries += [(one.begin, f"COMPLAINT {one.rule} {one.address}: {one.text}") for one in [*self.complaints, *self.unjudged]]
        head = f"seed {self.seed}, {len(self.nodes)} nodes; test/run chaos {self.seed}"
        return [head, *[f"{at - self.start:9.3f} {text}" for at, text in sorted(entries) if at >= self.start]]

    def _reasons(self, name):
        """What the node's vipd logged with a reason."""
        for line in self.rack.speakers[name].log().splitlines():
            found = re.match(r"(?:<\d>)?time=(\S+)Z level=\S+ program=(\S+).* reason=(\S+)(.*)", line)
            if found:
                when = datetime.datetime.fromisoformat(found.group(1)).replace(tzinfo=datetime.timezone.utc)
                at = when.timestamp() - self.wall
                at -= HOUR_S * round((at - self.start) / HOUR_S)  # so its wall clock was wrong
                yield at, f"{found.group(2)} {found.group(3)}{found.group(4)}"

    def summary(self):
        """Figures of a run, for whoever compares them."""
        numbers = {"seed": self.seed, "nodes": len(self.nodes), "seconds": round(self.finish - self.start, 1),
                   "episodes": len(self.episodes), "complaints": self.told(),
                   "machine_stalled_ms": self._stalled_ms(), "unjudged": len(self.unjudged),
                   "faults": sum(len(episode.faults) for episode in self.episodes)}
        for address, found in self.arp.items():
            late = [judge.settled(judge.clip(found, episode.begin, episode.end), episode.whole)
                    for episode in self.episodes if episode.end]
            numbers[address] = {
                "asked": self.seen["arp", address]["questions"], "two_answered": self.seen["arp", address]["two"],
                "two_longest_ms": round(1000 * max((b - a for a, b, who in found if len(who) > 1), default=0)),
                "dark_longest_ms": round(1000 * judge.longest_dark(found)),
                "ping_dark_longest_ms": round(1000 * judge.longest_dark(self.ping[address])),
                "settled_last_ms": round(1000 * max((one for one in late if one is not None), default=0)),
                "moves": judge.moves(found)}
        return numbers

    def _fault_boxes(self, faults):
        return [picture.Box(fault.begin, fault.end or self.finish, picture.FAULT, fault.kind,
                            f"{fault.kind} {fault.whom} {fault.begin - self.start:.3f} s") for fault in faults]

    def draw(self):
        drawn = picture.Picture(f"chaos {self.seed}, {len(self.nodes)} nodes: "
                                f"{len(self.complaints) or 'no'} complaints", self.start, self.finish)
        happened = [fault for episode in self.episodes for fault in episode.faults if fault.begin]
        drawn.row("API server", self._fault_boxes(fault for fault in happened if fault.everybody))
        for name in self.nodes:
            drawn.row(f"{name} faults", self._fault_boxes(
                fault for fault in happened if not fault.everybody and name in (fault.node, fault.other)))
            drawn.row(f"{name} says", [picture.Box(
                at, at, picture.colour_of(name, self.nodes), "", f"{at - self.start:.3f} s {text}")
                for at, text in self._reasons(name) if at > self.start], 14)
        for address in self.rack.addresses:
            drawn.row(address, picture.answer_boxes(self.arp[address], self.nodes, self.start))
            drawn.row("no echo", [picture.Box(a, b, picture.DARK, "", f"no echo for {1000 * (b - a):.0f} ms")
                                  for a, b, who in self.ping[address] if not who], 14)
        for one in [*self.complaints, *self.unjudged]:
            drawn.mark(one.begin, one.end, f"{one.rule} {one.address}: {one.text}")
        return drawn.svg()


def play(api, nodes, seed, seconds, only=None, drawn=False):
    """One run from beginning to end: (figures, complaints as one text, empty if there are none)."""
    folder = RESULTS / f"{nodes}-{seed}"
    with Rack(api, nodes, folder) as rack:
        run = Run(rack, seed, seconds, only)
        run.go()
        run.keep(drawn)
        complaints = [*run.told(), f"log and picture: {folder.relative_to(ROOT)}"] if run.complaints else []
        return run.summary(), "\n".join(complaints)
