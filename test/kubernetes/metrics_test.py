"""What speakers and controllers of a cluster show over HTTP, and what they go on showing without an API server."""
import json
import re
import shutil
import subprocess

import pytest

import manifests
import vipd
from cluster import GROUP
from lab import ROOT, wait_for

NAME = re.compile(r"\b(?:vipd|rest_client|workqueue|leader_election)_[a-z_]+")


@pytest.fixture(scope="module")
def cluster(api):
    with vipd.exposed(api, addresses=["192.0.2.64/28"]) as cluster:
        yield cluster


def page(host, path="/metrics", port=9461):
    done = host.run(["curl", "-sS", "-m", "5", "-w", "\n%{http_code}", f"http://127.0.0.1:{port}{path}"], check=False)
    text, _, status = done.stdout.rpartition("\n")
    return (int(status), text) if done.returncode == 0 else (0, done.stderr)


def numbers(host, port=9461):
    status, text = page(host, port=port)
    assert status == 200, text
    return {name: float(value) for name, _, value in
            (line.rpartition(" ") for line in text.splitlines() if line and line[0] != "#")}


def test_pages_are_as_prometheus_wants_them(cluster):
    if not shutil.which("promtool"):
        pytest.skip("no promtool: install prometheus")
    for host in (cluster.api.host, *cluster.lab.nodes.values()):
        said = subprocess.run(["promtool", "check", "metrics"], input=page(host)[1], capture_output=True, text=True,
                              timeout=30, check=False)
        assert said.returncode == 0 and not said.stdout + said.stderr, said.stdout + said.stderr


def test_every_name_of_alerts_and_dashboard_is_on_some_page(cluster):
    there = set()
    for host in (cluster.api.host, *cluster.lab.nodes.values()):
        there |= set(re.findall(r"^# TYPE (\S+)", page(host)[1], re.M))
    asked = set()
    for name in ("prometheusrule.yaml", "dashboard.json"):
        text = (ROOT / "deploy/monitoring" / name).read_text()
        asked |= {re.sub(r"_(bucket|sum|count)$", "", found) for found in NAME.findall(text)}
    # Of standalone mode: test/system/monitoring_test.py looks at it.
    assert asked - there <= {"vipd_config_last_reload_successful"}


def test_a_speaker_counts_what_it_asks(cluster):
    owner = cluster.owner(cluster.address)
    found = numbers(cluster.lab[owner])
    assert found["vipd_api_reachable"] == 1 and found[f'vipd_vip_lease_confirmed{{vip="{cluster.address}"}}'] == 1
    assert found['vipd_lease_writes_total{result="ok"}'] >= 1
    assert found['rest_client_requests_total{code="200",method="GET"}'] >= 5
    # Watches are answered at once and end much later: how long they took is of no interest.
    assert sum(number for name, number in found.items()
               if name.startswith("rest_client_request_duration_seconds_count{")) >= 3
    assert found[f'vipd_vip_owner{{vip="{cluster.address}",node="{owner}",pool="lab"}}'] == 1
    assert sum(numbers(node).get(f'vipd_vip_owner{{vip="{cluster.address}",node="{node.name}",pool="lab"}}', 0)
               for node in cluster.lab.nodes.values()) == 1


def test_the_controller_tells_of_pools_and_its_queue(cluster):
    host = cluster.api.host
    found = numbers(host)
    assert found['leader_election_master_status{name="vipd-controller"}'] == 1
    status = cluster.api.get(f"{GROUP}/addresspools/lab")["status"]
    for column in ("capacity", "assigned", "available"):
        assert found[f'vipd_pool_{column}{{pool="lab",family="ipv4"}}'] == status[column]["ipv4"], column
    assert found['vipd_pool_accepted{pool="lab"}'] == 1 and found["vipd_services"] == found["vipd_virtual_ips"] == 1
    assert found['workqueue_adds_total{name="service"}'] >= 1
    assert found["workqueue_work_duration_seconds_count"] >= found['workqueue_adds_total{name="service"}']
    before = found["vipd_services_waiting"]
    thing = manifests.service("nowhere", [], (22,), annotations={"vipd.dev/pool": "none"})
    cluster.api.create("/api/v1/namespaces/vms/services", thing)
    wait_for("one that waits", lambda: numbers(host)["vipd_services_waiting"] == before + 1)
    cluster.api.delete("/api/v1/namespaces/vms/services/nowhere")
    wait_for("none that waits", lambda: numbers(host)["vipd_services_waiting"] == before)
    assert page(host, "/healthz") == (200, "ok\n") and page(host, "/readyz") == (200, "ok\n")
    state = json.loads(page(host, "/state")[1])
    assert state["leads"] and [pool["name"] for pool in state["pools"]] == ["lab"]
    assert [service["name"] for service in state["services"]] == ["vms/myvm-ssh"]


def test_one_that_waits_for_its_lease_is_ready_and_says_nothing_of_pools(cluster):
    cluster.start_controller()
    second = cluster.controllers[-1]
    port = 9460 + len(cluster.controllers)
    host = cluster.api.host
    try:
        wait_for("it to be ready", lambda: page(host, "/readyz", port)[0] == 200)
        found = numbers(host, port)
        assert found['leader_election_master_status{name="vipd-controller"}'] == 0
        assert not any(name.startswith(("vipd_pool", "vipd_services")) for name in found)
    finally:
        second.stop()
        cluster.controllers.remove(second)


def test_probes_do_not_depend_on_the_api_server(cluster):
    """Or its absence would restart every speaker and drop every address."""
    api, node = cluster.api, cluster.lab[cluster.owner(cluster.address)]
    api.stop_server()
    try:
        wait_for("the speaker to notice", lambda: numbers(node)["vipd_api_reachable"] == 0, 30)
        for host in (node, api.host):
            assert page(host, "/healthz") == (200, "ok\n") and page(host, "/readyz") == (200, "ok\n")
        assert numbers(node)['rest_client_requests_total{code="<error>",method="GET"}'] > 0
    finally:
        api.start_server()
    wait_for("the speaker to be back", lambda: numbers(node)["vipd_api_reachable"] == 1, 60)
    wait_for("the controller to be back", lambda: numbers(api.host)["vipd_api_reachable"] == 1, 60)


def test_a_speaker_without_its_port_says_so(cluster):
    """And goes on: the condition is False, Ready is True."""
    def condition(name):
        found = cluster.api.get(f"{GROUP}/speakers/n2")["status"]["conditions"]
        return {each["type"]: each["status"] for each in found}.get(name)

    wait_for("the page to be told of", lambda: condition("MetricsServed") == "True")
    cluster["n2"].stop()
    stranger = cluster.lab["n2"].start("stranger", ["python3", "-m", "http.server", "--bind", "127.0.0.1", "9461"])
    try:
        wait_for("the stranger", lambda: cluster["n2"].page("/")[0] == 200)
        cluster["n2"].start()
        wait_for("the condition", lambda: condition("MetricsServed") == "False" and condition("Ready") == "True", 20)
    finally:
        stranger.kill()
    wait_for("the page again", lambda: condition("MetricsServed") == "True", 20)
