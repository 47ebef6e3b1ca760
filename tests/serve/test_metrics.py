"""Metrics: one registry per server, in Prometheus' text format."""

import pytest

pytest.importorskip("prometheus_client", reason="needs the extra [serve]")

from mrcnn.serve.metrics import Metrics


def test_new_metrics_are_empty_and_servers_do_not_share_them():
    one, other = Metrics(), Metrics()
    one.detections.labels("shapes").inc(3)
    assert 'mrcnn_detections_total{model="shapes"} 3.0' in one.text().decode()
    assert "shapes" not in other.text().decode()


def test_accepted_images_are_read_when_they_are_asked_for():
    count = 2
    metrics = Metrics(lambda: count)
    assert b"mrcnn_accepted_images 2.0\n" in metrics.text()
    count = 0
    assert b"mrcnn_accepted_images 0.0\n" in metrics.text()


def test_text_of_strangers_in_a_label_stays_a_label():
    metrics = Metrics()
    metrics.detections.labels('a"}\n# TYPE').inc()
    lines = [line for line in metrics.text().decode().splitlines() if "TYPE" in line]
    assert r'mrcnn_detections_total{model="a\"}\n# TYPE"} 1.0' in lines
