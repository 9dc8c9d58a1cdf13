"""`vipd check`: what is wrong with manifests, in which line, and what to write instead."""
import subprocess

import pytest

import vipd

NODE = """
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
"""
POOL = """
apiVersion: vipd.dev/v1alpha1
kind: AddressPool
metadata: {name: lab}
spec:
  addresses: ["192.0.2.0/25", "2001:db8::/120"]
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata:
  name: a
  namespace: vms
  annotations: {vipd.dev/addresses: "192.0.2.10"}
spec:
  type: LoadBalancer
  ports: [{name: ssh, port: 22}]
"""
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv4
metadata: {name: a-1, namespace: vms, labels: {kubernetes.io/service-name: a}}
endpoints: [{addresses: [10.244.1.11], nodeName: n1}]
ports: [{name: ssh, port: 22}]
"""
VIP = """
apiVersion: vipd.dev/v1alpha1
kind: VirtualIP
metadata: {name: v}
spec:
  address: 192.0.2.10
  services: [{namespace: vms, name: a}]
"""
SHARED = SERVICE.replace("annotations: {", "annotations: {vipd.dev/sharing-key: k, ")
OTHER = SHARED.replace("name: a", "name: b").replace("port: 22", "port: 80")


def whole(*documents):
    return "---".join(documents)


def service(was, now):
    assert was in SERVICE
    return whole(NODE, POOL, SERVICE.replace(was, now))


def pool(more):
    return whole(NODE, POOL + more + "\n", SERVICE)


def virtual_ip(was, now):
    assert was in VIP
    return whole(NODE, POOL, SERVICE, VIP.replace(was, now))


def vrrp(more):
    return pool(f"  vrrp: {{{more}}}  # HERE")


# name: (the manifests; # HERE marks the faulty line, what is said about it)
FAULTS = {
    # no YAML
    "tab": ("kind: Node\n\tx: 1 # HERE\n", "found a tab character"),
    "unclosed": ("metadata: {name: n1\nstatus: x # HERE\n", "did not find expected ',' or '}'"),
    "binary": ("\x01\x02 # HERE", "control characters are not allowed"),
    "scalar": ("hello # HERE\n", "expected apiVersion, kind"),
    "list": ("- a # HERE\n- b\n", "expected apiVersion, kind"),
    "deep": ("[" * 99 + "]" * 99 + " # HERE", "nested too deeply"),
    "alias": ("kind: &k Node\nmetadata: {name: *k} # HERE\n", "write the value out"),
    "key twice": ("kind: Node\nkind: Node # HERE\n", "kind stands here a second time"),
    # no object of ours
    "other kind": (whole(NODE, "\nkind: Pod # HERE\nmetadata: {name: x}\n"), 'kind "Pod": expected AddressPool'),
    "other version": (NODE.replace("v1", "v2 # HERE"), 'Node has apiVersion "v2": write v1'),
    "no name": (NODE.replace("{name: n1}", "{} # HERE"), "write metadata.name as text"),
    "number as name": (NODE.replace("{name: n1}", "{name: 7} # HERE"), "write metadata.name as text"),
    "twice": (whole(NODE, POOL, POOL.replace("\napi", "\napi", 1).replace("v1alpha1", "v1alpha1 # HERE")),
              "AddressPool lab stands in "),
    "items are text": ("\napiVersion: v1\nkind: List\nitems: text # HERE\n", "items must be a list of objects"),
    # wrong types
    "spec is text": (whole(NODE, POOL, SERVICE.partition("spec:")[0] + "spec: text # HERE\n"),
                     "spec must be fields of its own"),
    "annotation is a list": (service('"192.0.2.10"}', "[192.0.2.10]} # HERE"), "must be text in quotes"),
    "ports are a map": (service("[{name: ssh, port: 22}]", "{port: 22} # HERE"), "ports must be a list"),
    "port in quotes": (service("port: 22}]", 'port: "22"}] # HERE'), "port must be a whole number from 1 to 65535"),
    "port with fraction": (service("port: 22}]", "port: 22.5}] # HERE"), "port must be a whole number"),
    "port 0": (service("port: 22}]", "port: 0}] # HERE"), "port must be a whole number"),
    "port too big": (service("port: 22}]", "port: 65536}] # HERE"), "port must be a whole number"),
    "no port": (service("[{name: ssh, port: 22}]", "[] # HERE"), "a Service needs spec.ports"),
    "protocol": (service("port: 22}]", "port: 22, protocol: tcp}] # HERE"), "protocol must be one of TCP UDP SCTP"),
    "type": (service("LoadBalancer", "Loadbalancer # HERE"), "type must be one of LoadBalancer"),
    "affinity": (whole(NODE, POOL, SERVICE + "  sessionAffinity: Client # HERE\n"),
                 "sessionAffinity must be one of None ClientIP"),
    "traffic policy": (whole(NODE, POOL, SERVICE + "  externalTrafficPolicy: local # HERE\n"),
                       "externalTrafficPolicy must be one of Cluster Local"),
    "source range": (whole(NODE, POOL, SERVICE + "  loadBalancerSourceRanges: [10.0.0.0/8, x] # HERE\n"),
                     "a source range is a CIDR"),
    "source ranges": (whole(NODE, POOL, SERVICE + "  loadBalancerSourceRanges: 10.0.0.0/8 # HERE\n"),
                      "loadBalancerSourceRanges must be a list"),
    "endpoint": (whole(NODE, POOL, SERVICE, SLICE.replace("nodeName: n1}]", "nodeName: n1}] # HERE")
                       .replace("10.244.1.11", "pod-1")), "an endpoint without a usable address"),
    "endpoint's port": (whole(NODE, POOL, SERVICE, SLICE.replace("port: 22}]", "port: 99999}] # HERE")),
                        "port must be a whole number"),
    # nodes
    "no node": (whole(POOL, SERVICE), "the manifests hold no Node"),
    "empty": ("", "the manifests hold no Node"),
    "comment": ("# nothing\n", "the manifests hold no Node"),
    "node without address": (NODE.replace("InternalIP", "ExternalIP").replace("}]}", "}]} # HERE"),
                             "Node n1 has no InternalIP in status.addresses"),
    "node's address": (NODE.replace("192.0.2.1}]}", "1.2.3}]} # HERE"), '"1.2.3" is no address'),
    "pod range": (NODE + "spec: {podCIDRs: [x]} # HERE\n", "podCIDRs must be CIDRs like"),
    "two nodes, one address": (whole(NODE, NODE.replace("n1", "n2").replace("}]}", "}]} # HERE")),
                               "this is the address of Node n1 too"),
    # pools
    "pool without addresses": (whole(NODE, POOL.replace("addresses", "priority: 1 # HERE\n  #")),
                               "AddressPool lab holds no address"),
    "pool's CIDR": (whole(NODE, POOL.replace("/25", "/33").replace("]", "] # HERE")), "no CIDR like 192.0.2.0/26"),
    "pool's range": (whole(NODE, POOL.replace("192.0.2.0/25", "192.0.2.9-192.0.2.3").replace("]", "] # HERE")),
                     "no range FIRST-LAST"),
    "pool's exclude": (pool("  exclude: [some] # HERE"), "no CIDR like"),
    "pool's typing error": (pool("  dataplan: nat # HERE"), "AddressPool has no dataplan: did you mean dataplane?"),
    "pool's stray field": (pool("  colour: red # HERE"), "AddressPool has no colour: take it out"),
    "dataplane": (pool("  dataplane: fast # HERE"), "dataplane must be auto, director, nat or announce"),
    "preemption": (pool("  preemption: always # HERE"), "preemption must be one of sticky preferred"),
    "interfaces": (pool("  interfaces: eth1 # HERE"), "interfaces must be a list"),
    "interface": (pool("  interfaces: [an-interface-name] # HERE"), "of at most 15 characters"),
    "interval": (vrrp("advertisementIntervalMilliseconds: 15"), "must be 10 to 40950 in steps of 10"),
    "interval in words": (vrrp("advertisementIntervalMilliseconds: fast"), "must be a number (without quotes)"),
    "router IDs": (vrrp('virtualRouterIDs: ["0-300"]'), 'ranges like "10-20"'),
    "router IDs of type": (vrrp("virtualRouterIDs: 7"), "virtualRouterIDs must be a list"),
    "mode": (vrrp("mode: broadcast"), "mode must be multicast or unicast"),
    "version": (vrrp("version: 4"), "version must be 3 or 2"),
    "version 2 in a hurry": (vrrp("version: 2"), "write advertisementIntervalMilliseconds: 1000, or take version 3"),
    "virtual MAC": (vrrp("virtualMAC: perhaps"), "must be true or false"),
    "typing error below vrrp": (vrrp("versoin: 3"), "did you mean version?"),
    # addresses
    "address": (service('"192.0.2.10"}', '"192.0.2.300"} # HERE'), '"192.0.2.300" is no address'),
    "no address": (service('  annotations: {vipd.dev/addresses: "192.0.2.10"}\n', "").replace(
        "  name: a\n", "  name: a # HERE\n"), "write the annotation vipd.dev/addresses"),
    "in no pool": (service('"192.0.2.10"}', '"192.0.2.200"} # HERE'), "the address is in no AddressPool"),
    "excluded": (whole(NODE, POOL + "  exclude: [192.0.2.10]\n", SERVICE.replace('10"}', '10"} # HERE')),
                 "the address is in no AddressPool"),
    "two of a family": (service('"192.0.2.10"}', '"192.0.2.10,192.0.2.11"} # HERE'), "two IPv4 addresses"),
    "special": (whole(NODE, POOL.replace("192.0.2.0/25", "224.0.0.0/8"),
                      SERVICE.replace('192.0.2.10"}', '224.0.0.5"} # HERE')), "nobody's virtual address"),
    "a node's own": (service('"192.0.2.10"}', '"192.0.2.1"} # HERE'), "this is Node n1's own address"),
    "version 2 knows no IPv6": (whole(NODE, POOL + "  vrrp: {version: 2, advertisementIntervalMilliseconds: 1000}\n",
                                      SERVICE.replace('192.0.2.10"}', '2001:db8::10"} # HERE')),
                                "version 2 of VRRP knows no IPv6"),
    "version 2 and an interval from elsewhere": (
        whole(NODE, POOL + "  vrrp: {version: 2, advertisementIntervalMilliseconds: 1000}\n",
              SERVICE, VIP.replace("address: 192.0.2.10", "address: 192.0.2.10 # HERE") +
              "  vrrp: {advertisementIntervalMilliseconds: 500}\n"),
        "version 2 of VRRP counts in whole seconds"),
    "no router ID left": (whole(NODE, POOL + '  vrrp: {excludeVirtualRouterIDs: ["1-255"]}\n',
                                SERVICE.replace('10"}', '10"} # HERE')), "no virtual router ID is left"),
    # contradictions between Services
    "not shared": (whole(NODE, POOL, SERVICE, OTHER.replace("vipd.dev/sharing-key: k, ", "").replace(
        '10"}', '10"} # HERE')), "share it with the same annotation vipd.dev/sharing-key on both"),
    "other key": (whole(NODE, POOL, SHARED, OTHER.replace(": k,", ": m,").replace('10"}', '10"} # HERE')),
                  "share it with the same annotation"),
    "shared across namespaces": (whole(NODE, POOL, SHARED, OTHER.replace(": vms", ": web").replace(
        '10"}', '10"} # HERE')), "only Services of one namespace share"),
    "shared port": (whole(NODE, POOL, SHARED, OTHER.replace("port: 80}]", "port: 22}] # HERE")),
                    "Service a has this port of the shared address already"),
    "port twice": (service("[{name: ssh, port: 22}]",
                           "\n  - {name: one, port: 22}\n  - {name: two, port: 22} # HERE"), "this port stands in line"),
    "port name twice": (service("[{name: ssh, port: 22}]",
                                "\n  - {name: one, port: 22}\n  - {name: one, port: 23} # HERE"), "give each port a name"),
    # VirtualIPs
    "no VirtualIP's address": (virtual_ip("spec:\n  address: 192.0.2.10", "spec:\n  pool: lab # HERE"),
                               "spec.address must be an IPv4 or IPv6 address"),
    "VirtualIP's address": (virtual_ip("192.0.2.10", "here # HERE"), "spec.address must be"),
    "VirtualIP's typing error": (virtual_ip("services", "service"), "did you mean services?"),
    "VirtualIP of others": (whole(NODE, POOL, SERVICE.replace('10"}', '10"} # HERE'),
                                  VIP.replace("name: a}", "name: z}")), "VirtualIP v gives this address to others"),
    "router ID": (whole(NODE, POOL, SERVICE, VIP + "  virtualRouterID: 256 # HERE\n"),
                  "virtualRouterID must be 1 to 255"),
    "router ID twice": (whole(NODE, POOL, SERVICE, VIP + "  virtualRouterID: 9\n",
                              VIP.replace("name: v", "name: w").replace("2.10", "2.11 # HERE").replace(
                                  "  services: [{namespace: vms, name: a}]", "  virtualRouterID: 9")),
                        "virtualRouterID 9 is that of"),
    "VirtualIP twice": (whole(NODE, POOL, SERVICE, VIP, VIP.replace("name: v", "name: w").replace("10", "10 # HERE")),
                        "v has this address already"),
    "candidate": (whole(NODE, POOL, SERVICE, VIP + "  candidates: [{node: n9, priority: 100}] # HERE\n"),
                  "candidate n9 is none of the Nodes in the manifests"),
    "candidate twice": (whole(NODE, POOL, SERVICE, VIP + "  candidates:\n  - {node: n1, priority: 100}\n"
                              "  - {node: n1, priority: 50} # HERE\n"), "candidate n1 stands here a second time"),
    "candidate's priority": (whole(NODE, POOL, SERVICE, VIP + "  candidates: [{node: n1, priority: 255}] # HERE\n"),
                             "priority: 1 to 254"),
    "candidates": (whole(NODE, POOL, SERVICE, VIP + "  candidates: n1 # HERE\n"), "candidates must be a list"),
}


def check(*words, text=None):
    return subprocess.run([vipd.program(), "check", *map(str, words)], input=text, capture_output=True, text=True,
                          env=vipd.environment(), timeout=30, check=False)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_said_with_its_line(tmp_path, name):
    text, said = FAULTS[name]
    path = tmp_path / "faulty.yaml"
    path.write_text(text, encoding="latin-1")
    done = check(path)
    assert done.returncode == 1 and done.stderr == ""
    first = done.stdout.splitlines()[0]
    assert said in first
    lines = [number for number, line in enumerate(text.split("\n"), 1) if "# HERE" in line]
    if lines:
        assert first.startswith(f"{path}:{lines[0]}: "), first


def test_good_ones_are_good(tmp_path):
    for number, text in enumerate((NODE, POOL, SERVICE, SLICE, VIP)):
        (tmp_path / f"{number}.yaml").write_text(text)
    (tmp_path / "notes.txt").write_text("no: [manifest")
    (tmp_path / ".hidden.yaml").write_text("no: [manifest")
    for words, text in (([tmp_path], None), (["-"], whole(NODE, POOL, SERVICE, SLICE, VIP)),
                        (sorted(tmp_path.glob("[0-9].yaml")), None)):
        done = check(*words, text=text)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_fault_is_said(tmp_path):
    """All that is wrong in every file of a folder, not the first thing only."""
    (tmp_path / "a.yaml").write_text(NODE.replace("}]}", ""))
    (tmp_path / "b.yaml").write_text(POOL + "  dataplane: fast\n")
    (tmp_path / "c.yaml").write_text(SERVICE.replace("port: 22", "port: 0") + "---" + OTHER.replace("80", "x"))
    done = check(tmp_path)
    assert done.returncode == 1
    assert [line.partition(": ")[0].rpartition("/")[2].partition(":")[0] for line in done.stdout.splitlines()] \
        == ["a.yaml", "b.yaml", "c.yaml", "c.yaml"]


def test_usage_and_what_is_not_there(tmp_path):
    assert check().returncode == 2 and "which manifests?" in check().stderr
    assert check("--quick").returncode == 2
    assert check("--help").returncode == 0
    done = check(tmp_path / "nowhere")
    assert done.returncode == 1 and f"{tmp_path}/nowhere: No such file or directory" in done.stdout
    folder = tmp_path / "folder.yaml"
    folder.mkdir()
    done = check(tmp_path)
    assert done.returncode == 1 and "no ordinary file" in done.stdout
