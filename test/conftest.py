"""What every layer of pytest shares: a test that passes only at its second try says what the first one met."""


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.stats.get("rerun", []):
        crash = getattr(report.longrepr, "reprcrash", None)
        said = crash.message.splitlines()[0] if crash and crash.message else str(report.longrepr).splitlines()[-1]
        terminalreporter.write_line(f"first try of {report.nodeid} ({report.when}): {said}")
        for name, text in report.sections:
            if name.startswith("Captured"):
                continue
            terminalreporter.write_line(f"  {name}:")
            for line in text.splitlines()[-25:]:
                terminalreporter.write_line(f"    {line[:300]}")
