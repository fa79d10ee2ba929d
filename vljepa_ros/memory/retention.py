# SPDX-License-Identifier: Apache-2.0
"""Protection of the data in an existing file against new data with older stamps.

If the stamps of a camera go back, its newer data is deleted. The data in an existing file must not
be deleted in this way, because older stamps may come from a clock that is not set yet, or from an
old bag. New data with older stamps is refused instead.
"""

from __future__ import annotations

from collections.abc import Mapping


class NewestStamps:
    """Newest stamp of each camera in a file at the time when the file was opened."""

    def __init__(self, newest_ns: Mapping[str, int]) -> None:
        self._newest_ns = newest_ns

    def refusal(self, source: str, stamp_ns: int) -> str:
        """Return the reason for refusing data with this stamp, or '' if it may be stored.

        Data is refused if the file contained newer data of the same camera.
        """
        newest_ns = self._newest_ns.get(source, stamp_ns)
        if stamp_ns >= newest_ns:
            return ''
        behind_s = (newest_ns - stamp_ns) / 1e9
        return (
            f"'{source}': stamps are {behind_s:,.0f} s older than the newest stored stamp; "
            'not recording (clock not set, or an old bag?)'
        )
