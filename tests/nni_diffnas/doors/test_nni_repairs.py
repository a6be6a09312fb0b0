"""NNI's own classes after a resume, with and without our repairs."""

from __future__ import annotations

import subprocess
import sys

RESUMED = """
import json
from nni.runtime import msg_dispatcher
from nni.runtime.tuner_command_channel import CommandType
from nni.tuner import Tuner

told = []

class Recorder(Tuner):
    def update_search_space(self, space): REPAIR
    def generate_parameters(self, number, **more): return {"number": number}
    def receive_trial_result(self, number, parameters, value, **more): told.append(("result", number, parameters))
    def import_data(self, data): told.append(("import", [row["parameter"] for row in data]))

dispatcher = msg_dispatcher.MsgDispatcher("ws://_unittest_/", Recorder())
sent = []
dispatcher.send = lambda kind, data: sent.append((kind, data))
dispatcher.handle_initialize({})
dispatcher.handle_request_trial_jobs(1)  # a trial that was run again ended while the tuner was being imported
dispatcher.handle_add_customized_trial([json.dumps({"parameter_id": 1, "parameters": {"number": "interrupted"}})])
dispatcher.handle_request_trial_jobs(1)
numbers = [json.loads(data)["parameter_id"] for kind, data in sent if kind is CommandType.NewTrialJob]
for number in [*numbers, 1]:
    dispatcher.handle_report_metric_data({"parameter_id": number, "type": "FINAL", "value": "1.0"})
print(json.dumps([numbers, told]))
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)


def test_numbers_go_on_after_those_that_were_used() -> None:
    repair = "from nni_diffnas.doors.nni_repairs import number_after; number_after(8)"
    done = run(RESUMED.replace("REPAIR", repair))
    assert done.stdout.splitlines()[-1] == (
        '[[9, 10], [["result", 9, {"number": 9}], ["result", 10, {"number": 10}], ["import", [{"number": '
        '"interrupted"}]]]]'
    ), done.stderr


def test_nni_without_the_repair_dies_of_it() -> None:
    done = run(RESUMED.replace("REPAIR", "pass"))
    assert "KeyError: 0" in done.stderr


LISTENING = """
from nni.runtime.tuner_command_channel import CommandType, TunerCommandChannel
from nni.runtime.tuner_command_channel.command_type import RequestTrialJobs
REPAIR
channel = TunerCommandChannel("ws://nowhere/")
queue = [(CommandType.ImportData, "[]"), (CommandType.RequestTrialJobs, "2")]
channel._receive = lambda: queue.pop(0)
assert channel.receive() == RequestTrialJobs(2)
print("heard")
"""


def test_the_nas_channel_hears_what_comes_after_a_resume() -> None:
    repaired = run(LISTENING.replace("REPAIR", "from nni_diffnas.doors.nni_repairs import *; hear_out_resumes()"))
    assert repaired.stdout.strip() == "heard", repaired.stderr
    assert "Unknown command type" in run(LISTENING.replace("REPAIR", "")).stderr


LATE = """
import http.server, os, threading
from nni.experiment import launcher

class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "INITIALIZED"}')
    def log_message(self, *given): pass

server = http.server.HTTPServer(("localhost", 0), Answers, bind_and_activate=False)
server.server_bind()  # the port is known; nothing answers there yet
REPAIR
threading.Timer(6, lambda: (server.server_activate(), server.serve_forever())).start()
try:
    launcher._check_rest_server(server.server_port)
    print("waited", flush=True)
except OSError as error:
    print("given up:", error, flush=True)
os._exit(0)
"""


def test_a_manager_may_take_longer_than_three_seconds_to_answer() -> None:
    repaired = "from nni_diffnas.doors import nni_repairs; nni_repairs.await_manager()"
    assert run(LATE.replace("REPAIR", repaired)).stdout.splitlines()[-1] == "waited"
    assert "given up" in run(LATE.replace("REPAIR", "pass")).stdout
