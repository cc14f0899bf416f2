"""Sections to a video: the same loop as training, with a sampler in place of the loss, in constant memory."""
