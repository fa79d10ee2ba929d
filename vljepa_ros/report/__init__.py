# SPDX-License-Identifier: Apache-2.0
"""A self-contained HTML page about a recording.

`recorded` processes a recording once, and `page` writes what the model saw as one HTML file.
"""

from vljepa_ros.report.page import page
from vljepa_ros.report.recorded import Lane, Reported, recorded

__all__ = ['Lane', 'Reported', 'page', 'recorded']
