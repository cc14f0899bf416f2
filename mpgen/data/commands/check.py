"""`mpgen data check`: verify a cache and say what is wrong."""

from collections import Counter
from pathlib import Path

from mpgen import caveats
from mpgen.data.cache import CacheDirectory
from mpgen.data.check import check_cache, write_findings
from mpgen.data.manifest import read_training_records

SHOWN = 3  # findings of a kind

REMEDIES = {
    "no_index": "run `mpgen data cache` again, all its parts",
    "not_cached": "run `mpgen data cache` again",
    "text_missing": "run `mpgen data cache` again",
    "damaged": "run `mpgen data cache` again, it replaces them",
    "misplaced": "run `mpgen data cache` again, it replaces them",
    "stale": "run `mpgen data cache` again, it replaces them",
    "not_indexed": "run `mpgen data cache` again",
    "source_missing": "put the files back, or run `mpgen data filter` again",
    "not_finite": "remove these files and run `mpgen data cache` again",
    "wrong_shape": "remove these files and run `mpgen data cache` again",
    "wrong_dtype": "remove these files and run `mpgen data cache` again",
}


def check(data: Path, /, fast: bool = False, fingerprint: str | None = None) -> None:
    """Open everything in DATA/cache that DATA/manifest.csv needs, and say what is wrong; exit status 1 if anything is.

    Looked at are: fingerprint, source (still the same?), shapes, values that are not finite, text features, index.

    Example: mpgen data check DATA

    Args:
        data: the folder with manifest.csv and cache.
        fast: read headers only, not the numbers.
        fingerprint: which cache, if DATA holds several; the beginning of its name is enough.
    """
    directory = CacheDirectory.find(data / "cache", fingerprint)
    records, bad_rows = read_training_records(data / "manifest.csv")
    checked = check_cache(records, directory, headers_only=fast)
    hours = directory.settings.hours(checked.sections, checked.videos)
    print(f"{directory.path}: {directory.settings.summary}")
    caveats.say([said] if (said := directory.identity.get("caveat")) else [])
    print(f"good: {checked.videos} of {len(records)} videos, {checked.sections} sections, {hours:.2f} h")
    if checked.failed or bad_rows:
        print(f"rejected: {checked.failed} that cannot be used, {len(bad_rows)} bad rows of the manifest")
    if checked.sourceless:
        print(f"of {checked.sourceless} the source is gone; what was cached of them can be trained on")
    if checked.leftovers:
        size = sum(file.stat().st_size for file in checked.leftovers) / 1e6
        print(f"left by killed processes: {len(checked.leftovers)} files .*.tmp, {size:.1f} MB; nobody reads them")
    if not checked.findings:
        print("nothing is wrong" + (" with the headers" if fast else ""))
        return
    report = directory.path / "check.csv"
    write_findings(report, checked.findings)
    for kind, count in Counter(finding.kind for finding in checked.findings).most_common():
        print(f"{kind}: {count}; {REMEDIES[kind]}")
        for finding in [finding for finding in checked.findings if finding.kind == kind][:SHOWN]:
            print(f"  {finding.file}: {finding.detail}")
        if count > SHOWN:
            print(f"  and {count - SHOWN} more")
    print(f"all of them: {report}")
    raise SystemExit(1)
