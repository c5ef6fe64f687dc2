"""What validate calls an error, IPAM plugins or the kernel refuse; what it does not, works."""

import json
import subprocess
from typing import Any

import pytest
import wrong_ipam
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lab import run
from runtime import PLUGINS, Conf, call_environment, network, static
from sampling import is_long, sample
from setup import Setup
from wrong_ipam import DEFAULT, pool, ranges, static_ip

from cni_ipvlan.cli import configs, validate
from cni_ipvlan.cli.reading import ConfigError

ROUTER = "10.1.0.1"


def part(first: str, last: str, subnet: str = "10.1.0.0/24", **options: Any) -> dict[str, Any]:
    return {"subnet": subnet, "rangeStart": first, "rangeEnd": last, **options}


# Errors that the IPAM plugin, this plugin or the kernel refuses.
REFUSED: dict[str, Conf] = {
    **{f"{each.path}: {each.words}": each.ipam for each in wrong_ipam.REFUSED},
    "subnet with a mask": pool("10.1.0.0/255.255.255.0"),
    "subnet is null beside ranges": {**ranges([{"subnet": "10.1.0.0/24"}]), "subnet": None},
    "no ranges": ranges(),
    "a set without ranges": ranges([]),
    "ranges are an object": pool(None, ranges={"subnet": "10.1.0.0/24"}),
    "range is null": pool(None, ranges=[[None]]),
    "two families in a set": ranges([{"subnet": "10.1.0.0/24"}, {"subnet": "fd00::/64"}]),
    "overlap in a set": ranges([part("10.1.0.10", "10.1.0.35"), part("10.1.0.30", "10.1.0.40")]),
    "overlap between sets": ranges([{"subnet": "10.1.0.0/24"}], [{"subnet": "10.1.0.0/25"}]),
    "only the gateway": pool(rangeStart="10.1.0.9", rangeEnd="10.1.0.9", gateway="10.1.0.9"),
    "gateway is no address": pool(gateway=f"{ROUTER}/24"),
    "gateway of another family": pool(gateway="fd00::1"),
    "route without a destination": pool(routes=[{"gw": ROUTER}]),
    "route is a string": pool(routes=["0.0.0.0/0"]),
    "route is null": pool(routes=[None]),
    "gw is no address": pool(routes=[{"dst": "10.9.0.0/16", "gw": "router"}]),
    "gw of another family": pool(routes=[{"dst": "10.9.0.0/16", "gw": "fd00::1"}]),
    "gw is link-local, but IPv4": pool(routes=[{"dst": "10.9.0.0/16", "gw": "169.254.1.1"}]),
    "address with a mask": static_ip("10.1.0.2/255.255.255.0"),
    "address with a zone": static_ip("fe80::5%eth0/64"),
    "address is 0.0.0.0": static_ip("0.0.0.0/24"),
    "address is ::1": static_ip("::1/128"),
    "address is 127.0.0.5": static_ip("127.0.0.5/8"),
    "address is IPv6 multicast": static_ip("ff02::5/64"),
    "address is called Address": {"type": "static", "addresses": [{"Address": "10.1.0.2/24"}]},
    "duplicate IPv6 address": static("fd00::2/64", "fd00:0::2/48"),
    "static gateway of another family": static_ip(gateway="fd00::1"),
    "static IPv6 gateway is the container": {
        **static("fd00::2/64", gateway="fd00::2"), "routes": [{"dst": "::/0"}],
    },
}  # fmt: skip

# Configurations without a problem: ADD succeeds.
FINE: dict[str, Conf] = {
    "/30": pool("10.1.0.0/30"),
    "/126": pool("fd00::/126"),
    "parts of a subnet": ranges([part("10.1.0.10", "10.1.0.20"), part("10.1.0.30", "10.1.0.40")]),
    "two families": ranges([{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]),
    "empty values": pool(rangeStart="", rangeEnd=None, gateway="", routes=None),
    "host bits in a route": pool(routes=[{"dst": "10.9.0.5/16"}]),
    "gateway is the subnet": pool(gateway="10.1.0.0", routes=DEFAULT),
    "rangeStart is the subnet": pool(rangeStart="10.1.0.0"),
    "address of the subnet": static_ip("10.1.0.0/24"),
    "IPv6 address of the subnet": static_ip("fd00::/64"),
    "IPv6 range from the subnet": pool("fd00::/64", rangeStart="fd00::"),
    "address of a point to point link": static_ip("10.1.0.0/31", "10.1.0.1"),
    "address of a single host": static_ip("10.1.0.0/32"),
    "gateway in another address's subnet": static(
        "10.1.0.2/24", "10.2.0.2/24", gateway="10.2.0.1", routes=DEFAULT
    ),
    "gateway that a route leads to": static(
        "10.1.0.2/32", routes=[{"dst": "0.0.0.0/0", "gw": "10.2.0.1"}, {"dst": "10.2.0.1/32"}]
    ),
    "default gateway that a route leads to": static(
        "10.1.0.2/32", gateway="10.2.0.1", routes=[*DEFAULT, {"dst": "10.2.0.1/32"}]
    ),
    "link-local gateway": static("fd00::2/64", gateway="fe80::1", routes=[{"dst": "::/0"}]),
}
# Configurations with a warning: ADD succeeds, too.
UNUSUAL: dict[str, Conf] = {
    "one range is only the gateway": ranges([part(ROUTER, ROUTER), {"subnet": "10.2.0.0/24"}]),
    "gateway outside that no route needs": pool(gateway="10.2.0.1"),
    "the same entry twice": static("10.1.0.2/24", "10.1.0.2/24"),
    "gateway that no route needs is the container": static("10.1.0.2/24", gateway="10.1.0.2"),
}


def find_problems(conf: Conf) -> list[ConfigError]:
    (config,) = configs.read("file", json.dumps(conf)).networks
    return validate.check_config(config)


def is_error(conf: Conf) -> bool:
    return any(not problem.is_warning for problem in find_problems(conf))


@pytest.mark.slow
def test_errors_are_refused(setup: Setup) -> None:
    confs = {name: network(ipam=ipam) for name, ipam in REFUSED.items()}
    assert [name for name, conf in confs.items() if not is_error(conf)] == []
    for name in sample(confs, 5):
        assert setup.runtime.add(setup.container, confs[name]).status == 1, name
    assert "net1" not in setup.container.links()


@pytest.mark.slow
def test_what_is_no_error_works(setup: Setup) -> None:
    for name, ipam in (FINE | UNUSUAL).items():
        problems = find_problems(network(ipam=ipam))
        are_warnings = [problem.is_warning for problem in problems]
        assert are_warnings == [True] * (name in UNUSUAL), (name, problems)
    for number, ipam in enumerate(sample((FINE | UNUSUAL).values(), 5)):
        setup.add(ipam=ipam, name=f"net{number}").delete()


def test_addresses_may_come_from_the_caller_or_the_runtime(setup: Setup) -> None:
    conf = network(ipam={"type": "static"})
    assert [problem.is_warning for problem in find_problems(conf)] == [True]
    setup.expect_error(
        109, "returned no address", "try: give ipam.addresses, or ask for some", conf=conf
    )
    setup.add(conf, CNI_ARGS="IP=10.1.0.2/24").delete()
    cases: tuple[tuple[Conf, str, Any], ...] = (
        ({"type": "static"}, "ips", ["10.1.0.3/24"]),
        (pool(None), "ipRanges", [[{"subnet": "10.1.0.0/24"}]]),
    )
    for ipam, capability, value in cases:
        conf = network(ipam=ipam, capabilities={capability: True})
        assert find_problems(conf) == []
        setup.add(conf, runtimeConfig={capability: value}).delete()


@pytest.mark.parametrize("version", ["0.2.0", "0.3.0"])
def test_old_versions_have_room_for_one_address_of_a_family(setup: Setup, version: str) -> None:
    for ipam in (
        static("10.1.0.2/24", "10.2.0.2/24"),
        ranges([{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]),
    ):
        conf = network(ipam=ipam, cniVersion=version)
        answer = setup.runtime.add(setup.container, conf)
        assert is_error(conf) == (answer.status == 1) == (version == "0.2.0")
        if answer.status == 0:
            setup.runtime.delete(setup.container, conf).succeeds()


# Addresses near each other, so that they often meet.
IPS = st.sampled_from(
    ["", "10.1.0.0", "10.1.0.1", "10.1.0.2", "10.1.0.7", "10.1.0.8", "10.1.0.15", "fd00::"]
) | st.sampled_from(
    [None, "fd00::1", "fd00::9", "10.1.0", "10.1.0.1/24", 5, "::ffff:10.1.0.2", "fd00::1%lo"]
)
SUBNETS = st.sampled_from(
    ["10.1.0.0/28", "10.1.0.8/29", "10.1.0.0/30", "10.1.0.2/31", "10.1.0.5/28", "10.1.0.0"]
) | st.sampled_from(["fd00::/124", "fd00::8/125", "fd00::/127", "fd00::3/64", None, 7, "x"])
ENTRIES = st.fixed_dictionaries(
    {"subnet": SUBNETS}, optional={"rangeStart": IPS, "rangeEnd": IPS, "gateway": IPS}
)
ROUTES = st.lists(
    st.fixed_dictionaries(
        {"dst": st.sampled_from(["0.0.0.0/0", "::/0", "10.9.0.5/16", "10.9.0.0", "", None, 5])},
        optional={"gw": IPS},
    ),
    max_size=2,
)
SETS = st.lists(st.lists(ENTRIES, max_size=2), max_size=2)
POOLS = st.fixed_dictionaries(
    {"type": st.just("host-local")},
    optional={"ranges": SETS, "routes": ROUTES, "subnet": SUBNETS, "gateway": IPS, "rangeEnd": IPS},
)


@settings(
    max_examples=200 if is_long() else 12, deadline=None, suppress_health_check=list(HealthCheck)
)
@example(pool("10.1.0.0/28"))
@given(POOLS)
def test_whatever_host_local_refuses_is_an_error(ipam: Conf) -> None:
    conf = network(ipam=ipam)
    answer = allocate({**conf, "ipam": {**ipam, "dataDir": "/run/leases"}})
    run("rm", "-rf", "/run/leases")
    if answer.returncode:
        assert is_error(conf), answer.stdout


def allocate(conf: Conf) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [f"{PLUGINS}/{conf['ipam']['type']}"],
        input=json.dumps(conf),
        env=call_environment("ADD", "/proc/self/ns/net", CNI_NETNS_OVERRIDE="1"),
        capture_output=True,
        text=True,
        check=False,
    )
