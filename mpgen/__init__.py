"""mpgen: minute-long video from one image and a prompt (*Pack and Force Your Memory*, arXiv 2510.01784).

The map, from the bottom up (imports go down only):

- `flow`, `sampling`, `sections`: rectified flow (§4.2.1-2), samplers, all frame arithmetic;
- `schedule`: which sections are noisy at the same time (FramePack's one, MAGI-1's window);
- `dit`: the backbone; `encoders`: pixels, text and images to features and back;
- `memorypack`: FramePack and SemanticPack (§4.1); `denoiser`: the backbone with its memory;
- `data`: videos to ordered sections with a curriculum (§6.4), and the built-in world;
- `checkpoints`: weights in and out; `generation`: sections to video;
- `training`: Direct Forcing and its alternatives (§4.2); `evaluation`: scores, from frames only.

The words:

- clip: pixels cut from a video. latents: a clip as the autoencoder sees it. section: the latent frames made by one
  denoising. history: the sections already there. context: their packed tokens. memory: psi, the long-term tokens.
  conditioning: text and image features. forcing: where the history comes from while training.
  stage: the steps in which the same sections are denoised side by side.
- sigma: noise level in [0, 1], 1 is pure noise. velocity: noise minus clean.
"""

__version__ = "0.1.0"
