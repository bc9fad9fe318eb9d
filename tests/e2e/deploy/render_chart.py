"""Renders a Helm chart with Helm's own engine, and prints its files by their names, as JSON.

Usage: render_chart.py CHART NAMESPACE < VALUES, which are JSON, too.
"""

import json
import sys

from helm_python import HelmError
from helm_python.chart import Chart, lint

chart, namespace = sys.argv[1:]
values = json.load(sys.stdin)
try:
    with Chart.load(chart) as loaded:
        loaded.validate_schema(values)
        rendered = loaded.render(values, name="portolan", namespace=namespace)
    problems = lint(chart, values, strict=True, namespace=namespace)["errors"]
except HelmError as error:
    sys.exit(str(error))
if problems:
    sys.exit("\n".join(map(str, problems)))
json.dump(rendered, sys.stdout)
