"""From manifest row to a batch: manifest -> video -> cache -> plan -> sampler -> datamodule; `world/` makes videos."""
