# `mrcnn serve` on CPUs; docs/serve.md has the commands.
FROM python:3.12-slim-bookworm

# What OpenCV links to.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY pyproject.toml setup.py requirements.txt MANIFEST.in README.md LICENSE CHANGELOG.md MIGRATION.md ./
COPY mrcnn mrcnn
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".[serve]" && useradd --create-home --uid 1000 mrcnn

USER 1000
WORKDIR /home/mrcnn
ENV PYTHONUNBUFFERED=1 MPLCONFIGDIR=/tmp/matplotlib
EXPOSE 8000
HEALTHCHECK --start-period=60s --interval=15s --timeout=5s CMD ["python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["mrcnn", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["/weights/model.h5"]
