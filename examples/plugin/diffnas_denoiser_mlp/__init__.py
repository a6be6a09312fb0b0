"""A worked plug-in: denoise points of the plane with small multilayer perceptrons."""
