"""A person reads which pod has an interface, as the runtime named it at ADD."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from lab import MEMORY, Node, Space, run
from person import Person
from runtime import Conf, Runtime, network, static

WEB = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=5"
DB = WEB.replace("web-0", "db-0")
PATH = {"PATH": os.environ["PATH"]}


def attach(node: Node, runtime: Runtime, conf: Conf, args: str = WEB) -> Space:
    """Attach a pod's container, called web."""
    container = node.container()
    about = {"CNI_CONTAINERID": "web", "CNI_ARGS": args}
    runtime.add(container, conf, **about, **PATH).result()
    return container


def shown(person: Person) -> Any:
    (master,) = json.loads(person.succeeds("ipvlan show --json"))["masters"]
    (attachment,) = master["attachments"]
    return attachment


def test_show_names_the_pod_until_it_is_deleted(
    node: Node, runtime: Runtime, person: Person
) -> None:
    node.master()
    container = attach(node, runtime, network())
    kept = next(MEMORY.glob("on-*/*"))

    assert json.loads(kept.read_text())["pod"] == "default/web-0"
    assert shown(person)["pod"] == "default/web-0"
    assert f"in {container.path}  pod default/web-0  container web" in person.succeeds(
        "ipvlan show"
    )

    runtime.delete(container, network(), CNI_CONTAINERID="web", **PATH).succeeds()
    assert not kept.exists()


def test_show_finds_a_pod_and_what_is_left_of_one(
    node: Node, runtime: Runtime, person: Person
) -> None:
    node.master()
    attach(node, runtime, network(ipam=static("10.1.0.2/24")))
    gone = node.container()
    about = {"CNI_CONTAINERID": "db", "CNI_ARGS": DB, **PATH}
    runtime.add(gone, network(ipam=static("10.1.0.3/24")), **about).result()
    node.remove(gone)

    for pod in ("web-0", "default/web-0"):
        found = json.loads(person.succeeds(f"ipvlan show --pod {pod} --json"))
        assert [each["pod"] for each in found["masters"][0]["attachments"]] == ["default/web-0"]
        assert found["leftovers"] == []
    found = json.loads(person.succeeds("ipvlan show --pod db-0 --json"))
    assert (found["masters"], found["leftovers"][0]["pod"]) == ([], "default/db-0")
    assert "pod default/db-0  container db  no interface" in person.succeeds("ipvlan show")
    for pod in ("web", "other/web-0", "default/"):
        assert person.succeeds(f"ipvlan show --pod {pod}") == "no ipvlan interfaces\n"


@pytest.mark.parametrize(
    "args",
    [
        "",
        "K8S_POD_NAME=web-0",
        "K8S_POD_NAMESPACE=default",
        "K8S_POD_NAMESPACE=default;K8S_POD_NAME=",
        "K8S_POD_NAMESPACE=de fault;K8S_POD_NAME=web-0",
        "K8S_POD_NAMESPACE=default;K8S_POD_NAME=\x1b[2Jweb-0",
        "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web\u202e0",
        "K8S_POD_NAMESPACE=default;K8S_POD_NAME=../web-0",
        f"K8S_POD_NAMESPACE=default;K8S_POD_NAME={'x' * 256}",
    ],
)
def test_what_is_no_name_of_a_pod_is_not_kept(
    node: Node, runtime: Runtime, person: Person, args: str
) -> None:
    node.master()
    attach(node, runtime, network(), f"IgnoreUnknown=1;{args}" if args else "")
    assert shown(person)["pod"] is None
    assert "  pod " not in person.succeeds("ipvlan show")


def test_the_cause_of_an_error_names_the_other_pod(node: Node, runtime: Runtime) -> None:
    node.master()
    container = attach(node, runtime, network())
    found = f"net1 in {container.path} (pod default/web-0, container web)"

    def private(where: Space, conf: Conf) -> str:
        answer = runtime.add(where, conf, CNI_CONTAINERID="db", CNI_ARGS=DB, **PATH)
        assert "web-0" not in json.dumps(answer.error())  # tenants don't learn of each other
        return answer.stderr

    mode = private(node.container(), network(mode="l3"))
    assert f"found: an interface runs in that mode: {found}" in mode
    address = private(node.container(), network(name="other"))
    assert f"found: 10.1.0.2 belongs to {found}" in address
    assert f"found: it is {found}" in private(container, network(name="other"))
    answer = runtime.delete(container, network(name="other"), CNI_CONTAINERID="db", **PATH)
    assert f"net1 is kept, since it belongs to another attachment: {found}" in answer.stderr


def test_the_doctor_names_the_pod(node: Node, runtime: Runtime, person: Person) -> None:
    node.master()
    container = attach(node, runtime, network())
    conf = person.writes(network(name="other", ipam=static("10.1.0.2/24")))

    _, out, _ = person.types(f"ipvlan doctor -c {conf} --netns {container.path} --ifname net1")
    assert "of kind ipvlan: the pod default/web-0, container web in the network net" in out
    _, out, _ = person.types(f"ipvlan doctor -c {conf}")
    assert f"10.1.0.2 belongs to net1 in {container.path} (pod default/web-0, container" in out


def test_a_forged_label_does_not_get_the_pods_name(
    node: Node, runtime: Runtime, person: Person
) -> None:
    node.master()
    alias = attach(node, runtime, network()).links()["net1"]["ifalias"]
    evil = node.container()
    run("ip", "link", "add", "name", "below", "type", "dummy")
    run("ip", "link", "add", "name", "evil", "link", "below", "type", "ipvlan")
    run("ip", "link", "set", "dev", "evil", "netns", evil.path)
    evil.ip(f"link set dev evil alias {alias}")

    masters = json.loads(person.succeeds("ipvlan show --json"))["masters"]

    pods = {each["interface"]: each["pod"] for master in masters for each in master["attachments"]}
    assert pods == {"net1": "default/web-0", "evil": None}
