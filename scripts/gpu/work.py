"""One stage's items, one after the other; each is written to the stage's JSON as it is done.

python work.py parity|speed RESULTS.json FOLDER cuda|cpu [--tiny] ITEM...
"""

import gc
import json
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

# Beside this file, and the benchmarks that it takes plain loops from.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import torch  # noqa: E402
from plan import Setting  # noqa: E402

from ddist.storage.atomic import write_file_whole  # noqa: E402


def main() -> None:
    stage, results, folder, device, *items = sys.argv[1:]
    tiny = "--tiny" in items
    setting = Setting(device, Path(folder), tiny)
    if stage == "parity":
        from parity import compare as do
    else:
        from speed import measure as do
    file = Path(results)
    rows = json.loads(file.read_text()) if file.exists() else {}
    for item in (each for each in items if each != "--tiny"):
        start = time.perf_counter()
        try:
            row = do(item, setting)
        except Exception as error:  # one that fails is a finding; the others go on
            traceback.print_exc()
            row = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        rows[item] = row | {"took": time.perf_counter() - start}
        write_file_whole(file, json.dumps(rows, indent=1).encode())
        print(f"{stage} {item}: {rows[item]}")
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):  # the stage's time is over
        main()
