"""Dashboards as plain data, and the JSON that Grafana reads: the only module that knows Grafana's format.

A page is rows of panels, a panel is queries and how they are shown; where it stands follows from the order. The format is that
of Grafana 10.0 (schemaVersion 38), which 11 and later read and convert by themselves. The data source is a variable: nothing
in a dashboard names one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from string import ascii_uppercase
from typing import Any, Final, NamedTuple, TypeAlias

Json: TypeAlias = Any
"""What `json.dumps` takes."""

SCHEMA: Final = 38
COLUMNS: Final = 24
"""Of Grafana's grid."""
DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
TAG: Final = "clovisor"
_OTHERS: Final = {"type": "dashboards", "tags": [TAG], "title": "Clovisor", "asDropdown": True, "keepTime": True, "url": ""}
"""A menu of the other dashboards, with the time that is looked at."""
ALL: Final = ".*"
"""What a variable stands for where nothing is chosen: also series that do not have the label."""


class Kind(str, Enum):
    """Panels, as Grafana calls them."""

    GRAPH = "timeseries"
    FIGURE = "stat"
    TABLE = "table"
    MAP = "nodeGraph"


Steps: TypeAlias = Sequence[tuple[float, str]]
"""Thresholds: (from which value, colour); green below the first."""


class Column(NamedTuple):
    """How the numbers of one column of a table are shown."""

    unit: str
    steps: Steps = ()


class Panel(NamedTuple):
    """`unit`: by Grafana's name (`reqps`, `s`, `percentunit`); `description`: what it shows and what to do about it."""

    title: str
    unit: str
    description: str
    queries: Mapping[str, str]
    """Name to PromQL. The name is what a graph's legend says (`{{server}}`), what a table's column is called, a map's frame."""
    kind: Kind = Kind.GRAPH
    width: int = 8
    height: int = 8
    """Of Grafana's grid."""
    steps: Steps = ()
    stacked: bool = False
    exemplars: bool = False
    labels: Mapping[str, str] = {}
    """Of a table: labels that are columns, and what these are called."""
    columns: Mapping[str, Column] = {}
    """Of a table: queries whose unit is not the panel's."""


class Row(NamedTuple):
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


class Variable(NamedTuple):
    """Values of a label, of which one may choose some, or all."""

    name: str
    label: str
    metric: str
    of: str
    """The label."""


class Page(NamedTuple):
    """A dashboard."""

    uid: str
    title: str
    description: str
    variables: Sequence[Variable]
    rows: Sequence[Row]


def dashboard(page: Page) -> Json:
    """All of one, as Grafana provisions it."""
    return {
        "annotations": {"list": []},
        "description": page.description,
        "editable": True,
        "graphTooltip": 1,
        "id": None,
        "links": [_OTHERS],
        "panels": list(_panels(page.rows)),
        "refresh": "30s",
        "schemaVersion": SCHEMA,
        "tags": [TAG],
        "templating": {"list": [_datasource(), *map(_variable, page.variables)]},
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "",
        "title": page.title,
        "uid": page.uid,
        "version": 1,
    }


def panels(page: Page) -> Iterator[Panel]:
    """All of a page."""
    for row in page.rows:
        yield from row.panels


def _datasource() -> Json:
    return {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "refresh": 1}


def _variable(variable: Variable) -> Json:
    asked = f"label_values({variable.metric}, {variable.of})"
    return {
        "type": "query",
        "name": variable.name,
        "label": variable.label,
        "datasource": DATASOURCE,
        "definition": asked,
        "query": {"query": asked, "refId": "StandardVariableQuery"},
        "includeAll": True,
        "allValue": ALL,
        "multi": True,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "refresh": 2,
        "sort": 1,
    }


def _panels(rows: Sequence[Row]) -> Iterator[Json]:
    """With their places: from the left, then in a new line under the tallest of the last."""
    number = y = 0
    for row in rows:
        number += 1
        place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        yield {"type": "row", "id": number, "title": row.title, "collapsed": False, "panels": [], "gridPos": place}
        x, y, tallest = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            number += 1
            place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            yield {"id": number, "gridPos": place, **_panel(panel)}
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest


def _panel(panel: Panel) -> Json:
    defaults: dict[str, Json] = {"unit": panel.unit, "thresholds": _thresholds(panel.steps)}
    made = {
        "type": panel.kind.value,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "targets": [_target(panel, index, *query) for index, query in enumerate(panel.queries.items())],
        "fieldConfig": {"defaults": defaults, "overrides": []},
    }
    shape = {Kind.GRAPH: _graph, Kind.FIGURE: _figure, Kind.TABLE: _table, Kind.MAP: _map}[panel.kind]
    shape(panel, made)
    return made


def _thresholds(steps: Steps) -> Json:
    return {"mode": "absolute", "steps": [{"color": "green", "value": None}, *({"color": c, "value": v} for v, c in steps)]}


def _target(panel: Panel, index: int, name: str, expr: str) -> Json:
    now = panel.kind in (Kind.TABLE, Kind.MAP)
    return {
        "datasource": DATASOURCE,
        "editorMode": "code",
        "exemplar": panel.exemplars,
        "expr": expr,
        "format": "table" if now else "time_series",
        "instant": now,
        "range": not now,
        "legendFormat": name,
        "refId": name if panel.kind is Kind.MAP else ascii_uppercase[index],
    }


def _graph(panel: Panel, made: dict[str, Json]) -> None:
    made["fieldConfig"]["defaults"] |= {
        "min": 0,
        "color": {"mode": "palette-classic"},
        "custom": {
            "drawStyle": "line",
            "lineInterpolation": "linear",
            "lineWidth": 1,
            "fillOpacity": 30 if panel.stacked else 8,
            "showPoints": "auto",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if panel.steps else "off"},
        },
    }
    made["options"] = {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _figure(panel: Panel, made: dict[str, Json]) -> None:
    made["fieldConfig"]["defaults"] |= {"color": {"mode": "thresholds"}}
    made["options"] = {
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }


def _table(panel: Panel, made: dict[str, Json]) -> None:
    """One row for what has the same labels in all queries."""
    several = len(panel.queries) > 1
    values = {f"Value #{ascii_uppercase[i]}" if several else "Value": name for i, name in enumerate(panel.queries)}
    order = {name: index for index, name in enumerate([*panel.labels, *values])}
    made["transformations"] = [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": {**panel.labels, **values}},
        },
    ]
    made["fieldConfig"]["defaults"] |= {"color": {"mode": "thresholds"}, "custom": {"align": "auto", "filterable": True}}
    made["fieldConfig"]["overrides"] = [_column(name, panel.columns.get(name, Column(panel.unit))) for name in panel.queries]
    made["options"] = {"showHeader": True, "sortBy": [{"displayName": next(iter(panel.queries)), "desc": True}]}


def _column(name: str, column: Column) -> Json:
    properties: list[Json] = [{"id": "unit", "value": column.unit}]
    if column.steps:
        properties.append({"id": "thresholds", "value": _thresholds(column.steps)})
        properties.append({"id": "custom.cellOptions", "value": {"type": "color-text"}})
    return {"matcher": {"id": "byName", "options": name}, "properties": properties}


def _map(panel: Panel, made: dict[str, Json]) -> None:
    """Frames are told apart by their query's name. A node's number is the share of it that failed: its ring.

    A field has to have its name from the start: what `organize` renames has another title, but still its old name, and the
    graph does not find it. Labels and calculated fields have theirs.
    """
    value = "Value #nodes"
    made["transformations"] = [
        {
            "id": "calculateField",
            "options": {
                "mode": "binary",
                "alias": name,
                "timeSeries": False,  # else all frames become one
                "replaceFields": False,
                "binary": {"left": left, "operator": operator, "right": right},
            },
        }
        for name, left, operator, right in (("arc__failed", value, "*", "1"), ("arc__ok", "1", "-", value))
    ]
    arcs = [{"field": "arc__failed", "color": "red"}, {"field": "arc__ok", "color": "green"}]
    made["options"] = {"nodes": {"arcs": arcs, "mainStatUnit": panel.unit}, "edges": {"mainStatUnit": panel.unit}}
