"""IPAM plugins that are missing, refuse, die or talk nonsense: ADD works or undoes everything."""

import errno
import json
import os
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from doubles import FakeDhcp, FakeIpam, Steps
from lab import find_records, run
from runtime import PLUGINS, Conf, host_local
from sampling import sample
from setup import Setup

from cni_ipvlan.plugin import ipam
from cni_ipvlan.state.attachment import AttachmentId
from cni_ipvlan.state.registry import Registry

ADDRESS = "10.1.0.2/24"
RESULT: dict[str, Any] = {"cniVersion": "1.0.0", "ips": [{"address": ADDRESS}]}
SAYS_GOOD = f"echo '{json.dumps(RESULT)}'"
LEASED = host_local("10.1.0.0/24")
# It inherits the attachment's lock.
DAEMON = "setsid --fork sh -c 'echo; exec sleep 9 </dev/null >/dev/null 2>&1' | read -r _"
STRANGE = [
    "sleep 1",
    "sleep 1000 &",  # which holds its streams
    "(sleep 0.3; echo late) & sleep 0.1",
    "trap '' TERM INT HUP",
]
# Answers of an IPAM plugin that can't be used.
UNUSED = {"dns": {"unknown": 1}, "interfaces": [{"name": "eth9"}], "unknown": {"a": [1]}}


def answer(setup: Setup, document: dict[str, Any]) -> Conf:
    setup.fake.answer("ADD", document)
    return setup.fake.conf


def test_add_takes_what_is_strange_but_right(setup: Setup) -> None:
    for script in (DAEMON, *sample(STRANGE, 2)):
        added = setup.add(ipam=setup.ipam(script=f"{script}\n{SAYS_GOOD}"))
        (record,) = Registry().all_records()
        assert not Registry().is_live(record.attachment.key)
        assert added.container.addresses("net1") == [ADDRESS]
        added.delete()
    failing = setup.ipam(script=f'{DAEMON}\necho \'{{"code": 11, "msg": "later"}}\'; exit 1')
    setup.expect_error(11, "later", ipam=failing)
    assert not Registry().is_live(AttachmentId("net", "one", "net1").key)
    for number in (0, 7):
        ips = [{"address": ADDRESS, "interface": number, "unknown": None}]
        added = setup.add(ipam=answer(setup, {**RESULT, **UNUSED, "ips": ips}))
        assert added.container.addresses("net1") == [ADDRESS]
        assert added.result["ips"] == [{"interface": 0, "address": ADDRESS}]
        assert [each["name"] for each in added.result["interfaces"]] == ["net1"]
        added.delete()


PRINTING = [
    "head -c 900000 /dev/zero | tr '\\0' x >&2; echo the end >&2",
    "yes 'a line of many' | head -n 50000 >&2; echo the end >&2",
    "echo the end >&2; yes 'more than is passed on' | head -n 200000 >&2",
    "printf '\\377\\376\\0 the end' >&2",
]


def test_its_stderr_is_passed_on(setup: Setup) -> None:
    for script, status in sample(product(PRINTING, (0, 1)), 2):
        conf = setup.ipam(script=f"{script}\n{SAYS_GOOD}; exit {status}")
        if status:
            assert "the end" in setup.expect_error(109, ipam=conf)["private"]
        else:
            added = setup.add(ipam=conf)
            assert "the end" in added.stderr
            assert ("(the rest was dropped)" in added.stderr) == ("more than" in script)
            text = added.stderr.replace("one net1: ", "")  # before each line
            assert len(text) <= (1 << 20) + len("(the rest was dropped)\n")
            added.delete()


# What an IPAM plugin does; the code, and words of the error.
FAILING: list[tuple[str, int, tuple[str, ...]]] = [
    ("exit 127", 109, ("the plugin 'fake' exited with status 127 and printed no CNI error",)),
    ("kill -SEGV $$", 109, ("'fake'", "SIGSEGV")),
    ("kill -KILL $$", 109, ("'fake' was killed by SIGKILL and printed", "of memory: see dmesg")),
    (
        "echo 'all is well'; echo 'a word' >&2",
        109,
        (
            "the plugin 'fake' printed no JSON result",
            "its stdout: all is well\nits stderr: a word\ncommand: env CNI_COMMAND=ADD CNI_CONTAIN",
            "/fake\ntry: run it by hand",
        ),
    ),
    ("true", 109, ("'fake'", "empty")),
    ("printf '\\377'", 109, ("'fake'",)),
    ("""echo '{"code": 11, "msg": "not now"}'; exit 1""", 11, ("not now",)),
]
NO_GATEWAY = "the route to 10.9.0.0/16: a route with scope link or host can't have a gateway\n"


def scope_route(scope: int) -> dict[str, Any]:
    return {"routes": [{"dst": "10.9.0.0/16", "gw": "10.1.0.1", "scope": scope}]}


# tests/unit/test_result.py has what else can't be read.
WRONG_SO: list[tuple[dict[str, Any], int, str]] = [
    ({"ips": []}, 109, "no address"),
    ({"cniVersion": "9.0.0"}, 109, "9.0.0"),
    (scope_route(253), 107, NO_GATEWAY),
    (scope_route(254), 107, NO_GATEWAY),
    (scope_route(255), 107, "cannot add the route to 10.9.0.0/16: there is no such scope\n"),
]


@pytest.mark.slow
def test_add_undoes_everything_and_says_why(setup: Setup) -> None:
    failures, invalid = sample(FAILING, 4), sample(WRONG_SO, 2)
    for script, code, words in failures:
        setup.expect_error(code, *words, ipam=setup.ipam(script=script))
    for document, code, word in invalid:
        setup.expect_error(code, word, ipam=answer(setup, {**RESULT, **document}))
    assert setup.fake.calls == ["ADD", "DEL"] * (len(failures) + len(invalid))


UNSPECIFIED = ["0.0.0.0/0", "0.0.0.0/32", "0.0.0.0/24", "::/0", "::/128"]
OF_MANY = ["224.0.0.18/32", "255.255.255.255/32", "ff02::1/64"]
HOST_ADDRESSES = {"::1/128": 106}  # the host's own


@pytest.mark.parametrize("chained", [False, True], ids=["from IPAM", "from prevResult"])
def test_an_address_that_no_interface_can_have_is_an_error(setup: Setup, *, chained: bool) -> None:
    for address in (*sample(UNSPECIFIED, 2), *sample(OF_MANY, 1), *HOST_ADDRESSES):
        conf: Conf = {"ipam": setup.ipam(ips=[ADDRESS, address])}
        if chained:
            ips = [{"address": ADDRESS}, {"address": address}]
            conf = {"ipam": None, "prevResult": {"cniVersion": "1.0.0", "ips": ips}}
        code = HOST_ADDRESSES.get(address, 7 if chained else 109)
        setup.expect_error(code, address, **conf)
    assert setup.fake.calls == ([] if chained else ["ADD", "DEL"] * (len(setup.fake.calls) // 2))


def test_one_that_is_not_there(setup: Setup) -> None:
    conf = {"type": "host-locl", "subnet": "10.1.0.0/24"}
    (setup.fake.directory / "host-locl").touch(mode=0o644)
    path = f"{setup.fake.directory}:/no/such/directory:{PLUGINS}"
    searched = (
        f"searched: {setup.fake.directory}, /no/such/directory (No such file or directory), "
        f"{PLUGINS}\nfound: host-locl is there, but can't be executed\n"
    )
    message = "cannot find the plugin 'host-locl' in CNI_PATH"
    setup.expect_error(108, message, searched, "install host-locl", ipam=conf, CNI_PATH=path)
    setup.expect_error(108, "did you mean 'host-local'?", ipam=conf, CNI_PATH=PLUGINS)
    for ipam_type in ("../static", "/bin/true"):
        setup.expect_error(7, ipam_type, ipam={"type": ipam_type})


@pytest.mark.slow
def test_refusals_of_real_ones(setup: Setup) -> None:
    full = host_local("10.9.0.0/30")
    setup.add(name="full", ipam=full, at=setup.container2)
    error = setup.expect_error(
        999,
        "no IP addresses available in range set: 10.9.0.1-10.9.0.2",
        f"{PLUGINS}/host-local\ntry: release those of containers that are gone: ipvlan gc -c FILE",
        "/var/lib/cni/networks/full has a file for each",
        name="full",
        ipam=full,
    )
    daemon = "try: start its daemon on this node: systemctl enable --now cni-dhcp.socket"
    static_error = setup.expect_error(
        999, "dhcp.sock", f"{daemon} cni-dhcp.service", ipam={"type": "dhcp"}
    )
    setup.expect_error(999, "ARGS: unknown args", "try: correct CNI_ARGS", CNI_ARGS="FOO=BAR")
    setup.expect_error(999, "10.9.0.9", "try: ask for another", ipam=LEASED, CNI_ARGS="IP=10.9.0.9")
    errors = [error, static_error]
    if '"1.1.0"' not in run("env", "CNI_COMMAND=VERSION", f"{PLUGINS}/host-local", stdin="{}"):
        errors.append(setup.expect_error(1, 'config is "1.1.0"', cniVersion="1.1.0", ipam=LEASED))
        assert errors[-1]["msg"] == "incompatible CNI versions"
    # These plugins fail at DEL in the same way, so they have allocated nothing.
    assert all("undone" not in each["details"] + each["private"] for each in errors)
    added = setup.add(ipam=LEASED)
    added.container.ip("link delete dev net1")
    words = "duplicate allocation is not allowed", "try: delete the container's attachment first"
    setup.expect_error(999, *words, ipam=LEASED)


UNUSABLE = [
    (b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\xff\xff", "Exec format error"),
    (b"#!/no/such/interpreter\n", "No such file or directory"),
]


@pytest.mark.parametrize(("content", "reason"), UNUSABLE)
def test_every_verb_names_one_not_executable(setup: Setup, content: bytes, reason: str) -> None:
    added = setup.add(cniVersion="1.1.0", ipam=setup.ipam(ips=[ADDRESS]))
    Path(setup.fake.program).write_bytes(content)
    message = f"cannot execute {setup.fake.program}: {reason}"
    error = setup.expect_error(109, message, "\ntry: ", at=setup.container2, ipam=setup.fake.conf)
    assert "undone" not in error["details"] + error["private"]
    conf = {**added.conf, "prevResult": added.result}
    for verb, code in (("STATUS", 50), ("CHECK", 109), ("DEL", 109)):
        assert added.container.ipvlan("net1")["up"]
        error = setup.runtime.call(verb, added.container, conf, **added.environment).error()
        assert (error["code"], error["msg"]) == (code, message)
    assert "net1" not in added.container.links()


def test_a_limit_is_named(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    def spawn(program: str, *arguments: Any, **options: Any) -> int:
        if program == setup.fake.program:
            raise OSError(errno.EMFILE, "Too many open files")
        return posix_spawn(program, *arguments, **options)

    posix_spawn = os.posix_spawn
    monkeypatch.setattr(os, "posix_spawn", spawn)
    setup.expect_error(100, "a limit on open files", "LimitNOFILE", ipam=setup.ipam(ips=[ADDRESS]))


@pytest.mark.parametrize("verb", ["DEL", "CHECK"])
def test_what_it_prints_besides_errors_counts_at_add_alone(setup: Setup, verb: str) -> None:
    for script in ("echo garbage", "head -c 1000000 /dev/zero", "sleep 1000 &", "echo '{}'"):
        added = setup.add(ipam=setup.ipam(ips=[ADDRESS]))
        setup.ipam(verb, script=script)
        added.check()
        added.delete()


def test_an_undo_that_fails_is_reported_and_the_rest_is_undone(setup: Setup) -> None:
    setup.ipam(code=11, msg="the first failure", status=1)
    conf = setup.ipam("DEL", code=5, msg="the second failure", status=1)
    error = setup.expect_error(11, "the second failure", ipam=conf)
    assert error["msg"] == "the first failure"
    assert find_records() == []
    ipam = setup.ipam(script=f"rm {setup.fake.program}; exit 3")
    setup.expect_error(109, "could not be undone", setup.fake.program, ipam=ipam)


def test_add_undoes_in_reverse_but_releases_last(setup: Setup, tmp_path: Path) -> None:
    steps = Steps(tmp_path, f"{PLUGINS}/host-local")
    routes = [{"dst": "10.7.0.0/16", "gw": "10.99.0.1"}]
    setup.expect_error(107, ipam=host_local("10.1.0.0/24", routes=routes), **steps.environment)
    words = [step.words for step in steps.records]
    for beside in ("link set", "host-local ADD"):  # the two run at the same time
        order = ("link add", beside, "link delete", "host-local DEL")
        positions = [next(i for i, each in enumerate(words) if part in each) for part in order]
        assert positions == sorted(positions)


NEVER_ENDS = "trap '' TERM; exec sleep 300"


@pytest.mark.slow
@pytest.mark.parametrize("kind", [FakeIpam, FakeDhcp])
def test_endless_ipam(setup: Setup, kind: type[FakeIpam], monkeypatch: pytest.MonkeyPatch) -> None:
    assert ipam.MOST_SECONDS + 10 < 120  # as long as the kubelet waits
    monkeypatch.setattr(ipam, "MOST_SECONDS", 1.0)
    setup.fake = kind(setup.fake.directory)
    conf = setup.ipam(ips=[ADDRESS])
    added = setup.add(ipam=conf)
    setup.ipam("DEL", script=NEVER_ENDS)
    error = setup.runtime.delete(added.container, added.conf, **added.environment).error()
    assert (error["code"], "it had not ended after 1 s" in error["msg"]) == (109, True)
    assert added.container.links().keys() == {"lo"}
    setup.ipam("DEL", script="")
    added.delete()
    error = setup.expect_error(109, ipam=setup.ipam(script=NEVER_ENDS))
    assert error["msg"].endswith("was killed: it had not ended after 1 s")
    assert setup.fake.calls == ["ADD", "DEL", "DEL", "ADD", "DEL"]


# A plugin whose leases are a cluster's: by pod, beyond this node, released by others as well.
OF_A_CLUSTER = """\
pod=${CNI_ARGS##*K8S_POD_NAME=}
case $CNI_COMMAND in
ADD) echo $CNI_CONTAINERID >"lease-$pod"; echo '{"ips": [{"address": "10.1.0.2/24"}]}' ;;
DEL) grep -qx $CNI_CONTAINERID "lease-$pod" && rm "lease-$pod" ;;
CHECK) [ -e "lease-$pod" ] || { echo '{"code": 100, "msg": "no lease"}'; exit 1; } ;;
esac
exit 0
"""


def test_a_lease_of_a_pod_outlives_a_node_that_is_lost(setup: Setup) -> None:
    pod = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0"
    for verb in ("ADD", "DEL", "CHECK"):
        setup.ipam(verb, script=OF_A_CLUSTER)
    lease = setup.fake.directory / "lease-web-0"
    with setup.unchanged():
        added = setup.add(ipam=setup.fake.conf, CNI_ARGS=pod, CNI_CONTAINERID="new")
        # The node is back on which the pod was before, and its kubelet removes what that had.
        old = {**added.environment, "CNI_CONTAINERID": "old"}
        setup.runtime.delete("/run/netns/gone", added.conf, **old).succeeds()
        assert lease.read_text() == "new\n"
        added.check()
        lease.unlink()  # by a reconciler
        assert added.check("no lease")["code"] == 100
        added.delete()
