"""Raw corpora: whatever shape others gave their conversations, they become our messages here.

    file_records  files to records: Parquet, one JSON list, JSON lines, gzip or not
    hub           datasets of the Hugging Face Hub to records
    layouts       the known shapes of a record, and how each is recognised and read
    columns       a shape that the caller describes by a table of column names
    trees         OpenAssistant's trees of replies to one path each
    licenses      what is known of the licenses of public corpora
    reading       a source as a whole: every record a Draft, or a Rejection with its reason

Foreign names (`from`, `value`, `human`, `gpt` ...) exist only here.
"""

from usersim.sources.columns import ColumnMap
from usersim.sources.draft import UNSTATED, Draft
from usersim.sources.layouts import LAYOUTS, Shape
from usersim.sources.reading import EMBEDDED, InputFile, Source, SourceSettings, read_source

__all__ = [
    "EMBEDDED",
    "LAYOUTS",
    "UNSTATED",
    "ColumnMap",
    "Draft",
    "InputFile",
    "Shape",
    "Source",
    "SourceSettings",
    "read_source",
]
