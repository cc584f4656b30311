"""The torch side of `features.py`: pytorch-fid's network in another environment.

Writes random weights to FOLDER/weights.pth and the features of FOLDER/x.npy to FOLDER/pool.npy, and
answers each line of input by the seconds that these take, and those of all cores together.
"""

import json
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from pytorch_fid import inception as module


def network(file: Path) -> torch.nn.Module:
    """pytorch-fid's, with statistics of the batch norms that are not trivial."""
    torch.manual_seed(0)
    with (
        mock.patch.object(module, "load_state_dict_from_url"),
        mock.patch.object(torch.nn.Module, "load_state_dict"),
    ):
        whole = module.fid_inception_v3()
    for name, tensor in whole.state_dict().items():
        if name.endswith("conv.weight"):
            torch.nn.init.kaiming_normal_(tensor)
        elif name.endswith(("bn.weight", "running_var")):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith(("bn.bias", "running_mean")):
            tensor.normal_(0, 0.1)
    torch.save(whole.state_dict(), file)
    with mock.patch.object(module, "fid_inception_v3", return_value=whole):
        return module.InceptionV3().eval()


def main(folder: Path, batch: int, threads: int) -> None:
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    net = network(folder / "weights.pth")
    x = torch.from_numpy(np.load(folder / "x.npy")).permute(0, 3, 1, 2)
    print("answer", json.dumps("ready"), flush=True)
    for _ in sys.stdin:
        began, busy = time.perf_counter(), time.process_time()
        parts = [net(part.float() / 255)[0][:, :, 0, 0] for part in x.split(batch)]
        seconds = [time.perf_counter() - began, time.process_time() - busy]
        np.save(folder / "pool.npy", torch.cat(parts).numpy())
        print("answer", json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
