"""A repository of the Hugging Face hub, as a folder of MODEL_CACHE_DIR.

The layout is the hub library's: a snapshot of each commit, made of immutable files, and a ref that
maps a revision to its commit. The ref is written when the snapshot is complete, so that another
process that looks the revision up on the same volume finds all files.

After a killed download complete files are kept; after a broken connection the download continues
within a file.
"""

from __future__ import annotations

import errno
import json
import logging
import shutil
import time
from collections.abc import Collection
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Any

from huggingface_hub import (
    get_cached_repo_tree,
    is_offline_mode,
    model_info,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import logging as hub_logging
from huggingface_hub.utils.tqdm import tqdm

from inference_contract.inferencemodel import HubSource
from inference_contract.pods import DOWNLOADING
from inference_runner.sources import huggingface_files
from inference_runner.sources.locate import SourceError
from inference_runner.sources.progress import Progress

log = logging.getLogger(__name__)

_ASK_SECONDS = 10
_ABANDONED_SECONDS = 600
"""A partial file of this age is abandoned: downloads time out much earlier."""
_TOKEN = "set HF_TOKEN in spec.env, from a Secret"  # noqa: S105 - words
_MORE_ROOM = "make room, or raise spec.cache.size"


def fetch(hub: HubSource, cache: Path) -> Path:
    """The folder of the snapshot.

    A pinned revision in the cache is not looked up again. Without one the hub is asked for its
    newest commit; if it cannot be reached, the newest one in the cache is used. A folder named like
    the repository, placed there by hand, is used as it is.

    Raises:
        SourceError
    """
    by_hand = cache / (f"{hub.repo}@{hub.revision}" if hub.revision else hub.repo)
    if by_hand.is_dir():
        log.info("in the cache", extra={"repo": hub.repo, "folder": str(by_hand)})
        return by_hand
    _log_in_our_way()
    here: Path | None = None
    try:
        here = _cached(hub, cache)
        if here is None or (hub.revision is None and not is_offline_mode()):
            return _download(hub, cache)
    except SourceError:
        raise
    except Exception as error:
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else None
        if refusal := _refusal(hub, cache, cause or error):
            raise SourceError(refusal) from error
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        if here is None:
            raise SourceError(
                f"cannot download {hub.repo}: the hub does not answer; check the network, and "
                f"HF_ENDPOINT if it is set ({reason})"
            ) from error
        log.warning(
            "the hub does not answer: going on with what is in the cache",
            extra={"repo": hub.repo, "commit": here.name, "error": reason},
        )
    else:
        log.info("in the cache", extra={"repo": hub.repo, "commit": here.name})
    return here


def _cached(hub: HubSource, cache: Path) -> Path | None:
    """The snapshot, if it is complete in the cache. No network access."""
    try:
        found = snapshot_download(
            hub.repo,
            revision=hub.revision,
            cache_dir=cache,
            allow_patterns=[],
            local_files_only=True,
        )
    except LocalEntryNotFoundError:
        return None
    folder = Path(found)
    try:
        files = get_cached_repo_tree(hub.repo, revision=folder.name, cache_dir=cache)
    except CachedRepoTreeNotFoundError:  # Placed by hand, without the list of its files.
        return folder
    names = [file.path for file in files]
    wanted = huggingface_files.wanted(names, lambda name: _json(folder / name))
    return folder if all((folder / name).exists() for name in wanted) else None


def _download(hub: HubSource, cache: Path) -> Path:
    info = model_info(hub.repo, revision=hub.revision, files_metadata=True, timeout=_ASK_SECONDS)
    commit = str(info.sha)
    all_sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    wanted = huggingface_files.wanted(all_sizes, lambda name: _read(hub, cache, commit, name))
    sizes = {name: all_sizes[name] for name in sorted(wanted)}
    missing = [name for name in sizes if not _is_there(hub, cache, commit, name)]
    what, total = {"repo": hub.repo, "commit": commit}, sum(sizes.values())
    needed = sum(sizes[name] for name in missing)

    def report(done: int, percent: int) -> None:
        said = {**what, "percent": percent, "bytes": done, "total_bytes": total}
        log.info(DOWNLOADING, extra=said)

    progress = Progress(total - needed, total, report)
    if missing:
        _make_room(hub, cache, needed)
        progress.begin()
    snapshot = _get(hub, cache, commit, wanted, progress)
    if missing:
        progress.end()
    else:
        log.info("in the cache", extra=what)
    _write_ref(snapshot, hub.revision or "main", commit)
    return snapshot


def _get(
    hub: HubSource, cache: Path, commit: str, files: Collection[str], progress: Progress
) -> Path:
    snapshot = snapshot_download(
        hub.repo,
        revision=commit,
        cache_dir=cache,
        allow_patterns=[escape(file) for file in files],
        tqdm_class=_bar_of(progress),
    )
    return Path(snapshot)


def _read(hub: HubSource, cache: Path, commit: str, file: str) -> dict[str, Any]:
    """A small file that lists further needed files."""
    folder = _get(hub, cache, commit, [file], Progress(0, 0, lambda *_: None))
    return _json(folder / file)


def _json(file: Path) -> dict[str, Any]:
    """The file's JSON object; empty if it is something else."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_there(hub: HubSource, cache: Path, commit: str, file: str) -> bool:
    found = try_to_load_from_cache(hub.repo, file, cache_dir=cache, revision=commit)
    return isinstance(found, str)


def _make_room(hub: HubSource, cache: Path, needed: int) -> None:
    """Raises SourceError rather than fill a disk that others may share."""
    blobs = cache / repo_folder_name(repo_id=hub.repo, repo_type="model") / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    for partial in blobs.glob("*.incomplete"):
        with suppress(FileNotFoundError):
            if time.time() - partial.stat().st_mtime > _ABANDONED_SECONDS:
                partial.unlink()
    free = shutil.disk_usage(blobs).free
    if needed > free:
        raise SourceError(
            f"the disk is full: {hub.repo} needs {needed / 1e9:.1f} GB more, and {cache} "
            f"(MODEL_CACHE_DIR) has {free / 1e9:.1f} GB; {_MORE_ROOM}"
        )


def _write_ref(snapshot: Path, revision: str, commit: str) -> None:
    if revision == commit:
        return
    ref = snapshot.parent.parent / "refs" / revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    temporary = ref.with_name(f"{ref.name}.{time.time_ns()}.tmp")
    temporary.write_text(commit)
    temporary.replace(ref)


def _bar_of(progress: Progress) -> type[tqdm]:
    """A tqdm class for the hub's library that only counts.

    The library creates several bars: for files, received bytes, and written bytes. Either of the
    last two may be ahead, so the larger one counts.
    """
    start = progress.done

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._counts_bytes = kwargs.get("unit") == "B"
            self._bytes = start + int(kwargs.get("initial") or 0)
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]  # the library's

        def update(self, n: float | None = 1) -> bool | None:
            if self._counts_bytes:
                self._bytes += int(n or 0)
                progress.reach(self._bytes)
            return None

    return Bar


def _refusal(hub: HubSource, cache: Path, error: BaseException) -> str:
    """Why a retry is useless, and what to do; empty if a retry may succeed."""
    match error:
        case GatedRepoError():
            return f"{hub.repo} is gated: accept its terms on the hub, and {_TOKEN}"
        case RepositoryNotFoundError():
            return (
                f"the hub has no repository {hub.repo}, or it is private: correct "
                f"spec.source.hub.repo, or {_TOKEN}"
            )
        case RevisionNotFoundError():
            return f"{hub.repo} has no revision {hub.revision}: correct spec.source.hub.revision"
        case HfHubHTTPError() if error.response.status_code in (401, 403):
            code = error.response.status_code
            return f"the hub does not let us have {hub.repo} (HTTP {code}): {_TOKEN} that may"
        case HFValidationError():
            return f"spec.source.hub.repo is no name of a repository: {error}"
        case OfflineModeIsEnabled():
            return f"{hub.repo} is not in the cache, and HF_HUB_OFFLINE forbids to download it"
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return f"the disk of {cache} (MODEL_CACHE_DIR) is full: {_MORE_ROOM}"
        case OSError(errno=errno.EACCES | errno.EROFS | errno.EPERM):
            return f"cannot write to {cache} (MODEL_CACHE_DIR): {error}"
    return ""


def _log_in_our_way() -> None:
    """Log the library's warnings in our format, without a line for each request."""
    hub_logging.enable_propagation()
    logging.getLogger("huggingface_hub").handlers.clear()
    logging.getLogger("httpx2").setLevel(logging.WARNING)
