# SPDX-License-Identifier: Apache-2.0
"""Base class of nodes that subscribe to the cameras which the parameter `cameras` names."""

from __future__ import annotations

from typing import Any

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.images import check_crop
from vljepa_ros.nodes import parameters
from vljepa_ros.nodes.base import VljepaNode
from vljepa_ros.nodes.camera import CameraRegion


class CameraNode(VljepaNode):
    """Lifecycle node with the parameters `cameras`, `image_transport` and those of each camera."""

    def all_specs(self) -> tuple[parameters.Spec, ...]:
        """Return the declarations of the parameters of the node and of each camera."""
        return (*self.specs, *self.camera_specs())

    def camera_specs(self) -> tuple[parameters.Spec, ...]:
        """Return the declarations of the parameters of each camera."""
        if not self.has_parameter('cameras'):
            return ()
        names = self.get_parameter('cameras').value or ()
        return tuple(
            s for name in names if name.isidentifier() for s in parameters.camera_specs(name)
        )

    def check_runtime(self, values: dict[str, Any]) -> None:
        """Raise InputError if a new crop is invalid."""
        for name, value in values.items():
            if name.endswith('.crop'):
                check_crop(value)

    def make_cameras(self) -> dict[str, CameraRegion]:
        """Declare the parameters of all cameras and return the cameras by name.

        The parameter `cameras` may have changed since the node was created.

        Raises:
            InputError: A name or a parameter value is invalid.
        """
        names = parameters.check_cameras(list(self.get_parameter('cameras').value or ()))
        for problem in parameters.declare(self, self.camera_specs()).values():
            raise InputError(problem)
        given = getattr(self, '_parameter_overrides', {})
        self.condition('cameras', parameters.unnamed_cameras(given, names))
        values: dict[str, Any] = parameters.values_of(self, self.camera_specs())
        parameters.check(self.camera_specs(), values)
        transport = self.get_parameter('image_transport').value
        if transport:
            values |= {f'{name}.transport': transport for name in names}
        return {name: CameraRegion(name, values) for name in names}
