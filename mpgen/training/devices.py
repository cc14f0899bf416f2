"""The fastest that devices multiply bf16 matrices, from the makers' data sheets: dense, without sparsity."""

import torch

# TFLOP/s; what a device calls itself must hold every word of the key, and the key with most words counts.
PEAKS = {
    "V100": 125,  # fp16; it has no bf16 units
    "A100": 312,
    "A800": 312,
    "A40": 150,
    "A10": 125,
    "L4": 121,
    "L40": 181,
    "L40S": 362,
    "RTX 3090": 71,
    "RTX 4090": 165,
    "RTX 5090": 210,
    "RTX 6000 Ada": 364,
    "RTX PRO 6000 Blackwell": 504,
    "H20": 148,
    "H100": 989,
    "H100 NVL": 835,
    "H100 PCIe": 756,
    "H800": 989,
    "H200": 989,
    "GH200": 989,
    "B100": 1750,
    "B200": 2250,
    "B300": 2250,
    "GB200": 2500,
    "GB300": 2500,
    "MI250X": 383,
    "MI300X": 1307,
    "MI325X": 1307,
    "MI350X": 2300,
    "MI355X": 2500,
}


def peak_flops(name: str) -> float | None:
    """Operations a second of the device that calls itself `name`; None where it is not known."""
    words = set(name.replace("-", " ").replace("/", " ").split())
    known = sorted((key for key in PEAKS if set(key.split()) <= words), key=lambda key: len(key.split()))
    return 1e12 * PEAKS[known[-1]] if known else None


def peak_of(device: torch.device) -> float | None:
    """The same of a device that is here."""
    return peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
