"""Models on the Hub: a repository's id stands for its folder, which is fetched once and kept in the Hub's own cache."""

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from mpgen.checkpoints.plain import one_line
from mpgen.checkpoints.shipped import locate
from mpgen.checkpoints.sources import FULL
from mpgen.errors import UserError

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
OURS = (FULL, "config.json")
RELEASED = ("*.json", "*.safetensors", "*.txt", "*.model")  # of a whole pipeline, its tokenizers among them


def local_folder(source: Path | str, revision: str | None = None) -> Path:
    """The file or folder itself where there is one, else the snapshot of a repository on the Hub.

    Of a folder that `mpgen export` wrote only what is needed is fetched: not the part for diffusers where it holds most
    weights a second time.

    Args:
        source: a path, the name of weights that come with mpgen, or a repository's id such as owner/name.
        revision: a branch, tag or commit of the repository; its main branch if None.

    Raises:
        UserError: when it is neither, or cannot be fetched.
    """
    path = locate(Path(source))
    if path.exists():
        return path
    name = str(source)
    if not REPOSITORY.fullmatch(name):
        raise UserError(f"{name} does not exist: wanted a file or folder of weights, or a repository's id (owner/name)")
    folder = _fetch(name, revision, OURS)
    return folder if (folder / FULL).exists() else _fetch(name, revision, RELEASED)


def upload(folder: Path, repository: str, private: bool = False, message: str = "Upload from mpgen") -> str:
    """Puts a folder into a repository of the Hub, which is made if it is not there; returns the address of the commit.

    Needs a token that may write: `hf auth login`, or HF_TOKEN in the environment.

    Args:
        folder: what `mpgen export` wrote.
        repository: its id, such as owner/name.
        private: where it is made now, nobody else sees it.
        message: of the commit.

    Raises:
        UserError: the id is none, or the Hub does not take it.
    """
    if not REPOSITORY.fullmatch(repository):
        raise UserError(f"{repository}: wanted a repository's id (owner/name)")
    hub = HfApi()
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        return str(hub.upload_folder(repo_id=repository, folder_path=folder, commit_message=message))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UserError(f"{repository} cannot be written to on the Hub: {one_line(error)}") from error


def _fetch(repository: str, revision: str | None, files: Sequence[str]) -> Path:
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(files)))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UserError(
            f"{repository} is no file or folder here, and it cannot be fetched as a repository of the Hub: "
            f"{one_line(error)}"
        ) from error
