import re

from command_line import generate
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.custom_scalar.metadata import CONFIG_SUMMARY_TAG as CONFIG_TAG

from mpgen.evaluation.callback import SampleScores
from mpgen.training.callbacks.panels import PANELS, Panels
from mpgen.training.callbacks.progress import ClosingWords, ResumedProgressBar
from mpgen.training.callbacks.samples import SampleVideos
from mpgen.training.callbacks.throughput import Throughput


def test_a_run_ends_by_saying_what_it_made_and_what_to_type_next(fit, make_module, make_small_data, tmp_path, capsys):
    sampler = SampleVideos(num_videos=1, num_sections=1, steps=1)
    fit(
        make_module(), make_small_data(), tmp_path, 2,
        callbacks=[sampler, SampleScores(), Throughput(1), Panels(), ClosingWords()], limit_val_batches=1,
        val_check_interval=2, log_every_n_steps=1, logger=TensorBoardLogger(tmp_path, name="", version=""),
    )  # fmt: skip
    said = capsys.readouterr().out
    assert "done: steps 0 to 2 in 0 min" in said
    assert f"{tmp_path / 'last.ckpt'}" in said
    assert f"{sampler.written[0].parent} (1 mp4" in said
    assert f"tensorboard --logdir {tmp_path}" in said
    assert f"mpgen generate --ckpt_path {tmp_path / 'last.ckpt'}" in said
    events = EventAccumulator(str(tmp_path)).Reload()
    layout = Layout.FromString(events.Tensors(CONFIG_TAG)[0].tensor_proto.string_val[0])
    assert [page.title for page in layout.category] == list(PANELS)
    names = events.Tags()["scalars"]
    for chart in (chart for page in layout.category for chart in page.chart):
        found = [name for pattern in chart.multiline.tag for name in names if re.search(pattern, name)]
        assert found, f"no number of a run is drawn in {chart.title!r}"
        assert len(set(found)) == len(found)


def test_weights_that_stay_random_are_told_at_both_ends_and_in_what_is_made(
    fit, make_module, make_small_data, trained, tmp_path, capsys
):
    head = {"train": ["backbone.proj_out.*"]}
    fit(make_module(**head, init_from=trained), make_small_data(), tmp_path / "a", 1, callbacks=[ClosingWords()])
    assert "WARNING" not in capsys.readouterr().err
    fit(make_module(**head), make_small_data(), tmp_path / "b", 1, callbacks=[ClosingWords()])
    assert capsys.readouterr().err.count("! WARNING: ") == 2
    generate(tmp_path / "out.mp4", tmp_path / "b" / "last.ckpt", scene="bounce", seconds=0.1, steps=1)
    assert "parameters are random and stay so" in " ".join(capsys.readouterr().err.split())


class BarsFirstStep(ResumedProgressBar):
    """Keeps what the bar shows after the first step."""

    def on_train_batch_end(self, *given) -> None:
        super().on_train_batch_end(*given)
        if not hasattr(self, "shown"):
            self.shown = self.train_progress_bar.format_dict


def test_a_resumed_bar_counts_on_from_what_was_done(fit, make_module, make_small_data, tmp_path):
    whole, resumed = BarsFirstStep(), BarsFirstStep()
    fit(make_module(), make_small_data(), tmp_path, 1, callbacks=[whole], enable_progress_bar=True)
    last = tmp_path / "last.ckpt"
    fit(make_module(), make_small_data(), tmp_path, 2, callbacks=[resumed], enable_progress_bar=True, ckpt_path=last)
    shown = [[bar.shown[key] for key in ("initial", "n", "total")] for bar in (whole, resumed)]
    assert shown == [[0, 1, 1], [1, 2, 2]]  # so the rate is of one step
