"""Scores that read frames only and know no model (paper §5.2).

`stream` decodes a video once and feeds probes (`frames`); what they measured is a `trace`; a `metric` makes a score of
it. `vbench` are the paper's six dimensions with their networks, `proxies` the scores without weights, `metrics` the
list of all. `drift` compares a video's ends. `runner` does one video, `processes` many, `summary`, `tables` and
`report` show them, `command` is `mpgen evaluate`; `resize` is faster than torch on a CPU. README.md beside this
file tells how to use it and what was measured.
"""
