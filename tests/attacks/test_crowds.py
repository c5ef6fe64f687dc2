"""Many attachments, many namespaces: explaining one call's failure does not delay other calls.

The commands that a call starts are counted: they do not depend on the machine, as times do.
"""

from pathlib import Path

import pytest
from attacker import looks_busy, ordinary_users
from doubles import Steps
from executable import Executable
from lab import wait_until
from runtime import call_environment, network, static, stdin_of
from scene import Scene

FEW, MANY = 2, 6
USERS = 6
SEARCH = {"ip", "-n", "-batch"}  # in another container's namespace


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    return Steps(tmp_path)


def attach(scene: Scene, numbers: range) -> None:
    for number in numbers:
        ipam = static(f"10.1.0.{number + 10}/24")
        scene.add(at=scene.container(), ipam=ipam, CNI_CONTAINERID=f"c{number}")


def test_a_mode_conflict_takes_as_many_commands_on_a_full_node(scene: Scene, steps: Steps) -> None:
    counts = []
    for numbers in (range(FEW), range(FEW, MANY)):
        attach(scene, numbers)
        steps.forget()
        scene.refuses(104, mode="l3", **steps.environment)
        counts.append(len(steps.taken))

    assert counts[0] == counts[1]


def test_no_other_add_waits_while_the_reason_of_a_refusal_is_searched_for(
    scene: Scene, ipvlan: Executable, steps: Steps, tmp_path: Path
) -> None:
    attach(scene, range(FEW))
    environment = {**call_environment("ADD", scene.two), **steps.environment}
    stdin = stdin_of(network(mode="l3"))
    assert ipvlan(environment, stdin).error()["code"] == 104
    searching = steps.taken[-1].number
    steps.forget()
    goes_on = f"until [ -e {tmp_path}/go ]; do sleep 0.05; done"
    steps.at(searching, f"touch {tmp_path}/searches; {goes_on}")

    call = ipvlan.start(environment, stdin)
    wait_until((tmp_path / "searches").exists)
    scene.add(CNI_CONTAINERID="honest")
    assert call.process.poll() is None
    (tmp_path / "go").touch()

    assert call.end().error()["code"] == 104


def test_an_address_conflict_is_searched_for_after_the_release(scene: Scene, steps: Steps) -> None:
    attach(scene, range(1))
    counts = []
    for more in (0, MANY):
        for _ in range(more):
            scene.container()
        steps.forget()
        scene.refuses(106, ipam=static("10.1.0.10/24"), **steps.environment)
        held, afterwards = steps_while_link_is_held_and_afterwards(steps)
        assert not any(words >= SEARCH for words in held)
        assert any(words >= SEARCH for words in afterwards)
        counts.append(len(held))

    assert counts[0] == counts[1]


def steps_while_link_is_held_and_afterwards(steps: Steps) -> tuple[list[set[str]], list[set[str]]]:
    words = [set(step.words.split()) for step in steps.taken]
    first = next(number for number, each in enumerate(words) if {"link", "add"} <= each)
    last = max(number for number, each in enumerate(words) if {"link", "delete"} <= each)
    return words[first:last], words[last:]


def test_an_add_starts_as_many_commands_beside_users_namespaces(scene: Scene, steps: Steps) -> None:
    looks_busy(scene.host)
    counts = []
    for users in (0, USERS):
        with ordinary_users(users):
            steps.forget()
            added = scene.add(**steps.environment)
            counts.append(len(steps.taken))
            added.delete()

    assert counts[0] == counts[1]
