"""The audit log of an API server: what vipd's ServiceAccounts ask of it, and what it answers."""
import json

POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- {{level: {level}, userGroups: ["system:serviceaccounts:vipd-system"], verbs: [{verbs}]}}
- {{level: None}}
"""


class Audit:
    """`options` are for the server. level: Metadata, or RequestResponse for all that was said; verbs: () are all."""

    def __init__(self, folder, level="Metadata", verbs=()):
        self.log, policy = folder / "audit.log", folder / "audit.yaml"
        policy.write_text(POLICY.format(level=level, verbs=", ".join(verbs)))
        self.options = [f"--audit-policy-file={policy}", f"--audit-log-path={self.log}", "--audit-log-maxsize=0"]
        self.offset = 0

    def requests(self):
        """Every request so far."""
        return self._parse(self.log.read_bytes())[0]

    def fresh(self):
        """Those since it was asked the last time."""
        with open(self.log, "rb") as file:
            file.seek(self.offset)
            found, size = self._parse(file.read())
        self.offset += size
        return found

    @staticmethod
    def _parse(data):
        """(requests, bytes of whole lines)"""
        size = data.rfind(b"\n") + 1
        return [json.loads(line) for line in data[:size].splitlines()], size
