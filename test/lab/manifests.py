"""Objects of a lab as dictionaries, and as YAML in the form of `kubectl get -o yaml`.

Each function answers what a user would write; server_filled() adds what an API server adds, because
standalone mode must take both as they are.
"""
import ipaddress
import pathlib
import uuid

import yaml

STAMP = "2026-11-23T17:41:27Z"


def node(lab_node):
    return {
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": lab_node.name, "labels": {"kubernetes.io/hostname": lab_node.name}},
        "spec": {"podCIDR": f"10.244.{lab_node.index}.0/24",
                 "podCIDRs": [f"10.244.{lab_node.index}.0/24", f"fd00:10:244:{lab_node.index:x}::/64"]},
        "status": {"addresses": [{"type": "InternalIP", "address": lab_node.address4},
                                 {"type": "InternalIP", "address": lab_node.address6},
                                 {"type": "Hostname", "address": lab_node.name}]},
    }


def pool(name="lab", addresses=("192.0.2.0/25", "2001:db8::1:0/120"), **spec):
    return {"apiVersion": "vipd.dev/v1alpha1", "kind": "AddressPool", "metadata": {"name": name},
            "spec": {"addresses": list(addresses), **spec}}


def service_port(text):
    """22, "53/UDP", "8022:22" (port:targetPort), "8053:53/UDP"."""
    numbers, _, protocol = str(text).partition("/")
    port, _, target = numbers.partition(":")
    return {"name": f"port-{port}" + (f"-{protocol.lower()}" if protocol else ""), "port": int(port),
            "protocol": protocol or "TCP", "targetPort": int(target or port)}


def service(name, addresses, ports=(22,), namespace="vms", selector=None, annotations=None, **spec):
    """`addresses` are asked for by annotation; [] asks for none. `ports`: see service_port()."""
    notes = dict(annotations or {})
    if addresses:
        notes["vipd.dev/addresses"] = ",".join(addresses)
    families = []
    for address in addresses:
        family = "IPv6" if ":" in address else "IPv4"
        if family not in families:
            families.append(family)
    families = families or ["IPv4"]
    return {
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, **({"annotations": notes} if notes else {})},
        "spec": {"type": "LoadBalancer", "selector": selector or {"vmi.kubevirt.io/id": name},
                 "ipFamilies": families,
                 "ipFamilyPolicy": "RequireDualStack" if len(families) == 2 else "SingleStack",
                 "ports": [service_port(port) for port in ports], **spec},
    }


def launcher_end(vm):
    """What the API server would make up; another one on each node that the VM moves to."""
    return "x7k2" + "bcdfghjklm"[vm.node.index % 10]


def endpoint_slice(service_object, vms, family="IPv4", preparing=()):
    """The slice of one family for the VMs (test/lab/lab.py) behind a Service; those that are not ready yet, too."""
    name = service_object["metadata"]["name"]
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
        "metadata": {"name": f"{name}-{family.lower()}", "namespace": service_object["metadata"]["namespace"],
                     "labels": {"kubernetes.io/service-name": name,
                                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
        "endpoints": [{"addresses": [vm.address4 if family == "IPv4" else vm.address6],
                       "conditions": {"ready": vm not in preparing, "serving": vm not in preparing,
                                      "terminating": False},
                       "nodeName": vm.node.name,
                       "targetRef": {"kind": "Pod", "name": f"virt-launcher-{vm.name}-{launcher_end(vm)}",
                                     "namespace": service_object["metadata"]["namespace"]}} for vm in [*vms, *preparing]],
        "ports": [{"name": port["name"], "port": port["targetPort"], "protocol": port["protocol"]}
                  for port in service_object["spec"]["ports"]],
    }


def slices(service_object, vms, preparing=()):
    return [endpoint_slice(service_object, vms, family, preparing) for family in service_object["spec"]["ipFamilies"]]


def virtual_ip_name(address):
    """As api.md says: IPv4 as it is, IPv6 fully expanded with - for :"""
    return ipaddress.ip_address(address).exploded.replace(":", "-")


def virtual_ip(address, service_object, candidates, pool_name="lab"):
    """`candidates`: node names, the first one with the highest priority."""
    return {"apiVersion": "vipd.dev/v1alpha1", "kind": "VirtualIP",
            "metadata": {"name": virtual_ip_name(address)},
            "spec": {"address": address, "pool": pool_name,
                     "services": [{"namespace": service_object["metadata"]["namespace"],
                                   "name": service_object["metadata"]["name"]}],
                     "candidates": [{"node": name, "priority": 200 - 20 * i} for i, name in enumerate(candidates)]}}


def server_filled(thing):
    """What an API server would add; nothing in here may matter to a reader."""
    number = str(1000 + sum(map(ord, thing["metadata"]["name"])))
    metadata = {"creationTimestamp": STAMP, "generation": 1, "resourceVersion": number,
                "uid": str(uuid.uuid5(uuid.NAMESPACE_DNS, thing["kind"] + thing["metadata"]["name"])),
                "managedFields": [{"apiVersion": thing["apiVersion"], "fieldsType": "FieldsV1", "manager": "kubectl",
                                   "operation": "Update", "time": STAMP, "fieldsV1": {"f:spec": {".": {}}}}]}
    filled = {**thing, "metadata": {**metadata, **thing["metadata"]}}
    if thing["kind"] == "Service":
        filled["spec"] = {"allocateLoadBalancerNodePorts": True, "clusterIP": "10.96.17.4",
                          "clusterIPs": ["10.96.17.4"], "externalTrafficPolicy": "Cluster",
                          "internalTrafficPolicy": "Cluster", "sessionAffinity": "None", **thing["spec"]}
        filled["status"] = {"loadBalancer": {}}
    return filled


def write(path, *objects, as_list=False):
    """One file; replaced in one step, as editors and tools do it."""
    path = pathlib.Path(path)
    if as_list:
        text = yaml.safe_dump({"apiVersion": "v1", "items": list(objects), "kind": "List",
                               "metadata": {"resourceVersion": ""}})
    else:
        text = yaml.safe_dump_all(objects)
    scratch = path.with_name("." + path.name + ".new")
    scratch.write_text(text)
    scratch.replace(path)
    return path
