# SPDX-License-Identifier: Apache-2.0
"""Tools for an LLM agent: `TOOLS` contains the definitions, and `call` executes a tool call.

The definitions are JSON schemas in the form that most APIs accept. A call returns JSON, also for
errors, so that the LLM can correct its arguments.
"""

from __future__ import annotations

import json
from typing import Any

from vljepa_ros.client.planner_client import Client
from vljepa_ros.core.errors import VljepaError
from vljepa_ros.core.types import Moment


def _tool(name: str, description: str, required: str, **properties: dict[str, Any]) -> Any:
    parameters = {'type': 'object', 'properties': properties, 'required': [required]}
    function = {'name': name, 'description': description, 'parameters': parameters}
    return {'type': 'function', 'function': function}


TEXT, NUMBER = {'type': 'string'}, {'type': 'number'}
WHERE = {'source': {**TEXT, 'description': 'the camera; required if there are several'}}
END = {'end': {**NUMBER, 'description': 'end of the span in seconds of ROS time (default: now)'}}
SINCE = {**NUMBER, 'description': 'start of the span in seconds of ROS time (default: no limit)'}
ASKED = {
    **NUMBER,
    'description': 'start of the span in seconds of ROS time, for a question about the past; omit '
    'start and end to ask about now (an answer has the current ROS time in `time`)',
}
TOOLS = [
    _tool(
        'query',
        "Ask a question about the robot's camera image, now or in a past span of time. If "
        '`abstained` is true, the model cannot tell: do not use the answer.',
        'prompt',
        prompt={**TEXT, 'description': 'a question in plain English'},
        candidates={
            'type': 'array',
            'items': TEXT,
            'description': "possible answers, for example ['yes', 'no']",
        },
        start=ASKED,
        **END,
        **WHERE,
    ),
    _tool(
        'search',
        'Find the moments in the camera recordings that match a sentence, best first.',
        'text',
        text={**TEXT, 'description': "a statement, for example 'the drawer is opened'"},
        limit={'type': 'integer', 'description': 'maximum number of moments (default: 10)'},
        start=SINCE,
        **END,
        **WHERE,
    ),
    _tool(
        'watch',
        'Wait until a statement about the scene becomes true, or is no longer true.',
        'condition',
        condition={**TEXT, 'description': "for example 'the arm is at rest'"},
        until_not={
            'type': 'boolean',
            'description': 'wait until it is no longer true (default: false)',
        },
        timeout={**NUMBER, 'description': 'maximum wait in seconds (default: 30)'},
        **WHERE,
    ),
]


def call(robot: Client, name: str, arguments: str) -> str:
    """Execute a tool call of the LLM and return its result as JSON.

    Args:
        robot: Client of the stack.
        name: Name of the tool.
        arguments: Arguments of the tool, as a JSON object.
    """
    tools = {'query': _query, 'search': _search, 'watch': _watch}
    if name not in tools:
        return json.dumps({'error': f'unknown tool {name!r} (known: {", ".join(tools)})'})
    try:
        found = tools[name](robot, **json.loads(arguments))
    except (TypeError, ValueError, VljepaError) as error:
        found = {'error': str(error)}
    return json.dumps(found)


def _query(
    robot: Client,
    prompt: str,
    candidates: Any = (),
    start: float = 0,
    end: float = 0,
    source: str = '',
) -> dict[str, Any]:
    answer = robot.query(prompt, candidates, source, start, end)
    return {
        'time': answer.stamp_ns / 1e9,
        'answer': answer.answer,
        'confidence': round(answer.confidence, 3),
        'abstained': answer.abstained,
        'basis': answer.basis.name,
    }


def _search(
    robot: Client,
    text: str,
    limit: int = 10,
    start: float = 0,
    end: float = 0,
    source: str = '',
) -> dict[str, Any]:
    found = robot.search(text, limit, source, start, end)
    return {'moments': [_as_json(moment) for moment in found]}


def _watch(
    robot: Client,
    condition: str,
    timeout: float = 30,
    until_not: bool = False,
    source: str = '',
) -> dict[str, Any]:
    watching = robot.watch(condition, timeout if timeout > 0 else 30, source, until_not)
    moment = watching.result()
    return {'happened': moment is not None, 'moment': _as_json(moment) if moment else None}


def _as_json(moment: Moment) -> dict[str, Any]:
    return {
        'start': moment.start_ns / 1e9,
        'end': moment.end_ns / 1e9,
        'score': round(moment.score, 3),
        'text': moment.text,
    }
