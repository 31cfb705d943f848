FROM python:3.11-slim

WORKDIR /srv/maskline
COPY pyproject.toml README.md constraints.txt ./
COPY maskline maskline
COPY api api
RUN pip install --no-cache-dir -c constraints.txt '.[api]' && useradd --system maskline

USER maskline
ENV MASKLINE_API_BIND=0.0.0.0:8080 PYTHONUNBUFFERED=1
EXPOSE 8080
CMD ["gunicorn", "-c", "python:api.gunicorn_config", "api.wsgi:app"]
