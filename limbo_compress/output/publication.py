"""Complete outputs take their names, all of one job or none: a journal survives any interruption.

Three steps, each on the disk before the next one begins:

1. a journal in the work folder says which files are to take which names;
2. older outputs are set aside, into the work folder;
3. the new ones take their names.

So at the final names there are all older outputs, fewer of them, some of the new ones, or all of
these, and never both old and new. Whoever finds the journal takes an interrupted publication back,
unless all files have their names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from ..errors import OutputError
from ..formats.filestate import open_regular
from ..oserrors import reading, writing
from ..plan import Job
from ..renaming import move
from .filesystem import sync_folders, write_synced

__all__ = ["Publication", "is_interrupted"]

_JOURNAL = "publication.json"
_OLDER = "older-"
_WAY_OUT = "move older-NAME from the work folder to PREFIX-NAME, and remove the journal"


@dataclass(frozen=True)
class Publication:
    """Files of a job that are complete and on the disk, and the names that they are to take.

    Attributes
    ----------
    job : Job
    sources : dict of str to (str or None)
        For each output, in the order in which they appear, the name of the file in its work
        folder; None for one that is to be missing.
    """

    job: Job
    sources: dict[str, str | None]

    @classmethod
    def read(cls, job: Job) -> Publication | None:
        """Read the journal of an interrupted publication, if there is one.

        Raises
        ------
        OutputError
            If it cannot be read.
        """
        path = job.work_path(_JOURNAL)
        try:
            with reading(path), suppress(FileNotFoundError), open_regular(path) as stream:
                journal = json.load(stream)
                return cls(replace(job, links=dict(journal["links"])), dict(journal["sources"]))
        except (ValueError, LookupError, TypeError) as error:
            raise OutputError("this journal is damaged", path, _WAY_OUT) from error
        with suppress(FileNotFoundError):
            if any(name.startswith(_OLDER) for name in os.listdir(job.folder)):
                raise OutputError("older outputs are here without a journal", job.folder, _WAY_OUT)
        return None

    def publish(self, check: Callable[[], None]) -> None:
        """Give all files their names.

        Parameters
        ----------
        check : callable
            Called before each rename; raises an error if the work is no longer this run's.

        Raises
        ------
        OSError, OutputError
            If a file cannot be renamed, or a folder not be synced. Then older outputs are back,
            as far as that is possible, unless all new ones have their names.
        """
        journal = {"links": dict(self.job.links), "sources": self.sources}
        # The names of the files themselves must be on the disk before the journal is.
        sync_folders(self._work_folders())
        draft = self.job.own_path(_JOURNAL)
        write_synced(self.job.work_path(_JOURNAL), json.dumps(journal), draft)
        try:
            self._set_aside(check)
            for file_name, path in self._files():
                check()
                with writing(self.job.final_path(file_name)):
                    move(path, self.job.real_path(file_name))
            sync_folders(self._final_folders())
        except BaseException:
            with suppress(OSError, OutputError):  # the next run does it
                self.settle()
            raise

    def settle(self) -> bool:
        """End what was interrupted: return whether all files have their names, or take them back.

        To take back is to return the files to the work folder, then older outputs to their names.
        Doing it twice changes nothing.

        Raises
        ------
        OSError, OutputError
            If a file cannot be renamed, or a folder cannot be synced.
        """
        for folder in self._work_folders():
            if not os.path.isdir(folder):
                problem = "a publication was interrupted, and its work is missing: mount its disk"
                raise OutputError(problem, folder, f"to give it up, {_WAY_OUT}")
        if not any(map(os.path.lexists, self._unnamed())):
            sync_folders(self._final_folders())
            return True
        for file_name, path in reversed(list(self._files())):
            final = self.job.real_path(file_name)
            if _is_same(path, final):
                # Not removed by its final name: another run may have taken over and published.
                move(final, f"{path}-again")
                os.unlink(f"{path}-again")
            elif not os.path.lexists(path) and os.path.lexists(final):
                move(final, path)
        self._sync()
        for file_name in self.sources:
            aside, final = self._aside(file_name), self.job.real_path(file_name)
            if _is_same(aside, final):
                os.unlink(aside)
            elif os.path.lexists(aside):
                if os.path.lexists(final):
                    problem = "a new file has this name, to which an older output must be returned"
                    raise OutputError(problem, final, "move it away")
                move(aside, final)
        self._sync()
        os.unlink(self.job.work_path(_JOURNAL))
        return False

    def _set_aside(self, check: Callable[[], None]) -> None:
        found = [name for name in self.sources if os.path.lexists(self.job.real_path(name))]
        for file_name in found:
            check()
            with writing(self.job.final_path(file_name)):
                move(self.job.real_path(file_name), self._aside(file_name))
        if found:
            self._sync()

    def _files(self) -> Iterable[tuple[str, str]]:
        """Yield each output that is to appear, and its path in the work folder."""
        for file_name, source in self.sources.items():
            if source is not None:
                yield file_name, os.path.join(self.job.work_folder(file_name), source)

    def _unnamed(self) -> Iterable[str]:
        """Yield the path of each file that may not have its name yet."""
        for file_name, path in self._files():
            if not _is_same(path, self.job.real_path(file_name)):
                yield path

    def _aside(self, file_name: str) -> str:
        return os.path.join(self.job.work_folder(file_name), _OLDER + file_name)

    def _work_folders(self) -> set[str]:
        return {self.job.folder, *map(self.job.work_folder, self.sources)}

    def _final_folders(self) -> set[str]:
        return {os.path.dirname(self.job.real_path(name)) for name in self.sources}

    def _sync(self) -> None:
        sync_folders(self._final_folders() | self._work_folders())


def _is_same(path: str, final: str) -> bool:
    """Whether a file has both names, as a rename leaves it on Btrfs if the power fails after it."""
    with suppress(FileNotFoundError):
        return os.path.samefile(path, final)
    return False


def is_interrupted(folder: str) -> bool:
    """Whether the work in a folder was being published when its run ended."""
    return os.path.lexists(os.path.join(folder, _JOURNAL))
