"""What a tap asks for: pods, what controls them, whole namespaces, as text over the socket and as what it means of a pod."""

from __future__ import annotations

from clovisor_py.errors import UsageError
from clovisor_py.kube.objects import Pod, Ref
from clovisor_py.protocols._redaction import Level


def means(target: Ref, pod: Pod, owner: str) -> bool:
    """Whether this pod is meant; `owner` is what controls it in the end (`deployment/cart`)."""
    if target.kind == "Namespace":
        return pod.ref.namespace == target.name
    if target.namespace != pod.ref.namespace:
        return False
    return target in (pod.ref, pod.owner) or owner == f"{target.kind.lower()}/{target.name}"


def read_targets(text: str) -> list[Ref]:
    """KIND/NAMESPACE/NAME, with blanks between several. Raises UsageError."""
    found = [Ref(*parts) for one in text.split() if len(parts := one.split("/")) == 3]
    if not found or len(found) != len(text.split()):
        raise UsageError("a tap names what it wants as KIND/NAMESPACE/NAME: use `clovisor trace pod/NAMESPACE/NAME`.")
    return found


def read_level(text: str) -> Level:
    """How much is hidden at least; nothing where nothing is said. Raises UsageError."""
    try:
        return Level(text or Level.OFF)
    except ValueError as error:
        raise UsageError(f"'{text[:20]}' is no level: write off, default or strict.") from error
