"""nni-diffnas: search the denoising network of a diffusion model with Microsoft NNI."""

__version__ = "0.1.0"
