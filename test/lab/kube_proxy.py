"""kube-proxy itself on a node of the lab, in its network namespace, beside an API server (cluster.py)."""
import time

from cluster import program
from lab import wait_for

PODS = "10.244.0.0/16,fd00:10:244::/48"
# The kernel has one table of connections for all namespaces of the machine: its limits are not a node's to set.
LIMITS = ["--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0"]


class KubeProxy:
    """mode: "nftables" or "iptables"; node ports are answered on every address of the node."""

    def __init__(self, node, api, mode):
        self.node, self.mode = node, mode
        self.words = [program("kube-proxy"), f"--proxy-mode={mode}", f"--hostname-override={node.name}",
                      f"--kubeconfig={api.admin}", f"--cluster-cidr={PODS}", *LIMITS, "--iptables-min-sync-period=100ms",
                      "--nodeport-addresses=0.0.0.0/0,::/0", "--healthz-bind-address=", "--metrics-bind-address="]
        self.process = None

    def start(self):
        self.process = self.node.start("kube-proxy", self.words)
        return self

    def rules(self):
        command = ["nft", "list", "table", "ip", "kube-proxy"] if self.mode == "nftables" else ["iptables-save"]
        return self.node.run(command, timeout=300, check=False).stdout

    def wait_rules(self, *texts, seconds=60):
        rest = 0

        def there():
            nonlocal rest
            assert self.process.alive(), self.process.output()[-2000:]
            if time.monotonic() < rest:
                return False
            began = time.monotonic()
            rules = self.rules()
            rest = 2 * time.monotonic() - began  # to list thousands takes seconds, which kube-proxy wants, too
            return rules and all(text in rules for text in texts)
        wait_for(f"kube-proxy on {self.node.name} to know {', '.join(texts)}", there, seconds, 0.2)

    def stop(self):
        """Ends it and takes its rules away."""
        self.process.stop()
        self.node.run([*self.words, "--cleanup"], check=False)
