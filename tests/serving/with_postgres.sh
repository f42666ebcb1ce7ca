#!/bin/sh
# Install PostgreSQL from Debian's packages, and run the tests of the queue on it; run as root, from the repository.
set -e
command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || {
    apt-get update
    # The tests start a server of their own; the package's is not needed.
    mkdir -p /etc/postgresql-common
    echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
    DEBIAN_FRONTEND=noninteractive apt-get install -y postgresql
}
python -m pip install --quiet "psycopg[binary,pool]>=3.2"
exec python -m pytest tests/serving -k "postgres or database" "$@"
