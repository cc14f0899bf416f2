"""What `mpgen evaluate` leaves: a table in the terminal, scores.json, videos.csv, report.html."""

from pathlib import Path

from mpgen.evaluation.report.page import write_page
from mpgen.evaluation.tables import Evaluation, as_record, terminal_table, write_csv, write_json
from mpgen.evaluation.world import WorldScores


def write_evaluation(evaluation: Evaluation, output: Path, world: WorldScores) -> None:
    for name, reason in evaluation.absent.items():
        print(f"absent: {name}: {reason}")
    for warning in evaluation.warnings:
        print(f"note: {warning}")
    print(f"{len(evaluation.results)} videos scored, {len(evaluation.skipped)} files not; x100, ± 95 % interval")
    print(terminal_table(evaluation))
    write_json({**world.record, "evaluation": as_record(evaluation)}, output / "scores.json")
    write_csv(evaluation, output / "videos.csv")
    write_page(evaluation, output / "report.html", world)
    pictures = "".join(f", {path.relative_to(output)}" for _, path in world.pictures)
    print(f"{output / 'report.html'}, scores.json, videos.csv{pictures}")
