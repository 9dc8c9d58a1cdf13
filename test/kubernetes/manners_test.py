"""What vipd spares the API server: writes that change nothing. That there are never too many at once is tested in
test/unit/controller_writer_test.c: a real server on a machine for tests is not fast enough to show it."""
import time

from controllers import POOLS, SERVICES, SPEAKERS, VIPS
from lab import wait_for
from speaker_test import BOTH, rack  # noqa: F401  (rack: a fixture)


def versions(api, *paths):
    return {(path, thing["metadata"]["name"]): thing["metadata"]["resourceVersion"]
            for path in paths for thing in api.list(path)}


def test_a_restart_writes_nothing(world):
    world.start()
    for number in range(15):
        world.create(f"s{number}", **({"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"}
                                      if number % 3 == 0 else {}))
    world.create("refused", ["203.0.113.1"])
    for number in range(15):
        world.api.external_ip(f"s{number}")
    world.delete("s1")
    world.wait_gone("s1")
    time.sleep(2)
    before = versions(world.api, SERVICES, VIPS, POOLS, SPEAKERS)
    for _ in range(2):
        world.stop()
        world.start()
        time.sleep(2)
    assert versions(world.api, SERVICES, VIPS, POOLS, SPEAKERS) == before


def test_speakers_that_begin_anew_where_they_were_write_nothing_but_leases(rack):  # noqa: F811
    rack.expose()
    for address in BOTH:
        rack.recorded(address, rack.speakers.owner(address))

    def counted():
        return sum(thing.get("status", {}).get("owned", 0) for thing in rack.api.list(SPEAKERS))
    wait_for("the Speakers to say who owns how many", lambda: counted() == len(BOTH))

    def written():
        things = rack.api.list(VIPS) + [event for namespace in ("vms", "default") for event in rack.api.events(namespace)]
        return {(thing["metadata"]["name"], thing["metadata"]["resourceVersion"]): thing for thing in things}
    time.sleep(2)
    before = written()
    for daemon in rack.speakers.daemons.values():
        daemon.kill()
    rack.speakers.start()
    rack.speakers.ready()
    for address in BOTH:
        rack.speakers.serves(address)
    time.sleep(5)
    assert [thing for key, thing in written().items() if key not in before] == []
    assert counted() == len(BOTH)
