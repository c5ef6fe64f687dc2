"""Users are told which pod has an interface, as the runtime named it at ADD."""

import json
import os
from typing import Any

from command_line import User
from lab import RECORDS, run
from runtime import Conf, network, static
from setup import Attachment, Setup

WEB = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=5"
DB = WEB.replace("web-0", "db-0")
DB_VARIABLES: Conf = {"CNI_CONTAINERID": "db", "CNI_ARGS": DB, "PATH": os.environ["PATH"]}


def attach(setup: Setup, args: str = WEB) -> Attachment:
    variables: Conf = {"CNI_CONTAINERID": "web", "CNI_ARGS": args}
    return setup.add(**{**DB_VARIABLES, **variables})


def show_attachment(user: User, words: str = "") -> Any:
    (master,) = json.loads(user.check_output(f"ipvlan show --json {words}"))["masters"]
    (attachment,) = master["attachments"]
    return attachment


def test_show_names_the_pod_until_it_is_deleted(setup: Setup, user: User) -> None:
    added = attach(setup)
    record = next(RECORDS.glob("on-*/*@*"))
    assert json.loads(record.read_text())["pod"] == "default/web-0"
    assert show_attachment(user)["pod"] == "default/web-0"
    wide = user.check_output("ipvlan show -o wide")
    assert "net1       ipvlan  default/web-0  web           net      container1  1500" in wide
    assert "net1       default/web-0  container1  10.1.0.2/24" in user.check_output("ipvlan show")
    added.delete()
    assert not record.exists()


def test_show_finds_a_pod_and_what_is_left_of_one(setup: Setup, user: User) -> None:
    attach(setup)
    setup.add(at=setup.container2, **DB_VARIABLES)
    setup.node.remove(setup.container2)

    for pod in ("web-0", "default/web-0"):
        assert show_attachment(user, f"--pod {pod}")["pod"] == "default/web-0"
        document = json.loads(user.check_output(f"ipvlan show --pod {pod} --json"))
        assert document["leftovers"] == []
    document = json.loads(user.check_output("ipvlan show --pod db-0 --json"))
    assert (document["masters"], document["leftovers"][0]["pod"]) == ([], "default/db-0")
    wide = user.check_output("ipvlan show -o wide --pod db-0")
    assert "net1       -     default/db-0   db            net      container2" in wide
    for pod in ("web", "other/web-0", "default/"):
        assert user.run(f"ipvlan show --pod {pod}") == (1, "", f"nothing matches --pod {pod}\n")


def test_others_read_of_the_pod_if_they_are_root(setup: Setup, user: User) -> None:
    added = attach(setup)
    finding = f"net1 in {setup.container.path} (pod default/web-0, container web)"

    def assert_hidden(code: int, words: str, **options: Any) -> None:
        error = setup.expect_error(code, hidden=[words], **options, **DB_VARIABLES)
        assert "web-0" not in json.dumps([error["msg"], error["details"]])

    assert_hidden(
        104, f"found: an interface runs in that mode: {finding}", at=setup.container2, mode="l3"
    )
    used = f"found: 10.1.0.2 belongs to {finding}"
    assert_hidden(106, used, at=setup.container2, name="other", ipam=static("10.1.0.2/24"))
    assert_hidden(105, f"found: it is {finding}", name="other")
    variables = {**added.environment, **DB_VARIABLES}
    answer = setup.runtime.delete(setup.container, network(name="other"), **variables)
    assert f"net1 is kept, since it belongs to another attachment: {finding}" in answer.stderr

    conf = user.write_conf(network(name="other", ipam=static("10.1.0.2/24")))
    _, out, _ = user.run(f"ipvlan doctor -c {conf} --netns {setup.container.path} --ifname net1")
    assert "of kind ipvlan: the pod default/web-0, container web in the network net" in out
    _, out, _ = user.run(f"ipvlan doctor -c {conf}")
    assert (
        f"10.1.0.2 belongs to net1 in {setup.container.path} (pod default/web-0, container" in out
    )


def test_a_forged_label_does_not_get_the_pods_name(setup: Setup, user: User) -> None:
    attach(setup)
    alias = setup.container.links()["net1"]["ifalias"]
    run("ip", "link", "add", "name", "below", "type", "dummy")
    run("ip", "link", "add", "name", "evil", "link", "below", "type", "ipvlan")
    run("ip", "link", "set", "dev", "evil", "netns", setup.container2.path)
    setup.container2.ip(f"link set dev evil alias {alias}")
    masters = json.loads(user.check_output("ipvlan show --json"))["masters"]
    pods = {each["interface"]: each["pod"] for master in masters for each in master["attachments"]}
    assert pods == {"net1": "default/web-0", "evil": None}
