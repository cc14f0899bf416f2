"""Does this machine's GPU do what mpgen promises? One command, no weights, no data; at most 20 minutes.

    python tools/check_gpu.py                        # all checks, each in a process of its own
    python tools/check_gpu.py --only stage_2 offload
    python tools/check_gpu.py --tiny                 # the program itself, on a CPU, in seconds; says nothing of a GPU

Networks have the released widths, a few blocks and random weights; they are compared with diffusers' (mpgen[hunyuan]).
Writes a JSON after every check and prints a table at the end. The same command goes on where it was stopped; checks
that held or did not are not made again (--again). Nobody has run this on a GPU yet: please send the JSON, as
.github/gpu/NAME.json.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from gpu_checks import CHECKS, ROOT, NotTried, bench

from mpgen.atomic import replacing
from mpgen.text_table import aligned

HELD, FAILED, NOT_TRIED = "held", "did not hold", "not tried"
LONGEST = 400  # seconds of one check; what hangs is ended

Result = dict[str, Any]


def machine(tiny: bool) -> dict[str, Any]:
    """What was checked on, by which figures of two machines are told apart."""

    def installed(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    said = {
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        "mpgen": commit or installed("mpgen"),
        **{name: installed(name) for name in ("torch", "diffusers", "flash-attn", "sageattention", "xformers")},
    }
    if tiny:
        return {"gpu": None, "tiny": True} | said
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "gpus": torch.cuda.device_count(),
        "memory_gb": properties.total_memory / 1e9,
    } | said


def checked(name: str, tiny: bool) -> Result:
    """The result of one check, in this process."""
    began = time.perf_counter()
    try:
        with bench(tiny) as place:
            found = CHECKS[name].run(place)
        verdict, said, figures = HELD if found.held else FAILED, found.said, found.figures
    except NotTried as why:
        verdict, said, figures = NOT_TRIED, str(why), {}
    except Exception as error:  # says so, and the next check is made
        verdict, said, figures = FAILED, f"{type(error).__name__}: {error}"[:500], {}
    taken = round(time.perf_counter() - began, 2)
    promise = CHECKS[name].promise
    return {"promise": promise, "verdict": verdict, "said": said, "figures": figures, "seconds": taken}


def checked_apart(name: str, seconds: float, ran_out: bool) -> Result:
    """The same in a process of its own: a GPU that one check leaves broken is whole for the next."""
    command = [sys.executable, __file__, "--inside", name]
    began = time.perf_counter()
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        return json.loads(ended.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        verdict, said = (NOT_TRIED if ran_out else FAILED), f"ended after {seconds:.0f} s"
    except (json.JSONDecodeError, IndexError):
        verdict, said = FAILED, f"its process ended with {ended.returncode}: {ended.stderr.strip()[-300:]}"
    taken = round(time.perf_counter() - began, 2)
    return {"promise": CHECKS[name].promise, "verdict": verdict, "said": said, "figures": {}, "seconds": taken}


def check_all(
    names: list[str], output: Path, minutes: float, place: dict[str, Any], again: bool,
    run: Callable[[str, float, bool], Result],
) -> dict[str, Result]:  # fmt: skip
    """Makes the checks that the file does not hold yet, and writes it after each."""
    found = {} if again else _before(output, place)
    ends = time.monotonic() + 60 * minutes
    for number, name in enumerate(names, start=1):
        if found.get(name, {}).get("verdict") in (HELD, FAILED):
            print(f"[{number}/{len(names)}] {name}: {found[name]['verdict']} before", flush=True)
            continue
        left = ends - time.monotonic()
        print(f"[{number}/{len(names)}] {name} ({max(left, 0) / 60:.0f} minutes left) ...", flush=True)
        if left <= 0:
            promise, said = CHECKS[name].promise, f"{minutes:g} minutes were over; the same command goes on"
            found[name] = {"promise": promise, "verdict": NOT_TRIED, "said": said, "figures": {}, "seconds": 0.0}
        else:
            found[name] = run(name, min(left, LONGEST), left < LONGEST)
        print(f"    {found[name]['verdict']}: {found[name]['said']}", flush=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(output) as path:
            path.write_text(json.dumps({"machine": place, "checks": found}, indent=1) + "\n", encoding="utf-8")
    return found


def _before(output: Path, place: dict[str, Any]) -> dict[str, Result]:
    try:
        kept = json.loads(output.read_text(encoding="utf-8"))
        return kept["checks"] if kept["machine"] == place else {}
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
        return {}


def main() -> None:
    """Command line entry; the status is 1 if a promise did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny sizes on a CPU")
    parser.add_argument("--minutes", type=float, default=20, help="at most (default 20)")
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS), metavar="CHECK", help="some of them")
    parser.add_argument("--again", action="store_true", help="make checks again that the file holds")
    parser.add_argument("--output", type=Path, help="JSON; default runs/check_gpu/NAME OF THE GPU.json")
    parser.add_argument("--inside", choices=CHECKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.tiny and not torch.cuda.is_available():
        sys.exit("check_gpu: no GPU here; wanted one that torch.cuda sees, or --tiny to try the program on a CPU")
    if options.inside:
        print(json.dumps(checked(options.inside, options.tiny)))
        return
    place = machine(options.tiny)
    name = (place["gpu"] or "tiny").replace(" ", "_").replace("/", "_")
    output = options.output or Path("runs/check_gpu") / f"{name}.json"
    here = lambda name, *_: checked(name, tiny=True)  # noqa: E731
    run = here if options.tiny else checked_apart
    found = check_all(options.only, output, options.minutes, place, options.again, run)
    print(aligned([[name, found[name]["verdict"]] for name in options.only]))
    for name in options.only:
        print(f"{found[name]['verdict']:<13} {found[name]['promise']}: {found[name]['said']}")
    print(f"written to {output}" + ("" if options.tiny else "; please send it as .github/gpu/NAME.json"))
    sys.exit(any(found[name]["verdict"] == FAILED for name in options.only))


if __name__ == "__main__":
    main()
