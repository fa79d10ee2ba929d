# SPDX-License-Identifier: Apache-2.0
"""Protection of data that a file contained when it was opened, against data with older stamps.

Older stamps come from a clock that is not set yet, or from an old bag.
"""

from __future__ import annotations

from collections.abc import Mapping


class NewestStamps:
    """Newest stamp of each camera in an existing file."""

    def __init__(self, newest_ns: Mapping[str, int]) -> None:
        self._newest_ns = newest_ns

    def refusal(self, source: str, stamp_ns: int) -> str:
        """Return the reason why data with this stamp must not be stored; '' if it may be."""
        newest_ns = self._newest_ns.get(source, stamp_ns)
        if stamp_ns >= newest_ns:
            return ''
        behind_s = (newest_ns - stamp_ns) / 1e9
        return (
            f"'{source}': stamps are {behind_s:,.0f} s older than the newest stored stamp; "
            'not recording (clock not set, or an old bag?)'
        )
