"""What is done differently on a CPU because it is faster there: matrix products by oneDNN, resizing by sums of bytes.

Everything here equals a plain torch function, which its tests compare it with, and nothing outside this room knows how
it is done: `products.linear` is `F.linear`, `products.all_pairs` is a batched product, `resize.Resize` is torchvision's
resize without antialias.
"""
