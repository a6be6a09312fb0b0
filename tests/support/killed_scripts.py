"""What `killed_search` runs in other processes: a toy of a trial, and both doors' way to run it."""

from __future__ import annotations

# What a trial does instead of training: it writes down that it starts and that it has finished.
TOY = """
import hashlib, json, os, time
from pathlib import Path

HERE = Path(__file__).resolve().parent

def log(event, architecture):
    line = json.dumps([event, os.environ["NNI_TRIAL_JOB_ID"], architecture]) + "\\n"
    descriptor = os.open(HERE / "trials.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode())
    os.close(descriptor)

def toy(architecture):
    architecture = dict(architecture)
    log("start", architecture)
    time.sleep(SECONDS)
    log("finish", architecture)
    text = json.dumps(architecture, sort_keys=True)
    return {"rfid": int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32}
"""
# A trial without torch: it takes a second on a machine that has other things to do.
TRIAL = """
import toy
from nni_diffnas.trial import run
from nni_diffnas.evaluators.tabular import TabularEvaluation
from nni_diffnas.job import load_job

run.build_seeded = lambda *given: None
TabularEvaluation.evaluate = lambda self, model, context: toy.toy(context.architecture)
run.run_trial(load_job("job.yml"))
"""
NAS_EVALUATOR = """
import nni
import toy
from nni_diffnas.evaluators import DiffusionEvaluation, DiffusionEvaluator

class ToyEvaluation(DiffusionEvaluation):
    def prepare(self):
        pass

    def evaluate(self, model, context):
        return toy.toy(context.architecture)

@nni.trace
class ToyEvaluator(DiffusionEvaluator):
    def evaluation(self):
        return ToyEvaluation(self.data, **self.options)
"""
NAS_DRIVER = """
import sys
from pathlib import Path
from nni.nas.experiment import NasExperiment
from nni_diffnas.search_spaces import UNetSpace
from nni_diffnas.strategies import RegularizedEvolution
from toy_evaluator import ToyEvaluator

if __name__ == "__main__":
    port, trials, concurrency, identity = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    strategy = RegularizedEvolution(population=3, sample=2, seed=5)
    experiment = NasExperiment(UNetSpace(preset="digits"), ToyEvaluator({"source": "digits"}), strategy, id=identity)
    experiment.config.max_trial_number = trials
    experiment.config.trial_concurrency = concurrency
    experiment.config.experiment_working_directory = str(Path("exp").resolve())
    if len(sys.argv) > 5:
        experiment.resume(port)
    else:
        experiment.run(port)
    experiment.stop()
    print("FINISHED", flush=True)
"""
