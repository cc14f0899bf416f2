"""Generation from Python in a few lines, as users of diffusers know it.

pipeline = MemoryPackPipeline.from_pretrained("exported")
pipeline(image="cat.png", prompt="a cat walks", seconds=60).save("cat.mp4")
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mpgen import caveats
from mpgen.backbones.eight_bit import EightBit
from mpgen.checkpoints import LoadedModel
from mpgen.checkpoints.export import export_model
from mpgen.checkpoints.hub import local_folder, upload
from mpgen.checkpoints.sources import FULL, find_transformer, read_json
from mpgen.errors import UserError
from mpgen.generation.denoising import Denoising
from mpgen.generation.models import choose_device
from mpgen.generation.pipeline import Job, Made, generate_video, stream_frames
from mpgen.generation.rollout import Sampling
from mpgen.generation.sizes import ExactSize, OwnSize, Size
from mpgen.generation.starts.base import Making, check_seconds
from mpgen.generation.weights import Released, Trained, Weights
from mpgen.outputs import check_file
from mpgen.sections import Forward
from mpgen.video.pictures import cover, read_picture, to_rgb

DENOISER = "denoiser"  # a key of the card that `mpgen export` writes, and of no released one
Picture = Path | str | Image.Image | np.ndarray


@dataclass(frozen=True)
class Video:
    """A video that is made when its frames are taken or when it is saved.

    Args:
        model: makes it.
        job: what to make.
        sampling: how.
    """

    model: LoadedModel
    job: Job
    sampling: Sampling

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """Its frames, the start image first, as they come; memory does not grow with their number."""
        return stream_frames(self.model, self.job, self.sampling)

    def save(self, output: Path | str, overwrite: bool = False, progress: bool = True) -> Made:
        """Writes it as an mp4, as `mpgen generate` does, with a JSON of the same name beside it.

        Raises:
            UserError: when it cannot be written there.
        """
        output = Path(output)
        check_file(output, "output", ".mp4", overwrite)
        return generate_video(self.model, replace(self.job, output=output), self.sampling, progress)


class MemoryPackPipeline:
    """A model that makes videos.

    Args:
        model: ready to generate.
        weights: where it came from, which says the usual shift, and whether it has a size of its own.
    """

    def __init__(self, model: LoadedModel, weights: Weights):
        self.model, self.weights = model, weights

    @classmethod
    def from_pretrained(
        cls,
        source: Path | str,
        *,
        memory: Path | str | None = None,
        encoders: Path | str | None = None,
        lora: Sequence[Path] = (),
        ema: bool = True,
        device: str | None = None,
        offload: bool = False,
        block_weights: EightBit | None = None,
        revision: str | None = None,
    ) -> "MemoryPackPipeline":
        """A model of a folder, or of a repository on the Hub.

        Args:
            source: a folder of `mpgen export`, a checkpoint or run folder of `mpgen fit`, a folder with released
                weights, or the id of a repository with one of them, such as owner/name.
            memory: for released weights: a checkpoint or exported folder whose weights override those.
            encoders: for released weights: the pipeline's folder with the encoders, if elsewhere.
            lora: for released weights: LoRA files to merge.
            ema: use the averaged weights of a checkpoint.
            device: where to compute; a GPU if there is one.
            offload: for a model larger than the GPU.
            block_weights: int8 or float8 keeps the blocks' weights in 8 bits.
            revision: of the repository.

        Raises:
            UserError: when something is missing, damaged or does not fit.
        """
        path = local_folder(source, revision)
        weights: Weights
        if _is_released(path):
            beside = [None if other is None else local_folder(other) for other in (memory, encoders)]
            weights = Released(path, *beside, lora, ema)
        elif memory is not None or encoders is not None or lora:
            raise UserError(f"{path} knows its own memory and encoders: wanted no memory, encoders or lora with it")
        else:
            weights = Trained(path, ema)
        model = weights.load(choose_device(device), offload, block_weights)
        caveats.say(model.card.get("caveats", ()))
        return cls(model, weights)

    def save_pretrained(self, folder: Path | str) -> None:
        """Writes the folder of `mpgen export`, which can be uploaded to the Hub as it is; it must not be there.

        Raises:
            UserError: when it is there, or the model's encoders or network cannot be described in it.
        """
        export_model(self.model, Path(folder))

    def push_to_hub(self, repository: str, private: bool = False, message: str = "Upload from mpgen") -> str:
        """Uploads what `save_pretrained` writes, its model card too; returns the address of the commit.

        Args:
            repository: its id, such as owner/name; made if it is not there.
            private: where it is made now, nobody else sees it.
            message: of the commit.

        Raises:
            UserError: the model cannot be described, or the Hub does not take it.
        """
        with TemporaryDirectory() as scratch:
            folder = Path(scratch) / repository.rpartition("/")[2]
            export_model(self.model, folder)
            return upload(folder, repository, private, message)

    def __call__(
        self,
        image: Picture | None = None,
        prompt: str = "",
        seconds: float = 5.0,
        *,
        denoising: Denoising = Denoising(),  # noqa: B008 - frozen
        height_px: int | None = None,
        width_px: int | None = None,
        fps: float | None = None,
    ) -> Video:
        """A video that begins with `image`, or from the text alone.

        Args:
            image: the first frame, scaled to cover the video's size and cropped: a file, a picture or an array; None
                for a video of a text alone, with Helios or Wan.
            prompt: the text.
            seconds: length of what is made, rounded up to whole sections.
            denoising: sampler, steps, seed and the like, as the options of `mpgen generate`.
            height_px: of the video; the model's own, or one that suits the picture, if None.
            width_px: likewise.
            fps: frames a second; those of training if None.

        Raises:
            UserError: when the picture cannot be read or a value is out of range.
        """
        check_seconds(seconds)
        if (height_px is None) != (width_px is None):
            raise UserError(f"height_px={height_px}, width_px={width_px}: wanted both or neither")
        size: Size = OwnSize() if height_px is None else ExactSize(height_px, width_px)
        model = self.model if fps is None else replace(self.model, fps=fps)
        making = Making(model, size, self.weights.any_size, Path("video.mp4"), Forward, denoising.seed)
        start, blank_px = None, None
        if image is None:
            blank_px = making.blank_px()
        else:
            picture = _picture(image)
            start = cover(picture, *making.size_for((picture.height, picture.width)))
        job = Job(prompt, start, None, making.sections(seconds), making.output, blank_px=blank_px)
        return Video(model, job, denoising.of(model, job, self.weights.shift))


def _is_released(path: Path) -> bool:
    """Whether released weights are there, and not what `mpgen fit` or `mpgen export` wrote."""
    exported = (path / FULL).exists() or (
        (path / "config.json").exists() and DENOISER in read_json(path / "config.json")
    )
    described = find_transformer(path) / "config.json"
    return not exported and described.exists() and "_class_name" in read_json(described)


def _picture(image: Picture) -> Image.Image:
    if isinstance(image, (str, Path)):
        return read_picture(Path(image), "image")
    if not isinstance(image, np.ndarray):
        return to_rgb(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(f"image is an array of {image.dtype} {list(image.shape)}: wanted uint8 [height, width, 3]")
    return Image.fromarray(image)
