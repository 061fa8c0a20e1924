from harness.api import Ranking as Ranking
from harness.api import Result as Result
from harness.api import compare as compare
from harness.api import export as export
from harness.api import fuse as fuse
from harness.api import read as read
from harness.api import retrieve as retrieve
from harness.api import run as run
from harness.api import score as score

__version__: str
