"""Time and memory of planning an epoch of very many videos.

python tools/benchmark_data_plan.py                      # 1,000,000 videos of 1 to 40 sections, 32 ranks
"""

import argparse
import resource
import time

import numpy as np

from mpgen.data.curriculum import Curriculum, Shuffled, Sorted, Staged, plan_epoch, summarise_plan


def main(videos: int, longest: int, world_size: int) -> None:
    """Prints seconds by curriculum, and the peak of the whole process."""
    counts = np.random.default_rng(0).integers(1, longest + 1, videos)
    steps = videos // world_size
    curricula: list[Curriculum] = [Sorted(), Shuffled(), Staged(((1, steps), (longest, steps)))]
    print(f"{videos} videos of 1 to {longest} sections, {world_size} ranks")
    for curriculum in curricula:
        began = time.perf_counter()
        groups = plan_epoch(counts, world_size=world_size, batch_size=1, seed=0, epoch=0, curriculum=curriculum)
        planned = time.perf_counter()
        made = summarise_plan(groups, counts)
        counted = time.perf_counter()
        print(
            f"  {type(curriculum).__name__:<9} planned in {planned - began:.2f} s, told in {counted - planned:.2f} s: "
            f"{made.steps} steps, {made.shortened} shortened, {made.unused} unused"
        )
    print(f"  peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--videos", type=int, default=1_000_000)
    options.add_argument("--longest", type=int, default=40, help="sections")
    options.add_argument("--world_size", type=int, default=32)
    chosen = options.parse_args()
    main(chosen.videos, chosen.longest, chosen.world_size)
