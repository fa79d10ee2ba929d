# SPDX-License-Identifier: Apache-2.0
"""Random tables without a robot, which are scenes unfamiliar to a model of a robot's workbench.

The tables consist of MuJoCo primitives, so that they do not resemble the scenes of a particular
simulator. Needs mujoco.
"""

from __future__ import annotations

from typing import Any

import numpy as np

THINGS = 5  # maximum number of objects on a table
HEIGHT_M = 0.02  # half the thickness of the table top
WOOD = (1.0, 0.75, 0.55)


def model(rng: np.random.Generator) -> Any:
    """Return the compiled model of a random table with floor, light and at most `THINGS` objects.

    The table's surface is at z = 0, around the origin.
    """
    import mujoco

    spec, geom = mujoco.MjSpec(), mujoco.mjtGeom
    world = spec.worldbody
    world.add_geom(
        type=geom.mjGEOM_PLANE, size=[4, 4, 0.1], pos=[0, 0, -rng.uniform(0.4, 0.95)],
        material=_material(spec, 'floor', rng),
    )  # fmt: skip
    half = rng.uniform((0.35, 0.3), (0.8, 0.7))
    world.add_geom(
        type=geom.mjGEOM_BOX, size=[*half, HEIGHT_M], pos=[0, 0, -HEIGHT_M],
        material=_material(spec, 'top', rng),
    )  # fmt: skip
    if rng.random() < 0.5:  # a rim, as trays and benches have
        for axis, sign in ((0, 1), (0, -1), (1, 1), (1, -1)):
            size, place = [half[0], half[1], 0.03], [0.0, 0.0, 0.01]
            size[axis], place[axis] = 0.015, sign * half[axis]
            world.add_geom(
                type=geom.mjGEOM_BOX, size=size, pos=place, rgba=[*rng.uniform(0, 1, 3), 1]
            )
    shapes = (geom.mjGEOM_BOX, geom.mjGEOM_CYLINDER, geom.mjGEOM_SPHERE, geom.mjGEOM_ELLIPSOID)
    for _ in range(int(rng.integers(0, THINGS + 1))):
        sides = rng.uniform(0.02, 0.12, 3).tolist()
        x, y = (rng.uniform(-0.8, 0.8, 2) * half).tolist()
        world.add_geom(
            type=shapes[int(rng.integers(len(shapes)))], size=sides, pos=[x, y, sides[2]],
            rgba=[*rng.uniform(0, 1, 3), 1],
        )  # fmt: skip
    world.add_light(pos=[*rng.uniform(-1, 1, 2), 2.5], dir=[0, 0, -1])
    return spec.compile()


def _material(spec: Any, name: str, rng: np.random.Generator) -> str:
    """Add a material with a random texture to the model, and return its name."""
    import mujoco

    base = np.array(WOOD) ** rng.uniform(0.0, 1.5) * rng.uniform(0.25, 0.95)  # gray to brown
    kinds = ('mjBUILTIN_FLAT', 'mjBUILTIN_CHECKER', 'mjBUILTIN_GRADIENT')
    spec.add_texture(
        name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, width=128, height=128,
        builtin=getattr(mujoco.mjtBuiltin, str(rng.choice(kinds))),
        mark=mujoco.mjtMark.mjMARK_RANDOM, random=float(rng.uniform(0.0, 0.3)),
        rgb1=base.tolist(), rgb2=np.clip(base * rng.uniform(0.7, 1.2), 0, 1).tolist(),
        markrgb=np.clip(base * rng.uniform(0.6, 1.4), 0, 1).tolist(),
    )  # fmt: skip
    material = spec.add_material(name=name, texrepeat=rng.uniform(1, 6, 2).tolist())
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    return name
