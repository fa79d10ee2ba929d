# SPDX-License-Identifier: Apache-2.0
"""Results of judged expectations, and their JUnit report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from xml.etree import ElementTree

from vljepa_ros.expectations.spec import Expectation

UNPRINTABLE = {code: '\N{REPLACEMENT CHARACTER}' for code in (*range(9), 11, 12, *range(14, 32))}


class Verdict(Enum):
    """Verdict on an expectation."""

    HOLDS = 'holds'
    BROKEN = 'broken'
    CANNOT_TELL = 'cannot tell'


@dataclass(frozen=True)
class Judged:
    """An expectation with its verdict.

    `reason`: what was seen. `camera`: the camera of the evidence. `start_s`, `end_s`: evidence
    span in seconds from the start of the recording; None if nothing was seen. `score`: highest
    score of the statement in the span, or confidence of the answer. `picture`: a thumbnail of the
    evidence, if one was requested.
    """

    expectation: Expectation
    verdict: Verdict
    reason: str
    camera: str = ''
    start_s: float | None = None
    end_s: float | None = None
    score: float = 0.0
    picture: Path | None = None


def junit(suite: str, results: Sequence[Judged]) -> str:
    """Return a JUnit report (XML): broken is a failure, "cannot tell" is skipped.

    Args:
        suite: Name of the test suite, for example the name of the recording.
        results: The results.
    """
    count = {verdict: sum(r.verdict is verdict for r in results) for verdict in Verdict}
    root = ElementTree.Element(
        'testsuite',
        name=_printable(suite),
        tests=str(len(results)),
        failures=str(count[Verdict.BROKEN]),
        errors='0',
        skipped=str(count[Verdict.CANNOT_TELL]),
    )
    for result in results:
        case = ElementTree.SubElement(
            root,
            'testcase',
            classname=_printable(suite),
            name=_printable(result.expectation.name),
            line=str(result.expectation.line),
        )
        if result.verdict is not Verdict.HOLDS:
            tag = 'failure' if result.verdict is Verdict.BROKEN else 'skipped'
            ElementTree.SubElement(case, tag, message=_printable(result.reason))
        if result.picture is not None:
            output = ElementTree.SubElement(case, 'system-out')
            output.text = _printable(f'[[ATTACHMENT|{result.picture}]]')
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding='unicode', xml_declaration=True) + '\n'


def _printable(text: str) -> str:
    """Replace the control characters that XML does not allow, and lone surrogates."""
    return text.translate(UNPRINTABLE).encode('utf-8', 'replace').decode()
