"""nni-diffnas: search the denoising network of a diffusion model with Microsoft NNI."""

import warnings

__version__ = "0.2.0.dev0"

# NNI 3.0 knows torch's modules by name and complains about two classes that are newer than it.
for _name in ("Buffer", "LinearCrossEntropyOptions"):
    warnings.filterwarnings("ignore", message=rf".*{_name}'> is found to be not a nn\.Module", category=RuntimeWarning)
