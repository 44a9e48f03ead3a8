"""What the commands' options are, and how what was typed is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vemosaic.errors import SettingsError

if TYPE_CHECKING:
    from vemosaic.blocks.executors import Executor
    from vemosaic.settings import Settings
    from vemosaic.volumes.resampling import WorkingSize

METHOD = "How the map is made"
COMPUTING = "Where it is computed"

VolumePath = Annotated[str, typer.Argument(help="A volume: OME-Zarr, N5, TIFF, slices, HDF5 (file.h5:/path), MRC, ...")]
RunPath = Annotated[Path, typer.Argument(help="Folder of a run.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the run; NAME.vemosaic where not given.")]
VoxelSize = Annotated[
    str | None, typer.Option(help="Size of a voxel in nm, if the file lacks it: 16, or 50,4.6,4.6 (z,y,x).")
]
Channel = Annotated[int | None, typer.Option(help="Channel of a volume that has several, from 0.")]
MissingChunks = Annotated[str, typer.Option(help="'error', or 'fill' where absent chunks stand for the fill value.")]
Mask = Annotated[
    str | None,
    typer.Option(
        help="A mask: learn and map only where it is not zero. Or 'nonzero': all but padding; 'everywhere': all."
    ),
]
References = Annotated[
    list[str] | None,
    typer.Option("--reference", help="What to score the map against: labels.ome.zarr, or NAME=mask.tif, repeated."),
]
ClusterRange = Annotated[
    str, typer.Option("--clusters", "-k", help="Numbers of clusters, a map for each: 8, or 4-10, or 4,6,8.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a run of another volume that lies there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

Working = Annotated[
    str,
    typer.Option(
        help="Voxel size in nm at which textures are learnt and mapped, or 'native' for the volume's own; "
        "auto: that of a model that `run` is given, else 16.",
        rich_help_panel=METHOD,
    ),
]
Preset = Annotated[
    str,
    typer.Option(
        help="Which model: default, han2022 (the paper's) or cihs (its baseline).",
        rich_help_panel=METHOD,
    ),
]
Width = Annotated[
    float | None,
    typer.Option(help="Of preset han2022: factor on its channels, 1, 0.5 or 0.25.", rich_help_panel=METHOD),
]
Latent = Annotated[
    int | None, typer.Option(help="Of preset cihs: dimensions of the ball, 2 or 8.", rich_help_panel=METHOD)
]
Stride = Annotated[
    int | None,
    typer.Option(
        help="Of presets han2022 and cihs: embed one voxel in each block of so many an edge.", rich_help_panel=METHOD
    ),
]
Anchors = Annotated[
    int | None,
    typer.Option(
        help="How long to train, in places to learn from (anchors); 120000 on a CPU where not given.",
        rich_help_panel=METHOD,
    ),
]
TextureWords = Annotated[
    int | None,
    typer.Option(
        "--words",
        help="How many textures (words) tell what surrounds a voxel; 0: its own patch alone.",
        rich_help_panel=METHOD,
    ),
]
Vocabularies = Annotated[
    int | None,
    typer.Option(
        help="How often words and clusters are found; those that agree best with the others are taken.",
        rich_help_panel=METHOD,
    ),
]
Detail = Annotated[
    float | None,
    typer.Option(
        help="Weight of a voxel's own texture beside that of its surroundings; unless given, 1.7 where patches are "
        "flat, else 0.",
        rich_help_panel=METHOD,
    ),
]
Smoothing = Annotated[
    float | None,
    typer.Option(
        help="How far to smooth before clustering, std of a Gaussian in voxels.",
        rich_help_panel=METHOD,
    ),
]
Diffusion = Annotated[
    int | None,
    typer.Option(
        help="Steps in which descriptions then spread among alike voxels, not across the image's edges; unless given, "
        "6 with words, else none.",
        rich_help_panel=METHOD,
    ),
]
Fit = Annotated[
    str | None,
    typer.Option(
        help="'sample': find the clusters in a sample of the voxels; 'stream': in all of them, in one more pass.",
        rich_help_panel=METHOD,
    ),
]
Clusterer = Annotated[
    str | None,
    typer.Option(help="How to cluster: consensus, kmeans, mixture, pymc or hyperbolic.", rich_help_panel=METHOD),
]
Like = Annotated[
    Path | None,
    typer.Option(
        help="Folder of another run of this volume: number and colour the clusters as its map does.",
        rich_help_panel=METHOD,
    ),
]
Seed = Annotated[int, typer.Option(help="Of all that is random: weights, patches, clusters.", rich_help_panel=METHOD)]

Device = Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu or cuda.", rich_help_panel=COMPUTING)]
Precision = Annotated[
    str,
    typer.Option(
        help="What networks compute in: float32, bfloat16, or auto: the latter on a GPU that has it.",
        rich_help_panel=COMPUTING,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Worker processes on this machine; this process alone where not given.",
        rich_help_panel=COMPUTING,
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        help="Of a Dask cluster: tcp://host:8786, or 'local' for one on this machine's cores.",
        rich_help_panel=COMPUTING,
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(help="Most memory that this process may use: 4GB; any where not given.", rich_help_panel=COMPUTING),
]


def chosen_settings(name: str, working: str, **chosen: Any) -> Settings:
    """Begin with a preset, and change what was chosen."""
    from vemosaic.presets import preset

    with options_checked():
        return preset(name, **chosen).model_copy(update={"working_voxel_size": working_size(working)})


def preset_of(model: Path | None) -> str:
    """Name the preset of a model; the default one where there is no model."""
    from vemosaic.models.model import load_model

    return "default" if model is None else load_model(model).settings.preset


@contextmanager
def options_checked() -> Iterator[None]:
    """Name the option where a setting that was typed will not do."""
    from pydantic import ValidationError

    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        field = [part for part in first["loc"] if isinstance(part, str)][-1]
        name = "--" + field.replace("_", "-")
        raise SettingsError(name, f"{first['input']!r} will not do", first["msg"].lower()) from error


def parse_clusters(text: str) -> tuple[int, ...]:
    """Read ``8``, ``4-10`` or ``4,6,8`` as numbers of clusters, ascending.

    Raises
    ------
    SettingsError
        If it is none of these, or a number is not 2 to 255.
    """
    found: set[int] = set()
    try:
        for part in text.split(","):
            first, _, last = part.strip().partition("-")
            low, high = int(first), int(last or first)
            if not 2 <= low <= high <= 255:
                raise ValueError
            found.update(range(low, high + 1))
    except ValueError:
        raise SettingsError("--clusters", f"{text!r} is not 2 to 255 clusters", "write 8, or 4-10, or 4,6,8") from None
    return tuple(sorted(found))


def numbers(text: str | None) -> tuple[float, ...] | None:
    """Read a voxel size: one number, or three with commas."""
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in (1, 3) or not all(0 < v < float("inf") for v in values):
        raise SettingsError("--voxel-size", f"{text!r} is not a size in nm", "write 16, or 50,4.6,4.6 for z,y,x")
    return values * 3 if len(values) == 1 else values


def integers(option: str, text: str | None, lengths: tuple[int, ...]) -> tuple[int, ...] | None:
    """Read positive whole numbers with commas, as many as one of `lengths`; nothing where nothing is given."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in lengths or not all(part.isdecimal() and int(part) > 0 for part in parts):
        counts = " or ".join(map(str, lengths))
        raise SettingsError(option, f"{text!r} will not do", f"write {counts} whole numbers above 0, with commas")
    return tuple(map(int, parts))


def read_part(text: str) -> tuple[int, int]:
    """Read ``3/100``: a part, from 1, of so many.

    Raises
    ------
    SettingsError
        If it is something else.
    """
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise SettingsError("--part", f"{text!r} will not do", "write which part of how many, as 3/100")
    return int(number), int(count)


def working_size(text: str) -> WorkingSize:
    """Read a voxel size to work at; None for the volume's own."""
    if text == "native":
        return None
    if text == "auto":
        return "auto"
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise SettingsError("--working-voxel-size", f"{text!r} is not a size in nm", "write 16, native or auto")
    return value


def local(path: str) -> str:
    """Make a local path absolute, so that a run can be taken up from another folder."""
    return path if "://" in path else str(Path(path).absolute())


def local_mask(mask: str | None) -> str | None:
    """Make the path of a mask absolute, as `local` does; what stands for one stays."""
    from vemosaic.inputs import is_mask

    return local(mask) if is_mask(mask) else mask or None


def local_reference(spec: str) -> str:
    """Make the path in a reference absolute, as `local` does."""
    from vemosaic.evaluation import split_spec

    name, path = split_spec(spec)
    return f"{name}={local(path)}" if name else local(path)


def default_out(volume: str) -> Path:
    """Name the folder of a run after its volume, in the current folder."""
    name = volume.rstrip("/").replace(":/", "/").rsplit("/", 1)[-1]
    for ending in (".ome.zarr", ".zarr", ".n5", ".ome.tiff", ".ome.tif", ".nii.gz"):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
            break
    else:
        name = name.rsplit(".", 1)[0] if "." in name.strip(".") else name
    return Path(f"{name.strip('.') or 'run'}.vemosaic")


@contextmanager
def executing(workers: int | None, scheduler: str | None, device: str) -> Iterator[Executor]:
    """Choose who carries out what is done shard by shard."""
    from vemosaic.blocks.executors import InProcess, Processes

    if scheduler is not None:
        from vemosaic.blocks.dask_executor import dask_cluster

        with dask_cluster(scheduler, workers, ["vemosaic.shard_stages"]) as cluster:
            yield cluster
    elif workers is None:
        yield InProcess()
    else:
        with Processes(workers, gpus=gpu_numbers(device)) as processes:
            yield processes


def gpu_numbers(device: str) -> tuple[int, ...]:
    """Return the numbers of the GPUs that worker processes share; none for the CPU."""
    import torch

    from vemosaic.settings import choose_device

    return tuple(range(torch.cuda.device_count())) if choose_device(device).type == "cuda" else ()
