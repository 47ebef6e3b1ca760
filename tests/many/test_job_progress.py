"""Rate and time left count the images of this run only."""

from mrcnn.many import progress


def test_rate_time_left_and_failures(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    report = progress.JobProgress(total=1000, done=500)
    clock[0] = 110.0
    report.add(20, failed=1)
    # 20 images in 10 s; 1000 - 500 - 20 = 480 are left, 240 s
    assert report.rate_text() == "2.0 images/s, 0:04:00 left, 1 failed"
    assert (report.done, report.new, report.failed) == (520, 20, 1)


def test_a_log_has_a_line_every_half_minute(monkeypatch, caplog):
    caplog.set_level("INFO")
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.JobProgress(total=100, done=0) as report:
        for _ in range(10):
            clock[0] += 10
            report.add(1, failed=0)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "3 of 100 images, 0.1 images/s, 0:16:10 left"  # 97 images / 0.1
    assert len(lines) == 3  # after 30, 60 and 90 seconds


def test_a_bar_in_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress.JobProgress(total=4, done=1) as report:
        report.add(2, failed=0)
    assert "3/4" in capsys.readouterr().err
