"""/metrics, probes, alerts and dashboard, judged by promtool and a real Prometheus during a real failover."""
import json
import re
import shutil
import signal
import subprocess
import time
import urllib.parse

import pytest
import yaml

import vipd
from conftest import V4, Rack
from lab import ROOT, wait_for

MONITORING = ROOT / "deploy/monitoring"
NAME = re.compile(r"\b(?:vipd|rest_client|workqueue|leader_election|process)_[a-z_]+")
# Of the controller and the speaker: test/kubernetes/metrics_test.py looks at theirs.
CLUSTER = re.compile(r"vipd_(api|drill|pool|services|handovers|virtual_ips|lease|vip_lease)|rest_client|workqueue|leader_")


def promtool(*words, text=None):
    return subprocess.run(["promtool", *map(str, words)], input=text, capture_output=True, text=True, timeout=60,
                          check=False)


@pytest.fixture(scope="module", autouse=True)
def tool():
    if not shutil.which("promtool"):
        pytest.skip("no promtool: install prometheus")


@pytest.fixture(scope="module")
def scraped(request):
    """A rack whose nodes are read over the LAN."""
    with Rack() as rack:
        for daemon in rack.cluster.daemons.values():
            daemon.stop()
            daemon.words += ["--metrics-listen", ":9461"]
        rack.cluster.start()
        rack.settle()
        yield rack


def rules(folder):
    spec = yaml.safe_load((MONITORING / "prometheusrule.yaml").read_text())["spec"]
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


def family(name):
    return re.sub(r"_(bucket|sum|count)$", "", name)


def test_metrics_are_as_prometheus_wants_them(scraped):
    for name, daemon in scraped.cluster.daemons.items():
        status, text = daemon.page()
        assert status == 200
        said = promtool("check", "metrics", text=text)
        assert said.returncode == 0 and not said.stdout + said.stderr, f"{name}: {said.stdout}{said.stderr}"


def test_numbers_tell_of_a_failover(scraped):
    owner = scraped.owner()
    before = {name: scraped[name].metrics() for name in scraped.cluster.daemons}
    for name, numbers in before.items():
        assert numbers[f'vipd_vip_owner{{vip="{V4}",node="{name}",pool="lab"}}'] == (name == owner)
        assert numbers["vipd_engine_up"] == numbers["vipd_ready"] == numbers["vipd_rules_present"] == 1
        assert numbers["vipd_config_last_reload_successful"] == 1
    assert before[owner][f'vipd_vip_fence_open{{vip="{V4}"}}'] == 1
    assert before[owner][f'vipd_vip_address_present{{vip="{V4}"}}'] == 1
    scraped[owner].kill()
    heir = scraped.cluster.owner(V4, other_than=owner)
    after = wait_for("the heir to say so", lambda: (numbers := scraped[heir].metrics())[
        f'vipd_vip_owner{{vip="{V4}",node="{heir}",pool="lab"}}'] == 1 and numbers)

    def grown(name):
        return after[name] - before[heir].get(name, 0)

    assert grown('vipd_transitions_total{reason="OwnerLost"}') == 2  # one a family
    assert grown("vipd_outage_seconds_count") == 2
    assert 0.1 < grown("vipd_outage_seconds_sum") < 4
    assert grown(f'vipd_vip_gained_total{{vip="{V4}"}}') == 1
    first = scraped[heir].metrics()["vipd_fence_refreshes_total"]
    wait_for("the fence to be refreshed", lambda: scraped[heir].metrics()["vipd_fence_refreshes_total"] > first + 10)
    assert any(name.startswith("vipd_peer_heard_timestamp_seconds") and value > time.time() - 60
               for name, value in after.items())
    scraped.settle()


def test_traffic_is_counted_by_port(scraped):
    """Packets on the owner, connections where they are translated: n3, where the VM is."""
    owner = scraped.owner()
    labels = f'{{vip="{V4}",protocol="TCP",port="80"}}'

    def count(node, what):
        return scraped[node].metrics().get(f"vipd_port_{what}_total{labels}", 0)

    def settled(node, what):
        """A page shows what was read when the one before was asked for."""
        for _ in range(3):
            time.sleep(0.15)
            number = count(node, what)
        return number
    before = {what: settled(node, what) for node, what in ((owner, "packets"), (owner, "bytes"), ("n3", "connections"))}
    for _ in range(5):
        assert scraped.client.reaches(V4, 80) == "db"
    assert settled("n3", "connections") == before["connections"] + 5
    packets = settled(owner, "packets") - before["packets"]
    assert 5 * 4 <= packets <= 5 * 12, packets
    assert settled(owner, "bytes") - before["bytes"] > packets * 40
    assert owner == "n3" or count(owner, "connections") == 0


def test_refused_adverts_are_counted_by_verdict(scraped):
    before = scraped["n1"].metrics()
    scraped.client.run(["python3", "-c", "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112); "
                        "s.setsockopt(0, 33, 1); s.setsockopt(0, 2, 7); "
                        f"s.sendto(bytes(16), ('{scraped.lab['n1'].address4}', 0))"])
    wait_for("the verdict", lambda: scraped["n1"].metrics()['vipd_adverts_refused_total{verdict="bad_ttl"}'] >
             before['vipd_adverts_refused_total{verdict="bad_ttl"}'])


def test_probes_tell_of_the_engine_alone(scraped):
    """A dead feeder is no reason to restart anybody; an engine that hangs is."""
    node = scraped["n3"]
    assert node.page("/healthz") == (200, "ok\n") and node.page("/readyz") == (200, "ok\n")
    feeder = node.feeder()
    scraped.lab["n3"].run(["kill", "-STOP", feeder])
    assert node.page("/healthz") == (200, "ok\n") and node.page("/readyz") == (200, "ok\n")
    scraped.lab["n3"].run(["kill", "-KILL", feeder])
    assert node.page("/healthz") == (200, "ok\n")
    node.process.signal(signal.SIGSTOP, everyone=False)
    try:
        status, text = wait_for("the probe to fail", lambda: (said := node.page("/healthz"))[0] != 200 and said, 3)
        assert status == 503 and "does not answer" in text
        assert node.page("/readyz")[0] == node.page("/state")[0] == 503
        assert node.metrics()["vipd_engine_up"] == 0
    finally:
        node.process.signal(signal.SIGCONT, everyone=False)
    assert wait_for("the engine again", lambda: node.page("/healthz")[0] == 200)
    assert node.metrics()["vipd_engine_up"] == 1
    state = json.loads(node.page("/state")[1])
    assert state["node"] == "n3" and {"routers", "peers", "transitions"} <= state.keys()
    assert node.page("/nothing")[0] == 404
    scraped.cluster.mend()


def test_a_stranger_on_the_port_costs_the_metrics_alone(scraped):
    """The probes of a pod ask over a socket; who has the port is not asked, and addresses are served."""
    node, host = scraped["n2"], scraped.lab["n2"]

    def probe(option):
        return host.run([vipd.program(), "status", "--runtime-dir", node.runtime, option], check=False, timeout=10)

    node.stop()
    stranger = host.start("stranger", ["python3", "-m", "http.server", "9461"])
    try:
        wait_for("the stranger", lambda: node.page("/")[0] == 200)
        node.start()
        node.process.wait_output("no metrics: .*9461.* give --metrics-listen")
        wait_for("it to be ready", lambda: probe("--readyz").returncode == 0)
        assert probe("--healthz").stdout == "ok\n" and node.page("/metrics")[0] == 404
        node.process.signal(signal.SIGSTOP, everyone=False)
        try:
            done = probe("--healthz")
            assert done.returncode == 1 and "did not answer" in done.stderr
        finally:
            node.process.signal(signal.SIGCONT, everyone=False)
        wait_for("the engine again", lambda: probe("--healthz").returncode == 0)
    finally:
        stranger.kill()
    wait_for("the metrics", lambda: node.page("/healthz")[0] == 200, 15)
    node.stop()
    assert "no vipd answers" in probe("--healthz").stderr
    node.start()
    scraped.cluster.mend()


def test_manifests_with_a_fault_are_told_and_the_last_good_ones_stay(scraped):
    path, node = scraped.cluster.folder / "broken.yaml", scraped["n3"]
    before = node.metrics()
    path.write_text("kind: Service\nspec: [\n")
    try:
        wait_for("the fault", lambda: node.metrics()["vipd_config_last_reload_successful"] == 0)
        found = node.metrics()
        assert found["vipd_config_reload_failures_total"] > before["vipd_config_reload_failures_total"]
        last = "vipd_config_last_reload_success_timestamp_seconds"
        assert found[last] == before[last] > time.time() - 3600
        assert found["vipd_virtual_routers"] == before["vipd_virtual_routers"] == 2
    finally:
        path.unlink()
    wait_for("the end of it", lambda: node.metrics()["vipd_config_last_reload_successful"] == 1)


def test_what_shows_the_node_has_no_privileges_and_comes_back(scraped):
    node = scraped["n3"]
    [page] = node.children("vipd-page")
    status = open(f"/proc/{page}/status").read()
    assert re.search(r"^Uid:\s+65534\s+65534\s+65534\s+65534$", status, re.M)
    assert all(re.search(rf"^{name}:\s+0+$", status, re.M) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh"))
    scraped.lab["n3"].run(["kill", "-KILL", page])
    wait_for("another one", lambda: node.children("vipd-page") not in ([], [page]))
    wait_for("its answer", lambda: node.page("/healthz")[0] == 200)
    assert scraped["n3"].status()["ready"]


def test_who_hangs_on_to_connections_keeps_nobody_out_and_costs_the_engine_nothing(scraped):
    """Two hundred who say half a word, and forty who ask on and on."""
    owner = scraped.owner()
    address = scraped.lab[owner].address4
    watch = scraped.watch()
    crowd = scraped.client.start("crowd", ["python3", "-c", f"""
import socket, threading, time
def dial():
    s = socket.create_connection(("{address}", 9461), 5); s.settimeout(5); return s
held = []
for i in range(200):
    s = dial(); s.send(b"GET /metrics HTTP/1.1\\r\\nHost: "); held.append(s)
def ask(until):
    while time.time() < until:
        try:
            s = dial(); s.send(b"GET /metrics HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n")
            while s.recv(65536): pass
            s.close()
        except OSError: pass
print("ready", flush=True)
for t in [threading.Thread(target=ask, args=(time.time() + 60,)) for _ in range(40)]: t.start()
"""])
    crowd.wait_output("ready")
    asked, answered = time.time(), 0
    while answered < 10 and time.time() < asked + 30:  # forty are served before each: a busy machine takes its time
        answered += scraped[owner].page("/healthz")[0] == 200
    time.sleep(max(0, asked + 4 - time.time()))
    crowd.kill()
    for by in watch.stop().values():
        assert by["arp"]["outages"] == 0 and by["arp"]["two"] == 0 and by["connect"]["lost"] == 0
    assert answered >= 10
    assert scraped.owner() == owner


def test_nothing_listens_when_it_is_switched_off(scraped):
    daemon = scraped["n3"]
    words = list(daemon.words)
    daemon.stop()
    try:
        daemon.words[-1] = ""
        daemon.start()
        wait_for("n3 to be ready", lambda: (daemon.status() or {}).get("ready"))
        assert daemon.children("vipd-page") == [] and daemon.page("/healthz")[0] == 0
    finally:
        daemon.stop()
        daemon.words[:] = words
        daemon.start()
        scraped.settle()


def test_a_port_that_is_taken_is_told_and_stops_nothing(scraped):
    daemon = scraped["n3"]
    daemon.stop()
    thief = scraped.lab["n3"].start("thief", ["python3", "-m", "http.server", "9461"])
    try:
        thief.wait_output("Serving")
        daemon.start()
        daemon.process.wait_output("cannot listen on :9461: Address already in use; take another with --metrics-listen")
        assert wait_for("n3 to be ready", lambda: (daemon.status() or {}).get("ready"))
    finally:
        thief.kill()
    wait_for("the page", lambda: daemon.page("/healthz")[0] == 200, 20)
    scraped.settle()


def test_alerts_fire_on_what_they_are_for(tmp_path):
    path = rules(tmp_path)
    assert promtool("check", "rules", path).returncode == 0
    cases = tmp_path / "cases.yaml"
    cases.write_text((ROOT / "test/system/alerts.yaml").read_text().replace("RULES", str(path)))
    said = promtool("test", "rules", cases)
    assert said.returncode == 0, said.stdout + said.stderr
    tested = set(re.findall(r"alertname: (\w+)", cases.read_text()))
    assert tested == set(re.findall(r"alert: (\w+)", path.read_text()))


def test_every_alert_has_a_section_in_the_runbook():
    text = (MONITORING / "README.md").read_text()
    alerts = re.findall(r"alert: (\w+)", (MONITORING / "prometheusrule.yaml").read_text())
    assert sorted(alerts) == sorted(re.findall(r"^\| `(Vipd\w+)`", text, re.M))


def expressions():
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"].replace("$__rate_interval", "1m").replace("$vip", ".*")


def test_the_dashboard_asks_for_what_there_is(scraped, tmp_path):
    """Every question can be asked, and every name in it and in the alerts is on a node's page."""
    path = tmp_path / "questions.yaml"
    questions = list(expressions())
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": [
        {"record": f"q{i}", "expr": expr} for i, (_, expr) in enumerate(questions)]}]}))
    said = promtool("check", "rules", path)
    assert said.returncode == 0, said.stdout + said.stderr
    there = set(re.findall(r"^# TYPE (\S+)", scraped["n1"].page()[1], re.M))
    asked = {family(name) for _, expr in questions for name in NAME.findall(expr)}
    asked |= {family(name) for rule in yaml.safe_load(rules(tmp_path).read_text())["groups"][0]["rules"]
              for name in NAME.findall(rule["expr"])}
    assert asked - there == {name for name in asked if CLUSTER.match(name)} - there
    assert len(asked & there) > 15


def test_a_real_prometheus_sees_the_failover_and_raises_the_alarm(scraped, tmp_path):
    targets = [f"{node.address4}:9461" for node in scraped.lab.nodes.values()]
    text = rules(tmp_path).read_text().replace("for: 1m", "for: 1s")  # nobody waits here
    (tmp_path / "rules.yaml").write_text(text)
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": [str(tmp_path / "rules.yaml")],
        "scrape_configs": [{"job_name": "vipd", "static_configs": [{"targets": targets}]}]}))
    server = scraped.client.start("prometheus", [
        "prometheus", f"--config.file={tmp_path}/prometheus.yaml", f"--storage.tsdb.path={tmp_path}/data",
        "--web.listen-address=127.0.0.1:9090", "--log.level=warn"])

    def ask(expr):
        done = scraped.client.run(["curl", "-sS", "-m", "5", "http://127.0.0.1:9090/api/v1/query?query=" +
                                   urllib.parse.quote(expr)], check=False)
        answer = json.loads(done.stdout) if done.returncode == 0 and done.stdout.startswith("{") else {}
        return answer.get("data", {}).get("result", [])

    def value(expr):
        found = ask(expr)
        return float(found[0]["value"][1]) if len(found) == 1 else None

    def firing(name):
        return [found["metric"]["vip"] for found in ask(f'ALERTS{{alertname="{name}",alertstate="firing"}}')]

    try:
        wait_for("three nodes to be scraped", lambda: value("sum(up)") == 3, 30)
        wait_for("one owner", lambda: value(f'sum(vipd_vip_owner{{vip="{V4}"}})') == 1, 10)
        for title, expr in expressions():
            assert ask(expr) is not None, title
        owner = scraped.owner()
        scraped[owner].kill()
        heir = scraped.cluster.owner(V4, other_than=owner)
        wait_for("Prometheus to see the heir",
                 lambda: value(f'vipd_vip_owner{{vip="{V4}",node="{heir}"}}') == 1 and value("sum(up)") == 2, 10)
        assert value(f'sum(vipd_vip_owner{{vip="{V4}"}})') == 1
        assert value('sum(increase(vipd_transitions_total{reason="OwnerLost"}[1m]))') > 0
        assert firing("VipdNotExactlyOneOwner") == []
        # A stranger has the address before anybody of ours: nobody takes it, and that is an alarm.
        for daemon in scraped.cluster.daemons.values():
            if daemon.running():
                daemon.stop()
        scraped.client.run(["ip", "address", "add", f"{V4}/32", "dev", "eth1"])
        scraped.cluster.start()
        wait_for("the alarm", lambda: firing("VipdNotExactlyOneOwner") == [V4], 30)
        wait_for("the stranger", lambda: firing("VipdForeignAddress") == [V4], 30)
        scraped.client.run(["ip", "address", "delete", f"{V4}/32", "dev", "eth1"])
        wait_for("the end of the alarm", lambda: firing("VipdNotExactlyOneOwner") == [] and
                 value(f'sum(vipd_vip_owner{{vip="{V4}"}})') == 1, 60)
    finally:
        server.kill()
        scraped.client.run(["ip", "address", "delete", f"{V4}/32", "dev", "eth1"], check=False)
        scraped.cluster.mend()
        scraped.settle()
