"""`DiffNASTuner`: every strategy behind ``nnictl create``.

NNI's ``nnictl`` runs hyper-parameter tuners only, so this tuner hosts the strategies: NNI asks it for parameters, it
asks the strategy for architectures; results go the other way. One class serves all strategies: ``nni-diffnas register``
gives each its own name. Light to import, for the reason that `doors.tuner` gives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nni.tuner import Tuner

from .api.errors import StrategyError
from .doors.experiment import ManagerInfo
from .process.terminal import show_all

if TYPE_CHECKING:
    from .api.space import Value
    from .doors.tuner import Driver

__all__ = ["DiffNASTuner"]


class DiffNASTuner(Tuner):
    """NNI tuner that runs a strategy of nni-diffnas.

    Args:
        job: path of the job file; a relative one starts at the experiment's ``trialCodeDirectory``.
        strategy: name of the strategy plug-in.
        optimize_mode: NNI's own argument, by which the web UI sorts; must agree with the job's objective.
        **options: of the strategy.
    """

    def __init__(self, job: str, strategy: str, optimize_mode: str = "maximize", **options: Any) -> None:
        super().__init__()
        show_all()
        self._job, self._strategy, self._optimize_mode, self._options = job, strategy, optimize_mode, options
        self._manager = ManagerInfo.read()
        self._manager.end_with_manager()
        self._driver: Driver | None = None

    @property
    def driver(self) -> Driver:
        """The running search, once NNI has sent the search space."""
        if self._driver is None:
            raise StrategyError("The tuner has not received its search space, or has refused it.")
        return self._driver

    def update_search_space(self, search_space: dict[str, Any]) -> None:
        """Open the search; NNI calls this first.

        Raises:
            DiffNASError: bad input; the sentence is printed to the terminal and the experiment ends as ERROR.
        """
        with self._manager.telling():
            from .doors.tuner import Driver

            if self._driver is not None:
                raise StrategyError("The search space of a running search cannot be changed: start a new experiment.")
            self._driver = Driver(
                self._manager, self._job, self._strategy, self._optimize_mode, self._options, search_space
            )

    def generate_multiple_parameters(self, parameter_id_list: list[int], **kwargs: Any) -> list[dict[str, Value]]:
        """Ask for as many architectures as NNI has free workers."""
        with self._manager.telling():
            return self.driver.ask(parameter_id_list, kwargs.get("st_callback"))

    def receive_trial_result(self, parameter_id: int, parameters: dict[str, Value], value: Any, **kwargs: Any) -> None:
        """Hand over a trial's complete metric dictionary."""
        with self._manager.telling():
            parameters = parameters or self.driver.trial_of(parameter_id)
            self.driver.tell(parameters, value, str(kwargs.get("trial_job_id") or ""))

    def import_data(self, data: list[dict[str, Any]]) -> None:
        """Receive trials that finished before a resume, or were run again after it."""
        with self._manager.telling():
            self.driver.import_results(data)

    def trial_end(self, parameter_id: int, success: bool, **kwargs: Any) -> None:
        """Learn that a trial's process ended."""
        if self._driver is not None:
            with self._manager.telling():
                self._driver.ended(success)

    def _on_exit(self) -> None:
        if self._driver is not None:
            self._driver.close()

    def _on_error(self) -> None:
        self._on_exit()
