"""Scores that read frames only and know no model (paper §5.2).

`stream` decodes a video once; probes look at every frame (`proxies` without weights, `probes` and `motion` with the
networks in `nets`); what they saw is a `trace`; `reduce`, `dimensions` and `drift` make numbers of it; `runner` does a
folder, `summary`, `tables` and `report` show it, `command` is `mpgen evaluate`. `metrics` are the dimensions as
torchmetrics, `world` compares with the built-in world's truth, `ranking` and `arena` are the human study.
"""
