"""Episodes as a data set in Minari's own local folder, opened with Minari."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rl_framework.data.formats.minari_metadata import check_dataset_id, minari_root
from rl_framework.errors import InvalidInputError, MissingExtraError

if TYPE_CHECKING:
    from rl_framework.data.episode_sequence import EpisodeSequence


def to_minari(episodes: EpisodeSequence, dataset_id: str) -> Any:
    """Make a data set that `minari.load_dataset(dataset_id)` finds, and open it.

    What Minari cannot carry is told in a warning, as by `save`.

    Args:
        episodes: The episodes.
        dataset_id: Its id, `"name-v0"` or `"namespace/name-v0"`.

    Returns:
        The `minari.MinariDataset`.

    Raises:
        InvalidInputError: It is no id, or is taken; there are no episodes, or they have no rewards.
        MissingExtraError: Minari is not installed.
    """
    minari = _minari()
    path = minari_root() / check_dataset_id(dataset_id)
    if path.exists():
        raise InvalidInputError(
            f"There is already a Minari data set {dataset_id!r} at {path}. Choose another name or version, or remove "
            f"it with minari.delete_dataset({dataset_id!r})."
        )
    episodes.save(path, "minari")
    _announce_namespace(dataset_id)
    return minari.load_dataset(dataset_id)


def _minari() -> Any:
    try:
        import h5py  # noqa: F401  Minari reads its files with it
        import minari
    except ImportError as error:
        raise MissingExtraError("Making a data set with Minari", "minari") from error
    return minari


def _announce_namespace(dataset_id: str) -> None:
    """List the namespace among Minari's, if it is new."""
    from minari import namespace as names

    namespace, _, _ = dataset_id.rpartition("/")
    if namespace and namespace not in names.list_local_namespaces():
        names.create_namespace(namespace)
