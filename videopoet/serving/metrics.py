"""Figures for Prometheus, read from the queue when they are asked for: they are the same from every server on it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from videopoet.serving.server import Service


def registry(service: Service) -> CollectorRegistry:
    """A registry with the figures of a service."""
    found = CollectorRegistry(auto_describe=False)
    found.register(_Figures(service))
    return found


class _Figures(Collector):
    def __init__(self, service: Service):
        self.service = service

    def collect(self) -> Iterable[Metric]:
        jobs, workers = self.service.jobs, self.service.jobs.workers()
        by_status = GaugeMetricFamily("videopoet_jobs", "Jobs, by status.", labels=["status"])
        for status, count in jobs.counts().items():
            by_status.add_metric([status], count)
        yield by_status
        by_state = GaugeMetricFamily("videopoet_workers", "Workers seen lately, by state.", labels=["state"])
        for state in ("loading", "ready"):
            by_state.add_metric([state], workers.get(state, 0))
        yield by_state
        waited, worked, count = jobs.seconds_spent()
        for name, what, value in (
            ("videopoet_jobs_ended", "Kept jobs that ran to an end.", count),
            ("videopoet_job_wait_seconds", "Seconds that they waited, in all.", waited),
            ("videopoet_job_work_seconds", "Seconds that they took, in all.", worked),
        ):
            yield GaugeMetricFamily(name, what, value=value)
        yield CounterMetricFamily(
            "videopoet_worker_restarts", "Workers begun again.", value=self.service.supervisor.restarts
        )
        free = shutil.disk_usage(self.service.storage.folder).free
        yield GaugeMetricFamily("videopoet_disk_free_bytes", "Room for results.", value=free)
