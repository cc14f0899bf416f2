"""Laws of the whole code base: what depends on what, and how large the pieces are."""

import re
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1] / "mpgen"
MODULES = sorted(ROOT.rglob("*.py"))
# Parts of HunyuanVideo, then of Wan by name.
PARTS = re.compile(
    r"transformer_blocks|norm_out|clean_x_embedder|\bx_embedder|image_projection|context_embedder|time_text_embed"
    r"|token_refiner|double_blocks|single_blocks|\b729\b|num_single_layers|rope_axes_dim|attention_head_dim"
    r"|patch_(embedding|short|mid|long)|condition_embedder|\battn[12]\b|scale_shift_table|\b(cross|self)_attn\b"
    r"|\bffn\b|ffn_dim|\brope_dim"
)


def test_nothing_outside_backbones_and_encoders_names_a_part_of_a_backbone():
    outside = [path for path in MODULES if path.relative_to(ROOT).parts[0] not in ("backbones", "encoders")]
    named = {
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in outside
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if PARTS.search(line)
    }
    assert not named


def test_modules_are_small():
    lengths = {
        path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES if path.name != "__init__.py"
    }
    assert not {path: length for path, length in lengths.items() if length > 350}
    assert median(lengths.values()) <= 120
