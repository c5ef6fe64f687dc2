"""What Multus does with the networks that a pod's annotation names, without a cluster.

After Multus 4 as a thin plugin: pkg/k8sclient (the annotation), pkg/types (the calls of delegates),
pkg/netutils (the default route). It runs the definitions' configurations through libcni.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from lab import Space
from libcni import Attachment, Document, Libcni, PluginError

ANNOTATION = "k8s.v1.cni.cncf.io/networks"
_DEFAULT = "0.0.0.0/0"


class Pod(NamedTuple):
    """A pod with its sandbox; ``networks`` is its annotation."""

    name: str
    sandbox: Space
    networks: str
    namespace: str = "default"

    @property
    def args(self) -> str:
        return (
            f"IgnoreUnknown=true;K8S_POD_NAMESPACE={self.namespace};K8S_POD_NAME={self.name};"
            f"K8S_POD_INFRA_CONTAINER_ID={self.container_id};K8S_POD_UID=uid-{self.name}"
        )

    @property
    def container_id(self) -> str:
        return f"sandbox-{self.name}"


class Delegate(NamedTuple):
    """A network to attach, for one element of the annotation."""

    network: Document
    attachment: Attachment
    gateways: list[str]


class Multus:
    """Attaches pods to networks, which are given as NetworkAttachmentDefinitions."""

    def __init__(self, libcni: Libcni, definitions: Iterable[Mapping[str, Any]]) -> None:
        self._libcni = libcni
        self._definitions = {
            each["metadata"]["name"]: json.loads(each["spec"]["config"]) for each in definitions
        }

    def add(self, pod: Pod) -> dict[str, Document]:
        """Attach a pod to all its networks, or to none; return the results by interface."""
        results: dict[str, Document] = {}
        delegates = self._delegates(pod)
        for number, each in enumerate(delegates):
            try:
                result = self._libcni.add(each.network, each.attachment)
            except PluginError:
                for done in reversed(delegates[: number + 1]):
                    self._libcni.delete(done.network, done.attachment)
                raise
            results[each.attachment.ifname] = result
        if any(each.gateways for each in delegates):
            for each in delegates:
                self._route(pod, each, results[each.attachment.ifname])
        return results

    def check(self, pod: Pod) -> None:
        for each in self._delegates(pod):
            self._libcni.check(each.network, each.attachment)

    def delete(self, pod: Pod) -> None:
        for each in reversed(self._delegates(pod)):
            self._libcni.delete(each.network, each.attachment)

    def _delegates(self, pod: Pod) -> list[Delegate]:
        return [
            self._delegate(pod, element, f"net{number}")
            for number, element in enumerate(_elements(pod.networks), 1)
        ]

    def _delegate(self, pod: Pod, element: Mapping[str, Any], name: str) -> Delegate:
        network = _as_list(self._definitions[element["name"]])
        if "cni-args" in element:
            for plugin in network["plugins"]:
                plugin.setdefault("args", {})["cni"] = element["cni-args"]
        requests = {key: element[key] for key in ("ips", "mac") if key in element}
        attachment = Attachment(
            pod.sandbox.path,
            pod.container_id,
            element.get("interface", name),
            pod.args,
            requests,
        )
        return Delegate(network, attachment, element.get("default-route", []))

    def _route(self, pod: Pod, delegate: Delegate, result: Document) -> None:
        """Have the default route lead through the interfaces that are to have it, and no other."""
        name = delegate.attachment.ifname
        if any(route["dst"] == _DEFAULT for route in result.get("routes", [])):
            pod.sandbox.ip(f"route delete default dev {name}")
        for gateway in delegate.gateways:
            pod.sandbox.ip(f"route add default via {gateway} dev {name}")
        others = [route for route in result.get("routes", []) if route["dst"] != _DEFAULT]
        added = [{"dst": _DEFAULT, "gw": gateway} for gateway in delegate.gateways]
        result["routes"] = [*others, *added]
        self._libcni.remember(delegate.network, delegate.attachment, result)


def _elements(annotation: str) -> list[dict[str, Any]]:
    """Return the elements of an annotation: JSON, or NAMESPACE/NAME@INTERFACE,…"""
    if re.search(r'[\[{"]', annotation):
        found: list[dict[str, Any]] = json.loads(annotation)
        return found
    elements = []
    for item in annotation.split(","):
        name, _, interface = item.strip().rpartition("/")[2].partition("@")
        elements.append({"name": name, **({"interface": interface} if interface else {})})
    return elements


def _as_list(config: Document) -> Document:
    config = json.loads(json.dumps(config))
    if "plugins" in config:
        return config
    return {"cniVersion": config["cniVersion"], "name": config["name"], "plugins": [config]}
