"""`mpgen data remove`: free the disk of a cache that is no longer wanted."""

from pathlib import Path
from shutil import rmtree

from mpgen.data.cache import CacheDirectory


def remove(data: Path, fingerprint: str, /) -> None:
    """Remove one cache of DATA/cache; its videos stay, and `mpgen data cache` would encode them again.

    Example: mpgen data remove DATA 3f2a

    Args:
        data: the folder with the cache.
        fingerprint: which; the beginning of its name is enough, and a wrong one lists those that are there.
    """
    directory = CacheDirectory.find(data / "cache", fingerprint)
    summary, files = directory.settings.summary, [path for path in directory.path.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    (directory.path / "fingerprint.json").unlink()  # first: what is left of it is then no cache
    rmtree(directory.path)
    print(f"removed {directory.path} ({summary}): {len(files)} files, {size / 1e6:,.1f} MB")
