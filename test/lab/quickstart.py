#!/usr/bin/python3
"""The program behind deploy/quickstart: lays a rack, brings an address up, takes its owner's power away."""
import argparse
import os
import re
import signal
import sys
import time

import vipd
from cluster import GROUP, Cluster, program
from lab import ROOT, Lab, LabError, sweep, wait_for

V4, V6 = "192.0.2.10", "2001:db8::1:10"
CONNECTIONS = 5
STARTED = time.monotonic()


def say(text=""):
    print(text, flush=True)


def step(text):
    say(f"\n== {text}  [{time.monotonic() - STARTED:.1f} s]")


def show(command, output):
    say(f"   $ {command}")
    for line in output.rstrip().splitlines():
        say(f"   {line}")


def lay_rack(management):
    step("a rack in network namespaces: nodes n1 n2 n3, VM myvm-1 on n2, VM myvm-2 on n3, a gateway, a client")
    return Lab(nodes=3, vms=[("myvm-1", "n2"), ("myvm-2", "n3")], management=management).up()


def connect(lab, addresses):
    step(f"a client on the LAN connects, {CONNECTIONS} connections to each address, data flowing all the time")
    for address in addresses:
        say(f"   {address} port 22: {lab.client.ask(address, 22)[0]!r} answers")
    probes = {("answers", address): lab.client.probe("arp", "eth1", address, 2) for address in addresses}
    probes |= {("connects", address): lab.client.probe("connect", address, 22, 10) for address in addresses}
    probes |= {("stays", address): lab.client.probe("stream", address, 22, 10, CONNECTIONS) for address in addresses}
    time.sleep(1.5)
    return probes


def lose_owner(lab, cluster, addresses):
    """Takes the power of the node that owns the first address; answers its name."""
    owner = cluster.owner(addresses[0])
    step(f"{owner} loses its power: cables, processes and kernel gone in the same instant")
    if lab[owner].vms:
        raise LabError(f"{owner} owns {addresses[0]} and carries a VM: the VM would go with it")
    lab[owner].power_off()
    for address in addresses:
        heir = cluster.owner(address, 15, other_than=owner)
        say(f"   {address} is now answered by {heir}")
    time.sleep(2.5)
    return owner


def verdict(lab, cluster, probes, addresses, lost):
    """Says what the client saw; answers what was wrong."""
    wrong = []
    summaries = {key: probe.stop() for key, probe in probes.items()}
    step("what the client saw")
    say(f"   {'address':16} {'nobody answered':>16} {'no new connection':>18} {'connections kept':>17} "
        f"{'longest pause':>14} {'two answered':>13}  now")
    for address in addresses:
        arp, new, held = (summaries[kind, address] for kind in ("answers", "connects", "stays"))
        now = cluster.answering(address)
        say(f"   {address:16} {arp['longest_ms']:13.0f} ms {new['longest_ms']:15.0f} ms "
            f"{held['kept']:9d} of {CONNECTIONS:<4d} {held['longest_ms']:11.0f} ms {arp['two']:13d}  {now}")
        if held["kept"] != CONNECTIONS or held["lost"] or held["stuck"] or held["corrupt"]:
            wrong.append(f"{address}: {held['kept']} of {CONNECTIONS} connections kept, {held['stuck']} stuck, "
                         f"{held['corrupt']} lines wrong")
        if arp["two"]:
            wrong.append(f"{address}: two nodes answered {arp['two']} times")
        if arp["dark"] or new["dark"] or now in (None, lost):
            wrong.append(f"{address}: not served after {lost} was gone")
    if not any(summaries["answers", address]["outages"] for address in addresses):
        wrong.append(f"nobody noticed that {lost} was gone: it owned nothing")
    return wrong


def explain(cluster, lost, address):
    """The log lines of those who are left; answers how many there are."""
    say("\n   why, from the logs of those who are left:")
    pattern = re.compile(r"T(?P<time>[\d:.]{12})\S* level=\w+ .*\bnode=(?P<node>\S+) reason=(?P<reason>\S+) "
                         r".*\bold_owner=(?P<from>\S+) .*msg=\"(?P<text>.*)\"$")
    lines = [found for name, daemon in cluster.daemons.items() if name != lost
             for line in daemon.log().splitlines() if (found := pattern.search(line)) and found["from"] == lost]
    for found in sorted(lines, key=lambda found: found["time"]):
        say(f"   {found['time']}  {found['node']}  {found['reason']:14} {found['text']}")
    say(f"   (with systemd: journalctl VIP={address}; each line has its fields: VIP, NODE, REASON, TERM, OUTAGE_USEC ...)")
    return len(lines)


def clean_up(lab, api, cluster, lost, addresses):
    """Every daemon ends well and takes its addresses with it; without its Service an address is nobody's."""
    wrong = []
    if api:
        step("the user deletes the Service; SIGTERM to all")
        api.kubectl("delete", "service", "myvm-ssh", "-n", "vms")
        cluster.gone(*addresses)
        wait_for("the VirtualIP and its Lease to go", lambda: not api.vips() and not any(
            "ipv" in name for name in api.leases()), 20)
        show("kubectl get svc,vip -n vms", api.kubectl("get", "svc,vip", "-n", "vms", check=False).stdout or "(nothing)")
        cluster.stop_controllers()
    else:
        step("SIGTERM to all, everything removed")
    for name, daemon in cluster.daemons.items():
        if name != lost:
            daemon.stop()
            left = [address for address in lab[name].addresses("eth1") if address in addresses]
            wrong += [f"{name} ended and left {address}" for address in left]
    say(f"   all ended well  [{time.monotonic() - STARTED:.1f} s]")
    return wrong


def standalone(lab):
    cluster = vipd.Standalone(lab)
    cluster.expose("myvm-ssh", [V4, V6], ["myvm-1", "myvm-2"], candidates=["n1", "n2", "n3"])
    step("vipd standalone on every node, all with the same folder of manifests")
    show("ls manifests", "\n".join(sorted(path.name for path in cluster.folder.iterdir())))
    cluster.start("n1")
    for address in (V4, V6):
        cluster.owner(address, 20)
    cluster.start("n2", "n3")
    for address in (V4, V6):
        say(f"   {address} is answered by {cluster.owner(address, 20)}")
        cluster.serves(address, seconds=20)
    wait_for("every node to be ready", lambda: all(
        (daemon.status() or {}).get("ready") for daemon in cluster.daemons.values()), 20)
    show_status(lab, "n1")
    return cluster, [V4, V6]


def show_status(lab, name):
    show(f"vipd status        (on {name})", lab[name].run(
        [vipd.program(), "status", "--runtime-dir", lab.dir / f"{name}.run"], check=False).stdout)


def kubernetes(lab, api):
    step("a real API server (etcd, kube-apiserver, kube-controller-manager); CRDs and RBAC of deploy/")
    api.up().install()
    api.attach(lab)
    api.pool()
    step("vipd controller, and vipd speaker on every node, each with its own ServiceAccount")
    cluster = vipd.Speakers(lab, api)
    cluster.start_controller()
    cluster.start()
    wait_for("a Speaker object of every node", lambda: len(api.list(f"{GROUP}/speakers")) == len(lab.nodes), 30)
    show("kubectl wait --for=condition=Ready speakers --all", api.kubectl(
        "wait", "--for=condition=Ready", "speakers", "--all", "--timeout=30s", timeout=40))
    step("the user's own command")
    began = time.monotonic()
    say("   $ virtctl expose vm myvm-1 --port 22 --name myvm-ssh --type LoadBalancer")
    api.expose("myvm-1", "myvm-ssh")
    address = api.external_ip("myvm-ssh", seconds=30)
    cluster.serves(address, seconds=30)
    say(f"   {address} serves the VM {time.monotonic() - began:.2f} s after the command was typed")
    show("kubectl get svc,vip,speakers -n vms", api.kubectl("get", "svc,vip,speakers", "-n", "vms"))
    if cluster.owner(address) != "n1":
        step("planned: the address moves to n1, which carries no VM, so that the VM outlives what comes")
        wait_for("n1 to be a candidate", lambda: any(
            candidate["node"] == "n1" for candidate in api.vips()[address]["spec"]["candidates"]), 20)
        plugin(api, "handover", address, "--to", "n1", "--wait")
    return cluster, [address]


def plugin(api, *words):
    show(f"kubectl vip {' '.join(words)}", api.host.run(
        [vipd.program("kubectl-vip"), *words, "--kubeconfig", api.admin], timeout=90).stdout)


def main():
    parser = argparse.ArgumentParser(prog="deploy/quickstart")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--kubernetes", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    sweep()
    lab = api = cluster = lost = None
    wrong = []
    try:
        if options.kubernetes:
            api = Cluster()
        lab = lay_rack(options.kubernetes)
        cluster, addresses = kubernetes(lab, api) if options.kubernetes else standalone(lab)
        probes = connect(lab, addresses)
        lost = lose_owner(lab, cluster, addresses)
        wrong = verdict(lab, cluster, probes, addresses, lost)
        if not explain(cluster, lost, addresses[0]):
            wrong.append("no log line explains it")
        survivor = next(name for name in cluster.daemons if name != lost)
        say()
        if options.kubernetes:
            show("kubectl get svc,vip,speakers -n vms", api.kubectl("get", "svc,vip,speakers", "-n", "vms"))
            plugin(api, "status")
        else:
            show_status(lab, survivor)
        if options.keep:
            keep(lab, api, addresses, survivor)
        else:
            wrong += clean_up(lab, api, cluster, lost, addresses)
    except (LabError, OSError, KeyboardInterrupt) as error:
        wrong.append(str(error) or type(error).__name__)
        if cluster:
            for daemon in cluster.daemons.values():
                say(f"\n-- the end of {daemon.node.name}'s log")
                say("\n".join(daemon.log().splitlines()[-15:]))
    finally:
        for place in (lab, api):
            if place:
                place.down()
    left = [name for name in os.listdir("/run/netns") if name.startswith(lab.prefix)] if lab else []
    if left and not options.keep:
        wrong.append(f"left behind: {' '.join(left)}")
    for line in wrong:
        say(f"quickstart: {line}")
    say(f"\n{'It did not work.' if wrong else 'It worked: the address moved, the client stayed connected.'}"
        f"  [{time.monotonic() - STARTED:.1f} s]")
    return 1 if wrong else 0


def keep(lab, api, addresses, survivor):
    lab.keep = True
    step("the lab stays; try")
    client, node = lab.client.namespace, lab[survivor].namespace
    tries = [("connect as the client on the LAN; every line comes back",
              f"ip netns exec {client} bash -c 'exec 3<>/dev/tcp/{addresses[0]}/22; echo hello >&3; head -2 <&3'"),
             (f"who owns what, as {survivor} sees it",
              f"{vipd.program()} status --runtime-dir {lab.dir}/{survivor}.run"),
             (f"the fence and the data plane on {survivor}", f"ip netns exec {node} nft list ruleset"),
             (f"kill vipd on {survivor}", f"kill -9 $(ip netns pids {node})")]
    if api:
        api.keep = True
        tries += [("ask the API server", f"ip netns exec {api.host.namespace} {program('kubectl')} "
                                         f"--kubeconfig {api.admin} get svc,vip,speakers -A")]
    else:
        tries += [("change what is wanted; it is picked up while running", f"editor {lab.dir}/manifests/*.yaml")]
    tries += [("watch", f"tail -f {lab.dir}/*.vipd.log"),
              ("remove it all when you are done", f"{ROOT}/test/lab/lab.py clean")]
    for what, command in tries:
        say(f"   # {what}\n   {command}")


if __name__ == "__main__":
    sys.exit(main())
