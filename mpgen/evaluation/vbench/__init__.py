"""VBench's six dimensions (paper §5.2): networks, preprocessing, published weights, formulas, torchmetrics classes.

    from mpgen.evaluation.vbench.metrics import SubjectConsistency

`networks` load the public weight files by the files' own names; `frame_probes` and `motion_probes` run them over a
video as VBench does; `metrics` are the scores. `tests/evaluation/vbench/test_parity.py` compares them with VBench's own
code.
"""
