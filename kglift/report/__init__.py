"""The report of a run: its figures as JSON, as one HTML file and in the terminal."""

from kglift.report.build import build_report
from kglift.report.html import render_html
from kglift.report.record import RunRecord
from kglift.report.terminal import render_terminal

__all__ = ["RunRecord", "build_report", "render_html", "render_terminal"]
