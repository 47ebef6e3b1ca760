"""Places for accepted images: counted, refused, given back."""

import pytest

from mrcnn.serve.admission import Admission
from mrcnn.serve.errors import RequestError
from mrcnn.serve.settings import Settings


@pytest.fixture
def admission():
    # 4 x 100 pixels may wait.
    return Admission(Settings(max_images=3, max_pixels=100))


def test_no_request_takes_no_place(admission):
    assert (admission.images, admission.pixels) == (0, 0)


def test_places_are_given_back_also_after_an_error(admission):
    with pytest.raises(KeyError), admission.accept() as accepted:
        accepted.add(images=1, pixels=70)
        assert (admission.images, admission.pixels) == (2, 70)
        raise KeyError
    assert (admission.images, admission.pixels) == (0, 0)


def test_full_server_refuses_with_a_time_to_retry(admission):
    with admission.accept(), admission.accept(), admission.accept():
        with pytest.raises(RequestError, match="3 of 3 places") as refused, admission.accept():
            pass
        assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
    with admission.accept():
        assert admission.images == 1


def test_pixels_are_bounded_together(admission):
    with admission.accept() as one, admission.accept() as other:
        one.add(pixels=300)
        other.add(pixels=100)
        with pytest.raises(RequestError, match="400 of 400 pixels"):
            other.add(pixels=1)
        with pytest.raises(RequestError):
            other.add(images=2)
        assert (admission.images, admission.pixels) == (2, 400)
