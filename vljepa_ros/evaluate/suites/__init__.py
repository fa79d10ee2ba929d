# SPDX-License-Identifier: Apache-2.0
"""Evaluation suites, one module per subject; each suite turns a `Context` into a `Report`."""

from __future__ import annotations

from collections.abc import Callable

from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.report import Report
from vljepa_ros.evaluate.suites.calibrate import calibrate
from vljepa_ros.evaluate.suites.caption import caption
from vljepa_ros.evaluate.suites.classify import classify, classify_unseen
from vljepa_ros.evaluate.suites.events import events, views_events
from vljepa_ros.evaluate.suites.gap import gap
from vljepa_ros.evaluate.suites.paraphrase import paraphrase
from vljepa_ros.evaluate.suites.retrieve import retrieve
from vljepa_ros.evaluate.suites.robustness import robustness
from vljepa_ros.evaluate.suites.selective import selective
from vljepa_ros.evaluate.suites.transfer import transfer
from vljepa_ros.evaluate.suites.unfamiliar import unfamiliar
from vljepa_ros.evaluate.suites.unreadable import unreadable
from vljepa_ros.evaluate.suites.views import views
from vljepa_ros.evaluate.suites.vqa import vqa

SUITES: dict[str, Callable[[Context], Report]] = {
    'classify': classify,
    'classify-unseen': classify_unseen,
    'retrieve': retrieve,
    'vqa': vqa,
    'caption': caption,
    'paraphrase': paraphrase,
    'calibrate': calibrate,
    'gap': gap,
}

# Not part of `all`: suites that take long or need streams of their own.
SLOW: dict[str, Callable[[Context], Report]] = {
    'robustness': robustness,
    'events': events,
    'selective': selective,
    'transfer': transfer,
    'views': views,
    'views-events': views_events,
    'unfamiliar': unfamiliar,
    'unreadable': unreadable,
}
