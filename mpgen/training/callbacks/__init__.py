"""Lightning callbacks: averaged weights, sample videos, throughput, the closing words."""
