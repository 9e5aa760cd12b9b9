"""Croissant 1.1: a data set described for machines, as JSON-LD.

The format: https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from .. import filenames
from ..dataset.citations import OWNER, PAPER, RULES, TERMS, report
from ..dataset.dataset import Dataset
from ..dataset.source import Source
from ..errors import UsageError, shown
from ..oserrors import machine_errors
from ..run.executor import Progress
from .description import Description, counted, describe, write_text

__all__ = ["write_croissant"]

_BLOCK_BYTES = 1 << 20
_MOST = 1000
# The context of the specification, as mlcroissant expects it.
_TERMS = {
    "cr": (
        *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract"),
        *("field", "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray"),
        *("isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet"),
        *("references", "regex", "repeated", "replace", "samplingRate", "separator", "source"),
        *("subField", "transform"),
    ),
    "dct": ("conformsTo",),
}
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "description": {"@container": "@language"},
    "name": {"@container": "@language"},
    **{term: f"{prefix}:{term}" for prefix, terms in _TERMS.items() for term in terms},
}
_VERSION = "http://mlcommons.org/croissant/1.1"
_NPY = "https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html"
_PICKLE = "https://docs.python.org/3/library/pickle.html"
_TYPES = {"f": "sc:Float", "i": "sc:Integer", "b": "sc:Boolean", "O": "sc:Text"}


@machine_errors()
def write_croissant(
    dataset: Dataset, path: str | os.PathLike[str], progress: Progress | None = None
) -> str:
    """Write a description of whole outputs in Croissant 1.1: files, fields, licenses, counts.

    It is made of the index, and of the SHA-256 of each file, which Croissant demands: all files are
    read once. The same outputs give the same bytes. Addresses of files are relative to its folder.

    Parameters
    ----------
    dataset : Dataset
        All rows of its prefixes.
    path : path
        A file of this name is replaced.
    progress : callable, optional
        Called as ``progress(done, rows)``.

    Returns
    -------
    str
        The path.

    Raises
    ------
    UsageError
        If only some rows are chosen, or a prefix is there twice.
    InputError
        If the outputs cannot be read.
    OutputError
        If the file cannot be written.
    """
    path = os.fsdecode(path)
    found = describe(dataset)
    if not np.array_equal(dataset.row_numbers, np.arange(found.total)):
        problem = f"Croissant describes whole files, but {found.rows:,} of {found.total:,} rows"
        raise UsageError(f"{problem} are chosen", hint="compress these rows on their own")
    files = list(_files(dataset, os.path.dirname(os.path.abspath(path))))
    record = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": _VERSION,
        "name": found.name,
        "description": found.text,
        **_terms(found),
        "keywords": ["limbo", "nuclear safeguards", *(["synthetic"] if found.synthetic else [])],
        "rai:dataPreprocessingProtocol": ["\n".join(filter(None, each)) for each in found.made],
        "rai:dataLimitations": found.limits,
        "distribution": list(_distribution(files, len(dataset), progress)),
        "recordSet": [*_counts(found), *map(_rows, files)],
    }
    known = {key: value for key, value in record.items() if value}
    write_text(path, json.dumps(known, ensure_ascii=False, indent=1) + "\n")
    return path


def _terms(found: Description) -> dict[str, Any]:
    """Return licenses as the metadata name them, and what Limbo's documentation asks for."""
    named = [text for pair in found.credits.groups(2, 1) for text in [pair[0] or pair[1]] if text]
    licenses = [shown(text) for text in dict.fromkeys(named)][:_MOST]
    if not found.is_limbo:
        return {"license": licenses}
    reports = [report(name) for name in found.campaigns if name]
    cited = "; ".join(dict.fromkeys(filter(None, reports)))
    return {
        "license": [TERMS, *licenses],
        "usageInfo": " ".join(RULES),
        "citeAs": f"{PAPER} {cited}",
        "copyrightNotice": OWNER if found.synthetic else None,
    }


class _File(NamedTuple):
    source: Source
    rows: Dataset
    name: str  # without the prefix
    address: str  # from the folder of the description

    @property
    def id(self) -> str:
        return quote(os.fsencode(self.address))


def _files(dataset: Dataset, folder: str) -> Iterator[_File]:
    for (source, _, _), (_, rows) in zip(dataset.parts(), dataset.prefixes, strict=True):
        names = [*map(filenames.array_file, source.arrays)]
        for name in (*names, *([filenames.METADATA] if source.has_metadata else [])):
            yield _File(source, rows, name, os.path.relpath(source.file_path(name), folder))


def _distribution(
    files: Sequence[_File], rows: int, progress: Progress | None
) -> Iterator[dict[str, Any]]:
    """Yield the record of each file, which is read for its SHA-256."""
    done, total = 0, sum(os.stat(file.source.file_path(file.name)).st_size for file in files)
    for file in files:
        digest, start = hashlib.sha256(), done
        with file.source.open(file.name) as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
                done += len(block)
                if progress is not None:
                    progress(done * rows // total, rows)
        yield {
            "@type": "cr:FileObject",
            "@id": file.id,
            "name": shown(os.path.basename(file.address)),
            "contentUrl": shown(file.address),
            "contentSize": f"{done - start} B",
            "encodingFormat": _PICKLE if file.name == filenames.METADATA else _NPY,
            "sha256": digest.hexdigest(),
        }


def _counts(found: Description) -> Iterator[dict[str, Any]]:
    """Yield record sets that hold their records: rows by prefix, campaign and category."""
    if len(found.prefixes) > 1:
        about = "The prefixes, which count as splits, in the order of their rows."
        yield {**_held("splits", about, found.prefixes), "dataType": "cr:Split"}
    campaigns = {name or "": rows for name, rows in found.campaigns.items()}
    about = "Rows by campaign, as the path of the sample names it; empty if it is not known."
    reports = [report(name) or "" for name in campaigns]
    yield _held("campaigns", about, campaigns, report=reports)
    if found.categories:
        about = "Rows that have each category."
        yield _held("categories", about, dict(counted(found.categories, _MOST)))


def _held(name: str, about: str, counts: Mapping[str, int], **more: Any) -> dict[str, Any]:
    """Make a record set that holds its records: names, numbers of rows and more columns."""
    record_set = _record_set(name, about)
    columns = {"name": [*map(shown, counts)], "rows": [*counts.values()], **more}
    kinds = {column: "sc:Integer" if column == "rows" else "sc:Text" for column in columns}
    fields = [_field(record_set, column, kind) for column, kind in kinds.items()]
    ids = [field["@id"] for field in fields]
    records = [dict(zip(ids, each, strict=True)) for each in zip(*columns.values(), strict=True)]
    return {**record_set, "key": {"@id": ids[0]}, "field": fields, "data": records}


def _rows(file: _File) -> dict[str, Any]:
    """Make the record set of a file. Its records are the rows."""
    record_set = _record_set(
        f"rows/{file.id}", "A record for each row, in order. Read it with limbo_compress.load."
    )
    content = {"fileObject": {"@id": file.id}, "extract": {"fileProperty": "content"}}
    fields = [{**field, "source": content} for field in _fields(file, record_set)]
    return {**record_set, "field": fields}


def _fields(file: _File, record_set: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a field for the rows of an array, or for each column of the table of samples."""
    if (array := filenames.array_of_file(file.name)) is not None:
        found = file.rows.rows(array)
        field = _field(record_set, array, f"cr:{found.dtype.name.title()}")
        yield {**field, "isArray": True, "arrayShape": ",".join(map(str, found.shape[1:]))}
        return
    for column, values in file.rows.table(file.rows.columns[:_MOST]).items():
        yield _field(record_set, column, _TYPES[values.dtype.kind])


def _record_set(name: str, about: str) -> dict[str, Any]:
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "description": about}


def _field(record_set: Mapping[str, Any], name: str, kind: str) -> dict[str, Any]:
    id_ = f"{record_set['@id']}/{quote(name.encode('utf-8', 'surrogatepass'))}"
    return {"@type": "cr:Field", "@id": id_, "name": shown(name), "dataType": kind}
