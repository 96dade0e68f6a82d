"""The data report: what was found in the rows, as JSON, as Markdown and as one page."""

from retune.data.reporting.gathering import DataReport, LimitLine, SideLine, gather_report
from retune.data.reporting.pages import render, write_data_report

__all__ = ["DataReport", "LimitLine", "SideLine", "gather_report", "render", "write_data_report"]
