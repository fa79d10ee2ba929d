# SPDX-License-Identifier: Apache-2.0
"""Base class of all nodes: lifecycle, parameters and diagnostics.

A subclass implements four lifecycle steps: `setup` (configure), `start` (activate), `stop`
(deactivate) and `teardown` (cleanup). A node that stores data also implements `open_storage`; the
storage is opened, used and closed in the model thread. If a step raises an exception, it is logged
in one line and the transition returns FAILURE.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from lifecycle_msgs.msg import Transition
from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.nodes import parameters
from vljepa_ros.nodes.model_requests import ModelNode, describe_error
from vljepa_ros.runtime.health import Level
from vljepa_ros.runtime.model_pool import Lease, ModelPool, ModelSpec

NO_CLOCK = (
    'use_sim_time is set, but no /clock message was received: start the simulator, play the bag '
    'with its clock, or set use_sim_time to false'
)
SETTLE_S = 5.0  # maximum time that a transition waits for pending work


class Storage(Protocol):
    """Interface of stored data that a node keeps open, such as the frame store or the memory."""

    def close(self) -> None:
        """Write pending data and close the file."""
        ...


class _Request(NamedTuple):
    """Inputs of configure: the model to load and the values of the parameters in `specs`."""

    spec: ModelSpec
    values: dict[str, Any]


class _LoadedResources(NamedTuple):
    """Leased side of the model and open storage (or None), loaded in the model thread."""

    lease: Lease
    storage: Any


class VljepaNode(LifecycleNodeMixin, ModelNode):
    """Base class of the lifecycle nodes.

    `specs`: declarations of the node's parameters. `part`: side of the model that the node uses,
    'vision' or 'language'; '' if it uses no model.
    """

    specs: ClassVar[tuple[parameters.Spec, ...]] = parameters.COMMON
    part: ClassVar[str] = ''

    def __init__(self, name: str, pool: ModelPool | None = None, **options: Any) -> None:
        """Create the node in the unconfigured state, with its parameters declared.

        Args:
            name: Node name.
            pool: Model pool that the nodes of this process share; None creates one.
            options: Keyword arguments of rclpy's Node.
        """
        ModelNode.__init__(self, name, **options)
        # A reentrant group lets `get_state` respond while `change_state` awaits the weights.
        LifecycleNodeMixin.__init__(self, callback_group=self.group)
        self.pool = pool or ModelPool()
        self._lease: Lease | None = None
        self.transition_error: Exception | None = None  # error of the last transition, if any
        self.storage: Any = None  # the object that `open_storage` opened, until cleanup
        self._prepared: tuple[_Request, _LoadedResources | Exception] | None = None
        specs = self.specs
        if self.part == 'language' and not self.pool.shared:
            specs = parameters.for_separate_text_side(specs)
        self.problems = parameters.declare(self, specs)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.add_post_set_parameters_callback(self._on_parameters_set)
        if self.part:
            self.thread = self.pool.thread(self.part)
            self.pool.expect(self._model_spec(), self.part)
        self._await_weights_before_configure()
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.create_timer(1.0, self._tick, callback_group=self.group, clock=self.steady)

    # Steps that a node implements.

    def open_storage(self, facts: ModelFacts, values: dict[str, Any]) -> Storage | None:
        """Open the stored data of the node; None if it stores nothing.

        Runs in the model thread, because reading a file can take seconds.

        Args:
            facts: Constants of the loaded model.
            values: Parameter values by name.
        """
        del facts, values
        return None

    def setup(self) -> None:
        """Configure the node: read the parameters and create the objects that depend on them."""

    def start(self) -> None:
        """Activate the node: subscribe to topics and process messages."""

    async def drain(self) -> None:
        """Wait for the last messages of other nodes before an active node is shut down."""

    def stop(self) -> None:
        """Deactivate the node: finish pending work while the publishers are still active."""

    def teardown(self) -> None:
        """Clean up the node: destroy the objects that `setup` created."""

    def describe(self) -> dict[str, str]:
        """Return additional values for the diagnostics of the node, by name."""
        return {}

    def update_conditions(self) -> None:
        """Update the persistent warnings of the node; called once a second while it is active."""

    def on_runtime_change(self, values: dict[str, Any]) -> None:
        """Apply new values of runtime parameters, which have passed `check_runtime`."""

    def check_runtime(self, values: dict[str, Any]) -> None:
        """Raise InputError if `values`, new values of runtime parameters, are invalid."""

    # Lifecycle.

    @property
    def lease(self) -> Lease:
        """The node's side of the model, leased from the pool between configure and cleanup."""
        assert self._lease is not None
        return self._lease

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Configure the node. On failure, log the error in one line and return FAILURE."""
        return self._step('configure', 'inactive', self._configure, self._unconfigure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Activate the node. On failure, log the error in one line and return FAILURE."""

        def activate() -> None:
            LifecycleNodeMixin.on_activate(self, state)
            self.phase = 'active'
            self.start()

        def back() -> None:
            self.phase = 'inactive'
            self.stop()
            LifecycleNodeMixin.on_deactivate(self, state)

        return self._step('activate', 'active', activate, back)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Deactivate the node. On failure, log the error in one line and return FAILURE."""

        def deactivate() -> None:
            self.stop()
            self.phase = 'inactive'
            LifecycleNodeMixin.on_deactivate(self, state)

        # If pending work does not end in time, the node stays active and continues to work.
        return self._step('deactivate', 'inactive', deactivate, self.start)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Clean up the node. On failure, log the error in one line and return FAILURE."""
        return self._step('clean up', 'unconfigured', self._unconfigure)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Shut the node down. On failure, log the error in one line and return FAILURE."""

        def shut_down() -> None:
            try:
                if self.is_active:
                    self.stop()
            finally:  # the lifecycle ends here, even after a failure
                self.phase = 'finalized'
                self._release_prepared()
                self._unconfigure()

        return self._step('shut down', 'finalized', shut_down)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Recover from an error: clean up the node, so that it is unconfigured again."""
        return self._step('recover', 'unconfigured', self._unconfigure)

    async def bring_up(self) -> bool:
        """Configure and activate the node; return whether both transitions succeeded."""
        await self.prepare()
        return (
            self.trigger_configure() == TransitionCallbackReturn.SUCCESS
            and self.trigger_activate() == TransitionCallbackReturn.SUCCESS
        )

    async def prepare(self) -> None:
        """Load the weights and open the storage in the model thread, before configure.

        An error is stored, and configure raises it.
        """
        if not self.part or self.phase != 'unconfigured' or self.problems:
            return
        wanted = self._request()
        if isinstance(self._prepared_for(wanted), _LoadedResources):
            return
        found: _LoadedResources | Exception
        try:
            found = await self.in_thread(self._load, wanted)
        except Exception as error:
            found = error
        self._release_prepared()
        self._prepared = (wanted, found)
        if self.phase == 'finalized':  # the node was shut down in the meantime
            self._release_prepared()

    async def bring_down(self) -> None:
        """Deactivate and clean up the node, from any state."""
        if self.phase == 'active':
            await self.drain()
        if self.phase == 'active':
            self.trigger_deactivate()
        if self.phase == 'inactive':
            self.trigger_cleanup()
        self._release_prepared()

    def _step(
        self,
        name: str,
        phase: str,
        step: Callable[[], None],
        undo: Callable[[], None] | None = None,
    ) -> TransitionCallbackReturn:
        self.transition_error = None
        try:
            step()
        except Exception as error:
            self.transition_error = error
            text = f'cannot {name}: {describe_error(error)}'
            self.get_logger().error(text)
            self.health.condition('lifecycle', text, Level.ERROR)
            if undo is not None:
                self._try(undo)
            return TransitionCallbackReturn.FAILURE
        self.phase = phase
        self.health.condition('lifecycle', '')
        self.get_logger().info(f'{phase}{self._with_model()}')
        return TransitionCallbackReturn.SUCCESS

    def _with_model(self) -> str:
        if self._lease is None:
            return ''
        facts = self._lease.facts
        return f': model {facts.model_id} on {facts.device} in {facts.dtype}'

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:
            self.get_logger().error(f'undoing the transition failed: {describe_error(error)}')

    def _configure(self) -> None:
        for problem in self.problems.values():
            raise InputError(problem)
        self.condition('parameters', parameters.unknown(getattr(self, '_parameter_overrides', {})))
        parameters.check(self.specs, parameters.values_of(self, self.specs))
        if self.part:
            self._lease, self.storage = self._take_loaded(self._request())
        self.max_waiting = self.values().get('max_waiting', 0)
        self.setup()

    def _unconfigure(self) -> None:
        storage, self.storage = self.storage, None
        try:
            self._close(storage)
        finally:
            try:
                self.teardown()
            finally:
                lease, self._lease = self._lease, None
                if lease is not None:
                    lease.release()

    def _close(self, storage: Storage | None) -> None:
        """Close a storage in the model thread, which owns it."""
        if storage is not None:
            closed = self.thread.call(storage.close)
            self.settle()
            closed.result()

    def settle(self) -> None:
        """Wait until the model thread has emptied its queue.

        Raises:
            RuntimeError: The thread is still busy after `SETTLE_S`.
        """
        if not self.thread.settle(SETTLE_S):
            raise RuntimeError(f'the model thread is still busy after {SETTLE_S} s')

    def _take_loaded(self, wanted: _Request) -> _LoadedResources:
        """Return the resources that `prepare` loaded, or load them now if it was not called.

        An error of loading is raised.
        """
        found = self._prepared_for(wanted)
        if found is None:
            self._release_prepared()
            # `prepare` was not awaited: load here, which also blocks get_state.
            return self.thread.call(self._load, wanted).result()
        self._prepared = None
        if isinstance(found, Exception):
            raise found
        return found

    def _request(self) -> _Request:
        return _Request(self._model_spec(), self.values())

    def _load(self, wanted: _Request) -> _LoadedResources:
        """Load the weights and open the storage; runs in the model thread."""
        lease = self.pool.acquire(wanted.spec, self.part)
        try:
            return _LoadedResources(lease, self.open_storage(lease.facts, wanted.values))
        except BaseException:
            lease.release()
            raise

    def _prepared_for(self, wanted: _Request) -> _LoadedResources | Exception | None:
        known = self._prepared
        return known[1] if known is not None and known[0] == wanted else None

    def _release_prepared(self) -> None:
        prepared, self._prepared = self._prepared, None
        if prepared is not None and isinstance(prepared[1], _LoadedResources):
            lease, storage = prepared[1]
            try:
                self._close(storage)
            finally:
                lease.release()

    def _model_spec(self) -> ModelSpec:
        return parameters.model_spec(parameters.values_of(self, parameters.MODEL))

    def _await_weights_before_configure(self) -> None:
        """Make rclpy's service `change_state` await the weights before configure.

        In addition, an impossible transition is logged and answered with success=False, instead of
        raising an exception in the executor.
        """
        service = self._service_change_state
        change_state = service.callback

        async def wrapped(request: Any, response: Any) -> Any:
            wanted = request.transition
            if wanted.id == Transition.TRANSITION_CONFIGURE or wanted.label == 'configure':
                await self.prepare()
            try:
                return change_state(request, response)
            except Exception as error:
                which = wanted.label or wanted.id
                self.get_logger().error(
                    f'transition {which} is not possible in state {self.phase}: '
                    f'{describe_error(error)}'
                )
                response.success = False
                return response

        service.callback = wrapped  # type: ignore[assignment]  # rclpy awaits the callback

    # Parameters.

    def values(self) -> dict[str, Any]:
        """Return the values of the parameters in `specs` by name."""
        return parameters.values_of(self, self.specs)

    def _on_set_parameters(self, changed: list[Parameter]) -> SetParametersResult:
        specs = {spec.name: spec for spec in self.all_specs()}
        ours = {p.name: parameters.plain(p) for p in changed if p.name in specs}
        try:
            parameters.check(specs.values(), ours)
            if self.phase != 'unconfigured':
                for name in ours:
                    if not specs[name].runtime and self.get_parameter(name).value != ours[name]:
                        raise InputError(
                            f'{name} can be changed only while unconfigured; '
                            f'the node is {self.phase}'
                        )
            self.check_runtime({name: ours[name] for name in ours if specs[name].runtime})
        except (InputError, TypeError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _on_parameters_set(self, changed: list[Parameter]) -> None:
        for parameter in changed:
            self.problems.pop(parameter.name, None)
        runtime = {spec.name for spec in self.all_specs() if spec.runtime}
        values = {p.name: parameters.plain(p) for p in changed if p.name in runtime}
        if values:
            self.on_runtime_change(values)

    def all_specs(self) -> tuple[parameters.Spec, ...]:
        """Return the declarations of all parameters, including the parameters of cameras."""
        return self.specs

    # Time.

    def now_ns(self) -> int:
        """Return the ROS time in ns; 0 under `use_sim_time` before the first /clock message."""
        return int(self.get_clock().now().nanoseconds)

    # Diagnostics.

    def _tick(self) -> None:
        if self.is_active:
            self.update_conditions()
            self.condition('clock', '' if self.now_ns() else NO_CLOCK)
        level, message = self.health.summary(self.phase)
        values = {'state': self.phase} | self.health.values()
        if self._lease is not None:
            facts = self._lease.facts
            values |= {'model': facts.model_id, 'device': facts.device, 'dtype': facts.dtype}
        status = DiagnosticStatus(
            level=bytes([level]),
            name=self.get_fully_qualified_name(),
            message=message,
            hardware_id=values.get('device', ''),
            values=[KeyValue(key=k, value=v) for k, v in (values | self.describe()).items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)
