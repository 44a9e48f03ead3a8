"""Work cut into units that are read, computed and written block by block, and survive any interruption.

This package knows nothing of biology, of volumes or of file formats. A stage is a list of units (`grid`),
what has been finished of it is written down (`records`), it is carried out by an executor (`executor`), and
whoever wants to know how it goes listens (`events`).
"""

from vemosaic.blocks.events import Event, Listener, StageEnded, StageStarted, UnitDone, ignore
from vemosaic.blocks.executor import process, stream
from vemosaic.blocks.files import FileStamp, disk_errors, stamp, write_atomically
from vemosaic.blocks.grid import Unit, units
from vemosaic.blocks.lock import claim
from vemosaic.blocks.records import Ledger, fingerprint

__all__ = [
    "Event",
    "FileStamp",
    "Ledger",
    "Listener",
    "StageEnded",
    "StageStarted",
    "Unit",
    "UnitDone",
    "claim",
    "disk_errors",
    "fingerprint",
    "ignore",
    "process",
    "stamp",
    "stream",
    "units",
    "write_atomically",
]
