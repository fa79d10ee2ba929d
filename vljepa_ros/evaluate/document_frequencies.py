# SPDX-License-Identifier: Apache-2.0
"""`python -m vljepa_ros.evaluate.document_frequencies DATA/test`: write the corpus of CIDEr-D.

A document is an annotation of the test split with the five reference paraphrases of its concept.
The file `document_frequencies.json` therefore stores only the number of annotations per concept:
{"documents": N, "annotations": {concept id: count}}. The n-gram frequencies follow from it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from vljepa_ros.core.errors import InputError, OutputError, VljepaError
from vljepa_ros.core.exit_status import ExitStatus
from vljepa_ros.data import concepts
from vljepa_ros.data.concepts import ConceptSet
from vljepa_ros.data.format import Stream, open_split
from vljepa_ros.evaluate.cider import Cider

FILE = Path(__file__).with_name('document_frequencies.json')
REFERENCES = 5


def references(known: ConceptSet, concept: str) -> tuple[str, ...]:
    """Return the five fixed reference paraphrases of a concept."""
    return known.sentences(concept)[:REFERENCES]


def count(streams: Sequence[Stream]) -> dict[str, int]:
    """Return the number of annotations per concept id; ignore annotations of unknown tasks."""
    tasks = concepts.of(streams).tasks
    found = Counter(
        item.meaning for stream in streams for item in stream.annotations if item.task in tasks
    )
    return dict(sorted(found.items()))


def save(counts: Mapping[str, int], path: Path = FILE) -> None:
    """Write annotation counts as JSON. Raises OutputError if the file cannot be written."""
    content = {'documents': sum(counts.values()), 'annotations': dict(counts)}
    try:
        path.write_text(json.dumps(content, indent=0) + '\n', encoding='utf-8')
    except OSError as error:
        raise OutputError(f'cannot write {path}: {error.strerror or error}') from error


def load(path: Path = FILE) -> dict[str, int] | None:
    """Return the annotation counts of a file; None if it does not exist.

    Raises:
        InputError: The file is damaged.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        counts = {str(meaning): int(n) for meaning, n in content['annotations'].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f'{path} is damaged: {error!r}') from error
    if sum(counts.values()) != content['documents']:
        raise InputError(f'{path} is damaged: its counts do not sum to {content["documents"]}')
    return counts


def scorer(streams: Sequence[Stream], path: Path = FILE) -> tuple[Cider, str]:
    """Return a CIDEr-D scorer and a description of its corpus.

    Its document frequencies follow from the annotation counts in `path`. If the file does not
    exist, the annotations of `streams` are counted instead.
    """
    counts = load(path)
    corpus = 'the test split'
    if counts is None:
        counts, corpus = count(streams), 'the given streams'
    known = concepts.of(streams)
    cider = Cider([references(known, name) for name in counts], list(counts.values()))
    return cider, f'{sum(counts.values()):,} annotations of {corpus}'


def main(arguments: list[str] | None = None) -> int:
    """Count a split's annotations and write the file; return the exit status."""
    parser = argparse.ArgumentParser(
        prog='python -m vljepa_ros.evaluate.document_frequencies',
        description="Count the test split's annotations into document_frequencies.json.",
    )
    parser.add_argument('split', type=Path, help='folder of the test split')
    parser.add_argument('--out', type=Path, default=FILE, help=f'file to write (default: {FILE})')
    args = parser.parse_args(arguments)
    try:
        split = open_split(args.split)
        if split.skipped or not split.streams:
            raise InputError(
                f'{args.split} has {len(split.streams)} complete and {len(split.skipped)} other '
                'streams, but must have only complete streams, at least one'
            )
        counts = count(split.streams)
        save(counts, args.out)
    except VljepaError as error:
        print(f'error: {error}', file=sys.stderr)
        return ExitStatus.BAD_INPUT
    print(f'{args.out}: {sum(counts.values()):,} annotations of {len(counts):,} concepts')
    return ExitStatus.OK


if __name__ == '__main__':
    sys.exit(main())
