"""Resizing against torchvision's, which VBench calls."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import CenterCrop, InterpolationMode
from torchvision.transforms import Resize as TorchvisionResize
from torchvision.transforms.functional import normalize, resize

from mpgen.evaluation.resize import Resize, as_columns
from mpgen.evaluation.vbench.sizes import at_most, centre, shorter_side

# Places in a picture are float32; torch may fuse the multiplication and addition that make one, and round once less.
ROUNDING = 300 * 2**-24 * 255 * 2
sizes = st.tuples(st.integers(30, 300), st.integers(30, 300))


def pixels(size: tuple[int, int], frames: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (frames, 3, *size), generator=generator, dtype=torch.uint8)


@settings(max_examples=25, deadline=None)
@given(sizes, sizes, st.sampled_from(["bilinear", "bicubic"]))
def test_resizing_is_torchvisions_without_antialias(size, new_size, kernel):
    wanted = resize(pixels(size).float(), list(new_size), InterpolationMode(kernel), antialias=False)
    found = Resize(size, new_size, kernel)(as_columns(pixels(size)))
    torch.testing.assert_close(255 * found, wanted, rtol=0, atol=ROUNDING)


@settings(max_examples=15, deadline=None)
@given(sizes, st.sampled_from(["bilinear", "bicubic"]))
def test_a_window_is_a_crop_of_the_resized_picture(size, kernel):
    new_size = shorter_side(*size, 32)
    mode = InterpolationMode(kernel)
    wanted = CenterCrop(32)(TorchvisionResize(32, mode, antialias=False)(pixels(size).float()))
    found = Resize(size, new_size, kernel, centre(*new_size, 32))(as_columns(pixels(size)))
    torch.testing.assert_close(255 * found, wanted, rtol=0, atol=ROUNDING)


def test_colours_become_what_a_network_was_trained_on():
    colours = ((0.5, 0.25, 0.125), (0.5, 1.0, 2.0))
    seen = as_columns(pixels((40, 50)))
    plain = Resize((40, 50), (32, 37), "bilinear")(seen)
    found = Resize((40, 50), (32, 37), "bilinear", colours=colours)(seen)
    torch.testing.assert_close(found, normalize(plain, *colours))


def test_bicubic_leaves_the_range_as_vbench_lets_it():
    stripes = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    stripes[..., ::8] = 255
    found = Resize((32, 32), (45, 45), "bicubic")(as_columns(stripes))
    assert 255 * found.min() < -1


def test_the_memory_order_of_pixels_does_not_matter():
    planes = pixels((40, 50))
    packed = planes.contiguous(memory_format=torch.channels_last)
    assert torch.equal(as_columns(planes), as_columns(packed))


def test_floats_as_a_gpu_has_them_give_what_bytes_give():
    seen = as_columns(pixels((40, 50)))
    floats = seen.unflatten(2, (3, -1))[..., :40].flatten(2).float()
    one = Resize((40, 50), (32, 37), "bicubic")
    torch.testing.assert_close(one(floats), one(seen))


def test_widths_that_are_padded_on_the_way_come_out_as_they_should():
    wanted = resize(pixels((40, 300)).float(), [33, 256], InterpolationMode.BILINEAR, antialias=False)
    found = Resize((40, 300), (33, 256), "bilinear")(as_columns(pixels((40, 300))))
    torch.testing.assert_close(255 * found, wanted, rtol=0, atol=ROUNDING)


def test_sizes_round_as_vbenchs():
    assert shorter_side(480, 832, 224) == (224, 388)
    assert shorter_side(640, 360, 224) == (398, 224)
    assert at_most(480, 832, 512) == (295, 512)
    assert at_most(300, 512, 512) == (300, 512)
