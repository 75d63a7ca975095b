"""Checks a disk link by link, without refusing what is wrong, and mends what can be mended.

A repair changes the named link only, and never what its sound sectors hold: so its children stay valid. What cannot be
told from the file stays as it is, and the file stays marked as unclean.
Source: VMware KB 1007969 (content ID mismatch): a child's parentCID is set by hand only where the parent is unmodified.
"""

from __future__ import annotations

from ringfence.errors import BadInput, HostRefused
from vmkernel.storage.chain import LINKS_MAX, check_parent, file_id, open_parent, parent_path
from vmkernel.storage.errors import ContentMismatch, Locked
from vmkernel.storage.place import Place
from vmkernel.storage.vmdk.check import Fault, Finding, check_link, mend_link
from vmkernel.storage.vmdk.link import Link, open_link


def check(path: Place, *, deep: bool = False) -> list[Finding]:
    """Everything that is wrong with a disk and its parents, youngest first; empty: nothing is. Raises Locked."""
    findings: list[Finding] = []
    try:
        link = open_link(path)
    except Locked:
        raise
    except (BadInput, HostRefused) as error:
        return [Finding(Fault.LINK, str(path), str(error))]
    seen = {file_id(path)}
    while True:
        try:
            findings += check_link(link, deep=deep)
            parent = _parent(link, seen, findings)
        finally:
            link.abandon()
        if parent is None:
            return findings
        link = parent


def _parent(link: Link, seen: set[tuple[int, int]], findings: list[Finding]) -> Link | None:
    """The next link down; None where there is none, or none that opens, which is a finding."""
    if not link.has_parent:
        return None
    try:
        path = parent_path(link)
        if (identity := file_id(path)) in seen or len(seen) >= LINKS_MAX:
            findings.append(Finding(Fault.LINK, str(link.path), f"its parent {path} is its own ancestor"))
            return None
        seen.add(identity)
        parent = open_parent(link, path, lock=True, recover=False)
    except (BadInput, HostRefused) as error:
        findings.append(Finding(Fault.LINK, str(link.path), str(error)))
        return None
    try:
        check_parent(link, parent, relaxed=False, warnings=[])
    except ContentMismatch as error:
        findings.append(Finding(Fault.CONTENT_ID, str(link.path), str(error)))
    except BadInput as error:
        findings.append(Finding(Fault.LINK, str(link.path), str(error)))
    return parent


def repair(path: Place, *, accept_parent: bool = False) -> list[Finding]:
    """Mend one link; the findings say what was. Raises BadInput or HostRefused where it does not open for writing.

    `accept_parent`: the person says that the parent was not modified, so the link takes its CID for its parentCID.
    """
    link = open_link(path, writable=True)
    try:
        findings = mend_link(link)
        if accept_parent and link.has_parent and link.descriptor is not None:
            findings += _accept(link)
    finally:
        link.abandon()
    return findings


def _accept(link: Link) -> list[Finding]:
    parent = open_link(parent_path(link))
    parent.abandon()
    if link.descriptor is None or parent.cid is None or link.descriptor.parent_cid == parent.cid:
        return []
    text = f"parentCID was {link.descriptor.parent_cid:08x}, and is now {parent.cid:08x} as in {parent.path}"
    link.descriptor.set("parentCID", f"{parent.cid:08x}", quoted=False)
    link.save_descriptor()
    return [Finding(Fault.CONTENT_ID, str(link.path), text, mended=True)]
