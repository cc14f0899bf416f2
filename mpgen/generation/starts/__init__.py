"""What a video begins from, one module each: an image, a video to go on with, a scene, a world, a suite."""
