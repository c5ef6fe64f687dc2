"""A link that its owner hides keeps nobody else from the master, and its mode is not forgotten."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attacker import forge_from_nested, hints
from doubles import FakeIpam, Steps
from lab import MEMORY, Node, Space, records, run, wait_until
from runtime import Answer, Runtime, network, static

OTHERS = 6  # namespaces
LINKS = 6000  # of one container, whose owner can make more
GC = network(cniVersion="1.1.0", ipam=None)


def add_another(node: Node, runtime: Runtime, number: int = 3, mode: str = "l2") -> Answer:
    conf = network(mode=mode, ipam=static(f"10.1.0.{number}/24"))
    return runtime.add(node.container(), conf, CNI_CONTAINERID=f"c{number}")


@contextmanager
def hiding_place(container: Space) -> Iterator[int]:
    """Yield a process in a network namespace of a nested user namespace, which no search enters."""
    argv = ("unshare", "--user", "--map-root-user", "--net", "sh", "-c", "echo; exec sleep 99")
    with container.entered():
        process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
    finally:
        process.kill()
        process.communicate()


@contextmanager
def hidden(container: Space) -> Iterator[None]:
    """Move a container's net1 to such a place, which only a socket keeps."""
    with hiding_place(container) as process:
        kept = Space(f"/proc/{process}/ns/net").socket()
        container.ip(f"link set dev net1 netns {process}")
    with kept:
        yield


def nothing(_node: Node, _runtime: Runtime, _attacker: Space) -> None:
    """Leave root's record as it is."""


def delete(_node: Node, runtime: Runtime, attacker: Space) -> None:
    runtime.delete(attacker, network()).succeeds()


def delete_a_forged_one(node: Node, runtime: Runtime, attacker: Space) -> None:
    """Have DEL remove one whose parent looks as the master does, and has its label."""
    label = f"cni-ipvlan/{network()['name']}/one/net1/{hints('one')[0].name.split('.')[0]}"
    forge_from_nested(attacker, node.container(), node.host, "l2")
    attacker.ip("link set dev forged down")
    attacker.ip(f"link set dev forged name net1 alias {label}")
    runtime.delete(attacker, network()).succeeds()
    assert attacker.links().keys() == {"lo"}


def end(node: Node, runtime: Runtime, attacker: Space) -> None:
    node.remove(attacker)
    runtime.delete("", network()).succeeds()


def collect(node: Node, runtime: Runtime, attacker: Space) -> None:
    node.remove(attacker)
    runtime.gc(GC).succeeds()


def add_again(node: Node, runtime: Runtime, attacker: Space) -> None:
    """Have the record replaced by another of the same attachment, and that one removed."""
    conf = network(ipam=static("10.1.0.9/24"))
    runtime.add(attacker, conf).result()
    runtime.delete(attacker, conf).succeeds()


AFTERWARDS = [nothing, delete, delete_a_forged_one, end, collect, add_again]


@pytest.mark.parametrize("afterwards", AFTERWARDS)
def test_the_mode_of_a_hidden_link_is_the_only_one_that_is_permitted(
    node: Node, runtime: Runtime, afterwards: Callable[[Node, Runtime, Space], None]
) -> None:
    node.master()
    attacker = node.container()
    runtime.add(attacker, network()).result()

    with hidden(attacker):
        afterwards(node, runtime, attacker)
        for _ in range(2):  # the second is answered without a search
            error = add_another(node, runtime, mode="l3").error()
            assert error["code"] == 104
            assert "root's record" in error["details"]
        add_another(node, runtime).result()
        runtime.delete("", network(), CNI_CONTAINERID="c3").succeeds()
        assert add_another(node, runtime, mode="l3").error()["code"] == 104

    add_when_gone(node, runtime)


def add_when_gone(node: Node, runtime: Runtime) -> None:
    """Attach in another mode, which is possible when the hidden link is gone."""
    add_another(node, runtime, 4, mode="l3").result()
    runtime.delete("", network(), CNI_CONTAINERID="c4").succeeds()
    runtime.gc(GC).succeeds()
    assert records() == []


def test_a_note_goes_with_the_last_attachment_when_the_hidden_link_is_gone(
    node: Node, runtime: Runtime
) -> None:
    node.master()
    attacker, other = node.container(), node.container()
    runtime.add(attacker, network()).result()
    conf = network(ipam=static("10.1.0.3/24"))
    with hidden(attacker):
        delete(node, runtime, attacker)
        assert [path.name for path in MEMORY.glob("on-*/*")] == ["mode"]
        runtime.add(other, conf, CNI_CONTAINERID="c3").result()
    other.ip("link delete dev net1")
    wait_until(lambda: is_free("eth0"))
    runtime.add(other, conf, CNI_CONTAINERID="c4").result()
    runtime.delete(other, conf, CNI_CONTAINERID="c4").succeeds()
    runtime.delete("", conf, CNI_CONTAINERID="c3").succeeds()

    assert records() == []


def is_free(master: str) -> bool:
    argv = f"ip link add link {master} name x type macvlan mode bridge macaddr flush"
    done = subprocess.run(argv.split(), check=False, capture_output=True)
    return b"Invalid argument" in done.stderr


def test_a_link_that_is_hidden_before_its_add_fails_leaves_its_mode(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam
) -> None:
    node.master()
    attacker = node.container()
    with hiding_place(attacker) as process:
        hide = f"nsenter --net={attacker.path} ip link set dev net1 netns {process}"
        fake_ipam.on("ADD", f"until {hide}; do :; done 2>/dev/null; exit 1")
        conf = network(ipam=fake_ipam.conf)
        runtime.add(attacker, conf, CNI_PATH=fake_ipam.path).error()

        assert add_another(node, runtime, mode="l3").error()["code"] == 104
        add_another(node, runtime).result()
        runtime.delete("", network(), CNI_CONTAINERID="c3").succeeds()
    wait_until(lambda: is_free("eth0"))
    add_when_gone(node, runtime)


def test_root_declares_a_mode_of_which_nothing_is_known(node: Node, runtime: Runtime) -> None:
    node.master()
    attacker = node.container()
    runtime.add(attacker, network()).result()
    with hidden(attacker):
        shutil.rmtree(MEMORY)
        error = add_another(node, runtime).error()
        assert error["code"] == 11
        line = next(each for each in error["details"].splitlines() if "ip link add" in each)
        run(*line[line.index("ip link add") :].split())

        add_another(node, runtime).result()
        run("ip", "link", "delete", "dev", "ipvlan-mode")

        add_another(node, runtime, 4).result()
        assert add_another(node, runtime, 5, mode="l3").error()["code"] == 104


def test_a_hidden_link_has_namespaces_searched_once(
    node: Node, runtime: Runtime, tmp_path: Path
) -> None:
    node.master()
    attacker = node.container()
    runtime.add(attacker, network()).result()
    others = [node.container() for _ in range(OTHERS)]
    steps = Steps(tmp_path)
    counts = []
    with hidden(attacker):
        for number in (1, 2):
            conf = network(ipam=static(f"10.1.0.{number + 2}/24"))
            runtime.add(others[number], conf, CNI_CONTAINERID="c", **steps.environment).result()
            counts.append(len(steps.taken))
            runtime.delete(others[number], conf, CNI_CONTAINERID="c").succeeds()
            steps.forget()

    assert counts[0] >= counts[1] + OTHERS


def test_a_container_with_thousands_of_links_is_read_as_fast_as_another(
    node: Node, runtime: Runtime
) -> None:
    node.master()
    crowded = node.container()
    runtime.add(crowded, network()).result()
    before = min(seconds_of_add(node, runtime) for _ in range(2))
    lines = "".join(f"link add link own name i{each} type ipvlan\n" for each in range(LINKS))
    crowded.run("ip", "-batch", "-", stdin=f"link add name own type dummy\n{lines}")

    after = min(seconds_of_add(node, runtime) for _ in range(2))

    assert after < 1.5 * before


def seconds_of_add(node: Node, runtime: Runtime) -> float:
    seconds = seconds_of(lambda: add_another(node, runtime).result())
    runtime.delete("", network(), CNI_CONTAINERID="c3").succeeds()
    return seconds


def seconds_of(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began
