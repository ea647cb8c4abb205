# syntax=docker/dockerfile:1
# The image of the service `trainer`: tracker with PyTorch, whose wheels bring CUDA; the host has the driver.
FROM python:3.11.11-slim-bookworm

# The libraries alone, in the versions of the tests: a change of tracker's code builds only what is below.
WORKDIR /build
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*p['dependencies'], *p['optional-dependencies']['train'], sep='\n')" > requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip pip install --requirement requirements.txt --constraint constraints.txt

COPY . .
RUN --mount=type=cache,target=/root/.cache/pip pip install --no-deps . && rm -rf /build/*

RUN useradd --create-home --uid 1000 tracker && install -d -o tracker /workspace /images && install -d -m 1777 /cache
USER tracker
WORKDIR /workspace
CMD ["tracker", "doctor"]
