"""Who may ask: tokens, pages of other sites, and names that lead to this machine."""

import pytest
from fake_detector import boxes_image, png

FILE = ("a.png", png(boxes_image((5, 6, 15, 26))))
TOKEN = "0123456789abcdef"


@pytest.fixture
def secret(serve):
    """A client of a server that other machines could reach."""
    return serve(token=TOKEN, host="0.0.0.0")


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"]
)
def test_request_without_the_token_is_refused(secret, authorization):
    headers = {} if authorization is None else {"Authorization": authorization}
    for path in ("/v1/models", "/metrics", "/v2/models/fake", "/nothing"):
        status, found, content = secret.ask("GET", path, headers=headers)
        assert (status, found["WWW-Authenticate"]) == (401, "Bearer")
        assert TOKEN not in content["error"]
    assert secret.detect(FILE, **headers)[0] == 401


def test_request_with_the_token_is_answered(secret):
    assert secret.detect(FILE, Authorization=f"Bearer {TOKEN}")[0] == 200
    assert secret.detect(FILE, Authorization=f"bearer  {TOKEN}")[0] == 200


def test_page_and_states_need_no_token(secret):
    for path in ("/", "/page/page.js", "/health", "/v2/health/ready", "/docs", "/openapi.json"):
        assert secret.ask("GET", path)[0] == 200


def test_api_page_can_ask_for_the_token(secret, client):
    _, _, found = secret.ask("GET", "/openapi.json")
    assert found["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    _, _, found = client.ask("GET", "/openapi.json")
    assert "securitySchemes" not in found.get("components", {})


def test_encoded_path_does_not_pass_as_a_public_one(secret):
    for path in ("/page/../v1/models", "/page/%2e%2e/v1/models", "/docs/../metrics", "//metrics"):
        status, _, content = secret.ask("GET", path)
        assert status in (401, 404) and b"mrcnn_requests" not in repr(content).encode()


def test_any_host_and_origin_may_ask_with_the_token(secret):
    headers = {"Authorization": f"Bearer {TOKEN}", "Origin": "https://a.example", "Host": "b.test"}
    assert secret.detect(FILE, **headers)[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[bad"])
def test_foreign_host_is_refused_without_a_token(client, host):
    status, _, content = client.ask("GET", "/v1/models", headers={"Host": f"{host}:8000"})
    assert status == 403 and "Host must be this machine" in content["error"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2", "[::1]", "LOCALHOST"])
def test_names_of_this_machine_are_taken(client, host):
    assert client.ask("GET", "/v1/models", headers={"Host": f"{host}:8000"})[0] == 200


def test_page_of_another_site_cannot_post_without_a_token(client):
    for origin in ("https://evil.example", "null", f"http://localhost:{client.port + 1}"):
        status, _, content = client.detect(FILE, Origin=origin)
        assert status == 403 and "another site" in content["error"]
    own = f"http://127.0.0.1:{client.port}"
    assert client.detect(FILE, Origin=own)[0] == 200
