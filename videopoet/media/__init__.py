"""Video, sound and pictures: the types that carry their rates, files in and out, resampling, control signals.

Import from the modules: `types`, `files`, `resample`, `signals`.
"""
