"""Training (paper §4.2 and §6.4): the objective is plain PyTorch (`objective`), Lightning only drives it (`module`)."""
