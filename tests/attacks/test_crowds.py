"""Many attachments, many namespaces: explaining one call's failure does not delay other calls.

The commands that a call starts are counted: they do not depend on the machine, as times do.
"""

from pathlib import Path

import pytest
from attacker import ordinary_users
from doubles import Steps
from executable import Executable
from lab import Node, run, wait_until
from runtime import Runtime, call_environment, network, static, stdin_of

FEW, MANY = 3, 12
USERS = 20


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    return Steps(tmp_path)


def attach(node: Node, runtime: Runtime, numbers: range) -> None:
    for number in numbers:
        conf = network(ipam=static(f"10.1.0.{number + 10}/24"))
        runtime.add(node.container(), conf, CNI_CONTAINERID=f"c{number}").result()


def test_a_mode_conflict_takes_as_many_commands_on_a_full_node(
    node: Node, runtime: Runtime, steps: Steps
) -> None:
    node.master()
    refused = node.container()
    counts = []
    for numbers in (range(FEW), range(FEW, MANY)):
        attach(node, runtime, numbers)
        steps.forget()
        answer = runtime.add(refused, network(mode="l3"), **steps.environment)
        assert answer.error()["code"] == 104
        counts.append(len(steps.taken))

    assert counts[0] == counts[1]


def test_no_other_add_waits_while_the_reason_of_a_refusal_is_searched_for(
    node: Node, ipvlan: Executable, runtime: Runtime, steps: Steps, tmp_path: Path
) -> None:
    node.master()
    refused, honest = node.container(), node.container()
    attach(node, runtime, range(FEW))
    environment = {**call_environment("ADD", refused, CNI_CONTAINERID="two"), **steps.environment}
    stdin = stdin_of(network(mode="l3"))
    assert ipvlan(environment, stdin).error()["code"] == 104
    searching = steps.taken[-1].number
    steps.forget()
    goes_on = f"until [ -e {tmp_path}/go ]; do sleep 0.05; done"
    steps.at(searching, f"touch {tmp_path}/searches; {goes_on}")

    call = ipvlan.start(environment, stdin)
    wait_until((tmp_path / "searches").exists)
    runtime.add(honest, network(), CNI_CONTAINERID="honest").result()
    assert call.process.poll() is None
    (tmp_path / "go").touch()

    assert call.end().error()["code"] == 104


def test_an_address_conflict_holds_link_and_lease_no_longer_on_a_full_node(
    node: Node, runtime: Runtime, steps: Steps
) -> None:
    node.master()
    attach(node, runtime, range(1))
    taken = network(ipam=static("10.1.0.10/24"))
    container = node.container()
    counts = []
    for more in (0, MANY):
        for _ in range(more):
            node.container()
        steps.forget()
        assert runtime.add(container, taken, **steps.environment).error()["code"] == 106
        counts.append(steps_while_link_is_held(steps))

    assert counts[0] == counts[1]


def steps_while_link_is_held(steps: Steps) -> int:
    words = [step.words.split() for step in steps.taken]
    first = next(number for number, each in enumerate(words) if {"link", "add"} <= set(each))
    last = max(number for number, each in enumerate(words) if {"link", "delete"} <= set(each))
    return last - first


def test_an_add_starts_as_many_commands_beside_the_namespaces_of_ordinary_users(
    node: Node, runtime: Runtime, steps: Steps
) -> None:
    node.master()
    # Lets the master look as if it had slaves somewhere.
    run("ip", "link", "add", "link", "eth0", "name", "eth0.5", "type", "vlan", "id", "5")
    run("ip", "link", "set", "dev", "eth0.5", "up")
    container = node.container()
    counts = []
    for users in (0, USERS):
        with ordinary_users(users):
            steps.forget()
            runtime.add(container, network(), **steps.environment).result()
            counts.append(len(steps.taken))
            runtime.delete(container, network()).succeeds()

    assert counts[0] == counts[1]
