"""What this machine can take: settings that would bring it down are one line before anything begins."""

import os

from mpgen.errors import UserError

PROCESSES_A_CORE, PROCESSES_AT_LEAST = 4, 8
MAX_SIDE_PX, MAX_FPS = 4096, 240.0
MAX_BATCH = 4096  # videos a rank takes in one step


def check_devices(devices: object, on_cpu: bool) -> None:
    """Raises UserError for `trainer.devices` that cannot be: on a CPU each is a process, as many as Lightning is told.

    Args:
        devices: a number, or anything else that Lightning knows.
        on_cpu: they are no GPUs.
    """
    if on_cpu and str(devices).lstrip("-").isdecimal():
        check_processes(int(str(devices)), "trainer.devices")


def check_processes(count: int, option: str, at_least: int = 1) -> None:
    """Raises UserError for fewer processes than `at_least`, or for more than the cores can serve.

    Args:
        count: processes that are to run side by side.
        option: how it was given, for the error.
        at_least: the fewest that make sense.
    """
    cores = os.cpu_count() or 1
    most = max(PROCESSES_AT_LEAST, PROCESSES_A_CORE * cores)
    if not at_least <= count <= most:
        raise UserError(f"{option} {count}: wanted {at_least} to {most} processes; this machine has {cores} cores")
