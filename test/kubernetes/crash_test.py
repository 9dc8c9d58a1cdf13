"""The controller dies after each write it makes; the server forgets what it knew."""
import time

from controllers import VIPS
from lab import LabError, wait_for

TLS = 7103
WRITES = r"(POST|PUT|PATCH|DELETE) (?!.*(/events|/leases))"
SETTLED = 1.2  # seconds without a write


def told_twice(world):
    """Whoever has more than one address of a family, or an address whose record is not its own."""
    had = {}
    for vip in world.api.list(VIPS):
        address = vip["spec"]["address"]
        for service in vip["spec"]["services"]:
            had.setdefault((service["name"], ":" in address), []).append(address)
    return {name: addresses for name, addresses in had.items() if len(addresses) > 1}


def until_settled(world, proxy):
    """Controllers one after the other: each is killed when its first write has landed, and hears no answer to it.
    Answers how many there were; the last of them found nothing to do."""
    count = 0
    while True:
        process = world.start("--leader-elect=false", port=TLS, wait=False)
        proxy.after(WRITES, process.kill)
        wait_for("it to lead, or to be killed", lambda: "leads: " in process.output() or not process.alive(), 15)
        seen, since = 0, time.monotonic()
        while process.alive() and time.monotonic() - since < SETTLED:
            writes = sum(not one.startswith("GET") for one in proxy.requests)
            if writes != seen:
                seen, since = writes, time.monotonic()
            time.sleep(0.02)
        if process.alive():
            proxy.after(None, None)
            process.kill()
            return count
        count += 1
        assert count < 120, ("no end of writes", [one for one in proxy.requests if not one.startswith("GET")][-5:])


def test_killed_after_every_single_write(world):
    proxy = world.api.proxy(TLS, tls=True)
    both = {"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"}
    key = {"annotations": {"vipd.dev/sharing-key": "k"}}
    steps = [
        [lambda: world.create("plain"), lambda: world.create("both", **both)],
        [lambda: world.create("web", ports=(80,), **key), lambda: world.create("tls", ports=(443,), **key)],
        # Another address: the new one is written down before the old one goes.
        [lambda: world.change("plain", {"metadata": {"annotations": {"vipd.dev/addresses": "192.0.2.70"}}}),
         lambda: world.change("web", {"metadata": {"annotations": {"vipd.dev/sharing-key": None}}})],
        [lambda: world.change("both", {"spec": {"type": "ClusterIP"}}), lambda: world.delete("plain")],
        [lambda: world.create("plain"), lambda: world.delete("tls"),
         lambda: world.change("both", {"spec": {"type": "LoadBalancer"}})],
    ]
    deaths = 0
    for step in steps:
        for act in step:
            act()
        deaths += until_settled(world, proxy)
        assert told_twice(world) == {}
        world.consistent()
    assert deaths > 15
    assert sorted(name for names in world.holders().values() for name in names) == ["both", "both", "plain", "web"]
    for name in ("plain", "both", "web"):
        world.delete(name)
    until_settled(world, proxy)
    world.wait_gone("plain")
    assert world.api.list(VIPS) == []


def test_a_restored_backup_is_believed(world):
    """The server is set back: what was allocated since is unknown to it, what was released is held again. The
    controller has lived through all of it."""
    api = world.api
    world.start()
    for name in ("stays", "goes"):
        world.create(name)
        api.external_ip(name)
    had = {name: api.ingress(name)[0] for name in ("stays", "goes")}
    world.consistent()
    api.back_up()
    world.delete("goes")
    world.wait_gone("goes", 60)
    world.create("later")
    later = api.external_ip("later", seconds=60)
    world.change("stays", {"spec": {"ports": [{"name": "x", "port": 2222}]}})
    wait_for("the new port", lambda: api.service("stays")["status"]["loadBalancer"]["ingress"][0]["ports"] == [
        {"port": 2222, "protocol": "TCP"}], 30)
    api.set_back()

    def settled():
        try:
            return sorted(world.consistent()) == sorted(had.values())
        except (AssertionError, LabError, OSError):
            return False
    wait_for(f"what the backup says to be so, have {world.holders()}", settled, 90)
    assert {name: api.ingress(name)[0] for name in had} == had
    # What it gave since is kept for that Service.
    world.create("later")
    world.wait_address("later", later, 30)
    world.delete("goes")
    world.wait_gone("goes", 30)
    world.wait_holders({had["stays"]: ["stays"], later: ["later"]}, 30)
