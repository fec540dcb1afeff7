"""A Ray cluster of two nodes on this machine, for tests: `ray_nodes.py CPUS CPUS`.

Prints its address when it is up; a line `remove` on stdin takes the second node away as a machine that is
switched off; it ends, with all its processes, at the end of stdin.
"""

import os
import socket
import sys
import tempfile
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # for a busy machine


def _ports() -> dict[str, int]:
    """Returns ports for parts that would have to tell theirs within 15 s, which a busy machine misses."""
    names = ("dashboard_agent_listen_port", "metrics_agent_port", "runtime_env_agent_port")
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in names]
    found = {name: one.getsockname()[1] for name, one in zip(names, sockets, strict=True)}
    for one in sockets:
        one.close()
    return found


def _node(cpus: int) -> dict[str, Any]:
    return {"num_cpus": cpus, "num_gpus": 0, "object_store_memory": 80 << 20, **_ports()}


def main() -> None:
    """Runs the cluster until stdin ends."""
    from ray.cluster_utils import Cluster

    first, second = map(int, sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        head = {**_node(first), "include_dashboard": False, "temp_dir": folder}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        node = cluster.add_node(**_node(second))
        sys.stdout.write(f"{cluster.address}\n")
        sys.stdout.flush()
        for line in sys.stdin:
            if line.strip() == "remove":
                cluster.remove_node(node, allow_graceful=False)
        cluster.shutdown()


if __name__ == "__main__":
    main()
