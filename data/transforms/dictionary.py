"""Bases of the transforms: those with an inverse, and the dictionary form of an array transform."""

from collections.abc import Hashable, Mapping
from typing import Any, ClassVar

from monai.config.type_definitions import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms.inverse import InvertibleTransform
from monai.transforms.transform import MapTransform, Transform
from monai.utils.enums import TraceKeys


class Invertible(InvertibleTransform):
    """A transform of one image that MONAI's ``Compose.inverse`` inverts."""

    def record(self, image: MetaTensor, **parameters: Any) -> MetaTensor:
        """Add this transform and what its inverse requires to the history of ``image``."""
        self.push_transform(image, extra_info=parameters)  # type: ignore[no-untyped-call]
        return image

    def undo(self, image: MetaTensor) -> dict[str, Any]:
        """Remove this transform, the last one, from the history; returns its parameters."""
        parameters: dict[str, Any] = self.pop_transform(image)[TraceKeys.EXTRA_INFO]
        return parameters


class DictionaryTransform(MapTransform):
    """Apply the array transform ``form`` to each of ``keys``.

    Parameters
    ----------
    keys: of the images.
    allow_missing_keys: whether keys that are not in the data are skipped.
    others: those of the array transform.
    """

    form: ClassVar[type[Transform]]

    def __init__(
        self, keys: KeysCollection, *args: Any, allow_missing_keys: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform: Any = self.form(*args, **kwargs)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data with the transformed images."""
        return self.each(self.transform, data)

    def each(self, work: Any, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data with ``work`` applied to the images."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = work(result[key])
        return result


class InvertibleDictionaryTransform(DictionaryTransform, InvertibleTransform):
    """The same for a transform that has an inverse."""

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data with the images carried back."""
        return self.each(self.transform.inverse, data)
