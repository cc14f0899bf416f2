"""mpgen: minute-long video from one image and a prompt (*Pack and Force Your Memory*, arXiv 2510.01784).

The map, from the bottom up (imports go down only):

- `flow`, `sampling`, `sections`: rectified flow (§4.2.1-2), samplers, all frame arithmetic;
- `conditioning`, `attention`: text and image features as one value; attention with its backends;
- `schedule`: which sections are noisy side by side (FramePack's one, MAGI-1's window);
- `backbones`: the diffusion transformers; `encoders`: pixels, text and images to features and back;
- `memory`: FramePack and SemanticPack (§4.1); `past`: history and memory as one value; `denoiser`: the whole;
- `video`: reading and writing files; `optical_flow`: RAFT; `world`: videos whose truth is known, and their scores;
- `data`: videos to ordered sections with a curriculum (§6.4); `checkpoints`: weights in and out;
- `generation`: sections to video; `training`: Direct Forcing and its alternatives (§4.2); `planner`: what a run costs;
  `comparison`: two runs side by side;
- `evaluation`: scores, from frames only; `arena`: blind comparison by people; `studio`: a page to make videos on;
- `cli`: the commands; `parser`, `options`, `configs`, `faults`: their options, configs and errors in one line;
- `atomic`, `outputs`, `text_table`, `html`: what is written; `products`: matrix products on a CPU;
- `machine`: what processes and sizes it can take; `caveats`: what makes results mean less, said loudly.

The words:

- clip: pixels cut from a video. latents: a clip as the autoencoder encodes it. section: the latent frames made by one
  denoising. stage: the steps in which the same sections are denoised side by side.
- history: the sections already there. memory: psi, the long-term tokens. past: both. context: their packed tokens.
- conditioning: text and image features. guidance: classifier-free guidance (CFG), by its scale, and nothing else.
- forcing: where the history comes from while training. target: what a section draws while training. rehearsal: drawing
  an earlier section from the memory alone.
- step: an optimizer step (of a sampler: one forward). LoRA adapter: a low-rank addition to a frozen layer.
- override: a config, option or weight that takes the place of an earlier one. object: a thing of the built-in world.
- sigma: noise level in [0, 1], 1 is pure noise. velocity: noise minus clean.
"""

from importlib import import_module

__version__ = "0.1.0"

_LAZY = {"MemoryPackPipeline": "mpgen.generation.python", "Denoising": "mpgen.generation.denoising"}


def __getattr__(name: str) -> object:
    """What a program imports from here, brought in when it is asked for: `mpgen --help` needs no torch."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
