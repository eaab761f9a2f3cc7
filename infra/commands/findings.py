"""What the checks of hash chains found, as ``isos memory verify`` and ``isos audit verify`` tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.link_check import Finding
    from streams.memory_view import MemoryHead

HeadOption = Annotated[
    str, typer.Option("--head", metavar="SEQUENCE:HASH", help="A head that this command printed earlier.")
]
MAX_LISTED: Final = 20


def tell(kind: str, findings: Sequence[Finding]) -> None:
    """Say the first findings on stderr, one a line, and how many more there are."""
    for finding in findings[:MAX_LISTED]:
        typer.echo(f"{kind}: {sentence(finding)}", err=True)
    if len(findings) > MAX_LISTED:
        typer.echo(f"{kind}: and {len(findings) - MAX_LISTED} more; --output json lists all.", err=True)


def sentence(finding: Finding) -> str:
    """A finding with its position, as people read it."""
    of = f", sequence {finding.sequence}" if finding.sequence else ""
    at = f"offset {finding.offset}" if finding.offset >= 0 else "no record"
    return f"{finding.topic}/0, {at}{of}: {finding.what}."


def finding_document(finding: Finding) -> dict[str, Any]:
    """A finding as JSON."""
    from streams.topics import full_name

    return {
        "topic": full_name(finding.topic),
        "partition": 0,
        "offset": finding.offset if finding.offset >= 0 else None,
        "sequence": finding.sequence or None,
        "what": finding.what,
    }


def noted(head: str) -> MemoryHead | None:
    """The head of ``--head``; None where none is given. Exit code 2 for what is none."""
    from streams.link_check import parse_head

    try:
        return parse_head(head) if head else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--head") from None
