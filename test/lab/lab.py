#!/usr/bin/python3
"""A rack in network namespaces: nodes on a LAN, VMs behind them, a client, somebody who cuts cables.

    switch       the LAN's and the management network's switch; cables are cut on this side
    n1..nN       nodes: eth1 on the LAN (192.0.2.I, 2001:db8::I), cni0 towards their VMs, and, with
                 management=True, eth0 (10.98.0.I) towards the API server
    VMs          10.244.I.J and fd00:10:244:I::J behind node I, a server that says its name on its ports
    gateway      192.0.2.254 and 2001:db8::fe; routes to the client `far` (198.51.100.2, 2001:db8:f::2)
    client       192.0.2.150 and 2001:db8::150 on the LAN

Every namespace of a lab is called vipd-lab-PID-START-N-NAME after the process that made it, so that a
later run finds and removes what a killed one left behind. Files and logs are in lab.dir.

    lab.py clean      removes every lab of this machine that nobody uses any more, kept ones too
"""
import concurrent.futures
import contextlib
import ctypes
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading

from programs import LabError, Probe, Process, run, start_time, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
PREFIX = "vipd-lab-"
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
NUMBERS = itertools.count(1)
NEIGHBOURS = 8192 # of all namespaces together
REPORT_LINES = 60 # of a sanitizer's report: who used it, who freed it, who made it


def ip_batch(namespace, *lines):
    run(["ip", "-n", namespace, "-batch", "-"], text="\n".join(lines) + "\n")


def make_room():
    """The kernel has one table of neighbours a family for all namespaces: at most 1024 of them, if nobody says otherwise, and
    one lab may have that many (test/system/two_clusters_test.py). What has no room is not answered, and no counter of the
    namespace says so. It stays so: nobody knows whose lab is the last."""
    for family in ("ipv4", "ipv6"):
        for limit in ("gc_thresh3", "gc_thresh2"):  # in this order: the second is never more than the first
            path = pathlib.Path(f"/proc/sys/net/{family}/neigh/default/{limit}")
            with contextlib.suppress(OSError):  # where it may not be changed, a lab alone still has room
                if int(path.read_text()) < NEIGHBOURS:
                    path.write_text(f"{NEIGHBOURS}\n")


class Host:
    """One network namespace."""

    def __init__(self, lab, name):
        self.lab, self.name = lab, name
        self.namespace = lab.prefix + name

    def create(self, forward=False):
        run(["ip", "netns", "add", self.namespace])
        settings = ["net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0",
                    "net.ipv6.conf.default.accept_ra=0", "net.ipv4.ping_group_range=0 0"]
        if forward:
            settings += ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]
        self.run(["sysctl", "-q", "-w", *settings])
        ip_batch(self.namespace, "link set lo up")

    def command(self, words):
        return ["ip", "netns", "exec", self.namespace, *map(str, words)]

    def run(self, words, timeout=30, check=True, text=None):
        return run(self.command(words), timeout, check, text)

    def start(self, name, words, env=None, kind=Process, stdin=None):
        process = kind(f"{self.name}/{name}", self.command(words), self.lab.dir / f"{self.name}.{name}.log",
                       env, stdin)
        self.lab.processes.append(process)
        return process

    def ip(self, *words):
        """`ip -json` as Python objects."""
        return json.loads(self.run(["ip", "-json", *words]).stdout or "[]")

    def addresses(self, device=None):
        """Every address on the host without its prefix length."""
        entries = self.ip("address", "show", *(["dev", device] if device else []))
        return [info["local"] for entry in entries for info in entry.get("addr_info", []) if "local" in info]

    def ruleset(self):
        return self.run(["nft", "list", "ruleset"]).stdout

    def pids(self):
        """Who runs in here; empty when the namespace is gone."""
        done = run(["ip", "netns", "pids", self.namespace], check=False)
        return [int(word) for word in done.stdout.split()] if done.returncode == 0 else []

    def exists(self):
        return os.path.exists(f"/run/netns/{self.namespace}")

    def inside(self, function, *arguments):
        """Calls a function in a thread whose network is this namespace; sockets made there stay there."""
        future = concurrent.futures.Future()

        def body():
            try:
                fd = os.open(f"/run/netns/{self.namespace}", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    if LIBC.setns(fd, CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), f"setns {self.namespace}")
                finally:
                    os.close(fd)
                future.set_result(function(*arguments))
            except BaseException as error:  # handed to the caller, whatever it is
                future.set_exception(error)

        threading.Thread(target=body, daemon=True).start()
        return future.result(120)

    def connect(self, address, port, timeout=2.0):
        return self.inside(socket.create_connection, (address, port), timeout)

    def ask(self, address, port, line="hello", timeout=2.0):
        """(name of the VM that greets, its answer to one line) over a new TCP connection."""
        with self.connect(address, port, timeout) as connection:
            stream = connection.makefile("rw", newline="\n")
            greeting = stream.readline().split()
            stream.write(line + "\n")
            stream.flush()
            answer = stream.readline().strip()
        return (greeting or [""])[0], answer

    def ask_udp(self, address, port, text="hello", timeout=2.0):
        """(name of the VM, its answer) to one datagram."""
        def send():
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as sender:
                sender.settimeout(timeout)
                sender.connect((address, port))
                sender.send(text.encode())
                return sender.recv(65536).decode()
        name, _, answer = self.inside(send).partition(" ")
        return name, answer

    def pings(self, address, timeout=2.0):
        """Is one echo request answered?"""
        probe = self.probe("ping", address, 20)
        try:
            return bool(wait_for("an echo", lambda: self._answers(probe), timeout))
        except LabError:
            return False
        finally:
            probe.kill()

    def reaches(self, address, port, timeout=1.0):
        """The VM that answers on address:port, or None."""
        try:
            return self.ask(address, port, timeout=timeout)[0] or None
        except OSError:
            return None

    def mac_of(self, address, device="eth1", timeout=1.0):
        """The one MAC that answers ARP or a neighbour solicitation for `address` now, or None."""
        probe = self.probe("arp", device, address, 0.5)
        try:
            answered = wait_for("an answer", lambda: self._answers(probe), timeout, 0.005)
        except LabError:
            answered = []
        probe.kill()
        return answered[-1]["by"][0] if answered else None

    @staticmethod
    def _answers(probe):
        return [event for event in probe.events() if event["event"] == "answered"]

    def probe(self, *words):
        """Starts test/tools/probe: see there for the modes."""
        number = next(self.lab.numbers)
        return self.start(f"probe{number}-{words[0]}", [self.lab.probe_program(), *words], kind=Probe)


class Vm(Host):
    def __init__(self, lab, name, node, index, ports):
        super().__init__(lab, name)
        self.node, self.index, self.ports = node, index, ports
        self.address4 = f"10.244.{node.index}.{index}"
        self.address6 = f"fd00:10:244:{node.index:x}::{index:x}"
        self.server = None

    def build(self):
        self.create()
        port = f"vm{self.index}"
        ip_batch(self.node.namespace,
                 f"link add {port} type veth peer name eth0 netns {self.namespace}",
                 f"link set {port} master cni0 up",
                 # As CNI plugins do it (hairpinMode), so that a VM reaches itself through a Service.
                 f"link set {port} type bridge_slave hairpin on")
        ip_batch(self.namespace, "link set eth0 up",
                 f"address add {self.address4}/24 dev eth0",
                 f"address add {self.address6}/64 dev eth0 nodad",
                 f"route add default via 10.244.{self.node.index}.1",
                 f"route add default via fd00:10:244:{self.node.index:x}::1")
        self.serve()

    def serve(self):
        self.server = self.start("server", [sys.executable, ROOT / "test/tools/vm_server.py", self.name,
                                            *self.ports])

    def ready(self):
        self.server.wait_output("(?m)^ready$", 15)


class Node(Host):
    def __init__(self, lab, index):
        super().__init__(lab, f"n{index}")
        self.index = index
        self.address4, self.address6 = f"192.0.2.{index}", f"2001:db8::{index:x}"
        self.mac = f"02:00:00:00:00:{index:02x}"
        self.management = f"10.98.0.{index}"
        self.vms = []
        self.powered = False

    def build(self):
        self.create(forward=True)
        i, switch = self.index, self.lab.switch.namespace
        links = [f"link add lan-{self.name} type veth peer name eth1 address {self.mac} netns {self.namespace}",
                 f"link set lan-{self.name} master lan up"]
        if self.lab.management:
            links += [f"link add mgt-{self.name} type veth peer name eth0 netns {self.namespace}",
                      f"link set mgt-{self.name} master mgt up"]
        ip_batch(switch, *links)
        self.run(["sysctl", "-q", "-w", f"net.ipv4.conf.all.rp_filter={self.lab.rp_filter}",
                  f"net.ipv4.conf.default.rp_filter={self.lab.rp_filter}",
                  f"net.ipv4.conf.eth1.rp_filter={self.lab.rp_filter}"])
        lines = ["link add cni0 type bridge stp_state 0 forward_delay 0", "link set cni0 up", "link set eth1 up",
                 f"address add 10.244.{i}.1/24 dev cni0", f"address add fd00:10:244:{i:x}::1/64 dev cni0 nodad",
                 *self.lan_lines()]
        if self.lab.management:
            lines += ["link set eth0 up", f"address add {self.management}/24 dev eth0"]
        ip_batch(self.namespace, *lines)
        if self.lab.masquerade:
            # What CNI plugins do with packets of pods that leave the pod network.
            self.run(["nft", "-f", "-"], text=f"""
table inet cni {{
  chain postrouting {{ type nat hook postrouting priority srcnat; policy accept;
    ip saddr 10.244.{i}.0/24 ip daddr != {{ 10.244.0.0/16, 224.0.0.0/4 }} masquerade
    ip6 saddr fd00:10:244:{i:x}::/64 ip6 daddr != {{ fd00:10:244::/48, ff00::/8 }} masquerade
  }}
}}
""")
        self.powered = True

    def lan_lines(self):
        """For ip_batch(): addresses and routes that eth1 has, and gets back after it was down."""
        lines = [f"address replace {self.address4}/24 dev eth1", f"address replace {self.address6}/64 dev eth1 nodad",
                 "route replace default via 192.0.2.254", "route replace default via 2001:db8::fe"]
        for other in self.lab.nodes.values():
            if other is not self:
                lines += [f"route replace 10.244.{other.index}.0/24 via {other.address4}",
                          f"route replace fd00:10:244:{other.index:x}::/64 via {other.address6}"]
        return lines

    # --- cables

    def cut(self, *networks, carrier=True):
        """Cuts the node off the LAN ("lan", the default) or "mgt". carrier=False: the link stays up and
        nothing passes any more, as behind a switch that died."""
        for network in networks or ("lan",):
            port = f"{network}-{self.name}"
            ip_batch(self.lab.switch.namespace, f"link set {port} {'down' if carrier else 'nomaster'}")

    def heal(self, *networks):
        for network in networks or ("lan",):
            ip_batch(self.lab.switch.namespace, f"link set {network}-{self.name} master {network} up")

    def power_off(self):
        """Nothing of the node, its processes and its VMs is left, and nobody had time to say goodbye."""
        ports = [f"lan-{self.name}"] + ([f"mgt-{self.name}"] if self.lab.management else [])
        ip_batch(self.lab.switch.namespace, *[f"link set {port} nomaster" for port in ports])
        self.powered = False
        self.lab.destroy([self, *self.vms])
        # The kernel may take its time to clear a namespace away; the switch shall have its ports back now.
        for port in ports:
            run(["ip", "-n", self.lab.switch.namespace, "link", "delete", port], check=False)

    def power_on(self):
        self.build()
        for vm in self.vms:
            vm.build()
        for vm in self.vms:
            vm.ready()

    # --- what is on it

    def leftovers(self, *addresses):
        """Traces of these addresses and of vipd in the kernel of the node: [] when there are none."""
        found = [f"address {address}" for address in self.addresses() if address in addresses]
        rules = self.ruleset()
        found += [f"rule: {line.strip()}" for line in rules.splitlines()
                  if any(re.search(rf"(?<![0-9a-f:.]){re.escape(address)}(?![0-9a-f:.])", line)
                         for address in addresses)]
        return found


class Place:
    """What a lab and a cluster share: a prefix for namespaces, a folder for files, processes to end."""

    def __init__(self, directory=None):
        me = os.getpid()
        self.prefix = f"{PREFIX}{me}-{start_time(me)}-{next(NUMBERS)}-"
        self.dir = pathlib.Path(directory or tempfile.mkdtemp(prefix=self.prefix))
        self.dir.chmod(0o755)
        self.processes = []
        self.keep = False

    def __enter__(self):
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *_):
        self.down()

    def destroy(self, hosts):
        """SIGKILL to whoever runs in these namespaces, then the namespaces."""
        pids = [pid for host in hosts for pid in host.pids()]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for host in hosts:
            run(["ip", "netns", "del", host.namespace], check=False)
        for process in self.processes:
            if process.pid in pids:
                try:
                    process.popen.wait(5)
                except subprocess.TimeoutExpired:
                    pass

    def down(self):
        if self.keep:
            (self.dir / "keep").touch()
            return
        remove_namespaces(self.prefix)
        for process in self.processes:
            if process.alive():
                process.popen.kill()
            process.popen.wait(10)
        if not os.environ.get("VIPD_KEEP_LOGS"):
            shutil.rmtree(self.dir, ignore_errors=True)

    def sanitizer_reports(self):
        """What ASan, LSan and UBSan wrote into any log of the lab, with where it happened."""
        found = []
        for log in sorted(self.dir.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()
            for number, line in enumerate(lines):
                if re.search(r"ERROR: (Address|Leak)Sanitizer|runtime error:|AddressSanitizer:DEADLYSIGNAL", line):
                    found.append("\n".join([f"{log.name}: {line.strip()}", *lines[number + 1:number + REPORT_LINES]]))
        return found


class Lab(Place):
    def __init__(self, nodes=3, vms=(), management=False, masquerade=True, rp_filter=2, directory=None):
        """vms: (name, node name) or (name, node name, [ports]); port 22 if none is named."""
        super().__init__(directory)
        self.management, self.masquerade, self.rp_filter = management, masquerade, rp_filter
        self.numbers = itertools.count(1)
        self.probe_path = None
        self.switch = Host(self, "switch")
        self.gateway, self.client, self.far = Host(self, "gateway"), Host(self, "client"), Host(self, "far")
        self.nodes = {f"n{i}": Node(self, i) for i in range(1, nodes + 1)}
        self.vms = {}
        for name, where, *ports in vms:
            node = self.nodes[where]
            vm = Vm(self, name, node, len(node.vms) + 11, ports[0] if ports else [22])
            node.vms.append(vm)
            self.vms[name] = vm

    def __getitem__(self, name):
        return self.nodes[name]

    def up(self):
        make_room()
        self.switch.create()
        bridges = ["lan"] + (["mgt"] if self.management else [])
        ip_batch(self.switch.namespace, *[
            line for name in bridges for line in (
                f"link add {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0", f"link set {name} up")])
        for host, index, forward in ((self.gateway, 254, True), (self.client, 150, False)):
            suffix = "fe" if index == 254 else str(index)
            host.create(forward)
            ip_batch(self.switch.namespace,
                     f"link add lan-{host.name} type veth peer name eth1 address 02:00:00:00:01:{index:02x} "
                     f"netns {host.namespace}", f"link set lan-{host.name} master lan up")
            ip_batch(host.namespace, "link set eth1 up", f"address add 192.0.2.{index}/24 dev eth1",
                     f"address add 2001:db8::{suffix}/64 dev eth1 nodad")
        ip_batch(self.client.namespace, "route add default via 192.0.2.254",
                 "route add default via 2001:db8::fe")
        self.far.create()
        ip_batch(self.gateway.namespace, f"link add eth2 type veth peer name eth1 netns {self.far.namespace}",
                 "link set eth2 up", "address add 198.51.100.1/24 dev eth2",
                 "address add 2001:db8:f::1/64 dev eth2 nodad")
        ip_batch(self.far.namespace, "link set eth1 up", "address add 198.51.100.2/24 dev eth1",
                 "address add 2001:db8:f::2/64 dev eth1 nodad", "route add default via 198.51.100.1",
                 "route add default via 2001:db8:f::1")
        for node in self.nodes.values():
            node.build()
        for vm in self.vms.values():
            vm.build()
        for vm in self.vms.values():
            vm.ready()
        return self

    def hosts(self):
        return [self.switch, self.gateway, self.client, self.far, *self.nodes.values(), *self.vms.values()]

    def probe_program(self):
        """test/tools/probe: the built one, else compiled into the lab's folder."""
        if not self.probe_path:
            built = [ROOT / f"build/{preset}/test/probe" for preset in ("release", "dev")]
            source = ROOT / "test/tools/probe.c"
            fresh = [path for path in built if path.exists() and path.stat().st_mtime >= source.stat().st_mtime]
            if fresh:
                self.probe_path = fresh[0]
            else:
                self.probe_path = self.dir / "probe"
                run(["cc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-o", self.probe_path, source], timeout=60)
        return self.probe_path

    def node_of_mac(self, mac):
        return next((node.name for node in self.nodes.values() if node.mac == mac), None)


def remove_namespaces(prefix):
    """Ends every process in the namespaces that start with `prefix`, removes them; answers how many."""
    found = [name for name in sorted(os.listdir("/run/netns") if os.path.isdir("/run/netns") else [])
             if name.startswith(prefix)]
    pids = set()
    for name in found:
        pids.update(int(word) for word in run(["ip", "netns", "pids", name], check=False).stdout.split())
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    for name in found:
        run(["ip", "netns", "del", name], check=False)
    return len(found)


def sweep(kept=False):
    """Removes the labs whose maker is gone; kept ones (quickstart --keep) only when asked to."""
    count = 0
    names = os.listdir("/run/netns") if os.path.isdir("/run/netns") else []
    temporary = pathlib.Path(tempfile.gettempdir())
    owners = {match.group(0): match for name in [*names, *[path.name for path in temporary.glob(PREFIX + "*")]]
              if (match := re.match(rf"{PREFIX}(\d+)-(\d+)-\d+-", name))}
    for prefix, match in owners.items():
        if start_time(match.group(1)) == int(match.group(2)):
            continue
        folders = list(temporary.glob(prefix + "*"))
        if not kept and any((folder / "keep").exists() for folder in folders):
            continue
        count += remove_namespaces(prefix)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    return count


if __name__ == "__main__":
    if sys.argv[1:] != ["clean"]:
        sys.exit("usage: lab.py clean")
    print(f"removed {sweep(kept=True)} network namespaces")
