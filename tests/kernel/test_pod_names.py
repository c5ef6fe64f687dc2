"""A person reads which pod has an interface, as the runtime named it at ADD."""

import json
import os
from typing import Any

from lab import MEMORY, run
from people import Person
from runtime import Conf, network, static
from scene import Added, Scene

WEB = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=5"
DB = WEB.replace("web-0", "db-0")
ABOUT: Conf = {"CNI_CONTAINERID": "db", "CNI_ARGS": DB, "PATH": os.environ["PATH"]}


def attach(scene: Scene, args: str = WEB) -> Added:
    about: Conf = {"CNI_CONTAINERID": "web", "CNI_ARGS": args}
    return scene.add(**{**ABOUT, **about})


def shown(person: Person, words: str = "") -> Any:
    (master,) = json.loads(person.succeeds(f"ipvlan show --json {words}"))["masters"]
    (attachment,) = master["attachments"]
    return attachment


def test_show_names_the_pod_until_it_is_deleted(scene: Scene, person: Person) -> None:
    added = attach(scene)
    kept = next(MEMORY.glob("on-*/*"))
    assert json.loads(kept.read_text())["pod"] == "default/web-0"
    assert shown(person)["pod"] == "default/web-0"
    wide = person.succeeds("ipvlan show -o wide")
    assert "net1       ipvlan  default/web-0  web           net      container1  1500" in wide
    assert "net1       default/web-0  container1  10.1.0.2/24" in person.succeeds("ipvlan show")
    added.delete()
    assert not kept.exists()


def test_show_finds_a_pod_and_what_is_left_of_one(scene: Scene, person: Person) -> None:
    attach(scene)
    scene.add(at=scene.two, **ABOUT)
    scene.node.remove(scene.two)

    for pod in ("web-0", "default/web-0"):
        assert shown(person, f"--pod {pod}")["pod"] == "default/web-0"
        found = json.loads(person.succeeds(f"ipvlan show --pod {pod} --json"))
        assert found["leftovers"] == []
    found = json.loads(person.succeeds("ipvlan show --pod db-0 --json"))
    assert (found["masters"], found["leftovers"][0]["pod"]) == ([], "default/db-0")
    wide = person.succeeds("ipvlan show -o wide --pod db-0")
    assert "net1       -     default/db-0   db            net      container2" in wide
    for pod in ("web", "other/web-0", "default/"):
        assert person.types(f"ipvlan show --pod {pod}") == (1, "", f"nothing matches --pod {pod}\n")


def test_others_read_of_the_pod_if_they_are_root(scene: Scene, person: Person) -> None:
    added = attach(scene)
    found = f"net1 in {scene.one.path} (pod default/web-0, container web)"

    def is_hidden(code: int, words: str, **given: Any) -> None:
        error = scene.refuses(code, hidden=[words], **given, **ABOUT)
        assert "web-0" not in json.dumps([error["msg"], error["details"]])

    is_hidden(104, f"found: an interface runs in that mode: {found}", at=scene.two, mode="l3")
    used = f"found: 10.1.0.2 belongs to {found}"
    is_hidden(106, used, at=scene.two, name="other", ipam=static("10.1.0.2/24"))
    is_hidden(105, f"found: it is {found}", name="other")
    about = {**added.environment, **ABOUT}
    answer = scene.runtime.delete(scene.one, network(name="other"), **about)
    assert f"net1 is kept, since it belongs to another attachment: {found}" in answer.stderr

    conf = person.writes(network(name="other", ipam=static("10.1.0.2/24")))
    _, out, _ = person.types(f"ipvlan doctor -c {conf} --netns {scene.one.path} --ifname net1")
    assert "of kind ipvlan: the pod default/web-0, container web in the network net" in out
    _, out, _ = person.types(f"ipvlan doctor -c {conf}")
    assert f"10.1.0.2 belongs to net1 in {scene.one.path} (pod default/web-0, container" in out


def test_a_forged_label_does_not_get_the_pods_name(scene: Scene, person: Person) -> None:
    attach(scene)
    alias = scene.one.links()["net1"]["ifalias"]
    run("ip", "link", "add", "name", "below", "type", "dummy")
    run("ip", "link", "add", "name", "evil", "link", "below", "type", "ipvlan")
    run("ip", "link", "set", "dev", "evil", "netns", scene.two.path)
    scene.two.ip(f"link set dev evil alias {alias}")
    masters = json.loads(person.succeeds("ipvlan show --json"))["masters"]
    pods = {each["interface"]: each["pod"] for master in masters for each in master["attachments"]}
    assert pods == {"net1": "default/web-0", "evil": None}
