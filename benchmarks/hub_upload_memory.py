"""Memory that an upload of a large agent to the Hub takes above what the process holds before, on a loopback Hub.

The uploading process is watched by itself, every few milliseconds; the server runs in another one.

    python -m benchmarks.hub_upload_memory [megabytes]
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.side_by_side import Limit, write_results
from rl_framework.testing.hub_server import HubServer

MEGABYTE = 2**20

UPLOADER = """
import json, sys, threading, time, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import psutil
import huggingface_hub.hf_api
from rl_framework.connectors.huggingface import HuggingFaceConnector
from rl_framework.connectors.outbox import Outbox

url, token, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
connector = HuggingFaceConnector("me/agent", endpoint=url, token=token, outbox=Outbox(folder / "outbox"))
connector.find_push("warm")
process, done, most = psutil.Process(), threading.Event(), [0]
before = process.memory_info().rss

def watch():
    while not done.wait(0.005):
        most[0] = max(most[0], process.memory_info().rss)

watcher = threading.Thread(target=watch)
watcher.start()
began = time.perf_counter()
place = connector.upload(folder / "agent")
seconds = time.perf_counter() - began
done.set()
watcher.join()
print(json.dumps({"bytes_above": most[0] - before, "seconds": seconds, "place": place}))
"""


def measure(megabytes: int, folder: Path) -> dict[str, float]:
    """Upload one file of so many megabytes; the bytes above the process's own at the worst moment, and the seconds."""
    make_agent(folder / "agent", megabytes)
    environment = {
        **os.environ,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(folder / "home"),
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    with HubServer(folder / "server") as hub:
        arguments = [sys.executable, "-c", UPLOADER, hub.url, hub.token, str(folder)]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        assert found["place"].startswith("hf://"), done.stderr
        assert hub.repository("me/agent").history()[0].files["replay.npz"].size == megabytes * MEGABYTE
    return {"bytes_above": found["bytes_above"], "seconds": found["seconds"]}


def make_agent(folder: Path, megabytes: int) -> None:
    """One file whose parts differ, written in pieces."""
    folder.mkdir(parents=True)
    piece = random.Random(0).randbytes(MEGABYTE - 8)
    with (folder / "replay.npz").open("wb") as file:
        for number in range(megabytes):
            file.write(number.to_bytes(8, "big") + piece)
    (folder / "manifest.json").write_text("{}")


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with TemporaryDirectory() as folder:
        found = measure(megabytes, Path(folder))
    name = f"Resident memory that uploading {megabytes} MB adds at its peak, in {found['seconds']:.1f} s"
    limit = Limit(name, (found["bytes_above"] / MEGABYTE,), "MB", 200.0)
    print(limit)
    write_results("hub_upload_memory", [], [limit])


if __name__ == "__main__":
    main()
