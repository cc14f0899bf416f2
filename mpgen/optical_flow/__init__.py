"""Optical flow between two frames: RAFT, for VBench's dynamic degree and for those who filter their data by it.

`raft` has the network and `fastest`, VBench's score of a flow; `correlation` is what RAFT and AMT look up matches in.
"""
