"""Where text comes from: each source yields documents, and knows what decides them."""

from gpt2_lightning.data.sources.base import FileSource, Source, TextSource
from gpt2_lightning.data.sources.hub import HubDataset
from gpt2_lightning.data.sources.mixture import Mixture
from gpt2_lightning.data.sources.python import PythonDocs, PythonSource
from gpt2_lightning.data.sources.records import CSVFiles, JSONFiles, ParquetFiles
from gpt2_lightning.data.sources.text import TextFiles
from gpt2_lightning.data.sources.token_files import TokenFiles

__all__ = [
    "CSVFiles",
    "FileSource",
    "HubDataset",
    "JSONFiles",
    "Mixture",
    "ParquetFiles",
    "PythonDocs",
    "PythonSource",
    "Source",
    "TextFiles",
    "TextSource",
    "TokenFiles",
]
