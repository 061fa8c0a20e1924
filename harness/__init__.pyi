from harness.api import Ranking as Ranking
from harness.api import Result as Result
from harness.api import Tuned as Tuned
from harness.api import compare as compare
from harness.api import export as export
from harness.api import fuse as fuse
from harness.api import mteb as mteb
from harness.api import read as read
from harness.api import retrieve as retrieve
from harness.api import run as run
from harness.api import score as score
from harness.api import tune as tune
from harness.retrievers.errors import InputError as InputError
from harness.retrievers.registry import About as About
from harness.retrievers.registry import Identity as Identity
from harness.retrievers.registry import Options as Options
from harness.retrievers.registry import PaperRow as PaperRow
from harness.retrievers.registry import Retriever as Retriever
from harness.retrievers.registry import register as register
from harness.retrievers.types import Corpus as Corpus
from harness.retrievers.types import Document as Document
from harness.retrievers.types import Job as Job
from harness.retrievers.types import Query as Query
from harness.retrievers.types import Run as Run

__version__: str
__all__: list[str]
