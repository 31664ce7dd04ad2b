"""`tools/dashboards`: writes the files of manifests/grafana that are made; `--check` tells whether they are as it makes them.

The dashboards (`_dashboards_overview.py`, `_map`, `_protocols`, `_agents`, `_pods`), alerts and recording rules
(`_dashboards_rules.py`, `_services`) are plain data there; change them, run this, and commit both.
Exit status 1 where `--check` finds a difference.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import yaml

from tools._dashboards_agents import AGENTS
from tools._dashboards_json import Json, Page, dashboard
from tools._dashboards_map import MAP
from tools._dashboards_overview import OVERVIEW
from tools._dashboards_pods import PODS
from tools._dashboards_protocols import PROTOCOLS
from tools._dashboards_rules import alert_file, recording_file

FOLDER: Final = Path("manifests/grafana")
WIDTH: Final = 128
HEAD: Final = "# Made by tools/dashboards; change tools/_dashboards_rules.py or tools/_dashboards_services.py instead.\n"


PAGES: Final[Sequence[Page]] = (OVERVIEW, MAP, PROTOCOLS, AGENTS, PODS)


def files() -> Mapping[str, str]:
    """Name to text of all that is made; the same every time."""
    made = {f"{page.uid}.json": json.dumps(dashboard(page), indent=2, ensure_ascii=False) + "\n" for page in PAGES}
    return made | {"recording.rules.yml": _yaml(recording_file()), "alerts.rules.yml": _yaml(alert_file())}


def _yaml(document: Json) -> str:
    return HEAD + str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=WIDTH))


def differing(folder: Path) -> list[str]:
    """Files that are absent, or not as they are made."""
    return [name for name, text in files().items() if not (folder / name).exists() or (folder / name).read_text() != text]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="tools/dashboards", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing, and tell what differs")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where (%(default)s)")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder; make it, or name another with --folder")
    found = differing(options.folder)
    for name in found:
        if not options.check:
            (options.folder / name).write_text(files()[name])
        sys.stdout.write(f"{options.folder / name}: {'differs' if options.check else 'written'}\n")
    return 1 if options.check and found else 0


if __name__ == "__main__":
    sys.exit(main())
