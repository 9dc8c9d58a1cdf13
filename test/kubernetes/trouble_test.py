"""An API server that refuses, lies, stalls and breaks off: nothing is lost, nothing doubled, and it is said why.

Speakers and controller reach the real server through a proxy that misbehaves on order.
"""
import re
import time

import pytest

import manifests
import vipd
from lab import Lab, run, wait_for

SERVICES = "/api/v1/namespaces/vms/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/vms/endpointslices"
RAW, TLS = 7001, 7002


class Place:
    def __init__(self, api, lab):
        self.api, self.lab = api, lab
        self.raw, self.tls = api.proxy(RAW), api.proxy(TLS, tls=True)
        self.cluster = vipd.Speakers(lab, api)
        self.way = None

    def heal(self):
        self.raw.heal()
        self.tls.heal()

    def through(self, port):
        """Everybody takes this way to the server; they start anew if they took another one."""
        self.heal()
        if self.way == port:
            return
        self.stop()
        self.way = port
        self.cluster.connect(port)
        self.cluster.start()
        self.cluster.start_controller(port)
        self.cluster.ready(40)

    def stop(self):
        self.cluster.stop_controllers()
        for daemon in self.cluster.daemons.values():
            if daemon.running():
                daemon.stop()

    def logs(self):
        return {path: path.read_text(errors="replace") for path in
                [*self.lab.dir.glob("*.vipd.log"), *self.api.dir.glob("api.controller*.log")]}

    def said_since(self, before):
        return "\n".join(text[len(before.get(path, "")):] for path, text in self.logs().items())


@pytest.fixture(scope="module")
def whole(api):
    with Lab(vms=[("test-vm-1", "n2"), ("test-vm-2", "n3")], management=True) as lab:
        api.attach(lab)
        api.pool()
        place = Place(api, lab)
        yield place
        place.heal()
        place.stop()
        reports = lab.sanitizer_reports() + api.sanitizer_reports()
        api.reset()
    assert not reports, reports


def clear(place):
    place.heal()
    for thing in place.api.list(SERVICES):
        place.api.delete(f"{SERVICES}/{thing['metadata']['name']}")
    wait_for("everything to go", lambda: not place.api.list(SERVICES) and not place.api.vips(), 60)


@pytest.fixture
def answers(whole):
    """The proxy ends TLS and can answer in the server's place."""
    whole.through(TLS)
    yield whole
    clear(whole)


@pytest.fixture
def transport(whole):
    """The proxy passes bytes, or does not."""
    whole.through(RAW)
    yield whole
    clear(whole)


def served(place, name, seconds=15.0):
    place.api.create(SERVICES, manifests.service(name, [], selector={"vmi.kubevirt.io/id": "test-vm-1"}))
    address = place.api.external_ip(name, seconds=seconds)
    place.cluster.serves(address, seconds=seconds)
    return address


ANSWERS = [
    # status, headers, requests it hits, seconds
    (401, {}, ".", 4),
    (403, {}, ".", 4),
    (409, {}, r"(PUT|POST|PATCH) ", 4),
    (410, {}, r"GET .*[?&](watch|continue)=", 4),
    (429, {"Retry-After": "1"}, ".", 4),
    (500, {}, ".", 4),
    (503, {"Retry-After": "1"}, r"(PUT|POST|PATCH|DELETE) ", 4),
]


@pytest.mark.parametrize("status,headers,match,seconds", ANSWERS, ids=[str(row[0]) for row in ANSWERS])
def test_answers(answers, status, headers, match, seconds):
    address = served(answers, "before")
    owner = answers.cluster.owner(address)
    arp = answers.lab.client.probe("arp", "eth1", address, 5)
    time.sleep(0.3)
    answers.tls.answer(status, headers, match=match)
    answers.tls.reset()  # watches in flight end, so that everybody meets the answer
    answers.api.create(SERVICES, manifests.service("during", [], selector={"vmi.kubevirt.io/id": "test-vm-1"}))
    time.sleep(seconds)
    assert answers.cluster.answering(address) == owner
    answers.heal()
    during = answers.api.external_ip("during", seconds=70)
    answers.cluster.serves(during, seconds=40)
    seen = arp.stop()
    assert seen["two"] == 0 and seen["outages"] == 0 and not seen["dark"], seen
    names = [thing["spec"]["services"] for thing in answers.api.vips().values()]
    assert len(names) == 2 and names[0] != names[1], f"one address for each Service: {names}"


def test_at_rest_a_speaker_writes_that_it_lives_and_asks_nothing(answers):
    for name in ("one", "two", "three"):
        served(answers, name)
    time.sleep(8)
    before, seconds = len(answers.tls.requests), 20
    time.sleep(seconds)
    asked = [one for one in answers.tls.requests[before:] if "/leases/vipd-controller" not in one]
    signs = [one for one in asked if re.fullmatch(r"PUT /apis/coordination\.k8s\.io/v1/namespaces/vipd-system/"
                                                  r"leases/speaker-n[123]", one)]
    assert asked == signs, "nothing but signs of life"
    assert 3 * (seconds // 3 - 1) <= len(signs) <= 3 * (seconds // 2.6 + 1), len(signs)


def test_a_watch_that_says_nothing_is_started_again(answers):
    served(answers, "before")
    time.sleep(1)
    before = answers.logs()
    assert answers.tls.swallow(r"GET .*watch=.* vipd-speaker/") >= 18, "six watches on each of three nodes"
    served(answers, "during", 25)
    said = answers.said_since(before)
    lines = [line for line in said.splitlines() if "all watches are started again" in line]
    assert 1 <= len(lines) <= 3, lines
    wait_for("it to be over", lambda: "the watches tell what happens again" in answers.said_since(before), 10)


def test_a_warning_of_the_server_is_told_once(answers):
    served(answers, "before")
    before = answers.logs()
    answers.tls.answer(200, {"Warning": '299 - "v1 Endpoints is \\"old\\" news"'}, body="{}", match=r"GET /readyz")
    answers.tls.answer(503, {"Warning": '299 - "v1 Endpoints is \\"old\\" news"'}, match=r"PUT .*/leases/speaker-")
    time.sleep(8)
    lines = [line for line in answers.said_since(before).splitlines() if "the API server warns" in line]
    assert len(lines) == 3 and all('v1 Endpoints is "old" news' in line.replace('\\"', '"') for line in lines), lines
    answers.heal()


def test_forbidden_is_said_once_with_verb_and_resource(answers):
    before = answers.logs()
    answers.tls.answer(403, {}, '{"kind":"Status","apiVersion":"v1","status":"Failure","code":403,"reason":"Forbidden",'
                     '"message":"virtualips.vipd.dev is forbidden: User \\"x\\" cannot list resource '
                     '\\"virtualips\\" in API group \\"vipd.dev\\" at the cluster scope"}', match="/virtualips")
    answers.tls.reset()
    time.sleep(8)
    said = answers.said_since(before)
    lines = [line for line in said.splitlines() if "forbidden" in line.lower() and "program=agent" in line]
    assert lines and any("list" in line and "virtualips" in line for line in lines), said[-3000:]
    assert len(lines) <= 3 * 6, f"{len(lines)} lines in 8 s from three nodes: {lines}"


def test_crds_missing_says_which_command_installs_them(answers):
    before = answers.logs()
    answers.tls.answer(404, {}, "404 page not found\n", match="/apis/vipd.dev/")
    answers.tls.reset()
    wait_for("the command to be named", lambda: re.search(
        r"kubectl apply .*crds\.yaml", answers.said_since(before)), 15)


def test_refused(transport):
    address = served(transport, "before")
    owner = transport.cluster.owner(address)
    transport.raw.refuse()
    transport.api.create(SERVICES, manifests.service("during", [], selector={"vmi.kubevirt.io/id": "test-vm-1"}))
    time.sleep(8)
    assert transport.cluster.answering(address) == owner
    transport.raw.heal()
    transport.cluster.serves(transport.api.external_ip("during", seconds=60), seconds=30)
    assert transport.cluster.answering(address) == owner


def test_half_open(transport):
    address = served(transport, "before")
    owner = transport.cluster.owner(address)
    transport.raw.freeze()
    time.sleep(8)
    assert transport.cluster.answering(address) == owner
    transport.cluster[owner].kill()
    heir = transport.cluster.owner(address, other_than=owner)
    transport.raw.reset()
    transport.raw.heal()
    transport.cluster[owner].start()
    wait_for("the Lease to follow", lambda: heir in [
        lease["spec"].get("holderIdentity") for lease in transport.api.leases().values()], 60)
    transport.cluster.serves(address)


def test_cut_in_the_middle_of_an_object(transport):
    served(transport, "before")
    for size in (700, 1900, 5000):
        transport.raw.reset()
        transport.raw.cut_after(size)
        time.sleep(1.5)
    address = served(transport, "after", 60)
    assert transport.cluster.answering(address) in transport.cluster.daemons


def confirmed_owner(place, address):
    """Who answers, once the Lease names it, too: until then it may name another one."""
    def ask():
        lease = place.api.leases().get(place.api.vips()[address]["spec"]["virtualRouter"])
        holder = lease and lease["spec"].get("holderIdentity")
        return holder and holder == place.cluster.answering(address) and holder
    return wait_for("the Lease to name who answers", ask, 30)


def test_slow_stream(transport):
    transport.raw.delay = 0.15 # as long as a claim waits: who takes the address first need not get the Lease
    address = served(transport, "slow", 60)
    owner = confirmed_owner(transport, address)
    arp = transport.lab.client.probe("arp", "eth1", address, 5)
    transport.raw.rate = 20000
    time.sleep(5)
    seen = arp.stop()
    assert seen["two"] == 0 and transport.cluster.answering(address) == owner


def test_events_missed_while_cut_off_are_made_up_for(transport):
    address = served(transport, "before")
    transport.raw.refuse()
    transport.api.delete(f"{SERVICES}/before")
    time.sleep(2)
    assert transport.cluster.answering(address), "nothing is taken down on a guess"
    transport.raw.heal()
    transport.cluster.gone(address, seconds=60)


def test_wrong_authority_is_said(transport):
    daemon = transport.cluster["n1"]
    other = transport.api.dir / "other-ca.crt"
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=somebody else", "-keyout", "/dev/null", "-out", other])
    daemon.stop()
    words = daemon.words
    daemon.words = ["speaker", "--node", "n1", "--kubeconfig", transport.api.kubeconfig("speaker", "n1", authority=other)]
    daemon.start()
    try:
        daemon.process.wait_output(r"(?i)certificate", 20)
    finally:
        daemon.stop()
        daemon.words = words
        transport.cluster.connect(RAW)
        daemon.start()


def test_expired_token_is_said(transport):
    daemon = transport.cluster["n1"]
    daemon.stop()
    daemon.words = ["speaker", "--node", "n1", "--kubeconfig", transport.api.kubeconfig("speaker", "n1", token="expired")]
    daemon.start()
    try:
        daemon.process.wait_output(r"(?i)(401|unauthorized).*", 20)
    finally:
        daemon.stop()
        transport.cluster.connect(RAW)
        daemon.start()
