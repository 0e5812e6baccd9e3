#!/bin/sh
# Makes the role `backup`, which may read everything, the hashes of passwords too, and change nothing. The image of
# PostgreSQL runs it once, when the cluster is made.
set -eu
export BACKUP_PASSWORD_FILE="${BACKUP_PASSWORD_FILE:-/run/secrets/postgres_backup}"
# psql reads the file itself, because everybody can see arguments.
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-postgres}" --dbname=postgres <<'SQL'
\set password `cat "$BACKUP_PASSWORD_FILE"`
CREATE ROLE backup LOGIN PASSWORD :'password';
GRANT pg_read_all_data TO backup;
SQL
